//! What comes into the cache: bytes on their way to somebody else, who verifies them. Unfinished blobs stay for a later pull.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Cache;
use crate::blob::{Blob, Chunks};
use crate::manifest::Descriptor;
use crate::partial::Partial;

/// Chunks between the one who reads and the disk.
const WINDOW: usize = 8;

/// A place for a blob that is to come.
#[derive(Debug)]
pub struct Writer {
    blob: Descriptor,
    partial: Partial,
}

impl Cache {
    /// A place for a blob; none for what is too large, while another process has it, and where nothing can be written.
    pub fn writer(&self, blob: &Descriptor) -> Option<Writer> {
        if blob.size > self.limits.blob.min(self.limits.total) {
            return None;
        }
        let open = || {
            let folder = self.folder(blob.digest.algorithm())?;
            Partial::open(&folder, blob)
        };
        let partial = self.said("writing to", open())??;
        Some(Writer { blob: blob.clone(), partial })
    }

    fn place(&self, blob: &Descriptor, partial: Partial) {
        if partial.position() != blob.size {
            return;
        }
        let path = self.path(&blob.digest);
        let before = std::fs::symlink_metadata(&path).map_or(0, |found| found.len());
        if self.said("writing to", partial.place(&path, Permissions::from_mode(0o600))).is_some() {
            let (new, old) = (i64::try_from(blob.size), i64::try_from(before));
            self.count(new.unwrap_or_default() - old.unwrap_or_default());
        }
    }
}

impl Writer {
    /// How much of the blob an earlier pull left here.
    pub fn position(&self) -> u64 {
        self.partial.position()
    }

    /// Throws away what an earlier pull left, unless it was all of it, which is verified.
    pub fn restart(&mut self) {
        if self.position() < self.blob.size
            && let Err(error) = self.partial.restart(&self.blob)
        {
            tracing::debug!(target: "idp::cache", %error, "a part cannot be begun anew");
        }
    }

    /// What an earlier pull left, from `start` on, unverified.
    pub fn kept(&self, start: u64) -> Chunks {
        let descriptor = Descriptor { size: self.partial.position(), ..self.blob.clone() };
        Blob::from_file(descriptor, self.partial.reader(), 0).read_from(start)
    }

    /// Bytes at hand, all of them, verified.
    pub(super) fn whole(mut self, cache: &Cache, bytes: &[u8]) {
        let write = |partial: &mut Partial| {
            partial.restart(&self.blob)?;
            partial.append(bytes)
        };
        match cache.said("writing to", write(&mut self.partial)) {
            Some(()) => cache.place(&self.blob, self.partial),
            None => self.partial.discard(),
        }
    }

    /// The rest of the blob on its way to somebody else. What cannot be written here goes there all the same.
    pub fn tee(self, rest: Chunks) -> (Chunks, Filling) {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(WINDOW);
        let mut partial = self.partial;
        let task = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = receiver.blocking_recv() {
                if let Err(error) = partial.append(&chunk) {
                    partial.discard();
                    return Err(error);
                }
            }
            Ok(partial)
        });
        let chunks =
            futures_util::stream::unfold((rest, Some(sender)), |(mut rest, mut sender)| async move {
                // At the end the sender goes, and with it the thread.
                let chunk = rest.next().await?;
                let sent = match (&chunk, &sender) {
                    (Ok(bytes), Some(sender)) => sender.send(bytes.clone()).await.is_ok(),
                    _ => false,
                };
                if !sent {
                    sender = None;
                }
                Some((chunk, (rest, sender)))
            });
        (chunks.boxed(), Filling { blob: self.blob, task })
    }
}

/// A blob that is being written. Dropped, what has come stays for a later pull.
#[derive(Debug)]
pub struct Filling {
    blob: Descriptor,
    task: JoinHandle<io::Result<Partial>>,
}

impl Filling {
    /// Whoever read the bytes has verified them: the blob gets its name. Its stream has ended.
    pub async fn commit(self, cache: &Arc<Cache>) {
        if let Some(partial) = Self::written(self.task, cache).await {
            let cache = Arc::clone(cache);
            let _ = tokio::task::spawn_blocking(move || cache.place(&self.blob, partial)).await;
        }
    }

    /// The bytes were wrong.
    pub async fn discard(self, cache: &Cache) {
        if let Some(partial) = Self::written(self.task, cache).await {
            partial.discard();
        }
    }

    async fn written(task: JoinHandle<io::Result<Partial>>, cache: &Cache) -> Option<Partial> {
        cache.said("writing to", task.await.map_err(io::Error::other).and_then(|written| written))
    }
}
