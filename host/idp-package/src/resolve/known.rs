//! What has been found out: tags of repositories, and what versions say, read and checked once.

use std::collections::{BTreeMap, BTreeSet};

use super::choice::{Choices, allowed};
use super::{Location, Metadata, Options, Root};
use crate::manifest::{Dependency, Named, Requires};
use crate::version::tags::Candidate;
use crate::version::{Constraint, ConstraintError, Version, loose};

/// What a repository has.
#[derive(Debug)]
pub(super) enum Listing {
    /// Its versions, lowest first.
    Versions(Vec<Candidate>),
    /// It is not there, and what was said.
    Nothing(String),
}

/// What a version says.
#[derive(Debug)]
pub(super) enum Said {
    Package(Box<Package>),
    /// It cannot be used, and why.
    Unusable(String),
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) listings: BTreeMap<Location, Listing>,
    pub(super) said: BTreeMap<(Location, Version), Said>,
}

/// A package whose words were read.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) metadata: Metadata,
    pub(super) needs: Vec<Need>,
    pub(super) against: Vec<Against>,
    pub(super) kubernetes: Option<Constraint>,
}

/// A dependency that counts.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) name: String,
    pub(super) location: Location,
    pub(super) constraint: Constraint,
    /// What the constraint lets the solver choose.
    pub(super) choices: Choices,
}

/// What must not be beside a package.
#[derive(Debug)]
pub(super) struct Against {
    pub(super) name: String,
    pub(super) constraint: Constraint,
    /// It takes its place, rather than not bearing it.
    pub(super) replaces: bool,
}

impl Known {
    pub(super) fn versions(&self, location: &Location) -> &[Candidate] {
        match self.listings.get(location) {
            Some(Listing::Versions(candidates)) => candidates,
            _ => &[],
        }
    }

    pub(super) fn package(&self, location: &Location, version: &Version) -> Option<&Package> {
        match self.said.get(&(location.clone(), version.clone())) {
            Some(Said::Package(package)) => Some(package),
            _ => None,
        }
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.said.values().filter_map(|said| match said {
            Said::Package(package) => Some(&**package),
            Said::Unusable(_) => None,
        })
    }
}

/// Reads what is to be resolved. What is wrong with it is its author's to mend.
pub(super) fn read_root(
    root: &Root,
    digest: idp_oci::digest::Digest,
    options: &Options,
) -> Result<Package, String> {
    let needs = needs(&root.name, &root.dependencies, root.location.as_ref(), options)?;
    if needs.iter().any(|need| need.name == root.name) {
        return Err("it depends on itself".to_owned());
    }
    let against = against(&root.conflicts, &root.replaces)?;
    let kubernetes = kubernetes(&root.requires)?;
    let metadata = Metadata {
        name: root.name.clone(),
        version: root.version.clone(),
        digest,
        config_digest: None,
        dependencies: root.dependencies.clone(),
        conflicts: root.conflicts.clone(),
        replaces: root.replaces.clone(),
        requires: root.requires.clone(),
        provides: root.provides.clone(),
        images: Vec::new(),
    };
    Ok(Package { metadata, needs, against, kubernetes })
}

/// Reads what a version says. What is wrong with it makes it unusable, and the answer says why.
pub(super) fn read(
    metadata: Metadata,
    location: &Location,
    version: &Version,
    root: &Root,
    options: &Options,
) -> Result<Package, String> {
    // What others made may say it with a v, or not at all.
    if loose::parse(&metadata.version).is_ok_and(|said| said.version != *version) {
        return Err(format!("it calls itself version `{}`", short(&metadata.version)));
    }
    let named = metadata.dependencies.len() + metadata.conflicts.len() + metadata.replaces.len();
    if named > options.limits.named {
        return Err(format!("it names {named} other packages, and {} are allowed", options.limits.named));
    }
    let needs = needs(&metadata.name, &metadata.dependencies, Some(location), options)?;
    if needs.iter().any(|need| need.name == metadata.name) {
        return Err("it depends on itself".to_owned());
    }
    if needs.iter().any(|need| need.name == root.name) {
        return Err(format!("it depends on {}, which is what is being resolved: a cycle", root.name));
    }
    let against = against(&metadata.conflicts, &metadata.replaces)?;
    let refuses = |against: &&Against| {
        against.name == root.name
            && root.version.parse().is_ok_and(|version| against.constraint.matches(&version))
    };
    if let Some(refused) = against.iter().find(refuses) {
        let verb = if refused.replaces { "replaces" } else { "conflicts with" };
        return Err(format!(
            "it {verb} {} {}, which is what is being resolved",
            root.name, refused.constraint
        ));
    }
    let kubernetes = kubernetes(&metadata.requires)?;
    Ok(Package { metadata, needs, against, kubernetes })
}

fn needs(
    package: &str,
    dependencies: &[Dependency],
    base: Option<&Location>,
    options: &Options,
) -> Result<Vec<Need>, String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for dependency in dependencies.iter().filter(|dependency| options.counts(package, dependency)) {
        let name = named(&dependency.name)?;
        if !seen.insert(name.clone()) {
            return Err(format!("it names the dependency {name} twice"));
        }
        let wrong = |error: String| format!("its dependency {name}: {error}");
        let constraint: Constraint =
            dependency.version.parse().map_err(|error: ConstraintError| wrong(error.to_string()))?;
        let beside = format!("./{name}");
        let reference = dependency.repository.as_deref().unwrap_or(&beside);
        let location = Location::resolve(reference, base).map_err(|error| wrong(error.to_string()))?;
        let choices = allowed(&constraint);
        found.push(Need { name, location, constraint, choices });
    }
    Ok(found)
}

fn against(conflicts: &[Named], replaces: &[Named]) -> Result<Vec<Against>, String> {
    let all = conflicts.iter().map(|named| (named, false)).chain(replaces.iter().map(|named| (named, true)));
    all.map(|(other, replaces)| {
        let name = named(&other.name)?;
        let verb = if replaces { "replaces" } else { "conflicts with" };
        let constraint = other.version.parse().map_err(|error| format!("it {verb} {name}: {error}"))?;
        Ok(Against { name, constraint, replaces })
    })
    .collect()
}

fn kubernetes(requires: &Requires) -> Result<Option<Constraint>, String> {
    let Some(text) = &requires.kubernetes else { return Ok(None) };
    text.parse().map(Some).map_err(|error| format!("what it requires of Kubernetes: {error}"))
}

/// Names stand in sentences and files: nothing else than a name is let in.
fn named(name: &str) -> Result<String, String> {
    let good = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if good { Ok(name.to_owned()) } else { Err(format!("`{}` is no name of a package", short(name))) }
}

fn short(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(80).collect()
}
