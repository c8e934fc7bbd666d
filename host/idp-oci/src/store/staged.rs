//! Bytes of a blob on their way into a store on disk: in memory while they are few, then in a file without its name.
//!
//! May use the store's files and rows. In: verified bytes. Out: a file in its place, and then the row that names it.

use std::io::{self, Write as _};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::Repository;
use crate::store::disk::{self, Disk};
use crate::store::durable::Pending;
use crate::store::fs::blocking;
use crate::store::policy::Policy;
use crate::store::rows::table::Usage;
use crate::store::rows::{Fault, Tables};
use crate::store::{OCTETS, Staged, StoreError};

/// A blob that is not larger stays in memory: it becomes a file when it is complete.
const SMALL: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct StagedContent {
    disk: Arc<Disk>,
    /// Lent to the thread that writes; gone after a failure.
    place: Option<Place>,
    size: u64,
}

/// Where the bytes of a blob are that has no name yet.
#[derive(Debug)]
enum Place {
    Memory(Bytes),
    File(Pending),
}

impl Place {
    fn into_file(self, disk: &Disk) -> io::Result<Pending> {
        match self {
            Self::File(pending) => Ok(pending),
            Self::Memory(bytes) => {
                let pending = disk.content.pending()?;
                pending.file().write_all(&bytes)?;
                Ok(pending)
            }
        }
    }
}

impl StagedContent {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        Self { disk, place: Some(Place::Memory(Bytes::new())), size: 0 }
    }

    fn lost() -> StoreError {
        StoreError::Io(io::Error::other("an earlier write of this upload failed"))
    }
}

#[async_trait]
impl Staged for StagedContent {
    async fn append(&mut self, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let place = self.place.take().ok_or_else(Self::lost)?;
        let more: usize = chunks.iter().map(Bytes::len).sum();
        let place = match place {
            Place::Memory(bytes) if bytes.len() + more <= SMALL => {
                // Copied, so that no larger buffer of a connection is held for it.
                Place::Memory(std::iter::once(bytes).chain(chunks).collect::<Vec<_>>().concat().into())
            }
            place => {
                let disk = Arc::clone(&self.disk);
                let pending = blocking(move || {
                    let pending = place.into_file(&disk)?;
                    for chunk in chunks {
                        pending.file().write_all(&chunk)?;
                    }
                    Ok(pending)
                });
                Place::File(pending.await?)
            }
        };
        self.place = Some(place);
        self.size += more as u64;
        Ok(())
    }

    async fn read_back(&self) -> Result<Blob, StoreError> {
        // The digest is what the caller wants to learn; nothing looks at this one.
        let descriptor = Descriptor::new(OCTETS, Digest::of(b""), self.size);
        match self.place.as_ref().ok_or_else(Self::lost)? {
            Place::Memory(bytes) => Ok(Blob::from_known(descriptor, bytes.clone())),
            Place::File(pending) => Ok(Blob::from_file(descriptor, Arc::new(pending.file().try_clone()?), 0)),
        }
    }

    async fn commit(mut self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let place = self.place.take().ok_or_else(Self::lost)?;
        let size = self.size;
        let coming = {
            let (disk, digest) = (Arc::clone(&self.disk), digest.clone());
            blocking(move || {
                let coming = disk.content.coming(&digest);
                // The same bytes once more need not be written: they were verified on their way here, too.
                let kept = disk.rows.read(|rows| rows.content(&digest))? == Some(size)
                    && disk.content.size(&digest)? == Some(size);
                if !kept {
                    disk.content.place(&coming, place.into_file(&disk)?)?;
                }
                Ok(coming)
            })
            .await?
        };
        let (repository, digest) = (repository.clone(), digest.clone());
        let policy = Arc::clone(&self.disk.policy);
        let brought = digest.clone();
        let linked = self.disk.rows.add(move |tables| {
            admit_blob(tables, &policy, repository.as_str(), &digest, size)?;
            tables.link_blob(repository.as_str(), &digest, size, disk::now())?;
            // Comes back with the answer: whether or not the client is still there, it is held until this is committed.
            Ok(coming)
        });
        let linked = linked.await;
        if linked.is_err() {
            // Refused: nobody needs the file, unless others do.
            let disk = Arc::clone(&self.disk);
            let _ = blocking(move || disk.drop_content(&brought)).await;
        }
        linked.map(drop)
    }
}

/// Whether a blob fits in; one that is there already needs no more room.
pub(crate) fn admit_blob(
    tables: &Tables<'_>,
    policy: &Policy,
    repository: &str,
    digest: &Digest,
    size: u64,
) -> Result<(), Fault> {
    if tables.has_blob(repository, digest)? {
        return Ok(());
    }
    let more = Usage { blobs: 1, bytes: size, ..Usage::default() };
    policy.admit(repository, more, |scope| tables.usage_of(scope))
}
