//! The config blob: everything there is to know about a package without its content. `show`, `diff`, `deps` and `verify` need nothing
//! else. Canonical JSON, so that equal packages have equal digests.

use std::collections::BTreeMap;

use idp_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::manifest::Manifest;

/// Media type of the config blob. Harbor shows an artifact with it as a PACKAGE.
pub const CONFIG_TYPE: &str = "application/vnd.cnoe.package.config.v1+json";
/// The largest config blob that is made or read: Argo CD reads none above, and so do oras libraries.
pub const MAX_CONFIG: u64 = 4 * 1024 * 1024;

/// The config blob's document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// For registries that take it for an image's: Gitea shows these labels.
    pub config: ImageConfig,
    /// `idp-package.yaml`.
    pub package: Manifest,
    /// The files of the content.
    pub files: Vec<File>,
    /// Images that the content names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// `idp.lock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<serde_json::Value>,
    /// Texts that belong to the package and are not deployed, by what they are: `readme`, `releaseNotes`, `valuesSchema`, `valuesDefaults`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub documents: BTreeMap<String, String>,
}

/// What an image's config would have here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The annotations of the manifest, once more.
    #[serde(rename = "Labels")]
    pub labels: BTreeMap<String, String>,
}

/// A file of the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Its path in the archive.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Of its bytes.
    pub digest: Digest,
    /// Whether it is a program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// An image that the content names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// In full: `docker.io/library/nginx:1.27`.
    pub reference: String,
    /// What the tag meant when it was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What it runs on, `linux/arm64`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It would be too large for those who read it.
    #[error(
        "the package's metadata would take {0} bytes, and {MAX_CONFIG} is the most that consumers read: split it into several packages"
    )]
    Large(usize),
    /// What came is not one.
    #[error("the package's config is not of this format: {0}")]
    Malformed(String),
}

impl Config {
    /// The blob.
    ///
    /// # Errors
    /// It would be too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ConfigError> {
        let bytes = canonical::to_vec(self).map_err(|error| ConfigError::Malformed(error.to_string()))?;
        if bytes.len() as u64 > MAX_CONFIG {
            return Err(ConfigError::Large(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads a blob.
    ///
    /// # Errors
    /// It is too large, or not of this format.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() as u64 > MAX_CONFIG {
            return Err(ConfigError::Large(bytes.len()));
        }
        serde_json::from_slice(bytes).map_err(|error| ConfigError::Malformed(error.to_string()))
    }
}
