//! What happens while content moves, as events. The CLI draws bars, lines or ndjson from them; nothing here prints.

use serde::Serialize;

use crate::digest::Digest;

/// How a blob's way ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its bytes went to the registry.
    Sent,
    /// The registry took it from another of its repositories.
    Mounted,
    /// The registry had it.
    Exists,
    /// It is not distributed (a foreign layer), or the sink had it.
    Skipped,
    /// Its bytes came from the registry.
    Received,
    /// The content cache had it.
    Cached,
}

/// One thing that happened. Sizes in bytes, waits in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A blob is on its way.
    BlobStarted {
        /// Which.
        digest: Digest,
        /// How large it is.
        size: u64,
    },
    /// More of a blob's bytes have moved. After a broken connection the position may fall back.
    BlobAdvanced {
        /// Which.
        digest: Digest,
        /// How many of its bytes have moved so far.
        position: u64,
    },
    /// A blob is where it belongs.
    BlobFinished {
        /// Which.
        digest: Digest,
        /// How large it is.
        size: u64,
        /// How it came there.
        outcome: Outcome,
    },
    /// A manifest has been written.
    ManifestPut {
        /// Its digest.
        digest: Digest,
        /// The tag, where it was written under one.
        tag: Option<String>,
    },
    /// Something failed in a way that passes, and will be tried again.
    Retrying {
        /// What: `upload of blob …`, or the host that cannot be reached.
        what: String,
        /// How long from now.
        after_ms: u64,
        /// Why.
        cause: String,
        /// The number of the try that comes then.
        attempt: usize,
        /// How many there are.
        attempts: usize,
    },
    /// To be shown to people; the registry may have said it.
    Warning {
        /// The text.
        text: String,
    },
    /// Worth knowing, not worrying.
    Note {
        /// The text.
        text: String,
    },
}

/// Takes events, from several tasks at once; must return at once.
pub trait Progress: Send + Sync + std::fmt::Debug {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Takes events and does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event) {}
}

#[cfg(test)]
mod tests {
    use super::{Event, Outcome};
    use crate::digest::Digest;

    #[test]
    fn events_are_ndjson() {
        let event = Event::BlobFinished { digest: Digest::of(b""), size: 0, outcome: Outcome::Mounted };
        let line = serde_json::to_string(&event).expect("serializes");
        assert!(line.starts_with(r#"{"event":"blob-finished","digest":"sha256:e3b0"#), "{line}");
        assert!(line.ends_with(r#""size":0,"outcome":"mounted"}"#), "{line}");
    }
}
