//! A plain directory, pushed as an artifact that `oras pull` unpacks: one gzipped tar and an empty config.
//!
//! The tar follows fixed rules, so that equal trees give equal digests wherever they lie: sorted by path, each directory
//! before its children, owner and time 0, modes 0755 or 0644. Symbolic links inside the tree become copies of what they
//! point to; whatever would not unpack to the same tree on another system is refused.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::media;
use crate::source::archive::given_up_or;
use crate::source::layout::open_regular;
use crate::source::outlet::{Outlet, blocking};
use crate::source::pack;
use crate::source::{Image, Offer, Selection, Source, SourceError};
use crate::tarball;

/// `artifactType` of a directory.
pub const DIRECTORY_TYPE: &str = "application/vnd.idp.directory.v1";
/// Annotation: the file or directory that a layer becomes.
pub const TITLE: &str = "org.opencontainers.image.title";
/// Annotation: `true` where a layer is a tar to be unpacked (oras).
pub const UNPACK: &str = "io.deis.oras.content.unpack";
/// Annotation: the digest of the tar inside (oras).
pub const UNPACK_DIGEST: &str = "io.deis.oras.content.digest";

/// Files and directories of one tree.
const MAX_ENTRIES: usize = 100_000;
/// Directories in directories.
const MAX_DEPTH: usize = 64;

/// A directory.
#[derive(Debug, Clone)]
pub struct DirectorySource {
    path: PathBuf,
}

impl DirectorySource {
    /// The tree at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn send(&self, selection: &Selection, outlet: &Outlet) -> Result<Image, SourceError> {
        if selection.platform.is_some() {
            return Err(SourceError::Invalid(format!("{} has no platforms to choose from", self.describe())));
        }
        let mut tree = Tree::new(&self.path)?;
        let mut input =
            TreeReader { entries: std::mem::take(&mut tree.entries).into_iter(), state: State::Between };
        let (packed, file) = pack::to_file(selection.compression, &mut input, &|| outlet.is_closed())
            .map_err(|error| given_up_or(error, &self.describe()))?;
        let mut layer = packed.descriptor;
        layer.annotations = [
            (TITLE.to_owned(), ".".to_owned()),
            (UNPACK.to_owned(), "true".to_owned()),
            (UNPACK_DIGEST.to_owned(), packed.diff_id.to_string()),
        ]
        .into();
        let config = Blob::from_bytes(media::OCI_EMPTY, Bytes::from_static(b"{}"));
        let manifests = vec![manifest(&config, &layer)?];
        outlet.announce(&manifests)?;
        outlet.send(Blob::from_file(layer, Arc::new(file), 0))?;
        outlet.send(config)?;
        Ok(Image { manifests, name: None })
    }
}

#[async_trait]
impl Source for DirectorySource {
    fn describe(&self) -> String {
        format!("directory {}", self.path.display())
    }

    async fn read(
        self: Box<Self>,
        selection: &Selection,
        offers: mpsc::Sender<Offer>,
    ) -> Result<Image, SourceError> {
        let selection = selection.clone();
        blocking(move || self.send(&selection, &Outlet::new(offers))).await
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u8,
    media_type: &'a str,
    artifact_type: &'a str,
    config: Part<'a>,
    layers: [Part<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a crate::manifest::Descriptor> for Part<'a> {
    fn from(of: &'a crate::manifest::Descriptor) -> Self {
        Self { media_type: &of.media_type, digest: &of.digest, size: of.size, annotations: &of.annotations }
    }
}

fn manifest(config: &Blob, layer: &crate::manifest::Descriptor) -> Result<Manifest, SourceError> {
    let document = Document {
        schema_version: 2,
        media_type: media::OCI_MANIFEST,
        artifact_type: DIRECTORY_TYPE,
        config: (&config.descriptor).into(),
        layers: [layer.into()],
    };
    let what = || "the manifest made for the directory".to_owned();
    let bytes = serde_json::to_vec(&document)
        .map_err(|error| SourceError::Io { what: what(), error: error.into() })?;
    Manifest::parse(bytes.into(), Some(media::OCI_MANIFEST))
        .map_err(|error| SourceError::Manifest { what: what(), error })
}

/// A file or directory of the tree.
#[derive(Debug)]
struct Entry {
    name: String,
    /// Where to read it; links resolved. None for a directory.
    file: Option<FileEntry>,
}

#[derive(Debug)]
struct FileEntry {
    path: PathBuf,
    size: u64,
    executable: bool,
}

/// The tree's table of contents, sorted.
#[derive(Debug)]
struct Tree {
    root: PathBuf,
    entries: Vec<Entry>,
}

impl Tree {
    fn new(path: &Path) -> Result<Self, SourceError> {
        let root = std::fs::canonicalize(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                SourceError::NotFound(format!("there is no directory {}", path.display()))
            }
            _ => SourceError::Io { what: path.display().to_string(), error },
        })?;
        let mut tree = Self { root: root.clone(), entries: Vec::new() };
        tree.add_directory(&root, "", &mut vec![identity(&root)?])?;
        tree.entries.sort_by(|a, b| a.name.cmp(&b.name));
        tree.refuse_twins()?;
        Ok(tree)
    }

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
            check_component(name)
                .map_err(|why| SourceError::Invalid(format!("{}: {why}", entry.path().display())))?;
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
        let refuse = |why: &str| SourceError::Invalid(format!("{}: {why}", path.display()));
        let mut path = path.to_owned();
        let mut metadata = std::fs::symlink_metadata(&path).map_err(io)?;
        if metadata.file_type().is_symlink() {
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
            let file = FileEntry { path, size: metadata.len(), executable };
            self.entries.push(Entry { name, file: Some(file) });
            Ok(())
        } else {
            Err(refuse("neither a file nor a directory; only those are packed"))
        }
    }

    /// Names that are one name on file systems that ignore case.
    fn refuse_twins(&self) -> Result<(), SourceError> {
        let mut seen: HashMap<String, &str> = HashMap::new();
        for entry in &self.entries {
            if let Some(other) = seen.insert(entry.name.to_lowercase(), &entry.name) {
                return Err(SourceError::Invalid(format!(
                    "{}: `{other}` and `{}` differ only by case, which not every file system tells apart",
                    self.root.display(),
                    entry.name
                )));
            }
        }
        Ok(())
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
struct TreeReader {
    entries: std::vec::IntoIter<Entry>,
    state: State,
}

enum State {
    Between,
    /// Bytes made here: a header, padding, the end.
    Bytes {
        bytes: Vec<u8>,
        at: usize,
        then: Then,
    },
    Body {
        file: File,
        name: String,
        left: u64,
        size: u64,
    },
    Done,
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
                    let at_name = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
                    let (file, size) = open_regular(&entry.path).map_err(at_name)?;
                    if size != entry.size {
                        return Err(changed(&name));
                    }
                    self.state = State::Body { file, name, left: size, size };
                }
                State::Body { mut file, name, left: 0, size } => {
                    if file.read(&mut [0])? > 0 {
                        return Err(changed(&name));
                    }
                    self.state =
                        State::Bytes { bytes: vec![0; tarball::padding(size)], at: 0, then: Then::Between };
                }
                State::Body { mut file, name, left, size } => {
                    let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let count = file.read(&mut buffer[..wanted])?;
                    if count == 0 {
                        return Err(changed(&name));
                    }
                    self.state = State::Body { file, name, left: left - count as u64, size };
                    return Ok(count);
                }
            }
        }
    }
}

fn changed(name: &str) -> io::Error {
    io::Error::other(format!("`{name}` changed while it was read"))
}
