//! What an artifact is, told from its manifest and its config: one of ours, or one that others made. No content is needed.

use std::collections::BTreeMap;

use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Manifest, Shape};
use idp_oci::media;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::build;
use crate::chart;
use crate::config::{CONFIG_TYPE, Config, Image};
use crate::manifest::{Dependency, DeployTarget};

/// Flux's config.
const FLUX_CONFIG: &str = "application/vnd.cncf.flux.config.v1+json";

/// Who made an artifact, and by which rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `idp package`.
    Package,
    /// `helm push`.
    HelmChart,
    /// `flux push artifact`.
    FluxArtifact,
    /// `oras push` of a directory, or another that holds one archive.
    Directory,
    /// A container image.
    Image,
    /// An index of several.
    Index,
    /// Something else.
    Other,
}

/// What is known of an artifact.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// Who made it.
    pub kind: Kind,
    /// The manifest's digest.
    pub digest: Digest,
    /// Its name, where it says one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version, where it says one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `manifests`, `kustomize`, `helm`, `argocd-apps` or `bundle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// A sentence or two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Where the source is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Which revision of it this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// An SPDX expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licenses: Option<String>,
    /// What else has to be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// What of it is deployed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<DeployTarget>,
    /// Images that it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// How many files are in it, where its config lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<usize>,
    /// Bytes of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpacked_size: Option<u64>,
    /// Bytes of config and layers.
    pub size: u64,
    /// The layers, as the manifest has them.
    pub layers: Vec<Layer>,
    /// The manifest's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The whole of the config, of one of ours.
    #[serde(skip)]
    pub config: Option<Config>,
}

/// A layer of an artifact.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layer {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// The blob that says what an artifact is: our config, wherever it stands, or a chart's.
pub fn telling(manifest: &Manifest) -> Option<&Descriptor> {
    let Shape::Image { config, layers } = manifest.shape() else { return None };
    let ours = std::iter::once(&**config).chain(layers).find(|blob| blob.media_type == CONFIG_TYPE);
    ours.or_else(|| (config.media_type == chart::CONFIG_TYPE).then_some(&**config))
}

#[derive(Default, Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Description {
    /// Of a manifest, and the bytes of the blob that [`telling`] names, where there is one.
    ///
    /// # Errors
    /// The blob is not what its media type says.
    pub fn of(manifest: &Manifest, told: Option<&[u8]>) -> Result<Self, String> {
        let annotated: Annotated = serde_json::from_slice(manifest.bytes()).unwrap_or_default();
        let annotations = annotated.annotations.unwrap_or_default();
        let oci = |name: &str| annotations.get(&format!("org.opencontainers.image.{name}")).cloned();
        let (size, layers) = match manifest.shape() {
            Shape::Image { config, layers } => {
                let size = layers.iter().fold(config.size, |sum, layer| sum.saturating_add(layer.size));
                (size, layers.as_slice())
            }
            Shape::Index { manifests } => (0, manifests.as_slice()),
        };
        let mut description = Self {
            kind: kind(manifest),
            digest: manifest.digest().clone(),
            name: annotations.get(build::NAME).cloned(),
            version: oci("version"),
            r#type: annotations.get(build::TYPE).cloned(),
            description: oci("description"),
            created: oci("created"),
            source: oci("source"),
            revision: oci("revision"),
            licenses: oci("licenses"),
            dependencies: Vec::new(),
            targets: Vec::new(),
            images: Vec::new(),
            files: None,
            unpacked_size: None,
            size,
            layers: layers
                .iter()
                .map(|layer| Layer {
                    media_type: layer.media_type.clone(),
                    digest: layer.digest.clone(),
                    size: layer.size,
                })
                .collect(),
            annotations,
            config: None,
        };
        match (told, telling(manifest)) {
            (Some(bytes), Some(blob)) if blob.media_type == CONFIG_TYPE => description.add_ours(bytes)?,
            (Some(bytes), Some(_)) => description.add_chart(bytes)?,
            _ => {}
        }
        Ok(description)
    }

    fn add_ours(&mut self, bytes: &[u8]) -> Result<(), String> {
        let config = Config::parse(bytes).map_err(|error| error.to_string())?;
        let package = &config.package;
        self.name = Some(package.metadata.name.clone());
        self.version = Some(package.metadata.version.clone());
        self.r#type = Some(package.spec.r#type.as_str().to_owned());
        self.dependencies.clone_from(&package.spec.dependencies);
        self.targets.clone_from(&package.spec.targets);
        self.images.clone_from(&config.images);
        self.files = Some(config.files.len());
        self.unpacked_size = Some(config.files.iter().fold(0, |sum, file| sum.saturating_add(file.size)));
        self.config = Some(config);
        Ok(())
    }

    fn add_chart(&mut self, bytes: &[u8]) -> Result<(), String> {
        let chart: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("the chart's config: {error}"))?;
        let text = |key: &str| chart.get(key).and_then(Value::as_str).map(str::to_owned);
        self.name = text("name").or_else(|| self.name.take());
        self.version = text("version").or_else(|| self.version.take());
        self.r#type = Some("helm".to_owned());
        self.description = text("description").or_else(|| self.description.take());
        for dependency in chart.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| dependency.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            self.dependencies.push(Dependency {
                name: text("name"),
                version: text("version"),
                repository: Some(text("repository")).filter(|text| !text.is_empty()),
                optional: false,
                when: None,
            });
        }
        Ok(())
    }
}

fn kind(manifest: &Manifest) -> Kind {
    let Shape::Image { config, layers } = manifest.shape() else { return Kind::Index };
    if telling(manifest).is_some_and(|blob| blob.media_type == CONFIG_TYPE) {
        return Kind::Package;
    }
    match &*config.media_type {
        chart::CONFIG_TYPE => Kind::HelmChart,
        FLUX_CONFIG => Kind::FluxArtifact,
        media::OCI_CONFIG | media::DOCKER_CONFIG => Kind::Image,
        _ if layers.iter().filter(|layer| layer.media_type.contains("tar")).count() == 1 => Kind::Directory,
        _ => Kind::Other,
    }
}
