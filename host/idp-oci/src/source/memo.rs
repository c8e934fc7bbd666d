//! What plain layers became when they were packed before: a layer that did not change is not compressed again. A small private file;
//! losing it costs time. In: digests of tars, and where they stand in an archive. Out: descriptors.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use super::pack::Compression;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::note;

/// Entries of each kind. A file of these is some hundred kilobytes.
const MOST: usize = 2000;
/// No file of ours is larger.
const LARGEST: u64 = 4 * 1024 * 1024;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// Grows with every use; the smallest go first.
    clock: u64,
    /// `recipe diffID` to what it became.
    packed: BTreeMap<String, Made>,
    /// `path size` in an archive of the daemon to the digest of the tar.
    tars: BTreeMap<String, Tar>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    digest: Digest,
    size: u64,
    used: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tar {
    diff_id: Digest,
    used: u64,
}

/// What was packed before, for one user.
#[derive(Debug)]
pub struct Memo {
    file: PathBuf,
    /// And whether it changed. Read when something is first asked of it: most pushes have no plain layer.
    state: OnceLock<Mutex<(State, bool)>>,
}

impl Memo {
    /// What an earlier process wrote to `file`; nothing where that cannot be read.
    pub fn load(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), state: OnceLock::new() }
    }

    fn state(&self) -> MutexGuard<'_, (State, bool)> {
        let load = || {
            let bytes = note::read(&self.file, LARGEST).unwrap_or_default();
            Mutex::new((serde_json::from_slice(&bytes).unwrap_or_default(), false))
        };
        self.state.get_or_init(load).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a tar became.
    pub(crate) fn packed(&self, diff_id: &Digest, compression: Compression) -> Option<Descriptor> {
        let mut guard = self.state();
        let (state, _) = &mut *guard;
        state.clock += 1;
        let clock = state.clock;
        let made = state.packed.get_mut(&format!("{} {diff_id}", compression.recipe()))?;
        made.used = clock;
        Some(Descriptor::new(compression.media_type(), made.digest.clone(), made.size))
    }

    /// The digest of a tar that stood at this place with this size. Who believes it checks it.
    pub(crate) fn tar(&self, path: &str, size: u64) -> Option<Digest> {
        let mut guard = self.state();
        let (state, _) = &mut *guard;
        state.clock += 1;
        let clock = state.clock;
        let tar = state.tars.get_mut(&format!("{path} {size}"))?;
        tar.used = clock;
        Some(tar.diff_id.clone())
    }

    /// A tar became this.
    pub(crate) fn learn(&self, diff_id: &Digest, compression: Compression, made: &Descriptor) {
        let mut guard = self.state();
        let (state, changed) = &mut *guard;
        state.clock += 1;
        let made = Made { digest: made.digest.clone(), size: made.size, used: state.clock };
        state.packed.insert(format!("{} {diff_id}", compression.recipe()), made);
        *changed = true;
    }

    /// A tar stood there.
    pub(crate) fn learn_tar(&self, path: &str, size: u64, diff_id: &Digest) {
        let mut guard = self.state();
        let (state, changed) = &mut *guard;
        state.clock += 1;
        let tar = Tar { diff_id: diff_id.clone(), used: state.clock };
        state.tars.insert(format!("{path} {size}"), tar);
        *changed = true;
    }

    /// It did not stand there.
    pub(crate) fn forget_tar(&self, path: &str, size: u64) {
        let mut guard = self.state();
        let (state, changed) = &mut *guard;
        *changed |= state.tars.remove(&format!("{path} {size}")).is_some();
    }
}

impl Drop for Memo {
    fn drop(&mut self) {
        let Some(state) = self.state.get() else { return };
        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, changed) = &mut *guard;
        if !*changed {
            return;
        }
        trim(&mut state.packed, |made| made.used);
        trim(&mut state.tars, |tar| tar.used);
        if let Ok(bytes) = serde_json::to_vec(state) {
            note::replace(&self.file, &bytes);
        }
    }
}

fn trim<T>(map: &mut BTreeMap<String, T>, used: impl Fn(&T) -> u64) {
    if map.len() <= MOST {
        return;
    }
    let mut all: Vec<u64> = map.values().map(&used).collect();
    all.sort_unstable();
    let oldest = all[all.len() - MOST];
    map.retain(|_, entry| used(entry) >= oldest);
}

#[cfg(test)]
mod tests {
    use super::{MOST, Memo};
    use crate::digest::Digest;
    use crate::manifest::Descriptor;
    use crate::source::pack::Compression;

    #[test]
    fn what_was_packed_is_known_to_the_next_process() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("layers.json");
        let (diff_id, made) = (Digest::of(b"tar"), Descriptor::of("", b"gzip"));
        let memo = Memo::load(&file);
        assert_eq!(memo.packed(&diff_id, Compression::Gzip), None);
        memo.learn(&diff_id, Compression::Gzip, &made);
        memo.learn_tar("ab/layer.tar", 3, &diff_id);
        drop(memo);
        let memo = Memo::load(&file);
        let found = memo.packed(&diff_id, Compression::Gzip).expect("known");
        assert_eq!((found.digest, found.size), (made.digest, 4));
        assert_eq!(memo.packed(&diff_id, Compression::Zstd), None);
        assert_eq!((memo.tar("ab/layer.tar", 3), memo.tar("ab/layer.tar", 4)), (Some(diff_id.clone()), None));
        memo.forget_tar("ab/layer.tar", 3);
        drop(memo);
        assert_eq!(Memo::load(&file).tar("ab/layer.tar", 3), None);
        std::fs::write(&file, "{").expect("written");
        assert_eq!(Memo::load(&file).packed(&diff_id, Compression::Gzip), None);
    }

    #[test]
    fn what_was_used_last_is_kept() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("layers.json");
        let memo = Memo::load(&file);
        let digest = |number: usize| Digest::of(&number.to_le_bytes());
        for number in 0..MOST + 5 {
            memo.learn_tar(&number.to_string(), 0, &digest(number));
        }
        assert!(memo.tar("0", 0).is_some());
        drop(memo);
        let memo = Memo::load(&file);
        assert!(memo.tar("0", 0).is_some() && memo.tar("1", 0).is_none());
    }
}
