//! The operator's own certificate: two PEM files, read again when either changes. In Kubernetes they change under a link.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::{Pair, TlsError, Validity};

#[derive(Debug)]
pub(super) struct Own {
    certificate: PathBuf,
    key: PathBuf,
    /// Of the files that were last read, whether they were of use or not: what is broken is told once.
    seen: Option<[Stamp; 2]>,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Result<Self, TlsError> {
        let found = std::fs::metadata(path).map_err(reading(path))?;
        Ok(Self { inode: found.ino(), size: found.size(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}

fn reading(path: &Path) -> impl FnOnce(std::io::Error) -> TlsError {
    let path = path.to_owned();
    move |error| TlsError::File { what: "reading", path, error }
}

impl Own {
    pub(super) fn open(
        certificate: PathBuf,
        key: PathBuf,
        now: SystemTime,
    ) -> Result<(Self, Pair), TlsError> {
        // Looked at before it is read: a change meanwhile is seen the next time.
        let seen = [Stamp::of(&certificate)?, Stamp::of(&key)?];
        let pair = read(&certificate, &key)?;
        if pair.ends <= now {
            let file = certificate.display();
            tracing::warn!(target: "idp::registry", %file, "TLS: the certificate's time is over; clients will refuse it");
        }
        Ok((Self { certificate, key, seen: Some(seen) }, pair))
    }

    /// The files' new content, if they changed and it is of use.
    pub(super) fn reload(&mut self, now: SystemTime) -> Result<Option<Pair>, TlsError> {
        let stamps = Stamp::of(&self.certificate).and_then(|first| Ok([first, Stamp::of(&self.key)?]));
        let stamps = match stamps {
            Ok(stamps) if Some(stamps) == self.seen => return Ok(None),
            Ok(stamps) => stamps,
            // Gone: told once, until they are there again.
            Err(_) if self.seen.is_none() => return Ok(None),
            Err(error) => {
                self.seen = None;
                return Err(error);
            }
        };
        self.seen = Some(stamps);
        let pair = read(&self.certificate, &self.key)?;
        if pair.ends <= now {
            let why = "its time is over".to_owned();
            return Err(TlsError::Unusable { path: self.certificate.clone(), why });
        }
        Ok(Some(pair))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Pair, TlsError> {
    let chain = std::fs::read(certificate).map_err(reading(certificate))?;
    let secret = Zeroizing::new(std::fs::read(key).map_err(reading(key))?);
    let unusable = |path: &Path, why: String| TlsError::Unusable { path: path.to_owned(), why };
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(certificate, format!("it is not PEM: {error}")))?;
    let Some(leaf) = chain.first() else {
        return Err(unusable(certificate, "it holds no certificate (PEM, `BEGIN CERTIFICATE`)".to_owned()));
    };
    let ends = Validity::of(leaf).map_err(|why| unusable(certificate, why))?.ends;
    let secret = PrivateKeyDer::from_pem_slice(&secret)
        .map_err(|_| unusable(key, "it holds no private key (PEM, not encrypted)".to_owned()))?;
    let key = CertifiedKey::from_der(chain, secret, &rustls::crypto::ring::default_provider()).map_err(
        |error| unusable(key, format!("it is not the key of `{}`: {error}", certificate.display())),
    )?;
    Ok(Pair { key: key.into(), ends })
}
