//! Push: one source to one registry or to several. The source is read and compressed once; what it offers goes to a [`super::lane`]
//! for each destination, and the slowest sets the pace. A destination that fails does not end the others.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::PipelineError;
use super::lane::Lane;
use super::split::split;
use crate::client::{Client, ClientError, Outcome};
use crate::digest::Digest;
use crate::name::{Repository, Tag};
use crate::source::{Image, Offer, Selection, Source, SourceError};

/// What of the source is pushed, and how.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// What of the source is wanted.
    pub selection: Selection,
    /// Repositories of the same registry that may have the blobs.
    pub mount_from: Vec<Repository>,
    /// Large uploads at once; what the provider advises where it is not given.
    pub jobs: Option<usize>,
}

/// Where a push goes to.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Which registry, as whom. Progress goes to its.
    pub client: Client,
    /// Which repository.
    pub repository: Repository,
    /// Under which tags; by digest only when there is none.
    pub tags: Vec<Tag>,
    /// Repositories of the same registry that may have the blobs.
    pub mount_from: Vec<Repository>,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pushed {
    /// The digest of the root manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Manifests written, the root included.
    pub manifests: usize,
    /// Blobs whose bytes were sent.
    pub blobs_sent: usize,
    /// How many bytes these have.
    pub bytes_sent: u64,
    /// Blobs that the registry took from another repository.
    pub blobs_mounted: usize,
    /// Blobs that were there.
    pub blobs_existing: usize,
}

impl Default for Pushed {
    fn default() -> Self {
        Self {
            digest: Digest::of(b""),
            media_type: String::new(),
            manifests: 0,
            blobs_sent: 0,
            bytes_sent: 0,
            blobs_mounted: 0,
            blobs_existing: 0,
        }
    }
}

/// Pushes what a source holds, under every one of `tags`, or by digest only when there is none. Progress goes to the client's.
///
/// When `cancel` fires, this returns [`ClientError::Interrupted`] after the upload sessions were deleted (at most about 2 s).
pub async fn push(
    client: &Client,
    repository: &Repository,
    tags: &[Tag],
    source: Box<dyn Source>,
    options: &PushOptions,
    cancel: &CancellationToken,
) -> Result<Pushed, PipelineError> {
    let destination = Destination {
        client: client.clone(),
        repository: repository.clone(),
        tags: tags.to_vec(),
        mount_from: options.mount_from.clone(),
    };
    let pushed = push_all(vec![destination], source, &options.selection, options.jobs, cancel).await?;
    pushed.into_iter().next().unwrap_or_else(|| Err(ClientError::Interrupted.into()))
}

/// Pushes to several destinations, whose outcomes come in their order. The error outside of them is the source's.
pub async fn push_all(
    destinations: Vec<Destination>,
    source: Box<dyn Source>,
    selection: &Selection,
    jobs: Option<usize>,
    cancel: &CancellationToken,
) -> Result<Vec<Result<Pushed, PipelineError>>, PipelineError> {
    let source_name = source.describe();
    let opening = destinations.into_iter().map(|destination| Lane::open(destination, jobs, cancel));
    let lanes = join_all(opening).await;
    if lanes.iter().all(Result::is_err) {
        return Ok(lanes.into_iter().map(|lane| lane.map(|_| Pushed::default())).collect());
    }
    let (mut ways, mut images, mut running) = (Vec::new(), Vec::new(), Vec::new());
    for lane in lanes {
        let task = match lane {
            Err(error) => Err(error),
            Ok(lane) => {
                let (way, offers) = mpsc::channel(lane.width());
                let (sender, image) = oneshot::channel();
                ways.push(way);
                images.push(sender);
                Ok(tokio::spawn(Arc::new(lane).run(offers, image)))
            }
        };
        running.push(task);
    }
    let image = read(source, selection, ways, cancel).await;
    let image = image.and_then(|image| match image.manifests.is_empty() {
        true => Err(SourceError::Invalid("it holds no manifest".to_owned())),
        false => Ok(image),
    });
    if let Ok(image) = &image {
        for sender in images {
            // A lane that failed has nobody who waits.
            let _ = sender.send(image.clone());
        }
    } else {
        drop(images);
    }
    let mut outcomes = Vec::new();
    for task in running {
        outcomes.push(match task {
            Err(error) => Some(Err(error)),
            Ok(task) => outcome(task.await),
        });
    }
    match image {
        // The lanes that ended before all was read know why; the source only knows that nobody listens any more.
        Err(SourceError::Closed) | Ok(_) => {
            Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(gone)).collect())
        }
        Err(error) => match outcomes.into_iter().flatten().find_map(Result::err) {
            Some(first) if cancel.is_cancelled() => Err(first),
            _ => Err(PipelineError::Source { source_name, error }),
        },
    }
}

fn gone() -> Result<Pushed, PipelineError> {
    Err(ClientError::Interrupted.into())
}

/// A lane's outcome; `None` when it ended because the source did.
fn outcome(
    ended: Result<Result<Option<Pushed>, PipelineError>, tokio::task::JoinError>,
) -> Option<Result<Pushed, PipelineError>> {
    match ended {
        Ok(outcome) => outcome.transpose(),
        Err(error) => {
            let problem = format!("it ended unexpectedly: {error}");
            Some(Err(ClientError::Source { what: "push".to_owned(), problem }.into()))
        }
    }
}

/// Reads the source while the lanes take what it offers. A lane that has ended takes nothing more; when all have, reading ends.
async fn read(
    source: Box<dyn Source>,
    selection: &Selection,
    mut ways: Vec<mpsc::Sender<Offer>>,
    cancel: &CancellationToken,
) -> Result<Image, SourceError> {
    let (sender, mut receiver) = mpsc::channel(ways.len());
    let selection = selection.clone();
    let mut reading = tokio::spawn(async move { source.read(&selection, sender).await });
    while let Some(offer) = tokio::select! {
        offer = receiver.recv() => offer,
        () = cancel.cancelled() => None,
        () = closed(&ways) => None,
    } {
        let sends = ways.iter().zip(split(offer, ways.len())).map(|(way, offer)| way.send(offer));
        let sent: Vec<bool> = join_all(sends).await.iter().map(Result::is_ok).collect();
        let mut sent = sent.into_iter();
        ways.retain(|_| sent.next().unwrap_or(false));
        if ways.is_empty() {
            break;
        }
    }
    if cancel.is_cancelled() || ways.iter().all(mpsc::Sender::is_closed) {
        reading.abort();
        return Err(SourceError::Closed);
    }
    drop(ways);
    match (&mut reading).await {
        Ok(image) => image,
        Err(error) => Err(SourceError::Invalid(format!("reading it ended unexpectedly: {error}"))),
    }
}

/// Nobody takes offers any more.
async fn closed(ways: &[mpsc::Sender<Offer>]) {
    join_all(ways.iter().map(mpsc::Sender::closed)).await;
}

impl Pushed {
    pub(super) fn count(&mut self, size: u64, outcome: Outcome) {
        match outcome {
            Outcome::Sent => {
                self.blobs_sent += 1;
                self.bytes_sent += size;
            }
            Outcome::Mounted => self.blobs_mounted += 1,
            Outcome::Exists | Outcome::Skipped | Outcome::Received | Outcome::Cached => {
                self.blobs_existing += 1
            }
        }
    }
}
