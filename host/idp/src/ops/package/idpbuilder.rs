//! idpbuilder: its directories as packages, and packages as its directories.

use std::path::{Path, PathBuf};

use idp_oci::client::Event;
use idp_oci::source::Tree;
use idp_package::build::{Package, PackageError};
use idp_package::idpbuilder::{self, InferError, Options, Part, Unconverted};
use idp_package::manifest::Manifest;
use idp_package::resolve::Lock;
use serde::Serialize;

use super::super::{Context, Error};
use super::Subject;
use super::subject::Remote;

/// What a directory without a manifest is called.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// The package's name; that of the directory unless given.
    pub name: Option<String>,
    /// Its version; 0.1.0 unless given.
    pub version: Option<String>,
}

/// The package in a directory: by its manifest, or as idpbuilder would take it.
///
/// # Errors
/// It is neither.
pub(in crate::ops) fn open(context: &Context, directory: &Path, named: &Named) -> Result<Package, Error> {
    match Package::open(directory) {
        Err(PackageError::NoManifest(_)) => {}
        Ok(_) if named.name.is_some() || named.version.is_some() => {
            return Err(Error::Usage(format!(
                "{} says its own name and version; --name and --set-version are for directories without a manifest",
                directory.join(idp_package::manifest::FILE).display()
            )));
        }
        other => return Ok(other?),
    }
    let inferred = match idpbuilder::infer(directory, named.name.as_deref(), named.version.as_deref()) {
        Ok(inferred) => inferred,
        Err(InferError::NoApplication { .. }) => {
            return Err(PackageError::NoManifest(directory.to_owned()).into());
        }
        Err(error) => return Err(Error::Unfit(error.to_string())),
    };
    for note in &inferred.notes {
        context.progress.event(Event::Warning { text: note.to_string() });
    }
    Ok(Package::with(directory, inferred.manifest)?)
}

/// What was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exported {
    /// Where it is.
    pub directory: PathBuf,
    /// What `idpbuilder create -p` is given.
    pub packages: Vec<PathBuf>,
    /// What idpbuilder deploys, by name.
    pub applications: Vec<String>,
    /// What the packages say and the directory does not.
    pub unconverted: Vec<Unconverted>,
    /// What idpbuilder does otherwise than it may be meant.
    pub notes: Vec<String>,
}

/// A package at hand.
struct Had {
    manifest: Manifest,
    tree: Tree,
    images: usize,
    lock: Option<Lock>,
    _kept: Option<tempfile::TempDir>,
}

impl Had {
    fn part(&self) -> Part<'_> {
        Part { manifest: &self.manifest, files: &self.tree, images: self.images, locked: self.lock.is_some() }
    }
}

/// Writes a package, and what its lock says it needs, as a directory that `idpbuilder create -p` takes.
///
/// # Errors
/// It was not built by idp, or idpbuilder could not deploy what it would find.
pub async fn export(
    context: &Context,
    text: &str,
    directory: Option<PathBuf>,
    variant: Option<String>,
) -> Result<Exported, Error> {
    let root = had(context, Subject::of(context, text).await?).await?;
    let mut beside = Vec::new();
    if let Some(lock) = &root.lock {
        for name in lock.order().unwrap_or_default() {
            let Some(package) = lock.package(&name) else { continue };
            let place = package.repository.rewritten(&context.registries.rewrites);
            let reference = format!("{}/{}@{}", place.registry, place.repository, package.digest);
            beside
                .push(had(context, Subject::Remote(Box::new(Remote::of(context, &reference).await?))).await?);
        }
    }
    let name = root.manifest.metadata.name.clone();
    let directory = directory.unwrap_or_else(|| PathBuf::from(format!("{name}-idpbuilder")));
    let called = directory.file_name().and_then(|name| name.to_str()).unwrap_or(&name).to_owned();
    let parts: Vec<Part<'_>> = beside.iter().map(Had::part).collect();
    let exported = idpbuilder::export(&root.part(), &parts, &Options { variant, directory: called });
    let exported = exported.map_err(|error| Error::Unfit(error.to_string()))?;
    exported.write(&directory).map_err(|error| Error::Unfit(error.to_string()))?;
    Ok(Exported {
        packages: exported.directories.iter().map(|one| join(&directory, one)).collect(),
        directory,
        applications: exported.applications.iter().map(|application| application.name.clone()).collect(),
        unconverted: exported.unconverted,
        notes: exported.notes.iter().map(ToString::to_string).collect(),
    })
}

fn join(directory: &Path, one: &str) -> PathBuf {
    if one == "." { directory.to_owned() } else { directory.join(one) }
}

async fn had(context: &Context, subject: Subject) -> Result<Had, Error> {
    if let Subject::Directory(package) = subject {
        let lock = super::lock::read(&package.directory)?;
        let images =
            lock.as_ref().map_or(0, |lock| lock.images.iter().filter(|image| image.digest.is_some()).count());
        let Package { manifest, tree, .. } = *package;
        return Ok(Had { manifest, tree, images, lock, _kept: None });
    }
    let kept =
        tempfile::tempdir().map_err(|error| Error::Io { what: "a temporary directory".to_owned(), error })?;
    let directory = kept.path().join("content");
    subject.unpack(context, &directory).await?;
    let description = subject.describe().await?;
    let Some(config) = description.config else {
        return Err(Error::Unfit(format!(
            "{} was not built by idp, so what it is to idpbuilder is not known",
            description.digest
        )));
    };
    let lock = config.lock.map(serde_json::from_value).transpose();
    let lock = lock.map_err(|error| Error::Unfit(format!("the lock in the package: {error}")))?;
    let images = config.images.iter().filter(|image| image.digest.is_some()).count();
    Ok(Had { manifest: config.package, tree: Tree::of(&directory)?, images, lock, _kept: Some(kept) })
}
