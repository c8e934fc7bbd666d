//! Manifests: one object each, in it its life, and what hangs on that life.
//!
//! The object is a line with the life, a line of JSON with what is not in the bytes, and the bytes.

use bytes::Bytes;
use futures_util::{TryStreamExt as _, future};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::bucket::Object;
use super::{ATTEMPTS, BucketStore, contended, damaged, fresh, give_way, keys};
use crate::digest::Digest;
use crate::name::{Repository, Tag};
use crate::store::upload::UploadId;
use crate::store::{Referral, StoreError, StoredManifest};

/// A manifest as it is in the bucket.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) life: UploadId,
    pub(super) media_type: String,
    pub(super) referral: Option<Referral>,
    pub(super) bytes: Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Kept {
    pub(super) fn into_stored(self, digest: &Digest) -> StoredManifest {
        StoredManifest { media_type: self.media_type, digest: digest.clone(), bytes: self.bytes }
    }

    fn encode(life: UploadId, manifest: &StoredManifest, referral: Option<&Referral>) -> Bytes {
        let head = Head {
            media_type: manifest.media_type.clone(),
            subject: referral.map(|referral| referral.subject.clone()),
            artifact_type: referral.and_then(|referral| referral.artifact_type.clone()),
            annotations: referral.map(|referral| referral.annotations.clone()).unwrap_or_default(),
        };
        let head = serde_json::to_string(&head).expect("plain structs can be written as JSON");
        let mut whole = format!("{life}\n{head}\n").into_bytes();
        whole.extend_from_slice(&manifest.bytes);
        whole.into()
    }

    pub(super) fn decode(object: &Object) -> Option<Self> {
        let mut lines = object.bytes.splitn(3, |byte| *byte == b'\n');
        let life = std::str::from_utf8(lines.next()?).ok()?.parse().ok()?;
        let head: Head = serde_json::from_slice(lines.next()?).ok()?;
        let bytes = object.bytes.slice_ref(lines.next()?);
        let Head { media_type, subject, artifact_type, annotations } = head;
        let referral = subject.map(|subject| Referral { subject, artifact_type, annotations });
        Some(Self { life, media_type, referral, bytes })
    }
}

impl BucketStore {
    pub(super) async fn read_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Kept>, StoreError> {
        let key = keys::manifest(repository, digest);
        let Some(object) = self.bucket().get(&key).await? else { return Ok(None) };
        Kept::decode(&object).map(Some).ok_or_else(|| damaged(&key, "is no manifest of this layout"))
    }

    /// The life that a manifest has now.
    pub(super) async fn life(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<UploadId>, StoreError> {
        Ok(self.read_manifest(repository, digest).await?.map(|kept| kept.life))
    }

    /// Keeps a manifest and all that hangs on it. Who deletes it meanwhile has deleted what was there before: it is put again.
    pub(super) async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &StoredManifest,
        referral: Option<&Referral>,
        tags: &[Tag],
    ) -> Result<(), StoreError> {
        let digest = &manifest.digest;
        let mut missing: Vec<&Tag> = tags.iter().collect();
        for attempt in 1..=ATTEMPTS {
            let life = self.alive(repository, manifest, referral).await?;
            let referrer =
                referral.map(|referral| keys::referrer(repository, &referral.subject, digest, life));
            let entry = async {
                match &referrer {
                    Some(key) => self.bucket().put(key, Bytes::new()).await,
                    None => Ok(()),
                }
            };
            let tagged = missing.iter().map(|tag| self.put_tag(repository, tag, digest, life));
            let tagged = future::try_join_all(tagged);
            let ((), (), tagged) = future::try_join3(self.know(repository, true), entry, tagged).await?;
            missing =
                missing.into_iter().zip(tagged).filter_map(|(tag, done)| (!done).then_some(tag)).collect();
            // Every tag was put while the manifest was there: that it goes from here on is a deletion after the push.
            if missing.is_empty() && !tags.is_empty() && referrer.is_none() {
                return Ok(());
            }
            if self.life(repository, digest).await? == Some(life) && missing.is_empty() {
                return Ok(());
            }
            if let Some(key) = referrer {
                self.bucket().delete(&key).await?;
            }
            if missing.is_empty() {
                return self.doubt(repository).await;
            }
            give_way(attempt).await;
        }
        Err(contended(&keys::manifest(repository, digest)))
    }

    /// Sees to it that the object is there, and says in which life.
    async fn alive(
        &self,
        repository: &Repository,
        manifest: &StoredManifest,
        referral: Option<&Referral>,
    ) -> Result<UploadId, StoreError> {
        let key = keys::manifest(repository, &manifest.digest);
        for attempt in 1..=ATTEMPTS {
            let life = fresh()?;
            if self.bucket().create(&key, Kept::encode(life, manifest, referral)).await? {
                return Ok(life);
            }
            if let Some(object) = self.bucket().get(&key).await? {
                let kept =
                    Kept::decode(&object).ok_or_else(|| damaged(&key, "is no manifest of this layout"))?;
                if kept.media_type == manifest.media_type {
                    return Ok(kept.life);
                }
                let changed = Kept::encode(kept.life, manifest, referral);
                if self.bucket().replace(&key, changed, object).await? {
                    return Ok(kept.life);
                }
            }
            give_way(attempt).await;
        }
        Err(contended(&key))
    }

    /// With the object goes the life, and with that every tag that names it; taking them off the lists comes after.
    pub(super) async fn remove_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let Some(kept) = self.read_manifest(repository, digest).await? else { return Ok(false) };
        self.bucket().delete(&keys::manifest(repository, digest)).await?;
        self.clear_tags(repository, digest).await?;
        if let Some(referral) = kept.referral {
            self.bucket().delete(&keys::referrer(repository, &referral.subject, digest, kept.life)).await?;
        }
        self.doubt(repository).await?;
        Ok(true)
    }

    /// Whether the repository holds any manifest.
    pub(super) async fn holds_manifests(&self, repository: &Repository) -> Result<bool, StoreError> {
        let mut entries = self.bucket().list(&keys::manifests(repository), None);
        Ok(entries.try_next().await?.is_some())
    }
}
