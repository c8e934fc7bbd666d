//! Tags: of a tag's keys the greatest counts whose manifest has the life that the key names.
//!
//! What this keeps, whatever replicas do at once: a tag that was acknowledged goes only by a later push of the tag, by its deletion, or
//! with its manifest; a push of a tag and a deletion of the manifest that it names end as if one had come after
//! the other. Only *while* these two run at once may a reader see the tag come and go.

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

    /// Points the tag at a manifest in this life. False where that life was over before anybody could have seen the tag: then
    /// nothing was changed.
    pub(super) async fn put_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        life: UploadId,
    ) -> Result<bool, StoreError> {
        let before = self.tag_keys(repository, tag).await?;
        let greatest = before.last().and_then(|key| TagEntry::parse(last_part(key)));
        let turn = greatest.map_or(0, |entry| entry.turn).saturating_add(1);
        let own = TagEntry { turn, id: fresh()?, life, digest: digest.clone() }.key(repository, tag.as_str());
        self.bucket().put(&own, Bytes::new()).await?;
        // Who looked before us and wrote after us cannot have seen ours. One of us must go, or deleting the other's would
        // one day bring this one back. But only one that is known to count, now that its key is there, may take the place
        // of others: the manifest that it names may have been deleted before the key was written.
        let after = self.tag_keys(repository, tag).await?;
        for (index, key) in after.iter().enumerate().rev().filter(|(_, key)| **key >= own) {
            let Some(entry) = TagEntry::parse(last_part(key)) else { continue };
            if self.life(repository, &entry.digest).await? == Some(entry.life) {
                self.delete_in_order(&after[..index]).await?;
                return Ok(true);
            }
        }
        self.bucket().delete(&own).await?;
        // Somebody took ours away already. In this life: by a later push or by deleting the tag, and so after ours.
        Ok(!after.contains(&own) && self.life(repository, digest).await? == Some(life))
    }

    pub(super) async fn resolve(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let mut seen = None;
        for attempt in 1..=ATTEMPTS {
            let keys = self.tag_keys(repository, tag).await?;
            for key in keys.iter().rev() {
                let Some(entry) = TagEntry::parse(last_part(key)) else { continue };
                let kept = self.read_manifest(repository, &entry.digest).await?;
                if let Some(kept) = kept.filter(|kept| kept.life == entry.life) {
                    return Ok(Some(kept.into_stored(&entry.digest)));
                }
            }
            // The manifests may be gone because the tag was moved off them after the list was read.
            if keys.is_empty() || seen.as_ref() == Some(&keys) {
                return Ok(None);
            }
            seen = Some(keys);
            if attempt > 1 {
                give_way(attempt).await;
            }
        }
        Err(contended(&keys::tag_entries(repository, tag.as_str())))
    }

    pub(super) async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        let keys = self.tag_keys(repository, tag).await?;
        let mut counted = false;
        for entry in keys.iter().filter_map(|key| TagEntry::parse(last_part(key))) {
            counted = counted || self.life(repository, &entry.digest).await? == Some(entry.life);
        }
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

    /// Takes keys of tags off the list that name a life of this manifest which is over.
    ///
    /// The life is asked for after the keys: one that a key had then and the manifest has not now never comes back. Keys that
    /// name other manifests are left alone, those below too: they may count.
    pub(super) async fn clear_tags(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let entries = self.bucket().list(&keys::tags(repository), None);
        let naming = entries.try_filter_map(async |entry| {
            let named = parse(&entry.key).filter(|(_, named)| named.digest == *digest);
            Ok(named.map(|(_, named)| named.life).map(|life| (entry.key, life)))
        });
        let naming: Vec<(String, UploadId)> = naming.try_collect().await?;
        if naming.is_empty() {
            return Ok(());
        }
        let life = self.life(repository, digest).await?;
        for (key, _) in naming.iter().filter(|(_, named)| life != Some(*named)) {
            self.bucket().delete(key).await?;
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

/// The tag and what a key says of it.
pub(super) fn parse(key: &str) -> Option<(&str, TagEntry)> {
    let (rest, name) = key.rsplit_once("!/")?;
    let (_, tag) = rest.rsplit_once('/')?;
    Some((tag, TagEntry::parse(name)?))
}
