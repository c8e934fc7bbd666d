//! A referrer as a value: a manifest with a subject and one document (image-spec, "Guidelines for Artifact Usage"). No I/O.

use std::collections::BTreeMap;

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::manifest::{Descriptor, Manifest};
use idp_oci::media;
use serde::Serialize;

use super::{Timestamp, TrustError};

/// The annotation with the time.
const CREATED: &str = "org.opencontainers.image.created";
/// The content of the empty descriptor.
const EMPTY: &[u8] = b"{}";

/// A manifest that refers to another, and its blobs; nothing is pushed yet.
#[derive(Debug, Clone)]
pub struct Referrer {
    /// The manifest.
    pub manifest: Manifest,
    /// Its config and its layer.
    pub blobs: Vec<Blob>,
}

/// A descriptor in a manifest of ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named<'a> {
    media_type: &'a str,
    digest: &'a str,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Descriptor> for Named<'a> {
    fn from(descriptor: &'a Descriptor) -> Self {
        let Descriptor { media_type, digest, size, annotations, .. } = descriptor;
        Self { media_type, digest: digest.as_str(), size: *size, annotations }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u8,
    media_type: &'static str,
    artifact_type: &'a str,
    config: Named<'a>,
    layers: [Named<'a>; 1],
    subject: Named<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl Referrer {
    /// One document of this media type about the subject, whose artifact type is the same.
    ///
    /// # Errors
    /// When the manifest cannot be made of what was given.
    pub fn new(
        subject: &Descriptor,
        media_type: &str,
        document: Bytes,
        mut annotations: BTreeMap<String, String>,
        created: Timestamp,
    ) -> Result<Self, TrustError> {
        annotations.insert(CREATED.to_owned(), created.to_string());
        let config = Blob::from_bytes(media::OCI_EMPTY, Bytes::from_static(EMPTY));
        let layer = Blob::from_bytes(media_type, document);
        // What a descriptor says beside these three may differ from where it was found.
        let subject = Descriptor::new(&subject.media_type, subject.digest.clone(), subject.size);
        let manifest = Document {
            schema_version: 2,
            media_type: media::OCI_MANIFEST,
            artifact_type: media_type,
            config: (&config.descriptor).into(),
            layers: [(&layer.descriptor).into()],
            subject: (&subject).into(),
            annotations: &annotations,
        };
        let bytes =
            serde_json::to_vec(&manifest).map_err(|error| TrustError::document("a referrer", error))?;
        let manifest = Manifest::parse(bytes.into(), Some(media::OCI_MANIFEST))?;
        Ok(Self { manifest, blobs: vec![config, layer] })
    }
}
