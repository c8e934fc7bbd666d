//! How much is in the cache, and what goes when it is too much. The ledger is one small file, locked while it changes, that holds
//! a sum; it may be wrong after a crash, and is made anew from the directory once a day and whenever something has to go.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Cache;
use super::room::{self, BLOBS, LEDGER};
use crate::digest::Digest;
use crate::partial::{KEPT, PREFIX, is_left};

/// How long a sum is believed.
const BELIEVED_S: u64 = 24 * 3600;
/// A ledger is no longer than this.
const LONGEST: u64 = 4096;
/// What goes when it is too much: an eighth more than has to, so that the next blob does not have to look for room again.
const SPARE: u64 = 8;
/// How often a lock that somebody else has is asked for, and how long is waited between.
const LOCK_TRIES: usize = 20;
const LOCK_WAIT: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sum {
    bytes: u64,
    /// When the directory was looked at, in seconds since 1970.
    counted: u64,
}

/// What is in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Whole blobs and manifests.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Unfinished ones, kept for a later pull.
    pub partial: usize,
    /// Their bytes.
    pub partial_bytes: u64,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pruned {
    /// How many blobs, manifests and unfinished ones.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// A file of ours.
struct Found {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    partial: bool,
}

impl Cache {
    /// Writes down what came, and makes room where it is too much. Does nothing when nothing came.
    pub fn settle(&self) {
        let new = self.unsettled.swap(0, Ordering::Relaxed);
        if new == 0 || !self.is_ours() {
            return;
        }
        let settled = self.said("counting", self.locked(|ledger| self.add(ledger, new)));
        if settled.flatten().is_none() {
            self.count(new);
        }
    }

    fn add(&self, ledger: &File, new: i64) -> io::Result<()> {
        let now = now();
        let known = read(ledger)
            .filter(|sum| sum.counted <= now && now - sum.counted < BELIEVED_S)
            .map(|sum| Sum { bytes: sum.bytes.saturating_add_signed(new), ..sum });
        let sum = match known {
            Some(sum) if sum.bytes <= self.limits.total => sum,
            _ => {
                let (_, bytes) =
                    self.evict(self.limits.total, self.limits.total - self.limits.total / SPARE)?;
                Sum { bytes, counted: now }
            }
        };
        write(ledger, sum)
    }

    /// What is there now.
    pub fn status(&self) -> io::Result<Status> {
        let mut status = Status { blobs: 0, bytes: 0, partial: 0, partial_bytes: 0 };
        for found in self.list()? {
            let (count, bytes) = match found.partial {
                true => (&mut status.partial, &mut status.partial_bytes),
                false => (&mut status.blobs, &mut status.bytes),
            };
            *count += 1;
            *bytes += found.bytes;
        }
        Ok(status)
    }

    /// Removes what was not used for longest until no more than `limit` bytes are there.
    pub fn prune(&self, limit: u64) -> io::Result<Pruned> {
        self.changing(|cache| cache.evict(limit, limit))
    }

    /// Removes everything, but for what is being written right now, and what is not ours.
    pub fn clear(&self) -> io::Result<Pruned> {
        self.changing(|cache| {
            let mut removed = Removed::default();
            for found in cache.list()? {
                if !found.partial || is_left(&found.path, Duration::ZERO) {
                    removed.take(&found)?;
                }
            }
            Ok((removed.0, cache.list()?.iter().map(|found| found.bytes).sum()))
        })
    }

    fn changing(&self, work: impl FnOnce(&Self) -> io::Result<(Pruned, u64)>) -> io::Result<Pruned> {
        if !self.is_ours() {
            return Ok(Pruned::default());
        }
        self.unsettled.store(0, Ordering::Relaxed);
        let pruned = self.locked(|ledger| {
            let (pruned, bytes) = work(self)?;
            // What is removed is removed, and counted anew some day.
            let _ = write(ledger, Sum { bytes, counted: now() });
            Ok(pruned)
        })?;
        pruned.ok_or_else(|| {
            io::Error::new(io::ErrorKind::WouldBlock, "another process is at work in it; try again")
        })
    }

    /// Where there is more than `limit`, removes until there is no more than `goal`; what is left, in bytes.
    fn evict(&self, limit: u64, goal: u64) -> io::Result<(Pruned, u64)> {
        let mut all = self.list()?;
        let mut removed = Removed::default();
        all.sort_by_key(|found| found.used);
        let mut left: u64 = all.iter().map(|found| found.bytes).sum();
        let (stale, all): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|found| found.partial && is_left(&found.path, KEPT));
        for found in &stale {
            removed.take(found)?;
            left -= found.bytes;
        }
        if left > limit {
            for found in &all {
                if left <= goal {
                    break;
                }
                if !found.partial || is_left(&found.path, Duration::ZERO) {
                    removed.take(found)?;
                    left -= found.bytes;
                }
            }
        }
        let Pruned { blobs, bytes } = removed.0;
        tracing::debug!(target: "idp::cache", blobs, bytes, left, "made room");
        Ok((removed.0, left))
    }

    /// The files of ours; others are not looked at.
    fn list(&self) -> io::Result<Vec<Found>> {
        let mut all = Vec::new();
        if !self.is_ours() {
            return Ok(all);
        }
        for algorithm in ["sha256", "sha512"] {
            let entries = match std::fs::read_dir(self.root.join(BLOBS).join(algorithm)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let partial = name.starts_with(PREFIX);
                if !partial && format!("{algorithm}:{name}").parse::<Digest>().is_err() {
                    continue;
                }
                // Gone meanwhile: another process makes room.
                let Ok(found) = entry.metadata() else { continue };
                if found.is_file() {
                    let used = found.modified().unwrap_or(UNIX_EPOCH);
                    all.push(Found { path: entry.path(), bytes: found.len(), used, partial });
                }
            }
        }
        Ok(all)
    }

    /// Works while no other process does; `None` when one does for long.
    fn locked<T>(&self, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<Option<T>> {
        let ledger = room::open(&self.root.join(LEDGER))?;
        for _ in 0..LOCK_TRIES {
            match ledger.try_lock() {
                Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
                // Without locks two may make room at once, and remove more than has to go.
                _ => return work(&ledger).map(Some),
            }
        }
        Ok(None)
    }
}

#[derive(Default)]
struct Removed(Pruned);

impl Removed {
    fn take(&mut self, found: &Found) -> io::Result<()> {
        remove(&found.path)?;
        self.0.blobs += 1;
        self.0.bytes += found.bytes;
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn read(ledger: &File) -> Option<Sum> {
    let mut text = Vec::new();
    ledger.take(LONGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn write(ledger: &File, sum: Sum) -> io::Result<()> {
    let text = serde_json::to_vec(&sum)?;
    ledger.set_len(text.len() as u64)?;
    ledger.write_all_at(&text, 0)
}
