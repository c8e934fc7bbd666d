//! Content that goes by once, at a lane: streamed where the registry takes that, kept in an unnamed temporary file first where it does
//! not. What fails for a reason that passes is asked for again from the source. Also the answers to whether something is there.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::lane::Lane;
use crate::blob::{Blob, Part};
use crate::client::retry::Waits;
use crate::client::{Access, ClientError, Event, Outcome, Presence, Unsent};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::source::{Live, Question};

/// What a lane knows of content that came, or may come, live.
#[derive(Debug, Default)]
pub(super) struct Lives {
    state: Mutex<State>,
    /// The registry does not take streams after all.
    spools: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// What is where it belongs, by its label.
    done: HashMap<String, Digest>,
    failures: HashMap<String, Waits>,
    /// Labels of what the provider mended something for.
    mended: HashSet<String>,
}

impl Lives {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Content whose upload was mended once and fails again is not asked for for ever.
    fn may_mend(&self, label: &str) -> bool {
        self.state().mended.insert(label.to_owned())
    }
}

impl Lane {
    /// Brings live content to the registry, and tells the source. `None` when it has to come again.
    pub(super) async fn live(&self, live: Live) -> Result<Option<(u64, Outcome)>, ClientError> {
        let Live { label, parts, taken } = live;
        let arrived = self.lives.state().done.get(&label).cloned();
        if let Some(digest) = arrived {
            // It came again because another destination wanted it, or the source could not tell. A source that changed meanwhile
            // sends something else under the same label.
            let same = match drain(parts).await {
                Some(made) => made.digest == digest,
                None => true,
            };
            if !same {
                self.lives.state().done.remove(&label);
            }
            let _ = taken.send(same);
            return Ok(None);
        }
        let streams =
            !self.lives.spools.load(Ordering::Relaxed) && self.client.takes_streams(&self.repository).await;
        let sent = if streams {
            self.client.push_stream(&self.repository, &label, parts, &self.stop).await
        } else {
            self.spooled(&label, parts).await
        };
        let error = match sent {
            Ok(descriptor) => {
                let (digest, size) = (descriptor.digest, descriptor.size);
                let outcome = Outcome::Sent;
                self.lives.state().done.insert(label, digest.clone());
                self.client.progress().event(Event::BlobFinished { digest, size, outcome });
                let _ = taken.send(true);
                return Ok(Some((size, outcome)));
            }
            Err(Unsent::Abandoned) => return Ok(None),
            Err(Unsent::Refused(error)) if streams => {
                tracing::info!(target: "idp::upload", %error, "no streams are taken here: what follows is kept in a file first");
                self.lives.spools.store(true, Ordering::Relaxed);
                let _ = taken.send(false);
                return Ok(None);
            }
            Err(Unsent::Final(error)) if self.lives.may_mend(&label) && self.mend(&error).await? => {
                let _ = taken.send(false);
                return Ok(None);
            }
            Err(Unsent::Refused(error) | Unsent::Final(error)) => return Err(error),
            Err(Unsent::Passing(error)) => error,
        };
        let mut waits = {
            let mut state = self.lives.state();
            state.failures.remove(&label).unwrap_or_else(|| self.client.waits())
        };
        let Some(wait) = waits.after_failure(None) else { return Err(error) };
        tokio::select! {
            () = self.client.told_wait(&label, &waits, wait, error.cause()) => {}
            () = self.stop.cancelled() => return Err(ClientError::Interrupted),
        }
        self.lives.state().failures.insert(label, waits);
        let _ = taken.send(false);
        Ok(None)
    }

    /// Keeps content until its digest is known, then sends it like any other.
    async fn spooled(&self, label: &str, parts: mpsc::Receiver<Part>) -> Result<Descriptor, Unsent> {
        let failed = |problem: String| {
            Unsent::Final(ClientError::Source { what: format!("upload of {label}"), problem })
        };
        let kept = tokio::task::spawn_blocking(move || keep(parts)).await;
        let blob = match kept {
            Ok(Ok(Some(blob))) => blob,
            Ok(Ok(None)) => return Err(Unsent::Abandoned),
            Ok(Err(error)) => return Err(failed(format!("keeping it in a temporary file: {error}"))),
            Err(error) => return Err(failed(error.to_string())),
        };
        let (size, outcome) = self.upload(&blob, Presence::Unknown).await.map_err(Unsent::Final)?;
        tracing::debug!(target: "idp::upload", label, size, ?outcome, "sent from a temporary file");
        Ok(blob.descriptor)
    }

    /// Answers whether content need not be made.
    pub(super) async fn answer(&self, question: Question) -> Result<Option<(u64, Outcome)>, ClientError> {
        let Question { label, descriptor, answer } = question;
        let there = tokio::select! {
            there = self.client.has_blob(&self.repository, &descriptor, Access::Push) => there?,
            () = self.stop.cancelled() => return Err(ClientError::Interrupted),
        };
        if !there {
            let _ = answer.send(false);
            return Ok(None);
        }
        let (digest, size, outcome) = (descriptor.digest, descriptor.size, Outcome::Exists);
        self.client.learned().learn_blob(&self.repository, &digest, true);
        self.lives.state().done.insert(label, digest.clone());
        self.client.progress().event(Event::BlobFinished { digest, size, outcome });
        let _ = answer.send(true);
        Ok(Some((size, outcome)))
    }
}

/// Lets content pass, and says what it was; `None` when the source gave up.
async fn drain(mut parts: mpsc::Receiver<Part>) -> Option<Descriptor> {
    while let Some(part) = parts.recv().await {
        if let Part::End(made) = part {
            return Some(*made);
        }
    }
    None
}

/// `None` when the source gave up.
fn keep(mut parts: mpsc::Receiver<Part>) -> std::io::Result<Option<Blob>> {
    let mut file = tempfile::tempfile()?;
    while let Some(part) = parts.blocking_recv() {
        match part {
            Part::Bytes(bytes) => file.write_all(&bytes)?,
            Part::End(descriptor) => return Ok(Some(Blob::from_file(*descriptor, Arc::new(file), 0))),
        }
    }
    Ok(None)
}
