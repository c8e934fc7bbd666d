//! Pull: the manifests first, so that the sink knows what will come; then the blobs, as many at once as both sides take. The sink
//! checks every byte while it writes, and shows nothing before all of it is there.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::PipelineError;
use super::plan::{self, Place};
use crate::blob::Chunks;
use crate::cache::{Cache, Filling, Writer};
use crate::client::{Client, ClientError, Event, Outcome, RangePolicy, Ranges};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Platform};
use crate::name::{Reference, Repository, Tag, Target};
use crate::partial::Partial;
use crate::sink::{Have, Sink, SinkError};

/// What is pulled, and how.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Of an index, only the image for this platform; all of it where none is given.
    pub platform: Option<Platform>,
    /// Downloads at once; what the provider advises where it is not given.
    pub jobs: Option<usize>,
    /// Asked before the registry, and given what comes.
    pub cache: Option<Arc<Cache>>,
    /// When large blobs are fetched in pieces.
    pub ranges: RangePolicy,
    /// What the sink calls a manifest that is asked for by its digest.
    pub tag: Option<Tag>,
}

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pulled {
    /// The digest of what the sink has now: the root, or the image for the platform.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Manifests.
    pub manifests: usize,
    /// Blobs whose bytes came.
    pub blobs_received: usize,
    /// How many bytes the registry sent of these; an earlier pull may have left the start of some.
    pub bytes_received: u64,
    /// Blobs that the content cache had.
    pub blobs_cached: usize,
    /// Blobs that the sink had.
    pub blobs_existing: usize,
}

impl Pulled {
    fn count(&mut self, bytes: u64, outcome: Outcome) {
        let count = match outcome {
            Outcome::Received => &mut self.blobs_received,
            Outcome::Cached => &mut self.blobs_cached,
            _ => &mut self.blobs_existing,
        };
        *count += 1;
        self.bytes_received += bytes;
    }
}

/// Pulls to a sink. Progress goes to the client's. When `cancel` fires or something fails, the sink is told to give up.
pub async fn pull(
    client: &Client,
    repository: &Repository,
    target: &Target,
    mut sink: Box<dyn Sink>,
    options: &PullOptions,
    cancel: &CancellationToken,
) -> Result<Pulled, PipelineError> {
    let sink_name = sink.describe();
    let in_sink = |error: SinkError| sink_error(&sink_name, error);
    let jobs = match options.jobs {
        Some(jobs) => jobs,
        None => client.hints(repository).await.parallel_downloads,
    };
    let place = Place { client, repository, cache: options.cache.as_ref() };
    let planning = plan::of(place, target, options.platform.as_ref(), jobs.max(1));
    let planned = tokio::select! {
        plan = planning => plan,
        () = cancel.cancelled() => Err(ClientError::Interrupted.into()),
    };
    let mut plan = match planned {
        Ok(plan) => plan,
        Err(error) => {
            sink.abort().await;
            return Err(error);
        }
    };
    let (tag, digest) = match target {
        Target::Tag(tag) => (Some(tag.clone()), None),
        Target::Digest(_) if options.tag.is_some() => (options.tag.clone(), None),
        Target::Digest(digest) => (None, Some(digest.clone())),
    };
    let registry = client.registry().clone();
    plan.reference = Some(Reference { registry, repository: repository.clone(), tag, digest });
    let root = plan.root().descriptor();
    let mut pulled = Pulled {
        digest: root.digest.clone(),
        media_type: root.media_type.clone(),
        manifests: plan.manifests.len(),
        blobs_received: 0,
        bytes_received: 0,
        blobs_cached: 0,
        blobs_existing: 0,
    };
    if let Err(error) = sink.begin(&plan).await {
        sink.abort().await;
        return Err(in_sink(error));
    }
    let jobs = jobs.min(sink.concurrency()).max(1);
    let sink = Arc::new(sink);
    let cache = options.cache.clone();
    let pull = Pull {
        client: client.clone(),
        repository: repository.clone(),
        sink: Arc::clone(&sink),
        cache,
        ranges: Ranges::new(options.ranges),
    };
    let outcome = blobs(pull, &plan.blobs, jobs, cancel, &mut pulled).await;
    let sink = Arc::into_inner(sink).expect("the tasks that shared it have ended");
    match outcome {
        Ok(()) if cancel.is_cancelled() => {
            sink.abort().await;
            Err(ClientError::Interrupted.into())
        }
        Ok(()) => sink.finish().await.map(|()| pulled).map_err(in_sink),
        Err(error) => {
            sink.abort().await;
            Err(error)
        }
    }
}

/// What every download needs.
#[derive(Clone)]
struct Pull {
    client: Client,
    repository: Repository,
    sink: Arc<Box<dyn Sink>>,
    cache: Option<Arc<Cache>>,
    ranges: Ranges,
}

async fn blobs(
    pull: Pull,
    blobs: &[Descriptor],
    jobs: usize,
    cancel: &CancellationToken,
    pulled: &mut Pulled,
) -> Result<(), PipelineError> {
    let mut downloads = JoinSet::new();
    let mut waiting = blobs.iter();
    let failed = loop {
        while downloads.len() < jobs
            && let Some(blob) = waiting.next()
        {
            let (pull, blob) = (pull.clone(), blob.clone());
            downloads.spawn(async move { pull.one(&blob).await });
        }
        tokio::select! {
            () = cancel.cancelled() => break Some(ClientError::Interrupted.into()),
            done = downloads.join_next() => match done {
                None => break None,
                Some(Ok(Ok((asked, outcome)))) => pulled.count(asked, outcome),
                Some(Ok(Err(error))) => break Some(error),
                Some(Err(error)) => {
                    let problem = format!("it ended unexpectedly: {error}");
                    break Some(ClientError::Content { what: "download".to_owned(), problem }.into());
                }
            },
        }
    };
    downloads.shutdown().await;
    if let Some(cache) = pull.cache {
        let _ = tokio::task::spawn_blocking(move || cache.settle()).await;
    }
    failed.map_or(Ok(()), Err)
}

/// Where the bytes of a blob come from.
struct Way {
    chunks: Chunks,
    outcome: Outcome,
    /// How many of them the registry has to send.
    asked: u64,
    /// What puts them into the cache as well.
    filling: Option<Filling>,
    /// An earlier pull left the start.
    resumed: bool,
}

impl Pull {
    /// One blob. When the sink finds that the bytes are not what they should be, the registry is asked once more; what the cache or
    /// an earlier pull had is not counted as a try, and not used a second time.
    async fn one(&self, blob: &Descriptor) -> Result<(u64, Outcome), PipelineError> {
        let (digest, size) = (blob.digest.clone(), blob.size);
        let progress = self.client.progress();
        progress.event(Event::BlobStarted { digest: digest.clone(), size });
        let (mut tries, mut doubted) = (2, false);
        let (asked, outcome) = loop {
            let part = match self.sink.have(blob).await {
                Have::All => break (0, Outcome::Skipped),
                Have::Part(part) => Some(part),
                Have::Nothing => None,
            };
            let way = self.way(blob, part.as_ref().map_or(0, Partial::position), doubted).await?;
            let given = match part {
                Some(part) => self.sink.rest(blob, part, way.chunks).await,
                None => self.sink.blob(blob, way.chunks).await,
            };
            let error = match given {
                Ok(()) => {
                    if let Some((cache, filling)) = self.cache.as_ref().zip(way.filling) {
                        filling.commit(cache).await;
                    }
                    break (way.asked, way.outcome);
                }
                Err(error) => error,
            };
            let corrupt = matches!(error, SinkError::Corrupt(_));
            if let (Some(cache), true) = (&self.cache, corrupt) {
                match way.filling {
                    Some(filling) => filling.discard(cache).await,
                    None => self.forget(blob).await,
                }
            }
            let unreadable = is_unreadable(&error);
            let ours = way.outcome == Outcome::Cached || way.resumed;
            if ours && !doubted && (corrupt || unreadable) && self.sink.takes_again() {
                doubted = true;
                tracing::debug!(target: "idp::cache", %digest, %error, "what was kept is not used");
                continue;
            }
            tries -= 1;
            if !corrupt || tries == 0 || !self.sink.takes_again() {
                return Err(sink_error(&self.sink.describe(), error));
            }
            let (what, cause) = (format!("download of blob {}", digest.short()), error.to_string());
            progress.event(Event::Retrying { what, after_ms: 0, cause, attempt: 2, attempts: 2 });
        };
        progress.event(Event::BlobFinished { digest, size, outcome });
        Ok((asked, outcome))
    }

    /// From the cache, where it has the blob; else the registry, from where the cache or the sink, which has the blob up to
    /// `start`, was left.
    async fn way(&self, blob: &Descriptor, start: u64, doubted: bool) -> Result<Way, ClientError> {
        let mut writer = None;
        if let Some(cache) = &self.cache {
            let (cache, blob) = (Arc::clone(cache), blob.clone());
            let (careful, cached) = (!self.sink.takes_again(), !doubted);
            let look = move || {
                let found = match (cached, careful) {
                    (false, _) => None,
                    (true, true) => cache.get_verified(&blob),
                    (true, false) => cache.get(&blob),
                };
                let mut writer = if found.is_none() { cache.writer(&blob) } else { None };
                // What is not whole is not verified.
                if let (true, Some(writer)) = (careful || !cached, &mut writer) {
                    writer.restart();
                }
                (found, writer)
            };
            let (found, place) = tokio::task::spawn_blocking(look).await.unwrap_or_default();
            if let Some(found) = found {
                let chunks = unreadable(found.read_from(start));
                return Ok(Way {
                    chunks,
                    outcome: Outcome::Cached,
                    asked: 0,
                    filling: None,
                    resumed: start > 0,
                });
            }
            // It cannot write what lies between.
            writer = place.filter(|writer| writer.position() >= start);
        }
        let from = writer.as_ref().map_or(start, Writer::position).min(blob.size);
        let rest = if from < blob.size || blob.size == 0 {
            self.client.fetch_ranged(&self.repository, blob, from, &self.ranges).await?
        } else {
            futures_util::stream::empty().boxed()
        };
        let resumed = from > 0;
        let (asked, outcome) = (blob.size - from, Outcome::Received);
        let Some(writer) = writer else {
            return Ok(Way { chunks: rest, outcome, asked, filling: None, resumed });
        };
        let kept = (from > start).then(|| unreadable(writer.kept(start)));
        let (chunks, filling) = writer.tee(rest);
        let chunks = match kept {
            Some(kept) => kept.chain(chunks).boxed(),
            None => chunks,
        };
        Ok(Way { chunks, outcome, asked, filling: Some(filling), resumed })
    }

    async fn forget(&self, blob: &Descriptor) {
        if let Some(cache) = &self.cache {
            let (cache, blob) = (Arc::clone(cache), blob.clone());
            let _ = tokio::task::spawn_blocking(move || cache.forget(&blob)).await;
        }
    }
}
/// The client's own error when the stream of a blob broke, and the sink's otherwise.
fn sink_error(sink_name: &str, error: SinkError) -> PipelineError {
    if let SinkError::Io { error: io, .. } = &error
        && let Some(client) = io.get_ref().and_then(|inner| inner.downcast_ref::<ClientError>())
    {
        return client.clone().into();
    }
    PipelineError::Sink { sink_name: sink_name.to_owned(), error }
}

/// What was kept here, and cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("what was kept cannot be read: {0}")]
struct Unreadable(io::Error);

/// Chunks of our own, so that their failures are told from the registry's.
fn unreadable(chunks: Chunks) -> Chunks {
    chunks.map(|chunk| chunk.map_err(|error| io::Error::other(Unreadable(error)))).boxed()
}

fn is_unreadable(error: &SinkError) -> bool {
    matches!(error, SinkError::Io { error, .. } if error.get_ref().is_some_and(|inner| inner.is::<Unreadable>()))
}
