//! What talking to a registry has taught about it, so that the next command need not find out again: how uploads are best opened,
//! whether manifests are checked, what is asked for at the door. In: what answers show. Out: beliefs with a life time, and a small
//! private file that a later process reads. A wrong belief costs one request more, never a push.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::seen::Seen;
use crate::digest::Digest;
use crate::name::Repository;

/// Registries are updated, and names come to stand for others: what was learned is forgotten after so long.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// A file of ours is far smaller.
const LARGEST: u64 = 64 * 1024;
/// Challenges of a registry that are kept.
const MOST_CHALLENGES: usize = 8;

/// Something that is or is not so at a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trait {
    /// A POST with `?digest=` and the bytes is an upload (distribution-spec, "POST then PUT" and "Single POST").
    SinglePost,
    /// A manifest whose blobs are not there is refused, with their digests.
    ValidatesManifests,
    /// A mount from the repository itself says whether it has the blob.
    OwnMount,
    /// Bytes of a broken upload are kept, and the session says how many.
    KeepsPartialUploads,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Belief {
    holds: bool,
    /// Seconds since 1970.
    until: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct State {
    #[serde(skip_serializing_if = "Option::is_none")]
    single_post: Option<Belief>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validates_manifests: Option<Belief>,
    #[serde(skip_serializing_if = "Option::is_none")]
    own_mount: Option<Belief>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keeps_partial_uploads: Option<Belief>,
    /// `WWW-Authenticate` values; no secrets stand in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    challenges: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenges_until: Option<u64>,
}

impl State {
    fn belief(&mut self, which: Trait) -> &mut Option<Belief> {
        match which {
            Trait::SinglePost => &mut self.single_post,
            Trait::ValidatesManifests => &mut self.validates_manifests,
            Trait::OwnMount => &mut self.own_mount,
            Trait::KeepsPartialUploads => &mut self.keeps_partial_uploads,
        }
    }
}

/// The beliefs about one registry. Shared by all who talk to it.
#[derive(Debug, Default)]
pub struct Learned {
    state: Mutex<State>,
    seen: Mutex<Seen>,
    file: Option<PathBuf>,
    read: State,
}

impl Learned {
    /// Nothing known, and nothing kept.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// What an earlier process wrote to `file`. One that is missing or damaged says nothing.
    pub fn load(file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        let read = read(&file).unwrap_or_default();
        let seen = Seen::load(&file.with_extension("seen"));
        Self { state: Mutex::new(read.clone()), seen: Mutex::new(seen), file: Some(file), read }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is so; `None` when that is not known, or not any more.
    pub fn holds(&self, which: Trait) -> Option<bool> {
        self.state().belief(which).filter(|belief| belief.until > now()).map(|belief| belief.holds)
    }

    /// An answer showed it.
    pub fn learn(&self, which: Trait, holds: bool) {
        *self.state().belief(which) = Some(Belief { holds, until: now() + LIFETIME.as_secs() });
    }

    /// Whether this blob was brought to the repository, or found there, before.
    pub fn has_seen(&self, repository: &Repository, digest: &Digest) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).has(repository, digest)
    }

    /// A blob is there (`there`), or is not.
    pub fn learn_blob(&self, repository: &Repository, digest: &Digest, there: bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if there { seen.add(repository, digest) } else { seen.remove(repository, digest) }
    }

    /// What it was that the registry asked for last.
    pub fn challenges(&self) -> Vec<String> {
        let state = self.state();
        if state.challenges_until.is_some_and(|until| until > now()) {
            state.challenges.clone()
        } else {
            Vec::new()
        }
    }

    /// The registry asked for this.
    pub fn learn_challenges(&self, challenges: &[String]) {
        let mut state = self.state();
        state.challenges = challenges.iter().take(MOST_CHALLENGES).cloned().collect();
        state.challenges_until = Some(now() + LIFETIME.as_secs());
    }

    /// What was asked for is of no use any more.
    pub fn forget_challenges(&self) {
        let mut state = self.state();
        state.challenges.clear();
        state.challenges_until = None;
    }

    /// Writes the file when there is something new. A disk that does not take it costs a few requests next time.
    fn save(&self) {
        let Some(file) = &self.file else { return };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = seen.save(&file.with_extension("seen")) {
            tracing::debug!(target: "idp::learned", file = %file.display(), %error, "not kept");
        }
        let state = self.state().clone();
        if let (file, true) = (file, differs(&state, &self.read))
            && let Err(error) = write(file, &state)
        {
            tracing::debug!(target: "idp::learned", file = %file.display(), %error, "not kept");
        }
    }
}

/// Whatever became of the command: what it taught is there for the next one.
impl Drop for Learned {
    fn drop(&mut self) {
        self.save();
    }
}

/// A belief that only lives longer than before is not worth a write.
fn differs(new: &State, old: &State) -> bool {
    let plain = |state: &State| {
        let beliefs =
            [state.single_post, state.validates_manifests, state.own_mount, state.keeps_partial_uploads];
        (beliefs.map(|belief| belief.map(|belief| belief.holds)), state.challenges.clone())
    };
    let ends_soon = old.challenges_until.is_some_and(|until| until < now() + LIFETIME.as_secs() / 2);
    plain(new) != plain(old) || ends_soon
}

fn read(file: &Path) -> Option<State> {
    let metadata = std::fs::metadata(file).ok()?;
    if metadata.len() > LARGEST {
        return None;
    }
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn write(file: &Path, state: &State) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // 0600, as temporary files are.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(&serde_json::to_vec(state)?)?;
    temporary.persist(file).map(drop).map_err(|error| error.error)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::{Learned, Trait};

    #[test]
    fn what_was_learned_is_known_to_the_next_process() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("hosts/r.example.json");
        let learned = Learned::load(&file);
        assert_eq!(learned.holds(Trait::SinglePost), None);
        learned.learn(Trait::SinglePost, false);
        learned.learn_challenges(&["Basic realm=\"r\"".to_owned()]);
        drop(learned);
        let again = Learned::load(&file);
        assert_eq!(again.holds(Trait::SinglePost), Some(false));
        assert_eq!(again.holds(Trait::OwnMount), None);
        assert_eq!(again.challenges(), ["Basic realm=\"r\""]);
        again.forget_challenges();
        drop(again);
        assert!(Learned::load(&file).challenges().is_empty());
    }

    #[test]
    fn damage_and_age_are_the_same_as_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("r.json");
        for text in
            ["", "{", "[]", r#"{"singlePost":{"holds":true,"until":1}}"#, r#"{"challenges":["Basic"]}"#]
        {
            std::fs::write(&file, text).expect("written");
            let learned = Learned::load(&file);
            assert_eq!((learned.holds(Trait::SinglePost), learned.challenges().len()), (None, 0), "{text}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_no_failure() {
        let home = tempfile::tempdir().expect("a directory");
        let blocked = home.path().join("file");
        std::fs::write(&blocked, "").expect("written");
        let learned = Learned::load(blocked.join("r.json"));
        learned.learn(Trait::OwnMount, true);
        assert_eq!(learned.holds(Trait::OwnMount), Some(true));
        drop(learned);
        assert!(blocked.is_file());
    }
}
