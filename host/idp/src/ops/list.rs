//! The repositories of a registry, or the tags of a repository.

use std::collections::BTreeMap;

use idp_oci::name::{NameError, Registry, Repository};
use serde::Serialize;

use super::session::{self, Subject};
use super::{Context, Error};

/// One repository or tag.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The digest of a tag's manifest, where the registry tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What else the registry tells, by the keys of the provider contract.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Entry {
    /// One of which only the name is known.
    pub fn named(name: String) -> Self {
        Self { name, digest: None, details: BTreeMap::new() }
    }
}

/// A list.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct List {
    /// Which registry.
    pub registry: String,
    /// Which repository, where tags are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Sorted by name.
    pub entries: Vec<Entry>,
}

/// Lists the repositories of a registry (`host[:port]`, a URL, or the default), or the tags of a repository.
pub async fn list(context: &Context, place: Option<&str>) -> Result<List, Error> {
    let (registry, repository) = place_of(context, place)?;
    let subject = Subject { registry: &registry, repository: repository.as_ref(), tag: None };
    let session = session::open(context, subject).await?;
    let mut entries = match &repository {
        Some(repository) => session.tags(repository).await?,
        None => session.repositories().await?,
    };
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(List {
        registry: registry.to_string(),
        repository: repository.map(|repository| repository.to_string()),
        entries,
    })
}

fn place_of(context: &Context, place: Option<&str>) -> Result<(Registry, Option<Repository>), Error> {
    let Some(place) = place else {
        let (address, _) = context.default_registry()?.ok_or(Error::NoRegistry)?;
        return Ok((address.registry, None));
    };
    let plain = ["https://", "http://", "oci://"]
        .iter()
        .find_map(|scheme| place.strip_prefix(scheme))
        .unwrap_or(place);
    let plain = plain.trim_end_matches('/');
    let is_host = !plain.contains('/') && (plain.contains(['.', ':']) || plain == "localhost");
    if is_host {
        return Ok((plain.parse::<Registry>()?, None));
    }
    let reference = context.reference(plain)?;
    if reference.tag.is_some() || reference.digest.is_some() {
        return Err(NameError::Repository(place.to_owned()).into());
    }
    Ok((reference.registry, Some(reference.repository)))
}
