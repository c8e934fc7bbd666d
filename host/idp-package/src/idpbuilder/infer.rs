//! From a directory that idpbuilder takes, and that has no manifest, to a manifest.

use std::path::{Path, PathBuf};

use idp_oci::source::Tree;
use serde::Serialize;

use super::applications::{self, Application, Given, Note, Problem};
use super::names;
use crate::content::{self, ContentError};
use crate::manifest::{self, Manifest, ManifestError, Metadata, Spec, Type};

/// The version of what has none.
const VERSION: &str = "0.1.0";
/// Files in sub-directories that are looked into where the directory is none.
const MAX_DEEPER: usize = 200;

/// What a directory is as a package.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inferred {
    /// What its `idp-package.yaml` would say.
    pub manifest: Manifest,
    /// What idpbuilder deploys of it.
    pub applications: Vec<Application>,
    /// What works otherwise than it may be meant.
    pub notes: Vec<Note>,
}

/// Why a directory is no package of idpbuilder.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// It cannot be read.
    #[error("{}: {error}", directory.display())]
    Io {
        /// Which.
        directory: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It has a manifest of its own.
    #[error("{} has an {}; what it says is not made up anew", .0.display(), manifest::FILE)]
    HasManifest(PathBuf),
    /// No name can be made of the directory's.
    #[error(
        "nothing of `{0}` can be in the name of a package: lower-case letters, digits and dashes; give a name"
    )]
    Name(String),
    /// A name or version that was given means nothing.
    #[error("{key}: {message}")]
    Value {
        /// `metadata.name` or `metadata.version`.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// Its files cannot be content.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It holds no Application.
    #[error("{} has no {}, and is no package of idpbuilder either: {lacks}", directory.display(), manifest::FILE)]
    NoApplication {
        /// Which.
        directory: PathBuf,
        /// What it has instead.
        lacks: String,
    },
    /// It holds Applications that cannot work.
    #[error("{}: {}", directory.display(), lines(problems))]
    Problems {
        /// Which.
        directory: PathBuf,
        /// What is wrong, in the order of the files.
        problems: Vec<Problem>,
    },
}

pub(super) fn lines(problems: &[Problem]) -> String {
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    all.join("\n")
}

/// Makes a manifest for the package of idpbuilder in `directory`: type `argocd-apps`, everything its content, and the name of the
/// directory and version 0.1.0 unless given. It needs no target: without one, the content's own directory is what is deployed.
///
/// # Errors
/// The directory is no such package, or one that cannot work.
pub fn infer(directory: &Path, name: Option<&str>, version: Option<&str>) -> Result<Inferred, InferError> {
    let io = |error| InferError::Io { directory: directory.to_owned(), error };
    let root = std::fs::canonicalize(directory).map_err(io)?;
    if root.join(manifest::FILE).exists() {
        return Err(InferError::HasManifest(directory.to_owned()));
    }
    let own = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = match name {
        Some(name) => name.to_owned(),
        None => names::label(&own).ok_or_else(|| InferError::Name(own.clone()))?,
    };
    let manifest = manifest_of(name, version.unwrap_or(VERSION).to_owned())?;
    let tree = content::content(directory, &manifest)?;
    let found = applications::find(Given { tree: &tree, base: "", name: &own, root: Some(&root) });
    if !found.problems.is_empty() {
        return Err(InferError::Problems { directory: directory.to_owned(), problems: found.problems });
    }
    if found.applications.is_empty() {
        let lacks = lacks(&tree, &found.others);
        return Err(InferError::NoApplication { directory: directory.to_owned(), lacks });
    }
    Ok(Inferred { manifest, applications: found.applications, notes: found.notes })
}

fn manifest_of(name: String, version: String) -> Result<Manifest, InferError> {
    let manifest = Manifest {
        api_version: manifest::API_VERSION.to_owned(),
        kind: manifest::KIND.to_owned(),
        metadata: Metadata {
            name,
            version,
            display_name: None,
            description: None,
            categories: Vec::new(),
            keywords: Vec::new(),
            icon: None,
            maintainers: Vec::new(),
            licenses: None,
            links: manifest::Links::default(),
            release_notes: None,
            annotations: std::collections::BTreeMap::new(),
        },
        spec: Spec {
            r#type: Type::ArgocdApps,
            content: manifest::Content::default(),
            dependencies: Vec::new(),
            requires: manifest::Requires::default(),
            provides: manifest::Provides::default(),
            conflicts: Vec::new(),
            replaces: Vec::new(),
            values: None,
            targets: Vec::new(),
            variants: Vec::new(),
            hooks: Vec::new(),
            images: manifest::Images::default(),
            compatibility: manifest::Compatibility::default(),
        },
    };
    // What was given is held to the same rules as what is written; JSON is YAML.
    let text = serde_json::to_string(&manifest).expect("a manifest is JSON");
    manifest::parse(&text).map_err(|error| match error {
        ManifestError::Value { key, message, .. } => InferError::Value { key, message },
        other => InferError::Value { key: "metadata".to_owned(), message: other.to_string() },
    })
}

/// What there is in place of an Application.
fn lacks(tree: &Tree, others: &[(String, String)]) -> String {
    let mut lacks =
        "none of its top-level *.yaml files is an Argo CD Application or ApplicationSet".to_owned();
    let shown: Vec<String> = others.iter().take(5).map(|(file, what)| format!("{file}: {what}")).collect();
    let more = if others.len() > shown.len() { ", …" } else { "" };
    if shown.is_empty() {
        lacks.push_str(" (there is none at all)");
    } else {
        lacks.push_str(&format!(" ({}{more})", shown.join(", ")));
    }
    let deeper = deeper(tree);
    if !deeper.is_empty() {
        lacks.push_str(&format!("; there are some in {}, which may be what you mean", deeper.join(", ")));
    }
    lacks
}

/// Directories in which there is an Application.
fn deeper(tree: &Tree) -> Vec<String> {
    let mut directories: Vec<String> = Vec::new();
    let files = tree.files().filter(|(path, _)| applications::is_yaml(path) && path.contains('/'));
    for (path, entry) in files.take(MAX_DEEPER) {
        let Some((directory, _)) = path.rsplit_once('/') else { continue };
        let known = directories.iter().any(|known| known == directory);
        let holds = || {
            let Ok(bytes) = entry.bytes(64 * 1024) else { return false };
            let text = String::from_utf8_lossy(&bytes);
            text.contains("kind: Application") && text.contains("argoproj.io/")
        };
        if !known && holds() {
            directories.push(directory.to_owned());
        }
        if directories.len() == 5 {
            break;
        }
    }
    directories
}
