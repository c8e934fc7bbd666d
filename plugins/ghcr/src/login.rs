//! How to be let in: a token for exact scopes by GET, with any user name and a personal access token (classic) or a workflow's
//! `GITHUB_TOKEN` as the password. The scope in the challenge of `/v2/` is a placeholder and never asked for.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{client, scope};
use serde::Deserialize;

use crate::api;

/// The name that goes with a token which was given without one; GitHub ignores it, and it must not be empty.
const ANY_USER: &str = "token";

/// The flow of the specification with our own scopes.
pub(crate) fn flow() -> Flow {
    Flow::new().tokens_as_passwords(ANY_USER)
}

/// A token for the scopes. A refusal of a fresh one says that the package is not for this account.
pub(crate) fn authorize(scopes: &[Scope]) -> Result<Grant> {
    let credential = invocation::credential("registry");
    if invocation::attempt() > 1 {
        return Err(refused_again(credential.as_ref(), scopes));
    }
    let challenges = invocation::challenges();
    let grant = if challenges.is_empty() {
        flow().exchange(&Client::url("/token"), Some(&invocation::registry()), credential.as_ref(), scopes)
    } else {
        flow().answer(&challenges, scopes)
    };
    grant.map_err(|error| refused(error, credential.as_ref(), scopes))
}

fn writes(scopes: &[Scope]) -> bool {
    scopes.iter().any(|scope| scope.actions.iter().any(|action| action != "pull"))
}

fn names(scopes: &[Scope]) -> String {
    let found: Vec<_> =
        scopes.iter().filter(|scope| scope.kind == "repository").map(|scope| scope.name.as_str()).collect();
    if found.is_empty() { "this package".to_owned() } else { found.join(", ") }
}

/// A registry that hides what is private says the same about what is not there.
fn refused_again(credential: Option<&Credential>, scopes: &[Scope]) -> Error {
    let (registry, name) = (invocation::registry(), names(scopes));
    let Some(credential) = credential else {
        return Error::unauthenticated(format!(
            "{registry} shows {name} to nobody without credentials: it is private, or there is no such package; run `idp login {registry}` \
             with a personal access token (classic)"
        ))
        .code("not-logged-in");
    };
    let what = if scopes.is_empty() { "do this".to_owned() } else { scope::in_words(scopes) };
    Error::denied(format!(
        "{registry} took the credentials from {} and does not let them {what}: the package is private or not there, or the token lacks \
         {}; in a workflow, the package's \"Manage Actions access\" must name the repository",
        credential.source(),
        if writes(scopes) { "write:packages" } else { "read:packages" }
    ))
    .code("insufficient_scope")
    .extra("name", name)
}

/// The token endpoint says `denied` to everything it does not like.
fn refused(error: Error, credential: Option<&Credential>, scopes: &[Scope]) -> Error {
    let Some(status @ (401 | 403)) = error.http_status else { return error };
    let registry = invocation::registry();
    let said = error.message.to_ascii_lowercase();
    let Some(credential) = credential else {
        let name = names(scopes);
        return Error::unauthenticated(format!(
            "{registry} gives nobody without credentials a token for {name}: it is private, there is no such package, or this is a push; \
             run `idp login {registry}` with a personal access token (classic)"
        ))
        .code("not-logged-in")
        .status(status);
    };
    let source = credential.source();
    if said.contains("saml") || said.contains("sso") {
        return Error::denied(format!(
            "the token from {source} is not authorised for the organisation's single sign-on: choose \"Configure SSO\" beside it at \
             https://github.com/settings/tokens"
        ))
        .code("sso")
        .status(status);
    }
    if said.contains("expected scopes") {
        return Error::denied(format!(
            "the token from {source} lacks a scope: a personal access token (classic) needs {}",
            if writes(scopes) { "write:packages" } else { "read:packages" }
        ))
        .code("token-scopes")
        .status(status);
    }
    let bad = bearer::bad_credentials(credential).status(status);
    let message = format!(
        "{}; it wants a personal access token (classic) with read:packages or write:packages, or the GITHUB_TOKEN of a workflow: \
         passwords and fine-grained tokens do not work, and a token may have expired",
        bad.message
    );
    Error { message, ..bad }
}

#[derive(Debug, Deserialize)]
struct User {
    login: String,
}

/// Asks for a token without a scope, which wrong credentials do not get; then GitHub's API, as far as it may be asked, who it is and
/// what the token may do.
pub(crate) fn verify() -> Result<Pairs> {
    let first = Request::get(Client::url("/v2/")).send()?;
    let offered = client::challenges(&first);
    if offered.is_empty() {
        return Err(idp_provider_sdk::refusal::error(&first, "log in"));
    }
    let Some(credential) = invocation::credential("registry") else {
        return Ok(pairs([("kind", "anonymous")]));
    };
    flow().answer(&offered, &[]).map_err(|error| refused(error, Some(&credential), &[]))?;
    let mut found = pairs([("account", credential.username()), ("kind", "token")]);
    found.retain(|(_, value)| !value.is_empty());
    let Ok(url) = api::url("/user") else { return Ok(found) };
    let answer = match api::send(&credential, Request::get(url)) {
        Ok(answer) => answer,
        Err(error) => {
            found.push(("warning".to_owned(), format!("GitHub's API could not be asked: {}", error.message)));
            return Ok(found);
        }
    };
    // The token of a workflow is nobody's: 403.
    if answer.is_success()
        && let Ok(user) = answer.json::<User>()
    {
        found = pairs([("account", user.login), ("kind", "user".to_owned())]);
    }
    if let Some(scopes) = answer.header("x-oauth-scopes") {
        let scopes: Vec<&str> = scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).collect();
        found.push(("scopes".to_owned(), scopes.join(",")));
        found.extend(warning(&scopes).map(|text| ("warning".to_owned(), text)));
    }
    Ok(found)
}

/// What a classic token cannot do, before it fails.
fn warning(scopes: &[&str]) -> Option<String> {
    let has = |scope: &str| scopes.contains(&scope);
    if has("write:packages") {
        return None;
    }
    Some(if has("read:packages") {
        "the token has read:packages only: it can pull and not push".to_owned()
    } else {
        "the token has no scope for packages: it pulls public ones only, and pushes nothing; make one with write:packages".to_owned()
    })
}
