//! Lock: dependencies to exact versions, written beside the package; checked, explained, shown as a tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use idp_oci::name::Reference;
use idp_package::build::Package;
use idp_package::content::LOCK_FILE;
use idp_package::resolve::{Change, Facts, Location, Lock, Options, Resolution, Root, Tree, solve};
use serde::Serialize;

use super::super::context::To;
use super::super::{Context, Error};
use super::catalogue::Registries;
use super::images;

/// What is locked, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The package's directory.
    pub directory: PathBuf,
    /// Where the package is or will be: `./name` starts there. Its name in the default registry unless given.
    pub repository: Option<String>,
    /// These are chosen anew; empty with `all`.
    pub update: BTreeSet<String>,
    /// Everything is chosen anew.
    pub fresh: bool,
    /// The lowest versions.
    pub lowest: bool,
    /// Features that are switched on.
    pub features: BTreeSet<String>,
    /// The cluster's version of Kubernetes.
    pub kubernetes: Option<String>,
    /// Kinds that the cluster knows, `group/version/Kind`.
    pub apis: Vec<String>,
    /// Look up what the tags of images mean.
    pub images: bool,
}

/// What was locked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Locked {
    /// The file.
    pub file: PathBuf,
    /// Whether it was written: it was not as it is now.
    pub written: bool,
    /// The names in the order in which they are installed.
    pub order: Vec<String>,
    /// What differs from the lock that was there.
    pub changes: Vec<Change>,
    /// How often registries were asked for packages.
    pub requests: usize,
    /// Images whose tag could not be looked up, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_images: Vec<String>,
    /// The lock.
    pub lock: Lock,
}

impl Request {
    fn options(&self, context: &Context) -> Result<Options, Error> {
        let kubernetes = match &self.kubernetes {
            Some(text) => Some(
                Facts::kubernetes(text).map_err(|error| Error::Usage(format!("--kube-version: {error}")))?,
            ),
            None => None,
        };
        let apis = (!self.apis.is_empty()).then(|| self.apis.iter().cloned().collect());
        Ok(Options {
            update: self.update.clone(),
            lowest: self.lowest,
            features: self.features.clone(),
            facts: Facts { kubernetes, apis },
            rewrites: context.registries.rewrites.clone(),
            ..Options::default()
        })
    }
}

/// Where `./name` starts.
async fn base(
    context: &Context,
    package: &Package,
    repository: Option<&str>,
) -> Result<Option<Location>, Error> {
    let metadata = &package.manifest.metadata;
    let relative =
        |repository: &Option<String>| repository.as_deref().is_none_or(|text| !text.starts_with("oci://"));
    let needs = package.manifest.spec.dependencies.iter().any(|dependency| relative(&dependency.repository));
    let text = match repository {
        Some(text) => text.strip_prefix("oci://").unwrap_or(text).to_owned(),
        None if needs => metadata.name.clone(),
        None => return Ok(None),
    };
    let text = if text.ends_with('/') { format!("{text}{}", metadata.name) } else { text };
    context.find_registry(&[&text], To::Read).await?;
    let Reference { registry, repository, .. } = context.reference(&text)?;
    Ok(Some(Location { registry, repository }))
}

/// The lock that lies beside a package.
///
/// # Errors
/// It cannot be read.
pub fn read(directory: &Path) -> Result<Option<Lock>, Error> {
    let file = directory.join(LOCK_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            Lock::parse(&text).map(Some).map_err(|error| Error::Unfit(format!("{}: {error}", file.display())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io { what: file.display().to_string(), error }),
    }
}

/// Chooses versions, and writes the lock.
///
/// # Errors
/// No versions fit together, with the reasons; a registry could not be asked.
pub async fn lock(context: &Context, request: &Request) -> Result<Locked, Error> {
    let package = Package::open(&request.directory)?;
    let before = read(&request.directory)?;
    let mut resolution = resolve(context, &package, request, before.as_ref()).await?;
    let mut unknown_images = Vec::new();
    if request.images {
        let found = images::scan(&package)?;
        unknown_images =
            images::add(context, &mut resolution.lock, found, before.as_ref(), request.fresh).await?;
    }
    let file = request.directory.join(LOCK_FILE);
    let text = resolution.lock.to_text().map_err(|error| Error::Unfit(error.to_string()))?;
    let written = std::fs::read_to_string(&file).ok().as_deref() != Some(&text);
    if written {
        super::bump::write(&file, &text)?;
    }
    let Resolution { lock, order, changes, requests } = resolution;
    Ok(Locked { file, written, order, changes, requests, unknown_images, lock })
}

async fn resolve(
    context: &Context,
    package: &Package,
    request: &Request,
    before: Option<&Lock>,
) -> Result<Resolution, Error> {
    let root = Root::of(&package.manifest, base(context, package, request.repository.as_deref()).await?);
    let registries = Registries::new(context)?;
    let before = if request.fresh { None } else { before };
    let solved = solve(&root, &registries, before, &request.options(context)?).await;
    solved.map_err(|error| Error::Resolve(Box::new(error)))
}

/// Why the lock no longer fits its package; empty where it does. Nobody is asked.
///
/// # Errors
/// There is no lock, or it cannot be read.
pub fn check(context: &Context, request: &Request) -> Result<Vec<String>, Error> {
    let package = Package::open(&request.directory)?;
    let Some(lock) = read(&request.directory)? else {
        if package.manifest.spec.dependencies.is_empty() {
            return Ok(Vec::new());
        }
        return Ok(vec![format!("there is no {LOCK_FILE}, and the package has dependencies")]);
    };
    let root = Root::of(&package.manifest, None);
    Ok(lock.check(&root, &request.options(context)?))
}

/// Who needs what: from the lock, or as it would be locked now.
///
/// # Errors
/// As [`lock`].
pub async fn deps(context: &Context, request: &Request) -> Result<(Tree, Lock), Error> {
    let package = Package::open(&request.directory)?;
    let lock = match read(&request.directory)? {
        Some(lock) => lock,
        None => resolve(context, &package, request, None).await?.lock,
    };
    Ok((lock.tree(), lock))
}
