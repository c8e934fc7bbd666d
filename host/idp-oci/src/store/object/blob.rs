//! Blobs: that a repository has one, where its bytes are, and how content that is there already is taken up.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{TryStreamExt as _, future};
use url::Url;

use super::keys::{BlobEntry, Content, Membership};
use super::{BucketStore, fresh, keys, last_part};
use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::Repository;
use crate::store::{OCTETS, StoreError};

impl BucketStore {
    /// That the repository has the blob. A membership that is leaving is made anew: who asks may be about to push a manifest
    /// that needs it.
    pub(super) async fn member(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Membership>, StoreError> {
        let entries: Vec<_> =
            self.bucket().list(&keys::members(repository, digest), None).try_collect().await?;
        let all = entries.iter().filter_map(|entry| keys::parse_membership(last_part(&entry.key)));
        let (leaving, mut staying): (Vec<_>, Vec<_>) = all.partition(|(_, leaving)| *leaving);
        staying.retain(|(membership, _)| !leaving.iter().any(|(left, _)| left == membership));
        if let Some((membership, _)) = staying.pop() {
            return Ok(Some(membership));
        }
        for (Membership { content, size, .. }, _) in leaving {
            if let Some(membership) = self.claim(repository, digest, content, size).await? {
                return Ok(Some(membership));
            }
        }
        Ok(None)
    }

    pub(super) fn open_blob(&self, digest: &Digest, membership: &Membership) -> Blob {
        let (bucket, size) = (self.bucket().clone(), membership.size);
        let key = keys::bytes(digest, membership.content);
        let descriptor = Descriptor::new(OCTETS, digest.clone(), size);
        Blob::from_opener(descriptor, move |start| bucket.read(key.clone(), start, size))
    }

    pub(super) async fn signed_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Url>, StoreError> {
        let settings = self.settings();
        if !settings.redirect {
            return Ok(None);
        }
        let Some(membership) = self.member(repository, digest).await? else { return Ok(None) };
        let key = keys::bytes(digest, membership.content);
        self.bucket().signed(&key, Duration::from_secs(settings.redirect_seconds)).await
    }

    pub(super) async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError> {
        let found = match from {
            Some(from) => self.member(from, digest).await?,
            None => self.any_member(digest).await?,
        };
        let Some(Membership { content, size, .. }) = found else { return Ok(false) };
        if !self.claimable(digest, content).await? {
            return Ok(false);
        }
        self.know(repository, false).await?;
        Ok(self.claim(repository, digest, content, size).await?.is_some())
    }

    async fn any_member(&self, digest: &Digest) -> Result<Option<Membership>, StoreError> {
        let mut entries = self.bucket().list(&keys::all_members(digest), None);
        while let Some(entry) = entries.try_next().await? {
            if let Some((_, BlobEntry::Member { membership, leaving: false, .. })) =
                keys::parse_blob(&entry.key)
            {
                return Ok(Some(membership));
            }
        }
        Ok(None)
    }

    pub(super) async fn unlink_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let entries: Vec<_> =
            self.bucket().list(&keys::members(repository, digest), None).try_collect().await?;
        for entry in &entries {
            self.bucket().delete(&entry.key).await?;
        }
        Ok(!entries.is_empty())
    }

    /// Makes the repository a user of content that is there. `None` where the content is on its way out; nothing is left then.
    ///
    /// The order is what matters: first the membership, then the look. The sweeper condemns first and then looks for
    /// memberships (see `sweep.rs`).
    pub(super) async fn claim(
        &self,
        repository: &Repository,
        digest: &Digest,
        content: Content,
        size: u64,
    ) -> Result<Option<Membership>, StoreError> {
        let membership = Membership { id: fresh()?, content, size };
        let key = membership.key(repository, digest);
        self.bucket().put(&key, bytes::Bytes::new()).await?;
        if self.claimable(digest, content).await? {
            return Ok(Some(membership));
        }
        self.bucket().delete(&key).await?;
        Ok(None)
    }

    async fn claimable(&self, digest: &Digest, content: Content) -> Result<bool, StoreError> {
        Ok(self.contents(digest).await?.contains(&content))
    }

    /// Content with this digest that nobody has condemned.
    ///
    /// The list has the condemnations before the contents, so a content that is seen to be there was, when it was looked for,
    /// not yet deleted by a sweeper whose condemnation had gone before; sweepers take the condemnation away last.
    pub(super) async fn contents(&self, digest: &Digest) -> Result<Vec<Content>, StoreError> {
        let members = format!("{}/", keys::all_members(digest));
        let entries = self.bucket().list(&keys::blob(digest), None);
        // Behind them are the memberships, of which there may be very many.
        let entries = entries.try_take_while(|entry| future::ok(!entry.key.starts_with(&members)));
        let entries: Vec<_> = entries.try_collect().await?;
        let mut condemned = HashSet::new();
        let mut contents = Vec::new();
        for entry in &entries {
            match keys::parse_blob(&entry.key) {
                Some((_, BlobEntry::Condemned(content))) => drop(condemned.insert(content)),
                Some((_, BlobEntry::Content(content))) => contents.push(content),
                _ => {}
            }
        }
        contents.retain(|content| !condemned.contains(content));
        Ok(contents)
    }
}
