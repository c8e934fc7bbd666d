//! Which blobs this machine has brought to a registry before: a set of short hashes, of which the file keeps the newest. It saves
//! questions and bytes, and is never the last word: who believes it checks, or lets the registry check.

use std::collections::HashSet;
use std::path::Path;

use crate::digest::Digest;
use crate::name::Repository;
use crate::note;

/// 128 KiB on the disk.
const MOST: usize = 16 * 1024;
/// Bytes of a hash.
const WIDTH: usize = 8;

/// The set, in the order in which things were seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    order: Vec<u64>,
    all: HashSet<u64>,
    changed: bool,
}

impl Seen {
    /// What is in `file`; nothing when that cannot be read.
    pub(super) fn load(file: &Path) -> Self {
        let bytes = note::read(file, (MOST * WIDTH) as u64).unwrap_or_default();
        let mut seen = Self::default();
        for chunk in bytes.chunks_exact(WIDTH) {
            if let Ok(bytes) = chunk.try_into() {
                seen.put(u64::from_le_bytes(bytes));
            }
        }
        seen.changed = false;
        seen
    }

    pub(super) fn has(&self, repository: &Repository, digest: &Digest) -> bool {
        self.all.contains(&key(repository, digest))
    }

    pub(super) fn add(&mut self, repository: &Repository, digest: &Digest) {
        self.put(key(repository, digest));
    }

    fn put(&mut self, key: u64) {
        if self.all.insert(key) {
            self.order.push(key);
            self.changed = true;
        }
    }

    /// It is not there, whatever was seen.
    pub(super) fn remove(&mut self, repository: &Repository, digest: &Digest) {
        let key = key(repository, digest);
        if self.all.remove(&key) {
            self.order.retain(|other| *other != key);
            self.changed = true;
        }
    }

    /// Writes it where it changed: of two processes at once the last one's is kept.
    pub(super) fn save(&self, file: &Path) {
        if self.changed {
            let newest = &self.order[self.order.len().saturating_sub(MOST)..];
            let bytes: Vec<u8> = newest.iter().flat_map(|key| key.to_le_bytes()).collect();
            note::replace(file, &bytes);
        }
    }
}

fn key(repository: &Repository, digest: &Digest) -> u64 {
    let hash = Digest::of(format!("{repository}@{digest}").as_bytes());
    let digits = hash.hex().as_bytes();
    // A digest is made of hexadecimal digits; the first sixteen are 64 bits.
    digits
        .iter()
        .take(2 * WIDTH)
        .fold(0, |key, digit| key << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::{MOST, Seen};
    use crate::digest::Digest;

    #[test]
    fn the_newest_are_kept() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("hosts/r.seen");
        let repository = "team/app".parse().expect("a name");
        let digest = |number: usize| Digest::of(&number.to_le_bytes());
        let mut seen = Seen::load(&file);
        for number in 0..MOST + 10 {
            seen.add(&repository, &digest(number));
        }
        seen.remove(&repository, &digest(MOST));
        seen.save(&file);
        let again = Seen::load(&file);
        assert_eq!(again.order.len(), MOST);
        assert!(again.has(&repository, &digest(MOST + 9)) && !again.has(&repository, &digest(MOST)));
        assert!(!again.has(&repository, &digest(0)));
        assert!(!again.has(&"other".parse().expect("a name"), &digest(MOST + 9)));
        std::fs::write(&file, "odd").expect("written");
        assert!(Seen::load(&file).order.is_empty());
    }
}
