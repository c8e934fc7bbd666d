//! Layers on their way out: a plain tar goes in once, its compressed form comes out in chunks, and both digests are learned on the way.
//! The bytes depend on the content and the pinned compressors only.

use std::fs::File;
use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::manifest::Descriptor;
use crate::media;
use crate::source::blocks;
use crate::source::format::copy;
use crate::source::outlet::Emit;

/// What becomes of layers that are plain tars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// gzip, which everything reads.
    #[default]
    Gzip,
    /// Zstandard, which current engines read: smaller and faster.
    Zstd,
    /// They stay plain.
    None,
    /// Everything stays as the source has it, its manifests included.
    Keep,
}

/// Plain layers up to here are packed in memory, and can be sent again.
pub(crate) const SMALL: u64 = 1024 * 1024;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// The media type of a layer after it.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => media::OCI_LAYER_GZIP,
            Self::Zstd => media::OCI_LAYER_ZSTD,
            Self::None | Self::Keep => media::OCI_LAYER,
        }
    }

    /// What the bytes depend on besides the content, for who remembers them.
    pub(crate) fn recipe(self) -> &'static str {
        match self {
            Self::Gzip => "gzip-2-1M",
            Self::Zstd => "zstd-3",
            Self::None | Self::Keep => "plain",
        }
    }
}

/// A layer after it was packed.
#[derive(Debug)]
pub(crate) struct Packed {
    /// What it is as a layer.
    pub(crate) descriptor: Descriptor,
    /// The digest of the tar that went in, as configs list it.
    pub(crate) diff_id: Digest,
    /// How many bytes went in.
    pub(crate) read: u64,
}

/// Packs all of `input`, fast. `given_up` is asked between chunks; a yes is [`io::ErrorKind::Interrupted`].
pub(crate) fn pack(
    compression: Compression,
    input: &mut dyn Read,
    given_up: &dyn Fn() -> bool,
    emit: Emit<'_>,
) -> io::Result<Packed> {
    pack_with(compression, blocks::FAST, input, given_up, emit)
}

fn pack_with(
    compression: Compression,
    level: u32,
    input: &mut dyn Read,
    given_up: &dyn Fn() -> bool,
    emit: Emit<'_>,
) -> io::Result<Packed> {
    let mut output = Hasher::new(Algorithm::Sha256);
    let mut counted = |chunk: Bytes| {
        output.update(&chunk);
        emit(chunk)
    };
    let (diff_id, read) = match compression {
        Compression::Gzip => {
            let input = blocks::gzip(level, input, given_up, &mut counted)?;
            (input.digest, input.size)
        }
        Compression::Zstd => zstd(input, given_up, &mut counted)?,
        Compression::None | Compression::Keep => {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            copy(input, given_up, &mut |chunk| {
                hasher.update(chunk);
                counted(Bytes::copy_from_slice(chunk))
            })?;
            let read = hasher.count();
            (hasher.finish(), read)
        }
    };
    let size = output.count();
    let descriptor = Descriptor::new(compression.media_type(), output.finish(), size);
    Ok(Packed { descriptor, diff_id, read })
}

/// Packs into memory, for what is small.
pub(crate) fn to_memory(
    compression: Compression,
    input: &mut dyn Read,
    given_up: &dyn Fn() -> bool,
) -> io::Result<(Packed, Bytes)> {
    let mut all = Vec::new();
    let packed = pack(compression, input, given_up, &mut |chunk| {
        all.extend_from_slice(&chunk);
        Ok(())
    })?;
    Ok((packed, all.into()))
}

/// Packs into an unnamed temporary file, tightly: for what is made once and kept for long.
pub(crate) fn to_file(
    compression: Compression,
    input: &mut dyn Read,
    given_up: &dyn Fn() -> bool,
) -> io::Result<(Packed, File)> {
    let mut file = tempfile::tempfile()?;
    let packed = pack_with(compression, blocks::TIGHT, input, given_up, &mut |chunk| file.write_all(&chunk))?;
    Ok((packed, file))
}

/// zstd with its own workers, one at least: what it makes does not depend on how many.
fn zstd(input: &mut dyn Read, given_up: &dyn Fn() -> bool, emit: Emit<'_>) -> io::Result<(Digest, u64)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    zstd_with(u32::try_from(cores).unwrap_or(1), input, given_up, emit)
}

fn zstd_with(
    workers: u32,
    input: &mut dyn Read,
    given_up: &dyn Fn() -> bool,
    emit: Emit<'_>,
) -> io::Result<(Digest, u64)> {
    let mut encoder = zstd::Encoder::new(Chunks { emit, kept: Vec::new() }, ZSTD_LEVEL)?;
    encoder.multithread(workers)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    copy(input, given_up, &mut |chunk| {
        hasher.update(chunk);
        encoder.write_all(chunk)
    })?;
    encoder.finish()?.flush()?;
    let read = hasher.count();
    Ok((hasher.finish(), read))
}

/// Gathers what a compressor writes to chunks that are worth sending.
struct Chunks<'a> {
    emit: Emit<'a>,
    kept: Vec<u8>,
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() >= 256 * 1024 {
            (self.emit)(std::mem::take(&mut self.kept).into())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.kept.is_empty() {
            (self.emit)(std::mem::take(&mut self.kept).into())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::{Compression, pack, to_memory, zstd_with};
    use crate::digest::Digest;

    fn content() -> Vec<u8> {
        (0..2_000_000u32).flat_map(|number| (number % 10_007).to_le_bytes()).collect()
    }

    #[test]
    fn both_digests_are_right() {
        let content = content();
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let (packed, bytes) = to_memory(compression, &mut &content[..], &|| false).expect("packed");
            assert_eq!((packed.read, packed.diff_id), (content.len() as u64, Digest::of(&content)));
            assert_eq!(packed.descriptor.digest, Digest::of(&bytes));
            assert_eq!(
                (packed.descriptor.size, packed.descriptor.media_type.as_str()),
                (bytes.len() as u64, compression.media_type())
            );
            let mut back = Vec::new();
            match compression {
                Compression::Gzip => flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut back),
                Compression::Zstd => {
                    zstd::Decoder::new(&bytes[..]).and_then(|mut of| of.read_to_end(&mut back))
                }
                _ => (&bytes[..]).read_to_end(&mut back),
            }
            .expect("unpacked");
            assert!(back == content, "{compression:?}");
        }
    }

    /// The same tree has the same digest on every machine.
    #[test]
    fn the_number_of_workers_does_not_matter() {
        let content = content().repeat(3);
        let with = |workers| {
            let mut all = Vec::new();
            zstd_with(workers, &mut &content[..], &|| false, &mut |chunk| {
                all.extend_from_slice(&chunk);
                Ok(())
            })
            .expect("compressed");
            Digest::of(&all)
        };
        assert_eq!(with(1), with(3));
        insta::assert_snapshot!(with(2), @"sha256:13990189c27ffb2003a6f6217262d8886eb5052e56ecd1e1479fc4567f8108c0");
    }

    #[test]
    fn an_end_that_takes_no_more_ends_it() {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let broken = pack(compression, &mut std::io::repeat(7), &|| false, &mut |_| {
                Err(std::io::ErrorKind::BrokenPipe.into())
            });
            assert_eq!(broken.expect_err("broken").kind(), std::io::ErrorKind::BrokenPipe, "{compression:?}");
            assert!(pack(compression, &mut std::io::repeat(7), &|| true, &mut |_| Ok(())).is_err());
        }
    }
}
