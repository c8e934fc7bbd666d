//! One request as it comes back, for who looks at how a registry behaves: let in like every other and never tried again; any status is an
//! answer. Depends on `call`.

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use url::Url;

use super::call::Call;
use super::dialect::Scope;
use super::http::{Body, HttpError};
use super::redirect;
use super::{Client, ClientError, redact};

/// What is sent.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What is wanted, for errors.
    pub what: String,
    /// The method.
    pub method: Method,
    /// A path on the registry, with its query, or a `Location` that it gave.
    pub target: String,
    /// Headers.
    pub headers: Vec<(HeaderName, String)>,
    /// The body.
    pub body: Bytes,
    /// The access that it takes.
    pub scopes: Vec<Scope>,
}

impl Probe {
    /// Without headers and body.
    pub fn new(method: Method, target: impl Into<String>, scopes: Vec<Scope>, what: &str) -> Self {
        let (headers, body) = (Vec::new(), Bytes::new());
        Self { what: what.to_owned(), method, target: target.into(), headers, body, scopes }
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The start of the body, 64 KiB at most.
    pub body: Bytes,
}

impl Probed {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Where the registry sends us.
    pub fn location(&self) -> Option<&str> {
        self.headers.get(LOCATION).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    /// Sends a probe. A 401 that remains is an error; every other status is an answer.
    pub async fn probe(&self, probe: Probe) -> Result<Probed, ClientError> {
        let failed = |error: HttpError| {
            let request = format!("{} {}", probe.method, shown(&probe.target));
            ClientError::Network { what: probe.what.clone(), request, attempts: 1, error }
        };
        let base = &self.shared.base;
        let url = redirect::resolve(base, self.shared.home, &probe.target, false).map_err(failed)?;
        let mut call = Call::new(probe.method.clone(), url, probe.scopes.clone(), probe.what.clone()).once();
        for (name, value) in &probe.headers {
            call = call.header(name.clone(), value);
        }
        if !probe.body.is_empty() {
            call = call.body(Body::Bytes(probe.body.clone()));
        }
        let response = self.call(&call).await?.response;
        let (status, headers) = (response.status, response.headers.clone());
        Ok(Probed { status, headers, body: response.error_body().await.into() })
    }
}

/// Without its query: an upload's URL lets in.
fn shown(target: &str) -> String {
    match target.parse::<Url>() {
        Ok(url) => redact::url(&url),
        Err(_) => target.split('?').next().unwrap_or_default().to_owned(),
    }
}
