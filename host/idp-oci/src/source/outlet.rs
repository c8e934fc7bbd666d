//! Where content leaves a source: each blob once, waiting while the window is full. For blocking threads.

use std::collections::HashSet;
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::blob::{Blob, Part};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::source::offer::{Live, Offer, Question};
use crate::source::{SourceError, SourceError::Closed};

/// Chunks between the thread that makes content and the task that sends it.
const WINDOW: usize = 4;

/// The sender with what has gone through it.
#[derive(Debug)]
pub(crate) struct Outlet {
    sender: mpsc::Sender<Offer>,
    seen: Mutex<HashSet<Digest>>,
}

/// Takes the chunks of content that is being made. Fails when nobody wants more of them.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(Bytes) -> io::Result<()>;

/// What became of live content.
#[derive(Debug)]
pub(crate) enum Streamed {
    /// All of it went out; whether it arrived will be known later.
    Whole(Box<Descriptor>, oneshot::Receiver<bool>),
    /// Nobody took the rest.
    Cut,
}

impl Outlet {
    /// Nothing sent yet.
    pub(crate) fn new(sender: mpsc::Sender<Offer>) -> Self {
        Self { sender, seen: Mutex::default() }
    }

    /// Sends a blob unless the same content went out before. Blocks while the window is full.
    pub(crate) fn send(&self, blob: Blob) -> Result<(), SourceError> {
        let is_new = match self.seen.lock() {
            Ok(mut seen) => seen.insert(blob.descriptor.digest.clone()),
            Err(_) => return Err(Closed),
        };
        if is_new { self.offer(blob.into()) } else { Ok(()) }
    }

    /// Says which manifests there are, before any blob.
    pub(crate) fn announce(&self, manifests: &[Manifest]) -> Result<(), SourceError> {
        self.offer(Offer::Manifests(manifests.to_vec()))
    }

    /// Asks whether content need not be made. Blocks until there is an answer.
    pub(crate) fn is_there(&self, label: &str, descriptor: &Descriptor) -> Result<bool, SourceError> {
        let (answer, answered) = oneshot::channel();
        let (label, descriptor) = (label.to_owned(), descriptor.clone());
        self.offer(Offer::Question(Question { label, descriptor, answer }.into()))?;
        Ok(answered.blocking_recv().unwrap_or(false))
    }

    /// Sends content while `make` makes it; what `make` returns is what it was. Its error is the source's own, unless nobody took
    /// the chunks any more.
    pub(crate) fn live(
        &self,
        label: &str,
        make: impl FnOnce(Emit<'_>) -> io::Result<Descriptor>,
    ) -> Result<io::Result<Streamed>, SourceError> {
        let (sender, parts) = mpsc::channel(WINDOW);
        let (taken, arrived) = oneshot::channel();
        self.offer(Offer::Live(Live { label: label.to_owned(), parts, taken }))?;
        let mut is_cut = false;
        let made = make(&mut |chunk| {
            sender.blocking_send(Part::Bytes(chunk)).map_err(|_| {
                is_cut = true;
                io::ErrorKind::BrokenPipe.into()
            })
        });
        match made {
            Ok(descriptor) => {
                let _ = sender.blocking_send(Part::End(Box::new(descriptor.clone())));
                Ok(Ok(Streamed::Whole(descriptor.into(), arrived)))
            }
            Err(_) if self.is_closed() => Err(Closed),
            Err(_) if is_cut => Ok(Ok(Streamed::Cut)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn offer(&self, offer: Offer) -> Result<(), SourceError> {
        self.sender.blocking_send(offer).map_err(|_| Closed)
    }

    /// True when nobody takes blobs any more: long work should stop.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Runs a source's reading on a thread where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            let what = "the thread that reads the source".to_owned();
            Err(SourceError::Io { what, error: io::Error::other(error) })
        }
    }
}
