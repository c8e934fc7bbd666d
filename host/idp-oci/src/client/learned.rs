//! What talking to a registry has taught about it, so that the next command need not find out again: how uploads are best opened,
//! whether manifests are checked, what is asked for at the door. In: what answers show. Out: beliefs with a life time, and a small
//! private file that a later process reads. A wrong belief costs one request more, never a push.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::seen::Seen;
use crate::digest::Digest;
use crate::name::{Repository, Tag};
use crate::note;

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
        }
    }
}

/// The beliefs about one registry. Shared by all who talk to it.
#[derive(Debug, Default)]
pub struct Learned {
    state: Mutex<State>,
    /// Read when something is first asked of it: most commands bring no blob anywhere.
    seen: OnceLock<Mutex<Seen>>,
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
        let bytes = note::read(&file, LARGEST).unwrap_or_default();
        let read: State = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { state: Mutex::new(read.clone()), seen: OnceLock::new(), file: Some(file), read }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        let load = || {
            Mutex::new(self.file.as_deref().map(|file| Seen::load(&place_of_seen(file))).unwrap_or_default())
        };
        self.seen.get_or_init(load).lock().unwrap_or_else(PoisonError::into_inner)
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
        self.seen().has(repository, digest)
    }

    /// A blob is there (`there`), or is not.
    pub fn learn_blob(&self, repository: &Repository, digest: &Digest, there: bool) {
        let mut seen = self.seen();
        if there { seen.add(repository, digest) } else { seen.remove(repository, digest) }
    }

    /// Whether a tag of the repository was this manifest when this machine looked last, or wrote it.
    pub fn has_seen_tag(&self, repository: &Repository, tag: &Tag, digest: &Digest) -> bool {
        self.has_seen(repository, &tagged(tag, digest))
    }

    /// A tag is this manifest.
    pub fn learn_tag(&self, repository: &Repository, tag: &Tag, digest: &Digest) {
        self.learn_blob(repository, &tagged(tag, digest), true);
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
        if let Some(seen) = self.seen.get() {
            seen.lock().unwrap_or_else(PoisonError::into_inner).save(&place_of_seen(file));
        }
        let state = self.state();
        if differs(&state, &self.read)
            && let Ok(bytes) = serde_json::to_vec(&*state)
        {
            note::replace(file, &bytes);
        }
    }
}

fn place_of_seen(file: &Path) -> PathBuf {
    file.with_extension("seen")
}

/// Whatever became of the command: what it taught is there for the next one.
impl Drop for Learned {
    fn drop(&mut self) {
        self.save();
    }
}

/// A tag with its manifest, as something that can be seen.
fn tagged(tag: &Tag, digest: &Digest) -> Digest {
    Digest::of(format!("{tag}={digest}").as_bytes())
}

/// A belief that only lives a little longer than before is not worth a write.
fn differs(new: &State, old: &State) -> bool {
    let plain = |state: &State| {
        let beliefs = [state.single_post, state.validates_manifests, state.own_mount];
        (beliefs.map(|belief| belief.map(|belief| belief.holds)), state.challenges.clone())
    };
    // What was seen again is worth a write when half of its time is over.
    let until = |state: &State| {
        let beliefs = [state.single_post, state.validates_manifests, state.own_mount];
        let until = beliefs.map(|belief| belief.map(|belief| belief.until));
        (until, state.challenges_until)
    };
    let (ends, at) = (until(old), until(new));
    let prolonged = |old: Option<u64>, new: Option<u64>| {
        new.zip(old).is_some_and(|(new, old)| new > old + LIFETIME.as_secs() / 2)
    };
    plain(new) != plain(old)
        || prolonged(ends.1, at.1)
        || ends.0.into_iter().zip(at.0).any(|(old, new)| prolonged(old, new))
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
