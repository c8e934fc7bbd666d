//! `oci-archive:FILE[:TAG]`: a tar of an OCI image layout. Every size is known beforehand, so every blob has its place in
//! the file and several are written at once; the file gets its name when it is whole.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::NamedTempFile;

use super::awaited::Awaited;
use crate::blob::Chunks;
use crate::digest::Digest;
use crate::layout::{self, INDEX, MARKER, MARKER_CONTENT};
use crate::manifest::Descriptor;
use crate::sink::check::{blocking, receive};
use crate::sink::layout::{Entry, io_error, parent, sync_directory, temporary};
use crate::sink::{Plan, Sink, SinkError};
use crate::tarball;

/// An archive to write.
#[derive(Debug)]
pub struct ArchiveSink {
    path: PathBuf,
    name: Option<String>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: NamedTempFile,
    writer: Arc<File>,
    /// Where each blob's body starts.
    offsets: HashMap<Digest, u64>,
    awaited: Awaited,
}

impl ArchiveSink {
    /// The file at `path`, replaced when the pull is complete. The image is called `name`, else by its reference's tag.
    pub fn new(path: impl Into<PathBuf>, name: Option<String>) -> Self {
        Self { path: path.into(), name, open: None }
    }
}

#[async_trait]
impl Sink for ArchiveSink {
    fn describe(&self) -> String {
        format!("OCI archive {}", self.path.display())
    }

    async fn begin(&mut self, plan: &Plan) -> Result<(), SinkError> {
        let (path, name, plan) = (self.path.clone(), self.name.clone(), plan.clone());
        self.open = Some(blocking(move || prepare(&path, name.as_deref(), &plan)).await?);
        Ok(())
    }

    fn takes_again(&self) -> bool {
        true
    }

    async fn blob(&self, descriptor: &Descriptor, chunks: Chunks) -> Result<(), SinkError> {
        let Some(open) = &self.open else {
            return Err(SinkError::Unsupported("no plan was given".to_owned()));
        };
        let Some(offset) = open.offsets.get(&descriptor.digest).copied() else {
            return Err(SinkError::Unsupported(format!("{} is not part of the plan", descriptor.digest)));
        };
        let (file, what) = (Arc::clone(&open.writer), self.path.display().to_string());
        receive(descriptor, chunks, move |received| {
            let mut at = offset;
            let mut copy = || -> io::Result<()> {
                while let Some(chunk) = received.next_chunk()? {
                    file.write_all_at(&chunk, at)?;
                    at += chunk.len() as u64;
                }
                Ok(())
            };
            copy().map_err(|error| io_error(&what, error))
        })
        .await?;
        open.awaited.received(&descriptor.digest);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.awaited.none_left()?;
        blocking(move || {
            let publish = || -> io::Result<()> {
                open.file.as_file().sync_all()?;
                open.file.persist(&self.path).map_err(|error| error.error)?;
                sync_directory(&parent(&self.path))
            };
            publish().map_err(|error| io_error(&self.path.display().to_string(), error))
        })
        .await
    }

    /// The temporary file goes with its handle.
    async fn abort(self: Box<Self>) {}
}

/// Reserves the space and writes everything that is known already: headers, manifests, the index.
fn prepare(path: &Path, name: Option<&str>, plan: &Plan) -> Result<Open, SinkError> {
    let io = |error| io_error(&path.display().to_string(), error);
    let folder = parent(path);
    if path.is_dir() {
        return Err(SinkError::Unsupported(format!("{} is a directory; name a file in it", path.display())));
    }
    if !folder.is_dir() {
        return Err(SinkError::NotFound(format!("there is no directory {}", folder.display())));
    }
    let file = temporary(&folder).map_err(io)?;
    let writer = file.as_file();
    let mut at = 0;
    let put = |at: &mut u64, bytes: &[u8]| -> Result<(), SinkError> {
        writer.write_all_at(bytes, *at).map_err(io)?;
        *at += bytes.len() as u64;
        Ok(())
    };
    let put_file = |at: &mut u64, path: &str, bytes: &[u8]| -> Result<(), SinkError> {
        put(at, &tarball::file(path, bytes.len() as u64, false))?;
        put(at, bytes)?;
        *at += tarball::padding(bytes.len() as u64) as u64;
        Ok(())
    };
    put_file(&mut at, MARKER, MARKER_CONTENT)?;
    put_file(&mut at, INDEX, &Entry::new(plan, name).alone()?)?;
    put(&mut at, &tarball::directory("blobs"))?;
    let digests =
        plan.blobs.iter().map(|blob| &blob.digest).chain(plan.manifests.iter().map(|of| of.digest()));
    let mut algorithms: Vec<_> = digests.map(|digest| digest.algorithm().as_str()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    for algorithm in algorithms {
        put(&mut at, &tarball::directory(&format!("blobs/{algorithm}")))?;
    }
    let mut seen = HashSet::new();
    for manifest in &plan.manifests {
        if seen.insert(manifest.digest()) {
            put_file(&mut at, &layout::blob_path(manifest.digest()), manifest.bytes())?;
        }
    }
    let mut offsets = HashMap::new();
    for blob in &plan.blobs {
        if offsets.contains_key(&blob.digest) {
            continue;
        }
        put(&mut at, &tarball::file(&layout::blob_path(&blob.digest), blob.size, false))?;
        offsets.insert(blob.digest.clone(), at);
        at = at
            .checked_add(blob.size)
            .and_then(|at| at.checked_add(tarball::padding(blob.size) as u64))
            .filter(|at| i64::try_from(*at).is_ok())
            .ok_or_else(|| {
                SinkError::Unsupported("the blobs' sizes are more than a file can hold".to_owned())
            })?;
    }
    let length = at + tarball::END.len() as u64;
    match rustix::fs::fallocate(writer, rustix::fs::FallocateFlags::empty(), 0, length) {
        Err(error @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::FBIG)) => {
            return Err(io(error.into()));
        }
        // Not every file system can reserve space.
        Ok(()) | Err(_) => writer.set_len(length).map_err(io)?,
    }
    let writer = Arc::new(file.reopen().map_err(io)?);
    let awaited = Awaited::new(offsets.keys().cloned());
    Ok(Open { file, writer, offsets, awaited })
}
