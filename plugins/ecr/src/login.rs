//! How to be let in. AWS keys buy a token for twelve hours: of private ECR it is a Basic header as it comes, of ECR Public a Bearer
//! token. What `docker login` stored (`AWS` and a password) is such a token already.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{pairs as list, refusal};
use serde_json::json;

use crate::api::Api;
use crate::date;
use crate::place::Place;
use crate::sigv4::{self, Keys};

/// The token that is good for this and that long, and the one to fall back to while the API fails.
const TOKEN: &str = "token";
const LAST: &str = "last";
/// There while a token is so young that another one would be no better.
const FRESH: &str = "fresh";
const FRESH_S: u32 = 60;
/// There once ECR Public wanted its token in Docker's way.
const EXCHANGE: &str = "exchange";

/// A token that is about to end is not handed out: a large layer may be under way for that long.
const MARGIN_S: u32 = 900;
/// For a token whose end is not known, or lies in the past: good for this command.
const UNKNOWN_S: u32 = 300;
/// AWS's own lifetime; nothing is kept for longer, whatever an answer says.
const LIFETIME_S: u32 = 43_200;

/// The registry says that the token has ended, before its time: the next command must not find it.
pub(crate) fn forget() {
    for key in [TOKEN, LAST, FRESH] {
        if let Some(token) = invocation::remembered(key) {
            invocation::remember(key, &token, 0);
        }
    }
}

/// A grant.
pub(crate) fn authorize(scopes: &[Scope]) -> Result<Grant> {
    let place = Place::here()?;
    // It was bought with these very keys. Finding them again may take requests, or a helper program.
    if invocation::attempt() <= 1
        && invocation::remembered(EXCHANGE).is_none()
        && let Some(token) = invocation::remembered(TOKEN)
    {
        return Ok(granted(&place, token, None));
    }
    match invocation::credential("registry") {
        Some(credential) if credential.kind == "aws-keys" => with_keys(&place, scopes),
        _ if place.is_public() => Flow::new().authorize(scopes),
        Some(credential) => with_password(&place, &credential),
        None => Err(nobody(&place)),
    }
}

fn nobody(place: &Place) -> Error {
    let registry = invocation::registry();
    Error::unauthenticated(format!(
        "{registry} lets nobody in without credentials, and there are neither AWS credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, \
         `aws sso login`, a role) nor a login: set them up, or run `aws ecr get-login-password --region {} | idp login {registry} \
         --username AWS --password-stdin`",
        place.region
    ))
    .code("not-logged-in")
}

/// A password of `docker login`: a token that somebody else got, at some time in the last twelve hours.
fn with_password(place: &Place, credential: &Credential) -> Result<Grant> {
    let registry = invocation::registry();
    let source = credential.source();
    if invocation::attempt() > 1 {
        return Err(Error::unauthenticated(format!(
            "{registry} does not accept the password from {source}: it is good for 12 hours, and for {} only; run `aws ecr \
             get-login-password --region {} | idp login {registry} --username AWS --password-stdin`, or `idp logout {registry}` and \
             let idp use AWS credentials itself",
            place.words(),
            place.region
        ))
        .code("bad-credentials"));
    }
    match credential.secret("password") {
        Some(password) => {
            Ok(Grant::basic(credential.username(), password.duplicate()).extra("account", credential.username()))
        }
        None => Err(Error::unauthenticated(format!(
            "{registry} wants AWS credentials or the user `AWS` with a password, and {source} has a credential of kind `{}`",
            credential.kind
        ))
        .code("wrong-credential-kind")),
    }
}

fn with_keys(place: &Place, scopes: &[Scope]) -> Result<Grant> {
    let again = invocation::attempt() > 1;
    let fresh = invocation::remembered(FRESH).is_some();
    if place.is_public() && (again || invocation::remembered(EXCHANGE).is_some()) {
        return exchanged(scopes);
    }
    if again && fresh {
        return Err(refused(place));
    }
    let (token, lifetime) = match Api::open("get a token").and_then(|api| token(&api, again)) {
        Ok(found) => found,
        // Everybody may pull there. Keys that happen to be around and lack ecr-public:GetAuthorizationToken are no hindrance.
        Err(error) if place.is_public() && reads_only(scopes) => {
            log::info(&format!("pulling as nobody: {}", error.message));
            return anonymous(scopes).ok_or(error)?;
        }
        Err(error) => return Err(error),
    };
    Ok(granted(place, token, lifetime))
}

/// How a token is used.
fn granted(place: &Place, token: Secret, lifetime: Option<u32>) -> Grant {
    let authorization = if place.is_public() {
        Authorization::Bearer(token)
    } else {
        Authorization::Headers(vec![(
            "authorization".to_owned(),
            Secret::assemble([text("Basic "), secret(&token)]),
        )])
    };
    let grant = Grant::new(authorization).reuse(Reuse::Registry).extra("source", "api");
    match lifetime {
        Some(seconds) => grant.expires_in_s(seconds),
        None => grant.expires_in_s(UNKNOWN_S),
    }
}

/// Whether nothing is written.
fn reads_only(scopes: &[Scope]) -> bool {
    scopes.iter().flat_map(|scope| &scope.actions).all(|action| action == "pull")
}

/// The token that ECR Public's token service gives to everybody.
fn anonymous(scopes: &[Scope]) -> Option<Result<Grant>> {
    let challenges = invocation::challenges();
    let challenge = challenges.iter().find(|challenge| challenge.is("bearer"))?;
    let realm = challenge.realm_url(&invocation::origin())?;
    Some(Flow::new().exchange(&realm, challenge.param("service"), None, scopes))
}

/// A fresh token of the right region was refused.
fn refused(place: &Place) -> Error {
    Error::unauthenticated(format!(
        "{} refused a token that the API of {} just gave: the name may have another account or region than the one that was meant \
         ({}), and the identity must be known to that account (`aws sts get-caller-identity` says who it is)",
        invocation::registry(),
        place.region,
        place.words()
    ))
    .code("token-refused")
}

/// ECR Public's other way: the token is Basic credentials for the token service, as Docker uses them.
fn exchanged(scopes: &[Scope]) -> Result<Grant> {
    let challenges = invocation::challenges();
    let challenge = challenges.iter().find(|challenge| challenge.is("bearer"));
    // Ahead of a challenge it is where it always is.
    let realm = challenge.and_then(|challenge| challenge.realm_url(&invocation::origin()));
    let realm = realm.unwrap_or_else(|| Client::url("/token/"));
    let (token, _) = token(&Api::open("get a token")?, false)?;
    let registry = invocation::registry();
    let service = challenge.and_then(|challenge| challenge.param("service")).unwrap_or(&registry);
    let mut request = Request::get(realm).query("service", service);
    for scope in scopes {
        request = request.query("scope", &scope.wire());
    }
    let answer = request
        .header_segments("authorization", [text("Basic "), secret(&token)])
        .capture("token", idp_provider_sdk::http::json("/token"))
        .send()?;
    match answer.captured("token") {
        Some(bearer) if answer.is_success() => {
            invocation::remember(EXCHANGE, &token, LIFETIME_S);
            Ok(Grant::bearer(bearer).scopes(scopes).expires_in_s(UNKNOWN_S).extra("source", "token endpoint"))
        }
        _ => Err(refusal::error(&answer, "get a token")),
    }
}

/// A token, remembered or new, and its lifetime where this call knows it. While the API does not answer, the last one that has
/// not ended is used.
fn token(api: &Api, anew: bool) -> Result<(Secret, Option<u32>)> {
    if !anew && let Some(token) = invocation::remembered(TOKEN) {
        return Ok((token, None));
    }
    match ask(api) {
        Ok((token, lifetime)) => {
            let margin = MARGIN_S.min(lifetime / 2);
            invocation::remember(TOKEN, &token, lifetime - margin);
            invocation::remember(LAST, &token, lifetime);
            invocation::remember(FRESH, &token, FRESH_S);
            Ok((token, Some(lifetime - margin)))
        }
        Err(error) => match invocation::remembered(LAST) {
            Some(token) if !anew => {
                log::warn(&format!("going on with the token of before: {}", error.message));
                Ok((token, None))
            }
            _ => Err(error),
        },
    }
}

/// Private ECR answers with a list, ECR Public with an object.
fn ask(api: &Api) -> Result<(Secret, u32)> {
    let (token, expires) = if api.place.is_public() {
        ("/authorizationData/authorizationToken", "/authorizationData/expiresAt")
    } else {
        ("/authorizationData/0/authorizationToken", "/authorizationData/0/expiresAt")
    };
    let operation = "GetAuthorizationToken";
    let answer = api.send(operation, &json!({}), Some(token))?;
    if !answer.is_success() {
        return Err(api.refused(&answer, operation, &format!("get a token for {}", invocation::registry())));
    }
    let Some(token) = answer.captured("token") else {
        return Err(Error::unavailable(format!("{} answered without a token", api.place.api))
            .code("no-token")
            .status(answer.status()));
    };
    let expires = answer.json_scalar(expires).and_then(|text| text.parse::<f64>().ok());
    Ok((token, lifetime(expires.and_then(date::whole), api.credential())))
}

/// Seconds until a token ends: not after the session that bought it, and not in the past, where clocks (or stand-ins) put it.
fn lifetime(expires: Option<u64>, credential: &Credential) -> u32 {
    let now = ambient::unix_time_ms() / 1000;
    let session = list::get(&credential.public, "expires-at").and_then(|text| text.parse::<u64>().ok());
    let left = |until: u64| until.checked_sub(now).filter(|left| *left > 0);
    let said = expires.and_then(left);
    if said.is_none() {
        log::info(&format!(
            "the token does not say when it ends, or has ended already; it is used for {UNKNOWN_S} s"
        ));
    }
    let said = said.and_then(|left| u32::try_from(left).ok()).unwrap_or(UNKNOWN_S).min(LIFETIME_S);
    match session.and_then(left).and_then(|left| u32::try_from(left).ok()) {
        Some(session) => said.min(session),
        None => said,
    }
}

/// Whether the login works, and whose it is.
pub(crate) fn verify() -> Result<Pairs> {
    let place = Place::here()?;
    let credential = invocation::credential("registry");
    let Some(credential) = credential.filter(|credential| credential.kind == "aws-keys") else {
        return without_keys(&place);
    };
    let api = Api::open("log in")?;
    let (token, _) = token(&api, true)?;
    let scheme = if place.is_public() { "Bearer " } else { "Basic " };
    let check = Request::get(Client::url("/v2/"))
        .header_segments("authorization", [text(scheme), secret(&token)])
        .send()?;
    // What ECR Public makes of the token at `/v2/` is not documented; that the API gave one says enough.
    if !check.is_success() && !place.is_public() {
        return Err(if check.status() == 401 {
            refused(&place).status(401)
        } else {
            refusal::error(&check, "use the token that the API gave")
        });
    }
    let mut found = pairs([("kind", "user")]);
    let identity = place.sts.as_deref().and_then(|sts| caller(&place, sts, &credential));
    let account = identity.as_ref().map(|(account, _)| account.clone());
    let account = account.or_else(|| list::get(&credential.public, "account").map(str::to_owned));
    match identity {
        Some((_, arn)) => found.push(("account".to_owned(), arn)),
        None => found.extend(account.iter().map(|account| ("account".to_owned(), account.clone()))),
    }
    if let Some(account) = account.filter(|account| !place.is_public() && *account != place.account) {
        found.push((
            "warning".to_owned(),
            format!(
                "the AWS credentials are of account {account}, and the registry is of account {}: its repository policies decide what \
                 may be done there",
                place.account
            ),
        ));
    }
    Ok(found)
}

fn without_keys(place: &Place) -> Result<Pairs> {
    if place.is_public() {
        let (_, answer) = Client::default().login()?;
        return match (answer.is_success(), invocation::credential("registry")) {
            (true, Some(_)) => Ok(pairs([("account", "AWS"), ("kind", "token")])),
            (true, None) => Ok(pairs([("kind", "anonymous")])),
            (false, Some(credential)) => Err(bearer::bad_credentials(&credential).status(answer.status())),
            (false, None) => Err(bearer::not_logged_in().status(answer.status())),
        };
    }
    let Some(credential) = invocation::credential("registry") else { return Err(nobody(place)) };
    let grant = with_password(place, &credential)?;
    let answer = Request::get(Client::url("/v2/")).authorized(&grant.authorization).send()?;
    match answer.status() {
        200..=299 => Ok(pairs([
            ("account", credential.username()),
            ("kind", "token"),
            (
                "warning",
                "this password is good for 12 hours at most, and does not open the API: listing repositories, creating and deleting \
                 need AWS credentials",
            ),
        ])),
        401 => Err(Error::unauthenticated(format!(
            "{} does not accept the password from {}: it is good for 12 hours, and for {} only (the user is `AWS`)",
            invocation::registry(),
            credential.source(),
            place.words()
        ))
        .code("bad-credentials")
        .status(401)),
        _ => Err(refusal::error(&answer, "check the password")),
    }
}

/// Account and ARN behind the keys (`sts:GetCallerIdentity`, which everybody may). Not knowing them is no reason to fail.
fn caller(place: &Place, sts: &str, credential: &Credential) -> Option<(String, String)> {
    let call = sigv4::Call {
        endpoint: sts,
        region: &place.region,
        service: "sts",
        content_type: "application/x-www-form-urlencoded",
        target: None,
        body: "Action=GetCallerIdentity&Version=2011-06-15".to_owned(),
    };
    let answer = sigv4::sign(&call, &Keys::of(credential)?).ok()?.header("accept", "application/json").send();
    let answer = answer.ok().filter(Response::is_success)?;
    let field = |name: &str| {
        answer.json_scalar(&format!("/GetCallerIdentityResponse/GetCallerIdentityResult/{name}"))
    };
    Some((field("Account")?, field("Arn")?))
}
