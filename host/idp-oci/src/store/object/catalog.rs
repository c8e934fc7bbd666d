//! The catalogue: an entry for each repository that was ever known, which is never deleted.
//!
//! An empty entry says that the repository holds a manifest. It is written before such a push is acknowledged, so no
//! repository is missing. An entry of one byte says that it may hold none: then the manifests are looked for. Who
//! takes the last manifest away writes that; a replica that does not know it still says what is true, with a look more.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{AT_ONCE, BucketStore, keys};
use crate::name::Repository;
use crate::store::{Listing, Page, StoreError};

/// What an entry holds that is not believed.
const DOUBT: &[u8] = b"?";

/// So many repositories are kept in mind; then it begins anew.
const KNOWN: usize = 100_000;

impl BucketStore {
    /// Sees to it that the repository is in the catalogue, and as one with a manifest if it is to hold one.
    pub(super) async fn know(&self, repository: &Repository, holds: bool) -> Result<(), StoreError> {
        let known = self.known().get(repository.as_str()).copied();
        if known.is_some_and(|known| known || !holds) {
            return Ok(());
        }
        let key = keys::repository(repository);
        if holds {
            self.bucket().put(&key, Bytes::new()).await?;
        } else {
            self.bucket().create(&key, Bytes::from_static(DOUBT)).await?;
        }
        self.remember(repository, holds);
        Ok(())
    }

    fn remember(&self, repository: &Repository, holds: bool) {
        let mut known = self.known();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(repository.as_str().to_owned(), holds);
    }

    pub(super) async fn is_known(&self, repository: &Repository) -> Result<bool, StoreError> {
        Ok(self.bucket().head(&keys::repository(repository)).await?.is_some())
    }

    /// Marks the entry of a repository in which no manifest is left.
    pub(super) async fn doubt(&self, repository: &Repository) -> Result<(), StoreError> {
        if self.holds_manifests(repository).await? {
            return Ok(());
        }
        self.remember(repository, false);
        self.bucket().put(&keys::repository(repository), Bytes::from_static(DOUBT)).await
    }

    pub(super) async fn list_repositories(&self, page: &Page) -> Result<Listing<String>, StoreError> {
        let after = page.after.as_deref();
        let begin = after.and_then(keys::repositories_after);
        let entries = self.bucket().list(keys::REPOSITORIES, begin.as_deref());
        let looked = entries.map(async |entry| {
            let entry = entry?;
            let name = entry.key.strip_prefix(keys::REPOSITORIES).and_then(|name| name.strip_prefix('/'));
            let name = name.and_then(|name| name.strip_suffix('!'));
            let Some(repository) = name.and_then(|name| name.parse::<Repository>().ok()) else {
                return Ok(None);
            };
            if after.is_some_and(|after| repository.as_str() <= after) {
                return Ok(None);
            }
            let holds = entry.size == 0 || self.holds_manifests(&repository).await?;
            Ok::<_, StoreError>(holds.then(|| repository.as_str().to_owned()))
        });
        let mut names = std::pin::pin!(looked.buffered(AT_ONCE).try_filter_map(async |name| Ok(name)));
        let mut listing = Listing { entries: Vec::new(), more: false };
        while let Some(name) = names.try_next().await? {
            if listing.entries.len() == page.limit {
                listing.more = true;
                break;
            }
            listing.entries.push(name);
        }
        Ok(listing)
    }
}
