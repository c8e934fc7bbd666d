//! `idp-package.yaml`: what an author writes about a package. Text in, a checked [`Manifest`] out.
//!
//! Unknown keys are errors everywhere but in `metadata.annotations`; the file's `apiVersion` alone says which keys there are.
//! [`schema`] is the same as a JSON Schema, made from these types.

mod check;
mod parse;
mod schema;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use parse::{ManifestError, parse};
pub use schema::schema;

/// The name of the file in a package's directory.
pub const FILE: &str = "idp-package.yaml";
/// `apiVersion` of this format.
pub const API_VERSION: &str = "packages.cnoe.io/v1alpha1";
/// `kind` of this file.
pub const KIND: &str = "Package";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "idp-package.yaml")]
pub struct Manifest {
    /// `packages.cnoe.io/v1alpha1`.
    pub api_version: String,
    /// `Package`.
    pub kind: String,
    /// What the package is called and who made it.
    pub metadata: Metadata,
    /// What is in it and what it needs.
    pub spec: Spec,
}

/// What the package is called and who made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits and dashes, at most 63: the last part of the repository's name.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(max = 63))]
    pub name: String,
    /// `MAJOR.MINOR.PATCH[-prerelease]`, in lower case and without build metadata: it becomes the tag.
    pub version: String,
    /// The name people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// One or two sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it is filed under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// What it is found by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// A picture in the package's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<String>,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintainers: Vec<Maintainer>,
    /// An SPDX licence expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licenses: Option<String>,
    /// Where more is to be read.
    #[serde(default, skip_serializing_if = "Links::is_empty")]
    pub links: Links,
    /// A file with what changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_notes: Option<String>,
    /// Anything else, by names of one's own; they are copied to the OCI manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Who looks after a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Maintainer {
    /// A person's or a team's name.
    pub name: String,
    /// An address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// Where more is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Links {
    /// The project's page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// The source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The documentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation: Option<String>,
}

impl Links {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a package is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    /// Kubernetes manifests as they are.
    Manifests,
    /// A kustomization, with overlays.
    Kustomize,
    /// A Helm chart; the artifact is the chart that `helm push` makes.
    Helm,
    /// Argo CD Applications and what they name.
    ArgocdApps,
    /// Dependencies and nothing else.
    Bundle,
}

impl Type {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifests => "manifests",
            Self::Kustomize => "kustomize",
            Self::Helm => "helm",
            Self::ArgocdApps => "argocd-apps",
            Self::Bundle => "bundle",
        }
    }
}

/// What is in a package and what it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// What it is made of.
    pub r#type: Type,
    /// Which files are its content.
    #[serde(default, skip_serializing_if = "Content::is_default")]
    pub content: Content,
    /// Other packages that have to be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// What the cluster has to have.
    #[serde(default, skip_serializing_if = "Requires::is_empty")]
    pub requires: Requires,
    /// What it brings to the cluster.
    #[serde(default, skip_serializing_if = "Provides::is_empty")]
    pub provides: Provides,
    /// Packages that must not be there beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Named>,
    /// Packages that it takes the place of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<Named>,
    /// What can be set when it is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Values>,
    /// Named places in the content that are deployed; one Argo CD Application each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<DeployTarget>,
    /// Which target a cluster gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// What runs before and after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Whether image references are looked for in the content.
    #[serde(default, skip_serializing_if = "Images::is_auto")]
    pub images: Images,
    /// Who it is known to work with.
    #[serde(default, skip_serializing_if = "Compatibility::is_empty")]
    pub compatibility: Compatibility,
}

/// Which files are a package's content; patterns as in `.gitignore`, from `root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Content {
    /// A directory of the package; paths in the archive start there.
    pub root: String,
    /// Only what one of these matches; everything unless given.
    pub include: Vec<String>,
    /// And not what one of these matches.
    pub exclude: Vec<String>,
}

impl Default for Content {
    fn default() -> Self {
        Self { root: ".".to_owned(), include: Vec::new(), exclude: Vec::new() }
    }
}

impl Content {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Another package that has to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// A constraint, as Helm, Argo CD and Flux read it: `^1.2`, `>=1.2 <2`, `1.x || 2.x`.
    pub version: String,
    /// `oci://registry/repository`, or `./name`, which is beside this package in its registry; `./NAME` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// It is taken only where `when` is switched on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// The feature that switches it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// A package and versions of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Named {
    /// The package.
    pub name: String,
    /// A constraint; any version unless given.
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub version: String,
}

fn any() -> String {
    "*".to_owned()
}

fn is_any(version: &String) -> bool {
    version == "*"
}

/// What the cluster has to have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requires {
    /// Versions of Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// Kinds that have to be known there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<Api>,
    /// Things outside the package system, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Provider>,
}

impl Requires {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A kind of Kubernetes objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Api {
    /// Its group; empty for the core.
    pub group: String,
    /// Its version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// The package also works without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// Something outside the package system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provider {
    /// What it is.
    pub package: String,
    /// A constraint.
    pub version: String,
}

/// What a package brings to the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provides {
    /// Kinds that are known once it is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<Api>,
}

impl Provides {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What can be set when a package is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Values {
    /// A JSON Schema, a file of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What holds unless it is set, a file of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<String>,
    /// How values reach the content.
    #[serde(default)]
    pub mapping: Mapping,
}

/// How values reach the content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// As the values of a chart.
    Helm,
    /// As replacements of a kustomization.
    KustomizeReplacements,
    /// In place of `${name}`.
    Placeholders,
    /// Not at all.
    #[default]
    None,
}

/// A named place in the content that is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeployTarget {
    /// Its name.
    pub name: String,
    /// A directory of the content.
    pub path: String,
    /// Who makes objects of it; found out unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renderer: Option<Renderer>,
    /// The namespace of objects that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Whether the namespace is made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create_namespace: bool,
    /// Argo CD's sync wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<i32>,
    /// Whether directories in the directory count too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recurse: bool,
}

/// Who makes objects of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Renderer {
    /// Manifests as they are.
    Directory,
    /// kustomize.
    Kustomize,
    /// Helm.
    Helm,
}

/// Which target a cluster gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// The clusters it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The name of a target.
    pub target: String,
}

/// Clusters, by their labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that a cluster has to have.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
}

/// What runs before or after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// When.
    pub phase: Phase,
    /// A file of the content.
    pub path: String,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Before the first installation and before every upgrade.
    PreInstall,
    /// After them.
    PostInstall,
    /// Before it is removed.
    PreDelete,
    /// After it was removed.
    PostDelete,
}

/// Whether image references are looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Images {
    /// They are found and recorded.
    #[default]
    Auto,
    /// They are not.
    None,
}

impl Images {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// Who a package is known to work with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Compatibility {
    /// `argocd>=3.1`, `flux>=2.3`, `helm>=3.14`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<String>,
}

impl Compatibility {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
