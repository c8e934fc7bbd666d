//! Copy: from registry to registry, never through the disk. What is to be copied is a source like any other, whose blobs are read
//! from the registry that has them when somebody takes them, and from where a broken upload stands. Depends on the client and on push.

use std::collections::HashSet;

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::plan::{self, Place};
use super::{Destination, PipelineError, Pushed, Survey, push_all};
use crate::blob::Blob;
use crate::client::{Client, ClientError, Kind};
use crate::digest::Digest;
use crate::manifest::{Manifest, Platform};
use crate::name::{Repository, Target};
use crate::sink::Plan;
use crate::source::{Image, Offer, Selection, Source, SourceError};

/// Referrers of referrers: a signature of an SBOM of an image, and no further.
const DEEPEST: usize = 3;

/// Where a copy comes from.
#[derive(Debug, Clone)]
pub struct From {
    /// Which registry, as whom.
    pub client: Client,
    /// Which repository.
    pub repository: Repository,
    /// What of it.
    pub target: Target,
}

/// What is copied, and how.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// Of an index, only the image for this platform.
    pub platform: Option<Platform>,
    /// Large blobs at once; what the providers advise where it is not given.
    pub jobs: Option<usize>,
    /// What refers to it as well: signatures, SBOMs, provenance.
    pub referrers: bool,
}

/// Copies to every destination, whose outcomes come in their order. The error outside of them is the source's.
pub async fn copy(
    from: &From,
    destinations: Vec<Destination>,
    options: &CopyOptions,
    cancel: &CancellationToken,
) -> Result<Vec<Result<Pushed, PipelineError>>, PipelineError> {
    let planned = tokio::select! {
        planned = remote(from, options) => planned?,
        () = cancel.cancelled() => return Err(ClientError::Interrupted.into()),
    };
    let root = planned.plan.root().digest().clone();
    let others: Vec<Destination> = destinations.clone();
    let mut outcomes =
        push_all(destinations, Box::new(planned), &Selection::default(), options.jobs, cancel).await?;
    if options.referrers
        && let Err(error) = all_referrers(from, root, &others, options, &mut outcomes, cancel).await
    {
        fail_all(error, &mut outcomes);
    }
    Ok(outcomes)
}

/// Brings what refers to the image, and what refers to that.
async fn all_referrers(
    from: &From,
    root: Digest,
    destinations: &[Destination],
    options: &CopyOptions,
    outcomes: &mut [Result<Pushed, PipelineError>],
    cancel: &CancellationToken,
) -> Result<(), PipelineError> {
    let mut seen = HashSet::from([root.clone()]);
    let mut level = vec![root];
    for _ in 0..DEEPEST {
        let mut next = Vec::new();
        for subject in level {
            for digest in referrers(from, &subject).await? {
                if seen.insert(digest.clone()) {
                    next.push(digest);
                }
            }
        }
        for digest in &next {
            if outcomes.iter().all(Result::is_err) {
                return Ok(());
            }
            one_referrer(from, digest, destinations, options, outcomes, cancel).await?;
        }
        level = next;
    }
    Ok(())
}

/// The source failed after the image had arrived: every destination that has it lacks the rest.
fn fail_all(error: PipelineError, outcomes: &mut [Result<Pushed, PipelineError>]) {
    let again = |error: &PipelineError| match error {
        PipelineError::Client(error) => error.clone(),
        other => ClientError::Content { what: "referrers".to_owned(), problem: other.to_string() },
    };
    let mut alive = outcomes.iter_mut().filter(|outcome| outcome.is_ok());
    let Some(first) = alive.next() else { return };
    for outcome in alive {
        *outcome = Err(again(&error).into());
    }
    *first = Err(error);
}

/// What a copy would bring, referrers aside.
pub async fn survey(from: &From, options: &CopyOptions) -> Result<Survey, PipelineError> {
    Survey::of(Box::new(remote(from, options).await?), &Selection::default()).await
}

/// Brings one referrer to every destination that has the rest, by its digest.
async fn one_referrer(
    from: &From,
    digest: &Digest,
    destinations: &[Destination],
    options: &CopyOptions,
    outcomes: &mut [Result<Pushed, PipelineError>],
    cancel: &CancellationToken,
) -> Result<(), PipelineError> {
    let here = From { target: Target::Digest(digest.clone()), ..from.clone() };
    let options = CopyOptions { platform: None, ..options.clone() };
    let planned = remote(&here, &options).await?;
    let alive: Vec<usize> = (0..outcomes.len()).filter(|index| outcomes[*index].is_ok()).collect();
    let to =
        alive.iter().map(|index| Destination { tags: Vec::new(), ..destinations[*index].clone() }).collect();
    let pushed = push_all(to, Box::new(planned), &Selection::default(), options.jobs, cancel).await?;
    for (index, pushed) in alive.into_iter().zip(pushed) {
        match (pushed, &mut outcomes[index]) {
            (Ok(more), Ok(all)) => all.add(&more),
            (Err(error), outcome) => *outcome = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
    Ok(())
}

async fn referrers(from: &From, subject: &Digest) -> Result<Vec<Digest>, PipelineError> {
    let found = match from.client.referrers(&from.repository, subject).await {
        Ok(found) => found,
        Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let digest = |entry: &serde_json::Value| entry.get("digest")?.as_str()?.parse().ok();
    Ok(found.manifests.iter().filter_map(digest).collect())
}

/// What is to be copied, with its blobs where they are.
async fn remote(from: &From, options: &CopyOptions) -> Result<Remote, PipelineError> {
    let From { client, repository, target } = from;
    let jobs = match options.jobs {
        Some(jobs) => jobs,
        None => client.hints(repository).await.parallel_downloads,
    };
    let place = Place { client, repository, cache: None };
    let plan = plan::of(place, target, options.platform.as_ref(), jobs.max(1)).await?;
    Ok(Remote { client: client.clone(), repository: repository.clone(), plan })
}

/// The content of a repository as a source.
struct Remote {
    client: Client,
    repository: Repository,
    plan: Plan,
}

#[async_trait]
impl Source for Remote {
    fn describe(&self) -> String {
        format!("{}/{}", self.client.registry(), self.repository)
    }

    async fn read(
        self: Box<Self>,
        _selection: &Selection,
        offers: mpsc::Sender<Offer>,
    ) -> Result<Image, SourceError> {
        let Self { client, repository, plan } = *self;
        let manifests: Vec<Manifest> = plan.manifests;
        offers.send(Offer::Manifests(manifests.clone())).await.map_err(|_| SourceError::Closed)?;
        let mut blobs = plan.blobs;
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        for descriptor in blobs {
            let (client, repository) = (client.clone(), repository.clone());
            let of = descriptor.clone();
            let blob = Blob::from_opener(descriptor, move |start| {
                let (client, repository, of) = (client.clone(), repository.clone(), of.clone());
                let opening = async move {
                    client.fetch_rest(&repository, &of, start).await.map_err(std::io::Error::other)
                };
                stream::once(opening).try_flatten().boxed()
            });
            offers.send(blob.into()).await.map_err(|_| SourceError::Closed)?;
        }
        Ok(Image { manifests, name: None })
    }
}
