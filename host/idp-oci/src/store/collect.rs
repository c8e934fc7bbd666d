//! Garbage collection of a store on disk, beside the running registry: writes go on, and nothing goes that a push or a mount in
//! flight needs.
//!
//! What may go is looked for in a snapshot, repository by repository, and taken away in small transactions that look again: a
//! candidate that was put, tagged, named, mounted or asked for since then stays. A blob that no manifest names has a time of
//! grace from when it was pushed, mounted, found by a client that asked, or lost its last manifest; in a repository with an open
//! upload it has all the time. A content file goes after the transaction that took its last row is on the disk, and only if
//! nobody is bringing the same content just then (`content.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redb::ReadableTable as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::digest::Digest;
use crate::store::disk::{self, Disk};
use crate::store::fs::{FsStore, blocking};
use crate::store::rows::query::Row;
use crate::store::rows::table::{
    BLOBS, FIRST, MANIFESTS, Moment, Naming, REFERENCES, REPOSITORIES, TAGGED, TAGS, TRASH, TRASH_TAGS,
    digest, is_named, key,
};
use crate::store::rows::{Fault, Snapshot, Tables};
use crate::store::{CollectionSettings, StoreError};

/// Candidates in one transaction.
const CHUNK: usize = 64;

/// What a collection does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// Only says what would go.
    pub dry_run: bool,
    /// How long a blob is kept that no manifest names; what the store's settings say, unless given. Shorter is safe only while
    /// nobody pushes.
    pub grace: Option<Duration>,
    /// How long a manifest is kept that no tag, index or subject keeps; what the settings say, unless given.
    pub delete_untagged: Option<Duration>,
    /// Repositories with open uploads ([`crate::store::upload::Uploads::repositories`]): their blobs stay.
    pub busy: HashSet<String>,
}

/// What went, or would go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collected {
    /// Tags that no rule keeps.
    pub tags: u64,
    /// Manifests that nothing keeps.
    pub manifests: u64,
    /// Blobs that no manifest names.
    pub blobs: u64,
    /// Bytes of these manifests and blobs, as the repository counts them.
    pub bytes: u64,
    /// Deleted tags and manifests that cannot be brought back any more.
    pub purged: u64,
}

impl std::ops::AddAssign for Collected {
    fn add_assign(&mut self, other: Self) {
        self.tags += other.tags;
        self.manifests += other.manifests;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
        self.purged += other.purged;
    }
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GcReport {
    /// Whether nothing was really done.
    pub dry_run: bool,
    /// By repository; those that lose nothing are left out.
    pub repositories: BTreeMap<String, Collected>,
    /// Of all.
    pub total: Collected,
    /// Content files that went because nobody needs them any more, those that a crash had left included.
    pub content: u64,
    /// Their bytes: what the disk gets back.
    pub content_bytes: u64,
}

/// What of a repository may go, as a snapshot saw it.
#[derive(Debug, Default)]
struct Candidates {
    tags: Vec<(String, Vec<u8>, Moment)>,
    manifests: Vec<(Digest, Moment, u64)>,
    blobs: Vec<(Digest, Moment, u64)>,
    trash: Vec<(Digest, Moment)>,
    trash_tags: Vec<(String, Moment)>,
}

/// The limits of one collection.
struct Limits {
    now: Moment,
    grace: Duration,
    delete_untagged: Option<Duration>,
    undo: Duration,
    is_busy: bool,
}

impl Limits {
    fn is_over(&self, since: Moment, after: Duration) -> bool {
        u128::from(self.now.saturating_sub(since)) >= after.as_millis()
    }
}

impl FsStore {
    /// Collects garbage, and deletes what no rule of retention keeps.
    pub async fn collect(&self, options: GcOptions) -> Result<GcReport, StoreError> {
        let disk = Arc::clone(self.disk());
        blocking(move || collect(&disk, &options)).await
    }

    /// Collects at every interval of the settings until it is cancelled. `busy` says which repositories have open uploads.
    pub async fn collect_regularly(
        &self,
        settings: &CollectionSettings,
        busy: impl Fn() -> HashSet<String>,
        cancel: CancellationToken,
    ) {
        let Some(interval) = settings.interval() else { return };
        while cancel.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            match self.collect(GcOptions { busy: busy(), ..GcOptions::default() }).await {
                Ok(report) => tracing::info!(
                    target: "idp::registry",
                    tags = report.total.tags, manifests = report.total.manifests, blobs = report.total.blobs,
                    content_bytes = report.content_bytes, "garbage was collected",
                ),
                Err(error) => {
                    tracing::error!(target: "idp::registry", %error, "garbage could not be collected");
                }
            }
        }
    }
}

fn collect(disk: &Disk, options: &GcOptions) -> Result<GcReport, StoreError> {
    let mut report = GcReport { dry_run: options.dry_run, ..GcReport::default() };
    // Of a dry run: how many rows of content would go.
    let mut going: HashMap<Digest, u64> = HashMap::new();
    let repositories = disk.rows.read(|rows| {
        let mut all = Vec::new();
        for row in rows.table(REPOSITORIES)?.iter()? {
            all.push(row?.0.value().to_owned());
        }
        Ok(all)
    })?;
    for repository in repositories {
        let limits = Limits {
            now: disk::now(),
            grace: options.grace.unwrap_or_else(|| disk.settings.grace()),
            delete_untagged: options.delete_untagged.or_else(|| disk.policy.delete_untagged(&repository)),
            undo: disk.policy.undo().unwrap_or_default(),
            is_busy: options.busy.contains(&repository),
        };
        let found = disk.rows.read(|rows| look(rows, disk, &repository, &limits))?;
        let collected = if options.dry_run {
            for (blob, ..) in &found.blobs {
                *going.entry(blob.clone()).or_default() += 1;
            }
            found.counted()
        } else {
            take(disk, &repository, found, &mut report)?
        };
        if collected != Collected::default() {
            report.total += collected;
            report.repositories.insert(repository, collected);
        }
    }
    if options.dry_run {
        for (digest, rows_going) in going {
            let needs = disk.rows.read(|rows| {
                let row = rows.table(crate::store::rows::table::CONTENT)?.get(&*key(&digest))?;
                Ok(row.map(|row| row.value()))
            })?;
            if let Some((size, rows, _)) = needs
                && rows <= rows_going
            {
                report.content += 1;
                report.content_bytes += size;
            }
        }
    }
    // What a crash left, or a client that went away.
    disk.content.walk(|digest, _| {
        let Some(digest) = digest else { return Ok(()) };
        if disk.rows.read(|rows| rows.content(&digest))?.is_none() {
            drop_content(disk, &digest, options.dry_run, &mut report)?;
        }
        Ok(())
    })?;
    Ok(report)
}

fn drop_content(
    disk: &Disk,
    digest: &Digest,
    dry_run: bool,
    report: &mut GcReport,
) -> Result<(), StoreError> {
    let size = disk.content.size(digest)?;
    if let Some(size) = size
        && (dry_run || disk.drop_content(digest)?)
    {
        report.content += 1;
        report.content_bytes += size;
    }
    Ok(())
}

impl Candidates {
    fn counted(&self) -> Collected {
        let sized = self.manifests.iter().chain(&self.blobs);
        Collected {
            tags: self.tags.len() as u64,
            manifests: self.manifests.len() as u64,
            blobs: self.blobs.len() as u64,
            bytes: sized.map(|(_, _, size)| size).sum(),
            purged: (self.trash.len() + self.trash_tags.len()) as u64,
        }
    }
}

fn look(rows: &Snapshot, disk: &Disk, repository: &str, limits: &Limits) -> Result<Candidates, Fault> {
    let mut found = Candidates::default();
    let mut tags = Vec::new();
    let mut put = HashMap::new();
    for row in rows.table(TAGS)?.range((repository, "")..)? {
        let (at, value) = row?;
        let (of, tag) = at.value();
        if of != repository {
            break;
        }
        let (named, since) = value.value();
        tags.push((tag.to_owned(), limits.now.saturating_sub(since)));
        put.insert(tag.to_owned(), (named.to_vec(), since));
    }
    for tag in disk.policy.superfluous(repository, &tags) {
        if let Some((named, since)) = put.remove(tag) {
            found.tags.push((tag.to_owned(), named, since));
        }
    }
    if let Some(after) = limits.delete_untagged {
        untagged(rows, repository, limits, after, &mut found)?;
    }
    if !limits.is_busy {
        let references = rows.table(REFERENCES)?;
        for row in rows.table(BLOBS)?.range((repository, FIRST)..)? {
            let (at, value) = row?;
            let (of, blob) = at.value();
            if of != repository {
                break;
            }
            let (size, since) = value.value();
            if limits.is_over(since, limits.grace) && !is_named(&references, repository, blob)? {
                found.blobs.extend(digest(blob).map(|blob| (blob, since, size)));
            }
        }
    }
    for row in rows.table(TRASH)?.range((repository, FIRST)..)? {
        let (at, value) = row?;
        let (of, manifest) = at.value();
        if of != repository {
            break;
        }
        let discarded: crate::store::rows::trash::Discarded = serde_json::from_slice(value.value().0)
            .map_err(|error| crate::store::rows::query::damaged("trash", repository, &error))?;
        if limits.is_over(discarded.since, limits.undo) {
            found.trash.extend(digest(manifest).map(|manifest| (manifest, discarded.since)));
        }
    }
    for row in rows.table(TRASH_TAGS)?.range((repository, "")..)? {
        let (at, value) = row?;
        let (of, tag) = at.value();
        if of != repository {
            break;
        }
        let since = value.value().1;
        if limits.is_over(since, limits.undo) {
            found.trash_tags.push((tag.to_owned(), since));
        }
    }
    Ok(found)
}

fn untagged(
    rows: &Snapshot,
    repository: &str,
    limits: &Limits,
    after: Duration,
    found: &mut Candidates,
) -> Result<(), Fault> {
    let (manifests, references, tagged) =
        (rows.table(MANIFESTS)?, rows.table(REFERENCES)?, rows.table(TAGGED)?);
    for row in manifests.range((repository, FIRST)..)? {
        let (at, value) = row?;
        let (of, manifest) = at.value();
        if of != repository {
            break;
        }
        let (record, bytes) = value.value();
        // What cannot be read is for fsck, and stays.
        let Ok(Row { record, .. }) = Row::parse(record, bytes) else { continue };
        if !limits.is_over(record.since, after) || is_named(&references, repository, manifest)? {
            continue;
        }
        let has_tag = match tagged.range((repository, manifest, "")..)?.next() {
            None => false,
            Some(row) => {
                let (at, _) = row?;
                (at.value().0, at.value().1) == (repository, manifest)
            }
        };
        let subject = record.subject.as_ref().map(key);
        let has_subject = match subject {
            Some(subject) => manifests.get((repository, &*subject))?.is_some(),
            None => false,
        };
        if !has_tag && !has_subject {
            found.manifests.extend(digest(manifest).map(|manifest| (manifest, record.since, record.size)));
        }
    }
    Ok(())
}

/// Work that says what went, and which content may go after it.
type Work = dyn FnOnce(&mut Tables<'_>) -> Result<(Collected, Vec<Digest>), Fault> + Send;
type Named = Option<Vec<(Digest, Naming)>>;

/// Takes away what is still as it was when it was looked at.
fn take(
    disk: &Disk,
    repository: &str,
    found: Candidates,
    report: &mut GcReport,
) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    let undo = disk.policy.undo().is_some();
    let mut run = |work: Box<Work>| {
        let (went, unneeded) = disk.rows.change_blocking(work)?;
        collected += went;
        for digest in unneeded {
            drop_content(disk, &digest, false, report)?;
        }
        Ok::<_, StoreError>(())
    };
    let name = Arc::<str>::from(repository);
    for chunk in found.trash_tags.chunks(CHUNK) {
        let (chunk, name) = (chunk.to_vec(), Arc::clone(&name));
        run(Box::new(move |tables| {
            let mut went = Collected::default();
            for (tag, since) in chunk {
                went.purged += u64::from(tables.purge_tag(&name, &tag, since)?);
            }
            Ok((went, Vec::new()))
        }))?;
    }
    for chunk in found.trash.chunks(CHUNK) {
        let named = chunk.iter().map(|(manifest, _)| disk.discarded_names(repository, manifest));
        let named: Vec<Named> = named.collect::<Result<_, _>>()?;
        let (chunk, name) = (chunk.to_vec(), Arc::clone(&name));
        run(Box::new(move |tables| {
            let (mut went, mut unneeded) = (Collected::default(), Vec::new());
            for ((manifest, since), named) in chunk.into_iter().zip(named) {
                let purged = tables.purge_manifest(&name, &manifest, since, named.as_deref(), disk::now())?;
                went.purged += u64::from(purged.is_some());
                if purged == Some(true) {
                    unneeded.push(manifest);
                }
            }
            Ok((went, unneeded))
        }))?;
    }
    for chunk in found.tags.chunks(CHUNK) {
        let (chunk, name) = (chunk.to_vec(), Arc::clone(&name));
        run(Box::new(move |tables| {
            let mut went = Collected::default();
            for (tag, named, since) in chunk {
                let row =
                    tables.tags.get((&*name, &*tag))?.map(|row| (row.value().0.to_vec(), row.value().1));
                if row == Some((named, since)) {
                    if undo {
                        tables.discard_tag(&name, &tag, disk::now())?;
                    } else {
                        tables.delete_tag(&name, &tag, disk::now())?;
                    }
                    went.tags += 1;
                }
            }
            Ok((went, Vec::new()))
        }))?;
    }
    for chunk in found.manifests.chunks(CHUNK) {
        let named = chunk.iter().map(|(manifest, ..)| disk.names(repository, manifest));
        let named: Vec<Named> = named.collect::<Result<_, _>>()?;
        let (chunk, name) = (chunk.to_vec(), Arc::clone(&name));
        run(Box::new(move |tables| {
            let (mut went, mut unneeded) = (Collected::default(), Vec::new());
            for ((manifest, since, size), named) in chunk.into_iter().zip(named) {
                if !tables.is_abandoned(&name, &manifest, since)? {
                    continue;
                }
                if undo {
                    tables.discard_manifest(&name, &manifest, disk::now())?;
                } else if tables.delete_manifest(&name, &manifest, named.as_deref(), disk::now())?
                    == Some(true)
                {
                    unneeded.push(manifest);
                }
                went.manifests += 1;
                went.bytes += size;
            }
            Ok((went, unneeded))
        }))?;
    }
    for chunk in found.blobs.chunks(CHUNK) {
        let (chunk, name) = (chunk.to_vec(), Arc::clone(&name));
        run(Box::new(move |tables| {
            let (mut went, mut unneeded) = (Collected::default(), Vec::new());
            for (blob, since, size) in chunk {
                let at = key(&blob);
                let row = tables.blobs.get((&*name, &*at))?.map(|row| row.value());
                if row != Some((size, since)) || is_named(&tables.references, &name, &at)? {
                    continue;
                }
                if tables.delete_blob(&name, &blob)? == Some(true) {
                    unneeded.push(blob);
                }
                went.blobs += 1;
                went.bytes += size;
            }
            Ok((went, unneeded))
        }))?;
    }
    Ok(collected)
}

#[cfg(test)]
mod tests;
