//! The file under the database: what redb wants of storage, on a plain file.
//!
//! Blocking; depends on nothing of ours. Ours instead of redb's own, because it takes room before it writes into it (so a
//! full disk is met before a page is half written), counts what tests assert, and never writes again once it has failed:
//! the database is then opened anew, from what is on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::StorageBackend;

/// What was asked of the disk, for tests and metrics.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Reads that the cache did not answer.
    pub(crate) reads: AtomicU64,
    /// Times that a commit was forced to the disk.
    pub(crate) syncs: AtomicU64,
    /// Set by tests: the next so many writes succeed, then all fail as on a full disk. Negative: no limit.
    #[cfg(test)]
    pub(crate) writes_left: std::sync::atomic::AtomicI64,
}

/// A database's file.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    file: File,
    traffic: Arc<Traffic>,
    failed: AtomicBool,
}

impl DatabaseFile {
    pub(crate) fn new(file: File, traffic: Arc<Traffic>) -> Self {
        Self { file, traffic, failed: AtomicBool::new(false) }
    }

    /// Remembers a failure: the pages that redb holds may then be newer than those on the disk.
    fn change(&self, work: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier write of the database failed"));
        }
        let outcome = self.fault().and_then(|()| work(&self.file));
        if outcome.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        outcome
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests have faults here")]
    fn fault(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn fault(&self) -> io::Result<()> {
        let left = &self.traffic.writes_left;
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| (left > 0).then_some(left - 1)) {
            Err(0) => Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for DatabaseFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.traffic.reads.fetch_add(1, Ordering::Relaxed);
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|file| {
            let now = file.metadata()?.len();
            if len > now {
                reserve(file, now, len)?;
            }
            file.set_len(len)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.traffic.syncs.fetch_add(1, Ordering::Relaxed);
        self.change(File::sync_data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|file| file.write_all_at(data, offset))
    }
}

/// Takes the room on the disk, where the file system can say that it is taken.
#[cfg(target_os = "linux")]
fn reserve(file: &File, from: u64, to: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), from, to - from) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux has a way")]
fn reserve(_file: &File, _from: u64, _to: u64) -> io::Result<()> {
    Ok(())
}
