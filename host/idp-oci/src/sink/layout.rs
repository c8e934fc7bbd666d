//! `oci:DIR[:TAG]`: an OCI image layout in a directory. Blobs appear under their digest when they are whole and verified;
//! the index names the image when all of it is there. Several processes may write to one layout.
//!
//! Blobs are not waited for until the disk has them: that takes longer than the download where disks are slow, what a power failure
//! spoils is noticed by its digest, and the next pull mends it. The index is, because other images depend on it.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tempfile::NamedTempFile;

use crate::blob::Chunks;
use crate::digest::Digest;
use crate::layout::{self, INDEX, MARKER, MARKER_CONTENT, REF_NAME};
use crate::manifest::{Descriptor, MAX_MANIFEST};
use crate::media;
use crate::partial::{self, KEPT, PREFIX, Partial, is_left};
use crate::sink::check::{Received, Verifier, blocking, receive, receive_rest};
use crate::sink::{Have, Plan, Sink, SinkError};

/// How the names of unfinished files start.
const TEMPORARY: &str = ".idp-";
/// A temporary file that nobody has locked and that is older than this was left behind.
const STALE: Duration = Duration::from_secs(60);

/// A layout to write to.
#[derive(Debug)]
pub struct LayoutSink {
    directory: PathBuf,
    name: Option<String>,
    plan: Option<Plan>,
    /// The permissions that the process gives its files.
    mode: u32,
    durable: bool,
}

impl LayoutSink {
    /// The layout in `directory`, made where there is none. The image is called `name`, else by its reference's tag.
    pub fn new(directory: impl Into<PathBuf>, name: Option<String>) -> Self {
        Self { directory: directory.into(), name, plan: None, mode: 0o600, durable: false }
    }
}

#[async_trait]
impl Sink for LayoutSink {
    fn describe(&self) -> String {
        format!("OCI layout {}", self.directory.display())
    }

    fn be_durable(&mut self) {
        self.durable = true;
    }

    async fn begin(&mut self, plan: &Plan) -> Result<(), SinkError> {
        let directory = self.directory.clone();
        let blobs = plan.blobs.iter().map(|blob| &blob.digest);
        let digests = blobs.chain(plan.manifests.iter().map(|manifest| manifest.digest()));
        let algorithms: Vec<_> = digests.map(|digest| digest.algorithm().as_str()).collect();
        self.mode = blocking(move || prepare(&directory, &algorithms)).await?;
        self.plan = Some(plan.clone());
        Ok(())
    }

    async fn has(&self, descriptor: &Descriptor) -> bool {
        let (directory, descriptor) = (self.directory.clone(), descriptor.clone());
        blocking(move || Ok(is_intact(&directory, &descriptor))).await.unwrap_or(false)
    }

    async fn have(&self, descriptor: &Descriptor) -> Have {
        if self.has(descriptor).await {
            return Have::All;
        }
        match self.part(descriptor).await {
            // Nothing came of nothing: that it hashes to its name is still to be seen.
            Some(_) if descriptor.size == 0 => Have::Nothing,
            Some(part) if part.position() < descriptor.size => Have::Part(part),
            // All of it came, and it was not given its name any more.
            Some(part) => match self.place(descriptor, part).await {
                Ok(()) => Have::All,
                Err(_) => Have::Nothing,
            },
            None => Have::Nothing,
        }
    }

    fn takes_again(&self) -> bool {
        true
    }

    async fn rest(&self, descriptor: &Descriptor, mut part: Partial, rest: Chunks) -> Result<(), SinkError> {
        let what = self.path(descriptor).display().to_string();
        let verifier =
            part.hasher().map_or_else(|| Verifier::new(descriptor), |of| Verifier::after(descriptor, of));
        let part = receive_rest(verifier, rest, move |received| match append(&mut part, received) {
            Ok(()) => Ok(part),
            Err(error) => {
                // What broke off is kept for the next pull, what is wrong is not; a disk that is full is not kept full.
                if error.is_some() || received.is_corrupt() {
                    part.discard();
                }
                let error = error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                Err(io_error(&what, error))
            }
        });
        self.place(descriptor, part.await?).await
    }

    async fn blob(&self, descriptor: &Descriptor, chunks: Chunks) -> Result<(), SinkError> {
        let path = self.path(descriptor);
        let (folder, what) = (parent(&path), path.display().to_string());
        let opened = what.clone();
        let file = blocking(move || temporary(&folder).map_err(|error| io_error(&opened, error))).await?;
        let durable = self.durable;
        let written = receive(descriptor, chunks, move |received| {
            let mut file = file;
            let mut copy = || -> io::Result<()> {
                while let Some(chunk) = received.next_chunk()? {
                    file.write_all(&chunk)?;
                }
                if durable { file.as_file().sync_all() } else { Ok(()) }
            };
            copy().map_err(|error| io_error(&what, error))?;
            Ok((file, what))
        });
        let (file, what) = written.await?;
        blocking(move || file.persist(&path).map(drop).map_err(|error| io_error(&what, error.error))).await
    }

    async fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        let Some(plan) = self.plan.take() else { return Ok(()) };
        blocking(move || publish(&self.directory, self.name.as_deref(), &plan, self.durable)).await
    }

    /// Blobs that have come stay: they are whole, and the next pull need not fetch them again.
    async fn abort(self: Box<Self>) {}
}

impl LayoutSink {
    fn path(&self, descriptor: &Descriptor) -> PathBuf {
        self.directory.join(layout::blob_path(&descriptor.digest))
    }

    /// Where an earlier pull stopped, or a new start. A layout that cannot keep parts is written without.
    async fn part(&self, descriptor: &Descriptor) -> Option<Partial> {
        let (folder, blob) = (parent(&self.path(descriptor)), descriptor.clone());
        let opened = blocking(move || {
            let what = folder.display().to_string();
            Partial::open(&folder, &blob).map_err(|error| io_error(&what, error))
        });
        opened
            .await
            .inspect_err(|error| tracing::debug!(target: "idp::sink", %error, "no part is kept"))
            .ok()?
    }

    /// Gives a verified blob its name.
    async fn place(&self, descriptor: &Descriptor, part: Partial) -> Result<(), SinkError> {
        let (path, mode, durable) = (self.path(descriptor), self.mode, self.durable);
        blocking(move || {
            let place = || {
                if durable {
                    part.sync()?;
                }
                part.place(&path, Permissions::from_mode(mode))
            };
            place().map_err(|error| io_error(&path.display().to_string(), error))
        })
        .await
    }
}

/// Writes what comes. The error is that of writing; none is in it when it was the stream that ended.
fn append(part: &mut Partial, received: &mut Received) -> Result<(), Option<io::Error>> {
    while let Some(chunk) = received.next_chunk().map_err(|_| None)? {
        part.append(&chunk).map_err(Some)?;
    }
    Ok(())
}

pub(crate) fn io_error(what: &str, error: io::Error) -> SinkError {
    // The kind, not the number: an error of a temporary file has its path around it, and no number.
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => " (the disk is full)",
        io::ErrorKind::QuotaExceeded => " (the quota is used up)",
        io::ErrorKind::ReadOnlyFilesystem => " (the file system is read-only)",
        _ => "",
    };
    SinkError::Io { what: format!("writing {what}{hint}"), error }
}

/// The directory that a path lies in.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// An unfinished file, locked for as long as it is written, with the permissions that the process gives its files.
pub(crate) fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    let permissions = std::fs::Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().prefix(TEMPORARY).permissions(permissions).tempfile_in(directory)?;
    // Where locks are not supported, age alone tells what was left behind.
    let _ = file.as_file().try_lock_shared();
    Ok(file)
}

pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the directories and files that every layout has, so that it is valid whatever happens next. The permissions that files
/// get here.
fn prepare(directory: &Path, algorithms: &[&str]) -> Result<u32, SinkError> {
    let io = |error| io_error(&directory.display().to_string(), error);
    match std::fs::read_dir(directory) {
        Ok(mut entries) => {
            if entries.next().is_some() && !directory.join(MARKER).exists() {
                return Err(SinkError::Unsupported(format!(
                    "{} is not empty and no OCI layout; choose another directory",
                    directory.display()
                )));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    // The marker comes first: another process that looks in between must not take this for somebody's directory.
    std::fs::create_dir_all(directory).map_err(io)?;
    let _lock = lock(directory)?;
    for algorithm in std::iter::once(&"sha256").chain(algorithms) {
        let folder = directory.join("blobs").join(algorithm);
        std::fs::create_dir_all(&folder).map_err(io)?;
        remove_stale(&folder).map_err(io)?;
    }
    if !directory.join(INDEX).exists() {
        write_index(directory, &Index::default())?;
    }
    read_index(directory)?;
    let probe = temporary(directory).and_then(|file| file.as_file().metadata()).map_err(io)?;
    Ok(probe.permissions().mode() & 0o777)
}

/// Held while the index changes; other processes wait. The marker file is the lock: it is there and never replaced.
fn lock(directory: &Path) -> Result<File, SinkError> {
    let path = directory.join(MARKER);
    let open = || -> io::Result<File> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
            _ => {}
        }
        if file.metadata()?.len() == 0 {
            file.write_all(MARKER_CONTENT)?;
            file.sync_all()?;
        }
        Ok(file)
    };
    open().map_err(|error| io_error(&path.display().to_string(), error))
}

/// Removes what a process left that was killed while it wrote.
fn remove_stale(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let age = if name.starts_with(PREFIX) { KEPT } else { STALE };
        if name.starts_with(TEMPORARY) && is_left(&entry.path(), age) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn is_intact(directory: &Path, descriptor: &Descriptor) -> bool {
    let path = directory.join(layout::blob_path(&descriptor.digest));
    let hash = || -> io::Result<bool> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != descriptor.size {
            return Ok(false);
        }
        let hasher = partial::hash(&file, descriptor.size, descriptor.digest.algorithm())?;
        Ok(hasher.finish() == descriptor.digest)
    };
    hash().unwrap_or(false)
}

fn publish(directory: &Path, name: Option<&str>, plan: &Plan, durable: bool) -> Result<(), SinkError> {
    for blob in &plan.blobs {
        let path = directory.join(layout::blob_path(&blob.digest));
        if !std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == blob.size) {
            return Err(SinkError::Corrupt(format!("{} is missing: it was never received", blob.digest)));
        }
    }
    for manifest in &plan.manifests {
        let path = directory.join(layout::blob_path(manifest.digest()));
        if !is_intact(directory, manifest.descriptor()) {
            write_whole(&path, manifest.bytes(), durable)?;
        }
    }
    let io = |error| io_error(&directory.display().to_string(), error);
    if durable {
        for folder in std::fs::read_dir(directory.join("blobs")).map_err(io)? {
            sync_directory(&folder.map_err(io)?.path()).map_err(io)?;
        }
    }
    let _lock = lock(directory)?;
    let mut index = read_index(directory)?;
    index.put(&Entry::new(plan, name))?;
    write_index(directory, &index)
}

fn write_whole(path: &Path, bytes: &[u8], durable: bool) -> Result<(), SinkError> {
    let write = || -> io::Result<()> {
        let mut file = temporary(&parent(path))?;
        file.write_all(bytes)?;
        if durable {
            file.as_file().sync_all()?;
        }
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| io_error(&path.display().to_string(), error))
}

/// `index.json`; whatever else stands in it is kept as it is.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Box<RawValue>>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

impl Default for Index {
    fn default() -> Self {
        let rest =
            [("schemaVersion".to_owned(), 2.into()), ("mediaType".to_owned(), media::OCI_INDEX.into())];
        Self { manifests: Vec::new(), rest: rest.into() }
    }
}

/// An entry of `index.json` for one image.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// As much of any entry as is looked at.
#[derive(Deserialize)]
struct Existing {
    digest: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Entry {
    /// The plan's root, called `name`, else by its reference's tag, else nothing.
    pub(crate) fn new(plan: &Plan, name: Option<&str>) -> Self {
        let descriptor = plan.root().descriptor();
        let tag = plan.reference.as_ref().and_then(|reference| reference.tag.as_ref());
        let name = name.or(tag.map(crate::name::Tag::as_str));
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            annotations: name.map(|name| (REF_NAME.to_owned(), name.to_owned())).into_iter().collect(),
        }
    }

    /// Adds an annotation.
    pub(crate) fn annotate(&mut self, key: &str, value: &str) {
        self.annotations.insert(key.to_owned(), value.to_owned());
    }

    /// An index with nothing but this entry.
    pub(crate) fn alone(&self) -> Result<Vec<u8>, SinkError> {
        let mut index = Index::default();
        index.put(self)?;
        serde_json::to_vec(&index).map_err(|error| io_error(INDEX, error.into()))
    }
}

impl Index {
    /// Adds an entry in place of the one with the same name; without a name, of the same content without a name.
    fn put(&mut self, entry: &Entry) -> Result<(), SinkError> {
        let name = entry.annotations.get(REF_NAME);
        self.manifests.retain(|raw| {
            let Ok(existing) = serde_json::from_str::<Existing>(raw.get()) else { return true };
            let existing_name = existing.annotations.as_ref().and_then(|all| all.get(REF_NAME));
            match (name, existing_name) {
                (Some(name), Some(existing)) => name != existing,
                (None, None) => existing.digest != entry.digest.as_str(),
                _ => true,
            }
        });
        let raw = serde_json::value::to_raw_value(entry).map_err(|error| io_error(INDEX, error.into()))?;
        self.manifests.push(raw);
        Ok(())
    }
}

fn read_index(directory: &Path) -> Result<Index, SinkError> {
    let path = directory.join(INDEX);
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&path)?.take(MAX_MANIFEST + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| io_error(&path.display().to_string(), error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        SinkError::Unsupported(format!("{} is damaged, and is not written over: {error}", path.display()))
    })
}

fn write_index(directory: &Path, index: &Index) -> Result<(), SinkError> {
    let path = directory.join(INDEX);
    let bytes =
        serde_json::to_vec(index).map_err(|error| io_error(&path.display().to_string(), error.into()))?;
    write_whole(&path, &bytes, true)?;
    sync_directory(directory).map_err(|error| io_error(&path.display().to_string(), error))
}
