//! How layers are stored, by their first bytes; and reading in bounded chunks.

use std::io::{self, Read};

/// How much is read at once.
const CHUNK: usize = 256 * 1024;

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
    use super::Format;

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
