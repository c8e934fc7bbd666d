//! A plain directory: artifacts whose layers are files with a title, or tars to be unpacked, as `oras` makes them.
//!
//! Everything is written to a new directory beside the destination, through a handle that nothing leads out of, and
//! renamed when it is complete. Of archives only files and directories are taken; a link or a device is an error.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use tempfile::TempDir;

use super::awaited::Awaited;
use crate::blob::Chunks;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::manifest::{Descriptor, Shape};
use crate::media;
use crate::sink::check::{Received, blocking, receive};
use crate::sink::layout::{io_error, parent, sync_directory};
use crate::sink::{Plan, Sink, SinkError};
use crate::source::{TITLE, UNPACK, UNPACK_DIGEST, check_component};
use crate::tarball::{Kind, Reader, StreamInput, TarError};

/// What unpacking may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files and directories.
    pub entries: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// How many bytes may come out of one compressed byte, beyond the first 64 MiB.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 16 << 30, ratio: 200 }
    }
}

/// What may come out of any layer, however small.
const FREE: u64 = 64 << 20;

/// The largest window that zstd may ask memory for, as a power of two: 128 MiB, what its own tool takes without being told.
const ZSTD_WINDOW: u32 = 27;

/// A directory to fill.
#[derive(Debug)]
pub struct DirectorySink {
    path: PathBuf,
    limits: Limits,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    staging: TempDir,
    tree: Arc<Tree>,
    targets: HashMap<Digest, Vec<Target>>,
    awaited: Awaited,
}

/// What a layer becomes.
#[derive(Debug, Clone)]
struct Target {
    title: String,
    unpack: Option<Unpack>,
}

#[derive(Debug, Clone)]
struct Unpack {
    packing: Packing,
    tar: Option<Digest>,
}

/// How a tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// By the suffix of a media type; gzip where there is none, as `oras` writes it.
    fn of(media_type: &str) -> Self {
        if media_type.ends_with("zstd") {
            Self::Zstd
        } else if media_type.ends_with(".tar") {
            Self::None
        } else {
            Self::Gzip
        }
    }
}

impl DirectorySink {
    /// The directory at `path`, which must be empty or not there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_limits(path, Limits::default())
    }

    /// The same with other limits.
    pub fn with_limits(path: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { path: path.into(), limits, open: None }
    }
}

#[async_trait]
impl Sink for DirectorySink {
    fn describe(&self) -> String {
        format!("directory {}", self.path.display())
    }

    async fn begin(&mut self, plan: &Plan) -> Result<(), SinkError> {
        let targets = targets(plan)?;
        let (path, limits) = (self.path.clone(), self.limits);
        let (staging, tree) = blocking(move || stage(&path, limits)).await?;
        let awaited = Awaited::new(targets.keys().cloned());
        self.open = Some(Open { staging, tree: Arc::new(tree), targets, awaited });
        Ok(())
    }

    /// True for what becomes no file, the config above all: it need not be fetched.
    async fn has(&self, descriptor: &Descriptor) -> bool {
        self.open.as_ref().is_some_and(|open| !open.targets.contains_key(&descriptor.digest))
    }

    /// What a layer made is undone when it was damaged.
    fn takes_again(&self) -> bool {
        true
    }

    async fn blob(&self, descriptor: &Descriptor, chunks: Chunks) -> Result<(), SinkError> {
        let Some(open) = &self.open else {
            return Err(SinkError::Unsupported("no plan was given".to_owned()));
        };
        let target = open.targets.get(&descriptor.digest).and_then(|targets| targets.first().cloned());
        let made = Arc::new(Mutex::new(Made::default()));
        let (tree, journal) = (Arc::clone(&open.tree), Arc::clone(&made));
        let size = descriptor.size;
        let written = receive(descriptor, chunks, move |received| {
            let made = &mut journal.lock().unwrap_or_else(PoisonError::into_inner);
            match target {
                Some(Target { title, unpack: None }) => tree.write_file(&title, received, size, false, made),
                Some(Target { title, unpack: Some(unpack) }) => {
                    tree.unpack(&title, &unpack, received, size, made)
                }
                None => Ok(()),
            }
        })
        .await;
        if written.is_err() {
            // What was damaged may come once more, and whole.
            let tree = Arc::clone(&open.tree);
            blocking(move || {
                tree.undo(&made.lock().unwrap_or_else(PoisonError::into_inner));
                Ok(())
            })
            .await?;
        }
        written?;
        open.awaited.received(&descriptor.digest);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.awaited.none_left()?;
        blocking(move || {
            open.tree.copy_twins(&open.targets)?;
            let publish = || -> io::Result<()> {
                // One call for all the files: an artifact may hold thousands.
                rustix::fs::syncfs(std::fs::File::open(open.staging.path())?)?;
                std::fs::rename(open.staging.path(), &self.path)?;
                // It has another name now and is not to be removed.
                let _ = open.staging.keep();
                sync_directory(&parent(&self.path))
            };
            publish().map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => not_empty(&self.path),
                _ => io_error(&self.path.display().to_string(), error),
            })
        })
        .await
    }

    /// The new directory goes with its handle.
    async fn abort(self: Box<Self>) {}
}

fn not_empty(path: &std::path::Path) -> SinkError {
    SinkError::Unsupported(format!("{} is not empty; choose a new or an empty directory", path.display()))
}

/// Which layer becomes what, or why the artifact cannot become a directory.
fn targets(plan: &Plan) -> Result<HashMap<Digest, Vec<Target>>, SinkError> {
    let refuse = |text: String| Err(SinkError::Unsupported(text));
    let Shape::Image { config, layers } = plan.root().shape() else {
        return refuse(
            "this is an index of several images; choose one with --platform, or pull to oci:DIR or oci-archive:FILE"
                .to_owned(),
        );
    };
    let mut targets: HashMap<Digest, Vec<Target>> = HashMap::new();
    let mut titles = HashSet::new();
    for layer in layers {
        let Some(title) = layer.annotations.get(TITLE) else { continue };
        let is_unpacked = layer.annotations.get(UNPACK).is_some_and(|value| value == "true");
        let title = if is_unpacked && title == "." { String::new() } else { safe_path(title)? };
        if !titles.insert(title.clone()) {
            return refuse(format!("two layers are called `{title}`"));
        }
        let unpack = if is_unpacked { Some(unpack_of(layer)?) } else { None };
        let list = targets.entry(layer.digest.clone()).or_default();
        if !list.is_empty() && (unpack.is_some() || list.iter().any(|target| target.unpack.is_some())) {
            return refuse(format!("{} is to be unpacked and stands twice in the manifest", layer.digest));
        }
        list.push(Target { title, unpack });
    }
    if targets.is_empty()
        && let Some(layer) = only_archive(config, layers)
    {
        let unpack = Some(Unpack { packing: Packing::of(&layer.media_type), tar: None });
        targets.insert(layer.digest.clone(), vec![Target { title: String::new(), unpack }]);
        return Ok(targets);
    }
    if targets.is_empty() && !layers.is_empty() {
        let what = match &*config.media_type {
            media::OCI_CONFIG | media::DOCKER_CONFIG => "a container image".to_owned(),
            other => format!("an artifact (`{other}`) whose layers have no file names"),
        };
        return refuse(format!(
            "this is {what}, not a directory: pull it to oci:DIR, oci-archive:FILE or docker-daemon:NAME"
        ));
    }
    Ok(targets)
}

/// The one archive of an artifact whose layers have no names: what Flux makes, and Helm's charts. A container image is none.
fn only_archive<'a>(config: &Descriptor, layers: &'a [Descriptor]) -> Option<&'a Descriptor> {
    if matches!(&*config.media_type, media::OCI_CONFIG | media::DOCKER_CONFIG) {
        return None;
    }
    let is_archive = |layer: &&Descriptor| {
        let kind = &layer.media_type;
        ["tar", "tar+gzip", "tar.gzip", "tar+zstd"].iter().any(|ending| kind.ends_with(ending))
    };
    let mut archives = layers.iter().filter(is_archive);
    archives.next().filter(|_| archives.next().is_none())
}

fn unpack_of(layer: &Descriptor) -> Result<Unpack, SinkError> {
    let tar = layer.annotations.get(UNPACK_DIGEST).map(|text| text.parse::<Digest>()).transpose();
    let tar =
        tar.map_err(|error| SinkError::Unsupported(format!("{}: {UNPACK_DIGEST}: {error}", layer.digest)))?;
    Ok(Unpack { packing: Packing::of(&layer.media_type), tar })
}

/// A relative path of plain names, or why it is none.
fn safe_path(path: &str) -> Result<String, SinkError> {
    let shown = || path.chars().filter(|char| !char.is_control()).take(200).collect::<String>();
    let refuse = |why: &str| SinkError::Unsupported(format!("`{}` is refused: {why}", shown()));
    if path.starts_with('/') {
        return Err(refuse("an absolute path"));
    }
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    for part in &parts {
        check_component(part).map_err(refuse)?;
    }
    if parts.is_empty() { Err(refuse("no name")) } else { Ok(parts.join("/")) }
}

fn stage(path: &std::path::Path, limits: Limits) -> Result<(TempDir, Tree), SinkError> {
    let io = |error| io_error(&path.display().to_string(), error);
    match std::fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(not_empty(path));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let folder = parent(path);
    if !folder.is_dir() {
        return Err(SinkError::NotFound(format!("there is no directory {}", folder.display())));
    }
    let staging = tempfile::Builder::new()
        .prefix(".idp-")
        .permissions(std::fs::Permissions::from_mode(0o777))
        .tempdir_in(folder)
        .map_err(io)?;
    let dir = Dir::open_ambient_dir(staging.path(), cap_std::ambient_authority()).map_err(io)?;
    let tree = Tree {
        dir,
        limits,
        shown: path.to_owned(),
        entries: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        undoing: RwLock::new(()),
    };
    Ok((staging, tree))
}

/// What one layer has put into the tree so far.
#[derive(Debug, Default)]
struct Made {
    files: Vec<String>,
    /// Parents before their children.
    directories: Vec<String>,
    entries: u64,
    bytes: u64,
}

/// The new directory and what has been put into it.
#[derive(Debug)]
struct Tree {
    dir: Dir,
    limits: Limits,
    shown: PathBuf,
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Written while a layer is undone: nobody may count on a directory that is just being removed.
    undoing: RwLock<()>,
}

impl Tree {
    fn io(&self, path: &str, error: io::Error) -> SinkError {
        let what = self.shown.join(path);
        if error.kind() == io::ErrorKind::AlreadyExists {
            return SinkError::Corrupt(format!("`{path}` stands twice in the artifact"));
        }
        io_error(&what.display().to_string(), error)
    }

    /// Counts before anything is written.
    fn charge(&self, path: &str, bytes: u64, made: &mut Made) -> Result<(), SinkError> {
        made.entries += 1;
        made.bytes = made.bytes.saturating_add(bytes.min(1 << 62));
        let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.bytes.fetch_add(bytes.min(1 << 62), Ordering::Relaxed).saturating_add(bytes);
        if entries > self.limits.entries {
            let limit = self.limits.entries;
            return Err(SinkError::Unsupported(format!(
                "the artifact has more than {limit} files and directories"
            )));
        }
        if total > self.limits.bytes {
            let limit = self.limits.bytes;
            return Err(SinkError::Unsupported(format!(
                "with `{path}` the artifact has {total} bytes; at most {limit} are unpacked"
            )));
        }
        Ok(())
    }

    /// Takes away what a layer has made. Directories stay where another layer has put something into them.
    fn undo(&self, made: &Made) {
        let _alone = self.undoing.write().unwrap_or_else(PoisonError::into_inner);
        for path in made.files.iter().rev() {
            let _ = self.dir.remove_file(path);
        }
        for path in made.directories.iter().rev() {
            let _ = self.dir.remove_dir(path);
        }
        self.entries.fetch_sub(made.entries, Ordering::Relaxed);
        self.bytes.fetch_sub(made.bytes, Ordering::Relaxed);
    }

    /// Each directory there may be, and `path` itself must not be a file.
    fn make_directory(&self, path: &str, made: &mut Made) -> Result<(), SinkError> {
        let parts = path.match_indices('/').map(|(slash, _)| slash).chain([path.len()]);
        for part in parts.map(|end| &path[..end]) {
            match self.dir.create_dir(part) {
                Ok(()) => {
                    made.directories.push(part.to_owned());
                    self.charge(path, 0, made)?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !self.dir.symlink_metadata(part).is_ok_and(|metadata| metadata.is_dir()) {
                        return Err(self.io(part, error));
                    }
                }
                Err(error) => return Err(self.io(part, error)),
            }
        }
        Ok(())
    }

    fn write_file(
        &self,
        path: &str,
        body: &mut dyn Read,
        size: u64,
        executable: bool,
        made: &mut Made,
    ) -> Result<(), SinkError> {
        self.charge(path, size, made)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(if executable { 0o777 } else { 0o666 });
        let mut file = {
            let _kept = self.undoing.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((folder, _)) = path.rsplit_once('/') {
                self.make_directory(folder, made)?;
            }
            self.dir.open_with(path, &options).map_err(|error| self.io(path, error))?
        };
        made.files.push(path.to_owned());
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).clamp(1, 256 * 1024)];
        loop {
            let count = body.read(&mut buffer).map_err(|error| reading(path, error))?;
            if count == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..count]).map_err(|error| self.io(path, error))?;
        }
    }

    fn unpack(
        &self,
        title: &str,
        unpack: &Unpack,
        received: &mut Received,
        size: u64,
        made: &mut Made,
    ) -> Result<(), SinkError> {
        let decoder: Box<dyn Read + '_> = match unpack.packing {
            Packing::None => Box::new(received),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(io::BufReader::with_capacity(
                64 * 1024,
                received,
            ))),
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::new(received).map_err(|error| reading(title, error))?;
                decoder.window_log_max(ZSTD_WINDOW).map_err(|error| reading(title, error))?;
                Box::new(decoder)
            }
        };
        let algorithm = unpack.tar.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let mut plain = Plain {
            inner: decoder,
            left: FREE.saturating_add(size.saturating_mul(self.limits.ratio)),
            hasher: unpack.tar.as_ref().map(|_| Hasher::new(algorithm)),
        };
        let mut reader = Reader::new(StreamInput(&mut plain));
        while let Some(member) = reader.next().map_err(|error| tar_error(title, error))? {
            if matches!(&*member.path, "." | "" | "./") && member.kind == Kind::Directory {
                continue;
            }
            let path = safe_path(&member.path)?;
            let inside = title.is_empty()
                || path.strip_prefix(title).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if !inside {
                return Err(SinkError::Corrupt(format!(
                    "`{path}` lies outside of `{title}`, which it is to become"
                )));
            }
            match &member.kind {
                Kind::Directory => {
                    let _kept = self.undoing.read().unwrap_or_else(PoisonError::into_inner);
                    self.make_directory(&path, made)?;
                }
                Kind::File => self.write_file(&path, &mut reader, member.size, member.executable, made)?,
                kind => {
                    let kind = match kind {
                        Kind::Symlink(_) => "a symbolic link",
                        Kind::Hardlink(_) => "a hard link",
                        _ => "neither a file nor a directory",
                    };
                    return Err(SinkError::Unsupported(format!(
                        "`{path}` is {kind}; only files and directories are unpacked"
                    )));
                }
            }
        }
        io::copy(&mut plain, &mut io::sink()).map_err(|error| reading(title, error))?;
        match (&unpack.tar, plain.hasher.map(Hasher::finish)) {
            (Some(expected), Some(found)) if *expected != found => Err(SinkError::Corrupt(format!(
                "the tar in the layer hashes to {found}, and is announced as {expected}"
            ))),
            _ => Ok(()),
        }
    }

    /// Content that stands under several names was received once.
    fn copy_twins(&self, targets: &HashMap<Digest, Vec<Target>>) -> Result<(), SinkError> {
        for list in targets.values() {
            let Some((first, others)) = list.split_first() else { continue };
            for other in others {
                let mut file = self.dir.open(&first.title).map_err(|error| self.io(&first.title, error))?;
                let size = file.metadata().map_err(|error| self.io(&first.title, error))?.len();
                self.write_file(&other.title, &mut file, size, false, &mut Made::default())?;
            }
        }
        Ok(())
    }
}

fn reading(path: &str, error: io::Error) -> SinkError {
    SinkError::Corrupt(format!("`{path}` cannot be unpacked: {error}"))
}

fn tar_error(title: &str, error: TarError) -> SinkError {
    let shown = if title.is_empty() { "." } else { title };
    SinkError::Corrupt(format!("the layer `{shown}` cannot be unpacked: {error}"))
}

/// What comes out of the decoder: counted, and hashed where a digest is announced.
struct Plain<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
    hasher: Option<Hasher>,
}

impl Read for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other("it unpacks to far more than its size allows: a decompression bomb")
        })?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}
