//! Referrers: an empty object for each, which counts while the manifest has the life that its key names.

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{AT_ONCE, BucketStore, keys, last_part};
use crate::digest::Digest;
use crate::name::Repository;
use crate::store::{Referrer, StoreError};

impl BucketStore {
    pub(super) async fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, StoreError> {
        let entries = self.bucket().list(&keys::referrers(repository, subject), None);
        let looked = entries.map(async |entry| {
            let Some((digest, life)) = keys::parse_referrer(last_part(&entry?.key)) else { return Ok(None) };
            let kept = self.read_manifest(repository, &digest).await?;
            let Some(kept) = kept.filter(|kept| kept.life == life) else { return Ok(None) };
            let Some(referral) = kept.referral.clone().filter(|referral| referral.subject == *subject) else {
                return Ok(None);
            };
            Ok::<_, StoreError>(Some(Referrer::new(&kept.into_stored(&digest), &referral)))
        });
        looked.buffered(AT_ONCE).try_filter_map(async |referrer| Ok(referrer)).try_collect().await
    }
}
