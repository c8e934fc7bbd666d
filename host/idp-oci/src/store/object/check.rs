//! The check of a bucket: everything is derived again from manifests and content, compared, and put right where it can be.
//!
//! It runs beside the registries that serve. What it finds wrong it looks at once more before it says so: others may have changed it since
//! the list was read. Only what a list can show is kept in mind, 16 bytes for each blob of a repository.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::bucket::Entry;
use super::keys::{BlobEntry, Content};
use super::manifest::Kept;
use super::sweep::{Name, name};
use super::{BucketStore, damaged, keys, last_part};
use crate::digest::{Digest, Hasher};
use crate::manifest::{Manifest, Shape};
use crate::name::Repository;
use crate::store::fsck::{Finding, FindingKind, FsckOptions, FsckReport};
use crate::store::{Referral, StoreError};

struct Check<'a> {
    store: &'a BucketStore,
    options: FsckOptions,
    report: FsckReport,
    /// Blobs that repositories have, with sound content.
    blobs: HashSet<Name>,
}

/// What is known of one digest.
#[derive(Default)]
struct Group {
    digest: Option<Digest>,
    contents: Vec<(Content, Entry)>,
    condemned: HashSet<Content>,
    members: Vec<(Repository, Content, u64, String)>,
}

impl BucketStore {
    /// Checks the whole registry, while it serves. With `repair`, content that is damaged is taken from all repositories and goes
    /// with the next sweeps; what can be derived again is.
    pub async fn fsck(&self, options: FsckOptions) -> Result<FsckReport, StoreError> {
        let report = FsckReport::default();
        let mut check = Check { store: self, options, report, blobs: HashSet::new() };
        check.all_blobs().await?;
        check.all_manifests().await?;
        check.all_tags().await?;
        check.all_referrers().await?;
        Ok(check.report)
    }
}

impl Check<'_> {
    fn found(&mut self, kind: FindingKind, what: String) {
        self.report.findings.push(Finding { kind, what, repaired: false });
    }

    /// Deletes with `repair`; the last finding is put right then.
    async fn delete(&mut self, key: &str) -> Result<(), StoreError> {
        if self.options.repair {
            self.store.bucket().delete(key).await?;
            self.repaired();
        }
        Ok(())
    }

    fn repaired(&mut self) {
        if let Some(last) = self.report.findings.last_mut() {
            last.repaired = true;
        }
    }

    fn strange(&mut self, key: &str) {
        self.found(FindingKind::RowStrange, format!("the object `{key}` is none of ours"));
    }

    async fn all_blobs(&mut self) -> Result<(), StoreError> {
        let mut entries = self.store.bucket().list(keys::BLOBS, None);
        let mut group = Group::default();
        while let Some(entry) = entries.try_next().await? {
            let Some((digest, said)) = keys::parse_blob(&entry.key) else {
                self.strange(&entry.key);
                continue;
            };
            if group.digest.as_ref() != Some(&digest) {
                self.blob(std::mem::take(&mut group)).await?;
                group.digest = Some(digest);
            }
            match said {
                BlobEntry::Content(content) => group.contents.push((content, entry)),
                BlobEntry::Condemned(content) => drop(group.condemned.insert(content)),
                BlobEntry::Member { leaving: true, .. } => {}
                BlobEntry::Member { repository, membership, .. } => {
                    group.members.push((repository, membership.content, membership.size, entry.key));
                }
            }
        }
        self.blob(group).await
    }

    async fn blob(&mut self, group: Group) -> Result<(), StoreError> {
        let Some(digest) = &group.digest else { return Ok(()) };
        let mut sound = Vec::new();
        for (content, _) in &group.contents {
            let Some(there) = self.store.bucket().head(&keys::bytes(digest, *content)).await? else {
                continue;
            };
            if group.members.iter().any(|(_, other, ..)| other == content) {
                self.report.content += 1;
                self.report.content_bytes += there.size;
            } else {
                self.report.unused += 1;
                self.report.unused_bytes += there.size;
                if group.condemned.contains(content) {
                    continue;
                }
            }
            if !self.options.fast && !self.is(digest, *content, there.size).await? {
                self.found(FindingKind::ContentDamaged, format!("content {content} is not {digest}"));
                if self.options.repair {
                    self.store.bucket().put(&keys::condemned(digest, *content), Bytes::new()).await?;
                    self.repaired();
                }
                continue;
            }
            sound.push((*content, there.size));
        }
        for (repository, content, size, key) in &group.members {
            if sound.contains(&(*content, *size)) {
                if self.blobs.insert(name(repository, digest)) {
                    self.report.blobs += 1;
                }
            } else if self.store.bucket().head(key).await?.is_some() {
                let what =
                    format!("`{repository}` has {digest}, and its content {content} is not there or damaged");
                self.found(FindingKind::ContentMissing, what);
                self.delete(key).await?;
            }
        }
        Ok(())
    }

    /// Whether the bytes are what the digest says.
    async fn is(&mut self, digest: &Digest, content: Content, size: u64) -> Result<bool, StoreError> {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut chunks = self.store.bucket().read(keys::bytes(digest, content), 0, size);
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
        }
        self.report.hashed_bytes += hasher.count();
        Ok(hasher.finish() == *digest)
    }

    async fn all_manifests(&mut self) -> Result<(), StoreError> {
        let mut entries = self.store.bucket().list(keys::MANIFESTS, None);
        let mut last = None;
        while let Some(entry) = entries.try_next().await? {
            let read = keys::of_repository(keys::MANIFESTS, &entry.key).and_then(|(repository, rest)| {
                Some((repository, rest.replacen('/', ":", 1).parse::<Digest>().ok()?))
            });
            let Some((repository, digest)) = read else {
                self.strange(&entry.key);
                continue;
            };
            if last.as_ref() != Some(&repository) {
                self.report.repositories += 1;
                if !self.store.is_known(&repository).await? {
                    self.found(FindingKind::Usage, format!("`{repository}` is not in the catalogue"));
                    if self.options.repair {
                        self.store.bucket().put(&keys::repository(&repository), Bytes::new()).await?;
                        self.repaired();
                    }
                }
                last = Some(repository.clone());
            }
            self.manifest(&entry, &repository, &digest).await?;
        }
        Ok(())
    }

    async fn manifest(
        &mut self,
        entry: &Entry,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let Some(object) = self.store.bucket().get(&entry.key).await? else { return Ok(()) };
        self.report.manifests += 1;
        let kept = Kept::decode(&object).filter(|kept| {
            let mut hasher = Hasher::new(digest.algorithm());
            hasher.update(&kept.bytes);
            hasher.finish() == *digest
        });
        let Some(kept) = kept else {
            let what = damaged(&entry.key, "has other bytes than its name says").to_string();
            self.found(FindingKind::ManifestDamaged, what);
            return self.delete(&entry.key).await;
        };
        let manifest = Manifest::parse(kept.bytes.clone(), Some(&kept.media_type));
        if let Ok(Shape::Image { config, layers }) = manifest.as_ref().map(Manifest::shape) {
            let mut lacking = Vec::new();
            for blob in layers.iter().chain([&**config]).filter(|blob| blob.urls.is_empty()) {
                if !self.blobs.contains(&name(repository, &blob.digest))
                    && self.store.member(repository, &blob.digest).await?.is_none()
                {
                    lacking.push(blob.digest.clone());
                }
            }
            if !lacking.is_empty() {
                self.report.incomplete.insert(format!("{repository}@{digest}"), lacking);
            }
        }
        if let Some(Referral { subject, .. }) = &kept.referral {
            let key = keys::referrer(repository, subject, digest, kept.life);
            let missing = self.store.bucket().head(&key).await?.is_none();
            // A push writes the manifest first, and a deletion takes it away first.
            if missing && self.store.life(repository, digest).await? == Some(kept.life) {
                let what = format!("`{repository}`@{digest} is not among the referrers of {subject}");
                self.found(FindingKind::Referrers, what);
                if self.options.repair {
                    self.store.bucket().put(&key, Bytes::new()).await?;
                    self.repaired();
                }
            }
        }
        Ok(())
    }

    async fn all_tags(&mut self) -> Result<(), StoreError> {
        let mut entries = self.store.bucket().list(keys::TAGS, None);
        let mut last = String::new();
        while let Some(entry) = entries.try_next().await? {
            let read = keys::of_repository(keys::TAGS, &entry.key)
                .and_then(|(repository, _)| Some((repository, super::tag::parse(&entry.key)?)));
            let Some((repository, (tag, named))) = read else {
                self.strange(&entry.key);
                continue;
            };
            if self.store.life(&repository, &named.digest).await? == Some(named.life) {
                let of = entry.key.rsplit_once('/').map_or("", |(of, _)| of);
                self.report.tags += u64::from(of != last);
                of.clone_into(&mut last);
            } else if self.store.bucket().head(&entry.key).await?.is_some() {
                let what = format!("`{repository}:{tag}` names {}, which is not there", named.digest);
                self.found(FindingKind::TagDangling, what);
                self.delete(&entry.key).await?;
            }
        }
        Ok(())
    }

    async fn all_referrers(&mut self) -> Result<(), StoreError> {
        let mut entries = self.store.bucket().list(keys::REFERRERS, None);
        while let Some(entry) = entries.try_next().await? {
            let read = keys::of_repository(keys::REFERRERS, &entry.key)
                .and_then(|(repository, rest)| Some((repository, keys::parse_referrer(last_part(rest))?)));
            let Some((repository, (digest, life))) = read else {
                self.strange(&entry.key);
                continue;
            };
            if self.store.life(&repository, &digest).await? != Some(life)
                && self.store.bucket().head(&entry.key).await?.is_some()
            {
                let what = format!("`{repository}`@{digest} is listed as a referrer and is not there");
                self.found(FindingKind::Referrers, what);
                self.delete(&entry.key).await?;
            }
        }
        Ok(())
    }
}
