//! The blobs that a sink still waits for: a result is shown only when there are none.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::SinkError;
use crate::digest::Digest;

/// Digests that have not arrived yet.
#[derive(Debug)]
pub(super) struct Awaited(Mutex<HashSet<Digest>>);

impl Awaited {
    pub(super) fn new(digests: impl IntoIterator<Item = Digest>) -> Self {
        Self(Mutex::new(digests.into_iter().collect()))
    }

    /// One has arrived whole.
    pub(super) fn received(&self, digest: &Digest) {
        self.set().remove(digest);
    }

    /// An error that names one which has not.
    pub(super) fn none_left(&self) -> Result<(), SinkError> {
        match self.set().iter().next() {
            Some(digest) => Err(SinkError::Corrupt(format!("{digest} is missing: it was never received"))),
            None => Ok(()),
        }
    }

    /// A writer that panicked has removed nothing that it did not receive: the set is right all the same, and must be asked.
    fn set(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Awaited;
    use crate::digest::Digest;

    #[test]
    fn what_is_missing_is_named_even_after_a_writer_panicked() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let awaited = Awaited::new([one.clone(), two.clone()]);
        awaited.received(&one);
        let panicked = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let _held = awaited.set();
                panic!("a writer");
            });
            writer.join()
        });
        assert!(panicked.is_err());
        let error = awaited.none_left().expect_err("one is missing").to_string();
        assert!(error.contains(two.as_str()), "{error}");
        awaited.received(&two);
        assert!(awaited.none_left().is_ok());
    }
}
