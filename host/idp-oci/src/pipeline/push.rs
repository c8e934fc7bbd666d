//! Push: blobs as the source reads them, several at once and each once, then the manifests, children first and tags last. Whatever
//! goes wrong: upload sessions are deleted, and no manifest is written that names what is not there.

use std::collections::{HashMap, HashSet};

use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{PipelineError, missing};
use crate::blob::Blob;
use crate::client::{Client, ClientError, Event, Outcome};
use crate::digest::Digest;
use crate::manifest::{Manifest, Shape};
use crate::media;
use crate::name::{Repository, Tag, Target};
use crate::source::{Image, Selection, Source, SourceError};

/// What of the source is pushed, and how.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// What of the source is wanted.
    pub selection: Selection,
    /// Repositories of the same registry that may have the blobs.
    pub mount_from: Vec<Repository>,
    /// Uploads at once; what the provider advises where it is not given.
    pub jobs: Option<usize>,
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
    tokio::select! {
        ensured = client.ensure(repository, None) => ensured?,
        () = cancel.cancelled() => return Err(ClientError::Interrupted.into()),
    };
    let jobs = match options.jobs {
        Some(jobs) => jobs,
        None => client.hints(repository).await.parallel_uploads,
    };
    let push = Push {
        client: client.clone(),
        repository: repository.clone(),
        mount_from: options.mount_from.clone(),
        stop: cancel.child_token(),
        ensured: OnceCell::new(),
    };
    let push = std::sync::Arc::new(push);
    let (image, blobs, mut pushed) = push.blobs(source, &options.selection, jobs.max(1)).await?;
    let writing = push.manifests(&image, tags, &blobs, &mut pushed);
    tokio::select! {
        written = writing => written?,
        () = cancel.cancelled() => return Err(ClientError::Interrupted.into()),
    }
    Ok(pushed)
}

struct Push {
    client: Client,
    repository: Repository,
    mount_from: Vec<Repository>,
    /// Fires when the push is given up, by the caller or because something failed.
    stop: CancellationToken,
    /// Whether the repository was made ready after a failure; asked once.
    ensured: OnceCell<bool>,
}

impl Push {
    /// Sends all blobs of the source while it reads them.
    async fn blobs(
        self: &std::sync::Arc<Self>,
        source: Box<dyn Source>,
        selection: &Selection,
        jobs: usize,
    ) -> Result<(Image, HashMap<Digest, Blob>, Pushed), PipelineError> {
        let source_name = source.describe();
        let (sender, mut receiver) = mpsc::channel(jobs);
        let selection = selection.clone();
        let mut reading = tokio::spawn(async move { source.read(&selection, sender).await });
        let mut uploads: JoinSet<Result<(u64, Outcome), ClientError>> = JoinSet::new();
        let (mut blobs, mut open) = (HashMap::new(), true);
        let mut pushed = Pushed {
            digest: Digest::of(b""),
            media_type: String::new(),
            manifests: 0,
            blobs_sent: 0,
            bytes_sent: 0,
            blobs_mounted: 0,
            blobs_existing: 0,
        };
        let failed = loop {
            if !open && uploads.is_empty() {
                break None;
            }
            tokio::select! {
                () = self.stop.cancelled() => break Some(ClientError::Interrupted),
                blob = receiver.recv(), if open && uploads.len() < jobs => match blob {
                    Some(blob) => {
                        // Layers that stand twice, a config with the bytes of a layer: once (case 49).
                        if blobs.insert(blob.descriptor.digest.clone(), blob.clone()).is_none() {
                            let push = std::sync::Arc::clone(self);
                            uploads.spawn(async move { push.blob(&blob).await });
                        }
                    }
                    None => open = false,
                },
                Some(done) = uploads.join_next() => match flatten(done) {
                    Ok((size, outcome)) => pushed.count(size, outcome),
                    Err(error) => break Some(error),
                },
            }
        };
        if let Some(error) = failed {
            self.stop.cancel();
            reading.abort();
            drop(receiver);
            // Every upload deletes its session before it ends.
            while uploads.join_next().await.is_some() {}
            return Err(error.into());
        }
        let image = match (&mut reading).await {
            Ok(image) => {
                image.map_err(|error| PipelineError::Source { source_name: source_name.clone(), error })?
            }
            Err(error) => {
                let error = SourceError::Invalid(format!("reading it ended unexpectedly: {error}"));
                return Err(PipelineError::Source { source_name, error });
            }
        };
        let Some(root) = image.manifests.last() else {
            let error = SourceError::Invalid("it holds no manifest".to_owned());
            return Err(PipelineError::Source { source_name, error });
        };
        pushed.digest = root.digest().clone();
        pushed.media_type.clone_from(&root.descriptor().media_type);
        Ok((image, blobs, pushed))
    }

    /// Brings one blob to the registry. A failure that the provider can mend (a project that is not there yet) is mended once.
    async fn blob(&self, blob: &Blob) -> Result<(u64, Outcome), ClientError> {
        let (digest, size) = (blob.descriptor.digest.clone(), blob.descriptor.size);
        let progress = self.client.progress();
        progress.event(Event::BlobStarted { digest: digest.clone(), size });
        let outcome = match self.send(blob).await {
            Err(error) if self.mend(&error).await? => self.send(blob).await,
            outcome => outcome,
        }?;
        progress.event(Event::BlobFinished { digest, size, outcome });
        Ok((size, outcome))
    }

    async fn send(&self, blob: &Blob) -> Result<Outcome, ClientError> {
        self.client.push_blob(&self.repository, blob, &self.mount_from, &self.stop).await
    }

    /// Lets the provider make the repository ready after a failure; true when it did, so that trying again makes sense.
    async fn mend(&self, error: &ClientError) -> Result<bool, ClientError> {
        let class = error.refusal().map(|refusal| refusal.class()).unwrap_or_default();
        if class.is_empty() {
            return Ok(false);
        }
        let ensured = self
            .ensured
            .get_or_try_init(async || Ok(self.client.ensure(&self.repository, Some(class)).await?.is_some()));
        ensured.await.copied()
    }

    /// Writes the manifests: children by digest, the root under its tags.
    async fn manifests(
        &self,
        image: &Image,
        tags: &[Tag],
        blobs: &HashMap<Digest, Blob>,
        pushed: &mut Pushed,
    ) -> Result<(), PipelineError> {
        let (root, children) = image.manifests.split_last().expect("checked when the blobs were sent");
        let mut written = HashSet::new();
        for manifest in children {
            self.tell_foreign(manifest);
            if manifest.digest() != root.digest() && written.insert(manifest.digest()) {
                let target = Target::Digest(manifest.digest().clone());
                self.manifest(&target, manifest, blobs, pushed).await?;
                pushed.manifests += 1;
            }
        }
        self.tell_foreign(root);
        let mut targets: Vec<Target> = tags.iter().cloned().map(Target::Tag).collect();
        if targets.is_empty() {
            targets.push(Target::Digest(root.digest().clone()));
        }
        for target in targets {
            self.manifest(&target, root, blobs, pushed).await?;
        }
        pushed.manifests += 1;
        Ok(())
    }

    /// Writes one manifest. What the registry says it lacks is sent, whatever was known before, and the manifest once more: that
    /// heals collected garbage and caches that were wrong (case 51).
    async fn manifest(
        &self,
        target: &Target,
        manifest: &Manifest,
        blobs: &HashMap<Digest, Blob>,
        pushed: &mut Pushed,
    ) -> Result<(), ClientError> {
        let put = || self.client.put_manifest(&self.repository, target, manifest);
        let Err(error) = put().await else { return Ok(()) };
        let lacking = missing::blobs(&error);
        let at_hand: Vec<&Blob> = lacking.iter().filter_map(|digest| blobs.get(digest)).collect();
        if lacking.is_empty() || at_hand.len() < lacking.len() {
            if self.mend(&error).await? {
                return put().await.map(|_| ());
            }
            return Err(error);
        }
        for blob in at_hand {
            let outcome = self.client.upload_blob(&self.repository, blob, &self.stop).await?;
            pushed.count(blob.descriptor.size, outcome);
        }
        put().await.map(|_| ())
    }

    /// Layers that are not distributed are named by the manifest and stay where they are (case 57).
    fn tell_foreign(&self, manifest: &Manifest) {
        let Shape::Image { layers, .. } = manifest.shape() else { return };
        for layer in layers.iter().filter(|layer| media::is_foreign(&layer.media_type)) {
            let (digest, size) = (layer.digest.clone(), layer.size);
            self.client.progress().event(Event::BlobFinished { digest, size, outcome: Outcome::Skipped });
        }
    }
}

impl Pushed {
    fn count(&mut self, size: u64, outcome: Outcome) {
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

/// A task that was ended from outside, or panicked, is an error like any other.
fn flatten<T>(done: Result<Result<T, ClientError>, tokio::task::JoinError>) -> Result<T, ClientError> {
    done.unwrap_or_else(|error| {
        Err(ClientError::Source {
            what: "upload".to_owned(),
            problem: format!("it ended unexpectedly: {error}"),
        })
    })
}
