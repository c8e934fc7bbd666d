//! The embedded registry: OCI distribution-spec 1.1 over a [`Store`].
//!
//! May use names, manifests, blobs and stores, and for webhooks the client's HTTP; knows no provider and no terminal. In:
//! connections. Out: answers, a line of access log for each (`tracing`, target `idp::registry`), metrics, and an [`Event`] for
//! who observes. Blob bytes stream both ways; only manifests, which are bounded, are held whole.
//!
//! `route.rs` says what a request asks for; there is a file for every noun; `beside.rs` has what is served beside the
//! specification; `seen.rs` what is told of each request; `serve.rs` has the connections, `tls` encrypts them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, EXPECT, HeaderName, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::Semaphore;

use crate::manifest::MAX_MANIFEST;
use crate::name::Repository;
use crate::server::access::{Access, Action, Need};
use crate::server::beside::{Beside, Place};
use crate::server::body::Incoming;
use crate::server::error::Error;
use crate::server::gate::{Requester, Throttles};
use crate::server::metrics::Handler;
use crate::server::page::Query;
use crate::server::route::{Misrouted, Route};
use crate::server::seen::{Noted, Seen};
use crate::server::sender::Network;
use crate::store::Store;
use crate::store::upload::Uploads;

pub mod access;
pub mod auth;
mod beside;
mod blob;
mod body;
mod catalog;
mod error;
mod gate;
mod health;
pub mod htpasswd;
pub mod limits;
mod manifest;
mod metrics;
mod page;
pub mod pattern;
mod private;
mod referrer;
mod route;
pub mod rules;
mod scope;
mod seen;
pub mod sender;
mod serve;
mod tag;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod tls;
pub mod token;
mod upload;
pub mod users;
mod web;
mod webhook;

pub use beside::BesideOptions;
pub use health::HealthSettings;
pub use limits::Limits;
pub use metrics::MetricsSettings;
pub use scope::Scope;
pub use serve::{ServeOptions, Started, serve};
pub use web::WebSettings;
pub use webhook::{WebhookError, WebhookEvent, WebhookSettings, WebhookTarget, WebhookTargets};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");

/// Of everything that changes, or is for one user.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// Where a connection comes from; an extension of each of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A request and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The method.
    pub method: Method,
    /// The path, without its query.
    pub path: String,
    /// The status of the answer.
    pub status: StatusCode,
    /// Bytes of the request's body that were read.
    pub received: u64,
    /// Bytes of the answer's body; of HEAD, none.
    pub sent: u64,
}

/// Told of every request when its answer is ready. Tests count with it.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// A registry: a store with its open uploads, and who may do what. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
    uploads: Arc<Uploads>,
    access: Arc<dyn Access>,
    limits: Limits,
    observer: Option<Observer>,
    throttles: Arc<Throttles>,
    /// A permit for each blob that is received.
    receiving: Arc<Semaphore>,
    /// Proxies that are believed.
    proxies: Arc<[Network]>,
    beside: Arc<Beside>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { store, access, limits, .. } = self;
        f.debug_struct("Registry")
            .field("store", store)
            .field("access", access)
            .field("limits", limits)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry over this store.
    pub fn new(
        store: Arc<dyn Store>,
        access: Arc<dyn Access>,
        limits: Limits,
        observer: Option<Observer>,
    ) -> Self {
        let uploads = Arc::new(Uploads::new(Arc::clone(&store), limits.uploads));
        let limits = Limits { manifest_bytes: limits.manifest_bytes.min(MAX_MANIFEST), ..limits };
        Self {
            store,
            uploads,
            access,
            limits,
            observer,
            throttles: gate::throttles(&limits),
            receiving: Arc::new(Semaphore::new(limits.receiving)),
            proxies: Arc::default(),
            beside: Arc::new(Beside::new(BesideOptions::default(), None)),
        }
    }

    /// The same behind these proxies, which are believed in what they say of clients.
    #[must_use]
    pub fn behind(self, proxies: Arc<[Network]>) -> Self {
        Self { proxies, ..self }
    }

    /// The same with what is served beside the specification.
    #[must_use]
    pub(crate) fn with(self, beside: Beside) -> Self {
        Self { beside: Arc::new(beside), ..self }
    }

    /// The registry as a service: everything under `/v2`.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// The open uploads, to be expired from time to time.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Does it, and takes the time for the metrics.
    async fn measured<T>(&self, action: &'static str, asked: impl Future<Output = T>) -> T {
        self.beside.metrics.storage(action, asked).await
    }

    /// Whether connections are encrypted.
    fn is_tls(&self) -> bool {
        self.beside.tls.is_some()
    }

    async fn answer(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        noted: &mut Noted,
    ) -> Result<Response, Error> {
        self.limits.check_head(parts)?;
        if let Some(place) = Place::of(self, parts.uri.path()) {
            return beside::answer(self, place, parts, noted).await;
        }
        if web::is_ours(parts.uri.path()) && !self.beside.web.disabled {
            noted.handler = Handler::Page;
            return Ok(web::answer(self, parts, incoming, noted).await);
        }
        if parts.uri.path() == token::PATH
            && let Some(issuer) = self.access.token_issuer()
        {
            noted.handler = Handler::Token;
            return token::answer(self, issuer, parts, incoming, &mut noted.user).await;
        }
        let route = match route::route(&parts.method, parts.uri.path()) {
            Ok(route) => route,
            Err(misrouted) => {
                // Strangers learn nothing here, not even which names are good.
                self.allow(parts, Need::Registry).await?;
                return Err(refuse(&parts.method, &misrouted));
            }
        };
        noted.handler = Handler::from(&route);
        self.carry_out(parts, incoming, &route, noted).await
    }

    /// Does what is asked for, if it is allowed, and tells of it.
    async fn carry_out(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        route: &Route,
        noted: &mut Noted,
    ) -> Result<Response, Error> {
        let query = Query::of(parts);
        let source = mount_source(route, &query);
        let mut needs = vec![need(route)];
        needs.extend(source.as_ref().map(|source| Need::Repository(source, Action::Pull)));
        let requester = self.admit(parts, &needs).await?;
        noted.user.clone_from(&requester.identity.user);
        let answered = self.follow(parts, incoming, route, &requester, &query).await;
        if let Ok(response) = &answered {
            let beside = &self.beside;
            beside.webhooks.tell(&beside.metrics, route, parts, response, noted.user.as_deref());
        }
        answered
    }

    /// Does what is asked for, and is allowed.
    async fn follow(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        route: &Route,
        requester: &Requester,
        query: &Query,
    ) -> Result<Response, Error> {
        match route {
            Route::Ping => Ok(page::json(&serde_json::json!({}), "application/json")),
            Route::Catalogue => catalog::list(self, requester, query).await,
            Route::ListTags { repository } => tag::list(self, repository, query).await,
            Route::ListReferrers { repository, subject } => {
                referrer::list(self, repository, subject, query).await
            }
            Route::ReadBlob { repository, digest } => blob::read(self, parts, repository, digest).await,
            Route::DeleteBlob { repository, digest } => blob::delete(self, repository, digest).await,
            Route::BeginUpload { repository } => {
                upload::begin(self, requester, incoming, repository, query).await
            }
            Route::AppendUpload { repository, id } => {
                upload::append(self, parts, incoming, repository, id).await
            }
            Route::FinishUpload { repository, id } => {
                upload::finish(self, parts, incoming, repository, id, query).await
            }
            Route::UploadStatus { repository, id } => upload::status(self, repository, id).await,
            Route::CancelUpload { repository, id } => upload::cancel(self, repository, id).await,
            Route::ReadManifest { repository, target } => {
                manifest::read(self, parts, repository, target).await
            }
            Route::PutManifest { repository, target } => {
                manifest::put(self, parts, incoming, repository, target, query).await
            }
            Route::DeleteManifest { repository, target } => manifest::delete(self, repository, target).await,
        }
    }
}

fn need(route: &Route) -> Need<'_> {
    let (repository, action) = match route {
        Route::Ping => return Need::Registry,
        Route::Catalogue => return Need::Catalogue,
        Route::ListTags { repository }
        | Route::ListReferrers { repository, .. }
        | Route::ReadBlob { repository, .. }
        | Route::ReadManifest { repository, .. } => (repository, Action::Pull),
        Route::BeginUpload { repository }
        | Route::AppendUpload { repository, .. }
        | Route::FinishUpload { repository, .. }
        | Route::UploadStatus { repository, .. }
        | Route::CancelUpload { repository, .. }
        | Route::PutManifest { repository, .. } => (repository, Action::Push),
        Route::DeleteBlob { repository, .. } | Route::DeleteManifest { repository, .. } => {
            (repository, Action::Delete)
        }
    };
    Need::Repository(repository, action)
}

/// Where a blob is to be mounted from: a token for the request has to be for both repositories.
fn mount_source(route: &Route, query: &Query) -> Option<Repository> {
    let mounts = matches!(route, Route::BeginUpload { .. }) && query.get("mount").is_some();
    query.get("from").filter(|_| mounts)?.parse().ok()
}

fn refuse(method: &Method, misrouted: &Misrouted) -> Error {
    let message = misrouted.to_string();
    match misrouted {
        Misrouted::Nothing => Error::not_found("UNSUPPORTED", message),
        Misrouted::Method(allowed) => {
            Error::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message).with(ALLOW, *allowed)
        }
        Misrouted::Name(_) => Error::bad_request("NAME_INVALID", message),
        Misrouted::Digest(_) => Error::bad_request("DIGEST_INVALID", message),
        // What is no tag can be put nowhere; and asked for, it is not there.
        Misrouted::Tag(_) if *method == Method::PUT => Error::bad_request("TAG_INVALID", message),
        Misrouted::Tag(_) => Error::not_found("MANIFEST_UNKNOWN", message),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A request is seen to its end though its client goes away: an upload then stands where its bytes say, and not in the
/// middle of a write.
async fn handle(State(registry): State<Registry>, request: Request) -> Response {
    tokio::spawn(respond(registry, request)).await.unwrap_or_else(|error| {
        tracing::error!(target: "idp::registry", %error, "a request failed");
        let message = "the registry failed; its log says why";
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message).into_response()
    })
}

async fn respond(registry: Registry, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let seen = Seen::begin(&registry.beside.metrics, &parts);
    let declared = length(&parts.headers);
    let mut incoming = Incoming::new(body, registry.limits.body_patience, declared);
    let mut noted = Noted::default();
    let mut response = match registry.answer(&parts, &mut incoming, &mut noted).await {
        Ok(response) => response,
        Err(error) => {
            // Who asked first whether to send has not begun to.
            if !parts.headers.contains_key(EXPECT) {
                incoming.drain().await;
            }
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // What somebody pushed must not run as a page of this registry, whatever its media type says.
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(POLICY);
    headers.entry(CACHE_CONTROL).or_insert(NOT_KEPT);
    seen.answered(response, &parts, &noted, incoming.received(), registry.observer.as_ref())
}
