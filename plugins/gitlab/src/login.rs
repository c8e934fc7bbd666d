//! How to be let in: a token of GitLab's for the scopes, by GET. It lives five minutes and does not say so. What may not be done is
//! left out of a token that is given all the same.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{client, refusal, scope};
use serde::Deserialize;

use crate::api::{self, Api};

/// Five minutes, unless an administrator changed it, less the time that a request may take.
const LIFETIME_S: u32 = 270;

/// The name that goes with an access token that was given without one; GitLab ignores it.
const ANY_USER: &str = "token";

/// The flow of the specification.
pub(crate) fn flow() -> Flow {
    Flow::new().default_lifetime_s(LIFETIME_S).tokens_as_passwords(ANY_USER)
}

/// A client of the registry.
pub(crate) fn client() -> Client {
    Client::new(flow())
}

/// A token. One that was given and is refused lacks what was asked for.
pub(crate) fn authorize(scopes: &[Scope]) -> Result<Grant> {
    let credential = invocation::credential("registry");
    if invocation::attempt() > 1 {
        return Err(refused_again(credential.as_ref(), scopes));
    }
    flow().answer(&invocation::challenges(), scopes).map_err(|error| refused(error, credential.as_ref()))
}

fn writes(scopes: &[Scope]) -> bool {
    scopes.iter().any(|scope| scope.actions.iter().any(|action| action != "pull"))
}

fn refused_again(credential: Option<&Credential>, scopes: &[Scope]) -> Error {
    let registry = invocation::registry();
    let names: Vec<_> =
        scopes.iter().filter(|scope| scope.kind == "repository").map(|scope| scope.name.as_str()).collect();
    let name = if names.is_empty() { "this".to_owned() } else { names.join(", ") };
    let Some(credential) = credential else {
        return Error::unauthenticated(format!(
            "{registry} shows {name} to nobody without credentials: the project is not public, or there is none of this path; run \
             `idp login {registry}` with an access token that has read_registry"
        ))
        .code("not-logged-in");
    };
    let what = if scopes.is_empty() { "do this".to_owned() } else { scope::in_words(scopes) };
    let (role, right) =
        if writes(scopes) { ("Developer", "write_registry") } else { ("Reporter", "read_registry") };
    let job =
        if api::is_job(credential) { "; the token of a CI job pushes to its own project only" } else { "" };
    Error::denied(format!(
        "{registry} took the credentials from {} and gave a token that may not {what}: the path must start with a project that is there and has \
         its registry switched on, the account needs the role {role} in it, the access token needs {right}, and no protection rule may \
         stand against it{job}",
        credential.source()
    ))
    .code("insufficient_scope")
    .extra("name", name)
}

/// The refusals of the token endpoint.
fn refused(error: Error, credential: Option<&Credential>) -> Error {
    let registry = invocation::registry();
    match (error.http_status, credential) {
        (Some(status @ (401 | 403)), None) => bearer::not_logged_in().status(status),
        (Some(401), Some(credential)) => {
            let bad = bearer::bad_credentials(credential).status(401);
            let message = format!(
                "{}; it wants an access token with read_registry or write_registry as the password: a token may have expired or been \
                 revoked, and a password does not do with two-factor authentication",
                bad.message
            );
            Error { message, ..bad }
        }
        (Some(403), Some(credential)) => Error::denied(format!(
            "{registry} knows the credentials from {} and lets them do nothing (\"access forbidden\"): the access token needs \
             read_registry or write_registry",
            credential.source()
        ))
        .code("access-forbidden")
        .status(403),
        (Some(404), _) => Error::other(format!(
            "the GitLab of {registry} has its container registry switched off (\"registry not enabled\"); its administrator can switch it on"
        ))
        .code("registry-not-enabled")
        .status(404),
        _ => error,
    }
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Deserialize)]
struct AccessToken {
    #[serde(default)]
    scopes: Vec<String>,
    expires_at: Option<String>,
}

/// Asks for a token without a scope: 200, or 401 and 403. Then the API, as far as it answers, whose it is and what it may do.
pub(crate) fn verify() -> Result<Pairs> {
    let first = Request::get(Client::url("/v2/")).send()?;
    let offered = client::challenges(&first);
    if offered.is_empty() {
        return Err(refusal::error(&first, "log in"));
    }
    let Some(credential) = invocation::credential("registry") else {
        return Ok(pairs([("kind", "anonymous")]));
    };
    flow().answer(&offered, &[]).map_err(|error| refused(error, Some(&credential)))?;
    let personal = api::header(&credential) == Some("private-token");
    let mut found =
        pairs([("account", credential.username()), ("kind", if personal { "user" } else { "token" })]);
    found.retain(|(_, value)| !value.is_empty());
    if !personal {
        return Ok(found);
    }
    let Ok(api) = Api::as_registry_user() else { return Ok(found) };
    // A password may log in to the registry and not to the API; neither answer decides anything.
    let token =
        api.get("/personal_access_tokens/self").ok().and_then(|answer| answer.json::<AccessToken>().ok());
    if let Some(token) = token {
        let has = |scope: &str| token.scopes.iter().any(|one| one == scope || one == "api");
        if !has("write_registry") {
            let text = if has("read_registry") {
                "the access token has read_registry only: it can pull and not push"
            } else {
                "the access token has neither read_registry nor write_registry: it pulls public images only"
            };
            found.push(("warning".to_owned(), text.to_owned()));
        }
        found.push(("scopes".to_owned(), token.scopes.join(",")));
        found.extend(token.expires_at.map(|day| ("expires-at".to_owned(), day)));
    }
    let user =
        api.get("/user").ok().filter(Response::is_success).and_then(|answer| answer.json::<User>().ok());
    if let Some(user) = user {
        found.retain(|(key, _)| key != "account");
        found.insert(0, ("account".to_owned(), user.username));
    }
    Ok(found)
}
