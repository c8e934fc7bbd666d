//! `oci:DIR[:TAG]`: an OCI image layout in a directory. Blobs are read in place; who receives them checks their digests.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::layout::{self, Contents, INDEX, MARKER};
use crate::manifest::{Descriptor, MAX_MANIFEST};
use crate::source::outlet::{Outlet, blocking};
use crate::source::{Image, Offer, Selection, Source, SourceError};

/// An image of a layout.
#[derive(Debug, Clone)]
pub struct LayoutSource {
    directory: PathBuf,
    name: Option<String>,
}

impl LayoutSource {
    /// The image called `name` (a tag or a digest) of the layout in `directory`. Without a name there must be only one.
    pub fn new(directory: impl Into<PathBuf>, name: Option<String>) -> Self {
        Self { directory: directory.into(), name }
    }

    fn send(&self, selection: &Selection, outlet: &Outlet) -> Result<Image, SourceError> {
        let what = self.describe();
        let index_path = self.directory.join(INDEX);
        let (file, size) = open_regular(&index_path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SourceError::NotFound(format!(
                "{} is no OCI layout: there is no {INDEX} in it",
                self.directory.display()
            )),
            _ => SourceError::Io { what: index_path.display().to_string(), error },
        })?;
        let descriptor = Descriptor::new("", Digest::of(b""), size);
        let index = Blob::from_file(descriptor, file.into(), 0)
            .read_whole(MAX_MANIFEST)
            .map_err(|error| SourceError::Io { what: index_path.display().to_string(), error })?;
        let contents = Directory { path: &self.directory };
        let mut selection = selection.clone();
        selection.name = selection.name.or_else(|| self.name.clone());
        let resolved = layout::resolve(&contents, index, &selection, &what)?;
        outlet.announce(&resolved.manifests)?;
        for descriptor in resolved.largest_first() {
            outlet.send(contents.open(descriptor)?)?;
        }
        Ok(Image { manifests: resolved.manifests, name: resolved.name })
    }

    /// True when `directory` has the marker of a layout.
    pub fn is_layout(directory: &Path) -> bool {
        directory.join(MARKER).is_file()
    }
}

#[async_trait]
impl Source for LayoutSource {
    fn describe(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(", image {name}")).unwrap_or_default();
        format!("OCI layout {}{name}", self.directory.display())
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

struct Directory<'a> {
    path: &'a Path,
}

impl Contents for Directory<'_> {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, SourceError> {
        let path = self.path.join(layout::blob_path(digest));
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Err(SourceError::Invalid(format!("{} is not a file", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SourceError::Io { what: path.display().to_string(), error }),
        }
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        let path = self.path.join(layout::blob_path(&descriptor.digest));
        let (file, size) = open_regular(&path)
            .map_err(|error| SourceError::Io { what: path.display().to_string(), error })?;
        if size != descriptor.size {
            return Err(SourceError::Invalid(format!(
                "{} has {size} bytes, and its descriptor says {}; was the layout written to meanwhile?",
                path.display(),
                descriptor.size
            )));
        }
        Ok(Blob::from_file(descriptor.clone(), Arc::new(file), 0))
    }
}

/// Opens a regular file, never waiting for a pipe's other end, and gives its size.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(nonblock).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata.len()))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}
