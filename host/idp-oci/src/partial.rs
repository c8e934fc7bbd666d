//! A blob of which not all has come: a file beside the finished ones, called by the digest that it is to have. A later pull hashes
//! what is there and asks for the rest only. Locked while it is written, so that one process at a time does.
//!
//! Blocking; depends on digests and descriptors. What goes in is what a registry sent, unverified; who places it has verified it.

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::manifest::Descriptor;

/// How the names of these files start.
pub(crate) const PREFIX: &str = ".idp-part-";
/// What nobody went on with for so long is removed.
pub(crate) const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How much is read at once.
const CHUNK: usize = 1024 * 1024;

/// The start of a blob, open for more. Dropped, it stays for a later pull, unless there is nothing in it.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    file: Arc<File>,
    position: u64,
    hasher: Option<Hasher>,
    /// It has its name, or is gone.
    settled: bool,
}

impl Partial {
    /// Takes what an earlier pull left in `folder`, or begins anew. `None` while another process writes it, where the file
    /// system has no locks to tell, and where the file is one that somebody else can write to.
    pub(crate) fn open(folder: &Path, blob: &Descriptor) -> io::Result<Option<Self>> {
        let path = folder.join(name(&blob.digest));
        // Whoever had it locked may have finished or removed it meanwhile: then this is another file, or none.
        for _ in 0..4 {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(no_follow())
                .open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(None);
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let (named, found) = (std::fs::symlink_metadata(&path), file.metadata()?);
            if !named.is_ok_and(|named| (named.dev(), named.ino()) == (found.dev(), found.ino())) {
                continue;
            }
            let mine = found.uid() == rustix::process::geteuid().as_raw();
            if !found.is_file() || !mine || found.nlink() != 1 || found.mode() & 0o022 != 0 {
                return Ok(None);
            }
            let mut partial = Self {
                path,
                file: Arc::new(file),
                position: found.len(),
                hasher: Some(Hasher::new(blob.digest.algorithm())),
                settled: false,
            };
            partial.take_over(blob)?;
            return Ok(Some(partial));
        }
        Ok(None)
    }

    /// Hashes what is there; what cannot be the blob's start is thrown away.
    fn take_over(&mut self, blob: &Descriptor) -> io::Result<()> {
        if self.position > blob.size {
            return self.restart(blob);
        }
        let hasher = hash(&self.file, self.position, blob.digest.algorithm())?;
        if self.position == blob.size && hasher.clone().finish() != blob.digest {
            return self.restart(blob);
        }
        self.hasher = Some(hasher);
        Ok(())
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self, blob: &Descriptor) -> io::Result<()> {
        self.file.set_len(0)?;
        self.position = 0;
        self.hasher = Some(Hasher::new(blob.digest.algorithm()));
        Ok(())
    }

    /// How many bytes are there.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The hash of what was there when it was opened; taken once, by who hashes the rest.
    pub(crate) fn hasher(&mut self) -> Option<Hasher> {
        self.hasher.take()
    }

    /// For reading what is there, while it is written on.
    pub(crate) fn reader(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The next bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Makes it survive a crash.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it its name, in place of what has it; all has come and was verified.
    pub(crate) fn place(mut self, path: &Path, mode: Permissions) -> io::Result<()> {
        if mode.mode() & 0o7777 != 0o600 {
            self.file.set_permissions(mode)?;
        }
        std::fs::rename(&self.path, path)?;
        self.settled = true;
        Ok(())
    }

    /// Removes it: what is there is of no use.
    pub(crate) fn discard(mut self) {
        self.settled = true;
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.settled && self.position == 0 {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Hashes the first `length` bytes of a file.
pub(crate) fn hash(file: &File, length: u64, algorithm: Algorithm) -> io::Result<Hasher> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(CHUNK).min(CHUNK)];
    while hasher.count() < length {
        let next = usize::try_from(length - hasher.count()).unwrap_or(CHUNK).min(CHUNK);
        file.read_exact_at(&mut buffer[..next], hasher.count())?;
        hasher.update(&buffer[..next]);
    }
    Ok(hasher)
}

/// `.idp-part-sha256-<hex>`.
fn name(digest: &Digest) -> String {
    format!("{PREFIX}{}-{}", digest.algorithm().as_str(), digest.hex())
}

/// `O_NOFOLLOW`: a link that somebody put here leads nowhere.
pub(crate) fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

/// Whether a file was left behind: older than `age`, and nobody has it locked.
pub(crate) fn is_left(path: &Path, age: Duration) -> bool {
    let old = |modified: SystemTime| modified.elapsed().is_ok_and(|elapsed| elapsed > age);
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.modified().is_ok_and(old))
        && File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{KEPT, PREFIX, Partial, is_left};
    use crate::manifest::Descriptor;

    const CONTENT: &[u8] = b"0123456789";

    fn blob() -> Descriptor {
        Descriptor::of("a/b", CONTENT)
    }

    fn open(folder: &Path) -> Option<Partial> {
        Partial::open(folder, &blob()).expect("opened")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("read");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
    }

    #[test]
    fn what_was_kept_is_gone_on_with() {
        let folder = tempfile::tempdir().expect("a directory");
        let mut partial = open(folder.path()).expect("nobody has it");
        partial.append(&CONTENT[..4]).expect("written");
        assert!(open(folder.path()).is_none(), "locked while it is written");
        drop(partial);
        let left = folder.path().join(&names(folder.path())[0]);
        assert_eq!(std::fs::metadata(&left).expect("there").permissions().mode() & 0o777, 0o600);
        let mut partial = open(folder.path()).expect("nobody has it any more");
        let mut hasher = partial.hasher().expect("not taken yet");
        assert_eq!((partial.position(), hasher.count()), (4, 4));
        partial.append(&CONTENT[4..]).expect("written");
        hasher.update(&CONTENT[4..]);
        assert_eq!(hasher.finish(), blob().digest);
        let path = folder.path().join("done");
        partial.place(&path, Permissions::from_mode(0o644)).expect("placed");
        assert_eq!(names(folder.path()), ["done"]);
        assert_eq!(std::fs::read(path).expect("read"), CONTENT);
    }

    #[test]
    fn what_cannot_be_its_start_is_thrown_away() {
        let folder = tempfile::tempdir().expect("a directory");
        let digest = blob().digest;
        let path = folder.path().join(format!("{PREFIX}sha256-{}", digest.hex()));
        for (left, position) in
            [(&b"01234567890"[..], 0), (b"0123456780", 0), (CONTENT, 10), (b"wrong", 5), (b"", 0)]
        {
            std::fs::write(&path, left).expect("written");
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("permissions");
            assert_eq!(open(folder.path()).expect("ours").position(), position, "{left:?}");
        }
        assert_eq!(names(folder.path()), [""; 0], "nothing is kept of nothing");
    }

    #[test]
    fn files_that_others_may_write_and_links_are_not_taken() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join(format!("{PREFIX}sha256-{}", blob().digest.hex()));
        std::fs::write(&path, "0123").expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("permissions");
        assert!(open(folder.path()).is_none());
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("permissions");
        std::fs::hard_link(&path, folder.path().join("other")).expect("linked");
        assert!(open(folder.path()).is_none());
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(folder.path().join("other"), &path).expect("linked");
        assert!(Partial::open(folder.path(), &blob()).is_err());
    }

    #[test]
    fn what_was_left_behind_is_old_and_unlocked() {
        let folder = tempfile::tempdir().expect("a directory");
        let mut partial = open(folder.path()).expect("nobody has it");
        partial.append(b"0").expect("written");
        let path = folder.path().join(&names(folder.path())[0]);
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        File::options().write(true).open(&path).and_then(|file| file.set_modified(old)).expect("made old");
        assert!(!is_left(&path, KEPT), "locked");
        drop(partial);
        assert!(is_left(&path, KEPT) && !is_left(&path, KEPT * 2));
    }
}
