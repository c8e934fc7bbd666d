//! A blob on its way into the bucket: in memory up to one part, and in parts while it comes if it is larger.

use std::mem;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use object_store::PutPayload;
use object_store::multipart::PartId;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::keys::Content;
use super::{BucketStore, fresh, keys};
use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::Repository;
use crate::store::upload::UploadId;
use crate::store::{OCTETS, Staged, StoreError};

/// What S3 takes of one object.
const MOST_PARTS: usize = 10_000;

/// An upload that is so near to being swept is not published any more: far longer than the one request may take that does it.
const MARGIN: Duration = Duration::from_secs(30 * 60);

/// What the sweeper must know of parts under way, in `uploads/<id>`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The service's name for the upload in parts.
    pub(super) parts: String,
}

#[derive(Debug)]
pub(super) struct StagedObject {
    store: BucketStore,
    id: UploadId,
    started: (Instant, SystemTime),
    /// Locked for `read_back` only, which has to finish the parts first.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is not yet in a part.
    held: Vec<Bytes>,
    held_bytes: usize,
    size: u64,
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    upload: String,
    /// How many were begun.
    begun: usize,
    under_way: JoinSet<Result<(usize, PartId), StoreError>>,
    arrived: Vec<(usize, PartId)>,
    /// They are an object now.
    complete: bool,
}

impl StagedObject {
    pub(super) fn new(store: BucketStore) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            id: fresh()?,
            started: (Instant::now(), SystemTime::now()),
            state: Mutex::default(),
        })
    }

    fn content(&self, state: &State) -> Content {
        Content { id: self.id, large: state.parts.is_some() }
    }

    fn part_bytes(&self) -> usize {
        usize::try_from(self.store.settings().part_bytes).unwrap_or(usize::MAX)
    }

    /// Sends the first `length` bytes of what is held as a part; waits while enough are under way.
    async fn send(&self, state: &mut State, length: usize) -> Result<(), StoreError> {
        let bucket = self.store.bucket();
        let key = keys::large(self.id);
        let parts = match &mut state.parts {
            Some(parts) => parts,
            None => {
                let upload = bucket.begin_parts(&key).await?;
                let record =
                    serde_json::to_vec(&Record { parts: upload.clone() }).map_err(std::io::Error::from)?;
                // From here on it is swept, if nothing becomes of it.
                if let Err(error) = bucket.put(&keys::upload(self.id), Bytes::from(record)).await {
                    let _ = bucket.abort_parts(&key, &upload).await;
                    return Err(error);
                }
                let under_way = JoinSet::new();
                let arrived = Vec::new();
                state.parts.insert(Parts { upload, begun: 0, under_way, arrived, complete: false })
            }
        };
        if parts.begun >= MOST_PARTS {
            let why = format!(
                "the blob has more than {MOST_PARTS} parts of {} bytes; raise `partBytes`",
                self.store.settings().part_bytes
            );
            return Err(StoreError::Object { object: key, why });
        }
        while parts.under_way.len() >= self.store.settings().parallel_parts {
            parts.arrive().await?;
        }
        let payload: PutPayload = cut(&mut state.held, length).into_iter().collect();
        state.held_bytes -= length;
        let (bucket, upload, index) = (bucket.clone(), parts.upload.clone(), parts.begun);
        parts.begun += 1;
        parts.under_way.spawn(async move {
            let part = bucket.put_part(&key, &upload, index, payload).await?;
            Ok((index, part))
        });
        Ok(())
    }

    /// Makes the parts an object; of a small blob there is nothing to do.
    async fn complete(&self, state: &mut State) -> Result<(), StoreError> {
        if state.parts.is_none() {
            return Ok(());
        }
        if state.held_bytes > 0 {
            let rest = state.held_bytes;
            self.send(state, rest).await?;
        }
        let Some(parts) = state.parts.as_mut().filter(|parts| !parts.complete) else { return Ok(()) };
        while !parts.under_way.is_empty() {
            parts.arrive().await?;
        }
        parts.arrived.sort_unstable_by_key(|(index, _)| *index);
        let arrived = mem::take(&mut parts.arrived).into_iter().map(|(_, part)| part).collect();
        self.store.bucket().complete_parts(&keys::large(self.id), &parts.upload, arrived).await?;
        parts.complete = true;
        Ok(())
    }

    /// Writes what a reader needs to find the bytes by their digest, and the bytes themselves if they are few.
    async fn publish(&self, state: &mut State, digest: &Digest) -> Result<Content, StoreError> {
        self.complete(state).await?;
        let content = self.content(state);
        let key = keys::content(digest, content);
        let bucket = self.store.bucket();
        if content.large {
            if self.age() + MARGIN > Duration::from_secs(self.store.settings().upload_seconds) {
                return Err(self.too_late());
            }
            // As soon as the entry is there others may use the bytes: whatever comes next, they are not ours to delete.
            state.parts = None;
            bucket.put(&key, Bytes::from(state.size.to_string())).await?;
        } else {
            bucket.put(&key, mem::take(&mut state.held).into_iter().collect::<PutPayload>()).await?;
        }
        Ok(content)
    }

    /// By whichever clock went further: one of them stands still while the machine sleeps.
    fn age(&self) -> Duration {
        self.started.0.elapsed().max(self.started.1.elapsed().unwrap_or_default())
    }

    fn too_late(&self) -> StoreError {
        let why = "the upload took so long that it is being swept; push again, or raise `uploadSeconds`";
        StoreError::Object { object: keys::upload(self.id), why: why.to_owned() }
    }
}

impl Parts {
    /// Waits for one of the parts under way.
    async fn arrive(&mut self) -> Result<(), StoreError> {
        if let Some(arrived) = self.under_way.join_next().await {
            self.arrived.push(arrived.map_err(std::io::Error::other)??);
        }
        Ok(())
    }
}

/// Takes the first `length` bytes away from chunks, without copying them.
fn cut(held: &mut Vec<Bytes>, length: usize) -> Vec<Bytes> {
    let mut left = length;
    let mut taken = Vec::new();
    let mut rest = Vec::new();
    for mut chunk in mem::take(held) {
        if left >= chunk.len() {
            left -= chunk.len();
            taken.push(chunk);
        } else {
            if left > 0 {
                taken.push(chunk.split_to(left));
                left = 0;
            }
            rest.push(chunk);
        }
    }
    *held = rest;
    taken
}

#[async_trait]
impl Staged for StagedObject {
    async fn append(&mut self, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let part = self.part_bytes();
        let mut state = mem::take(self.state.get_mut());
        let added: usize = chunks.iter().map(Bytes::len).sum();
        state.size += added as u64;
        state.held_bytes += added;
        state.held.extend(chunks);
        let mut sent = Ok(());
        // A blob of exactly one part is a small one still.
        while sent.is_ok() && state.held_bytes > part {
            sent = self.send(&mut state, part).await;
        }
        *self.state.get_mut() = state;
        sent
    }

    async fn read_back(&self) -> Result<Blob, StoreError> {
        let mut state = self.state.lock().await;
        if state.parts.is_none() {
            let mut whole = BytesMut::with_capacity(state.held_bytes);
            state.held.iter().for_each(|chunk| whole.extend_from_slice(chunk));
            return Ok(Blob::from_bytes(OCTETS, whole.freeze()));
        }
        self.complete(&mut state).await?;
        let (bucket, key, size) = (self.store.bucket().clone(), keys::large(self.id), state.size);
        // What it is called is what the reader wants to find out.
        let descriptor = Descriptor::new(OCTETS, Digest::of(b""), size);
        Ok(Blob::from_opener(descriptor, move |start| bucket.read(key.clone(), start, size)))
    }

    async fn commit(self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let store = &self.store;
        let mut state = self.state.lock().await;
        store.know(repository, false).await?;
        for content in store.contents(digest).await? {
            if store.claim(repository, digest, content, state.size).await?.is_some() {
                // What came in parts is not needed, and goes with `self`.
                return Ok(());
            }
        }
        let content = self.publish(&mut state, digest).await?;
        if store.claim(repository, digest, content, state.size).await?.is_none() {
            return Err(self.too_late());
        }
        if content.large {
            store.bucket().delete(&keys::upload(self.id)).await?;
        }
        Ok(())
    }
}

impl Drop for StagedObject {
    /// What came in parts and became no blob is forgotten, as well as that goes: the sweeper sees to the rest.
    fn drop(&mut self) {
        let Some(mut parts) = self.state.get_mut().parts.take() else { return };
        parts.under_way.abort_all();
        let (bucket, id) = (self.store.bucket().clone(), self.id);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let key = keys::large(id);
            let gone = if parts.complete {
                bucket.delete(&key).await
            } else {
                bucket.abort_parts(&key, &parts.upload).await
            };
            if gone.is_ok() {
                let _ = bucket.delete(&keys::upload(id)).await;
            }
        });
    }
}
