//! Sigstore bundles (sigstore/protobuf-specs, `sigstore_bundle.proto`, version 0.3) as JSON: a signature with what is needed to verify it.
//! Written for keys; of keyless ones it is read who they claim to be by. Unknown fields are passed over, as protobuf does.

use serde::{Deserialize, Serialize};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::dsse::{Envelope, decode};
use super::key::KeyId;

/// The media type of a bundle, of its layer and of its referrer.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// How those of earlier versions begin.
const EARLIER: &str = "application/vnd.dev.sigstore.bundle+json;version=";
/// Larger certificates are not looked into.
const LARGEST_CERTIFICATE: usize = 64 * 1024;

/// Whether a media type is one of a bundle.
pub fn is_bundle(media_type: &str) -> bool {
    media_type == MEDIA_TYPE || media_type.starts_with(EARLIER)
}

/// A bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// Its version.
    pub media_type: String,
    /// Who signed.
    #[serde(default)]
    pub verification_material: VerificationMaterial,
    /// A signed statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dsse_envelope: Option<Envelope>,
    /// A signature over the thing itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_signature: Option<MessageSignature>,
}

/// Who signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationMaterial {
    /// Somebody with a key of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKeyHint>,
    /// Somebody with a certificate for a few minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// The same before version 0.3, the leaf first.
    #[serde(default, rename = "x509CertificateChain", skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
}

/// A hint at a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKeyHint {
    /// With cosign, base64 of the SHA-256 digest of the SubjectPublicKeyInfo.
    #[serde(default)]
    pub hint: String,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Base64 of its DER.
    pub raw_bytes: String,
}

/// Certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The leaf first.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
}

/// A signature over the thing itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageSignature {
    /// The digest of the thing; what is verified is the thing, and not this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_digest: Option<MessageDigest>,
    /// Base64 of the signature.
    pub signature: String,
}

/// The digest of a thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDigest {
    /// `SHA2_256`, ….
    #[serde(default)]
    pub algorithm: String,
    /// Base64 of the digest.
    #[serde(default)]
    pub digest: String,
}

/// Who a keyless signature is by. Whether that is so depends on a certificate authority (Fulcio), a log (Rekor) or a timestamp authority,
/// and what is trusted of them (a trusted root); what is read of a certificate alone is a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Keyless {
    /// An address or a workflow.
    pub identity: Option<String>,
    /// The OIDC issuer.
    pub issuer: Option<String>,
}

impl Bundle {
    /// Reads one.
    ///
    /// # Errors
    /// Why it is none, or one of a version that is not known, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let parsed: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no sigstore bundle: {error}"))?;
        if is_bundle(&parsed.media_type) {
            return Ok(parsed);
        }
        Err(format!("`{}` is a version of bundles that is not known", super::clip(&parsed.media_type)))
    }

    /// A statement that was signed by a key.
    pub fn of_envelope(envelope: Envelope, key: &KeyId) -> Self {
        Self {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: VerificationMaterial {
                public_key: Some(PublicKeyHint { hint: key.hint() }),
                ..VerificationMaterial::default()
            },
            dsse_envelope: Some(envelope),
            message_signature: None,
        }
    }

    /// Who it claims to be by, where it is keyless.
    pub fn keyless(&self) -> Option<Keyless> {
        let material = &self.verification_material;
        let leaf = material.certificate.as_ref().or_else(|| material.chain.as_ref()?.certificates.first())?;
        Some(decode(&leaf.raw_bytes).map(|der| Keyless::of(&der)).unwrap_or_default())
    }
}

/// Fulcio's extensions: the issuer as a UTF8String, and as bare bytes before that.
const ISSUER: &str = "1.3.6.1.4.1.57264.1.8";
const ISSUER_BARE: &str = "1.3.6.1.4.1.57264.1.1";

impl Keyless {
    /// What a certificate claims; nothing of it is verified.
    pub(super) fn of(der: &[u8]) -> Self {
        let parsed = (der.len() <= LARGEST_CERTIFICATE).then(|| X509Certificate::from_der(der));
        let Some(Ok((_, certificate))) = parsed else { return Self::default() };
        let mut claimed = Self::default();
        for extension in certificate.extensions() {
            let value = extension.value;
            match (extension.oid.to_id_string().as_str(), extension.parsed_extension()) {
                (_, ParsedExtension::SubjectAlternativeName(names)) => {
                    claimed.identity = names.general_names.iter().find_map(|name| match name {
                        GeneralName::RFC822Name(text)
                        | GeneralName::URI(text)
                        | GeneralName::DNSName(text) => Some(super::clip(text)),
                        _ => None,
                    });
                }
                (ISSUER, _) => {
                    // A UTF8String of less than 128 bytes: tag, length, text.
                    let text = value.get(2..).and_then(|text| std::str::from_utf8(text).ok());
                    claimed.issuer = text.map(super::clip).or(claimed.issuer);
                }
                (ISSUER_BARE, _) if claimed.issuer.is_none() => {
                    claimed.issuer = std::str::from_utf8(value).ok().map(super::clip);
                }
                _ => {}
            }
        }
        claimed
    }
}
