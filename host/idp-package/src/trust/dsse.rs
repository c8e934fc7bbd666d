//! DSSE envelopes (secure-systems-lab/dsse, `envelope.md` and `protocol.md`): a payload with its type, and signatures over both.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::{Deserialize, Serialize};

use super::key::{KeyError, PrivateKey};

/// Signatures of one envelope.
pub const MOST_SIGNATURES: usize = 16;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// An envelope, in the JSON that goes around.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Base64 of what is signed.
    pub payload: String,
    /// Its media type.
    pub payload_type: String,
    /// By whom.
    #[serde(default)]
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// A hint at the key; nobody vouches for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub keyid: String,
    /// Base64 of the signature.
    pub sig: String,
}

/// Base64 as the specification allows it: either alphabet, with padding or without.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let standard = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    let for_urls = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    standard.decode(text).or_else(|_| for_urls.decode(text)).ok()
}

/// What is signed: the pre-authentication encoding of a payload and its type.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

impl Envelope {
    /// Signs a payload.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign(payload_type: &str, payload: &[u8], key: &PrivateKey) -> Result<Self, KeyError> {
        let signature = key.sign(&pae(payload_type, payload))?;
        Ok(Self {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![Signature { keyid: String::new(), sig: STANDARD.encode(signature) }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, pae};

    /// The example of `protocol.md`.
    #[test]
    fn pre_authentication_encoding() {
        let message = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(message, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(pae("\u{fc}", b""), "DSSEv1 2 \u{fc} 0 ".as_bytes());
    }

    #[test]
    fn base64_of_either_kind() {
        for text in ["+/+/AA==", "-_-_AA==", "+/+/AA", "-_-_AA"] {
            assert_eq!(decode(text).as_deref(), Some(&[0xfb, 0xff, 0xbf, 0][..]), "{text}");
        }
        assert_eq!(decode("a b"), None);
    }
}
