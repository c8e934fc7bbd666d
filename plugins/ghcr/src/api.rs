//! GitHub's REST API: where it is, as whom it is asked, what its refusals mean, and how its pages follow each other.

use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{ambient, link, refusal};

/// The version of the API that the answers are read by.
const VERSION: &str = "2022-11-28";

/// The base URL: by the registry's name, or the setting `api`.
pub(crate) fn base() -> Result<String> {
    if let Some(api) = invocation::setting("api") {
        return Ok(api.trim_end_matches('/').to_owned());
    }
    let registry = invocation::registry();
    if registry == "ghcr.io" {
        return Ok("https://api.github.com".to_owned());
    }
    let host = registry.strip_prefix("containers.");
    match host.filter(|host| host.ends_with(".ghe.com")) {
        Some(host) => Ok(format!("https://api.{host}")),
        None => Err(Error::invalid(format!(
            "where GitHub's API for {registry} is, is not known: set it in registries.yaml, `settings: {{ api: https://{}/api/v3 }}`",
            host.unwrap_or("HOST")
        ))
        .code("api-unknown")),
    }
}

/// The URL of a path of the API.
pub(crate) fn url(path: &str) -> Result<String> {
    Ok(format!("{}{path}", base()?))
}

/// The credential for the API: its own slot, else the registry's.
pub(crate) fn credential() -> Option<Credential> {
    invocation::credential("management").or_else(|| invocation::credential("registry"))
}

/// Sends a request with a credential's token as Bearer, whatever kind it came as.
pub(crate) fn send(credential: &Credential, request: Request<'_>) -> Result<Response> {
    let secret = credential.secret("token").or_else(|| credential.secret("password"));
    let Some(secret) = secret else { return Err(bearer::not_logged_in()) };
    request
        .header("accept", "application/vnd.github+json")
        .header("x-github-api-version", VERSION)
        .bearer(secret)
        .send()
}

/// Sends a request to a path of the API. Packages are shown to nobody without a token, public ones included.
pub(crate) fn ask(method: &str, path: &str) -> Result<Response> {
    let Some(credential) = credential() else {
        let registry = invocation::registry();
        return Err(Error::unauthenticated(format!(
            "GitHub's API shows packages to nobody without a token; run `idp login {registry}` with a personal access token (classic) \
             that has read:packages"
        ))
        .code("not-logged-in"));
    };
    send(&credential, Request::new(method, url(path)?))
}

/// Asks for `/orgs/OWNER…`, and when there is none for `/users/OWNER…`: a name does not say which it is. The path that was answered
/// comes with the answer.
pub(crate) fn of_owner(owner: &str, rest: &str) -> Result<(String, Response)> {
    let organisation = format!("/orgs/{}{rest}", link::percent(owner));
    let answer = ask("GET", &organisation)?;
    if answer.status() != 404 {
        return Ok((organisation, answer));
    }
    let user = format!("/users/{}{rest}", link::percent(owner));
    let answer = ask("GET", &user)?;
    Ok((user, answer))
}

/// The path of the next page, which the API names by a URL of its own.
pub(crate) fn next(answer: &Response) -> Option<String> {
    let base = base().ok()?;
    let headers = answer.headers("link");
    let next = link::next(headers.iter().map(String::as_str))?;
    let path = next.strip_prefix(base.as_str())?;
    is_cursor(path).then(|| path.to_owned())
}

/// Whether a text is a path that [`next`] gave.
pub(crate) fn is_cursor(path: &str) -> bool {
    ["/user/", "/users/", "/orgs/", "/organizations/"].iter().any(|prefix| path.starts_with(prefix))
}

/// The error for a refusal of the API. `doing` completes "could not …", `scope` is what the token needs for it.
pub(crate) fn refused(answer: &Response, doing: &str, scope: &str) -> Error {
    let status = answer.status();
    let said = answer.json_scalar("/message").unwrap_or_default();
    let lower = said.to_ascii_lowercase();
    let source = credential().map_or_else(|| "the credentials".to_owned(), |found| found.source().to_owned());
    let host = link::origin(&answer.url()).to_owned();
    let denied = |code: &str, why: String| {
        Error::denied(format!("could not {doing}: {why}")).code(code).status(status)
    };
    match status {
        401 => Error::unauthenticated(format!(
            "could not {doing}: {host} does not accept the token from {source} (401: {said}); it may have expired or been revoked"
        ))
        .code("bad-credentials")
        .status(status),
        403 | 429 if lower.contains("rate limit") || answer.header("x-ratelimit-remaining").as_deref() == Some("0") => {
            let error = Error::rate_limited(format!("could not {doing}: {host} has had too many requests ({status}: {said})"))
                .code("rate-limited")
                .status(status);
            match wait(answer) {
                Some(seconds) => error.retry_after_s(seconds),
                None => error,
            }
        }
        403 if answer.header("x-github-sso").is_some() || lower.contains("saml") => denied(
            "sso",
            format!(
                "the token from {source} is not authorised for the organisation's single sign-on: choose \"Configure SSO\" beside it at \
                 https://github.com/settings/tokens"
            ),
        ),
        403 if lower.contains("not accessible by") => denied(
            "token-kind",
            format!(
                "GitHub lets neither a workflow's GITHUB_TOKEN nor a fine-grained token do this ({said}); give a personal access token \
                 (classic) with {scope} in registries.yaml, `slots: {{ management: … }}`"
            ),
        ),
        403 if lower.contains("packages scope") || lower.contains("need at least") => {
            denied("token-scopes", format!("the token from {source} needs the scope {scope} ({said})"))
        }
        403 => denied(
            "denied",
            format!(
                "{host} refused (403: {said}); the token needs the scope {scope}, and for deleting the account must be an admin of the package"
            ),
        ),
        404 => Error::not_found(format!(
            "could not {doing}: {host} knows no such package, or the token from {source} may not see it (it needs {scope})"
        ))
        .code("package-unknown")
        .status(404),
        _ => refusal::error(answer, doing),
    }
}

/// Seconds until the API answers again.
fn wait(answer: &Response) -> Option<u32> {
    let reset = || {
        let reset: u64 = answer.header("x-ratelimit-reset")?.trim().parse().ok()?;
        u32::try_from(reset.saturating_sub(ambient::unix_time_ms() / 1000)).ok()
    };
    answer.retry_after_s().or_else(reset)
}

/// What is left of the API's requests. The registry itself tells no limit.
pub(crate) fn limits() -> Result<Vec<Pairs>> {
    let url = url("/rate_limit")?;
    let answer = match credential() {
        Some(credential) => send(&credential, Request::get(url))?,
        None => Request::get(url).header("accept", "application/vnd.github+json").send()?,
    };
    // GitHub Enterprise Server answers 404 where limits are switched off.
    if !answer.is_success() {
        return Ok(Vec::new());
    }
    let field = |name: &str| answer.json_scalar(&format!("/resources/core/{name}"));
    let (Some(limit), Some(remaining)) = (field("limit"), field("remaining")) else { return Ok(Vec::new()) };
    let mut found = pairs([
        ("name", "requests to GitHub's API an hour".to_owned()),
        ("limit", limit),
        ("remaining", remaining),
    ]);
    if let Some(reset) = field("reset").and_then(|reset| reset.parse::<u64>().ok()) {
        let left = reset.saturating_sub(ambient::unix_time_ms() / 1000);
        found.push(("reset-s".to_owned(), left.to_string()));
    }
    found.push(("source".to_owned(), link::origin(&answer.url()).to_owned()));
    Ok(vec![found])
}
