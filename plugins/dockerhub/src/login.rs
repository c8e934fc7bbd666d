//! How the registry lets in: short-lived tokens of `auth.docker.io` for each repository, with a password, a personal access token
//! (PAT) or an organisation's (OAT), or without any for what is public.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::scope;

use crate::naming;

/// The token service, which every challenge of the registry names.
pub(crate) const TOKEN_URL: &str = "https://auth.docker.io/token";

/// The service that tokens are for.
pub(crate) const SERVICE: &str = "registry.docker.io";

/// Where access tokens are made.
pub(crate) const TOKENS_PAGE: &str = "https://app.docker.com/settings/personal-access-tokens";

/// A client for the `/v2/` API.
pub(crate) fn client() -> Client {
    Client::new(Flow::new())
}

/// A token. Its lifetime (300 s) is what the answer says, so a long push asks again on its way.
pub(crate) fn authorize(scopes: &[Scope]) -> Result<Grant> {
    let credential = invocation::credential("registry");
    if invocation::attempt() > 1 {
        return Err(refused_again(credential.as_ref(), scopes));
    }
    let scopes: Vec<Scope> = scopes.iter().map(with_read_and_write).collect();
    let challenges = invocation::challenges();
    let challenge = challenges.iter().find(|challenge| challenge.is("bearer"));
    let realm = challenge.and_then(|challenge| challenge.realm_url(&invocation::origin()));
    let realm = realm.unwrap_or_else(|| TOKEN_URL.to_owned());
    let service = challenge.and_then(|challenge| challenge.param("service")).unwrap_or(SERVICE);
    exchange(&realm, service, credential.as_ref(), &scopes)
}

/// A token from the token service, with the refusals that only the Hub has explained.
pub(crate) fn exchange(
    realm: &str,
    service: &str,
    credential: Option<&Credential>,
    scopes: &[Scope],
) -> Result<Grant> {
    if let Some(credential) = credential.filter(|credential| credential.kind == "bearer") {
        return Err(no_user_name(credential));
    }
    Flow::new().exchange(realm, Some(service), credential, scopes).map_err(|error| {
        match (error.http_status, credential) {
            (Some(401), Some(credential)) => bad_credentials(credential).status(401),
            (Some(429), _) => Error {
                message: format!(
                    "{}; Docker's limit for an address is thousands of requests a minute, so a machine that shares its address \
                     with many others meets it",
                    error.message
                ),
                ..error
            },
            _ => error,
        }
    })
}

/// The documented scope of a deletion is pull, push and delete together.
fn with_read_and_write(scope: &Scope) -> Scope {
    if scope.kind == "repository" && scope.actions.iter().any(|action| action == "delete") {
        return deletion(&scope.name);
    }
    scope.clone()
}

/// What deleting from a repository is asked for with.
pub(crate) fn deletion(repository: &str) -> Scope {
    Scope::repository(repository, ["pull", "push", "delete"])
}

/// There are none, and they are needed.
pub(crate) fn not_logged_in(doing: &str) -> Error {
    Error::unauthenticated(format!(
        "to {doing}, Docker Hub wants to know who you are, and there are no credentials for it; run `idp login {}` with your \
         Docker ID and an access token ({TOKENS_PAGE})",
        naming::SHOWN_HOST
    ))
    .code("not-logged-in")
}

/// An access token alone: it is a password, and a password has a user.
fn no_user_name(credential: &Credential) -> Error {
    Error::unauthenticated(format!(
        "Docker Hub takes an access token as the password of its Docker ID (or of its organisation), and {} gives a token without \
         a user name; give --username with it",
        credential.source()
    ))
    .code("no-user-name")
}

/// They are not accepted, for one of several reasons that look the same.
pub(crate) fn bad_credentials(credential: &Credential) -> Error {
    let who = match credential.username() {
        "" => String::new(),
        username => format!(" of `{username}`"),
    };
    Error::unauthenticated(format!(
        "Docker Hub does not accept the credentials{who} from {}; an account with two-factor or single sign-on needs an access \
         token in place of the password ({TOKENS_PAGE}), and the user name of an organisation's access token is the \
         organisation; `idp login {}` stores others",
        credential.source(),
        naming::SHOWN_HOST
    ))
    .code("bad-credentials")
}

/// The token service gives a token to everybody it knows, with fewer rights than were asked for; the registry then says no.
fn refused_again(credential: Option<&Credential>, scopes: &[Scope]) -> Error {
    let what = if scopes.is_empty() { "do this".to_owned() } else { scope::in_words(scopes) };
    let Some(credential) = credential else { return not_logged_in(&what) };
    let challenges = invocation::challenges();
    let code =
        challenges.iter().find_map(|challenge| challenge.param("error")).unwrap_or("insufficient_scope");
    let who = match credential.username() {
        "" => "this account".to_owned(),
        username => format!("`{username}`"),
    };
    Error::denied(format!(
        "Docker Hub accepted the credentials of {who} from {} and gave a token that may not {what}",
        credential.source()
    ))
    .code(code)
}

/// A token for no scope: 401 says that the credentials are wrong, before anything is pushed.
pub(crate) fn verify() -> Result<Pairs> {
    let credential = invocation::credential("registry");
    exchange(TOKEN_URL, SERVICE, credential.as_ref(), &[])?;
    let Some(credential) = credential else { return Ok(pairs([("kind", "anonymous")])) };
    let mut found = pairs([("kind", if credential.kind == "basic" { "user" } else { "token" })]);
    if !credential.username().is_empty() {
        found.push(("account".to_owned(), credential.username().to_owned()));
    }
    Ok(found)
}
