//! A repository or a tag with what is known of it: the open list of the provider contract (`wit/README.md`) with types.

use std::collections::BTreeMap;

use serde::Serialize;

/// One repository or tag. What the product does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The digest of a tag's manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What is known of it.
    #[serde(flatten)]
    pub facts: Facts,
}

/// What is known of a repository or a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// Media type of a tag's manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its artifact type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How many tags a repository has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<u64>,
    /// How often it was pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulls: Option<u64>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulled_at: Option<String>,
    /// `public`, `private`, `internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<String>,
    /// The tag cannot be moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Bytes that are used of a quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_used: Option<u64>,
    /// Bytes of the quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_limit: Option<u64>,
    /// Where people look at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What else the provider says, by its own keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Facts {
    /// Reads the pairs of a provider. An empty value counts as not given, one of another type than its key has stays in `details`.
    pub fn of(mut pairs: BTreeMap<String, String>) -> Self {
        pairs.retain(|_, value| !value.is_empty());
        Self {
            media_type: pairs.remove("media-type"),
            artifact_type: pairs.remove("artifact-type"),
            size: parsed(&mut pairs, "size"),
            tags: parsed(&mut pairs, "tags"),
            pulls: parsed(&mut pairs, "pulls"),
            created_at: pairs.remove("created-at"),
            updated_at: pairs.remove("updated-at"),
            pushed_at: pairs.remove("pushed-at"),
            pulled_at: pairs.remove("pulled-at"),
            visibility: pairs.remove("visibility"),
            immutable: parsed(&mut pairs, "immutable"),
            quota_used: parsed(&mut pairs, "quota-used"),
            quota_limit: parsed(&mut pairs, "quota-limit"),
            url: pairs.remove("url"),
            description: pairs.remove("description"),
            details: pairs,
        }
    }
}

fn parsed<T: std::str::FromStr>(pairs: &mut BTreeMap<String, String>, key: &str) -> Option<T> {
    let value = pairs.get(key)?.parse().ok()?;
    pairs.remove(key);
    Some(value)
}

impl Entry {
    /// One of which only the name is known.
    pub fn named(name: String) -> Self {
        Self { name, ..Self::default() }
    }
}

impl From<crate::provider::Entry> for Entry {
    fn from(entry: crate::provider::Entry) -> Self {
        let digest = entry.digest.filter(|digest| !digest.is_empty());
        Self { name: entry.name, digest, facts: Facts::of(entry.extra) }
    }
}

#[cfg(test)]
mod tests {
    use super::Facts;

    #[test]
    fn types_of_the_contract() {
        let pairs =
            [("size", "12"), ("pulls", "many"), ("immutable", "true"), ("url", ""), ("project-id", "7")];
        let facts = Facts::of(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!((facts.size, facts.pulls, facts.immutable, facts.url), (Some(12), None, Some(true), None));
        assert_eq!(facts.details.keys().collect::<Vec<_>>(), ["project-id", "pulls"]);
    }
}
