//! Keys that sign and keys that verify. In: PEM files of users. Out: [`PrivateKey`] and [`PublicKey`].
//!
//! | key | signs | verifies |
//! |---|---|---|
//! | ECDSA P-256 | SHA-256 | SHA-256, SHA-384 |
//! | ECDSA P-384 | SHA-384 | SHA-384, SHA-256 (cosign before 3) |
//! | Ed25519 | yes | yes |
//! | RSA, 2048 to 8192 bits | no | PKCS#1 v1.5 with SHA-256 |
//!
//! cosign signs with Ed25519ph where it has an Ed25519 key, which is another algorithm and is not read here.
//! The private half never leaves this module but as a signature or as a file; nothing here prints it.

mod boxed;
mod pair;
mod private;
mod public;
mod secretbox;

pub use pair::{GeneratedKey, WrittenKey, generate};
pub use private::PrivateKey;
pub use public::{Algorithm, KeyId, PublicKey};

/// No key file is longer.
const LONGEST: usize = 64 * 1024;

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No PEM, another kind of PEM, or bytes that are no key.
    #[error("{0}")]
    Unreadable(String),
    /// The key is under a password, and not under this one.
    #[error("the private key is under a password, and not under the one that was given")]
    WrongPassword,
    /// A key of a kind that nobody here can use.
    #[error("{0}")]
    Unsupported(String),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes to make a key of")]
    NoRandomness,
    /// Reading or writing a file of keys.
    #[error(transparent)]
    File(#[from] std::io::Error),
}
