//! Tags: the greatest of a tag's keys counts, while the manifest that it names has the life that it names.

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::keys::TagEntry;
use super::{ATTEMPTS, BucketStore, contended, fresh, give_way, keys, last_part};
use crate::digest::Digest;
use crate::name::{Repository, Tag};
use crate::store::upload::UploadId;
use crate::store::{Listing, Page, StoreError, StoredManifest};

impl BucketStore {
    /// All keys of a tag, the one that counts last.
    async fn tag_keys(&self, repository: &Repository, tag: &Tag) -> Result<Vec<String>, StoreError> {
        let entries = self.bucket().list(&keys::tag_entries(repository, tag.as_str()), None);
        entries.map_ok(|entry| entry.key).try_collect().await
    }

    /// Points the tag at a manifest, and gives the key that does. `None` where somebody was later: theirs counts.
    pub(super) async fn put_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        life: UploadId,
    ) -> Result<Option<String>, StoreError> {
        let before = self.tag_keys(repository, tag).await?;
        let greatest = before.last().and_then(|key| TagEntry::parse(last_part(key)));
        let turn = greatest.map_or(0, |entry| entry.turn).saturating_add(1);
        let key = TagEntry { turn, id: fresh()?, life, digest: digest.clone() }.key(repository, tag.as_str());
        self.bucket().put(&key, Bytes::new()).await?;
        // Who looked before us and wrote after us cannot have seen ours. One of us must go, or deleting the other's would
        // one day bring this one back.
        let after = self.tag_keys(repository, tag).await?;
        if after.last().is_some_and(|last| *last > key) {
            self.bucket().delete(&key).await?;
            return Ok(None);
        }
        for older in after.iter().filter(|older| **older < key) {
            self.bucket().delete(older).await?;
        }
        Ok(Some(key))
    }

    pub(super) async fn resolve(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let mut seen = None;
        for attempt in 1..=ATTEMPTS {
            let keys = self.tag_keys(repository, tag).await?;
            let Some(key) = keys.last() else { return Ok(None) };
            let Some(entry) = TagEntry::parse(last_part(key)) else { return Ok(None) };
            let kept = self.read_manifest(repository, &entry.digest).await?;
            if let Some(kept) = kept.filter(|kept| kept.life == entry.life) {
                return Ok(Some(kept.into_stored(&entry.digest)));
            }
            // The manifest may be gone because the tag was moved off it after the list was read.
            if seen.as_ref() == Some(key) {
                return Ok(None);
            }
            seen = Some(key.clone());
            if attempt > 1 {
                give_way(attempt).await;
            }
        }
        Err(contended(&keys::tag_entries(repository, tag.as_str())))
    }

    pub(super) async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        let keys = self.tag_keys(repository, tag).await?;
        let Some(entry) = keys.last().and_then(|key| TagEntry::parse(last_part(key))) else {
            return Ok(false);
        };
        let counted = self.life(repository, &entry.digest).await? == Some(entry.life);
        self.delete_in_order(&keys).await?;
        Ok(counted)
    }

    /// The one that counts last, or one before it would count again for a moment.
    pub(super) async fn delete_in_order(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            self.bucket().delete(key).await?;
        }
        Ok(())
    }

    /// Takes tags off the list that name a life of this manifest which is over.
    ///
    /// The life is asked for after the tags: one that a tag had then and the manifest has not now never comes back.
    pub(super) async fn clear_tags(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let mut entries = self.bucket().list(&keys::tags(repository), None);
        let mut naming = Vec::new();
        let mut current = Named::default();
        while let Some(entry) = entries.try_next().await? {
            let Some((tag, read)) = parse(&entry.key) else { continue };
            if current.tag != tag {
                naming.extend(std::mem::take(&mut current).naming(digest));
                tag.clone_into(&mut current.tag);
            }
            current.keys.push(entry.key.clone());
            current.counts = Some(read);
        }
        naming.extend(current.naming(digest));
        if naming.is_empty() {
            return Ok(());
        }
        let life = self.life(repository, digest).await?;
        for (keys, _) in naming.iter().filter(|(_, named)| life != Some(*named)) {
            self.delete_in_order(keys).await?;
        }
        Ok(())
    }

    pub(super) async fn list_tags(
        &self,
        repository: &Repository,
        page: &Page,
    ) -> Result<Option<Listing<String>>, StoreError> {
        let after = page.after.as_deref();
        let begin = after.and_then(|after| keys::tags_after(repository, after));
        let mut entries = self.bucket().list(&keys::tags(repository), begin.as_deref());
        let mut listing = Listing { entries: Vec::<String>::new(), more: false };
        while let Some(entry) = entries.try_next().await? {
            let Some((tag, _)) = parse(&entry.key) else { continue };
            if after.is_some_and(|after| tag <= after)
                || listing.entries.last().is_some_and(|last| last == tag)
            {
                continue;
            }
            if listing.entries.len() == page.limit {
                listing.more = true;
                break;
            }
            listing.entries.push(tag.to_owned());
        }
        if listing.entries.is_empty() && !listing.more && !self.is_known(repository).await? {
            return Ok(None);
        }
        Ok(Some(listing))
    }
}

/// A tag with all of its keys, while a list goes by.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) tag: String,
    pub(super) keys: Vec<String>,
    pub(super) counts: Option<TagEntry>,
}

impl Named {
    /// Its keys, and the life that it names, if this is the manifest that it names.
    fn naming(self, digest: &Digest) -> Option<(Vec<String>, UploadId)> {
        let counts = self.counts.filter(|counts| counts.digest == *digest)?;
        Some((self.keys, counts.life))
    }
}

/// The tag and what a key says of it.
pub(super) fn parse(key: &str) -> Option<(&str, TagEntry)> {
    let (rest, name) = key.rsplit_once("!/")?;
    let (_, tag) = rest.rsplit_once('/')?;
    Some((tag, TagEntry::parse(name)?))
}
