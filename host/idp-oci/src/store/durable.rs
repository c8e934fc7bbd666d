//! Files that are there whole, after a crash too, or not at all: temporary file, fsync, rename, fsync of the directory.
//!
//! Blocking; may use digests.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// Makes a directory and its parents, durably. Existing ones cost nothing.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    create_dir(parent)?;
    match fs_err::create_dir(path) {
        // The other one who made it may not have synced it yet.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => sync_dir(parent),
        Err(error) => Err(error),
        Ok(()) => sync_dir(parent),
    }
}

/// Makes names that came into a directory, or went, survive a crash.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    fs_err::File::open(path)?.sync_all()
}

/// A file that has its content and not yet its name. Dropped before [`Pending::place`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Pending {
    path: PathBuf,
    file: File,
    placed: bool,
}

impl Pending {
    /// An empty file in `scratch`, which is on the same file system as everything else of the store.
    pub(crate) fn create(scratch: &Path) -> io::Result<Self> {
        let (file, path) =
            tempfile::Builder::new().prefix("").tempfile_in(scratch)?.keep().map_err(|keep| keep.error)?;
        Ok(Self { path, file, placed: false })
    }

    /// Where bytes are written to.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file in its place, replacing what was there at one stroke.
    pub(crate) fn place(self, path: &Path) -> io::Result<()> {
        self.file.sync_data()?;
        self.place_lazily(path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    /// The same without waiting for the disk: only until a crash of the machine is the file sure to be whole.
    pub(crate) fn place_lazily(mut self, path: &Path) -> io::Result<()> {
        create_dir(path.parent().unwrap_or(Path::new(".")))?;
        fs_err::rename(&self.path, path)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed now is swept when the store is opened again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes a small file, replacing what was there at one stroke.
pub(crate) fn write(scratch: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let pending = Pending::create(scratch)?;
    pending.file().write_all(bytes)?;
    pending.place(path)
}

/// Removes a file; false where there was none.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs_err::remove_file(path) {
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error),
        Ok(()) => sync_dir(path.parent().unwrap_or(Path::new("."))).map(|()| true),
    }
}

/// Reads a small file; `None` where there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs_err::read(path) {
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => Ok(Some(bytes)),
    }
}

/// The names in a directory, sorted; `None` where there is none.
pub(crate) fn list(path: &Path) -> io::Result<Option<Vec<String>>> {
    let entries = match fs_err::read_dir(path) {
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
        Ok(entries) => entries,
    };
    let mut names = Vec::new();
    for entry in entries {
        // The store writes no other names than UTF-8.
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// A digest as the name of a file: `:` is none for every file system.
pub(crate) fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

/// Whether the error says that there is no such file (or no directory that it could be in).
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{Pending, list, read, remove, write};

    #[test]
    fn files_appear_whole_and_scratch_stays_empty() {
        let directory = tempfile::tempdir().expect("a directory");
        let scratch = directory.path().join("tmp");
        super::create_dir(&scratch).expect("made");
        let path = directory.path().join("a/b/c");
        assert_eq!(read(&path).expect("read"), None);
        write(&scratch, &path, b"one").expect("written");
        write(&scratch, &path, b"two").expect("replaced");
        assert_eq!(read(&path).expect("read").as_deref(), Some(&b"two"[..]));
        let pending = Pending::create(&scratch).expect("pending");
        pending.file().write_all(b"half").expect("written");
        assert_eq!(list(&scratch).expect("listed").expect("there").len(), 1);
        drop(pending);
        assert_eq!(list(&scratch).expect("listed"), Some(vec![]));
        assert!(remove(&path).expect("removed"));
        assert!(!remove(&path).expect("gone"));
        assert_eq!(list(&directory.path().join("none")).expect("listed"), None);
    }
}
