//! Content digests (image-spec, descriptor.md "Digests"). Depends on nothing of ours. Bytes flow through [`Hasher`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// The algorithms that the specification registers and that we verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `sha256`, what everybody uses.
    Sha256,
    /// `sha512`, optional in registries.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// `algorithm:hex`, checked. Cheap to compare, ordered as text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    text: String,
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:` in front.
    #[error("`{0}` is not a digest: it has no `algorithm:` in front of the hex")]
    NoAlgorithm(String),
    /// Well formed, and none that we can verify.
    #[error("digest algorithm `{0}` is not supported; sha256 and sha512 are")]
    UnsupportedAlgorithm(String),
    /// Wrong length or a character that is not lower-case hex.
    #[error("`{0}` is not a digest: {1} needs {2} lower-case hex digits")]
    BadHex(String, &'static str, usize),
}

impl Digest {
    /// The digest of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Which algorithm to verify with.
    pub fn algorithm(&self) -> Algorithm {
        if self.text.starts_with("sha512:") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// The hex after the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm().as_str().len() + 1..]
    }

    /// `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `sha256:0123456789ab`, for progress lines.
    pub fn short(&self) -> &str {
        &self.text[..self.algorithm().as_str().len() + 13]
    }

    /// The tag of the referrers fallback, `sha256-<hex>` (distribution-spec, "Referrers Tag Schema").
    pub fn referrers_tag(&self) -> String {
        format!("{}-{}", self.algorithm().as_str(), &self.hex()[..64])
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm(text.chars().take(100).collect()));
        };
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            other => return Err(DigestError::UnsupportedAlgorithm(other.chars().take(100).collect())),
        };
        let hex_is_good = hex.len() == algorithm.hex_len()
            && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !hex_is_good {
            let shown = text.chars().take(150).collect();
            return Err(DigestError::BadHex(shown, algorithm.as_str(), algorithm.hex_len()));
        }
        Ok(Self { text: text.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Hashes content as it streams by.
#[derive(Debug, Clone)]
pub struct Hasher {
    state: State,
    count: u64,
}

#[derive(Debug, Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// A fresh state.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(Sha512::new())),
        };
        Self { state, count: 0 }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.count += bytes.len() as u64;
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// How many bytes went by.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The digest of all of them.
    pub fn finish(self) -> Digest {
        let (name, hex) = match self.state {
            State::Sha256(state) => ("sha256", hex(&state.finalize())),
            State::Sha512(state) => ("sha512", hex(&state.finalize())),
        };
        Digest { text: format!("{name}:{hex}") }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| DIGITS[nibble as usize] as char)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Digest, DigestError, Hasher};

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn empty_content() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        assert_eq!(Digest::of(b"").short(), "sha256:e3b0c44298fc");
    }

    #[test]
    fn sha512_round_trips() {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"abc");
        assert_eq!(hasher.count(), 3);
        let digest = hasher.finish();
        assert!(digest.as_str().starts_with("sha512:ddaf35a193617aba"));
        assert_eq!(digest.as_str().parse::<Digest>(), Ok(digest.clone()));
        assert_eq!(digest.algorithm(), Algorithm::Sha512);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        assert!(matches!("abc".parse::<Digest>(), Err(DigestError::NoAlgorithm(_))));
        assert!(matches!("md5:00".parse::<Digest>(), Err(DigestError::UnsupportedAlgorithm(_))));
        for bad in
            ["sha256:", "sha256:E3B0", &EMPTY.to_uppercase().replace("SHA", "sha"), &format!("{EMPTY}0")]
        {
            assert!(matches!(bad.parse::<Digest>(), Err(DigestError::BadHex(..))), "{bad}");
        }
    }
}
