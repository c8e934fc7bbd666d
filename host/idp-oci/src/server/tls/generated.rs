//! A local authority and a certificate by it, kept in a directory that only its owner can enter.
//!
//! | file | holds |
//! |---|---|
//! | `ca.crt` | the authority's certificate: what clients are to trust; stays for ten years |
//! | `ca.key` | its key (0600) |
//! | `server.pem` | the server's certificate, the authority's, and the server's key (0600), in one file so that they always fit |

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{DAY, Pair, TlsError, Validity};

const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// An authority with less than this left is replaced by another.
const AUTHORITY_LEFT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Clocks of clients that are behind ours.
const BEHIND: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
pub(super) struct Generated {
    directory: PathBuf,
    names: BTreeSet<String>,
    life: Duration,
    renew_at: SystemTime,
    /// After a failure not at once again.
    retry_at: SystemTime,
}

struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    ends: SystemTime,
}

impl Generated {
    pub(super) fn open(
        directory: PathBuf,
        names: &[String],
        life: Duration,
        now: SystemTime,
    ) -> Result<(Self, Pair), TlsError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed("making", &directory))?;
        let names = all_names(names)?;
        let mut generated = Self { directory, names, life, renew_at: now, retry_at: now };
        let pair = generated.current(now)?;
        Ok((generated, pair))
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// Another certificate, if it is time.
    pub(super) fn renew(&mut self, now: SystemTime) -> Result<Option<Pair>, TlsError> {
        if now < self.renew_at || now < self.retry_at {
            return Ok(None);
        }
        self.retry_at = now + BEHIND;
        self.current(now).map(Some)
    }

    /// What is kept, if it will do; else a new one.
    fn current(&mut self, now: SystemTime) -> Result<Pair, TlsError> {
        let authority = self.open_authority(now)?;
        let kept = match self.kept(&authority, now) {
            Ok(kept) => kept,
            Err(why) => {
                tracing::debug!(target: "idp::registry", %why, "TLS: a certificate is made");
                self.issue(&authority, now)?
            }
        };
        let (pair, renew_at) = kept;
        self.renew_at = renew_at;
        Ok(pair)
    }

    fn open_authority(&self, now: SystemTime) -> Result<Authority, TlsError> {
        let (certificate, key) = (self.authority(), self.directory.join("ca.key"));
        // The key is written first: a certificate without one is none that we made.
        let pem = match std::fs::read_to_string(&certificate) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.make_authority(now),
            Err(error) => return Err(failed("reading", &certificate)(error)),
        };
        let secret = Zeroizing::new(std::fs::read_to_string(&key).map_err(failed("reading", &key))?);
        let unusable = |path: &Path, why: String| {
            let why = format!(
                "{why}; remove `ca.crt` to have another authority made, which clients must then trust anew"
            );
            TlsError::Unusable { path: path.to_owned(), why }
        };
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| unusable(&certificate, format!("it is no certificate: {error}")))?;
        let validity = Validity::of(&der).map_err(|why| unusable(&certificate, why))?;
        // What it signs ends before it does; an authority that is about to end is replaced while the old leaf still stands.
        if validity.ends < now + self.life.min(AUTHORITY_LEFT) {
            tracing::warn!(target: "idp::registry", file = %certificate.display(), "TLS: the authority's time is over and another is made; clients must trust it anew");
            return self.make_authority(now);
        }
        let key_pair = KeyPair::from_pem(&secret)
            .map_err(|error| unusable(&key, format!("it is no private key: {error}")))?;
        let private = PrivateKeyDer::from_pem_slice(secret.as_bytes())
            .map_err(|error| unusable(&key, format!("it is no private key: {error}")))?;
        CertifiedKey::from_der(vec![der.clone()], private, &rustls::crypto::ring::default_provider())
            .map_err(|error| unusable(&key, format!("it is not the key of `ca.crt`: {error}")))?;
        let issuer = Issuer::from_ca_cert_der(&der, key_pair)
            .map_err(|error| unusable(&certificate, format!("it is no authority: {error}")))?;
        Ok(Authority { certificate: der, pem, issuer, ends: validity.ends })
    }

    fn make_authority(&self, now: SystemTime) -> Result<Authority, TlsError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = rcgen::DistinguishedName::new();
        let of = host_name().unwrap_or_else(|| "this machine".to_owned());
        params.distinguished_name.push(DnType::CommonName, format!("idp registry authority of {of}"));
        let ends = now + AUTHORITY_LIFE.max(self.life * 4);
        (params.not_before, params.not_after) = (offset(now - DAY)?, offset(ends)?);
        let key = KeyPair::generate().map_err(making)?;
        let certificate = params.self_signed(&key).map_err(making)?;
        let pem = certificate.pem();
        let secret = Zeroizing::new(key.serialize_pem());
        self.write("ca.key", secret.as_bytes(), 0o600)?;
        self.write("ca.crt", pem.as_bytes(), 0o644)?;
        let certificate = certificate.der().clone();
        Ok(Authority { certificate, pem, issuer: Issuer::new(params, key), ends })
    }

    /// The kept certificate and when it is to be replaced, or why it will not do.
    fn kept(&self, authority: &Authority, now: SystemTime) -> Result<(Pair, SystemTime), String> {
        let text = std::fs::read(self.directory.join("server.pem")).map_err(|error| error.to_string())?;
        let text = Zeroizing::new(text);
        let chain = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let [leaf, above] = &chain[..] else { return Err("not two certificates".to_owned()) };
        if *above != authority.certificate {
            return Err("it is by another authority".to_owned());
        }
        let validity = Validity::of(leaf)?;
        let renew_at = renewal(validity.begins, validity.ends);
        if now < validity.begins || now >= renew_at {
            return Err("its time is over, or nearly".to_owned());
        }
        if validity.names.into_iter().collect::<BTreeSet<_>>() != self.names {
            return Err("it is for other names".to_owned());
        }
        let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|error| error.to_string())?;
        Ok((pair(leaf.clone(), secret, validity.ends)?, renew_at))
    }

    fn issue(&self, authority: &Authority, now: SystemTime) -> Result<(Pair, SystemTime), TlsError> {
        let names: Vec<String> = self.names.iter().cloned().collect();
        let mut params = CertificateParams::new(names).map_err(making)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "idp registry");
        let (begins, ends) = (now - BEHIND, (now + self.life).min(authority.ends));
        (params.not_before, params.not_after) = (offset(begins)?, offset(ends)?);
        let key = KeyPair::generate().map_err(making)?;
        let certificate = params.signed_by(&key, &authority.issuer).map_err(making)?;
        let secret = Zeroizing::new(key.serialize_pem());
        let text = Zeroizing::new(format!("{}{}{}", certificate.pem(), authority.pem, *secret));
        self.write("server.pem", text.as_bytes(), 0o600)?;
        let secret = PrivateKeyDer::from_pem_slice(secret.as_bytes())
            .map_err(|error| TlsError::Making(error.to_string()))?;
        let pair = pair(certificate.der().clone(), secret, ends).map_err(TlsError::Making)?;
        Ok((pair, renewal(begins, ends)))
    }

    /// Whole or not at all, and there after a crash.
    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
        let path = self.directory.join(name);
        let write = || -> io::Result<()> {
            // 0600 until it is something else.
            let mut temporary = tempfile::NamedTempFile::new_in(&self.directory)?;
            temporary.write_all(bytes)?;
            temporary.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path).map_err(|error| error.error)?;
            std::fs::File::open(&self.directory)?.sync_all()
        };
        write().map_err(failed("writing", &path))
    }
}

/// When a third is left.
fn renewal(begins: SystemTime, ends: SystemTime) -> SystemTime {
    ends - ends.duration_since(begins).unwrap_or_default() / 3
}

fn pair(
    leaf: CertificateDer<'static>,
    secret: PrivateKeyDer<'static>,
    ends: SystemTime,
) -> Result<Pair, String> {
    let key = CertifiedKey::from_der(vec![leaf], secret, &rustls::crypto::ring::default_provider())
        .map_err(|error| error.to_string())?;
    Ok(Pair { key: key.into(), ends })
}

fn offset(time: SystemTime) -> Result<OffsetDateTime, TlsError> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or_else(|| TlsError::Making("the clock is at a time that certificates cannot have".to_owned()))
}

fn making(error: rcgen::Error) -> TlsError {
    TlsError::Making(error.to_string())
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TlsError {
    let path = path.to_owned();
    move |error| TlsError::File { what, path, error }
}

/// Loopback, this machine, and what is wanted besides; spelled as certificates have them.
fn all_names(wanted: &[String]) -> Result<BTreeSet<String>, TlsError> {
    let mut names = BTreeSet::from(["127.0.0.1", "::1", "localhost"].map(str::to_owned));
    names.extend(host_name());
    for name in wanted {
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse::<IpAddr>() {
            names.insert(address.to_string());
        } else if is_host(name) {
            names.insert(name.to_ascii_lowercase());
        } else {
            let why = "a name is made of letters, digits, `-`, `_` and dots, and may begin with `*.`; it has no port";
            return Err(TlsError::Name { name: name.clone(), why: why.to_owned() });
        }
    }
    Ok(names)
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    (is_host(&name) && !name.starts_with('*')).then_some(name)
}

fn is_host(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    rest.len() <= 253 && rest.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::{all_names, is_host};

    #[test]
    fn names() {
        for (name, good) in [
            ("localhost", true),
            ("idp-registry", true),
            ("a.b-c.example", true),
            ("*.example", true),
            ("", false),
            ("a..b", false),
            ("a:5000", false),
            ("ä.example", false),
            ("a b", false),
            ("*", false),
        ] {
            assert_eq!(is_host(name), good, "{name}");
        }
        let names = all_names(&["[FE80::1]".to_owned(), "Registry.Example".to_owned()]).expect("names");
        for name in ["127.0.0.1", "::1", "localhost", "fe80::1", "registry.example"] {
            assert!(names.contains(name), "{name}: {names:?}");
        }
        let error = all_names(&["registry:5000".to_owned()]).expect_err("a port");
        assert!(error.to_string().contains("no port"), "{error}");
    }
}
