//! Harbor's own API, `/api/v2.0`: asked with Basic credentials, never with the registry's token, and never with cookies (the host
//! keeps none: a session cookie sent back would switch on the protection against forged requests).

use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, refusal};
use serde::Deserialize;

use crate::login;

/// What Harbor says of itself; most of it only to accounts.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SystemInfo {
    #[serde(default)]
    pub(crate) auth_mode: Option<String>,
    #[serde(default)]
    pub(crate) harbor_version: Option<String>,
    #[serde(default)]
    pub(crate) project_creation_restriction: Option<String>,
    #[serde(default)]
    pub(crate) read_only: Option<bool>,
}

/// The URL of a path of the API.
pub(crate) fn url(path: &str) -> String {
    Client::url(&format!("/api/v2.0{path}"))
}

/// The path of a repository in the API. Its slashes are encoded twice, because a proxy or a router decodes them once.
pub(crate) fn repository(project: &str, repository: &str) -> String {
    format!("/projects/{}/repositories/{}", link::percent(project), link::percent(&link::percent(repository)))
}

/// Sends a request with the credentials, or without when there are none: public projects are everybody's.
pub(crate) fn ask(request: Request<'_>) -> Result<Response> {
    let credential = invocation::credential("registry");
    match credential.as_ref().and_then(|credential| Some((credential, credential.secret("password")?))) {
        Some((credential, password)) => request.basic(credential.username(), password).send(),
        None => request.send(),
    }
}

/// What Harbor says of itself; nothing when it does not.
pub(crate) fn system_info() -> SystemInfo {
    let answer = ask(Request::get(url("/systeminfo")));
    answer.ok().filter(Response::is_success).and_then(|answer| answer.json().ok()).unwrap_or_default()
}

/// Whether people sign in elsewhere, so that their password here is a CLI secret: known from recognising Harbor, or asked.
pub(crate) fn is_oidc() -> bool {
    let mode = invocation::setting("auth-mode").or_else(|| system_info().auth_mode);
    mode.as_deref() == Some("oidc_auth")
}

/// The error for a refusal of the API. `doing` completes "could not …", `right` is what a robot account needs for it.
pub(crate) fn refused(answer: &Response, doing: &str, right: &str) -> Error {
    let error = refusal::error(answer, doing);
    let registry = invocation::registry();
    match (answer.status(), invocation::credential("registry")) {
        (401, None) => bearer::not_logged_in().status(401),
        (401, Some(credential)) => {
            login::wrong_credentials(&credential).unwrap_or_else(|| not_for_cli_secrets(&credential, doing))
        }
        (403, _) if answer.text().contains("CSRF token") => Error::other(format!(
            "could not {doing}: {registry} took the request for one of a browser, because of a cookie; something on the way adds \
             one"
        ))
        .code("csrf")
        .status(403),
        (403, credential) => {
            let who = credential
                .map_or_else(|| "nobody".to_owned(), |credential| format!("`{}`", credential.username()));
            Error::denied(format!(
                "{}; {who} may not do it: a robot account needs the permission {right}, a user a higher role in the project \
                 (if there is such a project)",
                error.message
            ))
            .code(error.code)
            .status(403)
        }
        (412, _) => precondition(error),
        _ => error,
    }
}

/// 412: a rule of the project, or something that is still needed.
fn precondition(error: Error) -> Error {
    let code = if error.message.contains("immutable") { "immutable" } else { error.code.as_str() };
    let told = match code {
        "immutable" => "; a rule of the project makes the tag immutable, its administrator can change it",
        "VIOLATE_FOREIGN_KEY_CONSTRAINT" => "; something refers to it still, delete that first",
        _ => "",
    };
    Error::conflict(format!("{}{told}", error.message)).code(code).status(412)
}

/// 401 to credentials that are right: the API takes a CLI secret for a few calls only.
fn not_for_cli_secrets(credential: &Credential, doing: &str) -> Error {
    let (registry, who) = (invocation::registry(), credential.username());
    let why = if is_oidc() && !login::is_robot(who) {
        "the CLI secret of a single sign-on account works for pushing, pulling, listing, creating projects and deleting tags \
         only; use a robot account for this"
    } else {
        "the account is not known to the API"
    };
    Error::denied(format!("could not {doing}: {registry} does not let `{who}` do it: {why}"))
        .code("cli-secret")
        .status(401)
}

/// A number that is this page's, from a cursor; pages count from 1.
pub(crate) fn page_number(cursor: Option<&str>) -> Result<u32> {
    let Some(text) = cursor else { return Ok(1) };
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Error::invalid(format!("`{text}` is not a cursor of this provider")).code("cursor"))
}

/// Whether there is a page after this one.
pub(crate) fn has_next(answer: &Response) -> bool {
    link::next(answer.headers("link").iter().map(String::as_str)).is_some()
}

/// A time, unless it is the zero of Harbor's language, which stands for "never".
pub(crate) fn time(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty() && !text.starts_with("0001-01-01"))
}

/// `q=KEY=~TEXT`, where the text has nothing that the query language would read.
pub(crate) fn fuzzy<'a>(request: Request<'a>, key: &str, query: Option<&str>) -> Request<'a> {
    let plain = |text: &&str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
    };
    match query.filter(plain) {
        Some(text) => request.query("q", &format!("{key}=~{text}")),
        None => request,
    }
}
