//! The embedded registry: OCI distribution-spec 1.1 over a [`Store`].
//!
//! May use names, manifests, blobs and stores; knows no client, no provider and no terminal. In: connections. Out: answers,
//! a line of access log for each (`tracing`, target `idp::registry`), and an [`Event`] for who observes. Blob bytes stream
//! both ways; only manifests, which are bounded, are held whole.
//!
//! `route.rs` says what a request asks for; there is a file for every noun; `serve.rs` has the connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
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
use crate::server::body::Incoming;
use crate::server::error::Error;
use crate::server::gate::Throttles;
use crate::server::page::Query;
use crate::server::route::{Misrouted, Route};
use crate::server::sender::Network;
use crate::store::Store;
use crate::store::upload::Uploads;

pub mod access;
pub mod auth;
mod blob;
mod body;
mod catalog;
mod error;
mod gate;
pub mod htpasswd;
pub mod limits;
mod manifest;
mod page;
pub mod pattern;
mod private;
mod referrer;
mod route;
pub mod rules;
mod scope;
pub mod sender;
mod serve;
mod tag;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod token;
mod upload;
pub mod users;

pub use limits::Limits;
pub use scope::Scope;
pub use serve::{ServeOptions, serve};

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
        }
    }

    /// The same behind these proxies, which are believed in what they say of clients.
    #[must_use]
    pub fn behind(self, proxies: Arc<[Network]>) -> Self {
        Self { proxies, ..self }
    }

    /// The registry as a service: everything under `/v2`.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// The open uploads, to be expired from time to time.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Whether connections are encrypted.
    fn is_tls(&self) -> bool {
        false
    }

    async fn answer(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        user: &mut Option<String>,
    ) -> Result<Response, Error> {
        self.limits.check_head(parts)?;
        if parts.uri.path() == token::PATH
            && let Some(issuer) = self.access.token_issuer()
        {
            return token::answer(self, issuer, parts, incoming, user).await;
        }
        let route = match route::route(&parts.method, parts.uri.path()) {
            Ok(route) => route,
            Err(misrouted) => {
                // Strangers learn nothing here, not even which names are good.
                self.allow(parts, Need::Registry).await?;
                return Err(refuse(&parts.method, &misrouted));
            }
        };
        let query = Query::of(parts);
        let source = mount_source(&route, &query);
        let mut needs = vec![need(&route)];
        needs.extend(source.as_ref().map(|source| Need::Repository(source, Action::Pull)));
        let requester = self.admit(parts, &needs).await?;
        user.clone_from(&requester.identity.user);
        match &route {
            Route::Ping => Ok(page::json(&serde_json::json!({}), "application/json")),
            Route::Catalogue => catalog::list(self, &requester, &query).await,
            Route::ListTags { repository } => tag::list(self, repository, &query).await,
            Route::ListReferrers { repository, subject } => {
                referrer::list(self, repository, subject, &query).await
            }
            Route::ReadBlob { repository, digest } => blob::read(self, parts, repository, digest).await,
            Route::DeleteBlob { repository, digest } => blob::delete(self, repository, digest).await,
            Route::BeginUpload { repository } => {
                upload::begin(self, &requester, incoming, repository, &query).await
            }
            Route::AppendUpload { repository, id } => {
                upload::append(self, parts, incoming, repository, id).await
            }
            Route::FinishUpload { repository, id } => {
                upload::finish(self, parts, incoming, repository, id, &query).await
            }
            Route::UploadStatus { repository, id } => upload::status(self, repository, id).await,
            Route::CancelUpload { repository, id } => upload::cancel(self, repository, id).await,
            Route::ReadManifest { repository, target } => {
                manifest::read(self, parts, repository, target).await
            }
            Route::PutManifest { repository, target } => {
                manifest::put(self, parts, incoming, repository, target, &query).await
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
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let declared = length(&parts.headers);
    let mut incoming = Incoming::new(body, registry.limits.body_patience, declared);
    let mut user = None;
    let mut response = match registry.answer(&parts, &mut incoming, &mut user).await {
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
    let sent = if parts.method == Method::HEAD { 0 } else { length(headers).unwrap_or(0) };
    let event = Event {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        status: response.status(),
        received: incoming.received(),
        sent,
    };
    tracing::info!(
        target: "idp::registry",
        method = %event.method,
        path = %event.path,
        status = event.status.as_u16(),
        user = user.as_deref().unwrap_or("-"),
        received = event.received,
        sent = event.sent,
        milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    );
    if let Some(observer) = &registry.observer {
        observer(&event);
    }
    if event.method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}
