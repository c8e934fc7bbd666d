//! The index of referrers that a registry does not keep itself (distribution-spec, "Pushing Manifests with Subject"; case 63): where it
//! has no referrers API, whoever writes a manifest with a subject adds it to the index under the tag `sha256-<hex>`.
//!
//! Several do that at once, and the specification has no way to change an index but to write a new one. Within a process they take
//! turns. Between processes `If-Match` decides where the registry heeds it; where it does not, what was written is read again, after as
//! long as the writing took: who had read before us has written by then, and what it took away is added once more.
//!
//! Depends on `manifest` and `referrers`. In: a manifest that was written. Out: where it is listed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderName;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Client, ClientError};
use crate::digest::Digest;
use crate::manifest::{Manifest, Shape};
use crate::media;
use crate::name::{Repository, Tag, Target};

/// How often an entry may be taken away before we give up.
const MOST_ROUNDS: usize = 10;
/// What was written is read again after this time at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where a manifest with a subject is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// It has no subject.
    NoSubject,
    /// The registry lists it.
    ByRegistry,
    /// It stands in the index under this tag.
    UnderTag(Tag),
}

impl Client {
    /// Sees to it that a manifest, just written, is found among the referrers of its subject. Sends nothing where it has none, or
    /// where the registry said to this or another one that it lists it.
    pub async fn list_referrer(
        &self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<Listed, ClientError> {
        let Some(subject) = manifest.subject() else { return Ok(Listed::NoSubject) };
        if self.lists_referrers(repository, &subject.digest).await? {
            return Ok(Listed::ByRegistry);
        }
        let content = |problem: String| ClientError::Content {
            what: format!("referrers of {}/{repository}@{}", self.registry(), subject.digest),
            problem,
        };
        let tag: Tag = subject.digest.referrers_tag().parse().map_err(|error| content(format!("{error}")))?;
        let target = Target::Tag(tag.clone());
        let _turn = self.shared.fallback.lock().await;
        let mut refused: Option<Option<Digest>> = None;
        for _ in 0..MOST_ROUNDS {
            let started = Instant::now();
            let current = match self.tagged_manifest(repository, &target, None).await {
                Ok(current) => Some(current),
                Err(error) if error.status() == Some(404) => None,
                Err(error) => return Err(error),
            };
            let (mut index, seen) = match &current {
                Some((index, _)) => (Index::read(index).map_err(content)?, Some(index.digest().clone())),
                None => (Index::default(), None),
            };
            if index.has(manifest.digest()) {
                return Ok(Listed::UnderTag(tag));
            }
            index.add(manifest).map_err(|error| content(error.to_string()))?;
            // A condition that failed although nothing had changed is one that this registry cannot judge.
            let judges = refused.as_ref() != Some(&seen);
            let condition = if judges { condition(current) } else { None };
            let conditional = condition.is_some();
            let updated = index.manifest().map_err(content)?;
            match self.put_manifest_if(repository, &target, &updated, condition).await {
                Ok(_) => {}
                Err(error) if conditional && matches!(error.status(), Some(409 | 412)) => {
                    refused = Some(seen);
                    continue;
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(started.elapsed().min(LONGEST_PAUSE)).await;
        }
        Err(content(format!(
            "others changed the index under the tag {tag} at the same time, {MOST_ROUNDS} times; push again"
        )))
    }

    /// Whether the registry has the referrers API; asked once, and not at all where an answer has shown it.
    async fn lists_referrers(&self, repository: &Repository, subject: &Digest) -> Result<bool, ClientError> {
        if let Some(known) = self.shared.referrers.get().copied() {
            return Ok(known);
        }
        let known = match self.hints(repository).await.referrers {
            Some(known) => known,
            None => self.by_api(repository, subject).await?.is_some(),
        };
        Ok(*self.shared.referrers.get_or_init(|| known))
    }
}

/// What must not have changed meanwhile. Weak tags cannot be compared for that.
fn condition(current: Option<(Manifest, Option<String>)>) -> Option<(HeaderName, String)> {
    match current {
        None => Some((IF_NONE_MATCH, "*".to_owned())),
        Some((_, etag)) => etag.filter(|etag| etag.starts_with('"')).map(|etag| (IF_MATCH, etag)),
    }
}

/// An index under a fallback tag; whatever others wrote into it is kept as it is.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Box<RawValue>>>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

impl Default for Index {
    fn default() -> Self {
        let rest =
            [("schemaVersion".to_owned(), 2.into()), ("mediaType".to_owned(), media::OCI_INDEX.into())];
        Self { manifests: Some(Vec::new()), rest: rest.into() }
    }
}

/// As much of an entry as is looked at.
#[derive(Deserialize)]
struct Existing {
    digest: String,
}

/// The entry of a manifest (distribution-spec: its descriptor with its `artifactType` and annotations).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// What an entry repeats of its manifest.
#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Index {
    fn read(manifest: &Manifest) -> Result<Self, String> {
        if !matches!(manifest.shape(), Shape::Index { .. }) {
            let media_type = &manifest.descriptor().media_type;
            return Err(format!("the tag that lists them is no index but `{media_type}`"));
        }
        serde_json::from_slice(manifest.bytes()).map_err(|error| error.to_string())
    }

    fn has(&self, digest: &Digest) -> bool {
        self.manifests.iter().flatten().any(|raw| {
            serde_json::from_str::<Existing>(raw.get()).is_ok_and(|entry| entry.digest == digest.as_str())
        })
    }

    fn add(&mut self, manifest: &Manifest) -> serde_json::Result<()> {
        let descriptor = manifest.descriptor();
        let of_config = match manifest.shape() {
            Shape::Image { config, .. } => Some(config.media_type.as_str()),
            Shape::Index { .. } => None,
        };
        let annotated: Annotated = serde_json::from_slice(manifest.bytes())?;
        let entry = Entry {
            media_type: &descriptor.media_type,
            digest: &descriptor.digest,
            size: descriptor.size,
            artifact_type: manifest.artifact_type().or(of_config),
            annotations: annotated.annotations.unwrap_or_default(),
        };
        self.manifests.get_or_insert_default().push(serde_json::value::to_raw_value(&entry)?);
        Ok(())
    }

    fn manifest(&self) -> Result<Manifest, String> {
        let bytes = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        Manifest::parse(Bytes::from(bytes), Some(media::OCI_INDEX)).map_err(|error| error.to_string())
    }
}
