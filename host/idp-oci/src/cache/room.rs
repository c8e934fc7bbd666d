//! The directory of the cache: whether it is one of ours, and what has to be there before something is kept in it. A directory
//! that was something else before is left alone, even when it is an OCI layout: what is evicted must be ours to evict.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Cache;
use crate::digest::Algorithm;
use crate::layout::{INDEX, MARKER, MARKER_CONTENT};
use crate::media;
use crate::partial::no_follow;

/// Says that the layout is a cache of ours, and holds the ledger.
pub(super) const LEDGER: &str = ".idp-cache";
pub(super) const BLOBS: &str = "blobs";

impl Cache {
    /// Whether there is a cache here, made by us.
    pub(super) fn is_ours(&self) -> bool {
        std::fs::symlink_metadata(self.root.join(LEDGER)).is_ok_and(|found| found.is_file())
            && self.is_private()
    }

    /// The blobs lie in a directory of this user's.
    fn is_private(&self) -> bool {
        std::fs::symlink_metadata(self.root.join(BLOBS)).is_ok_and(|found| {
            found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
        })
    }

    /// The folder for blobs of an algorithm, there afterwards.
    pub(super) fn folder(&self, algorithm: Algorithm) -> io::Result<PathBuf> {
        let folder = self.root.join(BLOBS).join(algorithm.as_str());
        if !folder.is_dir() || !self.is_ours() {
            self.prepare()?;
            make(&folder)?;
        }
        Ok(folder)
    }

    /// Makes the skeleton, where there is nothing of a layout that we did not make.
    fn prepare(&self) -> io::Result<()> {
        make(&self.root)?;
        let ledger = self.root.join(LEDGER);
        if !ledger.exists() {
            if let Some(name) = [MARKER, INDEX, BLOBS].into_iter().find(|name| self.root.join(name).exists())
            {
                let message = format!("it has `{name}`, and was not made as a cache");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            open(&ledger)?;
        }
        make(&self.root.join(BLOBS))?;
        if !self.is_private() {
            // Ours, and readable by others: a careless `chmod -R`. Somebody else's: this fails.
            std::fs::set_permissions(self.root.join(BLOBS), Permissions::from_mode(0o700))?;
        }
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX);
        for (name, content) in [(MARKER, MARKER_CONTENT), (INDEX, index.as_bytes())] {
            let path = self.root.join(name);
            if !path.exists() {
                let mut file = tempfile::Builder::new().prefix(".idp-new-").tempfile_in(&self.root)?;
                file.write_all(content)?;
                file.persist(path).map_err(|error| error.error)?;
            }
        }
        if self.is_ours() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a directory of this user's alone"))
    }
}

/// The ledger's file, made where there is none. It is never replaced, so that it can be locked.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(path)
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
