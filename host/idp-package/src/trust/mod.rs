//! Who vouches for a package, and what is said of it: signatures, SBOMs and provenance as referrers of its manifest, and the policy that
//! asks for them. In: keys, facts about a package, a client of its registry. Out: referrers, and a judgement of each one found.
//!
//! | module | holds |
//! |---|---|
//! | [`key`] | PEM files of keys, cosign's among them; signing and verifying bytes |
//! | [`statement`], [`dsse`], [`bundle`] | what is signed (in-toto), how (DSSE), and the file it is carried in (sigstore bundle 0.3) |
//! | [`legacy`] | the tag `sha256-<hex>.sig`, as cosign 1 and 2 write it |
//! | [`referrer`], [`sign`] | a referrer as a value; signatures and attestations made into one |
//! | [`verify`] | a judgement of one piece of evidence, and what many of them amount to. No I/O |
//! | [`registry`] | evidence brought to and fetched from a registry, within bounds |
//! | [`sbom`], [`provenance`] | documents about a package |
//! | [`policy`] | which repositories need how many signatures by which keys |
//!
//! # What counts
//!
//! A *signature* is a statement of the predicate type `https://sigstore.dev/cosign/sign/v1`, a signed message that is the manifest
//! itself, or a legacy payload; only these count towards a policy. Every other statement is an *attestation*: it is verified in the same
//! way and reported, and does not approve of anything: a scanner's key signs SBOMs of packages that nobody has approved.
//!
//! # Keyless signatures
//!
//! They are found and told apart, with the identity that their certificate claims. They are verified, offline and against a trusted root
//! that the user gives, where this crate is built with the feature `keyless`: that brings some forty crates (an older line of `der`,
//! `x509-cert`, `cms`, `jiff`), so it is not for everybody. Legacy ones (a certificate in an annotation) are not verified.

pub mod bundle;
pub mod dsse;
mod error;
pub mod key;
#[cfg(feature = "keyless")]
pub mod keyless;
pub mod legacy;
pub mod policy;
pub mod provenance;
pub mod referrer;
pub mod registry;
pub mod sbom;
pub mod sign;
pub mod statement;
mod timestamp;
pub mod verify;

pub use error::TrustError;
pub use timestamp::Timestamp;

/// Text of a stranger, for a line of ours.
fn clip(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}
