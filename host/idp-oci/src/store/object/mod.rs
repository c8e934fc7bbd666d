//! A store over an object store: S3 and what speaks it, Google Cloud Storage, Azure. Several replicas over one bucket.
//!
//! May use what [`crate::store`] uses, and the crate `object_store`, which `bucket.rs` alone speaks to (with a client of its
//! own: this is not the registry client's traffic). In: settings and credentials. Out: a [`Store`].
//!
//! # Why `object_store`
//! It has conditional writes, parts and signed addresses for all three vendors behind one trait, an in-memory service for
//! tests, and takes `ring` and our HTTP client. It adds 24 crates; `opendal` adds some sixty, among them `rsa` with its known
//! timing leak, and does not tell a lost condition from other failures on all services.
//!
//! # Why several replicas lose nothing
//! No two replicas talk to each other, nobody holds a lock, no clock is compared with another one. Object stores are
//! asked for three things: reads and lists see every finished write, a write is whole or not there, and a write can be made
//! conditional. They are not asked for conditional deletion, which few have. From that follows the one rule:
//!
//! **Whatever can be deleted because of what was seen before has a key that is never used twice.** A deletion then hits exactly
//! what was seen, however late it arrives, and never what somebody wrote since.
//!
//! - *Tags.* A tag is the greatest of its keys that counts; every put writes a new one with the next turn, looks again, and takes
//!   away the ones before it, or its own when somebody was later. Of two pushes at once one is last, as if they had come one after
//!   the other. Key names carry the digest: a page of tags is a page of keys.
//! - *Manifests* have one key, written if it is not there, with a random *life* in it. Tags and entries of referrers name the
//!   life; they count only while the manifest has it. So deleting the one object deletes all of them at once, a manifest
//!   that is pushed again comes without its old tags, and clearing up may take its time. A push looks at the life again before
//!   it takes the place of another tag and before it is acknowledged; if the manifest was deleted meanwhile, it is put again.
//! - *Referrers* are one empty object for each (subject, referrer), what they say is read out of the manifest: no list is ever
//!   read, changed and written.
//! - *The catalogue* has an entry for every repository that was ever known. Nobody deletes one; one that is marked
//!   doubtful, by who took the last manifest away, is believed only after a look at the manifests.
//! - *Blobs* are stored once, under a random content id below their digest; that a repository has it is a key of its own.
//!
//! # Why collecting garbage loses nothing
//! See `sweep.rs`; its half of the bargain is in [`BucketStore::claim`]: who makes use of content that was there before
//! writes the membership first and looks second whether the content is condemned. The sweeper writes the condemnation first
//! and looks second for memberships. One of the two sees the other, whatever the order.
//!
//! # Uploads
//! A session lives in the replica that opened it. Small blobs wait in memory (up to one part) and are written once, to where
//! they stay. Larger ones go up in parts while they come, to `large/<id>`, because nobody knows the digest yet; S3 cannot
//! rename, and a copy on the service would take its time and stops at 5 GiB, so a small entry below the digest says
//! where the bytes are. No byte is sent twice, and none is sent for content that a repository here already has, if it is small.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use url::Url;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::name::{Repository, Tag, Target};
use crate::store::upload::UploadId;
use crate::store::{Listing, Page, Referral, Referrer, Staged, Store, StoreError, StoredManifest};

mod blob;
mod bucket;
mod catalog;
mod check;
#[cfg(test)]
mod history;
mod keys;
mod manifest;
mod referrer;
#[cfg(test)]
mod s3;
mod settings;
#[cfg(test)]
mod slow;
mod staged;
mod sweep;
mod tag;
#[cfg(test)]
mod tests;

use bucket::Bucket;
pub use settings::{ObjectSettings, ObjectSettingsError};
pub use sweep::{SweepOptions, Swept};

/// The layout that this idp writes and reads.
const LAYOUT_VERSION: u32 = 1;

/// How often something that others keep changing under our hands is begun anew.
const ATTEMPTS: u32 = 16;

/// How many small objects are asked for at once, for a list that needs to look into them.
const AT_ONCE: usize = 16;

/// A registry's content in a bucket, which any number of replicas share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BucketStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bucket: Bucket,
    settings: ObjectSettings,
    /// Repositories whose entry in the catalogue this replica has seen to, and whether as one that holds a manifest. That it
    /// is out of date costs a look, see `catalog.rs`.
    known: Mutex<HashMap<String, bool>>,
}

impl BucketStore {
    /// Opens the registry in a bucket, or makes one there. Refuses a bucket that does not keep the conditions of writes.
    ///
    /// `variables` is the environment; only the vendor's own names are looked at, see [`ObjectSettings`].
    pub async fn open(
        settings: &ObjectSettings,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, OpenError> {
        let bucket = settings.bucket(variables)?;
        Ok(Self::over(bucket, settings.clone()).await?)
    }

    /// A registry in a bucket that goes with the process: for tests, of replicas too.
    pub async fn in_memory() -> Result<Self, StoreError> {
        let bucket = Bucket::new("memory://", "registry", Arc::new(InMemory::new()), None);
        Self::over(bucket, ObjectSettings::default()).await
    }

    /// Another replica over the same bucket, which shares nothing with this one but the bucket.
    pub async fn replica(&self) -> Result<Self, StoreError> {
        Self::over(self.shared.bucket.clone(), self.shared.settings.clone()).await
    }

    async fn over(bucket: Bucket, settings: ObjectSettings) -> Result<Self, StoreError> {
        let layout = format!("{{\"layout\":{LAYOUT_VERSION}}}\n");
        bucket.create(keys::LAYOUT, Bytes::from(layout.clone())).await?;
        // Now there is one, ours or another replica's: a service that takes another one knows no conditions.
        if bucket.create(keys::LAYOUT, Bytes::from(layout)).await? {
            let object = keys::LAYOUT.to_owned();
            let why = "the service ignores `If-None-Match`; without conditional writes replicas would overwrite each other. \
                       Use a service that keeps them";
            return Err(StoreError::Object { object, why: why.to_owned() });
        }
        let found = bucket.get(keys::LAYOUT).await?;
        let found = found.as_ref().map_or(&b""[..], |object| &object.bytes);
        let found: Option<Layout> = serde_json::from_slice(found).ok();
        match found.map(|found| found.layout) {
            Some(LAYOUT_VERSION) => {}
            Some(newer) => {
                let path = format!("{bucket:?}").into();
                return Err(StoreError::Layout { path, found: newer, known: LAYOUT_VERSION });
            }
            None => {
                let what = format!("`{}` does not say which layout this is", keys::LAYOUT);
                return Err(StoreError::Damaged { what });
            }
        }
        Ok(Self { shared: Arc::new(Shared { bucket, settings, known: Mutex::default() }) })
    }

    fn bucket(&self) -> &Bucket {
        &self.shared.bucket
    }

    fn settings(&self) -> &ObjectSettings {
        &self.shared.settings
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, bool>> {
        // No code under this lock can leave the map half changed.
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a registry in a bucket did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings name no bucket.
    #[error(transparent)]
    Settings(#[from] ObjectSettingsError),
    /// The bucket did not do as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(serde::Deserialize)]
struct Layout {
    layout: u32,
}

/// A key that was never used before.
fn fresh() -> Result<UploadId, StoreError> {
    Ok(UploadId::random()?)
}

/// Waits a little, longer each time, for others who change the same thing.
async fn give_way(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(10) * attempt.min(20)).await;
}

fn damaged(key: &str, why: &str) -> StoreError {
    StoreError::Damaged { what: format!("the object `{key}` {why}") }
}

fn contended(key: &str) -> StoreError {
    let why = "others kept changing it for as long as it was tried; try again".to_owned();
    StoreError::Object { object: key.to_owned(), why }
}

/// The last part of a key.
fn last_part(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

#[async_trait]
impl Store for BucketStore {
    async fn stage(&self) -> Result<Box<dyn Staged>, StoreError> {
        Ok(Box::new(staged::StagedObject::new(self.clone())?))
    }

    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.member(repository, digest).await?.map(|membership| membership.size))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        Ok(self.member(repository, digest).await?.map(|membership| self.open_blob(digest, &membership)))
    }

    async fn blob_url(&self, repository: &Repository, digest: &Digest) -> Result<Option<Url>, StoreError> {
        self.signed_blob(repository, digest).await
    }

    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError> {
        self.mount_blob(repository, digest, from).await
    }

    async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<Vec<Digest>, StoreError> {
        let looked = futures_util::stream::iter(digests.to_vec()).map(async |digest: Digest| {
            Ok::<_, StoreError>(self.member(repository, &digest).await?.is_none().then_some(digest))
        });
        looked.buffered(AT_ONCE).try_filter_map(async |missing| Ok(missing)).try_collect().await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        self.unlink_blob(repository, digest).await
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &StoredManifest,
        referral: Option<&Referral>,
        tags: &[Tag],
    ) -> Result<(), StoreError> {
        self.push_manifest(repository, manifest, referral, tags).await
    }

    async fn manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<StoredManifest>, StoreError> {
        match target {
            Target::Digest(digest) => {
                Ok(self.read_manifest(repository, digest).await?.map(|kept| kept.into_stored(digest)))
            }
            Target::Tag(tag) => self.resolve(repository, tag).await,
        }
    }

    async fn has_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.bucket().head(&keys::manifest(repository, digest)).await?.is_some())
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        self.remove_manifest(repository, digest).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        self.remove_tag(repository, tag).await
    }

    async fn tags(
        &self,
        repository: &Repository,
        page: &Page,
    ) -> Result<Option<Listing<String>>, StoreError> {
        self.list_tags(repository, page).await
    }

    async fn repositories(&self, page: &Page) -> Result<Listing<String>, StoreError> {
        self.list_repositories(page).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, StoreError> {
        self.list_referrers(repository, subject).await
    }
}
