//! Packages to where there is no network: a package with its dependencies, the images that all of them name, and what refers to any of
//! these, in one OCI layout or archive; and from there into any registry.
//!
//! | file | holds |
//! |---|---|
//! | `export` | what belongs together, from its registries to a layout |
//! | `import` | from a layout to a registry, each at its new place |
//! | `rewrite` | packages built again, naming the new places |
//!
//! The list of what is inside is an artifact of the layout itself, called [`LIST`]: other tools see a layout like any other.

pub mod export;
pub mod import;
mod rewrite;

use idp_oci::digest::Digest;
use serde::{Deserialize, Serialize};

/// The name of the artifact that lists what is inside.
pub const LIST: &str = "idp-export";
/// Media type of that list, and `artifactType` of the artifact.
pub const LIST_TYPE: &str = "application/vnd.cnoe.package.export.v1+json";
/// No list is longer.
const MAX_LIST: u64 = 16 * 1024 * 1024;

/// What is inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct List {
    /// 1.
    pub version: u32,
    /// The package that was exported.
    pub root: String,
    /// Everything, in the order in which it is brought to a registry: what refers to something follows it.
    pub entries: Vec<Entry>,
}

/// One thing inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// What it is called in the layout, and where it comes from: `registry/repository:tag` or `registry/repository@digest`.
    pub reference: String,
    /// Its manifest.
    pub digest: Digest,
    /// What it is.
    pub kind: Kind,
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An image.
    Image,
    /// A package.
    Package,
    /// What refers to one of these: a signature, an SBOM.
    Referrer,
}
