//! Files that only their owner reads and that no crash leaves half written: users, keys. One writer at a time.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Puts `bytes` in the place of what was there, on disk when this returns. Mode 0600.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link stays, and what it leads to is replaced.
    let file = fs_err::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = folder(&file);
    fs_err::create_dir_all(folder)?;
    // 0600, as temporary files are.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(&file).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Keeps others of this program from changing the file until it is dropped: a lock on `.NAME.lock` beside it, as the file
/// itself is replaced.
pub(crate) fn lock(file: &Path) -> io::Result<File> {
    let file = fs_err::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = folder(&file);
    fs_err::create_dir_all(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".lock");
    let lock = File::options().create(true).append(true).open(folder.join(name))?;
    lock.lock()?;
    Ok(lock)
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file as it is now.
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        let metadata = fs_err::metadata(file)?;
        Ok(Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// A file that others change, and what was read out of it last. A state that cannot be read leaves what was before, and is
/// told to the log once.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Where it is.
    pub(crate) path: PathBuf,
    state: std::sync::Mutex<(Option<Stamp>, Option<tokio::time::Instant>)>,
}

/// How often the file is looked at: a call of the system, and not worth more than one a second.
const EVERY: std::time::Duration = std::time::Duration::from_secs(1);

impl Watched {
    /// Of a file that was read when it had this stamp.
    pub(crate) fn new(path: PathBuf, stamp: Option<Stamp>) -> Self {
        Self { path, state: std::sync::Mutex::new((stamp, None)) }
    }

    /// Whether it should be read again. Says so once for each of its states.
    pub(crate) fn changed(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = tokio::time::Instant::now();
        if state.1.is_some_and(|looked| now < looked + EVERY) {
            return false;
        }
        state.1 = Some(now);
        let stamp = Stamp::of(&self.path).ok();
        let changed = stamp != state.0;
        if changed && stamp.is_none() {
            tracing::warn!(target: "idp::registry", file = %self.path.display(), "cannot be read; what it said holds on");
        }
        state.0 = stamp;
        changed && stamp.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::{Stamp, Watched, lock, replace};

    #[test]
    fn whole_private_and_through_links() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("below/users");
        replace(&file, b"one").expect("written");
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("changed");
        replace(&link, b"two").expect("written");
        assert_eq!(std::fs::read(&file).expect("there"), b"two");
        assert!(link.is_symlink());
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        drop(lock(&link).expect("locked"));
        assert!(home.path().join("below/.users.lock").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_once_and_a_loss_is_no_change() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("users");
        replace(&file, b"one").expect("written");
        let watched = Watched::new(file.clone(), Stamp::of(&file).ok());
        assert!(!watched.changed());
        replace(&file, b"two").expect("written");
        assert!(!watched.changed(), "not so soon");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(watched.changed());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!watched.changed());
        std::fs::remove_file(&file).expect("removed");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!watched.changed());
        replace(&file, b"two").expect("written");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(watched.changed());
    }
}
