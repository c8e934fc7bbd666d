//! What a registry puts up with: sizes, counts, times and rates; and how they are configured.
//!
//! In: settings. Out: [`Limits`], and the refusal of a request whose head is too much. What a body may have is checked
//! where it is read.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::request::Parts;
use serde::Deserialize;

use crate::server::error::Error;
use crate::server::htpasswd::default_failures;
use crate::server::sender::{Network, NetworkError};
use crate::server::throttle::Rate;
use crate::store::upload::UploadLimits;

/// What a registry puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest manifest, in bytes; at most [`MAX_MANIFEST`](crate::manifest::MAX_MANIFEST).
    pub manifest_bytes: u64,
    /// The largest blob, in bytes.
    pub blob_bytes: u64,
    /// Whether an index may name manifests that are not here (yet).
    pub sparse_indexes: bool,
    /// Headers of a request. Above 100 the connection itself refuses, without a word.
    pub headers: usize,
    /// Names and values of all headers of a request, in bytes.
    pub header_bytes: usize,
    /// A request's target: path and query, in bytes.
    pub target_bytes: usize,
    /// Tags that one request gives to a manifest.
    pub tags: usize,
    /// Entries of a page of a list, however many are asked for.
    pub page_entries: usize,
    /// The form of a request for a token, in bytes.
    pub token_body_bytes: u64,
    /// Blobs that are received at once.
    pub receiving: usize,
    /// How long a client may take for its headers, and an unused connection is kept.
    pub header_patience: Duration,
    /// How long a body may pause.
    pub body_patience: Duration,
    /// Connections at once; others wait to be accepted.
    pub connections: usize,
    /// Sessions of uploads.
    pub uploads: UploadLimits,
    /// How often anybody may ask.
    pub rates: Rates,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 * 1024 * 1024,
            blob_bytes: u64::MAX,
            sparse_indexes: true,
            headers: 64,
            header_bytes: 32 * 1024,
            target_bytes: 16 * 1024,
            tags: 100,
            page_entries: 1000,
            token_body_bytes: 64 * 1024,
            receiving: 1024,
            header_patience: Duration::from_secs(60),
            body_patience: Duration::from_secs(60),
            connections: 1024,
            uploads: UploadLimits::default(),
            rates: Rates::default(),
        }
    }
}

/// How often each user, or each address that nobody logged in from, may ask. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// GET and HEAD.
    pub reads: Option<Rate>,
    /// Everything else.
    pub writes: Option<Rate>,
    /// Passwords that turned out wrong, of an address.
    pub failed_logins: Option<Rate>,
}

impl Default for Rates {
    fn default() -> Self {
        Self { reads: None, writes: None, failed_logins: default_failures() }
    }
}

/// `limits:` of the registry's settings. What is not set keeps its default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitSettings {
    /// The largest manifest, in bytes; 4 MiB, and never more than this program reads.
    pub manifest_bytes: Option<u64>,
    /// The largest blob, in bytes; any.
    pub blob_bytes: Option<u64>,
    /// Whether an index may name manifests that are not here (yet); true.
    pub sparse_indexes: Option<bool>,
    /// Headers of a request; 64, and never more than 100.
    pub headers: Option<usize>,
    /// Names and values of all headers of a request, in bytes; 32 KiB.
    pub header_bytes: Option<usize>,
    /// A request's target, path and query, in bytes; 16 KiB.
    pub target_bytes: Option<usize>,
    /// Tags that one request gives to a manifest; 100.
    pub tags: Option<usize>,
    /// Entries of a page of a list; 1000.
    pub page_entries: Option<usize>,
    /// The form of a request for a token, in bytes; 64 KiB.
    pub token_body_bytes: Option<u64>,
    /// Blobs that are received at once; 1024.
    pub concurrent_uploads: Option<usize>,
    /// Connections at once; 1024.
    pub connections: Option<usize>,
    /// Sessions of uploads that are open at once; 10000.
    pub upload_sessions: Option<usize>,
    /// The same of one user, or of one address that nobody logged in from; 1000.
    pub upload_sessions_per_user: Option<usize>,
    /// After how many seconds without a byte a session is given up; 86400.
    pub upload_expiry_seconds: Option<u64>,
    /// How long a client may take for its headers, and an unused connection is kept, in seconds; 60.
    pub header_seconds: Option<u64>,
    /// How long a body may pause, in seconds; 60.
    pub body_seconds: Option<u64>,
}

/// `rates:` of the registry's settings. 0 is no limit; a burst of 0 is a minute's worth.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateSettings {
    /// GET and HEAD of a user, or of an address that nobody logged in from, a minute; 0.
    pub reads_per_minute: u32,
    /// As many at once; 0.
    pub read_burst: u32,
    /// All other requests, a minute; 0.
    pub writes_per_minute: u32,
    /// As many at once; 0.
    pub write_burst: u32,
    /// Wrong passwords of an address, a minute; 10.
    pub failed_logins_per_minute: Option<u32>,
    /// As many at once; 10.
    pub failed_login_burst: Option<u32>,
    /// Networks (`10.0.0.0/8`) of proxies before this registry, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; none.
    pub trusted_proxies: Vec<String>,
}

impl RateSettings {
    /// The rates.
    pub fn rates(&self) -> Rates {
        let per_minute = self.failed_logins_per_minute.unwrap_or(10);
        Rates {
            reads: Rate::new(self.reads_per_minute, self.read_burst),
            writes: Rate::new(self.writes_per_minute, self.write_burst),
            failed_logins: Rate::new(per_minute, self.failed_login_burst.unwrap_or(10)),
        }
    }

    /// The proxies.
    pub fn proxies(&self) -> Result<Arc<[Network]>, NetworkError> {
        self.trusted_proxies.iter().map(|text| text.parse()).collect()
    }
}

impl Limits {
    /// What is configured, and the defaults.
    pub fn new(settings: &LimitSettings, rates: Rates) -> Self {
        let (or, seconds) = (Self::default(), Duration::from_secs);
        Self {
            manifest_bytes: settings.manifest_bytes.unwrap_or(or.manifest_bytes),
            blob_bytes: settings.blob_bytes.unwrap_or(or.blob_bytes),
            sparse_indexes: settings.sparse_indexes.unwrap_or(or.sparse_indexes),
            headers: settings.headers.unwrap_or(or.headers),
            header_bytes: settings.header_bytes.unwrap_or(or.header_bytes),
            target_bytes: settings.target_bytes.unwrap_or(or.target_bytes),
            tags: settings.tags.unwrap_or(or.tags),
            page_entries: settings.page_entries.unwrap_or(or.page_entries).max(1),
            token_body_bytes: settings.token_body_bytes.unwrap_or(or.token_body_bytes),
            receiving: settings.concurrent_uploads.unwrap_or(or.receiving).max(1),
            header_patience: settings.header_seconds.map_or(or.header_patience, seconds),
            body_patience: settings.body_seconds.map_or(or.body_patience, seconds),
            connections: settings.connections.unwrap_or(or.connections).max(1),
            uploads: UploadLimits {
                expiry: settings.upload_expiry_seconds.map_or(or.uploads.expiry, seconds),
                sessions: settings.upload_sessions.unwrap_or(or.uploads.sessions),
                sessions_per_owner: settings
                    .upload_sessions_per_user
                    .unwrap_or(or.uploads.sessions_per_owner),
            },
            rates,
        }
    }

    /// Refuses a request whose head is too much.
    pub(crate) fn check_head(&self, parts: &Parts) -> Result<(), Error> {
        let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.target_bytes {
            let message = format!(
                "the target of the request has {target} bytes; at most {} are read",
                self.target_bytes
            );
            return Err(Error::new(StatusCode::URI_TOO_LONG, "UNSUPPORTED", message));
        }
        let too_large =
            |message: String| Error::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "UNSUPPORTED", message);
        if parts.headers.len() > self.headers {
            let message =
                format!("the request has {} headers; at most {} are read", parts.headers.len(), self.headers);
            return Err(too_large(message));
        }
        let size = |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len();
        let bytes: usize = parts.headers.iter().map(size).sum();
        if bytes > self.header_bytes {
            let message = format!(
                "the headers of the request have {bytes} bytes; at most {} are read",
                self.header_bytes
            );
            return Err(too_large(message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LimitSettings, Limits, RateSettings, Rates};
    use crate::server::throttle::Rate;

    #[test]
    fn what_is_configured() {
        let settings: LimitSettings = serde_json::from_str(
            r#"{"blobBytes":5,"uploadSessionsPerUser":3,"headerSeconds":7,"connections":0}"#,
        )
        .expect("settings");
        let limits = Limits::new(&settings, Rates::default());
        assert_eq!((limits.blob_bytes, limits.uploads.sessions_per_owner, limits.connections), (5, 3, 1));
        assert_eq!(limits.header_patience, Duration::from_secs(7));
        assert_eq!(limits.headers, 64);
        assert!(serde_json::from_str::<LimitSettings>(r#"{"blobByte":5}"#).is_err());

        let settings: RateSettings =
            serde_json::from_str(r#"{"readsPerMinute":60,"trustedProxies":["10.0.0.0/8"]}"#)
                .expect("settings");
        let rates = settings.rates();
        assert_eq!((rates.reads, rates.writes), (Rate::new(60, 60), None));
        assert_eq!(rates.failed_logins, Rates::default().failed_logins);
        assert_eq!(settings.proxies().expect("networks").len(), 1);
        let off = RateSettings { failed_logins_per_minute: Some(0), ..RateSettings::default() };
        assert_eq!(off.rates().failed_logins, None);
    }
}
