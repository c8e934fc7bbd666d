//! The same blob to the same repository, twice at once: one sends, the others wait and find it there (case 50). No I/O.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::digest::Digest;
use crate::name::Repository;

/// Held by who sends; true when it is there.
pub(in crate::client) type Turn = Arc<tokio::sync::Mutex<bool>>;

type Key = (Repository, Digest);

/// What is being sent.
#[derive(Debug, Default)]
pub(in crate::client) struct Turns(Mutex<HashMap<Key, Weak<tokio::sync::Mutex<bool>>>>);

impl Turns {
    /// The turn of a blob, shared with everybody who sends it now and nobody else.
    pub(in crate::client) fn of(&self, repository: &Repository, digest: &Digest) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let slot = turns.entry((repository.clone(), digest.clone())).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let turn = Turn::default();
            *slot = Arc::downgrade(&turn);
            turn
        })
    }
}
