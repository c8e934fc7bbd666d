//! A store in a directory: the operations of `disk.rs`, off the threads that serve requests.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::{Repository, Tag, Target};
use crate::store::disk::Disk;
use crate::store::durable::Pending;
use crate::store::{Listing, OCTETS, Page, Referral, Referrer, Staged, Store, StoreError, StoredManifest};

/// Content in a directory that one process has to itself. Everything acknowledged was synced to the disk.
#[derive(Debug, Clone)]
pub struct FsStore {
    disk: Arc<Disk>,
}

impl FsStore {
    /// Opens a registry's directory; an empty or missing one becomes one. What a crash left half-written is swept.
    pub async fn open(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        let root = root.as_ref().to_owned();
        let disk = blocking(move || Disk::open(&root)).await?;
        Ok(Self { disk: Arc::new(disk) })
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let disk = Arc::clone(&self.disk);
        blocking(move || work(&disk)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[async_trait]
impl Store for FsStore {
    async fn stage(&self) -> Result<Box<dyn Staged>, StoreError> {
        let pending = self.on_disk(|disk| Ok(disk.pending()?)).await?;
        Ok(Box::new(StagedFile { disk: Arc::clone(&self.disk), pending: Some(pending) }))
    }

    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on_disk(move |disk| disk.blob_size(&repository, &digest)).await
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on_disk(move |disk| disk.blob(&repository, &digest)).await
    }

    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError> {
        let (repository, digest, from) = (repository.clone(), digest.clone(), from.cloned());
        self.on_disk(move |disk| disk.mount(&repository, &digest, from.as_ref())).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on_disk(move |disk| disk.delete_blob(&repository, &digest)).await
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &StoredManifest,
        referral: Option<&Referral>,
        tags: &[Tag],
    ) -> Result<(), StoreError> {
        let (repository, manifest) = (repository.clone(), manifest.clone());
        let (referral, tags) = (referral.cloned(), tags.to_vec());
        self.on_disk(move |disk| disk.put_manifest(&repository, &manifest, referral.as_ref(), &tags)).await
    }

    async fn manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let (repository, target) = (repository.clone(), target.clone());
        self.on_disk(move |disk| disk.manifest(&repository, &target)).await
    }

    async fn has_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on_disk(move |disk| Ok(disk.has_manifest(&repository, &digest))).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on_disk(move |disk| disk.delete_manifest(&repository, &digest)).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        let (repository, tag) = (repository.clone(), tag.clone());
        self.on_disk(move |disk| disk.delete_tag(&repository, &tag)).await
    }

    async fn tags(
        &self,
        repository: &Repository,
        page: &Page,
    ) -> Result<Option<Listing<String>>, StoreError> {
        let (repository, page) = (repository.clone(), page.clone());
        self.on_disk(move |disk| disk.tags(&repository, &page)).await
    }

    async fn repositories(&self, page: &Page) -> Result<Listing<String>, StoreError> {
        let page = page.clone();
        self.on_disk(move |disk| disk.repositories(&page)).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, StoreError> {
        let (repository, subject) = (repository.clone(), subject.clone());
        self.on_disk(move |disk| disk.referrers(&repository, &subject)).await
    }
}

#[derive(Debug)]
struct StagedFile {
    disk: Arc<Disk>,
    /// Lent to the thread that writes; gone after a failure.
    pending: Option<Pending>,
}

impl StagedFile {
    fn lost() -> StoreError {
        StoreError::Io(io::Error::other("an earlier write of this upload failed"))
    }
}

#[async_trait]
impl Staged for StagedFile {
    async fn append(&mut self, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let pending = self.pending.take().ok_or_else(Self::lost)?;
        let pending = blocking(move || {
            for chunk in chunks {
                pending.file().write_all(&chunk)?;
            }
            Ok(pending)
        })
        .await?;
        self.pending = Some(pending);
        Ok(())
    }

    async fn read_back(&self) -> Result<Blob, StoreError> {
        let file = self.pending.as_ref().ok_or_else(Self::lost)?.file().try_clone()?;
        let size = file.metadata()?.len();
        // The digest is what the caller wants to learn; nothing looks at this one.
        let descriptor = Descriptor::new(OCTETS, Digest::of(b""), size);
        Ok(Blob::from_file(descriptor, Arc::new(file), 0))
    }

    async fn commit(mut self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let pending = self.pending.take().ok_or_else(Self::lost)?;
        let (disk, repository, digest) = (Arc::clone(&self.disk), repository.clone(), digest.clone());
        blocking(move || disk.commit_blob(pending, &repository, &digest)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::FsStore;
    use crate::digest::Digest;
    use crate::name::{Repository, Target};
    use crate::store::{Page, Store as _, StoreError, suite};

    #[tokio::test]
    async fn keeps_the_rules_of_a_store() {
        let directory = tempfile::tempdir().expect("a directory");
        let count = std::cell::Cell::new(0);
        suite::run(async || {
            count.set(count.get() + 1);
            let root = directory.path().join(count.get().to_string());
            Arc::new(FsStore::open(root).await.expect("opened"))
        })
        .await;
    }

    #[tokio::test]
    async fn survives_a_restart_and_sweeps_what_was_half_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let repository: Repository = "team/app".parse().expect("a repository");
        let store = FsStore::open(directory.path()).await.expect("opened");
        let digest = suite::push_blob(&store, &repository, b"content").await;
        let manifest = suite::manifest(b"{}");
        store.put_manifest(&repository, &manifest, None, &["v1".parse().expect("a tag")]).await.expect("put");
        let mut staged = store.stage().await.expect("staged");
        staged.append(vec![bytes::Bytes::from_static(b"half")]).await.expect("appended");
        // A crash: nobody drops the staged file.
        std::mem::forget(staged);
        assert!(matches!(FsStore::open(directory.path()).await, Err(StoreError::InUse(_))));
        drop(store);
        // The forgotten file holds on to its disk and so to the lock, as a dead process would not.
        std::fs::remove_file(directory.path().join("lock")).expect("the lock");

        let store = FsStore::open(directory.path()).await.expect("opened again");
        assert_eq!(std::fs::read_dir(directory.path().join("tmp")).expect("tmp").count(), 0);
        assert_eq!(store.blob_size(&repository, &digest).await.expect("read"), Some(7));
        let target = Target::Tag("v1".parse().expect("a tag"));
        assert_eq!(store.manifest(&repository, &target).await.expect("read"), Some(manifest));
    }

    #[tokio::test]
    async fn a_referrer_or_tag_without_its_manifest_is_not_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        let repository: Repository = "team/app".parse().expect("a repository");
        let store = FsStore::open(directory.path()).await.expect("opened");
        let subject = Digest::of(b"subject");
        let manifest = suite::manifest(b"{\"a\":1}");
        let referral = suite::referral(&subject, "a/b");
        store.put_manifest(&repository, &manifest, Some(&referral), &[]).await.expect("put");
        assert_eq!(store.referrers(&repository, &subject).await.expect("read").len(), 1);
        // As if the crash had come between the referrer and the record.
        let record =
            directory.path().join("repositories/team/app/_manifests/sha256").join(manifest.digest.hex());
        std::fs::remove_file(record).expect("removed");
        assert_eq!(store.referrers(&repository, &subject).await.expect("read"), []);
    }

    #[tokio::test]
    async fn pushing_again_heals_damaged_content() {
        let directory = tempfile::tempdir().expect("a directory");
        let repository: Repository = "team/app".parse().expect("a repository");
        let store = FsStore::open(directory.path()).await.expect("opened");
        let digest = suite::push_blob(&store, &repository, b"content").await;
        let path = directory.path().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
        std::fs::write(&path, b"c").expect("damaged");
        suite::push_blob(&store, &repository, b"content").await;
        assert_eq!(store.blob_size(&repository, &digest).await.expect("read"), Some(7));
    }

    #[tokio::test]
    async fn other_directories_are_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("thesis.txt"), "x").expect("written");
        assert!(matches!(FsStore::open(directory.path()).await, Err(StoreError::NotAStore(_))));
        let newer = tempfile::tempdir().expect("a directory");
        std::fs::write(newer.path().join("layout"), "99\n").expect("written");
        assert!(matches!(FsStore::open(newer.path()).await, Err(StoreError::Layout { found: 99, .. })));
        std::fs::write(newer.path().join("layout"), "one").expect("written");
        assert!(matches!(FsStore::open(newer.path()).await, Err(StoreError::Damaged { .. })));
        let page = Page { after: None, limit: 10 };
        let missing = FsStore::open(newer.path().join("a/b")).await.expect("opened");
        assert_eq!(missing.repositories(&page).await.expect("listed").entries, Vec::<String>::new());
    }
}
