//! A referrer as a value: a manifest with a subject and one document (image-spec, "Guidelines for Artifact Usage"). No I/O.

use std::collections::BTreeMap;

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::manifest::{Descriptor, Manifest};
use idp_oci::media;
use idp_oci::source::Artifact;

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
        let artifact = Artifact {
            artifact_type: Some(media_type),
            subject: Some(subject),
            annotations,
            ..Artifact::new(&config, vec![layer.descriptor.clone()])
        };
        let bytes = artifact.to_bytes().map_err(|error| TrustError::document("a referrer", error))?;
        let manifest = Manifest::parse(bytes, Some(media::OCI_MANIFEST))?;
        Ok(Self { manifest, blobs: vec![config, layer] })
    }
}
