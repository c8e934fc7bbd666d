//! Signatures as cosign 1 and 2 write them, and as Kyverno and others read them: an image under the tag `sha256-<hex>.sig` whose layers are
//! simple signing documents, each with its signature in an annotation. No I/O.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Manifest, Shape};
use idp_oci::media;
use idp_oci::name::Tag;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::TrustError;
use super::key::PrivateKey;

/// The media type of a simple signing document.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The artifact type of the same as a referrer, which cosign 2 wrote on request.
pub const ARTIFACT_TYPE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// The annotation with the signature.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The annotation with a certificate, in PEM.
pub const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// `critical.type`.
const TYPE: &str = "cosign container image signature";

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigning {
    /// What has to be understood.
    pub critical: Critical,
    /// What need not be.
    #[serde(default)]
    pub optional: Option<serde_json::Map<String, Value>>,
}

/// What has to be understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Critical {
    /// Where it was when it was signed.
    pub identity: Identity,
    /// What it is.
    pub image: Image,
    /// What this is.
    pub r#type: String,
}

/// Where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `registry/repository`.
    #[serde(rename = "docker-reference")]
    pub reference: String,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its digest.
    #[serde(rename = "docker-manifest-digest")]
    pub digest: String,
}

impl SimpleSigning {
    /// About a manifest that is in `registry/repository`.
    pub fn new(reference: &str, digest: &Digest) -> Self {
        let identity = Identity { reference: reference.to_owned() };
        let image = Image { digest: digest.to_string() };
        Self { critical: Critical { identity, image, r#type: TYPE.to_owned() }, optional: None }
    }

    /// Why it says nothing of this; `None` when it does. Where it was when it was signed is of no consequence: it may have been copied.
    pub fn objection(&self, subject: &Digest) -> Option<String> {
        let Critical { image, r#type, .. } = &self.critical;
        if r#type != TYPE {
            return Some(format!("`{}` is no `{TYPE}`", super::clip(r#type)));
        }
        (image.digest != subject.as_str())
            .then(|| format!("it is about {}, and not about this", super::clip(&image.digest)))
    }
}

/// The tag under which the signatures of a manifest are.
pub fn tag(subject: &Digest) -> Option<Tag> {
    format!("{}-{}.sig", subject.algorithm().as_str(), subject.hex()).parse().ok()
}

/// Signatures under the tag with one more; nothing is pushed yet.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The manifest.
    pub manifest: Manifest,
    /// What it has that `existing` had not.
    pub blobs: Vec<Blob>,
}

/// Signs a manifest that is in `registry/repository`, and adds that to the signatures there are.
///
/// # Errors
/// When the key cannot sign, or what is under the tag is something else.
pub fn sign(
    reference: &str,
    subject: &Digest,
    key: &PrivateKey,
    existing: Option<&Manifest>,
) -> Result<Signed, TrustError> {
    let document = |error: serde_json::Error| TrustError::document("a simple signing document", error);
    let payload = serde_json::to_vec(&SimpleSigning::new(reference, subject)).map_err(document)?;
    let signature = STANDARD.encode(key.sign(&payload)?);
    let payload = Blob::from_bytes(MEDIA_TYPE, payload.into());
    let old = existing.map(|manifest| serde_json::from_slice::<Value>(manifest.bytes())).transpose();
    let mut manifest = old.map_err(document)?.unwrap_or_else(
        || json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": null, "layers": []}),
    );
    let mut layers: Vec<Descriptor> = match existing.map(Manifest::shape) {
        None => Vec::new(),
        Some(Shape::Image { layers, .. }) => layers.clone(),
        Some(Shape::Index { .. }) => {
            let problem = "there is an index under its tag, and no signatures; remove or move that tag first";
            return Err(TrustError::document("a legacy signature", problem));
        }
    };
    layers.push(payload.descriptor.clone());
    let config = Blob::from_bytes(media::OCI_CONFIG, config(&layers));
    let described = |blob: &Blob, annotations: BTreeMap<&str, String>| {
        let Descriptor { media_type, digest, size, .. } = &blob.descriptor;
        let mut value = json!({"mediaType": media_type, "digest": digest, "size": size});
        if !annotations.is_empty() {
            value["annotations"] = json!(annotations);
        }
        value
    };
    manifest["config"] = described(&config, BTreeMap::new());
    let layer = described(&payload, BTreeMap::from([(SIGNATURE, signature)]));
    match manifest["layers"].as_array_mut() {
        Some(layers) => layers.push(layer),
        None => manifest["layers"] = json!([layer]),
    }
    let bytes = serde_json::to_vec(&manifest).map_err(document)?;
    let manifest = Manifest::parse(bytes.into(), Some(media::OCI_MANIFEST))?;
    Ok(Signed { manifest, blobs: vec![config, payload] })
}

/// The config that go-containerregistry makes for such layers, which are not compressed.
fn config(layers: &[Descriptor]) -> Bytes {
    let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let never = "0001-01-01T00:00:00Z";
    let history: Vec<Value> = layers.iter().map(|_| json!({"created": never})).collect();
    let config = json!({
        "architecture": "", "created": never, "history": history, "os": "",
        "rootfs": {"type": "layers", "diff_ids": digests}, "config": {},
    });
    Bytes::from(config.to_string())
}
