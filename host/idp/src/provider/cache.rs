//! The cache of compiled code. Compiled code is native code without any check of its own, so every entry carries an authentication code under a
//! key that lies elsewhere: whoever can write the cache cannot make this program run what they wrote. Any doubt is a miss.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use ring::hmac;

use super::engine::{ABI, Backend, WASMTIME};
use super::private;
use super::secrets::hex;

/// Bytes of the largest entry that is read.
const ENTRY_MAX: u64 = 256 * 1024 * 1024;
const TAG: usize = 32;

/// Compiled code, kept between commands.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    directory: PathBuf,
    key_file: PathBuf,
}

/// Digest of a component, in hexadecimal: what it is known by on every platform.
pub(crate) fn component_digest(component: &[u8]) -> String {
    hex(digest(&SHA256, component).as_ref())
}

impl Cache {
    /// `directory` holds the entries, `key_file` lies outside of it.
    pub(crate) fn new(directory: PathBuf, key_file: PathBuf) -> Self {
        Self { directory, key_file }
    }

    /// What the entry is about: everything that decides whether code fits.
    fn subject(component: &str, backend: Backend) -> String {
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        let target = match backend {
            Backend::Native => format!("{arch}-{os}-{}", cpu()),
            Backend::Pulley => "pulley64".to_owned(),
        };
        format!("{component} wasmtime {WASMTIME} idp {ABI} {target}")
    }

    fn path(&self, subject: &str) -> PathBuf {
        self.directory.join(format!("{}.cwasm", hex(&digest(&SHA256, subject.as_bytes()).as_ref()[..16])))
    }

    /// The code of an entry that is whole and ours. Says why when there is one that is not.
    pub(crate) fn get(&self, component: &str, backend: Backend) -> Option<Vec<u8>> {
        let subject = Self::subject(component, backend);
        let path = self.path(&subject);
        match self.read(&path, &subject) {
            Ok(found) => found,
            Err(why) => {
                tracing::warn!(
                    target: "idp::provider",
                    "the compiled code in {} is not used and made anew: {why}",
                    path.display()
                );
                None
            }
        }
    }

    fn read(&self, path: &Path, subject: &str) -> Result<Option<Vec<u8>>, String> {
        if !private::is_directory(&self.directory)? {
            return Ok(None);
        }
        let Some(mut file) = private::open(path)? else { return Ok(None) };
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        if length > ENTRY_MAX || length < TAG as u64 {
            return Err(format!("it has {length} bytes"));
        }
        let mut entry = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.read_to_end(&mut entry).map_err(|error| error.to_string())?;
        let key = self.key(false)?.ok_or("there is no key to check it with")?;
        let (tag, code) = entry.split_at_checked(TAG).ok_or("it is cut short")?;
        let expected = authenticate(&key, subject, code);
        // A code over both codes: the comparison then takes the same time wherever they differ.
        hmac::verify(&key, expected.as_ref(), hmac::sign(&key, tag).as_ref())
            .map_err(|_| "it was changed, or made under another key".to_owned())?;
        entry.drain(..TAG);
        Ok(Some(entry))
    }

    /// Keeps code. A failure costs the next command a compilation, and is logged.
    pub(crate) fn put(&self, component: &str, backend: Backend, code: &[u8]) {
        let subject = Self::subject(component, backend);
        let path = self.path(&subject);
        if let Err(why) = self.write(&path, &subject, code) {
            tracing::debug!(target: "idp::provider", "compiled code is not kept in {}: {why}", path.display());
        }
    }

    fn write(&self, path: &Path, subject: &str, code: &[u8]) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        private::make_directory(&self.directory)?;
        let key = self.key(true)?.ok_or("there is no key")?;
        let tag = authenticate(&key, subject, code);
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory).map_err(text)?;
        file.write_all(tag.as_ref()).map_err(text)?;
        file.write_all(code).map_err(text)?;
        file.persist(path).map_err(|error| error.error.to_string())?;
        Ok(())
    }

    fn key(&self, make: bool) -> Result<Option<hmac::Key>, String> {
        let bytes = private::key(&self.key_file, make)?;
        Ok(bytes.map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, bytes.as_slice())))
    }
}

fn authenticate(key: &hmac::Key, subject: &str, code: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(subject.as_bytes());
    context.update(&[0]);
    context.update(code);
    context.sign()
}

/// What of the processor native code may depend on: a home directory can be shared by different machines.
fn cpu() -> String {
    let flags = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"))?;
        Some(hex(&digest(&SHA256, line.as_bytes()).as_ref()[..8]))
    });
    flags.unwrap_or_else(|| "any".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Cache, component_digest};
    use crate::provider::engine::Backend;

    fn cache() -> (tempfile::TempDir, Cache) {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::new(home.path().join("cache"), home.path().join("state/compiled.key"));
        (home, cache)
    }

    #[test]
    fn what_was_put_is_there_and_nothing_else() {
        let (_home, cache) = cache();
        let component = component_digest(b"component");
        assert_eq!(cache.get(&component, Backend::Pulley), None);
        cache.put(&component, Backend::Pulley, b"code");
        assert_eq!(cache.get(&component, Backend::Pulley).as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.get(&component, Backend::Native), None);
        assert_eq!(cache.get(&component_digest(b"other"), Backend::Pulley), None);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (_home, cache) = cache();
        let component = component_digest(b"component");
        cache.put(&component, Backend::Pulley, b"some code");
        let path = cache.path(&Cache::subject(&component, Backend::Pulley));
        let good = std::fs::read(&path).expect("an entry");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).expect("written");
            assert_eq!(cache.get(&component, Backend::Pulley), None, "byte {at}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).expect("written");
        assert_eq!(cache.get(&component, Backend::Pulley), None, "cut short");
        std::fs::write(&path, &good).expect("written");
        assert!(cache.get(&component, Backend::Pulley).is_some());
    }

    #[test]
    fn an_entry_does_not_pass_for_another() {
        let (_home, cache) = cache();
        let (a, b) = (component_digest(b"a"), component_digest(b"b"));
        cache.put(&a, Backend::Pulley, b"code of a");
        let path = |component: &str| cache.path(&Cache::subject(component, Backend::Pulley));
        std::fs::copy(path(&a), path(&b)).expect("copied");
        assert_eq!(cache.get(&b, Backend::Pulley), None);
    }

    #[test]
    fn foreign_files_links_and_keys_are_misses() {
        let (home, cache) = cache();
        let component = component_digest(b"component");
        cache.put(&component, Backend::Pulley, b"code");
        let path = cache.path(&Cache::subject(&component, Backend::Pulley));
        let mode = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
        };
        assert_eq!(std::fs::metadata(&path).expect("an entry").permissions().mode() & 0o777, 0o600);
        mode(&path, 0o644);
        assert_eq!(cache.get(&component, Backend::Pulley), None, "readable by others");
        mode(&path, 0o600);
        mode(&home.path().join("cache"), 0o777);
        assert_eq!(cache.get(&component, Backend::Pulley), None, "a directory that others can write to");
        mode(&home.path().join("cache"), 0o700);
        let aside = home.path().join("aside");
        std::fs::rename(&path, &aside).expect("moved");
        std::os::unix::fs::symlink(&aside, &path).expect("linked");
        assert_eq!(cache.get(&component, Backend::Pulley), None, "a link");
        std::fs::remove_file(&path).expect("removed");
        std::fs::rename(&aside, &path).expect("moved");
        assert!(cache.get(&component, Backend::Pulley).is_some());
        std::fs::remove_file(home.path().join("state/compiled.key")).expect("removed");
        assert_eq!(cache.get(&component, Backend::Pulley), None, "no key");
    }
}
