//! A catalogue that is filled by hand: for tests, here and elsewhere. It counts what it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use idp_oci::digest::Digest;
use idp_oci::name::Target;

use super::{Catalogue, CatalogueError, Location, Metadata};
use crate::manifest::{Dependency, Named, Provides, Requires};

/// Packages at places, by tag.
#[derive(Debug, Default)]
pub struct MemoryCatalogue {
    packages: BTreeMap<Location, BTreeMap<String, Metadata>>,
    failing: BTreeSet<Location>,
    asked: Mutex<Vec<String>>,
}

impl MemoryCatalogue {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A package without anything, to be filled: `oci://r.example/team/NAME` is called NAME, and its digest is that of its name,
    /// version and place.
    pub fn package(location: &Location, version: &str) -> Metadata {
        let name = location.repository.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        Metadata {
            digest: Digest::of(format!("{location}:{version}").as_bytes()),
            config_digest: None,
            name,
            version: version.to_owned(),
            dependencies: Vec::new(),
            conflicts: Vec::new(),
            replaces: Vec::new(),
            requires: Requires::default(),
            provides: Provides::default(),
            images: Vec::new(),
        }
    }

    /// A dependency on a package beside.
    pub fn dependency(name: &str, version: &str) -> Dependency {
        Dependency {
            name: name.to_owned(),
            version: version.to_owned(),
            repository: None,
            optional: false,
            when: None,
        }
    }

    /// A package and versions of it, for conflicts.
    pub fn named(name: &str, version: &str) -> Named {
        Named { name: name.to_owned(), version: version.to_owned() }
    }

    /// Puts a package under a tag.
    pub fn put(&mut self, location: &Location, tag: &str, metadata: Metadata) {
        self.packages.entry(location.clone()).or_default().insert(tag.to_owned(), metadata);
    }

    /// Takes a tag away.
    pub fn remove(&mut self, location: &Location, tag: &str) {
        if let Some(tags) = self.packages.get_mut(location) {
            tags.remove(tag);
        }
    }

    /// From now on this repository cannot be asked.
    pub fn fail(&mut self, location: &Location) {
        self.failing.insert(location.clone());
    }

    /// What it was asked since the last time, sorted.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().expect("nobody panics with it"));
        asked.sort();
        asked
    }

    fn at(
        &self,
        location: &Location,
        question: String,
    ) -> Result<&BTreeMap<String, Metadata>, CatalogueError> {
        self.asked.lock().expect("nobody panics with it").push(question);
        if self.failing.contains(location) {
            return Err(CatalogueError::Failed(format!("{location}: the registry does not answer")));
        }
        let missing = || CatalogueError::NotFound("there is no such repository".to_owned());
        self.packages.get(location).ok_or_else(missing)
    }
}

#[async_trait]
impl Catalogue for MemoryCatalogue {
    async fn tags(&self, location: &Location) -> Result<Vec<String>, CatalogueError> {
        Ok(self.at(location, format!("tags of {location}"))?.keys().cloned().collect())
    }

    async fn metadata(&self, location: &Location, target: &Target) -> Result<Metadata, CatalogueError> {
        let tags = self.at(location, format!("{target} of {location}"))?;
        let found = match target {
            Target::Tag(tag) => tags.get(tag.as_str()),
            Target::Digest(digest) => tags.values().find(|metadata| metadata.digest == *digest),
        };
        found.cloned().ok_or_else(|| CatalogueError::NotFound(format!("{target} is not there")))
    }
}
