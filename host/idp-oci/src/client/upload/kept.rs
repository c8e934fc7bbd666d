//! Upload sessions that outlive the process: where a large blob was going when it was cut off, so that the next push goes on there. One
//! small private file a blob, locked while somebody works on it, gone when the upload is over, and never older than a day: a
//! session's URL lets in, and registries forget them as well.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::digest::Digest;
use crate::name::{Registry, Repository};
use crate::partial::no_follow;

/// Smaller blobs are sent again.
pub(super) const WORTH: u64 = 8 * 1024 * 1024;
/// A session that is older is not asked for.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// A URL has no more bytes than this.
const LARGEST: u64 = 16 * 1024;
/// Files of a directory that are looked at for age.
const MOST: usize = 1000;

/// The place of one upload's session. Whoever has it works on it alone.
#[derive(Debug)]
pub(super) struct Kept {
    file: File,
    path: PathBuf,
}

impl Kept {
    /// Takes the place of an upload; `None` when somebody else has it, or there is no disk for it. Old places are removed.
    pub(super) fn take(
        folder: &Path,
        registry: &Registry,
        repository: &Repository,
        digest: &Digest,
    ) -> Option<Self> {
        let key = Digest::of(format!("{registry}/{repository}@{digest}").as_bytes());
        let path = folder.join(key.as_str().replace(':', "-"));
        let open = || -> std::io::Result<File> {
            std::fs::create_dir_all(folder)?;
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(no_follow()).open(&path)
        };
        let file = match open() {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!(target: "idp::upload", %error, "sessions are not kept");
                return None;
            }
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
        }
        remove_old(folder, &path);
        Some(Self { file, path })
    }

    /// The session of an earlier process.
    pub(super) fn session(&mut self) -> Option<Url> {
        let age = self.file.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default();
        let mut text = String::new();
        self.file.rewind().ok()?;
        (&mut self.file).take(LARGEST).read_to_string(&mut text).ok()?;
        (age < LIFETIME).then(|| text.trim().parse().ok())?
    }

    /// The session goes on here.
    pub(super) fn keep(&mut self, session: &Url) {
        let mut write = || -> std::io::Result<()> {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(session.as_str().as_bytes())
        };
        if let Err(error) = write() {
            tracing::debug!(target: "idp::upload", %error, "the session is not kept");
        }
    }

    /// The upload is over.
    pub(super) fn forget(self) {
        // Before the lock goes: who takes the place next finds none.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn remove_old(folder: &Path, own: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().take(MOST) {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LIFETIME));
        if is_old && entry.path() != own {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::Kept;
    use crate::digest::Digest;

    #[test]
    fn one_at_a_time_and_private() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("uploads");
        let (registry, repository) = ("r.example".parse().expect("a name"), "app".parse().expect("a name"));
        let take = || Kept::take(&folder, &registry, &repository, &Digest::of(b"blob"));
        let mut kept = take().expect("nobody has it");
        assert!(take().is_none());
        assert_eq!(kept.session(), None);
        let url = "https://r.example/u?_state=secret".parse().expect("a URL");
        kept.keep(&url);
        let mode = std::fs::metadata(&kept.path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(kept);
        let mut kept = take().expect("free again");
        assert_eq!(kept.session(), Some(url));
        kept.forget();
        assert_eq!(std::fs::read_dir(&folder).expect("there").count(), 0);
    }

    #[test]
    fn what_is_old_goes() {
        let home = tempfile::tempdir().expect("a directory");
        let (registry, repository) = ("r.example".parse().expect("a name"), "app".parse().expect("a name"));
        let old = home.path().join("old");
        std::fs::write(&old, "https://r.example/u").expect("written");
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 24 * 3600);
        std::fs::File::options().write(true).open(&old).expect("open").set_modified(time).expect("set");
        let kept = Kept::take(home.path(), &registry, &repository, &Digest::of(b"blob"));
        assert!(kept.is_some() && !old.exists());
        assert!(
            Kept::take(&home.path().join("kept-file/x"), &registry, &repository, &Digest::of(b"")).is_some()
        );
    }
}
