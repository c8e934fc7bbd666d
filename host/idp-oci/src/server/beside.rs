//! What is served beside `/v2`: health, metrics and the page; and what all requests share of it.
//!
//! In: a request for one of these paths. Out: an answer. Health is for everybody; the others ask the access first.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::server::Registry;
use crate::server::access::Need;
use crate::server::error::Error;
use crate::server::health::{Health, HealthSettings};
use crate::server::metrics::{self, Handler, Metrics, MetricsSettings};
use crate::server::seen::Noted;
use crate::server::tls::Tls;
use crate::server::web::WebSettings;
use crate::server::webhook::{WebhookTargets, Webhooks};

/// What a registry is served with beside the specification.
#[derive(Debug, Clone, Default)]
pub struct BesideOptions {
    /// `/metrics`.
    pub metrics: MetricsSettings,
    /// `/readyz`.
    pub health: HealthSettings,
    /// Where the content is kept, if on a disk of this machine: its free space is looked at.
    pub directory: Option<PathBuf>,
    /// Who is told of what is pushed.
    pub webhooks: WebhookTargets,
    /// The page.
    pub web: WebSettings,
}

/// The same for all requests of a registry.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) metrics: Arc<Metrics>,
    metrics_settings: MetricsSettings,
    health: Health,
    pub(crate) webhooks: Webhooks,
    pub(crate) web: WebSettings,
    pub(crate) tls: Option<Arc<Tls>>,
}

impl Beside {
    /// Webhooks are delivered from now on, by tasks of the current runtime.
    pub(crate) fn new(options: BesideOptions, tls: Option<Arc<Tls>>) -> Self {
        let metrics = Arc::new(Metrics::new(tls.is_some()));
        Self {
            webhooks: Webhooks::start(options.webhooks, &metrics),
            metrics,
            web: options.web,
            metrics_settings: options.metrics,
            health: Health::new(options.health, options.directory),
            tls,
        }
    }
}

/// A path that is not the specification's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Alive,
    Ready,
    Metrics,
}

impl Place {
    pub(crate) fn of(registry: &Registry, path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Alive),
            "/readyz" => Some(Self::Ready),
            "/metrics" if !registry.beside.metrics_settings.disabled => Some(Self::Metrics),
            _ => None,
        }
    }

    const fn handler(self) -> Handler {
        match self {
            Self::Alive | Self::Ready => Handler::Health,
            Self::Metrics => Handler::Metrics,
        }
    }
}

pub(crate) async fn answer(
    registry: &Registry,
    place: Place,
    parts: &Parts,
    noted: &mut Noted,
) -> Result<Response, Error> {
    noted.handler = place.handler();
    if ![Method::GET, Method::HEAD].contains(&parts.method) {
        let message = "this is only to be read: GET or HEAD";
        return Err(
            Error::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message).with(ALLOW, "GET, HEAD")
        );
    }
    let beside = &registry.beside;
    match place {
        Place::Alive => Ok(Health::alive()),
        Place::Ready => {
            let most = registry.limits.uploads.sessions;
            Ok(beside.health.ready(&registry.store, &registry.uploads, most, beside.tls.as_deref()).await)
        }
        Place::Metrics => {
            if beside.metrics_settings.login {
                noted.user = registry.allow(parts, Need::Registry).await?;
                // Whoever is let in without a name is not logged in.
                if noted.user.is_none() {
                    let message = "the metrics of this registry are for users that are logged in";
                    return Err(Error::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
                        .with(WWW_AUTHENTICATE, "Basic realm=\"idp registry\", charset=\"UTF-8\""));
                }
            }
            Ok(metrics(registry))
        }
    }
}

fn metrics(registry: &Registry) -> Response {
    let ends = registry.beside.tls.as_ref().map(|tls| tls.ends());
    let text = registry.beside.metrics.text(registry.uploads.count(), ends);
    let length = text.len();
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
