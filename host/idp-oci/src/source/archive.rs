//! `oci-archive:FILE` and `docker-archive:FILE`: tars of a layout or of `docker save`, read in place.
//!
//! One pass over the headers notes where each member lies; blobs are regions of the file. Only the plain layers of
//! `docker save` are rewritten: compressed, several at once, each handed out when it is ready.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::blob::Blob;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::layout::{self, Contents, INDEX, Resolved};
use crate::manifest::{Descriptor, MAX_MANIFEST, Shape};
use crate::media;
use crate::source::classic::{self, Layer};
use crate::source::format::{self, Format};
use crate::source::layout::open_regular;
use crate::source::outlet::{Outlet, Streamed, blocking};
use crate::source::pack::{self, SMALL};
use crate::source::{Compression, Image, Offer, Selection, Source, SourceError};
use crate::tarball::{FileInput, Kind, Member, Reader, TarError};

/// Links to links to links.
const MAX_LINKS: usize = 8;
/// Layers that are packed at once.
const MOST_AT_ONCE: usize = 2;

/// How many bytes may come out of one byte of a compressed archive, beyond the first of them (case 71).
const MAX_RATIO: u64 = 200;
/// What may come out of any archive, however small.
const FREE: u64 = 64 << 20;

/// What kind of archive a file is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A tar of an OCI image layout.
    Oci,
    /// What `docker save` writes, old and new.
    Docker,
    /// Whichever it turns out to be.
    Detect,
}

/// An image of an archive.
#[derive(Debug, Clone)]
pub struct ArchiveSource {
    path: PathBuf,
    kind: ArchiveKind,
    name: Option<String>,
}

impl ArchiveSource {
    /// The image called `name` in the archive at `path`. Without a name there must be only one.
    pub fn new(path: impl Into<PathBuf>, kind: ArchiveKind, name: Option<String>) -> Self {
        Self { path: path.into(), kind, name }
    }

    fn send(&self, selection: &Selection, outlet: &Outlet) -> Result<Image, SourceError> {
        let what = self.describe();
        let mut selection = selection.clone();
        selection.name = selection.name.or_else(|| self.name.clone());
        let (file, _) = open_regular(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                SourceError::NotFound(format!("there is no file {}", self.path.display()))
            }
            _ => SourceError::Io { what: what.clone(), error },
        })?;
        let file = unpacked(file, &what, outlet)?;
        let archive = Archive::index(file, what)?;
        let has = |path: &str| archive.find(path).is_some();
        match self.kind {
            ArchiveKind::Oci if !has(INDEX) => {
                Err(archive.invalid(&format!("it is no OCI archive: there is no {INDEX} in it")))
            }
            ArchiveKind::Docker if !has(classic::MANIFEST) && !has(INDEX) => Err(archive
                .invalid(&format!("it is not from `docker save`: there is no {} in it", classic::MANIFEST))),
            ArchiveKind::Detect if !has(classic::MANIFEST) && !has(INDEX) => Err(archive.invalid(&format!(
                "it holds no image: there is neither {INDEX} nor {} in it",
                classic::MANIFEST
            ))),
            ArchiveKind::Oci => archive.untouched(&selection, outlet),
            ArchiveKind::Docker | ArchiveKind::Detect if !has(classic::MANIFEST) => {
                archive.untouched(&selection, outlet)
            }
            ArchiveKind::Docker | ArchiveKind::Detect => archive.docker(&selection, outlet),
        }
    }
}

#[async_trait]
impl Source for ArchiveSource {
    fn describe(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(", image {name}")).unwrap_or_default();
        let kind = match self.kind {
            ArchiveKind::Oci => "OCI archive",
            ArchiveKind::Docker => "docker archive",
            ArchiveKind::Detect => "archive",
        };
        format!("{kind} {}{name}", self.path.display())
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

/// A compressed archive has no offsets; it is unpacked once, to an unnamed temporary file.
fn unpacked(mut file: File, what: &str, outlet: &Outlet) -> Result<File, SourceError> {
    let io = |error| SourceError::Io { what: what.to_owned(), error };
    let mut head = Vec::new();
    (&mut file).take(512).read_to_end(&mut head).and_then(|_| file.rewind()).map_err(io)?;
    match Format::of(&head) {
        Format::Gzip => {
            tracing::info!("{what} is compressed as a whole: it is unpacked to a temporary file first");
            let mut plain = tempfile::tempfile().map_err(io)?;
            let size = file.metadata().map_err(io)?.len();
            let mut left = FREE.saturating_add(size.saturating_mul(MAX_RATIO));
            let mut decoder =
                flate2::read::MultiGzDecoder::new(io::BufReader::with_capacity(256 * 1024, file));
            format::copy(&mut decoder, &|| outlet.is_closed(), &mut |chunk| {
                left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
                    io::Error::other("it unpacks to far more than its size allows: a decompression bomb")
                })?;
                io::Write::write_all(&mut plain, chunk)
            })
            .map_err(|error| given_up_or(error, what))?;
            Ok(plain)
        }
        Format::Zstd => Err(compressed(what, "zstd")),
        Format::Foreign(name) => Err(compressed(what, name)),
        Format::Tar | Format::Unknown => Ok(file),
    }
}

fn compressed(what: &str, name: &str) -> SourceError {
    SourceError::Invalid(format!("{what} is compressed with {name} as a whole; decompress it first"))
}

/// An interrupted read is ours: the push was given up.
pub(crate) fn given_up_or(error: io::Error, what: &str) -> SourceError {
    match error.kind() {
        io::ErrorKind::Interrupted => SourceError::Closed,
        _ => SourceError::Io { what: what.to_owned(), error },
    }
}

/// The errors of a walk, as a source's.
pub(crate) fn tar_error(error: TarError, what: &str) -> SourceError {
    match error {
        TarError::Io(error) => given_up_or(error, what),
        error => SourceError::Invalid(format!("{what}: {error}")),
    }
}

/// Where a member lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File {
        offset: u64,
        size: u64,
    },
    /// The path of another member.
    Link(String),
}

/// A tar with its table of contents.
struct Archive {
    file: Arc<File>,
    places: HashMap<String, Place>,
    what: String,
}

impl Archive {
    fn index(file: File, what: String) -> Result<Self, SourceError> {
        let file = Arc::new(file);
        let input = FileInput::new(Arc::clone(&file))
            .map_err(|error| SourceError::Io { what: what.clone(), error })?;
        let mut reader = Reader::new(input);
        let mut places = HashMap::new();
        while let Some(member) = reader.next().map_err(|error| tar_error(error, &what))? {
            if let Some((path, place)) = place(member) {
                places.insert(path, place);
            }
        }
        Ok(Self { file, places, what })
    }

    fn invalid(&self, text: &str) -> SourceError {
        SourceError::Invalid(format!("{}: {text}", self.what))
    }

    /// Offset and size of a file, through links.
    fn find(&self, path: &str) -> Option<(u64, u64)> {
        let mut path = normal("", path)?;
        for _ in 0..MAX_LINKS {
            match self.places.get(&path)? {
                Place::File { offset, size } => return Some((*offset, *size)),
                Place::Link(target) => path.clone_from(target),
            }
        }
        None
    }

    /// A small file as a whole.
    fn small(&self, path: &str) -> Result<Option<Bytes>, SourceError> {
        let Some((offset, size)) = self.find(path) else { return Ok(None) };
        let blob =
            Blob::from_file(Descriptor::new("", Digest::of(b""), size), Arc::clone(&self.file), offset);
        match blob.read_whole(MAX_MANIFEST) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(SourceError::Io { what: format!("{}: {path}", self.what), error }),
        }
    }

    fn resolve(&self, selection: &Selection) -> Result<Resolved, SourceError> {
        let index = self.small(INDEX)?.ok_or_else(|| self.invalid(&format!("there is no {INDEX} in it")))?;
        layout::resolve(self, index, selection, &self.what)
    }

    fn untouched(&self, selection: &Selection, outlet: &Outlet) -> Result<Image, SourceError> {
        self.send(self.resolve(selection)?, outlet)
    }

    fn send(&self, resolved: Resolved, outlet: &Outlet) -> Result<Image, SourceError> {
        outlet.announce(&resolved.manifests)?;
        for descriptor in resolved.largest_first() {
            outlet.send(self.open(descriptor)?)?;
        }
        Ok(Image { manifests: resolved.manifests, name: resolved.name })
    }

    /// From Docker 25 on the archive is a layout as well. Its manifests are taken as they are, unless the layers they name
    /// are plain tars: those are Docker's own storage written out, and nobody wants to push them uncompressed.
    fn docker(&self, selection: &Selection, outlet: &Outlet) -> Result<Image, SourceError> {
        if self.find(INDEX).is_some()
            && let Ok(resolved) = self.resolve(selection)
            && (selection.compression == Compression::Keep || !is_plain(&resolved))
        {
            return self.send(resolved, outlet);
        }
        let manifest = self.small(classic::MANIFEST)?.unwrap_or_default();
        let saved = classic::choose(&manifest, selection, &self.what, &|path| self.small(path))?;
        let config = Blob::from_bytes(media::OCI_CONFIG, saved.config);
        let config_descriptor = config.descriptor.clone();
        outlet.send(config)?;
        let layers = self.layers(&saved.layers, selection, outlet)?;
        let manifest = classic::manifest(&config_descriptor, &layers)?;
        Ok(Image { manifests: vec![manifest], name: saved.name })
    }

    /// Sends the layers, compressing as many at once as there are processors; the descriptors are in the layers' order.
    fn layers(
        &self,
        layers: &[Layer],
        selection: &Selection,
        outlet: &Outlet,
    ) -> Result<Vec<Descriptor>, SourceError> {
        let mut distinct: Vec<&Layer> = Vec::new();
        for layer in layers {
            if layer.foreign.is_none() && distinct.iter().all(|other| other.diff_id != layer.diff_id) {
                distinct.push(layer);
            }
        }
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let work = || -> Result<Vec<(Digest, Descriptor)>, SourceError> {
            let mut done = Vec::new();
            while let Some(layer) = distinct.get(next.fetch_add(1, Ordering::Relaxed)) {
                let given_up = || outlet.is_closed() || failed.load(Ordering::Relaxed);
                let sent = self.layer(layer, selection, outlet, &given_up);
                let descriptor = sent.inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                done.push((layer.diff_id.clone(), descriptor));
            }
            Ok(done)
        };
        // Each layer that is packed uses all cores by itself; a second one fills the gaps of the first.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = cores.min(MOST_AT_ONCE).min(distinct.len());
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err(SourceError::Closed))).collect()
        });
        let mut sent = HashMap::new();
        let mut closed = false;
        for result in results {
            match result {
                Ok(done) => sent.extend(done),
                // The others stopped because one failed: that one's error is the one to show.
                Err(SourceError::Closed) => closed = true,
                Err(error) => return Err(error),
            }
        }
        if closed {
            return Err(SourceError::Closed);
        }
        let descriptor = |layer: &Layer| layer.foreign.clone().or_else(|| sent.get(&layer.diff_id).cloned());
        layers.iter().map(|layer| descriptor(layer).ok_or(SourceError::Closed)).collect()
    }

    /// Sends a layer as it is pushed: plain tars packed while they go, others as they are.
    fn layer(
        &self,
        layer: &Layer,
        selection: &Selection,
        outlet: &Outlet,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Descriptor, SourceError> {
        let (offset, size) = self
            .find(&layer.path)
            .ok_or_else(|| self.invalid(&format!("the layer `{}` is missing", layer.path)))?;
        let what = format!("{}: layer `{}`", self.what, layer.path);
        let region = || FileInput::region(Arc::clone(&self.file), offset, size);
        let mut head = Vec::new();
        region().take(512).read_to_end(&mut head).map_err(|error| given_up_or(error, &what))?;
        let media_type = match Format::of(&head) {
            Format::Gzip => media::OCI_LAYER_GZIP,
            Format::Zstd => media::OCI_LAYER_ZSTD,
            Format::Foreign(name) => {
                return Err(SourceError::Invalid(format!(
                    "{what} is compressed with {name}, which registries' clients do not unpack"
                )));
            }
            Format::Tar | Format::Unknown => {
                return self.plain(layer, (offset, size), &what, selection, outlet, given_up);
            }
        };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        format::copy(&mut region(), given_up, &mut |chunk| {
            hasher.update(chunk);
            Ok(())
        })
        .map_err(|error| given_up_or(error, &what))?;
        let descriptor = Descriptor::new(media_type, hasher.finish(), size);
        outlet.send(Blob::from_file(descriptor.clone(), Arc::clone(&self.file), offset))?;
        Ok(descriptor)
    }

    /// A plain tar: not made again where the memo knows what it becomes and that is there; in memory where it is small; else streamed,
    /// as often as it takes.
    fn plain(
        &self,
        layer: &Layer,
        (offset, size): (u64, u64),
        what: &str,
        selection: &Selection,
        outlet: &Outlet,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Descriptor, SourceError> {
        let compression = selection.compression;
        let input = || FileInput::region(Arc::clone(&self.file), offset, size);
        let check = |packed: &pack::Packed| {
            if packed.read != size {
                return Err(SourceError::Invalid(format!("{what} was cut while it was read")));
            }
            if packed.diff_id != layer.diff_id {
                return Err(classic::wrong_diff_id(&self.what, layer, &packed.diff_id));
            }
            Ok(())
        };
        let memo = selection.memo.as_deref();
        if size <= SMALL {
            let (packed, bytes) = pack::to_memory(compression, &mut input(), given_up)
                .map_err(|error| given_up_or(error, what))?;
            check(&packed)?;
            outlet.send(Blob::from_known(packed.descriptor.clone(), bytes))?;
            return Ok(packed.descriptor);
        }
        if let Some(known) = memo.and_then(|memo| memo.packed(&layer.diff_id, compression))
            && outlet.is_there(&layer.path, &known)?
        {
            return Ok(known);
        }
        loop {
            let mut wrong = None;
            let streamed = outlet.live(&layer.path, |emit| {
                let packed = pack::pack(compression, &mut input(), given_up, emit)?;
                if let Err(error) = check(&packed) {
                    wrong = Some(error);
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(packed.descriptor)
            })?;
            if let Some(error) = wrong {
                return Err(error);
            }
            if let Streamed::Whole(descriptor, arrived) =
                streamed.map_err(|error| given_up_or(error, what))?
                && arrived.blocking_recv().unwrap_or(false)
            {
                if let Some(memo) = memo {
                    memo.learn(&layer.diff_id, compression, &descriptor);
                }
                return Ok(*descriptor);
            }
            if given_up() {
                return Err(SourceError::Closed);
            }
        }
    }
}

impl Contents for Archive {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, SourceError> {
        Ok(self.find(&layout::blob_path(digest)).map(|(_, size)| size))
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        match self.find(&layout::blob_path(&descriptor.digest)) {
            Some((offset, _)) => Ok(Blob::from_file(descriptor.clone(), Arc::clone(&self.file), offset)),
            None => Err(self.invalid(&format!("{} is missing", descriptor.digest))),
        }
    }
}

/// True when any layer of the one image is a plain tar.
pub(crate) fn is_plain(resolved: &Resolved) -> bool {
    let [image] = &*resolved.manifests else { return false };
    let Shape::Image { layers, .. } = image.shape() else { return false };
    let plain = [media::OCI_LAYER, "application/vnd.docker.image.rootfs.diff.tar"];
    layers.iter().any(|layer| plain.contains(&&*layer.media_type))
}

fn place(member: Member) -> Option<(String, Place)> {
    let path = normal("", &member.path)?;
    let parent = Path::new(&path).parent().and_then(Path::to_str).unwrap_or_default().to_owned();
    let place = match member.kind {
        Kind::File => Place::File { offset: member.offset, size: member.size },
        Kind::Symlink(target) => Place::Link(normal(&parent, &target)?),
        Kind::Hardlink(target) => Place::Link(normal("", &target)?),
        Kind::Directory | Kind::Other(_) => return None,
    };
    Some((path, place))
}

/// `path` as seen from `parent`, without `.` and `..`; none when it leaves the archive.
pub(crate) fn normal(parent: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in parent.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(normal("a", "../b/layer.tar").as_deref(), Some("b/layer.tar"));
        assert_eq!(normal("", "./a//b/").as_deref(), Some("a/b"));
        for outside in ["..", "/etc/passwd", "a/../../b", "."] {
            assert_eq!(normal("", outside), None, "{outside}");
        }
    }
}
