//! Where the embedded registry keeps its content.
//!
//! May use names, digests, media types, manifests and blobs; knows no HTTP. In: verified bytes and what they are called.
//! Out: blobs to stream, manifests, and pages of names. A new backend implements [`Store`] and [`Staged`] and passes the
//! functions of `suite.rs`; sessions, digests and expiry are the business of [`upload`], once for all backends.
//!
//! The rules every backend keeps:
//! - What a method acknowledged is there after a crash (as far as the backend is durable at all), and whole.
//! - A half-written thing is never visible: content appears at once, under its digest, or not.
//! - Content belongs to repositories: a blob is found only where it was pushed or mounted.

use std::collections::BTreeMap;
use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::{Manifest, ManifestError, Shape};
use crate::name::{Repository, Tag, Target};

pub mod collect;
mod content;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod differential;
mod disk;
mod durable;
pub mod fs;
pub mod fsck;
mod layout1;
pub mod memory;
#[cfg(feature = "object-store")]
pub mod object;
mod policy;
mod rows;
mod staged;
#[cfg(test)]
mod suite;
pub mod upload;

pub use disk::StorageSettings;
pub use policy::{CollectionSettings, QuotaSettings, RetentionSettings, StoreSettings};
pub use rows::Durability;
pub use rows::table::Usage;
pub use rows::trash::Restored;

/// What blobs are served as: a store does not know what clients call them.
pub(crate) const OCTETS: &str = "application/octet-stream";

/// Why a store could not do what it was asked. Absence is no error: methods answer `None` or `false`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The backend's own failure: disk full, permission, a device gone.
    #[error("the registry's storage failed: {0}")]
    Io(#[from] io::Error),
    /// A file of the store says something that the store never wrote.
    #[error("the registry's storage is damaged: {what}; restore it, or push the content again")]
    Damaged {
        /// Which file, and what is wrong with it.
        what: String,
    },
    /// Another process has the directory.
    #[error("`{0}` is in use by another registry; stop that one, or choose another directory")]
    InUse(std::path::PathBuf),
    /// A directory with something else in it.
    #[error("`{0}` is not a registry's directory and is not empty; choose an empty one")]
    NotAStore(std::path::PathBuf),
    /// The disk is all but full: what is there can be read and deleted, and nothing added.
    #[error(
        "the disk of `{path}` is full ({free} bytes are free): delete images, collect garbage or make room, then push again"
    )]
    Full {
        /// What could not be written to.
        path: std::path::PathBuf,
        /// Bytes that are free.
        free: u64,
    },
    /// A tag that the registry's rules let nobody move.
    #[error("`{repository}:{tag}` is immutable and names {digest}: push under another tag")]
    TagImmutable {
        /// Where.
        repository: String,
        /// Which.
        tag: String,
        /// What it names.
        digest: Digest,
    },
    /// More than the registry's rules let a repository or a namespace hold.
    #[error(
        "{scope} holds {used} {of} of at most {limit}, and {more} more do not fit: delete what is not needed, or ask the \
         registry's operator for a larger quota"
    )]
    Quota {
        /// Of what: a repository, a namespace, the registry.
        scope: String,
        /// `bytes` or `tags`.
        of: &'static str,
        /// How much there is.
        used: u64,
        /// How much was to come.
        more: u64,
        /// How much may be.
        limit: u64,
    },
    /// Settings that mean nothing.
    #[error("{what}")]
    Settings {
        /// Which, and what to write.
        what: String,
    },
    /// A directory that we may not write to.
    #[error("`{path}` cannot be written ({error}); let this user write there, or choose another directory")]
    NotWritable {
        /// The directory.
        path: std::path::PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The object store did not do what it was asked, though it was asked again.
    #[error("the object store failed at `{object}`: {why}")]
    Object {
        /// Bucket and key.
        object: String,
        /// What the service said, and what can be done.
        why: String,
    },
    /// A directory written by a newer idp.
    #[error("`{path}` has storage layout {found}; this idp reads layout {known}: use a newer idp")]
    Layout {
        /// The directory.
        path: std::path::PathBuf,
        /// What it has.
        found: u32,
        /// What we read.
        known: u32,
    },
}

/// A manifest as it is kept: the exact bytes, and the media type they were pushed as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// What it is served as.
    pub media_type: String,
    /// The digest it was pushed under.
    pub digest: Digest,
    /// The bytes, as they came.
    pub bytes: Bytes,
}

/// What a manifest with a `subject` says in the list of that subject's referrers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referral {
    /// The manifest that is referred to; it need not exist.
    pub subject: Digest,
    /// `artifactType`, or of an image manifest without one the media type of its config.
    pub artifact_type: Option<String>,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Referral {
    /// What a manifest says of itself; none where it has no subject.
    pub fn of(manifest: &Manifest) -> Result<Option<Self>, ManifestError> {
        #[derive(Deserialize)]
        struct Annotated {
            #[serde(default)]
            annotations: Option<BTreeMap<String, String>>,
        }

        let Some(subject) = manifest.subject() else { return Ok(None) };
        let annotated: Annotated = serde_json::from_slice(manifest.bytes())
            .map_err(|error| ManifestError::Invalid(format!("annotations: {error}")))?;
        let own = manifest.artifact_type().filter(|artifact_type| !artifact_type.is_empty());
        let artifact_type = match (own, manifest.shape()) {
            (Some(own), _) => Some(own.to_owned()),
            (None, Shape::Image { config, .. }) => Some(config.media_type.clone()),
            (None, Shape::Index { .. }) => None,
        };
        Ok(Some(Self {
            subject: subject.digest.clone(),
            artifact_type,
            annotations: annotated.annotations.unwrap_or_default(),
        }))
    }
}

/// A line in the list of referrers: a descriptor (distribution-spec, "Listing Referrers").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Media type of the referring manifest.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// See [`Referral::artifact_type`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Referrer {
    pub(crate) fn new(manifest: &StoredManifest, referral: &Referral) -> Self {
        Self {
            media_type: manifest.media_type.clone(),
            digest: manifest.digest.clone(),
            size: manifest.bytes.len() as u64,
            artifact_type: referral.artifact_type.clone(),
            annotations: referral.annotations.clone(),
        }
    }
}

/// Which part of a sorted list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Only what sorts after this (bytewise); it need not be in the list.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl Page {
    /// Cuts the page out of a sorted iterator of names.
    pub(crate) fn cut<T: AsRef<str>>(&self, sorted: impl IntoIterator<Item = T>) -> Listing<T> {
        let after = self.after.as_deref();
        let mut rest = sorted.into_iter().filter(|name| after.is_none_or(|after| name.as_ref() > after));
        let entries: Vec<T> = rest.by_ref().take(self.limit).collect();
        Listing { more: rest.next().is_some(), entries }
    }
}

/// A page of a sorted list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// Sorted bytewise.
    pub entries: Vec<T>,
    /// Whether anything follows.
    pub more: bool,
}

/// What a namespace holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// All of it; content that several repositories have counts in each.
    pub total: Usage,
    /// A page of its repositories, sorted, each with what it holds.
    pub repositories: Vec<(String, Usage)>,
    /// Whether other repositories follow.
    pub more: bool,
}

/// A place for content. Every method is atomic: a reader sees all of it or nothing.
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Room for the bytes of a blob that is on its way. Dropped without [`Staged::commit`], it leaves nothing.
    async fn stage(&self) -> Result<Box<dyn Staged>, StoreError>;

    /// The size of a blob of this repository.
    async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, StoreError>;

    /// A blob of this repository, to be read; stays readable though it be deleted meanwhile.
    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError>;

    /// An address outside of the registry at which this blob can be read for a while by whoever has the address; `None` where there
    /// is none, and the bytes must come from here.
    async fn blob_url(&self, _repository: &Repository, _digest: &Digest) -> Result<Option<Url>, StoreError> {
        Ok(None)
    }

    /// Makes a blob of `from` (or of whichever repository has it) a blob of `repository` too; false where there is none.
    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError>;

    /// Which of these the repository has no blob of: those that a manifest names, asked for at once.
    async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<Vec<Digest>, StoreError> {
        let mut missing = Vec::new();
        for digest in digests {
            if self.blob_size(repository, digest).await?.is_none() {
                missing.push(digest.clone());
            }
        }
        Ok(missing)
    }

    /// Takes a blob out of the repository; false where it was not in it.
    async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError>;

    /// Keeps a manifest, lists it among its subject's referrers, and points the tags at it. The same bytes always come with
    /// the same referral, which is read out of them.
    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &StoredManifest,
        referral: Option<&Referral>,
        tags: &[Tag],
    ) -> Result<(), StoreError>;

    /// A manifest by tag or digest.
    async fn manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<StoredManifest>, StoreError>;

    /// Whether the repository has a manifest of this digest.
    async fn has_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError>;

    /// Takes a manifest out of the repository, with all tags that name it; false where it was not in it.
    async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError>;

    /// Takes a tag away and leaves the manifest; false where there was no such tag.
    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError>;

    /// Tags, sorted; `None` for a repository that nothing was ever pushed to.
    async fn tags(&self, repository: &Repository, page: &Page)
    -> Result<Option<Listing<String>>, StoreError>;

    /// Repositories that hold a manifest, sorted.
    async fn repositories(&self, page: &Page) -> Result<Listing<String>, StoreError>;

    /// What is kept in the repositories whose names begin with these components (empty for all), and in each of them; none
    /// where the backend does not count.
    async fn usage(&self, namespace: &str, page: &Page) -> Result<Option<UsageReport>, StoreError> {
        let _ = (namespace, page);
        Ok(None)
    }

    /// Brings back what was deleted, while that can be undone; none where there is no such thing (any more).
    async fn restore(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<Restored>, StoreError> {
        let _ = (repository, target);
        Ok(None)
    }

    /// Manifests of the repository whose subject this is, sorted by digest.
    async fn referrers(&self, repository: &Repository, subject: &Digest)
    -> Result<Vec<Referrer>, StoreError>;
}

/// Bytes of a blob on their way into a store.
#[async_trait]
pub trait Staged: std::fmt::Debug + Send {
    /// The next bytes. After an error the staged content is of no more use.
    async fn append(&mut self, chunks: Vec<Bytes>) -> Result<(), StoreError>;

    /// What was appended so far, for the rare client that names its hash only at the end.
    async fn read_back(&self) -> Result<Blob, StoreError>;

    /// Makes the bytes, which the caller verified against `digest`, a blob of the repository.
    async fn commit(self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn pages_are_cut_and_know_what_follows() {
        let names = ["a", "b", "c"];
        for (after, limit, expect, more) in [
            (None, 9, "abc", false),
            (None, 3, "abc", false),
            (None, 2, "ab", true),
            (None, 0, "", true),
            (Some("a"), 1, "b", true),
            (Some("aa"), 9, "bc", false),
            (Some("c"), 9, "", false),
        ] {
            let listing = Page { after: after.map(str::to_owned), limit }.cut(names);
            assert_eq!(
                (listing.entries.concat().as_str(), listing.more),
                (expect, more),
                "{after:?} {limit}"
            );
        }
    }
}
