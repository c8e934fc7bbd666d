//! Tokens (distribution, "Token Authentication Specification" and "OAuth2 Token Authentication"): `GET` and `POST /token`
//! of our own token service, and what checks tokens, our own and those of somebody else's service.
//!
//! Here is the HTTP of it; `issuer.rs` makes and checks our own, `trusted.rs` has the keys of others, `jws.rs` signs and
//! verifies, `keys.rs` keeps the keys. Who may have which scopes is not decided here.

use std::time::Duration;

use async_trait::async_trait;
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Serialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::server::Registry;
use crate::server::access::{Caller, Unidentified};
use crate::server::body::Incoming;
use crate::server::error::Error;
use crate::server::gate::{self, too_many, unauthorized};
use crate::server::htpasswd::{self, basic};
use crate::server::page::{self, Query};
use crate::server::scope::Scope;

pub(crate) mod issuer;
pub(crate) mod jws;
pub(crate) mod keys;
pub(crate) mod trusted;

pub use keys::KeysError;
pub use trusted::TrustedError;

/// Where the token service is.
pub(crate) const PATH: &str = "/token";

/// The user name beside which clients put a refresh token in the place of a password.
pub(crate) const REFRESH_USER: &str = "<token>";

/// More scopes than a request for a token needs; of more, the rest is not granted.
const MOST_SCOPES: usize = 64;

/// A request for a token.
#[derive(Debug)]
pub struct TokenRequest {
    /// What the token is for, as the challenge named it.
    pub service: Option<String>,
    /// What is asked for.
    pub scopes: Vec<Scope>,
    /// Who asks.
    pub login: Login,
    /// Whether a refresh token is wanted too.
    pub offline: bool,
}

/// What somebody shows who wants a token.
#[derive(Debug)]
pub enum Login {
    /// Nothing.
    Anonymous,
    /// User and password.
    Password(String, Secret),
    /// A refresh token.
    Refresh(Secret),
}

/// A token, and what is told of it.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: Secret,
    /// What a next token can be had with, if it was asked for.
    pub refresh: Option<Secret>,
    /// How long the token is good.
    pub lifetime: Duration,
    /// What it is for: what was asked, as far as it is granted.
    pub scopes: Vec<Scope>,
    /// Whose it is.
    pub user: Option<String>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefused {
    /// What was shown is no good (401, or 429).
    #[error(transparent)]
    Unidentified(#[from] Unidentified),
    /// Nothing was shown, and there is nothing for somebody who did not log in (401).
    #[error("this registry wants you to log in")]
    Anonymous,
    /// The token is wanted for somebody else's service (400).
    #[error("this is the token service of `{0}`, and of no other")]
    Service(String),
}

/// Makes tokens.
#[async_trait]
pub trait TokenIssuer: Send + Sync {
    /// A token for as much of what is asked as is granted.
    async fn issue(&self, caller: &Caller<'_>, request: TokenRequest) -> Result<Issued, TokenRefused>;
}

#[derive(Serialize)]
struct Answer<'a> {
    token: &'a str,
    access_token: &'a str,
    expires_in: u64,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
}

/// Answers a request for a token; says whose it is.
pub(crate) async fn answer(
    registry: &Registry,
    issuer: &dyn TokenIssuer,
    parts: &Parts,
    incoming: &mut Incoming,
    user: &mut Option<String>,
) -> Result<Response, Error> {
    let origin = registry.origin(parts);
    let caller = gate::caller(parts, &origin);
    registry.count(&Method::GET, origin.address.map(crate::server::throttle::Sender::at))?;
    let request = match parts.method {
        Method::GET => by_query(&caller, &Query::of(parts))?,
        Method::POST => by_form(registry, parts, incoming).await?,
        _ => {
            let message = "a token is asked for with GET or POST";
            return Err(
                Error::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message).with(ALLOW, "GET, POST")
            );
        }
    };
    let issued = issuer.issue(&caller, request).await.map_err(refuse)?;
    let scopes: Vec<String> = issued.scopes.iter().map(ToString::to_string).collect();
    let body = Answer {
        token: issued.token.expose(),
        access_token: issued.token.expose(),
        expires_in: issued.lifetime.as_secs(),
        scope: scopes.join(" "),
        refresh_token: issued.refresh.as_ref().map(Secret::expose),
    };
    let mut response = page::json(&body, "application/json");
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *user = issued.user;
    Ok(response)
}

fn refuse(refused: TokenRefused) -> Error {
    let message = refused.to_string();
    match refused {
        TokenRefused::Unidentified(Unidentified::TooMany(wait)) => too_many(&message, wait),
        TokenRefused::Unidentified(_) | TokenRefused::Anonymous => {
            unauthorized(&message, vec![htpasswd::CHALLENGE.to_owned()])
        }
        TokenRefused::Service(_) => Error::bad_request("UNSUPPORTED", message),
    }
}

/// GET: scopes in the query, the login in the header.
fn by_query(caller: &Caller<'_>, query: &Query) -> Result<TokenRequest, Error> {
    let login = match caller.authorization {
        None => Login::Anonymous,
        Some(authorization) => {
            let (user, password) =
                basic(authorization).ok_or_else(|| refuse(Unidentified::Credential.into()))?;
            // Some clients send an empty pair for nobody.
            match user.as_str() {
                REFRESH_USER => Login::Refresh(password),
                "" if password.is_empty() => Login::Anonymous,
                _ => Login::Password(user, password),
            }
        }
    };
    Ok(TokenRequest {
        service: query.get("service").map(str::to_owned),
        scopes: scopes(query.all("scope")),
        login,
        offline: query.get("offline_token") == Some("true"),
    })
}

/// POST: everything in a form (RFC 6749, sections 4.3.2 and 6).
async fn by_form(registry: &Registry, parts: &Parts, incoming: &mut Incoming) -> Result<TokenRequest, Error> {
    let limit = registry.limits.token_body_bytes;
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        let message = "a token is asked for with a form: application/x-www-form-urlencoded";
        return Err(Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED", message));
    }
    let body = incoming.whole(limit).await?.ok_or_else(|| {
        let message = format!("a request for a token has at most {limit} bytes");
        Error::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    })?;
    let mut form = Form::default();
    for (name, value) in form_urlencoded::parse(&body) {
        let value = Zeroizing::new(value.into_owned());
        form.take(&name, &value);
    }
    let login = match form.grant_type.as_deref() {
        Some("password") => match (form.username, form.password) {
            (Some(user), Some(password)) => Login::Password(user, password),
            _ => return Err(form_error("the grant `password` wants username and password")),
        },
        Some("refresh_token") => {
            let token = form.refresh_token;
            Login::Refresh(token.ok_or_else(|| form_error("the grant `refresh_token` wants refresh_token"))?)
        }
        _ => return Err(form_error("grant_type is `password` or `refresh_token` here")),
    };
    Ok(TokenRequest { service: form.service, scopes: form.scopes, login, offline: form.offline })
}

fn form_error(message: &str) -> Error {
    Error::bad_request("UNSUPPORTED", message)
}

#[derive(Default)]
struct Form {
    grant_type: Option<String>,
    service: Option<String>,
    scopes: Vec<Scope>,
    username: Option<String>,
    password: Option<Secret>,
    refresh_token: Option<Secret>,
    offline: bool,
}

impl Form {
    /// The first value of each name counts.
    fn take(&mut self, name: &str, value: &str) {
        let text = || Some(value.to_owned());
        let secret = || Some(Secret::new(value));
        match name {
            "grant_type" => self.grant_type = self.grant_type.take().or_else(text),
            "service" => self.service = self.service.take().or_else(text),
            "username" => self.username = self.username.take().or_else(text),
            "password" => self.password = self.password.take().or_else(secret),
            "refresh_token" => self.refresh_token = self.refresh_token.take().or_else(secret),
            "access_type" => self.offline |= value == "offline",
            "scope" if self.scopes.is_empty() => self.scopes = scopes([value].into_iter()),
            _ => {}
        }
    }
}

/// Scopes come in several parameters, or several in one, with spaces between them. What is none is not granted.
fn scopes<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Scope> {
    values.flat_map(str::split_ascii_whitespace).filter_map(Scope::parse).take(MOST_SCOPES).collect()
}
