//! How to be let in: a token for the account, valid for a day. Its answer is `{"token":…}` and nothing else, scopes are
//! ignored, and POST is refused on purpose.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::http::json;
use idp_provider_sdk::link;
use idp_provider_sdk::prelude::*;

use crate::naming;

/// Gitea signs its tokens for 24 hours and does not say so.
const LIFETIME_S: u32 = 86_400;

/// The flow without scopes, for a day.
pub(crate) fn flow() -> Flow {
    Flow::new().without_scopes().default_lifetime_s(LIFETIME_S)
}

/// A client for the `/v2/` API.
pub(crate) fn client() -> Client {
    Client::new(flow())
}

/// A token. A refusal of a fresh one is not about logging in, whatever its status: the account may not write there.
pub(crate) fn authorize(scopes: &[Scope]) -> Result<Grant> {
    let credential = invocation::credential("registry");
    if invocation::attempt() > 1 {
        return Err(match credential {
            Some(credential) => denied(credential.username(), scopes),
            None => bearer::not_logged_in(),
        });
    }
    let challenges = invocation::challenges();
    // A refusal carries a Basic challenge; the first of two challenges is the token's. Ahead of one the realm is known.
    let named = challenges.iter().find(|challenge| challenge.is("bearer"));
    let named = named.and_then(|challenge| challenge.realm_url(&invocation::origin()));
    let own = |flow: Flow| flow.exchange(&token_url(), None, credential.as_ref(), scopes);
    let Some(realm) = named else { return own(flow()).map_err(hint) };
    match flow().answer(&challenges, scopes) {
        Err(error) if is_unreachable(&error) && link::origin(&realm) != invocation::origin() => {
            // Older servers build the realm from ROOT_URL, newer ones where PUBLIC_URL_DETECTION says so. The registry is at the root of the host, and so are its tokens.
            log::warn(&format!(
                "{registry} says that its tokens are at {realm}, where nothing answers; they were asked for at {registry} itself. \
                 ROOT_URL in app.ini should be the address that clients use",
                registry = invocation::registry()
            ));
            own(flow()).map_err(hint)
        }
        answered => answered.map_err(hint),
    }
}

/// Whether nothing was answered, or nothing could be sent.
fn is_unreachable(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::EgressDenied) && error.http_status.is_none()
}

fn token_url() -> String {
    Client::url("/v2/token")
}

fn denied(username: &str, scopes: &[Scope]) -> Error {
    let registry = invocation::registry();
    let scope = scopes.iter().find(|scope| scope.kind == "repository");
    let owner = scope.and_then(|scope| naming::split(&scope.name)).map(|(owner, _)| owner);
    let writes = scopes.iter().any(|scope| scope.actions.iter().any(|action| action != "pull"));
    let (verb, need) = if writes { ("write to", "write:package") } else { ("read", "read:package") };
    let owner = owner.unwrap_or_else(|| "this owner".to_owned());
    Error::denied(format!(
        "`{username}` may not {verb} the packages of `{owner}` at {registry}: the access token needs the scope {need}, and in an \
         organisation the account needs a team with Packages={}",
        if writes { "write" } else { "read" }
    ))
    .code("reqPackageAccess")
    .extra("name", owner)
}

/// A refusal by the token endpoint has causes that only Gitea has.
fn hint(error: Error) -> Error {
    if error.http_status != Some(401) || error.code != "bad-credentials" {
        return error;
    }
    let message = format!(
        "{}; the password may be wrong, the account may have two-factor authentication (use an access token), or the access \
         token may lack write:package",
        error.message
    );
    Error { message, ..error }
}

/// Asks for a token with the credentials: 401 when they are wrong or lack the package scope.
pub(crate) fn verify() -> Result<Pairs> {
    let Some(credential) = invocation::credential("registry") else {
        let (_, answer) = client().login()?;
        return if answer.is_success() {
            Ok(pairs([("kind", "anonymous")]))
        } else {
            Err(bearer::not_logged_in().status(answer.status()))
        };
    };
    let Some(password) = credential.secret("password") else { return Err(bearer::not_logged_in()) };
    let url = token_url();
    let answer =
        Request::get(&*url).basic(credential.username(), password).capture("token", json("/token")).send()?;
    match answer.status() {
        200 => {}
        401 => return Err(hint(bearer::bad_credentials(&credential).status(401))),
        _ => return Err(idp_provider_sdk::refusal::error(&answer, "check the credentials")),
    }
    let Some(token) = answer.captured("token") else {
        return Err(Error::unavailable(format!("{url} answered without a token"))
            .code("no-token")
            .status(200));
    };
    let check = Request::get(Client::url("/v2/")).bearer(&token).send()?;
    if !check.is_success() {
        return Err(idp_provider_sdk::refusal::error(&check, "use the token that the registry gave"));
    }
    let mut found = pairs([("account", credential.username()), ("kind", "user")]);
    if let Some(warning) = leak_warning() {
        found.push(("warning".to_owned(), warning));
    }
    Ok(found)
}

/// Before 1.26.2 anybody could pull every container package (CVE-2026-27771), so "it can be pulled" does not mean "public".
pub(crate) fn leak_warning() -> Option<String> {
    let version = invocation::setting("version")?;
    let (major, minor) = crate::identity::release(&version)?;
    let patch =
        version.split('.').nth(2).and_then(|patch| patch.split(['+', '-']).next()?.parse::<u32>().ok());
    let fixed = (major, minor) > (1, 26) || ((major, minor) == (1, 26) && patch.unwrap_or(0) >= 2);
    let gitea = invocation::setting("product").as_deref() != Some("forgejo");
    (gitea && !fixed).then(|| {
        format!(
            "Gitea {version} lets everybody pull private container packages (CVE-2026-27771); 1.26.2 mends it"
        )
    })
}
