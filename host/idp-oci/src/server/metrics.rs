//! Numbers for Prometheus, under the names that distribution gives them where it has them.
//!
//! May use the `prometheus-client` crate; knows no request and no store. In: what happened, from who saw it. Out: the text
//! format 0.0.4. Label values are from fixed sets, so that nobody outside decides how many series there are.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry as Names;
use serde::Deserialize;

use crate::server::route::Route;

pub(crate) use prometheus_text::CONTENT_TYPE;

/// Seconds, as distribution has them.
const SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0];

/// Seconds of what storage does, which is shorter.
const STORAGE_SECONDS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// Bytes: 1 KiB to 4 GiB, by four.
const BYTES: [f64; 12] = [
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// How `/metrics` is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MetricsSettings {
    /// There is no `/metrics`; false unless given.
    pub disabled: bool,
    /// Only who is logged in may read it; false unless given.
    pub login: bool,
}

/// What a request was for: distribution's names, and some for what it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    Base,
    Catalog,
    Tags,
    Manifest,
    Blob,
    BlobUpload,
    BlobUploadChunk,
    Referrers,
    Token,
    Health,
    Metrics,
    Page,
    Nothing,
}

impl Handler {
    const fn label(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags => "tags",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::BlobUpload => "blob_upload",
            Self::BlobUploadChunk => "blob_upload_chunk",
            Self::Referrers => "referrers",
            Self::Token => "token",
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Page => "page",
            Self::Nothing => "none",
        }
    }
}

impl From<&Route> for Handler {
    fn from(route: &Route) -> Self {
        match route {
            Route::Ping => Self::Base,
            Route::Catalogue => Self::Catalog,
            Route::ListTags { .. } => Self::Tags,
            Route::ListReferrers { .. } => Self::Referrers,
            Route::ReadManifest { .. } | Route::PutManifest { .. } | Route::DeleteManifest { .. } => {
                Self::Manifest
            }
            Route::ReadBlob { .. } | Route::DeleteBlob { .. } => Self::Blob,
            Route::BeginUpload { .. } => Self::BlobUpload,
            Route::AppendUpload { .. }
            | Route::FinishUpload { .. }
            | Route::UploadStatus { .. }
            | Route::CancelUpload { .. } => Self::BlobUploadChunk,
        }
    }
}

/// Methods that there are; what a client makes up is `other`.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    handler: &'static str,
    method: &'static str,
    code: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    handler: &'static str,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    handler: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Acted {
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Notified {
    r#type: &'static str,
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Built {
    version: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The numbers of a registry. All are there from the start where they have no labels.
#[derive(Debug)]
pub(crate) struct Metrics {
    names: Names,
    requests: Family<Answered, Counter>,
    duration: Histograms<Asked>,
    request_size: Histograms<Handled>,
    response_size: Histograms<Handled>,
    in_flight: Gauge,
    uploads: Counter,
    upload_bytes: Counter,
    mounts: Counter,
    storage: Histograms<Acted>,
    sessions: Gauge,
    certificate_ends: Gauge,
    notifications: Family<Notified, Counter>,
    notifications_pending: Gauge,
    resident: Gauge,
}

impl Metrics {
    pub(crate) fn new(tls: bool) -> Self {
        let mut names = Names::default();
        let seconds = || Histogram::new(SECONDS);
        let storage_seconds = || Histogram::new(STORAGE_SECONDS);
        let bytes = || Histogram::new(BYTES);
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            request_size: Family::new_with_constructor(bytes),
            response_size: Family::new_with_constructor(bytes),
            in_flight: Gauge::default(),
            uploads: Counter::default(),
            upload_bytes: Counter::default(),
            mounts: Counter::default(),
            storage: Family::new_with_constructor(storage_seconds),
            sessions: Gauge::default(),
            certificate_ends: Gauge::default(),
            notifications: Family::default(),
            notifications_pending: Gauge::default(),
            resident: Gauge::default(),
            names: Names::default(),
        };
        // A counter's name gets its `_total` when it is written.
        names.register("registry_http_requests", "Requests that were answered", metrics.requests.clone());
        names.register(
            "registry_http_request_duration_seconds",
            "From the head of a request to the last byte of its answer",
            metrics.duration.clone(),
        );
        names.register(
            "registry_http_request_size_bytes",
            "Bytes of the bodies of requests",
            metrics.request_size.clone(),
        );
        names.register(
            "registry_http_response_size_bytes",
            "Bytes of the bodies of answers",
            metrics.response_size.clone(),
        );
        names.register(
            "registry_http_in_flight_requests",
            "Requests that are not answered to the end",
            metrics.in_flight.clone(),
        );
        names.register(
            "registry_storage_blob_upload",
            "Blobs that were uploaded and verified",
            metrics.uploads.clone(),
        );
        names.register(
            "registry_storage_blob_upload_bytes",
            "Bytes of blobs that were uploaded and verified",
            metrics.upload_bytes.clone(),
        );
        names.register(
            "registry_storage_blob_mount",
            "Blobs that were mounted from another repository",
            metrics.mounts.clone(),
        );
        names.register(
            "registry_storage_action_seconds",
            "What the storage was asked to do",
            metrics.storage.clone(),
        );
        names.register("registry_storage_upload_sessions", "Uploads that are open", metrics.sessions.clone());
        names.register(
            "registry_notifications_events",
            "Webhooks: Events were taken into the queue, of which Successes were delivered, Failures not and Dropped never tried",
            metrics.notifications.clone(),
        );
        names.register(
            "registry_notifications_pending",
            "Webhooks that wait to be delivered",
            metrics.notifications_pending.clone(),
        );
        if tls {
            names.register(
                "registry_tls_certificate_expiry_timestamp_seconds",
                "When the certificate that is shown ends",
                metrics.certificate_ends.clone(),
            );
        }
        names.register(
            "process_resident_memory_bytes",
            "Memory that the process has",
            metrics.resident.clone(),
        );
        let start: Gauge<f64, AtomicU64> = Gauge::default();
        start.set(unix(SystemTime::now()));
        names.register("process_start_time_seconds", "When the registry began", start);
        let build: Family<Built, Gauge> = Family::default();
        build.get_or_create(&Built { version: env!("CARGO_PKG_VERSION") }).set(1);
        names.register("registry_build_info", "What is running", build);
        Self { names, ..metrics }
    }

    /// A request begins to be answered.
    pub(crate) fn begin(&self) {
        self.in_flight.inc();
    }

    /// Its answer has gone out, or its client away.
    pub(crate) fn end(&self, request: &Finished<'_>) {
        self.in_flight.dec();
        let (handler, method) = (request.handler.label(), method_label(request.method));
        let code = u32::from(request.status.as_u16());
        self.requests.get_or_create(&Answered { handler, method, code }).inc();
        self.duration.get_or_create(&Asked { handler, method }).observe(request.elapsed.as_secs_f64());
        self.request_size.get_or_create(&Handled { handler }).observe(float(request.received));
        self.response_size.get_or_create(&Handled { handler }).observe(float(request.sent));
    }

    pub(crate) fn uploaded(&self, bytes: u64) {
        self.uploads.inc();
        self.upload_bytes.inc_by(bytes);
    }

    pub(crate) fn mounted(&self) {
        self.mounts.inc();
    }

    /// Measures what the storage does. Actions are named where they are asked for.
    pub(crate) async fn storage<T>(&self, action: &'static str, asked: impl Future<Output = T>) -> T {
        let began = std::time::Instant::now();
        let answer = asked.await;
        self.storage.get_or_create(&Acted { action }).observe(began.elapsed().as_secs_f64());
        answer
    }

    pub(crate) fn notified(&self, outcome: &'static str, endpoint: &str) {
        self.notifications.get_or_create(&Notified { r#type: outcome, endpoint: endpoint.to_owned() }).inc();
    }

    pub(crate) fn notifications_pending(&self) -> &Gauge {
        &self.notifications_pending
    }

    /// The text, with what is only looked at when it is asked for.
    pub(crate) fn text(&self, sessions: usize, certificate_ends: Option<SystemTime>) -> String {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        if let Some(ends) = certificate_ends {
            let seconds = ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            self.certificate_ends.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
        if let Some(bytes) = resident() {
            self.resident.set(bytes);
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.names).expect("a string takes everything");
        text
    }
}

/// A request that is over.
#[derive(Debug)]
pub(crate) struct Finished<'a> {
    pub(crate) handler: Handler,
    pub(crate) method: &'a Method,
    pub(crate) status: StatusCode,
    pub(crate) elapsed: Duration,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a histogram's sum is a float; over 2^53 bytes it is rounded")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

/// Bytes that the process has in memory; where there is no `/proc`, nothing is said.
fn resident() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = text.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, StatusCode};

    use super::{Finished, Handler, Metrics};

    #[test]
    fn methods_that_are_made_up_are_one_series() {
        let metrics = Metrics::new(false);
        for name in ["GET", "BREW", "PROPFIND"] {
            metrics.begin();
            metrics.end(&Finished {
                handler: Handler::Base,
                method: &Method::from_bytes(name.as_bytes()).expect("a method"),
                status: StatusCode::OK,
                elapsed: Duration::from_millis(7),
                received: 0,
                sent: 2,
            });
        }
        let text = metrics.text(3, None);
        for line in [
            "# TYPE registry_http_requests_total counter",
            r#"registry_http_requests_total{handler="base",method="get",code="200"} 1"#,
            r#"registry_http_requests_total{handler="base",method="other",code="200"} 2"#,
            r#"registry_http_request_duration_seconds_bucket{handler="base",method="get",le="0.005"} 0"#,
            r#"registry_http_request_duration_seconds_bucket{handler="base",method="get",le="0.01"} 1"#,
            r#"registry_http_response_size_bytes_sum{handler="base"} 6.0"#,
            "registry_http_in_flight_requests 0",
            "registry_storage_blob_upload_total 0",
            "registry_storage_upload_sessions 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("tls_certificate"));
    }
}
