//! Pull: the manifests first, so that the sink knows what will come; then the blobs, as many at once as both sides take. The sink
//! checks every byte while it writes, and shows nothing before all of it is there.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{PipelineError, plan};
use crate::client::{Client, ClientError, Event, Outcome, Verify};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Platform};
use crate::name::{Reference, Repository, Target};
use crate::sink::{Sink, SinkError};

/// What is pulled, and how.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Of an index, only the image for this platform; all of it where none is given.
    pub platform: Option<Platform>,
    /// Downloads at once; what the provider advises where it is not given.
    pub jobs: Option<usize>,
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
    /// How many bytes these have.
    pub bytes_received: u64,
    /// Blobs that the sink had.
    pub blobs_existing: usize,
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
    let planning = plan::of(client, repository, target, options.platform.as_ref(), jobs.max(1));
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
        blobs_existing: 0,
    };
    if let Err(error) = sink.begin(&plan).await {
        sink.abort().await;
        return Err(in_sink(error));
    }
    let jobs = jobs.min(sink.concurrency()).max(1);
    let sink = Arc::new(sink);
    let outcome = blobs(client, repository, &plan.blobs, &sink, jobs, cancel, &mut pulled).await;
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

async fn blobs(
    client: &Client,
    repository: &Repository,
    blobs: &[Descriptor],
    sink: &Arc<Box<dyn Sink>>,
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
            let (client, repository) = (client.clone(), repository.clone());
            let (sink, blob) = (Arc::clone(sink), blob.clone());
            downloads.spawn(async move { one(&client, &repository, &blob, &**sink).await });
        }
        tokio::select! {
            () = cancel.cancelled() => break Some(ClientError::Interrupted.into()),
            done = downloads.join_next() => match done {
                None => break None,
                Some(Ok(Ok((size, Outcome::Received)))) => {
                    pulled.blobs_received += 1;
                    pulled.bytes_received += size;
                }
                Some(Ok(Ok(_))) => pulled.blobs_existing += 1,
                Some(Ok(Err(error))) => break Some(error),
                Some(Err(error)) => {
                    let problem = format!("it ended unexpectedly: {error}");
                    break Some(ClientError::Content { what: "download".to_owned(), problem }.into());
                }
            },
        }
    };
    downloads.shutdown().await;
    failed.map_or(Ok(()), Err)
}

/// One blob. When the sink finds that the bytes are not what they should be, they are asked for once more.
async fn one(
    client: &Client,
    repository: &Repository,
    blob: &Descriptor,
    sink: &dyn Sink,
) -> Result<(u64, Outcome), PipelineError> {
    let (digest, size) = (blob.digest.clone(), blob.size);
    let progress = client.progress();
    progress.event(Event::BlobStarted { digest: digest.clone(), size });
    let mut outcome = Outcome::Skipped;
    if !sink.has(blob).await {
        outcome = Outcome::Received;
        let mut tries = 2;
        loop {
            tries -= 1;
            let chunks = client.fetch_blob(repository, blob, Verify::Reader).await?;
            match sink.blob(blob, chunks).await {
                Ok(()) => break,
                Err(SinkError::Corrupt(cause)) if tries > 0 => {
                    let what = format!("download of blob {}", digest.short());
                    progress.event(Event::Retrying { what, after_ms: 0, cause, attempt: 2, attempts: 2 });
                }
                Err(error) => return Err(sink_error(&sink.describe(), error)),
            }
        }
    }
    progress.event(Event::BlobFinished { digest, size, outcome });
    Ok((size, outcome))
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
