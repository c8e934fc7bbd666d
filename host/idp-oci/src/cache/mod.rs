//! The content cache: what was pulled before, by digest, as an OCI image layout that concurrent processes share. It never is a
//! reason to fail: whatever goes wrong with it is logged, and the registry is asked.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | what is there: [`Cache::get`], [`Cache::manifest`] |
//! | `room` | the directory: whether it is ours, its skeleton |
//! | `writer` | what comes: [`Writer`] |
//! | `ledger` | how much there is, and what goes when it is too much |
//!
//! In: descriptors and bytes. Out: blobs, unverified: a sink checks every byte, and [`Cache::forget`] drops what was found damaged.
//! Blocking, but for what says otherwise. Depends on `partial` and `blob`; knows no registry.

mod ledger;
mod room;
mod writer;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::blob::Blob;
use crate::digest::{Digest, Hasher};
use crate::layout;
use crate::manifest::{Descriptor, MAX_MANIFEST, Manifest};
use crate::partial::{hash, no_follow};

pub use ledger::{Pruned, Status};
pub use writer::{Filling, Writer};

/// Uses that are closer to each other than this are one for the order of eviction: looking need not always write.
const SAME_USE: Duration = Duration::from_secs(60);

/// How large it may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in all. When there are more, what was not used for longest goes.
    pub total: u64,
    /// Larger blobs are not kept.
    pub blob: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { total: 2 << 30, blob: 16 << 20 }
    }
}

/// One cache directory. What processes share is the directory; handles to it know nothing of each other.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    limits: Limits,
    /// Bytes that came (or went) since the ledger was written.
    unsettled: AtomicI64,
}

impl Cache {
    /// The cache in `root`. Nothing is looked at or made before it is needed.
    pub fn open(root: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { root: root.into(), limits, unsettled: AtomicI64::new(0) }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How large it may become.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// A blob that is there in its whole length, unverified. Counts as a use.
    pub fn get(&self, blob: &Descriptor) -> Option<Blob> {
        let file = self.whole(blob)?;
        Some(Blob::from_file(blob.clone(), Arc::new(file), 0))
    }

    /// The same for readers that could not take back what they have passed on: verified now.
    pub fn get_verified(&self, blob: &Descriptor) -> Option<Blob> {
        let file = self.whole(blob)?;
        let hasher = self.said("reading", hash(&file, blob.size, blob.digest.algorithm()));
        if hasher.is_some_and(|hasher| hasher.finish() == blob.digest) {
            return Some(Blob::from_file(blob.clone(), Arc::new(file), 0));
        }
        self.forget(blob);
        None
    }

    fn whole(&self, blob: &Descriptor) -> Option<File> {
        let file = self.file(&blob.digest)?;
        if self.said("looking at", file.metadata())?.len() == blob.size {
            return Some(file);
        }
        self.forget(blob);
        None
    }

    /// A manifest that is there, verified. `expected` says what its bytes may not: their media type.
    pub fn manifest(&self, digest: &Digest, expected: Option<&Descriptor>) -> Option<Manifest> {
        let file = self.file(digest)?;
        let length = self.said("looking at", file.metadata())?.len();
        let blob = Descriptor::new("", digest.clone(), length);
        if length > MAX_MANIFEST || expected.is_some_and(|expected| expected.size != length) {
            return None;
        }
        let bytes =
            self.said("reading", Blob::from_file(blob.clone(), Arc::new(file), 0).read_whole(length))?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            self.forget(&blob);
            return None;
        }
        let manifest = Manifest::parse(bytes, expected.map(|expected| &*expected.media_type)).ok()?;
        Some(manifest.known_as(digest.clone()))
    }

    /// Keeps a manifest, which was verified, under the digest that it was asked for by.
    pub fn put_manifest(&self, digest: &Digest, bytes: &Bytes) {
        let blob = Descriptor::new("", digest.clone(), bytes.len() as u64);
        if self.file(digest).is_some_and(|file| file.metadata().is_ok_and(|found| found.len() == blob.size)) {
            return;
        }
        if let Some(writer) = self.writer(&blob) {
            writer.whole(self, bytes);
        }
    }

    /// Drops a blob that was found damaged.
    pub fn forget(&self, blob: &Descriptor) {
        let path = self.path(&blob.digest);
        tracing::debug!(target: "idp::cache", digest = %blob.digest, "a damaged entry is removed");
        let length = std::fs::symlink_metadata(&path).map_or(0, |found| found.len());
        if self.said("removing", std::fs::remove_file(&path)).is_some() {
            self.count(-i64::try_from(length).unwrap_or_default());
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(layout::blob_path(digest))
    }

    /// Opens what is there under a digest, and remembers the use.
    fn file(&self, digest: &Digest) -> Option<File> {
        if !self.is_ours() {
            return None;
        }
        let opened = File::options().read(true).custom_flags(no_follow()).open(self.path(digest));
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            opened => self.said("opening", opened)?,
        };
        let found = self.said("looking at", file.metadata())?;
        if !found.is_file() {
            return None;
        }
        let recent = |modified: SystemTime| modified.elapsed().is_ok_and(|elapsed| elapsed < SAME_USE);
        if !found.modified().is_ok_and(recent) {
            // Where this may not be written, the order of eviction is that of arrival.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(file)
    }

    fn count(&self, bytes: i64) {
        self.unsettled.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The value; an error is logged, and nobody's business.
    fn said<T>(&self, doing: &str, result: io::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                tracing::debug!(target: "idp::cache", root = %self.root.display(), %error, "{doing} the cache failed");
            })
            .ok()
    }
}

#[cfg(test)]
mod tests;
