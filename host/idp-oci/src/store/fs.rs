//! A store in a directory: content as files, everything else as rows of a database (`disk.rs`, `rows`).
//!
//! What touches files runs off the threads that serve requests. Changes of rows are awaited: they are done by the database's
//! own thread, together with everyone else's.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::{Repository, Tag, Target};
use crate::store::disk::{self, Disk};
use crate::store::policy::Policy;
use crate::store::rows::change::NewManifest;
use crate::store::rows::query::Held;
use crate::store::rows::table::{INLINE, Usage};
use crate::store::rows::{Fault, Tables};
use crate::store::staged::{StagedContent, admit_blob};
use crate::store::{
    Listing, OCTETS, Page, Referral, Referrer, Restored, Staged, Store, StoreError, StoreSettings,
    StoredManifest, UsageReport,
};

/// Content in a directory that one process has to itself. Everything acknowledged is on the disk, unless the settings say
/// otherwise.
#[derive(Debug, Clone)]
pub struct FsStore {
    disk: Arc<Disk>,
}

impl FsStore {
    /// Opens a registry's directory; an empty or missing one becomes one. What a crash left half-written is swept.
    pub async fn open(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(root, StoreSettings::default()).await
    }

    /// [`FsStore::open`] with other settings than the usual.
    pub async fn open_with(
        root: impl AsRef<Path>,
        settings: impl Into<StoreSettings>,
    ) -> Result<Self, StoreError> {
        let (root, settings) = (root.as_ref().to_owned(), settings.into());
        let disk = blocking(move || Disk::open(&root, settings)).await?;
        Ok(Self { disk: Arc::new(disk) })
    }

    /// Transactions so far, and the changes that shared them.
    pub fn groups(&self) -> (u64, u64) {
        self.disk.rows.groups()
    }

    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let disk = Arc::clone(&self.disk);
        blocking(move || work(&disk)).await
    }

    /// Content that nobody needs any more goes; should we be cut off, the next collection finds it.
    async fn drop_content(&self, digest: &Digest) -> Result<(), StoreError> {
        let digest = digest.clone();
        self.on_disk(move |disk| disk.drop_content(&digest)).await.map(drop)
    }

    /// A blob that was found is there for whoever is about to name it: one that no manifest names, and that has waited for
    /// a while, gets its time anew before the answer. Whether it is still there.
    async fn renew(
        &self,
        repository: &Repository,
        digest: &Digest,
        found: Found,
    ) -> Result<bool, StoreError> {
        if found == Found::Stale {
            let (repository, digest) = (repository.clone(), digest.clone());
            let renewed =
                move |tables: &mut Tables<'_>| tables.renew_blob(repository.as_str(), &digest, disk::now());
            return self.disk.rows.change(renewed).await;
        }
        Ok(true)
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// How a blob of a repository was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Fresh,
    /// Named by nothing for so long that its time must be renewed before anybody relies on it.
    Stale,
}

impl Disk {
    /// A blob whose content is there as the row says. What is damaged is not there, so that a push heals it.
    fn find_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<(Held, Found)>, StoreError> {
        let row = self.rows.read(|rows| {
            let Some(held) = rows.blob(repository.as_str(), digest)? else { return Ok(None) };
            let age = Duration::from_millis(disk::now().saturating_sub(held.since));
            let stale_after = (self.settings.grace() / 4).min(Duration::from_secs(30));
            let stale = age >= stale_after && !rows.is_named(repository.as_str(), digest)?;
            Ok(Some((held, if stale { Found::Stale } else { Found::Fresh })))
        })?;
        let Some((held, found)) = row else { return Ok(None) };
        let size = self.content.size(digest)?;
        if size != Some(held.size) {
            tracing::error!(
                target: "idp::registry", %repository, %digest, expected = held.size, ?size,
                "a blob's content is missing or damaged; push it again",
            );
            return Ok(None);
        }
        Ok(Some((held, found)))
    }

    fn read_manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let row = self.rows.read(|rows| {
            let digest = match target {
                Target::Digest(digest) => Some(digest.clone()),
                Target::Tag(tag) => rows.tagged(repository.as_str(), tag.as_str())?,
            };
            let Some(digest) = digest else { return Ok(None) };
            Ok(rows.manifest(repository.as_str(), &digest)?.map(|row| (digest, row)))
        })?;
        let Some((digest, row)) = row else { return Ok(None) };
        let bytes = match row.bytes {
            Some(bytes) => Some(bytes),
            None => durable_read(self, &digest)?,
        };
        let Some(bytes) = bytes.filter(|bytes| bytes.len() as u64 == row.record.size) else {
            tracing::error!(
                target: "idp::registry", %repository, %digest,
                "a manifest's content is missing or damaged; push it again",
            );
            return Ok(None);
        };
        Ok(Some(StoredManifest { media_type: row.record.media_type, digest, bytes: bytes.into() }))
    }
}

/// Whether a manifest and its tags fit in, and none of these moves that must not.
fn admit_manifest(
    tables: &Tables<'_>,
    policy: &Policy,
    repository: &str,
    manifest: &NewManifest,
    tags: &[String],
) -> Result<(), Fault> {
    let mut more = Usage::default();
    for tag in tags {
        match tables.named_by_tag(repository, tag)? {
            None => more.tags += 1,
            Some(digest) if digest != manifest.digest && policy.is_immutable(repository, tag) => {
                let (repository, tag) = (repository.to_owned(), tag.clone());
                return Err(StoreError::TagImmutable { repository, tag, digest }.into());
            }
            Some(_) => {}
        }
    }
    if tables.manifest(repository, &manifest.digest)?.is_none() {
        more.manifests = 1;
        more.bytes = manifest.bytes.len() as u64;
    }
    policy.admit(repository, more, |scope| tables.usage_of(scope))
}

fn durable_read(disk: &Disk, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(crate::store::durable::read(&disk.content.path(digest))?)
}

#[async_trait]
impl Store for FsStore {
    async fn stage(&self) -> Result<Box<dyn Staged>, StoreError> {
        Ok(Box::new(StagedContent::new(Arc::clone(&self.disk))))
    }

    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let found = {
            let (repository, digest) = (repository.clone(), digest.clone());
            self.on_disk(move |disk| disk.find_blob(&repository, &digest)).await?
        };
        let Some((held, found)) = found else { return Ok(None) };
        Ok(self.renew(repository, digest, found).await?.then_some(held.size))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let opened = {
            let (repository, digest) = (repository.clone(), digest.clone());
            self.on_disk(move |disk| {
                let Some((held, found)) = disk.find_blob(&repository, &digest)? else { return Ok(None) };
                let Some(file) = disk.content.open(&digest)? else { return Ok(None) };
                let descriptor = Descriptor::new(OCTETS, digest, held.size);
                Ok(Some((Blob::from_file(descriptor, Arc::new(file), 0), found)))
            })
            .await?
        };
        let Some((blob, found)) = opened else { return Ok(None) };
        // HEAD comes here too.
        Ok(self.renew(repository, digest, found).await?.then_some(blob))
    }

    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError> {
        // What is damaged is not mounted: the client sends it then, and heals it.
        let whole = {
            let (digest, from) = (digest.clone(), from.cloned());
            self.on_disk(move |disk| match from {
                Some(from) => Ok(disk.find_blob(&from, &digest)?.is_some()),
                None => {
                    let size = disk.rows.read(|rows| rows.content(&digest))?;
                    Ok(size.is_some() && disk.content.size(&digest)? == size)
                }
            })
            .await?
        };
        if !whole {
            return Ok(false);
        }
        let (repository, digest, from) = (repository.clone(), digest.clone(), from.cloned());
        let policy = Arc::clone(&self.disk.policy);
        let mounted = self.disk.rows.add(move |tables| {
            let from = from.as_ref().map(Repository::as_str);
            if let Some(size) = tables.mountable(&digest, from)? {
                admit_blob(tables, &policy, repository.as_str(), &digest, size)?;
            }
            tables.mount(repository.as_str(), &digest, from, disk::now())
        });
        Ok(mounted.await?.is_some())
    }

    async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<Vec<Digest>, StoreError> {
        let found = {
            let (repository, digests) = (repository.clone(), digests.to_vec());
            self.on_disk(move |disk| {
                let found = digests.into_iter().map(|digest| {
                    let found = disk.find_blob(&repository, &digest)?;
                    Ok::<_, StoreError>((digest, found))
                });
                found.collect::<Result<Vec<_>, _>>()
            })
            .await?
        };
        let mut missing = Vec::new();
        for (digest, found) in found {
            let there = match found {
                Some((_, found)) => self.renew(repository, &digest, found).await?,
                None => false,
            };
            if !there {
                missing.push(digest);
            }
        }
        Ok(missing)
    }

    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let deleted = {
            let (repository, digest) = (repository.clone(), digest.clone());
            self.disk.rows.change(move |tables| tables.delete_blob(repository.as_str(), &digest)).await?
        };
        if deleted == Some(true) {
            self.drop_content(digest).await?;
        }
        Ok(deleted.is_some())
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &StoredManifest,
        referral: Option<&Referral>,
        tags: &[Tag],
    ) -> Result<(), StoreError> {
        // Held until the row is there.
        let mut coming = None;
        let prepared = if manifest.bytes.len() <= INLINE {
            disk::prepare(manifest, referral)
        } else {
            let (manifest, referral) = (manifest.clone(), referral.cloned());
            let (guard, prepared) = self
                .on_disk(move |disk| {
                    let guard = disk.content.coming(&manifest.digest);
                    let pending = disk.content.pending()?;
                    pending.file().write_all(&manifest.bytes)?;
                    disk.content.place(&guard, pending)?;
                    Ok((guard, disk::prepare(&manifest, referral.as_ref())))
                })
                .await?;
            coming = Some(guard);
            prepared
        };
        let tags: Vec<String> = tags.iter().map(|tag| tag.as_str().to_owned()).collect();
        let repository = repository.clone();
        let policy = Arc::clone(&self.disk.policy);
        let put = self.disk.rows.add(move |tables| {
            admit_manifest(tables, &policy, repository.as_str(), &prepared, &tags)?;
            tables.put_manifest(repository.as_str(), &prepared, &tags, disk::now())?;
            // Comes back with the answer: whether or not the client is still there, it is held until this is committed.
            Ok(coming)
        });
        put.await.map(drop)
    }

    async fn manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let (repository, target) = (repository.clone(), target.clone());
        self.on_disk(move |disk| disk.read_manifest(&repository, &target)).await
    }

    async fn has_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.on_disk(move |disk| disk.rows.read(|rows| rows.has_manifest(repository.as_str(), &digest))).await
    }

    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        if self.disk.policy.undo().is_some() {
            let (repository, digest) = (repository.clone(), digest.clone());
            let discarded = self
                .disk
                .rows
                .change(move |tables| tables.discard_manifest(repository.as_str(), &digest, disk::now()));
            return discarded.await;
        }
        let named = {
            let (repository, digest) = (repository.clone(), digest.clone());
            self.on_disk(move |disk| disk.names(repository.as_str(), &digest)).await?
        };
        let deleted = {
            let (repository, digest) = (repository.clone(), digest.clone());
            let deleted = self.disk.rows.change(move |tables| {
                tables.delete_manifest(repository.as_str(), &digest, named.as_deref(), disk::now())
            });
            deleted.await?
        };
        if deleted == Some(true) {
            self.drop_content(digest).await?;
        }
        Ok(deleted.is_some())
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        let (repository, tag) = (repository.clone(), tag.clone());
        let undo = self.disk.policy.undo().is_some();
        let deleted = self.disk.rows.change(move |tables| {
            if undo {
                tables.discard_tag(repository.as_str(), tag.as_str(), disk::now())
            } else {
                tables.delete_tag(repository.as_str(), tag.as_str(), disk::now())
            }
        });
        Ok(deleted.await?.is_some())
    }

    async fn usage(&self, namespace: &str, page: &Page) -> Result<Option<UsageReport>, StoreError> {
        let (namespace, page) = (namespace.to_owned(), page.clone());
        self.on_disk(move |disk| disk.rows.read(|rows| rows.usage_below(&namespace, &page)).map(Some)).await
    }

    async fn restore(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<Restored>, StoreError> {
        let (repository, target) = (repository.clone(), target.clone());
        let restored = self.disk.rows.add(move |tables| match &target {
            Target::Tag(tag) => tables.restore_tag(repository.as_str(), tag.as_str(), disk::now()),
            Target::Digest(digest) => tables.restore_manifest(repository.as_str(), digest, disk::now()),
        });
        restored.await
    }

    async fn tags(
        &self,
        repository: &Repository,
        page: &Page,
    ) -> Result<Option<Listing<String>>, StoreError> {
        let (repository, page) = (repository.clone(), page.clone());
        self.on_disk(move |disk| disk.rows.read(|rows| rows.tags(repository.as_str(), &page))).await
    }

    async fn repositories(&self, page: &Page) -> Result<Listing<String>, StoreError> {
        let page = page.clone();
        self.on_disk(move |disk| disk.rows.read(|rows| rows.repositories(&page))).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, StoreError> {
        let (repository, subject) = (repository.clone(), subject.clone());
        self.on_disk(move |disk| disk.rows.read(|rows| rows.referrers(repository.as_str(), &subject))).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::FsStore;
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

    /// Of the machine this one asks for a file system of its own, with next to no room in it.
    #[tokio::test]
    #[ignore = "mounts a small file system: needs root"]
    async fn a_full_disk_loses_nothing_and_is_over_when_there_is_room() {
        let directory = tempfile::tempdir().expect("a directory");
        let mount = |arguments: &[&str]| {
            let status = std::process::Command::new(arguments[0])
                .args(&arguments[1..])
                .arg(directory.path())
                .status()
                .expect("run");
            assert!(status.success(), "{arguments:?}");
        };
        mount(&["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
        let repository: Repository = "team/app".parse().expect("a repository");
        let outcome = tokio::spawn({
            let root = directory.path().to_owned();
            async move {
                let store = FsStore::open(&root).await.expect("opened");
                let push = async |seed: u32, size: usize| {
                    let bytes: Vec<u8> =
                        (0..size).map(|at| (at as u32 ^ seed).to_le_bytes()[at % 3]).collect();
                    let digest = crate::digest::Digest::of(&bytes);
                    let mut staged = store.stage().await?;
                    staged.append(vec![bytes.into()]).await?;
                    staged.commit(&repository, &digest).await?;
                    Ok::<_, StoreError>(digest)
                };
                let mut kept = Vec::new();
                let (mut refused, mut full) = (0, 0);
                for seed in 0..40 {
                    match push(seed, 1_000_000 + seed as usize).await {
                        Ok(digest) => kept.push(digest),
                        Err(StoreError::Full { .. }) => full += 1,
                        Err(StoreError::Io(_)) => refused += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
                assert!(kept.len() > 5 && full > 5, "{} kept, {full} and {refused} refused", kept.len());
                let error = push(99, 20_000_000).await.expect_err("far too large");
                assert!(matches!(error, StoreError::Io(_) | StoreError::Full { .. }), "{error}");
                // Reading and deleting go on.
                for digest in &kept {
                    assert!(store.blob_size(&repository, digest).await.expect("asked").is_some());
                }
                for digest in kept.drain(..4) {
                    assert!(store.delete_blob(&repository, &digest).await.expect("deleted"));
                }
                kept.push(push(100, 1_000_100).await.expect("there is room again"));
                store.put_manifest(&repository, &suite::manifest(b"{}"), None, &[]).await.expect("put");
                drop(store);
                let store = FsStore::open(&root).await.expect("opened again");
                let report = store.fsck(crate::store::fsck::FsckOptions::default()).await.expect("checked");
                assert_eq!((report.findings, report.unused), (vec![], 0));
                assert_eq!(report.blobs, kept.len() as u64);
            }
        });
        let outcome = outcome.await;
        mount(&["umount"]);
        outcome.expect("as told above");
    }

    #[tokio::test]
    async fn other_directories_are_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("thesis.txt"), "x").expect("written");
        assert!(matches!(FsStore::open(directory.path()).await, Err(StoreError::NotAStore(_))));
        let newer = tempfile::tempdir().expect("a directory");
        // Users may be added before anything is pushed.
        for name in ["users", ".users.lock", "token-keys.json"] {
            std::fs::write(newer.path().join(name), "x").expect("written");
        }
        drop(FsStore::open(newer.path()).await.expect("opened beside our own files"));
        std::fs::write(newer.path().join("layout"), "99\n").expect("written");
        assert!(matches!(FsStore::open(newer.path()).await, Err(StoreError::Layout { found: 99, .. })));
        std::fs::write(newer.path().join("layout"), "one").expect("written");
        assert!(matches!(FsStore::open(newer.path()).await, Err(StoreError::Damaged { .. })));
        let page = Page { after: None, limit: 10 };
        let missing = FsStore::open(newer.path().join("a/b")).await.expect("opened");
        assert_eq!(missing.repositories(&page).await.expect("listed").entries, Vec::<String>::new());
    }
}
