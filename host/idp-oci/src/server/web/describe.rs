//! What a manifest is: its kind, its parts, what it says of itself. Reads manifests and small configurations, never layers.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use serde_json::Value;

use super::format;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, Platform, Shape};
use crate::media;
use crate::name::{Repository, Target};
use crate::server::Registry;
use crate::server::error::Error;
use crate::store::StoreError;

/// A configuration that is larger is not looked into.
const MOST_CONFIG: u64 = 1024 * 1024;

/// So many manifests of an index are opened for their sizes; of larger ones only what the index says is shown.
const MOST_CHILDREN: usize = 16;

/// What a manifest is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    Index,
    Chart,
    Package,
    Signature,
    Sbom,
    Attestation,
    Artifact,
    Unknown,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Image => "Image",
            Self::Index => "Image index",
            Self::Chart => "Helm chart",
            Self::Package => "Package",
            Self::Signature => "Signature",
            Self::Sbom => "SBOM",
            Self::Attestation => "Attestation",
            Self::Artifact => "Artifact",
            Self::Unknown => "Unknown",
        }
    }

    /// By the artifact's type, or the type of its configuration.
    pub(super) fn of_type(artifact_type: &str) -> Self {
        let text = artifact_type.to_ascii_lowercase();
        let has = |part: &str| text.contains(part);
        if media::is_config(artifact_type) {
            Self::Image
        } else if has("cncf.helm") {
            Self::Chart
        } else if text.starts_with("application/vnd.cnoe.package.v") {
            Self::Package
        } else if has("spdx") || has("cyclonedx") || has("syft") || has("sbom") {
            Self::Sbom
        } else if has("cosign") || has("sigstore") || has("signature") || has("notary") {
            Self::Signature
        } else if has("in-toto") || has("attestation") || has("slsa") {
            Self::Attestation
        } else {
            Self::Artifact
        }
    }
}

/// As much as is shown of an image's configuration (image-spec, config.md), a chart's or a package's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) created: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) os: Option<String>,
    pub(super) variant: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) config: Option<Running>,
    #[serde(deserialize_with = "lenient")]
    pub(super) history: Option<Vec<Step>>,
    /// Of a chart.
    pub(super) description: Option<Value>,
    pub(super) version: Option<Value>,
    #[serde(rename = "appVersion")]
    pub(super) app_version: Option<Value>,
    pub(super) home: Option<Value>,
    /// Of a package.
    pub(super) package: Option<Value>,
    /// Texts of a package that are not deployed, its README among them.
    pub(super) documents: Option<Value>,
}

/// How an image is run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Running {
    pub(super) user: Option<String>,
    pub(super) working_dir: Option<String>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) exposed_ports: Option<BTreeMap<String, Value>>,
}

/// How a layer was made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Step {
    pub(super) created_by: Option<String>,
    pub(super) empty_layer: bool,
}

/// What does not have the shape that it should is as good as not there.
fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// A manifest with what is to be told of it.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) artifact_type: Option<String>,
    pub(super) kind: Kind,
    /// Of the manifest itself, in bytes.
    pub(super) size: u64,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) subject: Option<Digest>,
    pub(super) config_descriptor: Option<Descriptor>,
    pub(super) config: Option<Config>,
    pub(super) layers: Vec<Descriptor>,
    pub(super) children: Vec<Child>,
}

/// An entry of an index.
#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) descriptor: Descriptor,
    /// Of its configuration and layers, in bytes, if it was looked at.
    pub(super) total: Option<u64>,
}

impl Described {
    /// Bytes to pull: manifest, configuration and layers; of an index, of all that it names, where that is known.
    pub(super) fn total(&self) -> Option<u64> {
        if self.kind == Kind::Index {
            return self.children.iter().try_fold(0_u64, |sum, child| Some(sum.saturating_add(child.total?)));
        }
        Some(sum(self.config_descriptor.iter().chain(&self.layers)))
    }

    /// `linux/amd64`.
    pub(super) fn platforms(&self) -> Vec<String> {
        if !self.children.is_empty() {
            let mut names: Vec<String> = self.children.iter().filter_map(Child::platform).collect();
            names.dedup();
            return names;
        }
        let Some(config) = self.config.as_ref().filter(|_| self.kind == Kind::Image) else {
            return Vec::new();
        };
        let (Some(os), Some(architecture)) = (&config.os, &config.architecture) else { return Vec::new() };
        vec![named(os, architecture, config.variant.as_deref())]
    }

    /// When it was made, as far as it says.
    pub(super) fn created(&self) -> Option<String> {
        let annotation = self.annotations.get("org.opencontainers.image.created");
        let config = self.config.as_ref().and_then(|config| config.created.as_ref());
        annotation.into_iter().chain(config).find_map(|text| format::time(text))
    }

    /// What it says of itself: an annotation, a label, or its configuration.
    pub(super) fn says(&self, name: &str) -> Option<&str> {
        let key = format!("org.opencontainers.image.{name}");
        let labels = self.config.as_ref().and_then(|config| config.config.as_ref()?.labels.as_ref());
        let found = self.annotations.get(&key).or_else(|| labels?.get(&key));
        found.map(String::as_str).filter(|text| !text.trim().is_empty())
    }
}

impl Child {
    /// What it runs on; of what builders attach to images, nothing.
    pub(super) fn platform(&self) -> Option<String> {
        let platform: &Platform = self.descriptor.platform.as_ref()?;
        let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
        (os != "unknown").then(|| named(&os, &architecture, platform.variant().as_deref()))
    }

    /// What it is, where it is none to run.
    pub(super) fn is_attestation(&self) -> bool {
        self.descriptor
            .annotations
            .get("vnd.docker.reference.type")
            .is_some_and(|kind| kind == "attestation-manifest")
    }
}

fn named(os: &str, architecture: &str, variant: Option<&str>) -> String {
    let name = match variant.filter(|variant| !variant.is_empty()) {
        Some(variant) => format!("{os}/{architecture}/{variant}"),
        None => format!("{os}/{architecture}"),
    };
    format::shortened(&name, 64)
}

fn sum<'a>(descriptors: impl IntoIterator<Item = &'a Descriptor>) -> u64 {
    descriptors.into_iter().fold(0, |sum, descriptor| sum.saturating_add(descriptor.size))
}

#[derive(Deserialize)]
struct Annotated {
    #[serde(default, deserialize_with = "lenient")]
    annotations: Option<BTreeMap<String, String>>,
}

/// Reads and describes; `None` where there is no such manifest.
pub(super) async fn manifest(
    registry: &Registry,
    repository: &Repository,
    target: &Target,
) -> Result<Option<Described>, Error> {
    let Some(stored) = registry.store.manifest(repository, target).await? else { return Ok(None) };
    let annotated: Option<Annotated> = serde_json::from_slice(&stored.bytes).ok();
    let mut described = Described {
        digest: stored.digest.clone(),
        media_type: stored.media_type.clone(),
        artifact_type: None,
        kind: Kind::Unknown,
        size: stored.bytes.len() as u64,
        annotations: annotated.and_then(|annotated| annotated.annotations).unwrap_or_default(),
        subject: None,
        config_descriptor: None,
        config: None,
        layers: Vec::new(),
        children: Vec::new(),
    };
    let Ok(manifest) = Manifest::parse(stored.bytes, Some(&stored.media_type)) else {
        return Ok(Some(described));
    };
    described.subject = manifest.subject().map(|subject| subject.digest.clone());
    described.artifact_type =
        manifest.artifact_type().filter(|artifact_type| !artifact_type.is_empty()).map(str::to_owned);
    match manifest.shape() {
        Shape::Index { manifests } => {
            described.kind = Kind::Index;
            described.children = children(registry, repository, manifests).await?;
        }
        Shape::Image { config, layers } => {
            // An artifact without a type of its own has its configuration's; old signatures have an image's, and tell by
            // their layers.
            let by_layer = layers.first().map(|layer| Kind::of_type(&layer.media_type));
            let artifact_type = described.artifact_type.as_deref().unwrap_or(&config.media_type);
            described.kind = match (Kind::of_type(artifact_type), by_layer) {
                (
                    Kind::Image | Kind::Artifact,
                    Some(kind @ (Kind::Signature | Kind::Sbom | Kind::Attestation)),
                ) => kind,
                (kind, _) => kind,
            };
            described.layers.clone_from(layers);
            described.config = read_config(registry, repository, config).await?;
            described.config_descriptor = Some((**config).clone());
        }
    }
    Ok(Some(described))
}

async fn children(
    registry: &Registry,
    repository: &Repository,
    manifests: &[Descriptor],
) -> Result<Vec<Child>, StoreError> {
    let mut children = Vec::with_capacity(manifests.len());
    for descriptor in manifests {
        let total = if manifests.len() <= MOST_CHILDREN {
            let target = Target::Digest(descriptor.digest.clone());
            registry.store.manifest(repository, &target).await?.and_then(|stored| {
                let manifest = Manifest::parse(stored.bytes, Some(&stored.media_type)).ok()?;
                match manifest.shape() {
                    Shape::Image { config, layers } => Some(sum(std::iter::once(&**config).chain(layers))),
                    Shape::Index { .. } => None,
                }
            })
        } else {
            None
        };
        children.push(Child { descriptor: descriptor.clone(), total });
    }
    Ok(children)
}

async fn read_config(
    registry: &Registry,
    repository: &Repository,
    descriptor: &Descriptor,
) -> Result<Option<Config>, StoreError> {
    let bytes = read(registry, repository, descriptor, MOST_CONFIG).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// A small blob; `None` if it is not here, or not small.
pub(super) async fn read(
    registry: &Registry,
    repository: &Repository,
    descriptor: &Descriptor,
    most: u64,
) -> Result<Option<Bytes>, StoreError> {
    if descriptor.size > most {
        return Ok(None);
    }
    let Some(blob) = registry.store.blob(repository, &descriptor.digest).await? else { return Ok(None) };
    // The manifest may say what it likes of the size.
    if blob.descriptor.size > most {
        return Ok(None);
    }
    let mut bytes = BytesMut::new();
    let mut chunks = blob.read_from(0);
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes.freeze()))
}
