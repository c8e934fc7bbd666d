//! Manifests and indexes: parsed to be understood, never printed again: the bytes are what the digest names.
//!
//! In: bytes with their media type. Out: descriptors over [`oci_spec`]'s types. No I/O.

use bytes::Bytes;
pub use oci_spec::image::{Arch, Descriptor as SpecDescriptor, Os, Platform};

use crate::digest::{Digest, DigestError};
use crate::media;

/// Manifests larger than this are refused on the way in, unless a client is told otherwise (distribution-spec asks registries for at
/// least 4 MiB).
pub const MAX_MANIFEST: u64 = 8 * 1024 * 1024;

/// Whatever a client is told, no manifest is larger: it is held in memory.
pub const LARGEST_MANIFEST: u64 = 64 * 1024 * 1024;

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
    /// Two things at once, by its fields: whoever reads it might take it for either (CVE-2021-41190).
    #[error("the manifest says it is `{media_type}`, and has `{field}`, which that has not")]
    Ambiguous {
        /// What it says it is.
        media_type: String,
        /// What speaks against it.
        field: &'static str,
    },
    /// A digest in it cannot be verified.
    #[error("the manifest names content by a digest that cannot be verified: {0}")]
    Digest(#[from] DigestError),
    /// Over [`LARGEST_MANIFEST`].
    #[error("the manifest has {0} bytes; at most {LARGEST_MANIFEST} are accepted")]
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
        if bytes.len() as u64 > LARGEST_MANIFEST {
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
        let described =
            |list: Vec<SpecDescriptor>| list.iter().map(Descriptor::try_from).collect::<Result<Vec<_>, _>>();
        let ambiguous = |field| ManifestError::Ambiguous { media_type: media_type.clone(), field };
        let document: Document = serde_json::from_slice(&bytes).map_err(invalid)?;
        let shape = if media::is_index(&media_type) {
            if probe.layers || probe.config {
                return Err(ambiguous(if probe.layers { "layers" } else { "config" }));
            }
            Shape::Index { manifests: described(document.manifests.unwrap_or_default())? }
        } else if media::is_image(&media_type) {
            if probe.manifests {
                return Err(ambiguous("manifests"));
            }
            let config = document.config.ok_or_else(|| invalid(missing("config")))?;
            let layers = described(document.layers.unwrap_or_default())?;
            Shape::Image { config: Box::new((&config).try_into()?), layers }
        } else {
            return Err(ManifestError::UnknownType(media_type));
        };
        let (subject, artifact_type) = (document.subject, document.artifact_type);
        let subject = subject.as_ref().map(Descriptor::try_from).transpose()?;
        let descriptor = Descriptor::of(media_type, &bytes);
        Ok(Self { bytes, descriptor, shape, subject, artifact_type })
    }

    /// The same under another of its digests, which the caller has verified: a parent may name it by sha512.
    #[must_use]
    pub(crate) fn known_as(mut self, digest: Digest) -> Self {
        self.descriptor.digest = digest;
        self
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Media type, digest (sha256, unless it was asked for by another) and size of the bytes.
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
    #[serde(default, deserialize_with = "present")]
    layers: bool,
}

/// As much of a manifest or an index as is looked at. Lists may be `null`, which is what Go writes for none.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    config: Option<SpecDescriptor>,
    layers: Option<Vec<SpecDescriptor>>,
    manifests: Option<Vec<SpecDescriptor>>,
    subject: Option<SpecDescriptor>,
    artifact_type: Option<String>,
}

fn missing(field: &'static str) -> serde_json::Error {
    serde::de::Error::missing_field(field)
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    // `null` is how some write that there is none.
    <Option<serde::de::IgnoredAny> as serde::Deserialize>::deserialize(deserializer).map(|it| it.is_some())
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
