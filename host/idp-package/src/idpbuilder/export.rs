//! From packages to one directory that `idpbuilder create -p` takes. An `argocd-apps` package is that directory already, byte for byte;
//! of any other, each target becomes an Application at the top, and the content a directory beside it.

use std::collections::BTreeSet;
use std::path::Path;

use idp_oci::source::{Content, SourceError, Tree};
use serde::Serialize;

use super::applications::{Application, Note, Problem};
use super::assemble::Build;
use super::infer::lines;
use super::losses::{self, Losses, Unconverted};
use super::names;
use super::part::Part;
use crate::manifest::Type;

/// How to export.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only the target of this variant, of each package that has it; every target unless given.
    pub variant: Option<String>,
    /// What the directory will be called: idpbuilder names a Git repository by it where an Application takes all of it.
    pub directory: String,
}

/// A directory for idpbuilder.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exported {
    /// Its files.
    #[serde(skip)]
    pub files: Tree,
    /// What `idpbuilder create -p` is given: directories in it; `.` for itself.
    pub directories: Vec<String>,
    /// What idpbuilder deploys of it.
    pub applications: Vec<Application>,
    /// What the packages say and the directory does not.
    pub unconverted: Vec<Unconverted>,
    /// What idpbuilder does otherwise than it may be meant.
    pub notes: Vec<Note>,
}

/// Why packages cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No package has the variant.
    #[error("no package has a variant `{variant}`; {}", known(known_variants))]
    Variant {
        /// Which was asked for.
        variant: String,
        /// Which there are.
        known_variants: Vec<String>,
    },
    /// A manifest that nobody checked.
    #[error("`{0}` is no name of a package or target; at most 63 lower-case letters, digits and dashes")]
    Name(String),
    /// The same package twice.
    #[error("`{0}` is given twice; a cluster has one version of a package")]
    Twice(String),
    /// A target that is not in the content.
    #[error("{package}: target `{target}` is `{path}`, and there is no such directory in the content")]
    Target {
        /// Of which package.
        package: String,
        /// Its name.
        target: String,
        /// Its path.
        path: String,
    },
    /// Applications that cannot work in idpbuilder.
    #[error("{package}: {}", lines(problems))]
    Problems {
        /// Of which package.
        package: String,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// A source that cannot be changed where it stands.
    #[error(
        "{package}: {file}:{line}: `{url}` is written with escapes or as an alias; write it as it is, so that it can be changed"
    )]
    Written {
        /// Of which package.
        package: String,
        /// Which file.
        file: String,
        /// From 1.
        line: u32,
        /// It.
        url: String,
    },
    /// There is no file.
    #[error("{0} has no content of its own; give the packages that it depends on")]
    Nothing(String),
    /// A file.
    #[error(transparent)]
    Files(#[from] SourceError),
    /// Reading or writing failed.
    #[error("{what}: {error}")]
    Io {
        /// What was read or written.
        what: String,
        /// Why not.
        error: std::io::Error,
    },
}

fn known(variants: &[String]) -> String {
    if variants.is_empty() { "none has any".to_owned() } else { format!("there are {}", variants.join(", ")) }
}

/// Makes a directory of a package, and of those that it depends on, as far as they are given.
///
/// # Errors
/// There is no such variant or target, or idpbuilder could not deploy what it would find.
pub fn export(package: &Part<'_>, beside: &[Part<'_>], options: &Options) -> Result<Exported, ExportError> {
    let parts: Vec<&Part<'_>> = std::iter::once(package).chain(beside).collect();
    let mut given = BTreeSet::new();
    for part in &parts {
        let targets = part.manifest.spec.targets.iter().map(|target| target.name.as_str());
        let mut names = std::iter::once(part.name()).chain(targets);
        if let Some(name) = names.find(|name| names::label(name).as_deref() != Some(*name)) {
            return Err(ExportError::Name(name.to_owned()));
        }
        if !given.insert(part.name()) {
            return Err(ExportError::Twice(part.name().to_owned()));
        }
    }
    if let Some(variant) = &options.variant
        && !parts.iter().any(|part| part.target_of(variant).is_some())
    {
        let variants = parts.iter().flat_map(|part| &part.manifest.spec.variants);
        let known_variants: BTreeSet<String> = variants.map(|variant| variant.name.clone()).collect();
        let known_variants = known_variants.into_iter().collect();
        return Err(ExportError::Variant { variant: variant.clone(), known_variants });
    }
    let mut build = Build::new(options);
    // Names in files that stay as they are come first; what is generated goes around them.
    let (fixed, free): (Vec<&Part<'_>>, Vec<&Part<'_>>) =
        parts.into_iter().partition(|part| part.manifest.spec.r#type == Type::ArgocdApps);
    for part in fixed.into_iter().chain(free) {
        let mut losses = Losses::new(part.name());
        let chosen = options.variant.as_deref().is_some_and(|variant| part.target_of(variant).is_some());
        losses::of(part, &given, chosen, &mut losses);
        match part.manifest.spec.r#type {
            Type::ArgocdApps if part.name() == package.name() => build.keep(part, &mut losses)?,
            Type::ArgocdApps => build.embed(part, &mut losses)?,
            Type::Bundle => {}
            Type::Manifests | Type::Kustomize | Type::Helm => build.generate(part, &mut losses)?,
        }
        build.unconverted.extend(losses.all);
    }
    build.finish(package.name())
}

impl Exported {
    /// Writes the files into a directory that is not there or empty.
    ///
    /// # Errors
    /// It holds something, or writing fails.
    pub fn write(&self, directory: &Path) -> Result<(), ExportError> {
        let io = |path: &Path| {
            let what = path.display().to_string();
            move |error| ExportError::Io { what, error }
        };
        std::fs::create_dir_all(directory).map_err(io(directory))?;
        if std::fs::read_dir(directory).map_err(io(directory))?.next().is_some() {
            let error = std::io::Error::other("it is not empty; name a directory that is not there");
            return Err(io(directory)(error));
        }
        for entry in self.files.entries() {
            let path = directory.join(&entry.name);
            let Some(file) = &entry.file else {
                std::fs::create_dir(&path).map_err(io(&path))?;
                continue;
            };
            match &file.content {
                Content::Bytes(bytes) => std::fs::write(&path, bytes).map_err(io(&path))?,
                Content::Path(from) => {
                    std::fs::copy(from, &path).map_err(io(&path))?;
                }
            }
            let mode = if file.executable { 0o755 } else { 0o644 };
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&path, permissions).map_err(io(&path))?;
        }
        Ok(())
    }
}
