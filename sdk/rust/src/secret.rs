//! Secrets: handles whose bytes stay in the host. Nothing here returns, compares or measures them.

use std::borrow::Cow;
use std::fmt;

use crate::contract::Result;
use crate::sys;

/// Bytes that the provider may send where their audience allows, and never see.
pub struct Secret(pub(crate) sys::Secret);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A piece of something rendered by the host: a header, a form field, a message to sign.
#[derive(Debug)]
pub enum Segment<'a> {
    /// Plain text.
    Text(Cow<'a, str>),
    /// A secret, filled in by the host.
    Secret(&'a Secret),
    /// The same, owned.
    Owned(Secret),
}

/// A text segment.
pub fn text<'a>(text: impl Into<Cow<'a, str>>) -> Segment<'a> {
    Segment::Text(text.into())
}

/// A secret segment.
pub fn secret(secret: &Secret) -> Segment<'_> {
    Segment::Secret(secret)
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// RFC 4648 base64 with padding.
    Base64,
    /// The same without padding.
    Base64NoPad,
    /// The alphabet for URLs, with padding.
    Base64Url,
    /// The same without padding.
    Base64UrlNoPad,
    /// Lower case.
    Hex,
    /// RFC 3986: all but the unreserved characters.
    Percent,
    /// A JSON string, its quotes included.
    JsonString,
}

impl Encoding {
    /// Its name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Base64NoPad => "base64-nopad",
            Self::Base64Url => "base64url",
            Self::Base64UrlNoPad => "base64url-nopad",
            Self::Hex => "hex",
            Self::Percent => "percent",
            Self::JsonString => "json-string",
        }
    }
}

impl Secret {
    /// One secret out of pieces, sendable only where all of them are.
    pub fn assemble<'a>(parts: impl IntoIterator<Item = Segment<'a>>) -> Self {
        let parts: Vec<_> = parts.into_iter().collect();
        Self(sys::assemble(&parts))
    }

    /// A second handle to the same bytes.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.duplicate())
    }

    /// A string inside a JSON document that is itself a secret and came whole from the host (RFC 6901 pointer).
    pub fn json_field(&self, pointer: &str) -> Option<Self> {
        self.0.json_field(pointer).map(Self)
    }

    /// The bytes, encoded.
    ///
    /// # Errors
    /// `unsupported` when the host does not know the encoding.
    pub fn encode(&self, encoding: Encoding) -> Result<Self> {
        sys::encode(self, encoding.as_str()).map(Self)
    }

    /// The bytes, decoded.
    ///
    /// # Errors
    /// `invalid` when they are not encoded so.
    pub fn decode(&self, encoding: Encoding) -> Result<Self> {
        sys::decode(self, encoding.as_str()).map(Self)
    }

    /// A hash; `"sha256"` or `"sha512"`.
    ///
    /// # Errors
    /// `unsupported` for another algorithm.
    pub fn digest<'a>(algorithm: &str, data: impl IntoIterator<Item = Segment<'a>>) -> Result<Self> {
        let data: Vec<_> = data.into_iter().collect();
        sys::digest(algorithm, &data).map(Self)
    }

    /// A keyed hash, `"hmac-sha256"`, with this secret as the key.
    ///
    /// # Errors
    /// `unsupported` for another algorithm.
    pub fn mac<'a>(&self, algorithm: &str, data: impl IntoIterator<Item = Segment<'a>>) -> Result<Self> {
        let data: Vec<_> = data.into_iter().collect();
        sys::mac(algorithm, self, &data).map(Self)
    }

    /// A signature, `"rs256"` or `"es256"`, with this PEM document as the key.
    ///
    /// # Errors
    /// `invalid` when it is not such a key, `unsupported` for another algorithm.
    pub fn sign<'a>(&self, algorithm: &str, data: impl IntoIterator<Item = Segment<'a>>) -> Result<Self> {
        let data: Vec<_> = data.into_iter().collect();
        sys::sign(algorithm, self, &data).map(Self)
    }
}
