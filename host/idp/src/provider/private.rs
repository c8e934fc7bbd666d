//! Files that are this user's alone: what somebody else could write or read is not used. Knows nothing of what is in them.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// Bytes of a key.
const KEY: usize = 32;

fn text(error: io::Error) -> String {
    error.to_string()
}

/// Owned by this user, and writable by nobody else.
fn is_mine(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.permissions().mode() & 0o022 == 0
}

/// Whether a directory is there; one that others may write to is an error.
pub(super) fn is_directory(path: &Path) -> Result<bool, String> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(text(error)),
        Ok(found) if !found.is_dir() || !is_mine(&found) => {
            Err("its directory is not a directory of this user's alone".to_owned())
        }
        Ok(_) => Ok(true),
    }
}

/// A directory of this user's, there afterwards.
pub(super) fn make_directory(path: &Path) -> Result<(), String> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(text)?;
    is_directory(path).map(|_| ())
}

/// A file that nobody else can read or write; no link to one.
pub(super) fn open(path: &Path) -> Result<Option<File>, String> {
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).map_err(|error| error.to_string())?;
    let file = match OpenOptions::new().read(true).custom_flags(nofollow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(text(error)),
    };
    let found = file.metadata().map_err(text)?;
    if !found.is_file() || !is_mine(&found) || found.permissions().mode() & 0o077 != 0 {
        return Err("it is not a file of this user's alone".to_owned());
    }
    Ok(Some(file))
}

/// The key in a file; made when it is missing and wanted.
pub(super) fn key(path: &Path, make: bool) -> Result<Option<Zeroizing<[u8; KEY]>>, String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let mut bytes = Zeroizing::new([0; KEY]);
    if let Some(mut file) = open(path)?
        && file.metadata().map_err(named)?.len() == KEY as u64
    {
        file.read_exact(bytes.as_mut_slice()).map_err(named)?;
        return Ok(Some(bytes));
    }
    if !make {
        return Ok(None);
    }
    let parent = path.parent().ok_or("the key file has no directory")?;
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(named)?;
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| "the system has no randomness")?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent).map_err(named)?;
    file.write_all(bytes.as_slice()).map_err(named)?;
    file.persist(path).map_err(|error| error.error.to_string())?;
    Ok(Some(bytes))
}
