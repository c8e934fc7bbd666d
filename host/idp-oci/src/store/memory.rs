//! A store in memory, behind one lock: for tests and throw-away registries, and the reference that the others are held to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::{Repository, Tag, Target};
use crate::store::{Listing, OCTETS, Page, Referral, Referrer, Staged, Store, StoreError, StoredManifest};

/// Content that goes with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    repositories: BTreeMap<String, Content>,
    /// Blobs by digest, each once, with the number of repositories that have it.
    blobs: HashMap<Digest, (Bytes, usize)>,
}

#[derive(Debug, Default)]
struct Content {
    blobs: BTreeSet<Digest>,
    manifests: BTreeMap<Digest, (StoredManifest, Option<Referral>)>,
    tags: BTreeMap<String, Digest>,
}

impl State {
    fn link(&mut self, repository: &Repository, digest: &Digest, bytes: impl FnOnce() -> Bytes) {
        let content = self.repositories.entry(repository.as_str().to_owned()).or_default();
        if content.blobs.insert(digest.clone()) {
            self.blobs.entry(digest.clone()).or_insert_with(|| (bytes(), 0)).1 += 1;
        }
    }

    fn content(&self, repository: &Repository) -> Option<&Content> {
        self.repositories.get(repository.as_str())
    }

    fn blob(&self, repository: &Repository, digest: &Digest) -> Option<&Bytes> {
        self.content(repository)?.blobs.get(digest)?;
        self.blobs.get(digest).map(|(bytes, _)| bytes)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code under this lock can panic half-way.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn blob_of(digest: &Digest, bytes: Bytes) -> Blob {
    Blob::from_known(Descriptor::new(OCTETS, digest.clone(), bytes.len() as u64), bytes)
}

#[async_trait]
impl Store for MemoryStore {
    async fn stage(&self) -> Result<Box<dyn Staged>, StoreError> {
        Ok(Box::new(StagedBytes { state: Arc::clone(&self.state), bytes: BytesMut::new() }))
    }

    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(lock(&self.state).blob(repository, digest).map(|bytes| bytes.len() as u64))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        Ok(lock(&self.state).blob(repository, digest).map(|bytes| blob_of(digest, bytes.clone())))
    }

    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError> {
        let mut state = lock(&self.state);
        let found = match from {
            Some(from) => state.blob(from, digest),
            None => state.blobs.get(digest).map(|(bytes, _)| bytes),
        };
        let Some(bytes) = found.cloned() else { return Ok(false) };
        state.link(repository, digest, || bytes);
        Ok(true)
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let mut state = lock(&self.state);
        let Some(content) = state.repositories.get_mut(repository.as_str()) else { return Ok(false) };
        if !content.blobs.remove(digest) {
            return Ok(false);
        }
        if let Some((_, holders)) = state.blobs.get_mut(digest) {
            *holders -= 1;
            if *holders == 0 {
                state.blobs.remove(digest);
            }
        }
        Ok(true)
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &StoredManifest,
        referral: Option<&Referral>,
        tags: &[Tag],
    ) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        let content = state.repositories.entry(repository.as_str().to_owned()).or_default();
        content.manifests.insert(manifest.digest.clone(), (manifest.clone(), referral.cloned()));
        for tag in tags {
            content.tags.insert(tag.as_str().to_owned(), manifest.digest.clone());
        }
        Ok(())
    }

    async fn manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let state = lock(&self.state);
        let Some(content) = state.content(repository) else { return Ok(None) };
        let digest = match target {
            Target::Digest(digest) => Some(digest),
            Target::Tag(tag) => content.tags.get(tag.as_str()),
        };
        Ok(digest.and_then(|digest| content.manifests.get(digest)).map(|(manifest, _)| manifest.clone()))
    }

    async fn has_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let state = lock(&self.state);
        Ok(state.content(repository).is_some_and(|content| content.manifests.contains_key(digest)))
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let mut state = lock(&self.state);
        let Some(content) = state.repositories.get_mut(repository.as_str()) else { return Ok(false) };
        content.tags.retain(|_, named| named != digest);
        Ok(content.manifests.remove(digest).is_some())
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        let mut state = lock(&self.state);
        let content = state.repositories.get_mut(repository.as_str());
        Ok(content.is_some_and(|content| content.tags.remove(tag.as_str()).is_some()))
    }

    async fn tags(
        &self,
        repository: &Repository,
        page: &Page,
    ) -> Result<Option<Listing<String>>, StoreError> {
        let state = lock(&self.state);
        Ok(state.content(repository).map(|content| page.cut(content.tags.keys().cloned())))
    }

    async fn repositories(&self, page: &Page) -> Result<Listing<String>, StoreError> {
        let state = lock(&self.state);
        let with_manifests = state.repositories.iter().filter(|(_, content)| !content.manifests.is_empty());
        Ok(page.cut(with_manifests.map(|(name, _)| name.clone())))
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, StoreError> {
        let state = lock(&self.state);
        let Some(content) = state.content(repository) else { return Ok(Vec::new()) };
        let referring = content.manifests.values().filter_map(|(manifest, referral)| {
            let referral = referral.as_ref().filter(|referral| referral.subject == *subject)?;
            Some(Referrer::new(manifest, referral))
        });
        Ok(referring.collect())
    }
}

#[derive(Debug)]
struct StagedBytes {
    state: Arc<Mutex<State>>,
    bytes: BytesMut,
}

#[async_trait]
impl Staged for StagedBytes {
    async fn append(&mut self, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        for chunk in chunks {
            self.bytes.extend_from_slice(&chunk);
        }
        Ok(())
    }

    async fn read_back(&self) -> Result<Blob, StoreError> {
        Ok(Blob::from_bytes(OCTETS, Bytes::copy_from_slice(&self.bytes)))
    }

    async fn commit(self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let Self { state, bytes } = *self;
        lock(&state).link(repository, digest, || bytes.freeze());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryStore;
    use crate::store::suite;

    #[tokio::test]
    async fn keeps_the_rules_of_a_store() {
        suite::run(async || Arc::new(MemoryStore::default())).await;
    }
}
