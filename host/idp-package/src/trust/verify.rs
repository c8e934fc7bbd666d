//! A judgement of evidence: bytes that claim to vouch for a manifest, and the keys that count. No I/O; nothing here believes anything but
//! a signature.

use std::collections::{BTreeMap, BTreeSet};

use idp_oci::digest::Digest;
use serde::Serialize;
use serde::de::IgnoredAny;

use super::bundle::{Bundle, Keyless};
use super::dsse::{Envelope, MOST_SIGNATURES, decode, pae};
use super::key::{KeyId, PublicKey};
use super::legacy::SimpleSigning;
use super::statement::{self, COSIGN_SIGN, Statement};

/// A key that counts, and what its owner calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The file it came from.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

/// Who can tell whether a keyless signature is by whom it says, and whether that is who is wanted.
pub trait KeylessVerifier: Sync {
    /// Who signed; or why not, in words. `bundle` is as it was fetched.
    ///
    /// # Errors
    /// Anything but a good signature by the one who is wanted.
    fn verify(&self, bundle: &[u8], subject: Subject<'_>) -> Result<Keyless, String>;
}

/// Who is believed.
#[derive(Clone, Copy)]
pub struct Trust<'a> {
    /// Owners of these keys.
    pub keys: &'a [NamedKey],
    /// Somebody with a certificate; without it, such signatures are found and not verified.
    pub keyless: Option<&'a dyn KeylessVerifier>,
}

impl std::fmt::Debug for Trust<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl<'a> From<&'a [NamedKey]> for Trust<'a> {
    fn from(keys: &'a [NamedKey]) -> Self {
        Self { keys, keyless: None }
    }
}

impl<'a> From<&'a Vec<NamedKey>> for Trust<'a> {
    fn from(keys: &'a Vec<NamedKey>) -> Self {
        keys.as_slice().into()
    }
}

impl<'a, const N: usize> From<&'a [NamedKey; N]> for Trust<'a> {
    fn from(keys: &'a [NamedKey; N]) -> Self {
        keys.as_slice().into()
    }
}

/// Somebody who signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all_fields = "kebab-case", untagged)]
pub enum Signer {
    /// The owner of a key.
    Key {
        /// The key's file.
        key: String,
        /// Its name.
        key_id: KeyId,
    },
    /// Somebody with a certificate.
    Identity {
        /// An address or a workflow.
        identity: String,
        /// Who said so.
        issuer: String,
    },
}

/// What is vouched for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The digest of the manifest.
    pub digest: &'a Digest,
    /// Its bytes, where they are at hand: signatures over the manifest itself are judged by them.
    pub bytes: Option<&'a [u8]>,
}

/// What somebody says of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// That they stand by it.
    Signature,
    /// Anything else.
    Attestation,
    /// Nobody can tell.
    Unknown,
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A sigstore bundle.
    Bundle,
    /// A simple signing document.
    Legacy,
}

/// Whether it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Somebody who is believed signed it, and it is about this manifest.
    Valid(Signer),
    /// None of the keys did.
    #[serde(rename_all = "kebab-case")]
    UnknownKey {
        /// What it says about the key; nobody vouches for it.
        hint: String,
    },
    /// It is keyless, which is not verified.
    #[serde(rename_all = "kebab-case")]
    Keyless {
        /// Who it claims to be by.
        claimed: Keyless,
    },
    /// It is broken, or about something else.
    #[serde(rename_all = "kebab-case")]
    Invalid {
        /// Why.
        reason: String,
    },
}

/// What one signature amounts to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The manifest it was found in.
    pub manifest: Digest,
    /// In which form.
    pub form: Form,
    /// What it says.
    pub kind: Kind,
    /// The predicate type of an attestation. Of one that is not valid, what it claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicate_type: Option<String>,
    /// Whether it is so.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All that was found about a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verification {
    /// The manifest.
    pub subject: Digest,
    /// Who listed what refers to it: `referrers-api` or `fallback-tag`.
    pub source: String,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Why there may be more than that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<String>,
}

impl Verification {
    /// Who stands by it; each once, however often they signed.
    pub fn signers(&self) -> BTreeSet<&Signer> {
        let by = |finding: &&Finding| finding.kind == Kind::Signature;
        self.findings.iter().filter(by).filter_map(Finding::signer).collect()
    }

    /// Predicate types of valid attestations, and how many signed each.
    pub fn attested(&self) -> BTreeMap<&str, usize> {
        let mut signers: BTreeMap<&str, BTreeSet<&Signer>> = BTreeMap::new();
        for finding in self.findings.iter().filter(|finding| finding.kind == Kind::Attestation) {
            if let (Some(signer), Some(predicate)) = (finding.signer(), &finding.predicate_type) {
                signers.entry(predicate).or_default().insert(signer);
            }
        }
        signers.into_iter().map(|(predicate, by)| (predicate, by.len())).collect()
    }
}

impl Finding {
    /// One about evidence that cannot be judged.
    pub(super) fn broken(manifest: &Digest, form: Form, reason: String) -> Self {
        let verdict = Verdict::Invalid { reason };
        Self { manifest: manifest.clone(), form, kind: Kind::Unknown, predicate_type: None, verdict }
    }

    fn signer(&self) -> Option<&Signer> {
        match &self.verdict {
            Verdict::Valid(signer) => Some(signer),
            _ => None,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Valid(Signer::Key { key, .. }) => write!(f, "valid, by {key}"),
            Self::Valid(Signer::Identity { identity, issuer }) => {
                write!(f, "valid, by {identity} through {issuer}")
            }
            Self::UnknownKey { hint } if hint.is_empty() => f.write_str("by none of the keys given"),
            Self::UnknownKey { hint } => write!(f, "by none of the keys given (it hints at {hint})"),
            Self::Keyless { claimed: Keyless { identity, issuer } } => write!(
                f,
                "keyless signature, not verified: it claims to be by {} through {}",
                identity.as_deref().unwrap_or("nobody"),
                issuer.as_deref().unwrap_or("no issuer")
            ),
            Self::Invalid { reason } => write!(f, "invalid: {reason}"),
        }
    }
}

/// Judges a bundle; a finding for each of its signatures. `raw` is the bytes that were parsed.
pub fn bundle(
    parsed: &Bundle,
    raw: &[u8],
    manifest: &Digest,
    subject: Subject<'_>,
    trust: Trust<'_>,
) -> Vec<Finding> {
    let finding = |kind, predicate_type, verdict| Finding {
        manifest: manifest.clone(),
        form: Form::Bundle,
        kind,
        predicate_type,
        verdict,
    };
    let broken = |reason: String| vec![finding(Kind::Unknown, None, Verdict::Invalid { reason })];
    let keyless = parsed.keyless().map(|claimed| match trust.keyless {
        None => Verdict::Keyless { claimed },
        Some(verifier) => match verifier.verify(raw, subject) {
            Ok(Keyless { identity: Some(identity), issuer: Some(issuer) }) => {
                Verdict::Valid(Signer::Identity { identity, issuer })
            }
            Ok(_) => Verdict::Invalid { reason: "its certificate names nobody".to_owned() },
            Err(reason) => Verdict::Invalid { reason: format!("keyless signature: {reason}") },
        },
    });
    let hint = parsed.verification_material.public_key.as_ref().map(|key| super::clip(&key.hint));
    let hint = hint.unwrap_or_default();
    match (&parsed.dsse_envelope, &parsed.message_signature) {
        (Some(envelope), None) => {
            let Some(payload) = decode(&envelope.payload) else {
                return broken("its payload is not base64".to_owned());
            };
            let statement: Result<Statement<IgnoredAny>, _> = serde_json::from_slice(&payload);
            let claimed = statement.as_ref().ok().map(|statement| statement.predicate_type.as_str());
            let kind = match claimed {
                Some(COSIGN_SIGN) => Kind::Signature,
                Some(_) => Kind::Attestation,
                None => Kind::Unknown,
            };
            let objection = match &statement {
                Ok(statement) => statement.objection(subject.digest),
                Err(error) => Some(format!("what is signed is no statement: {error}")),
            };
            let shown = claimed.map(super::clip);
            let judged = envelope_verdicts(envelope, &payload, keyless, &hint, trust.keys);
            let judged = judged.into_iter().map(|verdict| against(verdict, objection.as_deref()));
            judged.map(|verdict| finding(kind, shown.clone(), verdict)).collect()
        }
        (None, Some(signed)) => {
            let verdict = match (keyless, decode(&signed.signature), subject.bytes) {
                (Some(verdict), _, _) => verdict,
                (_, None, _) => Verdict::Invalid { reason: "its signature is not base64".to_owned() },
                (_, _, None) => {
                    Verdict::Invalid { reason: "it signs the manifest, which could not be read".to_owned() }
                }
                (None, Some(signature), Some(message)) => by_key(trust.keys, message, &signature, &hint),
            };
            vec![finding(Kind::Signature, None, verdict)]
        }
        (None, None) => broken("it holds no signature".to_owned()),
        (Some(_), Some(_)) => broken("it holds two kinds of content at once".to_owned()),
    }
}

/// A valid signature under something that says nothing of the subject.
fn against(verdict: Verdict, objection: Option<&str>) -> Verdict {
    match (verdict, objection) {
        (Verdict::Valid(_), Some(objection)) => Verdict::Invalid { reason: objection.to_owned() },
        (verdict, _) => verdict,
    }
}

fn envelope_verdicts(
    envelope: &Envelope,
    payload: &[u8],
    keyless: Option<Verdict>,
    hint: &str,
    keys: &[NamedKey],
) -> Vec<Verdict> {
    let invalid = |reason: String| vec![Verdict::Invalid { reason }];
    if envelope.payload_type != statement::MEDIA_TYPE {
        let shown = super::clip(&envelope.payload_type);
        return invalid(format!("its payload is said to be `{shown}`, and not a statement of in-toto"));
    }
    if envelope.signatures.is_empty() || envelope.signatures.len() > MOST_SIGNATURES {
        let count = envelope.signatures.len();
        return invalid(format!("it holds {count} signatures, where 1 to {MOST_SIGNATURES} are taken"));
    }
    if let Some(verdict) = keyless {
        return vec![verdict];
    }
    let message = pae(&envelope.payload_type, payload);
    let one = |signed: &super::dsse::Signature| match decode(&signed.sig) {
        Some(signature) => by_key(keys, &message, &signature, hint),
        None => Verdict::Invalid { reason: "its signature is not base64".to_owned() },
    };
    envelope.signatures.iter().map(one).collect()
}

fn by_key(keys: &[NamedKey], message: &[u8], signature: &[u8], hint: &str) -> Verdict {
    match keys.iter().find(|named| named.key.verify(message, signature)) {
        Some(NamedKey { name, key }) => {
            Verdict::Valid(Signer::Key { key: name.clone(), key_id: key.id().clone() })
        }
        None => Verdict::UnknownKey { hint: hint.to_owned() },
    }
}

/// Judges a simple signing document, with its signature in base64 and its certificate, where it has one.
pub fn legacy(
    payload: &[u8],
    signature: &str,
    certificate: Option<&str>,
    manifest: &Digest,
    subject: &Digest,
    keys: &[NamedKey],
) -> Finding {
    let verdict = match (decode(signature), certificate) {
        (None, _) => Verdict::Invalid { reason: "its signature is not base64".to_owned() },
        (Some(signature), _) => {
            let verdict = by_key(keys, payload, &signature, "");
            match (&verdict, certificate) {
                (Verdict::UnknownKey { .. }, Some(certificate)) => {
                    let der = pem::parse(certificate).map(pem::Pem::into_contents).unwrap_or_default();
                    Verdict::Keyless { claimed: Keyless::of(&der) }
                }
                _ => against(verdict, objection(payload, subject).as_deref()),
            }
        }
    };
    Finding {
        manifest: manifest.clone(),
        form: Form::Legacy,
        kind: Kind::Signature,
        predicate_type: None,
        verdict,
    }
}

fn objection(payload: &[u8], subject: &Digest) -> Option<String> {
    match serde_json::from_slice::<SimpleSigning>(payload) {
        Ok(signed) => signed.objection(subject),
        Err(error) => Some(format!("what is signed is no simple signing document: {error}")),
    }
}

#[cfg(test)]
mod tests;
