//! Garbage: what nobody refers to any more goes, while others push, mount and delete, from any number of replicas at once.
//!
//! A sweep takes several looks, and nothing goes in the run that first finds it in nobody's use:
//!
//! 1. *Memberships.* A blob that no manifest of its repository names, and that has been there for the grace, is marked as
//!    leaving. When it is found so again, a grace later, it goes. Who asks for the blob in between (a push does before it
//!    puts its manifest) finds the mark and writes a new membership, which no sweeper has seen: `BucketStore::member`.
//! 2. *Content.* Content older than the grace that no membership names is condemned. When a later run finds the condemnation, and
//!    after it still no membership, content and bytes go, and the condemnation last.
//!
//! Why that is safe without a lock: who takes up content writes the membership, then looks for the condemnation and for
//! the content. The sweeper writes the condemnation, then looks for memberships. If the claim's look came before the
//! condemnation, the membership was there before it too, and the sweeper finds it. If it came after, the claim sees it, or, when the
//! sweeper was done already, sees no content; either way it withdraws. Nobody lifts a condemnation, so it does not matter how
//! many sweepers are at work or how long one of them sleeps: content that was found in use stays condemned, serves
//! those who have it, and goes with the last of them; others push it anew beside it.
//!
//! One assumption on time is left, and it is the grace: between the registry's check that a manifest's blobs are there and
//! the write of that manifest, a moment, must pass less than the grace, an hour at least. Ages are told by the service's clock alone.
//!
//! 3. *Uploads* whose record is older than `uploadSeconds` are given up. 4. *Tags and referrers* of lives that are over, left by who
//!    died in the middle, go at once: nobody counts them. 5. The *catalogue* gets what it lacks.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use super::bucket::Entry;
use super::keys::{BlobEntry, Content, LEAVING, Membership};
use super::manifest::Kept;
use super::staged::Record;
use super::{AT_ONCE, BucketStore, fresh, keys, last_part};
use crate::digest::Digest;
use crate::manifest::{Manifest, Shape};
use crate::name::Repository;
use crate::store::StoreError;
use crate::store::upload::UploadId;

/// A condemnation is acted upon when it is older: no list of a service is that late.
const SETTLED: Duration = Duration::from_secs(60);

/// How to sweep.
#[derive(Debug, Clone, Copy, Default)]
pub struct SweepOptions {
    /// Only count: nothing is written or deleted.
    pub dry_run: bool,
}

/// What a sweep did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Swept {
    /// Memberships that were marked as leaving.
    pub leaving: u64,
    /// Memberships that went.
    pub unlinked: u64,
    /// Contents that were condemned.
    pub condemned: u64,
    /// Contents that went.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that were given up.
    pub uploads: u64,
    /// Keys of tags and referrers that counted for nothing.
    pub stale: u64,
    /// Entries of the catalogue that were put right.
    pub entries: u64,
}

/// 16 bytes that stand for a repository and a digest: a large registry has millions of them.
pub(super) type Name = [u8; 16];

pub(super) fn name(repository: &Repository, digest: &Digest) -> Name {
    let mut hasher = Sha256::new();
    hasher.update(repository.as_str());
    hasher.update([0]);
    hasher.update(digest.as_str());
    let mut name = [0; 16];
    name.copy_from_slice(&hasher.finalize()[..16]);
    name
}

/// What the manifests say.
#[derive(Debug, Default)]
struct Marked {
    /// Blobs that a manifest of the repository names.
    blobs: HashSet<Name>,
    lives: HashMap<Name, UploadId>,
    repositories: HashSet<Repository>,
    /// Repositories with a manifest that we cannot read: all of their blobs stay.
    unread: HashSet<Repository>,
}

/// All that is known of one digest.
#[derive(Debug, Default)]
struct Group {
    digest: Option<Digest>,
    contents: Vec<(Content, Entry)>,
    condemned: Vec<(Content, Entry)>,
    members: Vec<Member>,
    leaving: Vec<(Membership, Entry)>,
}

#[derive(Debug)]
struct Member {
    repository: Repository,
    membership: Membership,
    entry: Entry,
}

struct Sweep<'a> {
    store: &'a BucketStore,
    dry_run: bool,
    /// By the service's clock.
    now: SystemTime,
    grace: Duration,
    swept: Swept,
}

impl BucketStore {
    /// Sweeps once. May be run at any time, by several replicas at once, while all of them serve.
    pub async fn sweep(&self, options: SweepOptions) -> Result<Swept, StoreError> {
        let now = self.clock().await?;
        self.sweep_at(options, now).await
    }

    /// As if it were `now` by the service's clock.
    pub(super) async fn sweep_at(&self, options: SweepOptions, now: SystemTime) -> Result<Swept, StoreError> {
        let grace = Duration::from_secs(self.settings().grace_seconds);
        let mut sweep = Sweep { store: self, dry_run: options.dry_run, now, grace, swept: Swept::default() };
        let uploads = sweep.old_uploads().await?;
        let marked = sweep.mark().await?;
        let published = sweep.blobs(&marked, &uploads).await?;
        sweep.uploads(uploads, &published).await?;
        sweep.tags(&marked).await?;
        sweep.referrers(&marked).await?;
        sweep.catalogue(&marked).await?;
        Ok(sweep.swept)
    }

    /// The service's time: that of something that was just written.
    pub(super) async fn clock(&self) -> Result<SystemTime, StoreError> {
        let key = format!("clock/{}", fresh()?);
        self.bucket().put(&key, Bytes::new()).await?;
        let written = self.bucket().head(&key).await?;
        self.bucket().delete(&key).await?;
        written.map(|entry| entry.modified).ok_or_else(|| {
            let why =
                "it was written and is not there; the service does not keep what it acknowledges".to_owned();
            StoreError::Object { object: key, why }
        })
    }
}

impl Sweep<'_> {
    fn older(&self, entry: &Entry, age: Duration) -> bool {
        self.now.duration_since(entry.modified).is_ok_and(|elapsed| elapsed >= age)
    }

    async fn put(&self, key: &str) -> Result<(), StoreError> {
        if self.dry_run { Ok(()) } else { self.store.bucket().put(key, Bytes::new()).await }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if self.dry_run { Ok(()) } else { self.store.bucket().delete(key).await }
    }

    async fn mark(&self) -> Result<Marked, StoreError> {
        let bucket = self.store.bucket();
        let read = bucket.list(keys::MANIFESTS, None).map(async |entry| {
            let entry = entry?;
            let object = bucket.get(&entry.key).await?;
            Ok::<_, StoreError>((entry, object.as_ref().and_then(Kept::decode)))
        });
        let mut read = std::pin::pin!(read.buffer_unordered(AT_ONCE));
        let mut marked = Marked::default();
        while let Some((entry, kept)) = read.try_next().await? {
            let Some((repository, rest)) = keys::of_repository(keys::MANIFESTS, &entry.key) else { continue };
            let digest = rest.replacen('/', ":", 1).parse::<Digest>().ok();
            let (Some(digest), Some(kept)) = (digest, kept) else {
                // Deleted since, or damaged: to be sure, the latter.
                marked.unread.insert(repository);
                continue;
            };
            marked.repositories.insert(repository.clone());
            marked.lives.insert(name(&repository, &digest), kept.life);
            match Manifest::parse(kept.bytes, Some(&kept.media_type)).map(|manifest| manifest.shape().clone())
            {
                Ok(Shape::Image { config, layers }) => {
                    let blobs = layers.iter().chain([&*config]);
                    marked.blobs.extend(blobs.map(|blob| name(&repository, &blob.digest)));
                }
                Ok(Shape::Index { .. }) => {}
                Err(_) => drop(marked.unread.insert(repository)),
            }
        }
        Ok(marked)
    }

    /// Goes through all that is known of blobs, a digest at a time. Gives those of `uploads` that became content.
    async fn blobs(
        &mut self,
        marked: &Marked,
        uploads: &[(UploadId, Entry)],
    ) -> Result<HashSet<UploadId>, StoreError> {
        let mut published = HashSet::new();
        let mut entries = self.store.bucket().list(keys::BLOBS, None);
        let mut group = Group::default();
        while let Some(entry) = entries.try_next().await? {
            let Some((digest, said)) = keys::parse_blob(&entry.key) else { continue };
            if group.digest.as_ref() != Some(&digest) {
                self.judge(std::mem::take(&mut group), marked).await?;
                group.digest = Some(digest);
            }
            match said {
                BlobEntry::Content(content) => {
                    if content.large && uploads.iter().any(|(id, _)| *id == content.id) {
                        published.insert(content.id);
                    }
                    group.contents.push((content, entry));
                }
                BlobEntry::Condemned(content) => group.condemned.push((content, entry)),
                BlobEntry::Member { membership, leaving: true, .. } => {
                    group.leaving.push((membership, entry))
                }
                BlobEntry::Member { repository, membership, leaving: false } => {
                    group.members.push(Member { repository, membership, entry });
                }
            }
        }
        self.judge(group, marked).await?;
        Ok(published)
    }

    async fn judge(&mut self, group: Group, marked: &Marked) -> Result<(), StoreError> {
        let Some(digest) = &group.digest else { return Ok(()) };
        self.judge_members(digest, &group, marked).await?;
        let used: HashSet<Content> = group.members.iter().map(|member| member.membership.content).collect();
        for (content, entry) in &group.contents {
            let condemned = group.condemned.iter().find(|(condemned, _)| condemned == content);
            match condemned {
                _ if used.contains(content) => {}
                None if self.older(entry, self.grace) => {
                    self.put(&keys::condemned(digest, *content)).await?;
                    self.swept.condemned += 1;
                }
                Some((_, since)) if self.older(since, SETTLED) => {
                    self.swept.bytes += self.size(*content, entry).await?;
                    self.swept.contents += 1;
                    self.delete(&entry.key).await?;
                    if content.large {
                        self.delete(&keys::large(content.id)).await?;
                    }
                    self.delete(&keys::condemned(digest, *content)).await?;
                }
                None | Some(_) => {}
            }
        }
        // A sweeper died between the two deletions.
        for (content, since) in &group.condemned {
            let there = group.contents.iter().any(|(other, _)| other == content);
            if !there && !used.contains(content) && self.older(since, self.grace) {
                if content.large {
                    self.delete(&keys::large(content.id)).await?;
                }
                self.delete(&since.key).await?;
            }
        }
        Ok(())
    }

    async fn judge_members(
        &mut self,
        digest: &Digest,
        group: &Group,
        marked: &Marked,
    ) -> Result<(), StoreError> {
        for member in &group.members {
            let Member { repository, membership, entry } = member;
            let needed =
                marked.unread.contains(repository) || marked.blobs.contains(&name(repository, digest));
            let leaving = group.leaving.iter().find(|(leaving, _)| leaving == membership);
            // Of several, the youngest is enough.
            let superseded = group.members.iter().any(|other| {
                other.repository == *repository
                    && (other.entry.modified, &other.entry.key) > (entry.modified, &entry.key)
                    && !group.leaving.iter().any(|(leaving, _)| *leaving == other.membership)
            });
            match leaving {
                _ if superseded && self.older(entry, self.grace) => {
                    self.delete(&entry.key).await?;
                    self.delete(&format!("{}{LEAVING}", entry.key)).await?;
                    self.swept.unlinked += 1;
                }
                None if !needed && self.older(entry, self.grace) => {
                    self.put(&format!("{}{LEAVING}", entry.key)).await?;
                    self.swept.leaving += 1;
                }
                Some((_, mark)) if needed => self.delete(&mark.key).await?,
                Some((_, mark)) if self.older(mark, self.grace) => {
                    self.delete(&entry.key).await?;
                    self.delete(&mark.key).await?;
                    self.swept.unlinked += 1;
                }
                None | Some(_) => {}
            }
        }
        for (membership, mark) in &group.leaving {
            let there = group.members.iter().any(|member| member.membership == *membership);
            if !there && self.older(mark, self.grace) {
                self.delete(&mark.key).await?;
            }
        }
        Ok(())
    }

    async fn size(&self, content: Content, entry: &Entry) -> Result<u64, StoreError> {
        if !content.large {
            return Ok(entry.size);
        }
        Ok(self.store.bucket().head(&keys::large(content.id)).await?.map_or(0, |entry| entry.size))
    }

    async fn old_uploads(&self) -> Result<Vec<(UploadId, Entry)>, StoreError> {
        let age = Duration::from_secs(self.store.settings().upload_seconds);
        let entries: Vec<_> = self.store.bucket().list(keys::UPLOADS, None).try_collect().await?;
        let old = entries.into_iter().filter(|entry| self.older(entry, age));
        Ok(old.filter_map(|entry| Some((last_part(&entry.key).parse().ok()?, entry))).collect())
    }

    /// Gives uploads up. What was published in time is content, and judged as such.
    async fn uploads(
        &mut self,
        uploads: Vec<(UploadId, Entry)>,
        published: &HashSet<UploadId>,
    ) -> Result<(), StoreError> {
        for (id, entry) in uploads {
            if !self.dry_run && !published.contains(&id) {
                let bucket = self.store.bucket();
                let record = bucket.get(&entry.key).await?;
                let record = record.and_then(|record| serde_json::from_slice::<Record>(&record.bytes).ok());
                if let Some(record) = record {
                    bucket.abort_parts(&keys::large(id), &record.parts).await?;
                }
                bucket.delete(&keys::large(id)).await?;
            }
            self.delete(&entry.key).await?;
            self.swept.uploads += 1;
        }
        Ok(())
    }

    /// Whether a life is over. The manifests were looked through before; one that is not among them is asked for again.
    async fn is_over(
        &self,
        marked: &Marked,
        repository: &Repository,
        digest: &Digest,
        life: UploadId,
    ) -> Result<bool, StoreError> {
        if marked.lives.get(&name(repository, digest)) == Some(&life) {
            return Ok(false);
        }
        Ok(self.store.life(repository, digest).await? != Some(life))
    }

    async fn tags(&mut self, marked: &Marked) -> Result<(), StoreError> {
        let mut entries = self.store.bucket().list(keys::TAGS, None);
        // Those of one tag, in order.
        let mut of_tag: Vec<String> = Vec::new();
        let mut tag = String::new();
        while let Some(entry) = entries.try_next().await? {
            let Some((of, _)) = entry.key.rsplit_once('/') else { continue };
            if of != tag {
                self.tag(marked, std::mem::take(&mut of_tag)).await?;
                of.clone_into(&mut tag);
            }
            of_tag.push(entry.key);
        }
        self.tag(marked, of_tag).await
    }

    /// Keys of lives that are over go, and those before one that counts: what comes after may not count yet.
    async fn tag(&mut self, marked: &Marked, keys: Vec<String>) -> Result<(), StoreError> {
        let mut stale = Vec::new();
        for (index, key) in keys.iter().enumerate().rev() {
            let Some((repository, _)) = keys::of_repository(keys::TAGS, key) else { continue };
            let Some((_, entry)) = super::tag::parse(key) else { continue };
            if self.is_over(marked, &repository, &entry.digest, entry.life).await? {
                stale.push(key.clone());
            } else {
                stale.splice(..0, keys[..index].iter().cloned());
                break;
            }
        }
        self.swept.stale += stale.len() as u64;
        if !self.dry_run {
            self.store.delete_in_order(&stale).await?;
        }
        Ok(())
    }

    async fn referrers(&mut self, marked: &Marked) -> Result<(), StoreError> {
        let mut entries = self.store.bucket().list(keys::REFERRERS, None);
        while let Some(entry) = entries.try_next().await? {
            let read = keys::of_repository(keys::REFERRERS, &entry.key)
                .and_then(|(repository, rest)| Some((repository, keys::parse_referrer(last_part(rest))?)));
            let Some((repository, (digest, life))) = read else { continue };
            if self.is_over(marked, &repository, &digest, life).await? {
                self.delete(&entry.key).await?;
                self.swept.stale += 1;
            }
        }
        Ok(())
    }

    async fn catalogue(&mut self, marked: &Marked) -> Result<(), StoreError> {
        let mut entries = self.store.bucket().list(keys::REPOSITORIES, None);
        let mut sure = HashSet::new();
        while let Some(entry) = entries.try_next().await? {
            let name = entry.key.strip_prefix(keys::REPOSITORIES).and_then(|name| name.strip_prefix('/'));
            let Some(repository) = name.and_then(|name| name.strip_suffix('!')?.parse::<Repository>().ok())
            else {
                continue;
            };
            if entry.size > 0 {
                continue;
            }
            if !marked.repositories.contains(&repository) && !self.store.holds_manifests(&repository).await? {
                self.swept.entries += 1;
                if !self.dry_run {
                    self.store.doubt(&repository).await?;
                }
            }
            sure.insert(repository);
        }
        for repository in marked.repositories.difference(&sure) {
            // Gone since, perhaps: then it is a doubt that was put right too early, which the next push or sweep finds.
            if self.store.holds_manifests(repository).await? {
                self.put(&keys::repository(repository)).await?;
                self.swept.entries += 1;
            }
        }
        Ok(())
    }
}
