//! What is asked of registries.

use async_trait::async_trait;
use idp_oci::digest::Digest;
use idp_oci::name::Target;
use serde::{Deserialize, Serialize};

use super::Location;
use crate::manifest::{Dependency, Manifest, Named, Provides, Requires};

/// Where versions of packages and what they say about themselves come from. Each thing is asked for once in a [`solve`](super::solve).
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// The tags of a repository, as they are.
    async fn tags(&self, location: &Location) -> Result<Vec<String>, CatalogueError>;

    /// What one version says about itself.
    async fn metadata(&self, location: &Location, target: &Target) -> Result<Metadata, CatalogueError>;
}

/// Why an answer is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// There is no such repository, tag or digest. That is an answer: the solver goes on without it.
    #[error("{0}")]
    NotFound(String),
    /// What is there is no package that could be used. The solver goes on without it.
    #[error("{0}")]
    Unusable(String),
    /// It could not be asked. Nothing can be decided.
    #[error("{0}")]
    Failed(String),
}

/// What one version of a package says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// What it calls itself.
    pub name: String,
    /// Which version it says it is, `v1.0.0` being 1.0.0. What is no version, as artifacts of others may have, says nothing.
    pub version: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The digest of its config blob.
    pub config_digest: Option<Digest>,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// What must not be beside it.
    pub conflicts: Vec<Named>,
    /// What it takes the place of, which must not be beside it either.
    pub replaces: Vec<Named>,
    /// What the cluster has to have.
    pub requires: Requires,
    /// What it brings.
    pub provides: Provides,
    /// The images that it uses, as its config records them.
    pub images: Vec<Image>,
}

impl Metadata {
    /// Of a package's manifest, as it stands in its config blob.
    pub fn of(manifest: &Manifest, digest: Digest) -> Self {
        Self {
            name: manifest.metadata.name.clone(),
            version: manifest.metadata.version.clone(),
            digest,
            config_digest: None,
            dependencies: manifest.spec.dependencies.clone(),
            conflicts: manifest.spec.conflicts.clone(),
            replaces: manifest.spec.replaces.clone(),
            requires: manifest.spec.requires.clone(),
            provides: manifest.spec.provides.clone(),
            images: Vec::new(),
        }
    }
}

/// An image that a package uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// As it is written in the content.
    pub r#ref: String,
    /// What it was when the package was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// `linux/amd64` and so on, where the image says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}
