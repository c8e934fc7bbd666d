//! The files of a tree as one tar, by fixed rules, so that equal trees give equal digests wherever they lie: sorted by path, each
//! directory before what is in it, owner and time 0, modes 0755 or 0644. Symbolic links inside the tree become copies of what
//! they point to; whatever would not unpack to the same tree on another system is refused.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::source::SourceError;
use crate::source::layout::open_regular;
use crate::tarball;

/// Files and directories of one tree.
const MAX_ENTRIES: usize = 100_000;
/// Directories in directories.
const MAX_DEPTH: usize = 64;

/// The table of contents of a tree, sorted by path.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// How it is called in messages.
    what: String,
    entries: Vec<Entry>,
}

/// A file or directory of a tree.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its path in the tree, with forward slashes.
    pub name: String,
    /// What is in it; none for a directory.
    pub file: Option<FileEntry>,
}

/// A file of a tree.
#[derive(Debug, Clone)]
pub struct FileEntry {
    /// Where its bytes are.
    pub content: Content,
    /// How many they are.
    pub size: u64,
    /// Whether it is a program.
    pub executable: bool,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In a file; links are resolved.
    Path(PathBuf),
    /// Here.
    Bytes(Bytes),
}

impl FileEntry {
    /// All of it, unless it is longer than `most` bytes.
    ///
    /// # Errors
    /// Reading failed, or it is longer.
    pub fn bytes(&self, most: u64) -> io::Result<Bytes> {
        if self.size > most {
            return Err(io::Error::other(format!("longer than {most} bytes")));
        }
        match &self.content {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::Path(path) => {
                let (file, _) = open_regular(path)?;
                let mut all = Vec::new();
                file.take(most + 1).read_to_end(&mut all)?;
                if all.len() as u64 > most {
                    return Err(io::Error::other(format!("longer than {most} bytes")));
                }
                Ok(all.into())
            }
        }
    }
}

/// A file as it went into the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFile {
    /// Its path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Of its content, by sha256.
    pub digest: Digest,
    /// Whether it is a program.
    pub executable: bool,
}

impl Tree {
    /// All of the directory at `path`.
    ///
    /// # Errors
    /// It is not there, cannot be read, or holds what does not unpack alike everywhere.
    pub fn of(path: &Path) -> Result<Self, SourceError> {
        Self::of_those(path, &|_, _| true)
    }

    /// Of the directory at `path` what `wanted` says yes to: it is asked with the path in the tree and whether that is a directory,
    /// and nothing below a directory that it refuses is looked at.
    ///
    /// # Errors
    /// As [`Tree::of`].
    pub fn of_those(path: &Path, wanted: &dyn Fn(&str, bool) -> bool) -> Result<Self, SourceError> {
        let root = std::fs::canonicalize(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                SourceError::NotFound(format!("there is no directory {}", path.display()))
            }
            _ => SourceError::Io { what: path.display().to_string(), error },
        })?;
        let mut walk = Walk { root: root.clone(), entries: Vec::new(), wanted };
        walk.add_directory(&root, "", &mut vec![identity(&root)?])?;
        Self { what: path.display().to_string(), entries: walk.entries }.sorted()
    }

    /// Of files that are at hand; the directories they lie in come by themselves.
    ///
    /// # Errors
    /// A name that does not unpack alike everywhere, or two that are one.
    pub fn of_files(
        what: &str,
        files: impl IntoIterator<Item = (String, FileEntry)>,
    ) -> Result<Self, SourceError> {
        let mut entries = Vec::new();
        let mut directories = BTreeSet::new();
        for (name, file) in files {
            for part in name.split('/') {
                check_component(part)
                    .map_err(|why| SourceError::Invalid(format!("{what}: {name}: {why}")))?;
            }
            let slashes = name.match_indices('/').map(|(at, _)| at);
            directories.extend(slashes.map(|at| name[..at].to_owned()));
            entries.push(Entry { name, file: Some(file) });
        }
        entries.extend(directories.into_iter().map(|name| Entry { name, file: None }));
        Self { what: what.to_owned(), entries }.sorted()
    }

    /// The same, below a directory.
    ///
    /// # Errors
    /// A name that does not unpack alike everywhere.
    pub fn below(self, directory: &str) -> Result<Self, SourceError> {
        let what = self.what.clone();
        let files = self.entries.into_iter().filter_map(|entry| entry.file.map(|file| (entry.name, file)));
        Self::of_files(&what, files.map(|(name, file)| (format!("{directory}/{name}"), file)))
    }

    /// Without directories in which there is no file.
    #[must_use]
    pub fn without_empty(mut self) -> Self {
        let mut full = BTreeSet::new();
        for entry in self.entries.iter().filter(|entry| entry.file.is_some()) {
            full.extend(entry.name.match_indices('/').map(|(at, _)| entry.name[..at].to_owned()));
        }
        self.entries.retain(|entry| entry.file.is_some() || full.contains(&entry.name));
        self
    }

    fn sorted(mut self) -> Result<Self, SourceError> {
        if self.entries.len() > MAX_ENTRIES {
            return Err(SourceError::Invalid(format!(
                "{} holds more than {MAX_ENTRIES} files and directories",
                self.what
            )));
        }
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.refuse_twins()?;
        Ok(self)
    }

    /// Everything in it, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The files in it with their paths, sorted.
    pub fn files(&self) -> impl Iterator<Item = (&str, &FileEntry)> {
        self.entries.iter().filter_map(|entry| Some((&*entry.name, entry.file.as_ref()?)))
    }

    /// Names that are one name on file systems that ignore case.
    fn refuse_twins(&self) -> Result<(), SourceError> {
        let mut seen: HashMap<String, &str> = HashMap::new();
        for entry in &self.entries {
            if let Some(other) = seen.insert(entry.name.to_lowercase(), &entry.name) {
                return Err(SourceError::Invalid(format!(
                    "{}: `{other}` and `{}` differ only by case, which not every file system tells apart",
                    self.what, entry.name
                )));
            }
        }
        Ok(())
    }

    /// Writes its tar.
    ///
    /// # Errors
    /// A file cannot be read or changed meanwhile; `out` takes no more.
    pub fn write_to(self, out: &mut dyn io::Write) -> io::Result<u64> {
        io::copy(&mut self.into_reader(false), out)
    }

    /// Its tar. With `lists`, the digest of each file is made as well, while it goes by.
    pub(crate) fn into_reader(self, lists: bool) -> TreeReader {
        TreeReader { entries: self.entries.into_iter(), state: State::Between, packed: lists.then(Vec::new) }
    }
}

/// A directory while it is looked through.
struct Walk<'a> {
    root: PathBuf,
    entries: Vec<Entry>,
    wanted: &'a dyn Fn(&str, bool) -> bool,
}

impl Walk<'_> {
    fn add_directory(
        &mut self,
        path: &Path,
        prefix: &str,
        above: &mut Vec<(u64, u64)>,
    ) -> Result<(), SourceError> {
        let io = |error| SourceError::Io { what: path.display().to_string(), error };
        if above.len() > MAX_DEPTH {
            return Err(SourceError::Invalid(format!(
                "{}: nested more than {MAX_DEPTH} deep",
                path.display()
            )));
        }
        for entry in std::fs::read_dir(path).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| {
                SourceError::Invalid(format!("{}: the name is not UTF-8", entry.path().display()))
            })?;
            let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            self.add(&entry.path(), name, above)?;
            if self.entries.len() > MAX_ENTRIES {
                return Err(SourceError::Invalid(format!(
                    "{} holds more than {MAX_ENTRIES} files and directories",
                    self.root.display()
                )));
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, name: String, above: &mut Vec<(u64, u64)>) -> Result<(), SourceError> {
        let io = |error| SourceError::Io { what: path.display().to_string(), error };
        // A name may hold what is not to be printed.
        let shown = path.display().to_string().escape_debug().to_string().replace("\\\\", "\\");
        let refuse = |why: &str| SourceError::Invalid(format!("{shown}: {why}"));
        let mut path = path.to_owned();
        let mut metadata = std::fs::symlink_metadata(&path).map_err(io)?;
        // What is not wanted may be anything.
        if !metadata.file_type().is_symlink() && !(self.wanted)(&name, metadata.is_dir()) {
            return Ok(());
        }
        if metadata.file_type().is_symlink() {
            let is_directory = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            if !(self.wanted)(&name, is_directory) {
                return Ok(());
            }
            let target = std::fs::read_link(&path).map_err(io)?;
            if target.is_absolute() {
                return Err(refuse(
                    "a symbolic link with an absolute target; only links inside the directory are packed",
                ));
            }
            let resolved = std::fs::canonicalize(&path)
                .map_err(|error| refuse(&format!("a symbolic link that leads nowhere ({error})")))?;
            if !resolved.starts_with(&self.root) {
                return Err(refuse(
                    "a symbolic link that leads out of the directory; only links inside it are packed",
                ));
            }
            metadata = std::fs::metadata(&resolved).map_err(io)?;
            path = resolved;
        }
        check_component(name.rsplit('/').next().unwrap_or(&name)).map_err(refuse)?;
        if metadata.is_dir() {
            let this = (metadata.dev(), metadata.ino());
            if above.contains(&this) {
                return Err(refuse("a symbolic link to a directory above it"));
            }
            self.entries.push(Entry { name: name.clone(), file: None });
            above.push(this);
            self.add_directory(&path, &name, above)?;
            above.pop();
            Ok(())
        } else if metadata.is_file() {
            let executable = metadata.mode() & 0o111 != 0;
            let file = FileEntry { content: Content::Path(path), size: metadata.len(), executable };
            self.entries.push(Entry { name, file: Some(file) });
            Ok(())
        } else {
            Err(refuse("neither a file nor a directory; only those are packed"))
        }
    }
}

fn identity(path: &Path) -> Result<(u64, u64), SourceError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok((metadata.dev(), metadata.ino())),
        Ok(_) => Err(SourceError::Invalid(format!("{} is not a directory", path.display()))),
        Err(error) => Err(SourceError::Io { what: path.display().to_string(), error }),
    }
}

/// Why a name would not unpack everywhere.
pub(crate) fn check_component(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name == "." {
        Err("an empty name or `.`")
    } else if name.ends_with("..") {
        Err("a name that ends in `..`")
    } else if name.contains(['\\', '/']) {
        Err("a name with a slash or backslash in it")
    } else if name.chars().any(char::is_control) {
        Err("a name with a control character in it")
    } else {
        Ok(())
    }
}

/// The tar of a tree, made while it is read.
pub(crate) struct TreeReader {
    entries: std::vec::IntoIter<Entry>,
    state: State,
    /// None where nobody wants to know.
    packed: Option<Vec<PackedFile>>,
}

impl TreeReader {
    /// The files that have gone by; none where they were not to be listed.
    pub(crate) fn into_packed(self) -> Vec<PackedFile> {
        self.packed.unwrap_or_default()
    }
}

enum State {
    Between,
    /// Bytes made here: a header, padding, the end.
    Bytes {
        bytes: Vec<u8>,
        at: usize,
        then: Then,
    },
    Body(Box<Body>),
    Done,
}

struct Body {
    input: Input,
    name: String,
    left: u64,
    size: u64,
    executable: bool,
    hasher: Option<Hasher>,
}

enum Input {
    File(File),
    Bytes(Bytes),
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Bytes(bytes) => {
                let count = buffer.len().min(bytes.len());
                bytes.copy_to_slice(&mut buffer[..count]);
                Ok(count)
            }
        }
    }
}

enum Then {
    Between,
    Body(FileEntry, String),
    Done,
}

impl Read for TreeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Ok(0),
                State::Between => {
                    let (bytes, then) = match self.entries.next() {
                        None => (tarball::END.to_vec(), Then::Done),
                        Some(Entry { name, file: None }) => (tarball::directory(&name), Then::Between),
                        Some(Entry { name, file: Some(file) }) => {
                            (tarball::file(&name, file.size, file.executable), Then::Body(file, name))
                        }
                    };
                    self.state = State::Bytes { bytes, at: 0, then };
                }
                State::Bytes { bytes, at, then } if at < bytes.len() => {
                    let count = buffer.len().min(bytes.len() - at);
                    buffer[..count].copy_from_slice(&bytes[at..at + count]);
                    self.state = State::Bytes { bytes, at: at + count, then };
                    return Ok(count);
                }
                State::Bytes { then: Then::Between, .. } => self.state = State::Between,
                State::Bytes { then: Then::Done, .. } => self.state = State::Done,
                State::Bytes { then: Then::Body(entry, name), .. } => {
                    let hasher = self.packed.as_ref().map(|_| Hasher::new(Algorithm::Sha256));
                    self.state = State::Body(Box::new(open(entry, name, hasher)?));
                }
                State::Body(mut body) if body.left == 0 => {
                    if body.input.read(&mut [0])? > 0 {
                        return Err(changed(&body.name));
                    }
                    let padding = vec![0; tarball::padding(body.size)];
                    if let (Some(packed), Some(hasher)) = (&mut self.packed, body.hasher) {
                        packed.push(PackedFile {
                            path: body.name,
                            size: body.size,
                            digest: hasher.finish(),
                            executable: body.executable,
                        });
                    }
                    self.state = State::Bytes { bytes: padding, at: 0, then: Then::Between };
                }
                State::Body(mut body) => {
                    let wanted = buffer.len().min(usize::try_from(body.left).unwrap_or(usize::MAX));
                    let count = body.input.read(&mut buffer[..wanted])?;
                    if count == 0 {
                        return Err(changed(&body.name));
                    }
                    if let Some(hasher) = &mut body.hasher {
                        hasher.update(&buffer[..count]);
                    }
                    body.left -= count as u64;
                    self.state = State::Body(body);
                    return Ok(count);
                }
            }
        }
    }
}

fn open(entry: FileEntry, name: String, hasher: Option<Hasher>) -> io::Result<Body> {
    let input = match entry.content {
        Content::Bytes(bytes) => Input::Bytes(bytes),
        Content::Path(path) => {
            let at_name = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
            let (file, size) = open_regular(&path).map_err(at_name)?;
            if size != entry.size {
                return Err(changed(&name));
            }
            Input::File(file)
        }
    };
    Ok(Body { input, name, left: entry.size, size: entry.size, executable: entry.executable, hasher })
}

fn changed(name: &str) -> io::Error {
    io::Error::other(format!("`{name}` changed while it was read"))
}
