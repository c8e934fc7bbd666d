//! Why something could not be signed, attached or looked for. That a signature is not good is no error but a finding.

use idp_oci::client::ClientError;
use idp_oci::digest::Digest;
use idp_oci::manifest::ManifestError;

use super::key::KeyError;

/// Why something could not be signed, attached or looked for.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The registry.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A document of ours could not be made.
    #[error("making {what}: {problem}")]
    Document {
        /// Which.
        what: &'static str,
        /// Why.
        problem: String,
    },
    /// What was made is no manifest.
    #[error("making a manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// A time that no calendar has.
    #[error("{0} seconds after 1970 is no time that a document can name; SOURCE_DATE_EPOCH is in seconds")]
    Time(i64),
    /// A policy that cannot be meant.
    #[error("rule {rule} of the verification policy: {problem}")]
    Policy {
        /// From 1.
        rule: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Others write to the same tag.
    #[error(
        "the signatures under the tag {tag} of {subject} were changed by somebody else at the same time, {rounds} times; sign again"
    )]
    Contended {
        /// The tag.
        tag: String,
        /// What it is about.
        subject: Digest,
        /// How often it was tried.
        rounds: usize,
    },
}

impl TrustError {
    pub(super) fn document(what: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::Document { what, problem: problem.to_string() }
    }
}
