//! Undoes what something on the way did to the bytes of an answer although it was asked not to (`Content-Encoding: gzip`, case 67). In:
//! chunks as they came. Out: chunks as they were. Whether these are what was asked for is for who reads them to check. No I/O.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

/// How much is decoded at once: a chunk may become a thousand times as large.
const STEP: usize = 4 * 1024;

/// Decodes, and never to more than the blob has.
pub(super) struct Decoder {
    inner: MultiGzDecoder<Vec<u8>>,
    /// Bytes that may still come.
    left: u64,
}

impl Decoder {
    /// For the whole of an answer that is encoded; `None` for one that only says so: object stores take the name of a compressed layer
    /// for an encoding, and then its length is that of the layer.
    pub(super) fn of(headers: &HeaderMap, size: u64) -> Option<Self> {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let is_encoded = is_gzip(headers) && length.is_some_and(|length| length != size);
        is_encoded.then(|| Self { inner: MultiGzDecoder::new(Vec::new()), left: size })
    }

    /// What a chunk decodes to; may be nothing yet.
    pub(super) fn push(&mut self, chunk: &[u8]) -> io::Result<Bytes> {
        for step in chunk.chunks(STEP) {
            self.inner.write_all(step)?;
            self.check()?;
        }
        Ok(self.take())
    }

    fn check(&self) -> io::Result<()> {
        if self.inner.get_ref().len() as u64 > self.left {
            return Err(io::Error::other("it decodes to more bytes than the manifest says"));
        }
        Ok(())
    }

    fn take(&mut self) -> Bytes {
        let decoded = std::mem::take(self.inner.get_mut());
        self.left -= decoded.len() as u64;
        decoded.into()
    }

    /// What is left at the end. An answer that ends in the middle is an error.
    pub(super) fn finish(mut self) -> io::Result<Bytes> {
        self.inner.try_finish()?;
        self.check()?;
        Ok(self.take())
    }
}

/// The answer says that it is compressed.
pub(super) fn is_gzip(headers: &HeaderMap) -> bool {
    let encoding = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    encoding.is_some_and(|encoding| matches!(&*encoding.trim().to_ascii_lowercase(), "gzip" | "x-gzip"))
}
