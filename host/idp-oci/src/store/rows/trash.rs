//! What was deleted and can be brought back: rows set aside, and what they need kept as if they were still there.
//!
//! A manifest in the trash still names its blobs and children, so that collection leaves them alone, and still needs its
//! content file. Only when it is purged does it let them go.

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::store::Referrer;
use crate::store::rows::Fault;
use crate::store::rows::change::{Role, Tables, json};
use crate::store::rows::query::{Row, damaged};
use crate::store::rows::table::{Moment, Naming, Record, digest, key};

/// What is kept of a deleted manifest besides its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Discarded {
    pub(crate) record: Record,
    pub(crate) since: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    referrer: Option<Referrer>,
}

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The manifest, if it had been deleted too.
    pub manifest: Option<Digest>,
    /// The tags.
    pub tags: Vec<String>,
}

impl Tables<'_> {
    /// Sets a tag aside; none where there was no such tag.
    pub(crate) fn discard_tag(
        &mut self,
        repository: &str,
        tag: &str,
        now: Moment,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let Some(named) = self.delete_tag(repository, tag, now)? else { return Ok(None) };
        self.trash_tags.insert((repository, tag), (&*named, now))?;
        Ok(Some(named))
    }

    /// Sets a manifest and its tags aside; false where it was not in the repository.
    pub(crate) fn discard_manifest(
        &mut self,
        repository: &str,
        manifest: &Digest,
        now: Moment,
    ) -> Result<bool, Fault> {
        let at = key(manifest);
        let Some(taken) = self.take_out(repository, manifest)? else { return Ok(false) };
        let discarded = Discarded { record: taken.row.record, since: now, referrer: taken.referrer };
        let bytes = taken.row.bytes.unwrap_or_default();
        self.trash.insert((repository, &*at), (&*json(&discarded), &*bytes))?;
        for tag in taken.tags {
            self.trash_tags.insert((repository, &*tag), (&*at, now))?;
        }
        Ok(true)
    }

    pub(crate) fn discarded(
        &self,
        repository: &str,
        at: &[u8],
    ) -> Result<Option<(Discarded, Vec<u8>)>, Fault> {
        let Some(row) = self.trash.get((repository, at))? else { return Ok(None) };
        let (discarded, bytes) = row.value();
        let discarded =
            serde_json::from_slice(discarded).map_err(|error| damaged("trash", repository, &error))?;
        Ok(Some((discarded, bytes.to_vec())))
    }

    /// Brings back a tag, with its manifest if that went too.
    pub(crate) fn restore_tag(
        &mut self,
        repository: &str,
        tag: &str,
        now: Moment,
    ) -> Result<Option<Restored>, Fault> {
        let Some(named) = self.trash_tags.get((repository, tag))?.map(|row| row.value().0.to_vec()) else {
            return Ok(None);
        };
        let mut restored = Restored::default();
        if self.manifests.get((repository, &*named))?.is_none() {
            if !self.bring_back(repository, &named, now)? {
                return Ok(None);
            }
            restored.manifest = digest(&named);
        }
        self.trash_tags.remove((repository, tag))?;
        self.put_tag(repository, tag, &named, now)?;
        restored.tags.push(tag.to_owned());
        Ok(Some(restored))
    }

    /// Brings back a manifest, with those of its tags whose names are free.
    pub(crate) fn restore_manifest(
        &mut self,
        repository: &str,
        manifest: &Digest,
        now: Moment,
    ) -> Result<Option<Restored>, Fault> {
        let at = key(manifest);
        if !self.bring_back(repository, &at, now)? {
            return Ok(None);
        }
        let mut restored = Restored { manifest: Some(manifest.clone()), tags: Vec::new() };
        let mut tags = Vec::new();
        for row in self.trash_tags.range((repository, "")..)? {
            let (tag, named) = row?;
            if tag.value().0 != repository {
                break;
            }
            if named.value().0 == at {
                tags.push(tag.value().1.to_owned());
            }
        }
        for tag in tags {
            if self.tags.get((repository, &*tag))?.is_none() {
                self.trash_tags.remove((repository, &*tag))?;
                self.put_tag(repository, &tag, &at, now)?;
                restored.tags.push(tag);
            }
        }
        Ok(Some(restored))
    }

    fn bring_back(&mut self, repository: &str, at: &[u8], now: Moment) -> Result<bool, Fault> {
        let Some((discarded, bytes)) = self.discarded(repository, at)? else { return Ok(false) };
        self.trash.remove((repository, at))?;
        let record = Record { since: now, ..discarded.record };
        self.write_manifest(repository, at, &record, &bytes)?;
        if let (Some(subject), Some(referrer)) = (&record.subject, &discarded.referrer) {
            self.referrers.insert((repository, &*key(subject), at), &*json(referrer))?;
        }
        self.count(repository, |usage| {
            usage.manifests += 1;
            usage.bytes += record.size;
        })?;
        Ok(true)
    }

    /// Forgets a deleted manifest: whether its content may go, or none where it was not (any more) in the trash as it was.
    pub(crate) fn purge_manifest(
        &mut self,
        repository: &str,
        manifest: &Digest,
        since: Moment,
        named: Option<&[(Digest, Naming)]>,
        now: Moment,
    ) -> Result<Option<bool>, Fault> {
        let at = key(manifest);
        let Some((discarded, _)) = self.discarded(repository, &at)? else { return Ok(None) };
        if discarded.since != since {
            return Ok(None);
        }
        self.touch();
        self.trash.remove((repository, &*at))?;
        self.unname(repository, &at, named, now)?;
        if discarded.record.is_file() { self.release(&at, Role::Manifest).map(Some) } else { Ok(Some(false)) }
    }

    /// Forgets a deleted tag.
    pub(crate) fn purge_tag(&mut self, repository: &str, tag: &str, since: Moment) -> Result<bool, Fault> {
        if self.trash_tags.get((repository, tag))?.is_none_or(|row| row.value().1 != since) {
            return Ok(false);
        }
        self.touch();
        self.trash_tags.remove((repository, tag))?;
        Ok(true)
    }
}

/// A manifest that was taken out of its repository.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) row: Row,
    pub(crate) tags: Vec<String>,
    pub(crate) referrer: Option<Referrer>,
}
