//! Keyless signatures, verified offline against a trusted root that the user gives: the certificate and its SCT, the entry in the log or
//! the timestamp, the signature, and then who it is by. The work is `sigstore-verify`'s; its cryptography is `ring`, by the provider below.
//!
//! `ring` cannot verify over a digest alone. That is asked for where the signed thing is not at hand, which a manifest always is.

use std::path::Path;

use idp_oci::digest::Algorithm;
use ring::digest::{Context, SHA256, SHA384, SHA512};
use ring::signature::{self as signing, UnparsedPublicKey, VerificationAlgorithm};
use sigstore_verify::crypto::{self, CryptoProvider, HashContext, SigningScheme};
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::{Artifact, Bundle, HashAlgorithm, Sha256Hash};
use sigstore_verify::{VerificationPolicy, Verifier};

use super::TrustError;
use super::bundle::Keyless;
use super::verify::{KeylessVerifier, Subject};

/// No trusted root is larger.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Whom to believe without a key: an identity as an issuer certified it, under this root.
pub struct KeylessTrust {
    verifier: Verifier,
    policy: VerificationPolicy,
}

impl std::fmt::Debug for KeylessTrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeylessTrust").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl KeylessTrust {
    /// `root` is a `trusted_root.json`; identity and issuer are compared as they are.
    ///
    /// # Errors
    /// When the file cannot be read or is no trusted root.
    pub fn read(root: &Path, identity: &str, issuer: &str) -> Result<Self, TrustError> {
        let unreadable = |problem: &dyn std::fmt::Display| {
            TrustError::document("sense of the trusted root", format_args!("{}: {problem}", root.display()))
        };
        let size = fs_err::metadata(root).map_err(|error| unreadable(&error))?.len();
        if size > LARGEST {
            return Err(unreadable(&format_args!("{size} bytes; this is none")));
        }
        let text = fs_err::read_to_string(root).map_err(|error| unreadable(&error))?;
        Self::parse(&text, identity, issuer).map_err(|error| unreadable(&error))
    }

    pub(super) fn parse(text: &str, identity: &str, issuer: &str) -> Result<Self, String> {
        // Of two providers the first stays; there is no other here.
        let _ = crypto::install_default_provider(&Ring);
        let root = TrustedRoot::from_json(text).map_err(|error| error.to_string())?;
        let verifier = Verifier::new(&root).map_err(|error| error.to_string())?;
        Ok(Self { verifier, policy: VerificationPolicy::new(identity, issuer) })
    }
}

impl KeylessVerifier for KeylessTrust {
    fn verify(&self, bundle: &[u8], subject: Subject<'_>) -> Result<Keyless, String> {
        let refused = |error: &dyn std::fmt::Display| super::clip(&error.to_string());
        let text = std::str::from_utf8(bundle).map_err(|error| refused(&error))?;
        let bundle = Bundle::from_json(text).map_err(|error| refused(&error))?;
        let hex = subject.digest.hex();
        let artifact = match (subject.bytes, subject.digest.algorithm()) {
            (Some(bytes), _) => Artifact::from_blob(bytes),
            (None, Algorithm::Sha256) => {
                Artifact::from_digest(Sha256Hash::from_hex(hex).map_err(|error| refused(&error))?)
            }
            (None, Algorithm::Sha512) => return Err("a sha512 digest alone cannot be looked for".to_owned()),
        };
        let verified =
            self.verifier.verify(artifact, &bundle, &self.policy).map_err(|error| refused(&error))?;
        Ok(Keyless {
            identity: verified.identity().map(|identity| super::clip(identity.as_str())),
            issuer: verified.issuer().map(super::clip),
        })
    }
}

/// `ring` under the interface of `sigstore-crypto`.
#[derive(Debug)]
struct Ring;

struct Hash(Context);

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

fn algorithm(scheme: SigningScheme) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match scheme {
        SigningScheme::EcdsaP256Sha256 => &signing::ECDSA_P256_SHA256_ASN1,
        SigningScheme::EcdsaP256Sha384 => &signing::ECDSA_P256_SHA384_ASN1,
        SigningScheme::EcdsaP384Sha256 => &signing::ECDSA_P384_SHA256_ASN1,
        SigningScheme::EcdsaP384Sha384 => &signing::ECDSA_P384_SHA384_ASN1,
        SigningScheme::Ed25519 => &signing::ED25519,
        SigningScheme::RsaPssSha256 => &signing::RSA_PSS_2048_8192_SHA256,
        SigningScheme::RsaPssSha384 => &signing::RSA_PSS_2048_8192_SHA384,
        SigningScheme::RsaPssSha512 => &signing::RSA_PSS_2048_8192_SHA512,
        SigningScheme::RsaPkcs1Sha256 => &signing::RSA_PKCS1_2048_8192_SHA256,
        SigningScheme::RsaPkcs1Sha384 => &signing::RSA_PKCS1_2048_8192_SHA384,
        SigningScheme::RsaPkcs1Sha512 => &signing::RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    })
}

impl CryptoProvider for Ring {
    fn hash(&self, algorithm: HashAlgorithm) -> crypto::Result<Box<dyn HashContext>> {
        let algorithm = match algorithm {
            HashAlgorithm::Sha2256 => &SHA256,
            HashAlgorithm::Sha2384 => &SHA384,
            HashAlgorithm::Sha2512 => &SHA512,
            other => return Err(crypto::Error::UnsupportedAlgorithm(other.to_string())),
        };
        Ok(Box::new(Hash(Context::new(algorithm))))
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> crypto::Result<()> {
        let unsupported = || crypto::Error::UnsupportedAlgorithm(scheme.name().to_owned());
        let key = UnparsedPublicKey::new(algorithm(scheme).ok_or_else(unsupported)?, key);
        let wrong = |_| crypto::Error::Verification(format!("{} signature invalid", scheme.name()));
        key.verify(data, signature).map_err(wrong)
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        _key: &[u8],
        _digest: &[u8],
        _signature: &[u8],
    ) -> crypto::Result<()> {
        Err(crypto::Error::UnsupportedAlgorithm(format!("{} over a digest alone", scheme.name())))
    }
}

#[cfg(test)]
mod tests {
    use idp_oci::digest::Digest;

    use super::super::bundle::Bundle;
    use super::super::verify::{Signer, Subject, Trust, Verdict, bundle};
    use super::KeylessTrust;

    /// An attestation of a package that a workflow at GitHub made, and the public root of its time (from the tests of
    /// sigstore/sigstore-rust, Apache-2.0).
    const BUNDLE: &str = include_str!("verify/testdata/workflow.sigstore.json");
    const ROOT: &str = include_str!("verify/testdata/trusted_root.json");
    const ABOUT: &str = "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";
    const WORKFLOW: &str =
        "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main";
    const ISSUER: &str = "https://token.actions.githubusercontent.com";

    fn judged(text: &str, about: &str, identity: &str, issuer: &str) -> Verdict {
        let keyless = KeylessTrust::parse(ROOT, identity, issuer).expect("a root");
        let digest: Digest = about.parse().expect("a digest");
        let parsed = Bundle::parse(text.as_bytes()).expect("a bundle");
        let trust = Trust { keys: &[], keyless: Some(&keyless) };
        let subject = Subject { digest: &digest, bytes: None };
        let found = bundle(&parsed, text.as_bytes(), &Digest::of(b""), subject, trust);
        assert_eq!(found.len(), 1);
        found[0].verdict.clone()
    }

    #[test]
    fn a_workflow_of_the_world() {
        let by = Signer::Identity { identity: WORKFLOW.to_owned(), issuer: ISSUER.to_owned() };
        assert_eq!(judged(BUNDLE, ABOUT, WORKFLOW, ISSUER), Verdict::Valid(by));
    }

    #[test]
    fn anything_else() {
        let other = Digest::of(b"other").to_string();
        let cut = &WORKFLOW[..WORKFLOW.len() - 1];
        for (about, identity, issuer) in [
            (other.as_str(), WORKFLOW, ISSUER),
            (ABOUT, cut, ISSUER),
            (ABOUT, "", ISSUER),
            (ABOUT, WORKFLOW, "https://issuer.example"),
        ] {
            let verdict = judged(BUNDLE, about, identity, issuer);
            assert!(matches!(verdict, Verdict::Invalid { .. }), "{identity} {issuer}: {verdict}");
        }
        // Another payload, another certificate's bytes, another time in the log.
        for (from, to) in [
            ("\"payload\":", "\"payload\": \"eyJ9\", \"x\":"),
            ("\"integratedTime\":", "\"integratedTime\": \"1\", \"y\":"),
        ] {
            let changed = BUNDLE.replacen(from, to, 1);
            assert_ne!(changed, BUNDLE, "{from}");
            let verdict = judged(&changed, ABOUT, WORKFLOW, ISSUER);
            assert!(matches!(verdict, Verdict::Invalid { .. }), "{from}: {verdict}");
        }
        assert!(KeylessTrust::parse("[", WORKFLOW, ISSUER).is_err());
    }
}
