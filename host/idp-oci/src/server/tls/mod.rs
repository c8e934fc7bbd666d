//! TLS: which certificate the registry shows, and that it stays a good one.
//!
//! May use rustls and files; knows no HTTP but the one answer to it. In: settings, a time, connections. Out: encrypted
//! streams. The certificate is either made here (`generated.rs`: a local authority and a certificate by it, made anew
//! before it ends) or the operator's (`own.rs`: read again when its files change). Either is swapped while connections
//! go on: they keep what they began with, and the next handshake shows the new one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

mod accept;
mod generated;
mod own;
#[cfg(test)]
mod tests;

pub(crate) use accept::accept;

use generated::Generated;
use own::Own;

/// How often `serve` looks whether the certificate must be another.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(10);

const DEFAULT_CERTIFICATE_DAYS: u32 = 90;
const DEFAULT_HANDSHAKE_SECONDS: u64 = 10;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How the registry speaks TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsSettings {
    /// Whether it does; false unless given.
    pub enabled: bool,
    /// Where what is generated is kept, and the authority's certificate `ca.crt` is found; `tls` in the registry's directory unless given.
    pub directory: Option<PathBuf>,
    /// Names and addresses that the generated certificate is for, besides loopback, `localhost` and this machine's name.
    pub names: Vec<String>,
    /// For how many days a generated certificate is good (90); it is made anew when a third is left.
    pub certificate_days: Option<u32>,
    /// An own certificate instead of a generated one: a PEM file, the server's certificate first, then those that lead to its authority.
    pub certificate: Option<PathBuf>,
    /// The key of the own certificate: a PEM file.
    pub key: Option<PathBuf>,
    /// How many seconds a client may take to shake hands (10).
    pub handshake_seconds: Option<u64>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the two without the other.
    #[error("an own certificate needs both `certificate` and `key`, each a PEM file")]
    HalfOwn,
    /// A file or directory.
    #[error("TLS: {what} `{}`: {error}", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it could not be.
        #[source]
        error: std::io::Error,
    },
    /// A file holds something else.
    #[error("TLS: `{}` is not usable: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A name that no certificate can carry.
    #[error("TLS: `{name}` cannot stand in a certificate: {why}")]
    Name {
        /// The name, as it was given.
        name: String,
        /// Why not.
        why: String,
    },
    /// Making keys and certificates.
    #[error("TLS: cannot make a certificate: {0}")]
    Making(String),
}

/// A certificate with its key, ready to be shown, and when it ends.
#[derive(Debug, Clone)]
struct Pair {
    key: Arc<CertifiedKey>,
    ends: SystemTime,
}

/// What the next handshake is shown.
#[derive(Debug)]
struct Shown(RwLock<Pair>);

impl Shown {
    fn now(&self) -> Pair {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, pair: Pair) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().key)
    }
}

#[derive(Debug)]
enum Kind {
    Generated(Generated),
    Own(Own),
}

/// TLS for a listener: 1.2 and 1.3, HTTP/1.1.
#[derive(Debug)]
pub struct Tls {
    /// Locked while it is looked at whether the certificate must be another.
    kind: Mutex<Kind>,
    authority: Option<PathBuf>,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
    handshake: Duration,
}

impl Tls {
    /// Reads or makes the certificate. `directory` is where what is generated is kept unless the settings say otherwise.
    /// Blocks: keys are made and written.
    pub fn open(settings: &TlsSettings, directory: &Path, now: SystemTime) -> Result<Self, TlsError> {
        let (kind, pair, authority) = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => {
                let (own, pair) = Own::open(certificate.clone(), key.clone(), now)?;
                (Kind::Own(own), pair, None)
            }
            (None, None) => {
                let directory = settings.directory.clone().unwrap_or_else(|| directory.to_owned());
                let days = settings.certificate_days.unwrap_or(DEFAULT_CERTIFICATE_DAYS).max(1);
                let (generated, pair) = Generated::open(directory, &settings.names, DAY * days, now)?;
                let authority = generated.authority();
                (Kind::Generated(generated), pair, Some(authority))
            }
            _ => return Err(TlsError::HalfOwn),
        };
        let shown = Arc::new(Shown(RwLock::new(pair)));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Making(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let seconds = settings.handshake_seconds.unwrap_or(DEFAULT_HANDSHAKE_SECONDS).max(1);
        Ok(Self {
            kind: Mutex::new(kind),
            authority,
            shown,
            config: Arc::new(config),
            handshake: Duration::from_secs(seconds),
        })
    }

    /// The file with the certificate of the local authority, which clients are to trust; of an own certificate, none.
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// When the certificate that is shown now ends.
    pub fn ends(&self) -> SystemTime {
        self.shown.now().ends
    }

    /// Shows another certificate if it is time to: a generated one before it ends, an own one when its files changed. What
    /// goes wrong is told to the log, and the old one goes on. Costs two `stat` when nothing is to be done.
    pub fn check(&self, now: SystemTime) {
        let mut kind = self.kind.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match &mut *kind {
            Kind::Generated(generated) => generated.renew(now),
            Kind::Own(own) => own.reload(now),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(pair)) => {
                self.shown.replace(pair);
                tracing::info!(target: "idp::registry", "TLS: another certificate is shown from now on");
            }
            Err(error) => {
                tracing::error!(target: "idp::registry", %error, "the old certificate goes on");
            }
        }
    }
}

/// When a certificate begins and ends, and what it is for.
#[derive(Debug, PartialEq, Eq)]
struct Validity {
    begins: SystemTime,
    ends: SystemTime,
    names: Vec<String>,
}

impl Validity {
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        use x509_parser::extensions::GeneralName;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let time = |seconds: i64| {
            // Before 1970 is before every certificate that we are shown.
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let alternatives = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = alternatives.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        });
        Ok(Self {
            begins: time(parsed.validity().not_before.timestamp()),
            ends: time(parsed.validity().not_after.timestamp()),
            names: names.collect(),
        })
    }
}

fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    <[u8; 4]>::try_from(bytes).map(Into::into).or_else(|_| <[u8; 16]>::try_from(bytes).map(Into::into)).ok()
}
