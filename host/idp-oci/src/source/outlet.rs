//! Where blobs leave a source: each once, waiting while the window is full. For blocking threads.

use std::collections::HashSet;
use std::sync::Mutex;

use tokio::sync::mpsc;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::source::{Offer, SourceError};

/// The sender with what has gone through it.
#[derive(Debug)]
pub(crate) struct Outlet {
    sender: mpsc::Sender<Offer>,
    seen: Mutex<HashSet<Digest>>,
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
            Err(_) => return Err(SourceError::Closed),
        };
        if is_new { self.offer(blob.into()) } else { Ok(()) }
    }

    /// Says which manifests there are, before any blob.
    pub(crate) fn announce(&self, manifests: &[Manifest]) -> Result<(), SourceError> {
        self.offer(Offer::Manifests(manifests.to_vec()))
    }

    fn offer(&self, offer: Offer) -> Result<(), SourceError> {
        self.sender.blocking_send(offer).map_err(|_| SourceError::Closed)
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
            Err(SourceError::Io { what, error: std::io::Error::other(error) })
        }
    }
}
