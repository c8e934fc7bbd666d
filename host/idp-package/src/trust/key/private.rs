//! Private keys: PEM with PKCS#8, plain or as cosign keeps it under a password.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use idp_oci::secret::Secret;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};
use zeroize::Zeroizing;

use super::{Algorithm, KeyError, LONGEST, PublicKey, boxed};

/// What cosign calls the PEM block of a key under a password, now and before version 2.
pub(super) const SIGSTORE: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
const COSIGN: &str = "ENCRYPTED COSIGN PRIVATE KEY";

/// A key that signs. `Debug` shows its public half's name.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public.id().to_string()).finish_non_exhaustive()
    }
}

/// A key file, as far as one may be long.
pub(super) fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let most = LONGEST as u64 + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST));
    fs_err::File::open(path)?.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// A PEM tag of a stranger's file, for an error.
pub(super) fn shown(tag: &str) -> String {
    tag.chars().filter(|character| !character.is_control()).take(60).collect()
}

impl PrivateKey {
    /// Reads a PEM file; see [`Self::parse`].
    ///
    /// # Errors
    /// When it cannot be read, is no private key, or the password is another one.
    pub fn read(path: &Path, password: Option<&Secret>) -> Result<Self, KeyError> {
        Self::parse(&read_file(path)?, password)
    }

    /// Reads PEM. A key under a password that was given none is tried with the empty one: cosign makes such keys when no password
    /// is entered. Deriving a key from a password takes a good part of a second and 64 MiB.
    ///
    /// # Errors
    /// When it is no private key, or the password is another one.
    pub fn parse(text: &[u8], password: Option<&Secret>) -> Result<Self, KeyError> {
        if text.len() > LONGEST {
            return Err(KeyError::Unreadable(format!("longer than {LONGEST} bytes; this is no key")));
        }
        let pem = pem::parse(text).map_err(|_| {
            KeyError::Unreadable(format!("no PEM: a private key begins with a line `-----BEGIN {SIGSTORE}-----` or `-----BEGIN PRIVATE KEY-----`"))
        })?;
        let tag = pem.tag().to_owned();
        let body = Zeroizing::new(pem.into_contents());
        match tag.as_str() {
            SIGSTORE | COSIGN => {
                let empty = Secret::default();
                Self::from_pkcs8(&boxed::open(&body, password.unwrap_or(&empty))?)
            }
            "PRIVATE KEY" => Self::from_pkcs8(&body),
            "PUBLIC KEY" => Err(KeyError::Unreadable(
                "this is the public key; signing takes the private one, which cosign writes to `cosign.key`".to_owned(),
            )),
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Unsupported(
                "a PKCS#8 key under a password of OpenSSL's kind; take that off (openssl pkcs8 -in FILE -out PLAIN), and put one of \
                 cosign's on (cosign import-key-pair --key PLAIN)"
                    .to_owned(),
            )),
            "EC PRIVATE KEY" | "RSA PRIVATE KEY" => Err(KeyError::Unsupported(format!(
                "`{tag}` is not PKCS#8; convert it: openssl pkcs8 -topk8 -nocrypt -in FILE -out PKCS8"
            ))),
            tag => Err(KeyError::Unreadable(format!("a PEM block `{}`, which is no private key", shown(tag)))),
        }
    }

    /// Reads a PKCS#8 document.
    pub(super) fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        for (algorithm, signing) in [
            (Algorithm::EcdsaP256, &ECDSA_P256_SHA256_ASN1_SIGNING),
            (Algorithm::EcdsaP384, &ECDSA_P384_SHA384_ASN1_SIGNING),
        ] {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(signing, document, &random) {
                let public = PublicKey::from_raw(algorithm, pair.public_key().as_ref());
                return Ok(Self { pair: Pair::Ecdsa(pair), public });
            }
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document) {
            let public = PublicKey::from_raw(Algorithm::Ed25519, pair.public_key().as_ref());
            return Ok(Self { pair: Pair::Ed25519(pair), public });
        }
        Err(KeyError::Unsupported(
            "the private key is no ECDSA key (P-256, P-384; with its public half inside, as every tool writes it) and no Ed25519 key; \
             make one with `idp package key generate` or `cosign generate-key-pair`"
                .to_owned(),
        ))
    }

    /// The half that everybody may have.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                Ok(signature.map_err(|_| KeyError::NoRandomness)?.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}
