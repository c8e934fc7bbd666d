//! Small files of one user that save a later command some work, and may be lost: what was learned of a registry, what layers became. Read as
//! a whole up to a limit; replaced as a whole, readable by nobody else.

use std::io::{self, Write as _};
use std::path::Path;

/// What is in `file`; `None` where it is missing, cannot be read, or has more than `most` bytes.
pub(crate) fn read(file: &Path, most: u64) -> Option<Vec<u8>> {
    if std::fs::metadata(file).ok()?.len() > most {
        return None;
    }
    std::fs::read(file).ok()
}

/// Puts `bytes` in the place of what was there, making the directory. A disk that does not take it is told to the log and to nobody else.
pub(crate) fn replace(file: &Path, bytes: &[u8]) {
    let write = || -> io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        // 0600, as temporary files are.
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        temporary.write_all(bytes)?;
        temporary.persist(file).map(drop).map_err(|error| error.error)
    };
    if let Err(error) = write() {
        tracing::debug!(target: "idp::note", file = %file.display(), %error, "not kept");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{read, replace};

    #[test]
    fn whole_private_and_never_a_failure() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("below/note");
        assert_eq!(read(&file, 9), None);
        replace(&file, b"one");
        replace(&file, b"two");
        assert_eq!((read(&file, 3), read(&file, 2)), (Some(b"two".to_vec()), None));
        let mode = std::fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        replace(&file.join("not a directory"), b"three");
        assert_eq!(read(&file, 9), Some(b"two".to_vec()));
    }
}
