//! Manifests and indexes: parsed to be understood, never printed again: the bytes are what the digest names.
//!
//! In: bytes with their media type. Out: descriptors over [`oci_spec`]'s types. No I/O.

use bytes::Bytes;
use oci_spec::image::{ImageIndex, ImageManifest};

pub use oci_spec::image::{Arch, Descriptor as SpecDescriptor, Os, Platform};

use crate::digest::{Digest, DigestError};
use crate::media;

/// Manifests larger than this are refused on the way in (distribution-spec asks registries for at least 4 MiB).
pub const MAX_MANIFEST: u64 = 8 * 1024 * 1024;

/// What content is called, where it is named by its digest (image-spec, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where a foreign layer is to be had.
    pub urls: Vec<String>,
    /// For children of an index.
    pub platform: Option<Platform>,
    /// Annotations, e.g. the title of a file.
    pub annotations: std::collections::BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor with nothing but the three fields that every one has.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        }
    }

    /// The descriptor of bytes at hand.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

impl TryFrom<&SpecDescriptor> for Descriptor {
    type Error = DigestError;

    fn try_from(spec: &SpecDescriptor) -> Result<Self, DigestError> {
        Ok(Self {
            media_type: spec.media_type().to_string(),
            digest: spec.digest().to_string().parse()?,
            size: spec.size(),
            urls: spec.urls().clone().unwrap_or_default(),
            platform: spec.platform().clone(),
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
        })
    }
}

/// Why bytes are not a manifest that we can move.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("the manifest is not valid: {0}")]
    Invalid(String),
    /// `schemaVersion` 1.
    #[error(
        "this is a Docker schema 1 manifest, which no current tool writes; pull and push the image again with a current Docker"
    )]
    Schema1,
    /// Something else than a manifest or an index.
    #[error(
        "`{0}` is not a manifest type that idp can move; image manifests and indexes are (OCI and Docker schema 2)"
    )]
    UnknownType(String),
    /// The answer's header and the document disagree.
    #[error("the manifest says it is `{body}`, and was served as `{header}`")]
    TypeConflict {
        /// `mediaType` in the document.
        body: String,
        /// `Content-Type` of the answer.
        header: String,
    },
    /// A digest in it cannot be verified.
    #[error("the manifest names content by a digest that cannot be verified: {0}")]
    Digest(#[from] DigestError),
    /// Over [`MAX_MANIFEST`].
    #[error("the manifest has {0} bytes; at most {MAX_MANIFEST} are accepted")]
    TooLarge(u64),
}

/// The two shapes that matter for moving content.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Config and layers.
    Image {
        /// The config blob.
        config: Box<Descriptor>,
        /// The layers, bottom first; the same one may stand twice.
        layers: Vec<Descriptor>,
    },
    /// Children.
    Index {
        /// The children, in order.
        manifests: Vec<Descriptor>,
    },
}

/// A manifest: its exact bytes and what they say.
#[derive(Debug, Clone)]
pub struct Manifest {
    bytes: Bytes,
    descriptor: Descriptor,
    shape: Shape,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
}

impl Manifest {
    /// Parses bytes. `content_type` is what the answer or the descriptor said, if anything did.
    pub fn parse(bytes: Bytes, content_type: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(bytes.len() as u64));
        }
        let invalid = |error: serde_json::Error| ManifestError::Invalid(error.to_string());
        let probe: Probe = serde_json::from_slice(&bytes).map_err(invalid)?;
        let header = content_type
            .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
            .filter(|value| value.starts_with("application/vnd."));
        let schema1 = [media::DOCKER_SCHEMA1, media::DOCKER_SCHEMA1_SIGNED];
        if probe.schema_version == Some(1) || header.as_deref().is_some_and(|value| schema1.contains(&value))
        {
            return Err(ManifestError::Schema1);
        }
        let media_type = match (probe.media_type, header) {
            (Some(body), Some(header)) if body != header => {
                return Err(ManifestError::TypeConflict { body, header });
            }
            (Some(body), _) => body,
            (None, Some(header)) => header,
            (None, None) if probe.manifests => media::OCI_INDEX.to_owned(),
            (None, None) if probe.config => media::OCI_MANIFEST.to_owned(),
            (None, None) => {
                return Err(ManifestError::Invalid("it has neither `config` nor `manifests`".to_owned()));
            }
        };
        let (shape, subject, artifact_type) = if media::is_index(&media_type) {
            let index: ImageIndex = serde_json::from_slice(&bytes).map_err(invalid)?;
            let manifests = index.manifests().iter().map(Descriptor::try_from).collect::<Result<_, _>>()?;
            let artifact_type = index.artifact_type().as_ref().map(ToString::to_string);
            (Shape::Index { manifests }, index.subject().clone(), artifact_type)
        } else if media::is_image(&media_type) {
            let image: ImageManifest = serde_json::from_slice(&bytes).map_err(invalid)?;
            let layers = image.layers().iter().map(Descriptor::try_from).collect::<Result<_, _>>()?;
            let artifact_type = image.artifact_type().as_ref().map(ToString::to_string);
            (
                Shape::Image { config: Box::new(image.config().try_into()?), layers },
                image.subject().clone(),
                artifact_type,
            )
        } else {
            return Err(ManifestError::UnknownType(media_type));
        };
        let subject = subject.as_ref().map(Descriptor::try_from).transpose()?;
        let descriptor = Descriptor::of(media_type, &bytes);
        Ok(Self { bytes, descriptor, shape, subject, artifact_type })
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Media type, digest (sha256) and size of the bytes.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// Config and layers, or children.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What this manifest refers to (image-spec, "subject").
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// `artifactType`, where it is given.
    pub fn artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref()
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u64>,
    media_type: Option<String>,
    #[serde(default, deserialize_with = "present")]
    manifests: bool,
    #[serde(default, deserialize_with = "present")]
    config: bool,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    <serde::de::IgnoredAny as serde::Deserialize>::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Manifest, ManifestError, Shape};
    use crate::media;

    fn image() -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"sha256:{}","size":2}},"layers":[],"x":{{"z":1,"a":2}}}}"#,
            media::OCI_CONFIG,
            "0".repeat(64)
        )
    }

    fn parse(text: &str, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
        Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), content_type)
    }

    #[test]
    fn bytes_are_kept_and_the_type_is_found() {
        let manifest = parse(&image(), None).expect("an image");
        assert_eq!(manifest.bytes(), image().as_bytes());
        assert_eq!(manifest.descriptor().media_type, media::OCI_MANIFEST);
        assert!(matches!(manifest.shape(), Shape::Image { layers, .. } if layers.is_empty()));
        let typed =
            parse(&image(), Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"));
        assert_eq!(typed.expect("an image").descriptor().media_type, media::DOCKER_MANIFEST);
        assert!(parse(&image(), Some("text/plain")).is_ok());
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for (text, expect) in [
            ("", "not valid"),
            ("[]", "not valid"),
            ("{}", "neither"),
            (r#"{"schemaVersion":1}"#, "schema 1"),
            (r#"{"schemaVersion":2,"mediaType":"application/x"}"#, "not a manifest type"),
            (
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"a","digest":"md5:1","size":1}]}"#,
                "digest",
            ),
        ] {
            let error = parse(text, None).expect_err(text).to_string();
            assert!(error.contains(expect), "{text}: {error}");
        }
        let typed = image().replacen('{', &format!(r#"{{"mediaType":"{}","#, media::OCI_MANIFEST), 1);
        assert!(matches!(parse(&typed, Some(media::OCI_INDEX)), Err(ManifestError::TypeConflict { .. })));
    }
}
