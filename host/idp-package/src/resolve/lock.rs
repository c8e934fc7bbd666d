//! `idp.lock`: exactly what was chosen, so that nothing has to be chosen again. Text in and out, the same bytes for the same content.

use std::collections::{BTreeMap, BTreeSet};

use idp_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use super::{Image, Location, Options, Root, graph};
use crate::canonical;
use crate::version::{Constraint, Version};

/// No lock is longer.
const LARGEST: usize = 4 * 1024 * 1024;
/// No lock holds more packages.
const MOST_PACKAGES: usize = 5_000;
/// Of this format.
const LOCK_VERSION: u32 = 1;

const HEAD: &str = "# Written by `idp package lock`; do not edit. It belongs with the sources.\n";

/// An image in a lock.
pub type LockedImage = Image;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// `1`.
    pub lock_version: u32,
    /// What was resolved.
    pub root: LockedRoot,
    /// What was chosen, by name.
    #[serde(default)]
    pub packages: Vec<LockedPackage>,
    /// The images that they use, as their makers recorded them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<LockedImage>,
}

/// What was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedRoot {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Of everything in its manifest that decides about dependencies: another one, and the lock is stale.
    pub manifest_hash: Digest,
    /// The features that were switched on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
}

/// What was chosen for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedPackage {
    /// The name.
    pub name: String,
    /// The version.
    pub version: Version,
    /// Where it is, by its canonical name; mirrors are not written.
    pub repository: Location,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The digest of its config blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<Digest>,
    /// Who depends on it.
    pub requested_by: Vec<RequestedBy>,
    /// The names of what it depends on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
}

/// Who depends on a package, and on which versions of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestedBy {
    /// The name of a package, or of the root.
    pub from: String,
    /// The constraint.
    pub constraint: String,
}

/// Why a text is no lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It is not YAML, or has keys or values that the format does not know.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What is wrong.
        message: String,
    },
    /// It is no file of this kind, or what it says does not hold together.
    #[error("{0}; lock again")]
    Content(String),
    /// It could not be written.
    #[error("the lock cannot be written: {0}")]
    Write(String),
}

impl Lock {
    /// Reads a lock and checks that it holds together.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        if text.len() > LARGEST {
            return Err(LockError::Content(format!("longer than {LARGEST} bytes; this is no lock")));
        }
        let lock: Self = serde_saphyr::from_str(text).map_err(|error| {
            let message = error.without_snippet().to_string();
            let message = message.lines().next().unwrap_or_default();
            let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before).to_owned();
            match error.location() {
                Some(place) => LockError::Syntax { line: place.line(), column: place.column(), message },
                None => LockError::Content(message),
            }
        })?;
        lock.holds_together().map_err(LockError::Content)?;
        Ok(lock)
    }

    fn holds_together(&self) -> Result<(), String> {
        if self.lock_version != LOCK_VERSION {
            return Err(format!(
                "`lockVersion: {}` is not known here; {LOCK_VERSION} is, and a newer idp may know more",
                self.lock_version
            ));
        }
        if self.packages.len() > MOST_PACKAGES {
            return Err(format!("{} packages; at most {MOST_PACKAGES} are read", self.packages.len()));
        }
        let mut names: BTreeMap<&str, &LockedPackage> = BTreeMap::new();
        for package in &self.packages {
            if package.name == self.root.name || names.insert(&package.name, package).is_some() {
                return Err(format!("{} is named twice", package.name));
            }
        }
        for package in &self.packages {
            let name = &package.name;
            if package.requested_by.is_empty() {
                return Err(format!("nobody asks for {name}"));
            }
            for RequestedBy { from, constraint } in &package.requested_by {
                let parsed: Constraint =
                    constraint.parse().map_err(|error| format!("{from} asks for {name}: {error}"))?;
                if !parsed.matches(&package.version) {
                    return Err(format!(
                        "{from} asks for {name} {constraint}, and {} is locked",
                        package.version
                    ));
                }
                let known = *from == self.root.name
                    || names.get(from.as_str()).is_some_and(|from| from.dependencies.contains(name));
                if !known {
                    return Err(format!("{from} asks for {name} and does not depend on it"));
                }
            }
            for on in &package.dependencies {
                let asked = names.get(on.as_str()).is_some_and(|on| on.constraint_from(name));
                if !asked {
                    return Err(format!("{name} depends on {on}, which does not say so"));
                }
            }
        }
        self.order().map(|_| ()).map_err(|cycle| format!("a cycle: {}", graph::circle(&cycle)))
    }

    /// The file's text.
    ///
    /// # Errors
    /// It cannot be written as YAML.
    pub fn to_text(&self) -> Result<String, LockError> {
        let yaml = serde_saphyr::to_string(self).map_err(|error| LockError::Write(error.to_string()))?;
        Ok(format!("{HEAD}{yaml}"))
    }

    /// Why it no longer fits what it was made from; empty where it does. Nobody is asked.
    pub fn check(&self, root: &Root, options: &Options) -> Vec<String> {
        let mut stale = Vec::new();
        if self.root.name != root.name {
            stale.push(format!("it is the lock of {}, not of {}", self.root.name, root.name));
        }
        let now: BTreeMap<&str, &str> = root
            .dependencies
            .iter()
            .filter(|dependency| options.counts(&root.name, dependency))
            .map(|dependency| (dependency.name.as_str(), dependency.version.as_str()))
            .collect();
        for (name, constraint) in &now {
            match self.package(name) {
                None => stale.push(format!("{name} {constraint} is a dependency now, and is not locked")),
                Some(package) => {
                    let fits =
                        constraint.parse::<Constraint>().is_ok_and(|parsed| parsed.matches(&package.version));
                    if !fits {
                        stale.push(format!(
                            "{name} is locked at {}, which is not {constraint}",
                            package.version
                        ));
                    }
                }
            }
        }
        for package in &self.packages {
            if package.constraint_from(&self.root.name) && !now.contains_key(package.name.as_str()) {
                stale.push(format!("{} is no dependency any more", package.name));
            }
        }
        if self.root.features != options.features {
            let list = |features: &BTreeSet<String>| match features.is_empty() {
                true => "no features".to_owned(),
                false => features.iter().cloned().collect::<Vec<_>>().join(", "),
            };
            stale.push(format!(
                "it was made with {}, and now there are {}",
                list(&self.root.features),
                list(&options.features)
            ));
        }
        if stale.is_empty() && self.root.manifest_hash != manifest_hash(root) {
            stale.push(
                "what the manifest says about dependencies, conflicts or requirements was changed".to_owned(),
            );
        }
        stale
    }
}

impl LockedPackage {
    fn constraint_from(&self, name: &str) -> bool {
        self.requested_by.iter().any(|by| by.from == name)
    }
}

/// The digest of everything in a manifest that decides about dependencies, as canonical JSON: the order of lists and how it is written
/// do not matter, the package's own version does not either.
pub fn manifest_hash(root: &Root) -> Digest {
    let mut section = serde_json::json!({
        "dependencies": root.dependencies,
        "conflicts": root.conflicts,
        "replaces": root.replaces,
        "requires": root.requires,
    });
    sort_lists(&mut section);
    Digest::of(&spelled(&section))
}

fn sort_lists(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => map.values_mut().for_each(sort_lists),
        serde_json::Value::Array(items) => items.sort_by_cached_key(spelled),
        _ => {}
    }
}

fn spelled(value: &serde_json::Value) -> Vec<u8> {
    canonical::to_vec(value).expect("a value is JSON")
}
