//! Public keys: PEM with a SubjectPublicKeyInfo, as `openssl` and cosign write them.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idp_oci::digest::Digest;
use pem::{EncodeConfig, LineEnding, Pem};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use serde::{Serialize, Serializer};
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{KeyError, LONGEST};

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// ECDSA over P-256.
    EcdsaP256,
    /// ECDSA over P-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

/// A key's name: the SHA-256 digest of its SubjectPublicKeyInfo.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Digest);

impl KeyId {
    /// As a sigstore bundle hints at it: the digest's bytes in base64.
    pub fn hint(&self) -> String {
        let hex = self.0.hex().as_bytes();
        let nibble = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
        let bytes: Vec<u8> = hex.chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect();
        STANDARD.encode(bytes)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A key that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// The point, the 32 bytes, or the RSAPublicKey.
    raw: Vec<u8>,
    spki: Vec<u8>,
    id: KeyId,
}

/// DER of a SubjectPublicKeyInfo up to the key, for keys of one length.
const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const P384: &[u8] =
    b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

impl PublicKey {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// When it cannot be read, is no public key, or is one of a kind that is not supported.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&super::private::read_file(path)?)
    }

    /// Reads PEM.
    ///
    /// # Errors
    /// When it is no public key, or one of a kind that is not supported.
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        if text.len() > LONGEST {
            return Err(KeyError::Unreadable(format!("longer than {LONGEST} bytes; this is no key")));
        }
        let pem = pem::parse(text).map_err(|_| {
            KeyError::Unreadable(
                "no PEM: a public key begins with a line `-----BEGIN PUBLIC KEY-----`".to_owned(),
            )
        })?;
        match pem.tag() {
            "PUBLIC KEY" => Self::from_spki(pem.contents()),
            tag if tag.ends_with("PRIVATE KEY") => Err(KeyError::Unreadable(
                "this is the private key, where its public half is wanted; cosign writes that to `cosign.pub`"
                    .to_owned(),
            )),
            "CERTIFICATE" => Err(KeyError::Unsupported(
                "this is a certificate; take the key out of it: openssl x509 -pubkey -noout -in FILE"
                    .to_owned(),
            )),
            tag => Err(KeyError::Unreadable(format!(
                "a PEM block `{}`, where `PUBLIC KEY` is wanted",
                super::private::shown(tag)
            ))),
        }
    }

    /// Reads the DER of a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When it is none, or one of a kind that is not supported.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let unreadable = || KeyError::Unreadable("the PEM block holds no public key".to_owned());
        let (rest, parsed) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| unreadable())?;
        if !rest.is_empty() {
            return Err(unreadable());
        }
        let raw = parsed.subject_public_key.data.to_vec();
        let oid = parsed.algorithm.algorithm.to_id_string();
        let curve = parsed.algorithm.parameters.as_ref().and_then(|any| Oid::try_from(any).ok());
        let curve = curve.map(|oid| oid.to_id_string());
        let algorithm = match (oid.as_str(), curve.as_deref()) {
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => Algorithm::EcdsaP256,
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => Algorithm::EcdsaP384,
            ("1.2.840.10045.2.1", _) => {
                return Err(KeyError::Unsupported(
                    "an ECDSA key on another curve than P-256 and P-384".to_owned(),
                ));
            }
            ("1.3.101.112", _) => Algorithm::Ed25519,
            ("1.2.840.113549.1.1.1", _) => Algorithm::Rsa,
            (oid, _) => {
                return Err(KeyError::Unsupported(format!(
                    "a key for {oid}; ECDSA (P-256, P-384), Ed25519 and RSA are supported"
                )));
            }
        };
        let length = match algorithm {
            Algorithm::EcdsaP256 => raw.len() == 65,
            Algorithm::EcdsaP384 => raw.len() == 97,
            Algorithm::Ed25519 => raw.len() == 32,
            Algorithm::Rsa => (256..=2048).contains(&raw.len()),
        };
        if !length {
            return Err(KeyError::Unsupported(format!(
                "a {algorithm:?} key of {} bytes; points are to be uncompressed, and RSA keys have 2048 to 8192 bits",
                raw.len()
            )));
        }
        Ok(Self { algorithm, raw, spki: spki.to_vec(), id: KeyId(Digest::of(spki)) })
    }

    /// From what `ring` gives of a key pair.
    pub(super) fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Self {
        let head = match algorithm {
            Algorithm::EcdsaP384 => P384,
            Algorithm::Ed25519 => ED25519,
            // RSA keys do not sign here.
            Algorithm::EcdsaP256 | Algorithm::Rsa => P256,
        };
        let spki = [head, raw].concat();
        Self { algorithm, raw: raw.to_vec(), id: KeyId(Digest::of(&spki)), spki }
    }

    /// What it is.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// As PEM.
    pub fn to_pem(&self) -> String {
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        pem::encode_config(&Pem::new("PUBLIC KEY", self.spki.clone()), config)
    }

    /// Whether a signature over a message is this key's.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithms: &[&'static dyn VerificationAlgorithm] = match self.algorithm {
            Algorithm::EcdsaP256 => &[&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P256_SHA384_ASN1],
            Algorithm::EcdsaP384 => &[&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA256_ASN1],
            Algorithm::Ed25519 => &[&signature::ED25519],
            Algorithm::Rsa => &[&signature::RSA_PKCS1_2048_8192_SHA256],
        };
        algorithms
            .iter()
            .any(|algorithm| UnparsedPublicKey::new(*algorithm, &self.raw).verify(message, signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::super::PrivateKey;
    use super::{Algorithm, KeyError, PublicKey};

    /// Keys and signatures over `a message` that OpenSSL made.
    const OPENSSL: [(Algorithm, &str, &str); 5] = [
        (
            Algorithm::EcdsaP256,
            include_str!("testdata/p256.pub"),
            "MEQCICVJvd/E6HBdatn2cWF573PAZi9QFyomEnXVkQqdxk/vAiB8I2JNPturetdd/F8IrTMgNtme4JQrT58T1Wwun95KTA==",
        ),
        (
            Algorithm::EcdsaP384,
            include_str!("testdata/p384.pub"),
            "MGUCMQCt6/xYIIyfeoR90TdPlYVocDNX0StBILLTDNwsmus2KnmuS9ogg32ThJO2E2kz8t0CMF0CyG14b72qYctNgDdZPzqJr99bJfnTxXx5VskUU+rbSBKVxMBWBqb3HyNkSp+z1w==",
        ),
        (
            Algorithm::EcdsaP384,
            include_str!("testdata/p384.pub"),
            "MGUCMQC0cGYcg9xN7hgWov47fMS7Cnbn5eAGQyn8JauZT3muq6hb8ccKcaIiMvObHuAGiTACMGNi2NFRknJ/LzRrwLf+xFKWg76SMD4wrRi8ssMUiOqi3a/X12980nCNPF1N+LikLA==",
        ),
        (
            Algorithm::Ed25519,
            include_str!("testdata/ed25519.pub"),
            "RdA6e08EfqX/WW+iO5il4tJe4boHa02HetIDGEr4heu8AfcAfnvbmey55I6G/dgPbnDMKlHBadZTJVnJSDIzCA==",
        ),
        (
            Algorithm::Rsa,
            include_str!("testdata/rsa.pub"),
            "TQSamSF7QoGF18pC7sqcvXG9J6pkJYU1mI2wiz93lyt23MGiADG/pUHkIzeQSzdcxS/u+0OHauf6fi8zgy0Bh1HoB/F9YzdNGYOqJa0lCOtWmt/esVFH92qT5wYrM+PWxWY/sq86Q1o2sS2znqhlF4uRO8jxZTQaCzCRwuJWa/LXCPIvj8JuBl9FPdjdBh7ESqd5+RDnjLqSiWGn+1yo7HpXlZKPtx+kQLgjr2ZUoS/yM3NfHZNp1KpRTMF623oGfuXrJsWVARb9KVu94vMsZjsNAjDD8dFNwH720S5aLXZiAgVBydbA1LoYmD6VDTVVDqReXkpXhW+/x9z5lma0Tg==",
        ),
    ];

    #[test]
    fn keys_and_signatures_of_openssl() {
        for (algorithm, text, signature) in OPENSSL {
            let key = PublicKey::parse(text.as_bytes()).expect("a key");
            let signature = STANDARD.decode(signature).expect("base64");
            assert_eq!((key.algorithm(), key.to_pem().as_str()), (algorithm, text));
            assert!(key.verify(b"a message", &signature), "{algorithm:?}");
            assert!(!key.verify(b"a massage", &signature), "{algorithm:?}");
            assert!(!key.verify(b"a message", &signature[1..]), "{algorithm:?}");
            assert!(!key.verify(b"a message", b""), "{algorithm:?}");
        }
    }

    #[test]
    fn private_keys_of_openssl() {
        for (private, public) in [
            (include_str!("testdata/p256.pem"), OPENSSL[0].1),
            (include_str!("testdata/p384.pem"), OPENSSL[1].1),
            (include_str!("testdata/ed25519.pem"), OPENSSL[3].1),
        ] {
            let private = PrivateKey::parse(private.as_bytes(), None).expect("a key");
            assert_eq!(private.public().to_pem(), public);
            let signature = private.sign(b"a message").expect("signed");
            assert!(PublicKey::parse(public.as_bytes()).expect("a key").verify(b"a message", &signature));
        }
    }

    #[test]
    fn what_is_no_key_is_told() {
        let public = |text: &str| PublicKey::parse(text.as_bytes()).expect_err(text).to_string();
        let private = |text: &str| PrivateKey::parse(text.as_bytes(), None).expect_err(text).to_string();
        let block = |tag: &str, body: &str| format!("-----BEGIN {tag}-----\n{body}\n-----END {tag}-----\n");
        for (error, expect) in [
            (public(""), "BEGIN PUBLIC KEY"),
            (public(include_str!("testdata/p521.pub")), "another curve"),
            (public(include_str!("testdata/p256.pem")), "this is the private key"),
            (public(&block("CERTIFICATE", "AAAA")), "openssl x509"),
            (public(&block("PUBLIC KEY", "AAAA")), "no public key"),
            (public(&"x".repeat(70_000)), "longer than"),
            (private("junk"), "no PEM"),
            (private(include_str!("testdata/p256.pub")), "this is the public key"),
            (private(include_str!("testdata/rsa.pem")), "no ECDSA key"),
            (private(&block("EC PRIVATE KEY", "AAAA")), "openssl pkcs8 -topk8"),
            (private(&block("ENCRYPTED PRIVATE KEY", "AAAA")), "import-key-pair"),
            (private(&block("ENCRYPTED COSIGN PRIVATE KEY", "AAAA")), "not as cosign writes it"),
        ] {
            assert!(error.contains(expect), "{error}");
        }
        assert!(matches!(PublicKey::from_spki(b"0"), Err(KeyError::Unreadable(_))));
    }

    /// `openssl pkey -pubin -outform DER | sha256sum`
    #[test]
    fn names() {
        let key = PublicKey::parse(OPENSSL[0].1.as_bytes()).expect("a key");
        assert_eq!(
            key.id().to_string(),
            "sha256:baeedcbdbc7099a95f8a11465a4d631f797421671d7c4764d1a1f04dbaea6781"
        );
        assert_eq!(key.id().hint(), "uu7cvbxwmalfihFGWk1jH3l0IWcdfEdk0aHwTbrqZ4E=");
    }
}
