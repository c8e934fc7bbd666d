//! A large blob that comes slowly: in several pieces at once, put together in order, so that who reads it sees one stream. What
//! limits a connection (latency, a server's idea of fairness) then limits a fraction of it; where a single stream is fast, it is
//! left alone, because pieces cost requests. Depends on `download`.
//!
//! Memory is bounded by the pieces under way, of all blobs of a pull together. Whatever is not right with the pieces (no ranges, another
//! ETag, another length) ends in a single stream from where it stood (case 66).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::try_unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::call::is_passing;
use super::download::{Download, Origin};
use super::progress::Event;
use super::{Client, ClientError};
use crate::blob::Chunks;
use crate::manifest::Descriptor;
use crate::name::Repository;

/// When a blob is fetched in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangePolicy {
    /// Less than this comes as one stream.
    pub least: u64,
    /// Bytes of a piece. The first one is what speed is judged by.
    pub piece: u64,
    /// Pieces at once besides the one that is being read, of all blobs together; each large blob that is under way takes one away.
    pub ahead: usize,
    /// Bytes a second; what comes faster goes on as one stream.
    pub fast: u64,
}

impl Default for RangePolicy {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self { least: 32 * MIB, piece: 4 * MIB, ahead: 4, fast: 64 * MIB }
    }
}

/// A policy and what the downloads of one pull share of it.
#[derive(Debug, Clone)]
pub struct Ranges {
    policy: RangePolicy,
    streams: Arc<Semaphore>,
}

impl Ranges {
    /// For one pull.
    pub fn new(policy: RangePolicy) -> Self {
        Self { policy, streams: Arc::new(Semaphore::new(policy.ahead + 1)) }
    }
}

impl Client {
    /// A blob from `start` on, in pieces where that helps. The first answer has been seen when this returns.
    pub async fn fetch_ranged(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        start: u64,
        ranges: &Ranges,
    ) -> Result<Chunks, ClientError> {
        let piece = ranges.policy.piece.max(1);
        if blob.size - start.min(blob.size) < ranges.policy.least.max(2 * piece) {
            return self.fetch_rest(repository, blob, start).await;
        }
        let mut first = Download::new(self, repository, blob, start..start + piece);
        match first.open().await {
            Ok(()) => {}
            // It does not do ranges well.
            Err(ClientError::Content { .. }) => return self.fetch_rest(repository, blob, start).await,
            Err(error) => return Err(error),
        }
        let own = Arc::clone(&ranges.streams).try_acquire_owned().ok();
        let state = Ranged {
            _own: own,
            client: self.clone(),
            repository: repository.clone(),
            blob: blob.clone(),
            ranges: ranges.clone(),
            position: start,
            waited: Duration::ZERO,
            origin: first.answered_by(),
            state: State::First(Box::new(first)),
        };
        Ok(try_unfold(state, async |mut ranged: Ranged| {
            let chunk = ranged.next().await.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (chunk, ranged)))
        })
        .boxed())
    }
}

struct Ranged {
    client: Client,
    repository: Repository,
    blob: Descriptor,
    ranges: Ranges,
    /// Bytes yielded.
    position: u64,
    /// How long the first piece was waited for: not how long whoever reads it took.
    waited: Duration,
    origin: Option<Origin>,
    state: State,
    /// That this blob is under way: several at once are parallel enough, and pieces would only cost round trips.
    _own: Option<OwnedSemaphorePermit>,
}

enum State {
    /// The first piece, by which speed is judged.
    First(Box<Download>),
    /// All the rest, as it comes.
    Single(Box<Download>),
    Pieces(Pieces),
}

/// Pieces under way, in order.
struct Pieces {
    origin: Arc<Origin>,
    queue: VecDeque<Piece>,
    /// Where the next piece begins.
    next: u64,
}

struct Piece {
    chunks: mpsc::UnboundedReceiver<Result<Bytes, ClientError>>,
    end: u64,
    permit: Option<OwnedSemaphorePermit>,
    /// Given up with the download.
    _task: AbortOnDropHandle<()>,
}

impl Ranged {
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let got = match &mut self.state {
                State::Single(rest) => match rest.next().await {
                    // Even the rest is not a part of the whole: all of it is asked for, and what is there passed over.
                    Err(ClientError::Content { .. }) if !rest.whole => {
                        rest.restart();
                        continue;
                    }
                    Ok(Some(chunk)) => {
                        self.position += chunk.len() as u64;
                        return Ok(Some(chunk));
                    }
                    got => return got,
                },
                State::First(first) => {
                    let started = Instant::now();
                    let got = first.next().await;
                    self.waited += started.elapsed();
                    match got {
                        Ok(None) if first.position < self.blob.size => {
                            self.judge();
                            continue;
                        }
                        got => got,
                    }
                }
                State::Pieces(_) => self.piece().await,
            };
            match got {
                Ok(Some(chunk)) => {
                    self.position += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) => return Ok(None),
                // It was tried as often as it will be.
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => {
                    let digest = &self.blob.digest;
                    tracing::debug!(target: "idp::ranges", %digest, %error, "not in pieces");
                    self.single();
                }
            }
        }
    }

    /// After the first piece: how does the rest come?
    fn judge(&mut self) {
        let policy = &self.ranges.policy;
        let speed = u128::from(policy.piece) * 1_000_000 / self.waited.as_micros().max(1);
        match self.origin.take() {
            Some(origin)
                if speed < u128::from(policy.fast) && self.ranges.streams.available_permits() >= 2 =>
            {
                tracing::debug!(target: "idp::ranges", digest = %self.blob.digest, speed, "in pieces");
                let origin = Arc::new(origin);
                self.state = State::Pieces(Pieces { origin, queue: VecDeque::new(), next: self.position });
            }
            _ => self.single(),
        }
    }

    fn single(&mut self) {
        let rest = Download::new(&self.client, &self.repository, &self.blob, self.position..self.blob.size);
        self.state = State::Single(Box::new(rest));
    }

    /// The next bytes of the piece that is first in order.
    async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            self.fill();
            let State::Pieces(pieces) = &mut self.state else { return Ok(None) };
            let Some(head) = pieces.queue.front_mut() else { return Ok(None) };
            // What the blob itself has is for the piece that is read.
            head.permit = None;
            match head.chunks.recv().await {
                Some(Ok(chunk)) => {
                    let position = self.position + chunk.len() as u64;
                    let digest = self.blob.digest.clone();
                    self.client.progress().event(Event::BlobAdvanced { digest, position });
                    return Ok(Some(chunk));
                }
                Some(Err(error)) => return Err(error),
                None if head.end == self.position => drop(pieces.queue.pop_front()),
                None => {
                    let what = format!("download of blob {}", self.blob.digest.short());
                    let problem = "a piece of it ended early".to_owned();
                    return Err(ClientError::Content { what, problem });
                }
            }
        }
    }

    /// Asks for more pieces, as many as may be under way.
    fn fill(&mut self) {
        let State::Pieces(pieces) = &mut self.state else { return };
        while pieces.next < self.blob.size {
            // The one that is read next is always under way.
            let permit = match pieces.queue.is_empty() {
                true => None,
                false => match Arc::clone(&self.ranges.streams).try_acquire_owned() {
                    Ok(permit) => Some(permit),
                    Err(_) => return,
                },
            };
            let end = self.blob.size.min(pieces.next + self.ranges.policy.piece);
            let mut piece = Download::new(&self.client, &self.repository, &self.blob, pieces.next..end);
            piece.origin = Some(Arc::clone(&pieces.origin));
            let (sender, chunks) = mpsc::unbounded_channel();
            let task = tokio::spawn(async move {
                loop {
                    let Some(chunk) = piece.next().await.transpose() else { return };
                    let failed = chunk.is_err();
                    if sender.send(chunk).is_err() || failed {
                        return;
                    }
                }
            });
            let task = AbortOnDropHandle::new(task);
            pieces.queue.push_back(Piece { chunks, end, permit, _task: task });
            pieces.next = end;
        }
    }
}
