//! How to be let in. The token endpoint takes `pull`, `push` and `*` and answers 400 to anything else; a token with `push` makes the
//! repository. Tokens live an hour and do not say so.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::http::json;
use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::scope;

/// Lifetime of a token, which its answer does not say.
const LIFETIME_S: u32 = 3600;

/// The flow of the specification, for an hour, with Quay's words for rights.
pub(crate) fn flow() -> Flow {
    Flow::new().default_lifetime_s(LIFETIME_S).scopes_as(wire)
}

/// A client for the `/v2/` API.
pub(crate) fn client() -> Client {
    Client::new(flow())
}

/// The scopes as the endpoint takes them. Deleting is writing; what lists the catalogue needs no scope. When nothing may change,
/// no right to push is asked for: to ask is to create.
fn wire(scopes: &[Scope]) -> Vec<Scope> {
    let repositories = scopes.iter().filter(|scope| scope.kind == "repository");
    let wire = repositories.map(|scope| {
        let known = scope.actions.iter().map(|action| match action.as_str() {
            "delete" => "push",
            action => action,
        });
        let allowed = known.filter(|action| !invocation::dry_run() || *action == "pull");
        let mut actions: Vec<&str> =
            allowed.filter(|action| matches!(*action, "pull" | "push" | "*")).collect();
        actions.sort_unstable();
        actions.dedup();
        if actions.is_empty() {
            actions.push("pull");
        }
        Scope::repository(&scope.name, actions)
    });
    wire.collect()
}

/// A token. A refusal of a fresh one is about rights, whatever its status.
pub(crate) fn authorize(scopes: &[Scope]) -> Result<Grant> {
    if invocation::attempt() > 1 {
        return Err(match invocation::credential("registry") {
            Some(credential) => denied(credential.username(), scopes),
            None => bearer::not_logged_in(),
        });
    }
    flow().answer(&invocation::challenges(), scopes).map_err(hint)
}

fn denied(username: &str, scopes: &[Scope]) -> Error {
    let registry = invocation::registry();
    let repository = scopes.iter().find(|scope| scope.kind == "repository").map(|scope| scope.name.as_str());
    let namespace =
        repository.and_then(crate::naming::split).map_or("the namespace", |(namespace, _)| namespace);
    Error::denied(format!(
        "`{username}` may not {} at {registry}: either there is no organisation or user `{namespace}`, or the account has no such right \
         there (a robot needs the permission on the repository itself)",
        scope::in_words(scopes)
    ))
    .code("no-permission")
    .extra("name", namespace)
}

/// A login that was refused, with what Quay says about it.
fn hint(error: Error) -> Error {
    if error.code != "bad-credentials" {
        return error;
    }
    let Some(credential) = invocation::credential("registry") else { return error };
    let message = format!("{}; {}", error.message, advice(&credential));
    Error { message, ..error }
}

/// What a user name of this kind needs as its password.
fn advice(credential: &Credential) -> &'static str {
    match credential.username() {
        "$oauthtoken" => {
            "the password of `$oauthtoken` is an OAuth access token of an application, and it may have been revoked"
        }
        "$app" => "the password of `$app` is an application-specific token, and it may have been revoked",
        "$token" => "the password of `$token` is an access token, and it may have been revoked",
        name if name.contains('+') => {
            "a robot's password is its token, which is another one after it was regenerated"
        }
        _ => {
            "where people sign in elsewhere (SSO), the password is the encrypted one of the account's settings (\"CLI password\"), or use \
             a robot account"
        }
    }
}

/// Asks for a token without scopes: 200, or 401 with the reason.
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
    let registry = invocation::registry();
    let answer = Request::get(Client::url("/v2/auth"))
        .query("service", &registry)
        .basic(credential.username(), password)
        .capture("token", json("/token"))
        .send()?;
    match answer.status() {
        200 if answer.captured("token").is_some() => {}
        200 => {
            let message =
                format!("{registry} answered without a token; a proxy or a login page may be in the way");
            return Err(Error::unavailable(message).code("no-token").status(200));
        }
        401 => {
            let error = hint(bearer::bad_credentials(&credential).status(401));
            return Err(match answer.json_scalar("/errors/0/message") {
                Some(said) => Error { message: format!("{} (Quay: {said})", error.message), ..error },
                None => error,
            });
        }
        _ => return Err(idp_provider_sdk::refusal::error(&answer, "check the credentials")),
    }
    let kind = match credential.username() {
        name if name.starts_with('$') => "token",
        name if name.contains('+') => "robot",
        _ => "user",
    };
    Ok(pairs([("account", credential.username()), ("kind", kind)]))
}
