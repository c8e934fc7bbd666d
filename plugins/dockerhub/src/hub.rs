//! The Hub's own API on `hub.docker.com`: repositories and tags, which the registry does not tell. It takes neither passwords nor
//! access tokens, but a short-lived one of its own, got with them.

use idp_provider_sdk::invocation::Credential;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::secret::Encoding;
use idp_provider_sdk::{link, refusal};
use serde::Deserialize;

use crate::login;

/// Where it is.
const ORIGIN: &str = "https://hub.docker.com";

/// The key of its token among what is remembered.
const REMEMBERED: &str = "hub-api";

/// Its answer does not say how long the token lives; ten minutes are known, and a 401 makes a new one anyway.
const LIFETIME_S: u32 = 300;

/// The largest page.
pub(crate) const LARGEST_PAGE: u32 = 100;

/// A larger `Retry-After` is a point in time.
const EPOCH: u64 = 1_000_000_000;

/// The URL of a path.
pub(crate) fn url(path: &str) -> String {
    format!("{ORIGIN}{path}")
}

/// `/v2/namespaces/NAMESPACE/repositories/REPOSITORY`
pub(crate) fn repository_url(namespace: &str, repository: &str) -> String {
    let (namespace, repository) = (link::percent(namespace), link::percent(repository));
    url(&format!("/v2/namespaces/{namespace}/repositories/{repository}"))
}

/// Below this older path tags and repositories are deleted; `rest` ends with `/`.
pub(crate) fn old_url(namespace: &str, repository: &str, rest: &str) -> String {
    let (namespace, repository) = (link::percent(namespace), link::percent(repository));
    url(&format!("/v2/repositories/{namespace}/{repository}/{rest}"))
}

/// Sends with the API's token where there are credentials, else without. A remembered token that is refused is made anew, once.
pub(crate) fn send<'a>(request: impl Fn() -> Request<'a>) -> Result<Response> {
    if let Some(token) = invocation::remembered(REMEMBERED) {
        let answer =
            request().header_segments("authorization", [text("Bearer "), Segment::Owned(token)]).send()?;
        if answer.status() != 401 {
            return Ok(answer);
        }
    }
    match invocation::credential("registry") {
        // The API knows no other kinds; what is public is answered all the same.
        Some(credential) if credential.kind == "basic" => {
            let token = log_in(&credential)?;
            request().header_segments("authorization", [text("Bearer "), Segment::Owned(token)]).send()
        }
        _ => request().send(),
    }
}

fn log_in(credential: &Credential) -> Result<Secret> {
    let Some(password) = credential.secret("password") else {
        return Err(login::bad_credentials(credential));
    };
    let identifier = serde_json::Value::from(credential.username()).to_string();
    let answer = Request::post(url("/v2/auth/token"))
        .header("content-type", "application/json")
        .body_segments([
            text(format!(r#"{{"identifier":{identifier},"secret":"#)),
            Segment::Owned(password.encode(Encoding::JsonString)?),
            text("}"),
        ])
        .capture("token", json("/access_token"))
        .capture("second-factor", json("/login_2fa_token"))
        .send()?;
    if let Some(token) = answer.captured("token").filter(|_| answer.is_success()) {
        invocation::remember(REMEMBERED, &token, LIFETIME_S);
        return Ok(token);
    }
    if answer.captured("second-factor").is_some() {
        return Err(Error::unauthenticated(format!(
            "the Docker account `{}` has two-factor authentication, which a password alone does not pass; log in with an access \
             token ({}) in its place",
            credential.username(),
            login::TOKENS_PAGE
        ))
        .code("second-factor")
        .status(answer.status()));
    }
    Err(match answer.status() {
        401 | 403 => login::bad_credentials(credential).status(answer.status()),
        200..=299 => Error::unavailable("hub.docker.com answered the login without a token").code("no-token"),
        _ => error(&answer, "log in to the API of Docker Hub"),
    })
}

/// What the API says of itself: `{"errinfo":…,"message":…}` or `{"detail":…}`.
#[derive(Debug, Default, Deserialize)]
struct Said {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: Option<String>,
}

/// The words of a refusal, for people.
pub(crate) fn words(answer: &Response) -> String {
    let body = answer.text();
    let said: Said = serde_json::from_str(&body).unwrap_or_default();
    let first = [said.message, said.detail].into_iter().flatten().find(|text| !text.is_empty());
    first.or_else(|| answer.json_scalar("/message")).unwrap_or_else(|| refusal::text(&body))
}

/// The contract's error for a refusal of the API. `doing` completes "could not …".
pub(crate) fn error(answer: &Response, doing: &str) -> Error {
    let status = answer.status();
    let said = match words(answer) {
        said if said.is_empty() => String::new(),
        said => format!(": {said}"),
    };
    let error = Error::new(
        refusal::kind(status),
        format!("could not {doing}: hub.docker.com answered {status}{said}"),
    )
    .status(status);
    if status != 429 {
        return error;
    }
    match wait_s(answer) {
        Some(seconds) => error.code("api-rate-limit").retry_after_s(seconds),
        None => error.code("api-rate-limit"),
    }
}

/// `Retry-After` in seconds, or the point in time that some answers have there and all in `X-RateLimit-Reset`.
fn wait_s(answer: &Response) -> Option<u32> {
    let number = |name: &str| answer.header(name)?.trim().parse::<u64>().ok();
    let given = number("retry-after").or_else(|| number("x-ratelimit-reset"))?;
    let now = ambient::unix_time_ms() / 1000;
    let seconds = if given >= EPOCH { given.saturating_sub(now) } else { given };
    u32::try_from(seconds).ok()
}

/// A page of the API, and what it says of the next one.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    /// How many there are in all.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default = "Vec::new")]
    pub(crate) results: Vec<T>,
}

/// Which page, of which size: the cursor is `PAGE/SIZE`, because a page of another size starts elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    /// From 1.
    pub(crate) page: u32,
    /// Entries.
    pub(crate) size: u32,
}

impl At {
    /// The page of a cursor; the first one without.
    pub(crate) fn new(cursor: Option<&str>, limit: u32) -> Result<Self> {
        let Some(cursor) = cursor else { return Ok(Self { page: 1, size: limit.clamp(1, LARGEST_PAGE) }) };
        let parts =
            cursor.split_once('/').and_then(|(page, size)| Some((page.parse().ok()?, size.parse().ok()?)));
        match parts {
            Some((page, size)) if page > 1 && (1..=LARGEST_PAGE).contains(&size) => Ok(Self { page, size }),
            _ => Err(Error::invalid(format!("`{cursor}` is not a cursor of this provider")).code("cursor")),
        }
    }

    /// The cursor of the page after this one.
    pub(crate) fn next(self) -> String {
        format!("{}/{}", self.page + 1, self.size)
    }
}

impl<T> Page<T> {
    /// Nothing more: what a page past the end, which is a 404, stands for.
    pub(crate) fn end() -> Self {
        Self { count: None, next: None, results: Vec::new() }
    }

    /// The cursor of the next page. An empty page ends the list whatever it says.
    pub(crate) fn cursor(&self, at: At) -> Option<String> {
        (self.next.as_ref().is_some_and(|next| !next.is_empty()) && !self.results.is_empty())
            .then(|| at.next())
    }
}
