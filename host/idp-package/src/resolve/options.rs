//! What is to be resolved, and how.

use std::collections::BTreeSet;

use super::{Location, Rewrite};
use crate::manifest::{Dependency, Manifest, Named, Provides, Requires};
use crate::version::{Version, VersionError, loose};

/// What is to be resolved: a package, or whatever else has dependencies.
#[derive(Debug, Clone, PartialEq)]
pub struct Root {
    /// Its name.
    pub name: String,
    /// Its version, as written.
    pub version: String,
    /// Where it is or will be: relative references start there.
    pub location: Option<Location>,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// What must not be beside it.
    pub conflicts: Vec<Named>,
    /// What it takes the place of.
    pub replaces: Vec<Named>,
    /// What the cluster has to have.
    pub requires: Requires,
    /// What it brings.
    pub provides: Provides,
}

impl Root {
    /// A package that lies in a directory.
    pub fn of(manifest: &Manifest, location: Option<Location>) -> Self {
        Self {
            name: manifest.metadata.name.clone(),
            version: manifest.metadata.version.clone(),
            location,
            dependencies: manifest.spec.dependencies.clone(),
            conflicts: manifest.spec.conflicts.clone(),
            replaces: manifest.spec.replaces.clone(),
            requires: manifest.spec.requires.clone(),
            provides: manifest.spec.provides.clone(),
        }
    }
}

/// How it is resolved.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Of what a lock holds, these are chosen anew; the rest stays where it can. Without a lock everything is chosen.
    pub update: BTreeSet<String>,
    /// The lowest versions instead of the highest, and no lock is looked at: for testing lower bounds.
    pub lowest: bool,
    /// Features that are switched on: `tls` in every package, `argo-workflows/tls` in one. An optional dependency without `when` is
    /// switched on by its own name.
    pub features: BTreeSet<String>,
    /// What is known about the cluster.
    pub facts: Facts,
    /// Mirrors.
    pub rewrites: Vec<Rewrite>,
    /// Bounds of what is asked and tried.
    pub limits: Limits,
}

impl Options {
    /// Whether a dependency that a package says counts.
    pub(super) fn counts(&self, package: &str, dependency: &Dependency) -> bool {
        let feature = dependency.when.as_deref().unwrap_or(&dependency.name);
        !dependency.optional
            || self.features.contains(feature)
            || self.features.contains(&format!("{package}/{feature}"))
    }
}

/// What is known about the cluster. What is not known is not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its version of Kubernetes, as a release: see [`Facts::kubernetes`].
    pub kubernetes: Option<Version>,
    /// The kinds it knows: `group/version/Kind` or `group/version`, `v1/ConfigMap` or `v1` for the core.
    pub apis: Option<BTreeSet<String>>,
}

impl Facts {
    /// The version of a cluster: `v1.33.1`, `1.29.3-gke.100`. What stands behind the three numbers is a vendor's and no pre-release,
    /// so it is left away: `>=1.29` is to hold for it.
    ///
    /// # Errors
    /// It is no version.
    pub fn kubernetes(text: &str) -> Result<Version, VersionError> {
        match loose::parse(text) {
            Ok(loose) => Ok(loose.version.release()),
            Err(_) => text.parse::<Version>(),
        }
    }
}

/// Bounds of what is asked and tried: what packages of strangers say decides how much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Questions to registries.
    pub requests: usize,
    /// At once.
    pub concurrency: usize,
    /// Steps of the solver, over all its attempts.
    pub steps: usize,
    /// Dependencies, conflicts and replaced packages that one package may name.
    pub named: usize,
    /// Versions of one package that are looked at: the highest.
    pub versions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests: 5_000, concurrency: 8, steps: 1_000_000, named: 500, versions: 2_000 }
    }
}
