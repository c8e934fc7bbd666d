//! Layers on their way out: plain tar becomes gzip in one pass that also learns both digests.
//!
//! The bytes depend on the content and the pinned compressor only: level 6, no time, no name, no operating system.

use std::fs::File;
use std::io::{self, Read, Write};

use flate2::{Compression, GzBuilder};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::manifest::Descriptor;
use crate::media;

/// How much is read and written at once.
const CHUNK: usize = 256 * 1024;
const LEVEL: u32 = 6;

/// A layer after compression.
#[derive(Debug)]
pub(crate) struct Compressed {
    /// An unnamed temporary file that holds nothing else.
    pub(crate) file: File,
    /// What it is as a layer.
    pub(crate) descriptor: Descriptor,
    /// The digest of the tar that went in, as configs list it.
    pub(crate) diff_id: Digest,
    /// How many bytes went in.
    pub(crate) read: u64,
}

/// Compresses all of `input` into an unnamed temporary file. `given_up` is asked between chunks; a yes is
/// [`io::ErrorKind::Interrupted`].
pub(crate) fn gzip(input: &mut dyn Read, given_up: &dyn Fn() -> bool) -> io::Result<Compressed> {
    let output = Hashing { inner: tempfile::tempfile()?, hasher: Hasher::new(Algorithm::Sha256) };
    let output = io::BufWriter::with_capacity(CHUNK, output);
    let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(output, Compression::new(LEVEL));
    let mut hasher = Hasher::new(Algorithm::Sha256);
    copy(input, given_up, &mut |chunk| {
        hasher.update(chunk);
        encoder.write_all(chunk)
    })?;
    let output = encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    let size = output.hasher.count();
    let descriptor = Descriptor::new(media::OCI_LAYER_GZIP, output.hasher.finish(), size);
    Ok(Compressed { file: output.inner, descriptor, read: hasher.count(), diff_id: hasher.finish() })
}

/// Reads all of `input` in bounded chunks. Every chunk but the last is full, however the input trickles: what the
/// compressor makes of content depends on how it is cut.
pub(crate) fn copy(
    input: &mut dyn Read,
    given_up: &dyn Fn() -> bool,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut filled = 0;
    loop {
        if given_up() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match input.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(()),
            Ok(0) => return take(&buffer[..filled]),
            Ok(count) => filled += count,
            // A signal; `given_up` decides whether it meant us.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if filled == buffer.len() {
            take(&buffer)?;
            filled = 0;
        }
    }
}

struct Hashing {
    inner: File,
    hasher: Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Plain tar.
    Tar,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Compressed in a way that image layers are not.
    Foreign(&'static str),
    /// Nothing that is known.
    Unknown,
}

impl Format {
    /// Looks at the first bytes, up to one tar block of them.
    pub(crate) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Foreign("xz"),
            [b'B', b'Z', b'h', ..] => Self::Foreign("bzip2"),
            _ if head.get(257..262) == Some(b"ustar") => Self::Tar,
            // An archive without members is nothing but its end.
            _ if head.len() == 512 && head.iter().all(|byte| *byte == 0) => Self::Tar,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::{Format, gzip};
    use crate::digest::Digest;

    #[test]
    fn one_pass_two_digests_and_the_same_bytes_every_time() {
        let content: Vec<u8> = (0..3_000_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let mut first = gzip(&mut &content[..], &|| false).expect("compressed");
        let second = gzip(&mut &content[..], &|| false).expect("compressed");
        assert_eq!(first.descriptor, second.descriptor);
        assert_eq!((first.diff_id, first.read), (Digest::of(&content), content.len() as u64));
        let mut bytes = Vec::new();
        first.file.rewind().and_then(|()| first.file.read_to_end(&mut bytes)).expect("read");
        assert_eq!(
            (Digest::of(&bytes), bytes.len() as u64),
            (first.descriptor.digest, first.descriptor.size)
        );
        assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut back).expect("inflated");
        assert!(back == content);
    }

    /// A socket hands out what it has. The digest must not depend on that: a second push would upload everything again.
    #[test]
    fn how_the_input_trickles_does_not_matter() {
        struct Trickle<'a>(&'a [u8], usize);
        impl std::io::Read for Trickle<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.1 = (self.1 * 31 + 7) % 5000;
                let count = self.0.len().min(self.1).min(buffer.len());
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        });
        let content: Vec<u8> = noise.take(700_000).collect();
        let whole = gzip(&mut &content[..], &|| false).expect("compressed").descriptor;
        for seed in [1, 100, 4999] {
            let trickled = gzip(&mut Trickle(&content, seed), &|| false).expect("compressed");
            assert_eq!(trickled.descriptor, whole, "{seed}");
        }
    }

    /// Fails when the compressor's output changes: then every layer pushed before is pushed again under a new digest,
    /// which a release should say.
    #[test]
    fn the_compressor_is_pinned() {
        let content: Vec<u8> = (0..100_000u32).flat_map(|number| (number % 1009).to_le_bytes()).collect();
        let compressed = gzip(&mut &content[..], &|| false).expect("compressed");
        insta::assert_snapshot!(compressed.descriptor.digest, @"sha256:5da51a45f46f2c121093d159a8223afc23dcf96deae227fce77d5db69711bad9");
    }

    #[test]
    fn giving_up_ends_it() {
        let error = gzip(&mut std::io::repeat(0), &|| true).expect_err("given up");
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
    }

    #[test]
    fn formats() {
        assert_eq!(Format::of(&[0x1f, 0x8b, 8]), Format::Gzip);
        assert_eq!(Format::of(&[0x28, 0xb5, 0x2f, 0xfd]), Format::Zstd);
        assert_eq!(Format::of(b"BZh9"), Format::Foreign("bzip2"));
        assert_eq!(Format::of(&[0; 512]), Format::Tar);
        assert_eq!(Format::of(&crate::tarball::file("a", 0, false)), Format::Tar);
        assert_eq!(Format::of(b"{}"), Format::Unknown);
        assert_eq!(Format::of(b""), Format::Unknown);
    }
}
