//! The keys of somebody else's token service: a bundle of PEM certificates and public keys, or a JWKS file (RFC 7517), read
//! again when it changes. Certificates are trusted as they stand in the bundle: nothing is looked for behind them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde::Deserialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::jws::{Claims, KeyKind, PublicKey, TokenError, Unverified};
use crate::server::private::{Stamp, Watched};

/// Why a file of trusted keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    /// It cannot be read.
    #[error("cannot read the keys of the token service: {0}")]
    Read(#[source] std::io::Error),
    /// It holds something else.
    #[error("`{}` is neither a JWKS document nor PEM certificates or public keys: {why}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It holds no key that tokens could be signed with.
    #[error("`{}` holds no RSA (2048 bits or more), P-256, P-384 or Ed25519 key", .0.display())]
    Empty(PathBuf),
}

/// Keys that are trusted.
#[derive(Debug)]
pub(crate) struct TrustedKeys {
    file: Watched,
    keys: RwLock<Arc<Vec<PublicKey>>>,
}

impl TrustedKeys {
    pub(crate) fn read(path: &Path) -> Result<Self, TrustedError> {
        let stamp = Stamp::of(path).ok();
        let keys = parse(&fs_err::read(path).map_err(TrustedError::Read)?, path)?;
        Ok(Self { file: Watched::new(path.to_owned(), stamp), keys: RwLock::new(Arc::new(keys)) })
    }

    /// The claims of a token that one of them has signed. A key that the token names is tried first; names of keys are
    /// made up in too many ways to say more.
    pub(crate) fn verify(&self, token: &Unverified<'_>) -> Result<Claims, TokenError> {
        let keys = self.current();
        let named = |key: &&PublicKey| token.header.kid.is_some() && key.id == token.header.kid;
        let (first, rest): (Vec<_>, Vec<_>) = keys.iter().partition(named);
        token.verify(first.into_iter().chain(rest))
    }

    fn current(&self) -> Arc<Vec<PublicKey>> {
        if self.file.changed() {
            let read = fs_err::read(&self.file.path).map_err(TrustedError::Read);
            match read.and_then(|bytes| parse(&bytes, &self.file.path)) {
                Ok(keys) => *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys),
                Err(error) => {
                    tracing::error!(target: "idp::registry", %error, "the trusted keys changed and cannot be used; those before hold on");
                }
            }
        }
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<Vec<PublicKey>, TrustedError> {
    let form = |why: String| TrustedError::Form { path: path.to_owned(), why };
    let keys = if bytes.trim_ascii_start().starts_with(b"{") {
        let set: KeySet = serde_json::from_slice(bytes).map_err(|error| form(error.to_string()))?;
        set.keys.iter().filter_map(Jwk::key).collect()
    } else {
        pem(bytes).map_err(form)?
    };
    if keys.is_empty() { Err(TrustedError::Empty(path.to_owned())) } else { Ok(keys) }
}

fn pem(bytes: &[u8]) -> Result<Vec<PublicKey>, String> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (kind, der) = section.map_err(|error| error.to_string())?;
        let key = match kind {
            SectionKind::Certificate => {
                let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
                of_info(certificate.public_key())
            }
            SectionKind::PublicKey => {
                let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|error| error.to_string())?;
                of_info(&info)
            }
            // Whoever has it here could make tokens.
            _ => return Err("it holds something that does not belong here, such as a private key".to_owned()),
        };
        keys.extend(key.map(|kind| PublicKey { id: None, algorithm: None, kind }));
    }
    Ok(keys)
}

/// A key that we can check signatures with; others are left out (RFC 3279, RFC 5480, RFC 8410).
fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Option<KeyKind> {
    let bytes = info.subject_public_key.data.to_vec();
    let curve = || info.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
    match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => Some(KeyKind::Rsa(bytes)),
        "1.2.840.10045.2.1" => match curve()?.as_str() {
            "1.2.840.10045.3.1.7" => Some(KeyKind::P256(bytes)),
            "1.3.132.0.34" => Some(KeyKind::P384(bytes)),
            _ => None,
        },
        "1.3.101.112" => Some(KeyKind::Ed25519(bytes)),
        _ => None,
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// A key of a JWKS document; what is not known of it is left out, as it may be for others.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn key(&self) -> Option<PublicKey> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let decode =
            |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_deref()?.trim_end_matches('=')).ok();
        let point = |size: usize| {
            let (x, y) = (decode(&self.x)?, decode(&self.y)?);
            (x.len() == size && y.len() == size).then(|| [vec![4], x, y].concat())
        };
        let kind = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let n = decode(&self.n)?;
                // Some write a leading zero, which ring takes for an error.
                let start = n.iter().position(|byte| *byte != 0)?;
                KeyKind::RsaParts { n: n[start..].to_vec(), e: decode(&self.e)? }
            }
            ("EC", Some("P-256")) => KeyKind::P256(point(32)?),
            ("EC", Some("P-384")) => KeyKind::P384(point(48)?),
            ("OKP", Some("Ed25519")) => KeyKind::Ed25519(decode(&self.x)?),
            _ => return None,
        };
        Some(PublicKey { id: self.kid.clone(), algorithm: self.alg.clone(), kind })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{KeyKind, TrustedError, parse};

    fn read(text: &str) -> Result<Vec<super::PublicKey>, TrustedError> {
        parse(text.as_bytes(), Path::new("keys"))
    }

    #[test]
    fn key_sets() {
        // RFC 8037, appendix A.2; RFC 7517, appendix A.1; a shared secret and an encryption key, which are left out.
        let text = r#"{"keys":[
            {"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"ed"},
            {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc"},
            {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","alg":"ES256"},
            {"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"},
            {"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
            {"kty":"RSA","n":"AQAB","e":"AQAB","unknown":[]}]}"#;
        let keys = read(text).expect("keys");
        assert!(matches!(&keys[0].kind, KeyKind::Ed25519(key) if key.len() == 32));
        assert_eq!(keys[0].id.as_deref(), Some("ed"));
        assert!(matches!(&keys[1].kind, KeyKind::P256(point) if point.len() == 65));
        assert!(matches!(&keys[2].kind, KeyKind::RsaParts { .. }));
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn certificates_and_keys_in_pem() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["issuer".to_owned()])
            .expect("names")
            .self_signed(&pair)
            .expect("signed");
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let text = format!("{}\n{}", certificate.pem(), other.public_key_pem());
        let keys = read(&text).expect("keys");
        assert!(matches!(&keys[0].kind, KeyKind::P256(point) if point == pair.public_key_raw()));
        assert!(matches!(&keys[1].kind, KeyKind::Ed25519(key) if key == other.public_key_raw()));
        let error = read(&format!("{text}{}", pair.serialize_pem())).expect_err("a private key");
        assert!(error.to_string().contains("private key"), "{error}");
    }

    #[test]
    fn what_holds_no_key() {
        for text in ["", "text", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#] {
            assert!(matches!(read(text), Err(TrustedError::Empty(_))), "{text}");
        }
        for text in [
            "{",
            "{}",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n%\n",
        ] {
            assert!(matches!(read(text), Err(TrustedError::Form { .. } | TrustedError::Empty(_))), "{text}");
        }
    }
}
