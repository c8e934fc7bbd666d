//! Content files: `blobs/<algorithm>/<2 hex>/<hex>`, named by their digest, and what is on its way there.
//!
//! Blocking. May use digests and `durable`. A file comes into its place before a row names it, and goes after the last such
//! row is gone; [`Coming`] keeps the two from meeting: content that somebody is bringing is not taken away, and whether it
//! may be is asked again when nobody is.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;
use crate::store::StoreError;
use crate::store::durable::{self, Pending};

/// The content files of a store.
#[derive(Debug)]
pub(crate) struct Content {
    root: PathBuf,
    scratch: PathBuf,
    durable: bool,
    /// How many are bringing content of a digest.
    coming: [Mutex<HashMap<Digest, usize>>; 16],
}

/// Says that content of this digest is being brought, until it is dropped.
#[derive(Debug)]
pub(crate) struct Coming {
    content: Arc<Content>,
    digest: Digest,
}

impl Content {
    /// `durable`: whether files are forced to the disk before they are in their place.
    pub(crate) fn new(root: &Path, durable: bool) -> Self {
        Self {
            root: root.to_owned(),
            scratch: root.join("tmp"),
            durable,
            coming: std::array::from_fn(|_| Mutex::default()),
        }
    }

    pub(crate) fn pending(&self) -> io::Result<Pending> {
        Pending::create(&self.scratch)
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.root.join("blobs");
        path.extend([digest.algorithm().as_str(), &digest.hex()[..2], digest.hex()]);
        path
    }

    /// The size of the file, none where there is none.
    pub(crate) fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        match fs_err::metadata(self.path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if durable::is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn open(&self, digest: &Digest) -> io::Result<Option<File>> {
        match fs_err::File::open(self.path(digest)) {
            Ok(file) => Ok(Some(file.into_parts().0)),
            Err(error) if durable::is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn shard(&self, digest: &Digest) -> MutexGuard<'_, HashMap<Digest, usize>> {
        let hex = digest.hex().as_bytes();
        let index = usize::from(hex[hex.len() - 1]) % self.coming.len();
        // No code under this lock leaves the map half changed.
        self.coming[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held from before content is looked for or placed until the row that needs it is committed.
    pub(crate) fn coming(self: &Arc<Self>, digest: &Digest) -> Coming {
        *self.shard(digest).entry(digest.clone()).or_default() += 1;
        Coming { content: Arc::clone(self), digest: digest.clone() }
    }

    /// Puts complete and verified content in its place, over what is there: if that was damaged, this heals it.
    pub(crate) fn place(&self, coming: &Coming, pending: Pending) -> io::Result<()> {
        let path = self.path(&coming.digest);
        if self.durable { pending.place(&path) } else { pending.place_lazily(&path) }
    }

    /// Takes a file away if nobody is bringing it and `unneeded`, asked then, says so. Whether it went.
    pub(crate) fn remove<E: From<io::Error>>(
        &self,
        digest: &Digest,
        unneeded: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let away = self.scratch.join(format!("gone-{}", durable::file_name(digest)));
        {
            let coming = self.shard(digest);
            if coming.contains_key(digest) || !unneeded()? {
                return Ok(false);
            }
            // Out of the way is quick; freeing a large file is not.
            match fs_err::rename(self.path(digest), &away) {
                Err(error) if durable::is_absent(&error) => return Ok(false),
                other => other?,
            }
        }
        match fs_err::remove_file(away) {
            // Another call took it along.
            Err(error) if durable::is_absent(&error) => Ok(true),
            other => Ok(other.map(|()| true)?),
        }
    }

    /// Sets damaged content aside under `quarantine/`, where nothing is served from. False where there is none, or where
    /// somebody is bringing it anew.
    pub(crate) fn set_aside(&self, digest: &Digest) -> io::Result<bool> {
        let quarantine = self.root.join("quarantine");
        durable::create_dir(&quarantine)?;
        let path = self.path(digest);
        let coming = self.shard(digest);
        if coming.contains_key(digest) {
            return Ok(false);
        }
        match fs_err::rename(&path, quarantine.join(durable::file_name(digest))) {
            Err(error) if durable::is_absent(&error) => return Ok(false),
            other => other?,
        }
        durable::sync_dir(&quarantine)?;
        durable::sync_dir(path.parent().unwrap_or(&self.root))?;
        Ok(true)
    }

    /// Calls `visit` with every content file: its digest and path, or no digest where the name is none or not the place's.
    pub(crate) fn walk(
        &self,
        mut visit: impl FnMut(Option<Digest>, &Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let blobs = self.root.join("blobs");
        for algorithm in durable::list(&blobs)?.unwrap_or_default() {
            let of_algorithm = blobs.join(&algorithm);
            for first in durable::list(&of_algorithm)?.unwrap_or_default() {
                let directory = of_algorithm.join(&first);
                for name in durable::list(&directory)?.unwrap_or_default() {
                    let digest = format!("{algorithm}:{name}").parse::<Digest>().ok();
                    let digest = digest.filter(|digest| digest.hex().starts_with(&first));
                    visit(digest, &directory.join(name))?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut coming = self.content.shard(&self.digest);
        if let Some(count) = coming.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                coming.remove(&self.digest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};
    use std::sync::Arc;

    use super::Content;
    use crate::digest::Digest;
    use crate::store::durable;

    #[test]
    fn what_is_coming_is_not_taken_away() {
        let directory = tempfile::tempdir().expect("a directory");
        durable::create_dir(&directory.path().join("tmp")).expect("made");
        let content = Arc::new(Content::new(directory.path(), true));
        let digest = Digest::of(b"x");
        let coming = content.coming(&digest);
        let pending = content.pending().expect("pending");
        pending.file().write_all(b"x").expect("written");
        content.place(&coming, pending).expect("placed");
        let unneeded = || Ok::<_, io::Error>(true);
        let again = content.coming(&digest);
        drop(coming);
        assert!(!content.remove(&digest, unneeded).expect("asked"), "one is still bringing it");
        drop(again);
        assert!(!content.remove(&digest, || Ok::<_, io::Error>(false)).expect("asked"), "a row needs it");
        assert_eq!(content.size(&digest).expect("read"), Some(1));
        assert!(content.remove(&digest, unneeded).expect("removed"));
        assert!(!content.remove(&digest, unneeded).expect("gone"));
        assert_eq!(content.size(&digest).expect("read"), None);
        assert_eq!(durable::list(&directory.path().join("tmp")).expect("listed"), Some(vec![]));
    }
}
