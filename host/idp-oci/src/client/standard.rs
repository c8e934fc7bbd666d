//! What the specifications say about being let in, natively: Basic, Bearer by GET and POST, anonymous. The dialect of registries
//! without peculiarities, of tests, and the measure for what a provider costs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::dialect::{AuthRequest, Authorization, Challenge, Dialect, DialectError, ErrorKind, Grant, Reuse};
use super::http::{Body, ERROR_BODY, Http, HttpError, Request};
use super::redirect::{self, Place};
use super::retry;
use crate::secret::Secret;

/// A lifetime that a token service does not state, and the least that is believed (distribution, "token").
const LIFETIME: Duration = Duration::from_secs(60);

/// Who we are.
#[derive(Debug, Clone, Default)]
pub enum Credential {
    /// Nobody.
    #[default]
    Anonymous,
    /// A user.
    Basic {
        /// The name.
        username: String,
        /// The password, or a token in its place.
        password: Secret,
    },
    /// A refresh token of the registry's token service (`identitytoken` of Docker's configuration).
    IdentityToken(Secret),
    /// A token that is used as it is.
    Bearer(Secret),
}

/// The dialect that follows the specifications.
#[derive(Debug, Clone)]
pub struct Standard {
    base: Url,
    credential: Credential,
    http: Http,
    /// The refresh token that took the place of the one we came with; kept here and nowhere else (case 28).
    rotated: Arc<Mutex<Option<Secret>>>,
}

impl Standard {
    /// `base` is the registry's own URL: token services elsewhere are held to its rules.
    pub fn new(base: Url, credential: Credential, http: Http) -> Self {
        Self { base, credential, http, rotated: Arc::default() }
    }

    async fn bearer(&self, challenge: &Challenge, request: &AuthRequest) -> Result<Grant, DialectError> {
        if let Credential::Bearer(token) = &self.credential {
            if request.attempt > 1 {
                return Err(refused("the token was not accepted"));
            }
            return Ok(grant(Authorization::Bearer(token.clone()), None, Reuse::Registry));
        }
        let realm = challenge.param("realm").ok_or_else(|| {
            DialectError::new(
                ErrorKind::Invalid,
                "the registry asks for a token and does not say where to get one",
            )
        })?;
        let home = Place::of(&self.base);
        let allow = self.http.options().allow_private_redirects;
        let realm = redirect::resolve(&self.base, home, realm, allow).map_err(|error| http_error(&error))?;
        let service = challenge.param("service");
        if let Some(token) = self.refresh_token() {
            match self.post(&realm, service, request, &token).await {
                // Not every token service knows POST (case 28).
                Err(error) if matches!(error.http_status, Some(400 | 401 | 404 | 405)) => {}
                answer => return answer,
            }
        }
        self.get(realm, service, request).await
    }

    /// The refresh token, the newest.
    fn refresh_token(&self) -> Option<Secret> {
        let Credential::IdentityToken(first) = &self.credential else { return None };
        let rotated = self.rotated.lock().unwrap_or_else(PoisonError::into_inner);
        Some(rotated.as_ref().unwrap_or(first).clone())
    }

    async fn get(
        &self,
        mut realm: Url,
        service: Option<&str>,
        request: &AuthRequest,
    ) -> Result<Grant, DialectError> {
        {
            let mut query = realm.query_pairs_mut();
            query.extend_pairs(service.map(|service| ("service", service)));
            for scope in &request.scopes {
                query.append_pair("scope", &scope.to_string());
            }
            query.append_pair("client_id", "idp");
        }
        let mut outgoing = Request::new(Method::GET, realm);
        let refresh = self.refresh_token();
        let (username, password) = match &self.credential {
            Credential::Basic { username, password } => (username.as_str(), Some(password)),
            Credential::IdentityToken(_) => ("<token>", refresh.as_ref()),
            Credential::Anonymous | Credential::Bearer(_) => ("", None),
        };
        if let Some(password) = password {
            let pair = Secret::new(format!("{username}:{}", password.expose()));
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair.expose());
            let mut value =
                HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 stands in every header");
            value.set_sensitive(true);
            outgoing.credentials.insert(AUTHORIZATION, value);
        }
        self.token(outgoing).await
    }

    async fn post(
        &self,
        realm: &Url,
        service: Option<&str>,
        request: &AuthRequest,
        token: &Secret,
    ) -> Result<Grant, DialectError> {
        let scopes: Vec<String> = request.scopes.iter().map(ToString::to_string).collect();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "idp")
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", token.expose())
            .finish();
        let mut outgoing = Request::new(Method::POST, realm.clone());
        outgoing.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        outgoing.body = Body::Bytes(form.into());
        self.token(outgoing).await
    }

    async fn token(&self, mut request: Request) -> Result<Grant, DialectError> {
        request.home = Place::of(&self.base);
        request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let response = self.http.execute(request).await.map_err(|error| http_error(&error))?;
        let (status, headers) = (response.status, response.headers.clone());
        if status != StatusCode::OK {
            let kind = match status.as_u16() {
                401 => ErrorKind::Unauthenticated,
                403 => ErrorKind::Denied,
                429 => ErrorKind::RateLimited,
                _ if retry::is_transient(status) => ErrorKind::Unavailable,
                _ => ErrorKind::Other,
            };
            let advice = match kind {
                ErrorKind::Unauthenticated | ErrorKind::Denied => ": check user and password",
                _ => "",
            };
            let message = format!("the token service answered {}{advice}", status.as_u16());
            return Err(DialectError {
                http_status: Some(status.as_u16()),
                retry_after: retry::retry_after(&headers),
                ..DialectError::new(kind, message)
            });
        }
        let body = response.bytes(ERROR_BODY).await.map_err(|error| http_error(&error))?;
        let unusable = || DialectError::new(ErrorKind::Invalid, "the token service's answer holds no token");
        let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|_| unusable())?;
        let text = |name: &str| {
            answer.get(name).and_then(serde_json::Value::as_str).filter(|value| !value.is_empty())
        };
        let token = text("token").or_else(|| text("access_token")).ok_or_else(unusable)?;
        if let (Some(next), Credential::IdentityToken(_)) = (text("refresh_token"), &self.credential) {
            *self.rotated.lock().unwrap_or_else(PoisonError::into_inner) = Some(Secret::new(next));
        }
        let lifetime = answer.get("expires_in").and_then(serde_json::Value::as_u64).map(Duration::from_secs);
        let lifetime = lifetime.map_or(LIFETIME, |lifetime| lifetime.max(LIFETIME));
        Ok(grant(Authorization::Bearer(Secret::new(token)), Some(lifetime), Reuse::Scope))
    }
}

fn grant(authorization: Authorization, expires_in: Option<Duration>, reuse: Reuse) -> Grant {
    Grant { authorization, scopes: Vec::new(), expires_in, reuse }
}

fn refused(message: &str) -> DialectError {
    DialectError::new(ErrorKind::Unauthenticated, message)
}

fn http_error(error: &HttpError) -> DialectError {
    let kind = if error.is_transient() { ErrorKind::Unavailable } else { ErrorKind::Other };
    DialectError::new(kind, format!("the token service: {error}"))
}

#[async_trait]
impl Dialect for Standard {
    fn name(&self) -> String {
        "standard".to_owned()
    }

    async fn authorize(&self, request: &AuthRequest) -> Result<Grant, DialectError> {
        let of = |scheme: &str| request.challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(challenge) = of("bearer") {
            return self.bearer(challenge, request).await;
        }
        match &self.credential {
            Credential::Basic { username, password } if of("basic").is_some() => {
                if request.attempt > 1 {
                    return Err(refused("user and password were not accepted"));
                }
                let (username, password) = (username.clone(), password.clone());
                Ok(grant(Authorization::Basic { username, password }, None, Reuse::Registry))
            }
            Credential::Anonymous => {
                Err(refused("the registry wants a credential, and there is none for it"))
            }
            _ => Err(refused("the registry asks for a kind of credential that is not the one at hand")),
        }
    }
}
