//! Content on its way in: every byte counted and hashed on the thread that writes it.
//!
//! The network's side waits asynchronously, the disk's side blocks on a thread of its own, a few chunks between them.
//! Whoever writes sees bytes before they are verified and must not show them before [`receive`] has returned.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use crate::blob::Chunks;
use crate::digest::Hasher;
use crate::manifest::Descriptor;
use crate::sink::SinkError;

/// Chunks between network and disk.
const WINDOW: usize = 8;

/// Gives `chunks` to `work` as a reader, on a blocking thread, then checks size and digest. What `work` leaves unread is
/// read and checked as well. An error of the stream itself comes back as it was, in [`SinkError::Io`].
pub(crate) async fn receive<T: Send + 'static>(
    descriptor: &Descriptor,
    chunks: Chunks,
    work: impl FnOnce(&mut Received) -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    receive_rest(Verifier::new(descriptor), chunks, work).await
}

/// The same for what follows the bytes that `verifier` has seen.
pub(crate) async fn receive_rest<T: Send + 'static>(
    verifier: Verifier,
    mut chunks: Chunks,
    work: impl FnOnce(&mut Received) -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    let (sender, receiver) = mpsc::channel(WINDOW);
    let mut received = Received::new(verifier, receiver);
    let thread = blocking(move || {
        let result = work(&mut received).and_then(|value| received.finish().map(|()| value));
        // What went wrong while reading is the cause of whatever `work` made of it.
        received.failure.map_or(result, Err)
    });
    let feed = async {
        while let Some(chunk) = chunks.next().await {
            if chunk.as_ref().is_ok_and(Bytes::is_empty) {
                continue;
            }
            let failed = chunk.is_err();
            if sender.send(chunk).await.is_err() || failed {
                return;
            }
        }
        // An end that says so; without it the pull was given up.
        let _ = sender.send(Ok(Bytes::new())).await;
    };
    tokio::pin!(thread);
    tokio::select! {
        biased;
        result = &mut thread => result,
        () = feed => thread.await,
    }
}

/// Runs work that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            let what = "the thread that writes".to_owned();
            Err(SinkError::Io { what, error: io::Error::other(error) })
        }
    }
}

/// The content as a blocking reader.
#[derive(Debug)]
pub(crate) struct Received {
    descriptor: Descriptor,
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    ended: bool,
    verifier: Verifier,
    failure: Option<SinkError>,
}

impl Received {
    fn new(verifier: Verifier, receiver: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        let descriptor = verifier.descriptor.clone();
        Self { descriptor, receiver, chunk: Bytes::new(), ended: false, verifier, failure: None }
    }

    /// Fetches and hashes the next chunk; false at the end, which is where the digest is compared.
    fn fetch(&mut self) -> Result<bool, SinkError> {
        if self.ended {
            return Ok(false);
        }
        let receiving =
            |error| SinkError::Io { what: format!("receiving {}", self.descriptor.digest), error };
        self.chunk = match self.receiver.blocking_recv() {
            Some(chunk) => chunk.map_err(receiving)?,
            None => return Err(receiving(io::ErrorKind::ConnectionAborted.into())),
        };
        self.ended = self.chunk.is_empty();
        if self.ended {
            self.verifier.finish()?;
        } else {
            self.verifier.update(&self.chunk)?;
        }
        Ok(!self.ended)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        while self.fetch()? {}
        Ok(())
    }

    /// Whether what came is known to be wrong, and not only to end early.
    pub(crate) fn is_corrupt(&self) -> bool {
        matches!(self.failure, Some(SinkError::Corrupt(_)))
    }

    /// The next chunk as it came, for writers that need no copy; none at the end.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        if self.chunk.is_empty() {
            self.fill()?;
        }
        let chunk = std::mem::take(&mut self.chunk);
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    fn fill(&mut self) -> io::Result<()> {
        if let Err(error) = self.fetch() {
            let message = error.to_string();
            self.failure = Some(error);
            return Err(io::Error::other(message));
        }
        Ok(())
    }
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && !buffer.is_empty() {
            self.fill()?;
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Compares content with its descriptor while it goes by.
#[derive(Debug)]
pub(crate) struct Verifier {
    descriptor: Descriptor,
    hasher: Option<Hasher>,
    count: u64,
}

impl Verifier {
    /// For the content that `descriptor` names.
    pub(crate) fn new(descriptor: &Descriptor) -> Self {
        let hasher = Hasher::new(descriptor.digest.algorithm());
        Self { descriptor: descriptor.clone(), hasher: Some(hasher), count: 0 }
    }

    /// For the same, of which `hasher` has seen the start.
    pub(crate) fn after(descriptor: &Descriptor, hasher: Hasher) -> Self {
        Self { descriptor: descriptor.clone(), count: hasher.count(), hasher: Some(hasher) }
    }

    /// The next bytes. More than were announced are an error at once.
    pub(crate) fn update(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.count += bytes.len() as u64;
        if self.count > self.descriptor.size {
            return Err(SinkError::Corrupt(format!(
                "{} goes on after the {} bytes that its descriptor gives it",
                self.descriptor.digest, self.descriptor.size
            )));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(())
    }

    /// All has come: is it what it should be?
    pub(crate) fn finish(&mut self) -> Result<(), SinkError> {
        let (digest, size) = (&self.descriptor.digest, self.descriptor.size);
        if self.count < size {
            return Err(SinkError::Corrupt(format!("{digest} ends after {} of {size} bytes", self.count)));
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != *digest => {
                Err(SinkError::Corrupt(format!("{digest} is damaged: what came hashes to {found}")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};

    use super::receive;
    use crate::manifest::Descriptor;
    use crate::sink::SinkError;

    async fn run(descriptor: &Descriptor, chunks: Vec<std::io::Result<Bytes>>) -> Result<Vec<u8>, SinkError> {
        receive(descriptor, stream::iter(chunks).boxed(), |received| {
            let mut bytes = vec![0; 2];
            received
                .read_exact(&mut bytes)
                .map_err(|error| SinkError::Io { what: "work".to_owned(), error })?;
            Ok(bytes)
        })
        .await
    }

    #[tokio::test]
    async fn content_is_compared_with_its_descriptor() {
        let chunk = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        let descriptor = Descriptor::of("a/b", b"abcdef");
        assert_eq!(run(&descriptor, vec![chunk("ab"), chunk(""), chunk("cdef")]).await.expect("good"), b"ab");
        for (chunks, expect) in [
            (vec![chunk("abcdeX")], "is damaged"),
            (vec![chunk("abcd")], "ends after 4 of 6 bytes"),
            (vec![chunk("a")], "ends after 1 of 6 bytes"),
            (vec![], "ends after 0 of 6 bytes"),
            (vec![chunk("abcdef"), chunk("g")], "goes on after the 6 bytes"),
            (vec![chunk("abc"), Err(std::io::Error::other("reset"))], "receiving sha256:"),
        ] {
            let error = run(&descriptor, chunks).await.expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[tokio::test]
    async fn an_endless_stream_ends_at_the_announced_size() {
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(b"xxxx"))).boxed();
        let error =
            receive(&Descriptor::of("a/b", b"abcdef"), endless, |_| Ok(())).await.expect_err("too long");
        assert!(matches!(error, SinkError::Corrupt(_)), "{error}");
    }
}
