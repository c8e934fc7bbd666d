//! How to be let in: a token for each repository, with every right on its project, whatever was asked for. The token service
//! answers 200 to a wrong password, with the rights of everybody, so a refusal is looked into by asking it for no scope.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::link;
use idp_provider_sdk::prelude::*;
use serde::Deserialize;

use crate::{api, naming};

/// The one service its token endpoint knows.
const SERVICE: &str = "harbor-registry";

/// The lifetime unless configured otherwise; the answer says.
const LIFETIME_S: u32 = 1800;

/// The flow of the specification. `access_token` is there and empty, and an empty capture is none.
pub(crate) fn flow() -> Flow {
    Flow::new().default_lifetime_s(LIFETIME_S)
}

/// A grant. A refusal of a fresh one changes the scheme of the challenge to Basic, which is no invitation.
pub(crate) fn authorize(scopes: &[Scope]) -> Result<Grant> {
    let credential = invocation::credential("registry");
    if invocation::attempt() > 1 {
        return Err(match credential {
            Some(credential) => wrong_credentials(&credential).unwrap_or_else(|| denied(&credential, scopes)),
            None => bearer::not_logged_in(),
        });
    }
    let challenges = invocation::challenges();
    let named = challenges.iter().find(|challenge| challenge.is("bearer"));
    // The catalogue takes Basic only.
    if named.is_none() && challenges.iter().any(|challenge| challenge.is("basic")) {
        return flow().answer(&challenges, scopes);
    }
    let realm = realm(named);
    let grant = flow().exchange(&realm, Some(SERVICE), credential.as_ref(), scopes);
    // What is asked for does not matter: the token has all rights on the names that were asked about.
    grant.map(|grant| grant.reuse(Reuse::Repository)).map_err(|error| elsewhere(error, &realm))
}

/// Where tokens are, without a challenge: at the registry itself.
fn token_url() -> String {
    Client::url("/service/token")
}

/// The token service a challenge names. Its scheme is that of `external_url`; where that says http and the registry was reached
/// over https, the same service is asked over https.
fn realm(challenge: Option<&Challenge>) -> String {
    let named = challenge.and_then(|challenge| challenge.realm_url(&invocation::origin()));
    let Some(named) = named else { return token_url() };
    match named.strip_prefix("http://") {
        Some(rest) if invocation::scheme() == "https" => {
            log::warn(&wrong_scheme(&named));
            format!("https://{rest}")
        }
        _ => named,
    }
}

fn wrong_scheme(named: &str) -> String {
    format!(
        "{} is reached over https and says that its token service is {named}, which was asked over https too; its administrator \
         should set external_url in harbor.yml to https://, other clients fail on this",
        invocation::registry()
    )
}

/// A token service at another address that is not there: the address is configured wrongly.
fn elsewhere(error: Error, realm: &str) -> Error {
    let origin = link::origin(realm);
    if error.kind != ErrorKind::Unavailable || error.http_status.is_some() || origin == invocation::origin() {
        return error;
    }
    let message = format!(
        "{}; {} says that its token service is at {origin}: external_url in harbor.yml is the address and the scheme under which \
         Harbor is reached, its administrator should correct it",
        error.message,
        invocation::registry()
    );
    Error { message, code: "external-url".to_owned(), ..error }
}

/// Whether a name is that of a robot account, with the prefix that Harbor gives unless configured otherwise.
pub(crate) fn is_robot(username: &str) -> bool {
    username.starts_with("robot$")
}

/// Asks for a token for nothing, which wrong credentials do not get.
fn probe(credential: &Credential) -> Result<Response> {
    let Some(password) = credential.secret("password") else { return Err(bearer::not_logged_in()) };
    Request::get(token_url())
        .query("service", SERVICE)
        .basic(credential.username(), password)
        .capture("token", json("/token"))
        .send()
}

/// The error for credentials that Harbor does not know; none when it does, or does not say.
pub(crate) fn wrong_credentials(credential: &Credential) -> Option<Error> {
    let refused = probe(credential).is_ok_and(|answer| answer.status() == 401);
    refused.then(|| bad_credentials(credential))
}

fn bad_credentials(credential: &Credential) -> Error {
    let error = bearer::bad_credentials(credential).status(401);
    Error { message: format!("{}. {}", error.message, advice(credential.username())), ..error }
}

/// What is usually wrong with credentials of this name.
pub(crate) fn advice(username: &str) -> String {
    if username.starts_with("robot") && !username.contains('$') {
        return "The name of a robot account has a `$`, as in 'robot$ci' or 'robot$project+ci'; in double quotes or without, a \
                shell replaces it and what follows: write it in single quotes"
            .to_owned();
    }
    if is_robot(username) {
        return "Harbor does not say whether the robot account expired (30 days unless set otherwise), was disabled, or has another \
                secret; its page in the project, or under Robot Accounts, does"
            .to_owned();
    }
    if api::is_oidc() {
        return "Accounts of the single sign-on have no password here: the CLI secret of the user profile takes its place"
            .to_owned();
    }
    "The password is wrong, or the account is locked".to_owned()
}

/// The credentials are right, and the right is missing. Harbor says so with 401.
fn denied(credential: &Credential, scopes: &[Scope]) -> Error {
    let scope = scopes.iter().find(|scope| scope.kind == "repository");
    let Some(scope) = scope else {
        return Error::denied(format!(
            "`{}` may not do this at {}; the catalogue is for administrators of Harbor",
            credential.username(),
            invocation::registry()
        ))
        .code("UNAUTHORIZED");
    };
    let project = naming::split(&scope.name).map_or("", |(project, _)| project);
    let action =
        ["delete", "push", "pull"].into_iter().find(|one| scope.actions.iter().any(|has| has == one));
    let action = action.unwrap_or("pull");
    Error::denied(format!(
        "`{}` may not {action} {}{}/{}: {}",
        credential.username(),
        if action == "push" { "to " } else { "" },
        invocation::registry(),
        scope.name,
        need(credential.username(), action, project)
    ))
    .code("UNAUTHORIZED")
    .extra("name", project)
}

/// The right that is needed.
pub(crate) fn need(username: &str, action: &str, project: &str) -> String {
    let (permission, role) = match action {
        "push" => ("Push Repository", "Developer"),
        "delete" => ("Delete Artifact", "Maintainer"),
        _ => ("Pull Repository", "Guest"),
    };
    if is_robot(username) {
        format!("the robot account needs the permission {permission} on the project `{project}`")
    } else {
        format!("the account needs the role {role} or a higher one in the project `{project}`")
    }
}

/// The token service that Harbor names, for whoever wants to know whether its address is configured rightly.
fn named_realm() -> Option<String> {
    let answer = Request::get(Client::url("/v2/")).send().ok()?;
    let challenges = idp_provider_sdk::client::challenges(&answer);
    challenges.iter().find_map(|challenge| challenge.realm_url(&invocation::origin()))
}

#[derive(Debug, Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    sysadmin_flag: bool,
}

/// Who the credentials speak for: the token service for no scope tells right from wrong, the API who it is.
pub(crate) fn verify() -> Result<Pairs> {
    let Some(credential) = invocation::credential("registry") else {
        return Ok(pairs([("kind", "anonymous")]));
    };
    let answer = probe(&credential)?;
    match answer.status() {
        200 => {}
        401 => return Err(bad_credentials(&credential)),
        _ => return Err(idp_provider_sdk::refusal::error(&answer, "check the credentials")),
    }
    let username = credential.username();
    let me = api::ask(Request::get(api::url("/users/current")))?;
    let user = if me.is_success() { me.json::<User>().ok() } else { None };
    let mut found = match &user {
        Some(user) => pairs([("account", user.username.as_str()), ("kind", "user")]),
        // Robots are no users; neither is a CLI secret good for this call.
        None if !is_robot(username) && api::is_oidc() => pairs([("account", username), ("kind", "user")]),
        None => pairs([("account", username), ("kind", "robot")]),
    };
    if user.as_ref().is_some_and(|user| user.sysadmin_flag) {
        found.push(("scopes".to_owned(), "system administrator".to_owned()));
    }
    let mut warnings = Vec::new();
    if user.is_none() && !is_robot(username) && api::is_oidc() {
        warnings.push(
            "this is a CLI secret: it pushes, pulls, lists, creates projects and deletes tags; deleting artifacts and repositories \
             needs a robot account"
                .to_owned(),
        );
    }
    let told = api::system_info();
    if told.read_only == Some(true) {
        warnings.push("Harbor is in read-only mode: nothing can be pushed or deleted".to_owned());
    }
    let named = named_realm();
    if let Some(named) = named.filter(|named| named.starts_with("http://") && invocation::scheme() == "https")
    {
        warnings.push(wrong_scheme(&named));
    }
    if !warnings.is_empty() {
        found.push(("warning".to_owned(), warnings.join("; ")));
    }
    found.extend(told.harbor_version.map(|version| ("version".to_owned(), version)));
    Ok(found)
}
