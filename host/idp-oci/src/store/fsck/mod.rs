//! The check of a store on disk: everything is derived again from content and rows, compared, and put right where it can be.
//!
//! Content is hashed beside the running registry. The rows are then looked at in one transaction, so that what is reported was
//! true at one moment; changes wait for as long as that takes. Damaged content is set aside, never served and never deleted:
//! whoever had it answers 404 for it until it is pushed again.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::sync::Arc;

use serde::Serialize;

use crate::digest::{Digest, Hasher};
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::fs::{FsStore, blocking};
use crate::store::rows::table::{CONTENT, digest};

mod rows;
#[cfg(test)]
mod tests;

/// What a check looks at and does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FsckOptions {
    /// Does not read content: only whether it is there, and its size.
    pub fast: bool,
    /// Puts right what can be, and sets damaged content aside.
    pub repair: bool,
}

/// What a check found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FindingKind {
    /// The database's own structure.
    Database,
    /// Rows need content whose file is not there. Repaired: the rows go; push the image again.
    ContentMissing,
    /// A content file has other bytes than its name says. Repaired: it is set aside, and the rows go; push the image again.
    ContentDamaged,
    /// A file among the content whose name is no digest. Never touched.
    ContentStrange,
    /// A manifest's bytes or record are not what was put. Repaired: it goes; push it again.
    ManifestDamaged,
    /// A tag names a manifest that is not there. Repaired: it goes.
    TagDangling,
    /// The tags of a manifest are not those that name it. Repaired: derived again.
    TagIndex,
    /// What is kept of what names what differs from the manifests. Repaired: derived again.
    References,
    /// The list of referrers differs from the manifests. Repaired: derived again.
    Referrers,
    /// A repository's counts are wrong. Repaired: counted again.
    Usage,
    /// How many rows need a content file is wrong. Repaired: counted again.
    ContentCount,
    /// A row that we never wrote. Repaired: it goes.
    RowStrange,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which kind of thing.
    pub kind: FindingKind,
    /// What exactly, in words.
    pub what: String,
    /// Whether it was put right.
    pub repaired: bool,
}

/// What a check saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FsckReport {
    /// Repositories.
    pub repositories: u64,
    /// Manifests, in each repository that has them.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Blobs, in each repository that has them.
    pub blobs: u64,
    /// Content files that rows need.
    pub content: u64,
    /// Their bytes.
    pub content_bytes: u64,
    /// Bytes that were read and hashed.
    pub hashed_bytes: u64,
    /// Content files that no row needs: what a crash may leave. Collected with `repair`, or by garbage collection.
    pub unused: u64,
    /// Their bytes.
    pub unused_bytes: u64,
    /// Manifests with blobs that their repository does not have (and that are to be had from nowhere else):
    /// `repository@digest (tags)` and what they lack. They cannot be pulled until it is pushed again.
    pub incomplete: BTreeMap<String, Vec<Digest>>,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

impl FsckReport {
    /// Whether nothing is wrong, or what was wrong has been put right.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.repaired)
    }
}

/// Why content is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bad {
    Missing,
    Size(u64),
    Digest(Digest),
}

impl FsStore {
    /// Checks everything; see [`FsckOptions`]. The registry may go on meanwhile.
    pub async fn fsck(&self, options: FsckOptions) -> Result<FsckReport, StoreError> {
        let disk = Arc::clone(self.disk());
        blocking(move || fsck(&disk, options)).await
    }
}

fn fsck(disk: &Arc<Disk>, options: FsckOptions) -> Result<FsckReport, StoreError> {
    let mut report = FsckReport::default();
    if !options.fast && !disk.rows.check_integrity()? {
        let what = "the database had pages that its own check did not accept; it was put right".to_owned();
        report.findings.push(Finding { kind: FindingKind::Database, what, repaired: true });
    }
    let mut bad = HashMap::new();
    for (digest, size) in all_content(disk)? {
        report.content += 1;
        report.content_bytes += size;
        if let Some(why) = examine(disk, &digest, size, options.fast, &mut report.hashed_bytes)? {
            bad.insert(digest, why);
        }
    }
    if options.repair {
        for (digest, why) in &bad {
            if *why != Bad::Missing {
                disk.content.set_aside(digest)?;
            }
        }
    }
    let for_rows = Arc::clone(disk);
    let seen = disk.rows.change_blocking(move |tables| rows::check(tables, &for_rows, &bad, options))?;
    report.repositories = seen.repositories;
    report.manifests = seen.manifests;
    report.tags = seen.tags;
    report.blobs = seen.blobs;
    report.incomplete = seen.incomplete;
    report.findings.extend(seen.findings);
    unused(disk, options, &mut report)?;
    report.findings.sort_by(|a, b| (a.kind, &a.what).cmp(&(b.kind, &b.what)));
    Ok(report)
}

fn all_content(disk: &Disk) -> Result<Vec<(Digest, u64)>, StoreError> {
    use redb::ReadableTable as _;
    disk.rows.read(|rows| {
        let mut all = Vec::new();
        for row in rows.table(CONTENT)?.iter()? {
            let (at, needed) = row?;
            all.extend(digest(at.value()).map(|digest| (digest, needed.value().0)));
        }
        Ok(all)
    })
}

fn examine(
    disk: &Disk,
    digest: &Digest,
    size: u64,
    fast: bool,
    hashed: &mut u64,
) -> Result<Option<Bad>, StoreError> {
    let Some(mut file) = disk.content.open(digest)? else { return Ok(Some(Bad::Missing)) };
    let found = file.metadata()?.len();
    if found != size {
        return Ok(Some(Bad::Size(found)));
    }
    if fast {
        return Ok(None);
    }
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    *hashed += hasher.count();
    let actual = hasher.finish();
    Ok((actual != *digest).then_some(Bad::Digest(actual)))
}

/// Content files that no row needs.
fn unused(disk: &Disk, options: FsckOptions, report: &mut FsckReport) -> Result<(), StoreError> {
    disk.content.walk(|digest, path| {
        let Some(digest) = digest else {
            let what = format!("`{}` is no content of ours", path.display());
            report.findings.push(Finding { kind: FindingKind::ContentStrange, what, repaired: false });
            return Ok(());
        };
        if disk.rows.read(|rows| rows.content(&digest))?.is_some() {
            return Ok(());
        }
        if let Some(size) = disk.content.size(&digest)? {
            report.unused += 1;
            report.unused_bytes += size;
            if options.repair {
                disk.drop_content(&digest)?;
            }
        }
        Ok(())
    })
}
