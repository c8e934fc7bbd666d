//! Walks the members of a tar, in a file (bodies are skipped by seeking) or in a stream (bodies are read past).
//!
//! In: ustar, PAX and GNU headers. Out: [`Member`]s with checked names. Extended headers are bounded by [`MAX_EXTENDED`],
//! the number of members by [`MAX_MEMBERS`]; nothing else is held in memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::BLOCK;

/// Bytes of one extended header (a PAX record set, a GNU long name).
const MAX_EXTENDED: u64 = 256 * 1024;
/// Members of one archive.
const MAX_MEMBERS: u64 = 1_000_000;

/// Why an archive cannot be walked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    /// The archive is damaged or was made to do harm.
    #[error("{0}")]
    Invalid(String),
    /// It ends in the middle of something.
    #[error("it is truncated: {0}")]
    Truncated(String),
    /// Reading failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated(error.to_string())
        } else {
            Self::Io(error)
        }
    }
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Symlink(String),
    /// A hard link and the member it means.
    Hardlink(String),
    /// A device, a pipe, a sparse file: what no image needs. The type flag.
    Other(char),
}

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its name as written, without trailing slashes. Not yet safe to open.
    pub(crate) path: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Bytes of its body; 0 for what has none.
    pub(crate) size: u64,
    /// True when any execute bit is set.
    pub(crate) executable: bool,
    /// Where its body starts in the input.
    pub(crate) offset: u64,
}

/// Where a tar is read from.
pub(crate) trait Input: Read {
    /// Goes on `count` bytes further. An end before that is [`io::ErrorKind::UnexpectedEof`].
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// A file, read in place with a position of its own.
#[derive(Debug)]
pub(crate) struct FileInput {
    file: Arc<File>,
    position: u64,
    length: u64,
}

impl FileInput {
    /// The whole file, from its start.
    pub(crate) fn new(file: Arc<File>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, position: 0, length })
    }

    /// `length` bytes from `offset` on.
    pub(crate) fn region(file: Arc<File>, offset: u64, length: u64) -> Self {
        Self { file, position: offset, length: offset.saturating_add(length) }
    }
}

impl Read for FileInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Input for FileInput {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        match self.position.checked_add(count).filter(|position| *position <= self.length) {
            Some(position) => {
                self.position = position;
                Ok(())
            }
            None => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{count} bytes were to follow byte {}", self.position),
            )),
        }
    }
}

/// Anything that can only be read forward.
#[derive(Debug)]
pub(crate) struct StreamInput<R>(pub(crate) R);

impl<R: Read> Read for StreamInput<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Input for StreamInput<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.0).take(count), &mut io::sink())?;
        if skipped == count {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} more bytes were due", count - skipped),
            ))
        }
    }
}

/// Walks an archive: [`Reader::next`] gives a member, reading the reader gives its body.
#[derive(Debug)]
pub(crate) struct Reader<I> {
    input: I,
    position: u64,
    body: u64,
    padding: u64,
    members: u64,
    ended: bool,
}

/// What extended headers say about the member that follows.
#[derive(Debug, Default)]
struct Extended {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    sparse: bool,
}

impl<I: Input> Reader<I> {
    /// Starts at the input's position.
    pub(crate) fn new(input: I) -> Self {
        Self { input, position: 0, body: 0, padding: 0, members: 0, ended: false }
    }

    /// The next member, or none at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, TarError> {
        let mut extended = Extended::default();
        loop {
            self.skip_body()?;
            let Some(header) = self.header()? else { return Ok(None) };
            self.members += 1;
            if self.members > MAX_MEMBERS {
                return Err(TarError::Invalid(format!("it has more than {MAX_MEMBERS} members")));
            }
            let size =
                header.entry_size().map_err(|_| self.invalid("the size in its header is not a number"))?;
            match header.entry_type().as_byte() {
                b'x' => {
                    let records = self.extended(size)?;
                    self.pax(&records, &mut extended)?;
                }
                // Global headers carry a commit's hash or the like; nothing that an image needs.
                b'g' => drop(self.extended(size)?),
                b'L' => extended.path = Some(self.long_name(size)?),
                b'K' => extended.link = Some(self.long_name(size)?),
                _ => return self.member(&header, size, extended).map(Some),
            }
        }
    }

    fn member(&mut self, header: &tar::Header, size: u64, extended: Extended) -> Result<Member, TarError> {
        let path = match extended.path {
            Some(path) => path,
            None => self.name(&header.path_bytes())?,
        };
        let link = |reader: &Self| match extended.link.clone() {
            Some(link) => Ok(link),
            None => reader.name(&header.link_name_bytes().unwrap_or_default()),
        };
        let kind = match header.entry_type().as_byte() {
            _ if extended.sparse => Kind::Other('S'),
            // Before POSIX a directory was a file whose name ends in a slash.
            b'0' | 0 | b'7' if path.ends_with('/') => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'5' => Kind::Directory,
            b'2' => Kind::Symlink(link(self)?),
            b'1' => Kind::Hardlink(link(self)?),
            other => Kind::Other(char::from(other)),
        };
        let size = extended.size.unwrap_or(size);
        // A hard link's size is that of the file it means, in some writers; it has no body.
        let size = if matches!(kind, Kind::File | Kind::Other(_)) { size } else { 0 };
        self.start_body(size)?;
        Ok(Member {
            path: path.trim_end_matches('/').to_owned(),
            kind,
            size,
            executable: header.mode().is_ok_and(|mode| mode & 0o111 != 0),
            offset: self.position,
        })
    }

    fn start_body(&mut self, size: u64) -> Result<(), TarError> {
        if self.position.checked_add(size).and_then(|end| end.checked_add(BLOCK)).is_none() {
            return Err(self.invalid("a member claims more bytes than there can be"));
        }
        self.body = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        Ok(())
    }

    fn skip_body(&mut self) -> Result<(), TarError> {
        let rest = self.body + self.padding;
        if rest > 0 {
            self.input.skip(rest)?;
            self.position += rest;
            (self.body, self.padding) = (0, 0);
        }
        Ok(())
    }

    /// A header block; none at the end.
    fn header(&mut self) -> Result<Option<tar::Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        let mut filled = 0;
        while filled < BLOCK as usize {
            match self.input.read(&mut header.as_mut_bytes()[filled..])? {
                0 if filled == 0 => {
                    self.ended = true;
                    return Ok(None);
                }
                0 if self.position == 0 => return Err(no_archive()),
                0 => {
                    return Err(TarError::Truncated(format!(
                        "it ends inside the header at {}",
                        self.position
                    )));
                }
                count => filled += count,
            }
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let bytes = header.as_bytes();
        let computed = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
        if header.cksum().ok() != Some(computed) {
            return Err(if self.position == 0 {
                no_archive()
            } else {
                self.invalid("there is no tar header where one is due")
            });
        }
        self.position += BLOCK;
        Ok(Some(header))
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENDED {
            return Err(self.invalid(&format!("an extended header of {size} bytes (at most {MAX_EXTENDED})")));
        }
        self.start_body(size)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<String, TarError> {
        let mut bytes = self.extended(size)?;
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        self.name(&bytes)
    }

    /// PAX records: `length key=value\n`.
    fn pax(&self, mut records: &[u8], extended: &mut Extended) -> Result<(), TarError> {
        let broken = || self.invalid("a PAX record is broken");
        while !records.is_empty() {
            let space = records.iter().take(21).position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length =
                std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse::<usize>().ok());
            let record = length
                .filter(|length| *length > space + 1)
                .and_then(|length| records.get(space + 1..length))
                .and_then(|record| record.strip_suffix(b"\n"))
                .ok_or_else(broken)?;
            records = &records[length.unwrap_or(records.len())..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => extended.path = Some(self.name(value)?),
                b"linkpath" => extended.link = Some(self.name(value)?),
                b"size" => {
                    let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    extended.size = Some(text.ok_or_else(broken)?);
                }
                _ if key.starts_with(b"GNU.sparse.") => extended.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn name(&self, bytes: &[u8]) -> Result<String, TarError> {
        match std::str::from_utf8(bytes) {
            Ok(name) if !name.contains('\0') => Ok(name.to_owned()),
            _ => Err(self.invalid("a member's name is not UTF-8 or has a NUL in it")),
        }
    }

    fn invalid(&self, what: &str) -> TarError {
        TarError::Invalid(format!("{what} (near byte {})", self.position))
    }
}

/// Of a file whose very first block is no header.
fn no_archive() -> TarError {
    TarError::Invalid("it is no tar archive".to_owned())
}

impl<I: Input> Read for Reader<I> {
    /// Reads the body of the member that [`Reader::next`] gave last.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.body).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            let message = format!("{} bytes of a member are missing", self.body);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.position += count as u64;
        self.body -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{FileInput, Input, Kind, Reader, StreamInput, TarError};
    use crate::tarball::{END, directory, file, padding};

    fn file_of(bytes: &[u8]) -> Arc<std::fs::File> {
        use std::io::Write as _;
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("written");
        Arc::new(file)
    }

    fn walk<I: Input>(input: I) -> Result<Vec<(String, Kind, Vec<u8>)>, TarError> {
        let mut reader = Reader::new(input);
        let mut all = Vec::new();
        while let Some(member) = reader.next()? {
            let mut body = Vec::new();
            if all.len() % 2 == 0 {
                reader.read_to_end(&mut body)?;
            }
            all.push((member.path, member.kind, body));
        }
        Ok(all)
    }

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, body) in [("a", "one"), ("b/c", "two"), (&*"l/".repeat(200), ""), ("ü", "three")] {
            if body.is_empty() {
                bytes.extend(directory(path.trim_end_matches('/')));
            } else {
                bytes.extend(file(path, body.len() as u64, true));
                bytes.extend(body.bytes());
                bytes.resize(bytes.len() + padding(body.len() as u64), 0);
            }
        }
        bytes.extend(END);
        bytes
    }

    #[test]
    fn what_is_written_is_read_by_offset_and_as_a_stream() {
        let bytes = sample();
        let from_file = walk(FileInput::new(file_of(&bytes)).expect("a length")).expect("a tar");
        assert_eq!(from_file, walk(StreamInput(&bytes[..])).expect("a tar"));
        assert_eq!(from_file.len(), 4);
        assert_eq!(from_file[0], ("a".to_owned(), Kind::File, b"one".to_vec()));
        assert_eq!(from_file[2].0, "l/".repeat(200).trim_end_matches('/'));
        assert_eq!((from_file[2].1.clone(), from_file[3].0.as_str()), (Kind::Directory, "ü"));
        // A second opinion on the writer.
        let mut second = tar::Archive::new(&bytes[..]);
        let names: Vec<_> =
            second.entries().expect("entries").map(|entry| entry.expect("one").path_bytes().len()).collect();
        assert_eq!(names, [1, 3, 400, 2]);
    }

    #[test]
    fn every_cut_is_an_error_or_a_shorter_list() {
        let bytes = sample();
        let whole = walk(StreamInput(&bytes[..])).expect("a tar").len();
        for end in 0..bytes.len() - 1024 {
            if let Ok(list) = walk(StreamInput(&bytes[..end])) {
                assert!(list.len() < whole || end % 512 == 0, "{end}");
            }
        }
        assert!(matches!(
            walk(FileInput::new(file_of(&bytes[..515])).expect("a length")),
            Err(TarError::Truncated(_))
        ));
    }

    #[test]
    fn claims_without_bounds_are_refused() {
        let mut name = tar::Header::new_gnu();
        name.set_entry_type(tar::EntryType::GNULongName);
        name.set_size(1 << 40);
        name.set_cksum();
        let error = walk(StreamInput(&name.as_bytes()[..])).expect_err("too long");
        assert!(error.to_string().contains("extended header of 1099511627776 bytes"), "{error}");

        let mut huge = tar::Header::new_gnu();
        huge.set_size(u64::MAX - 3);
        huge.set_cksum();
        assert!(walk(StreamInput(&huge.as_bytes()[..])).is_err());

        let mut flipped = sample();
        flipped[3] ^= 1;
        assert!(walk(StreamInput(&flipped[..])).expect_err("a sum").to_string().contains("no tar archive"));
    }

    proptest! {
        #[test]
        fn nothing_panics(
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
            records in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut bytes = sample();
            for (index, value) in flips {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            let _ = walk(StreamInput(&bytes[..]));
            let mut pax = tar::Header::new_ustar();
            pax.set_entry_type(tar::EntryType::XHeader);
            pax.set_size(records.len() as u64);
            pax.set_cksum();
            let mut bytes = pax.as_bytes().to_vec();
            bytes.extend(records);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            let _ = walk(StreamInput(&bytes[..]));
        }
    }
}
