//! Whether the registry lives (`/healthz`) and can do its work (`/readyz`).
//!
//! May use the store, the uploads and the file system's numbers. In: nothing of a request, so nobody needs to log in. Out:
//! JSON with each check. Looked at by many and often: what costs something is kept for some seconds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::server::page;
use crate::server::tls::Tls;
use crate::store::upload::Uploads;
use crate::store::{Page, Store};

const DEFAULT_FREE_BYTES: u64 = 256 * 1024 * 1024;
const DEFAULT_CACHE_SECONDS: u64 = 5;

/// A storage that takes longer for some bytes does not work.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is written to see whether that can be done: more than a store holds in memory of small content.
static PROBE: [u8; 64 * 1024] = [0; 64 * 1024];

/// When a registry calls itself ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthSettings {
    /// With fewer free bytes where the content is kept the registry is not ready (268435456, which is 256 MiB).
    pub free_bytes: Option<u64>,
    /// For how many seconds an outcome is kept (5).
    pub cache_seconds: Option<u64>,
}

/// What there is to check.
#[derive(Debug)]
pub(crate) struct Health {
    settings: HealthSettings,
    directory: Option<PathBuf>,
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

#[derive(Debug, Serialize)]
struct Alive {
    status: &'static str,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Report {
    status: &'static str,
    checks: Checks,
}

#[derive(Debug, Serialize)]
struct Checks {
    storage: Check,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Check>,
    uploads: Check,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    ok: bool,
    /// What was found; for strangers too, so no path.
    message: String,
}

impl Check {
    fn new(ok: bool, message: impl Into<String>) -> Self {
        Self { ok, message: message.into() }
    }
}

impl Health {
    /// `directory` is where the content is kept, if that is on a disk of this machine.
    pub(crate) fn new(settings: HealthSettings, directory: Option<PathBuf>) -> Self {
        Self { settings, directory, last: Mutex::default() }
    }

    /// The process answers.
    pub(crate) fn alive() -> Response {
        uncached(page::json(&Alive { status: "ok", version: env!("CARGO_PKG_VERSION") }, "application/json"))
    }

    /// Whether a push would be taken now. `most` is how many uploads may be open.
    pub(crate) async fn ready(
        &self,
        store: &Arc<dyn Store>,
        uploads: &Uploads,
        most: usize,
        tls: Option<&Tls>,
    ) -> Response {
        let report = self.report(store, uploads, most, tls).await;
        let mut response = uncached(page::json(&*report, "application/json"));
        if report.status != "ready" {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }

    /// One looks; others who ask meanwhile wait for it and have the same.
    async fn report(
        &self,
        store: &Arc<dyn Store>,
        uploads: &Uploads,
        most: usize,
        tls: Option<&Tls>,
    ) -> Arc<Report> {
        let keep = Duration::from_secs(self.settings.cache_seconds.unwrap_or(DEFAULT_CACHE_SECONDS));
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < keep
        {
            return Arc::clone(report);
        }
        let checks = Checks {
            storage: storage(store).await,
            disk: self.disk().await,
            uploads: sessions(uploads, most),
            certificate: tls.map(certificate),
        };
        let all =
            [Some(&checks.storage), checks.disk.as_ref(), Some(&checks.uploads), checks.certificate.as_ref()];
        let ready = all.into_iter().flatten().all(|check| check.ok);
        if !ready {
            tracing::warn!(target: "idp::registry", ?checks, "the registry is not ready");
        }
        let report = Arc::new(Report { status: if ready { "ready" } else { "not ready" }, checks });
        *last = Some((Instant::now(), Arc::clone(&report)));
        report
    }

    async fn disk(&self) -> Option<Check> {
        let directory = self.directory.clone()?;
        let wanted = self.settings.free_bytes.unwrap_or(DEFAULT_FREE_BYTES);
        // A network's file system may think about it.
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&directory));
        let found = tokio::time::timeout(PATIENCE, asked).await;
        Some(match found {
            Ok(Ok(Ok(found))) => {
                let free = found.f_bavail.saturating_mul(found.f_frsize);
                let message = format!("{free} bytes are free; {wanted} must be");
                Check::new(free >= wanted, message)
            }
            Ok(Ok(Err(error))) => Check::new(false, format!("the free space is not known: {error}")),
            Ok(Err(_)) | Err(_) => Check::new(false, "the file system does not answer"),
        })
    }
}

/// Some bytes are written, and dropped before they are content; and what is there is asked for, which of an object store is
/// what goes over the network: it sends nothing before it has a part.
async fn storage(store: &Arc<dyn Store>) -> Check {
    let probe = async {
        store.stage().await?.append(vec![Bytes::from_static(&PROBE)]).await?;
        store.repositories(&Page { after: None, limit: 1 }).await.map(drop)
    };
    match tokio::time::timeout(PATIENCE, probe).await {
        Ok(Ok(())) => Check::new(true, "takes content"),
        Ok(Err(error)) => {
            tracing::error!(target: "idp::registry", %error, "the storage does not answer a probe");
            Check::new(false, "does not take content; the registry's log says why")
        }
        Err(_) => Check::new(false, format!("did not take content in {} seconds", PATIENCE.as_secs())),
    }
}

fn sessions(uploads: &Uploads, most: usize) -> Check {
    let open = uploads.count();
    Check::new(open < most, format!("{open} of at most {most} are open"))
}

fn certificate(tls: &Tls) -> Check {
    match tls.ends().duration_since(SystemTime::now()) {
        Ok(left) => Check::new(true, format!("good for {} days", left.as_secs() / (24 * 60 * 60))),
        Err(_) => Check::new(false, "its time is over"),
    }
}

fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
