//! Signatures and attestations as referrers: a statement in a DSSE envelope in a sigstore bundle, exactly as cosign 3 writes them.

use std::collections::BTreeMap;

use idp_oci::manifest::Descriptor;

use super::bundle::{self, Bundle};
use super::dsse::Envelope;
use super::key::PrivateKey;
use super::referrer::Referrer;
use super::statement::{self, Statement};
use super::{Timestamp, TrustError};

/// Annotations by which cosign tells bundles apart without fetching them.
pub(super) const CONTENT: &str = "dev.sigstore.bundle.content";
pub(super) const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";

/// Signs a manifest.
///
/// # Errors
/// When the key cannot sign.
pub fn sign(subject: &Descriptor, key: &PrivateKey, created: Timestamp) -> Result<Referrer, TrustError> {
    attest(subject, &Statement::signature(&subject.digest), key, created)
}

/// Signs a statement about a manifest.
///
/// # Errors
/// When the key cannot sign.
pub fn attest(
    subject: &Descriptor,
    statement: &Statement,
    key: &PrivateKey,
    created: Timestamp,
) -> Result<Referrer, TrustError> {
    let envelope = Envelope::sign(statement::MEDIA_TYPE, &json(statement)?, key)?;
    let bundle = Bundle::of_envelope(envelope, key.public().id());
    let bundle = serde_json::to_vec(&bundle).map_err(|error| TrustError::document("a bundle", error))?;
    let annotations = BTreeMap::from([
        (CONTENT.to_owned(), "dsse-envelope".to_owned()),
        (PREDICATE_TYPE.to_owned(), statement.predicate_type.clone()),
    ]);
    Referrer::new(subject, bundle::MEDIA_TYPE, bundle.into(), annotations, created)
}

/// The same statement with nobody's name under it.
///
/// # Errors
/// When the manifest cannot be made of it.
pub fn state(
    subject: &Descriptor,
    statement: &Statement,
    created: Timestamp,
) -> Result<Referrer, TrustError> {
    let annotations =
        BTreeMap::from([("in-toto.io/predicate-type".to_owned(), statement.predicate_type.clone())]);
    Referrer::new(subject, statement::MEDIA_TYPE, json(statement)?.into(), annotations, created)
}

fn json(statement: &Statement) -> Result<Vec<u8>, TrustError> {
    serde_json::to_vec(statement).map_err(|error| TrustError::document("a statement", error))
}
