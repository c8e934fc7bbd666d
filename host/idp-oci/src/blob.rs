//! Content on its way to a registry: where its bytes can be read, and read again when an upload starts over.
//!
//! May depend on names and manifests; knows no registry. Bytes leave as a stream of chunks, never as a whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};

use crate::manifest::Descriptor;

/// How much is read from a file at once.
const CHUNK: usize = 256 * 1024;

/// Content with its descriptor. Cheap to clone; every reader has its own position.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What it is called.
    pub descriptor: Descriptor,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    Bytes(Bytes),
    /// `descriptor.size` bytes of a file from `offset` on. A temporary file has no name any more and goes with its handle.
    File {
        file: Arc<File>,
        offset: u64,
    },
}

/// Chunks of a blob.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// A piece of content that is made while it goes by, in order.
#[derive(Debug, Clone)]
pub enum Part {
    /// More bytes.
    Bytes(Bytes),
    /// That was all, and this is what it was. Without it the source gave up.
    End(Box<Descriptor>),
}

impl Blob {
    /// Small content at hand: a config, a manifest's companion.
    pub fn from_bytes(media_type: impl Into<String>, bytes: Bytes) -> Self {
        Self { descriptor: Descriptor::of(media_type, &bytes), data: Data::Bytes(bytes) }
    }

    /// Bytes at hand whose digest is known already; nothing is hashed again.
    pub fn from_known(descriptor: Descriptor, bytes: Bytes) -> Self {
        Self { descriptor, data: Data::Bytes(bytes) }
    }

    /// A region of a file, `descriptor.size` bytes long.
    pub fn from_file(descriptor: Descriptor, file: Arc<File>, offset: u64) -> Self {
        Self { descriptor, data: Data::File { file, offset } }
    }

    /// All of it at once, for small content on a blocking thread; refused over `limit` bytes.
    pub(crate) fn read_whole(&self, limit: u64) -> io::Result<Bytes> {
        let size = self.descriptor.size;
        if size > limit {
            let message = format!("{size} bytes, where at most {limit} are read at once");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        match &self.data {
            Data::Bytes(bytes) => Ok(bytes.clone()),
            Data::File { file, offset } => {
                let mut buffer = vec![0; usize::try_from(size).map_err(io::Error::other)?];
                file.read_exact_at(&mut buffer, *offset)?;
                Ok(buffer.into())
            }
        }
    }

    /// The bytes from `start` on. A file that ends early is an [`io::ErrorKind::UnexpectedEof`].
    pub fn read_from(&self, start: u64) -> Chunks {
        let size = self.descriptor.size;
        match &self.data {
            Data::Bytes(bytes) => {
                let rest = bytes.slice(usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len())..);
                futures_util::stream::iter((!rest.is_empty()).then_some(Ok(rest))).boxed()
            }
            Data::File { file, offset } => {
                let (file, offset) = (Arc::clone(file), *offset);
                futures_util::stream::try_unfold(start, move |at| {
                    let file = Arc::clone(&file);
                    async move {
                        if at >= size {
                            return Ok(None);
                        }
                        let length = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
                        let chunk = tokio::task::spawn_blocking(move || -> io::Result<Bytes> {
                            let mut buffer = vec![0; length];
                            file.read_exact_at(&mut buffer, offset + at)?;
                            Ok(buffer.into())
                        })
                        .await
                        .map_err(io::Error::other)??;
                        let next = at + chunk.len() as u64;
                        Ok(Some((chunk, next)))
                    }
                })
                .boxed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::TryStreamExt as _;

    use super::{Blob, CHUNK};
    use crate::manifest::Descriptor;

    async fn collect(blob: &Blob, start: u64) -> std::io::Result<Vec<u8>> {
        blob.read_from(start)
            .try_fold(Vec::new(), async |mut all, chunk| {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await
    }

    #[tokio::test]
    async fn a_region_is_read_and_read_again() {
        let content: Vec<u8> = (0..CHUNK + 10).map(|index| (index % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"head").and_then(|()| file.write_all(&content)).expect("written");
        let file = Arc::new(file);
        let blob = Blob::from_file(Descriptor::of("a/b", &content), Arc::clone(&file), 4);
        for start in [0, 1, CHUNK, CHUNK + 10, CHUNK + 11] {
            let expect = &content[start.min(content.len())..];
            assert_eq!(collect(&blob, start as u64).await.expect("read"), expect);
        }
        let short = Blob::from_file(Descriptor::of("a/b", &content), file, 5);
        assert_eq!(collect(&short, 0).await.expect_err("short").kind(), std::io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn bytes_at_hand() {
        let blob = Blob::from_bytes("a/b", Bytes::from_static(b"abc"));
        assert_eq!(collect(&blob, 1).await.expect("read"), b"bc");
        assert_eq!(collect(&blob, 9).await.expect("read"), b"");
    }
}
