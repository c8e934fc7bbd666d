//! One registry that a push goes to: offers of the source come in, blobs go up several at once and each once, then the manifests,
//! children first and tags last. Whatever goes wrong: upload sessions are deleted, and no manifest is written that names what is not
//! there. Depends on the client, and on [`super::ahead`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ahead::{self, Ahead};
use super::live::Lives;
use super::push::{Destination, Pushed};
use super::{PipelineError, SMALL};
use crate::blob::Blob;
use crate::client::learned::Trait;
use crate::client::{Client, ClientError, Event, Outcome, Presence};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, Shape};
use crate::media;
use crate::name::{Repository, Target};
use crate::source::{Image, Offer};

/// Small things on their way at once, for each large one: a question or a config does not wait behind a gigabyte.
const SMALL_LANES: usize = 4;
/// No more requests than these are open at a registry.
const MOST_LANES: usize = 16;

/// A destination at work.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) client: Client,
    pub(super) repository: Repository,
    tags: Vec<crate::name::Tag>,
    mount_from: Vec<Repository>,
    include_foreign: bool,
    jobs: usize,
    /// Large uploads wait here; small ones and content that comes live do not.
    bulk: Semaphore,
    /// Fires when this lane is given up, by the caller or because something failed.
    pub(super) stop: CancellationToken,
    /// What came live.
    pub(super) lives: Lives,
    /// Whether the repository was made ready after a failure; asked once.
    ensured: OnceCell<bool>,
}

/// What a lane has when all blobs are where they belong.
struct Sent {
    blobs: HashMap<Digest, Blob>,
    ahead: Ahead,
    pushed: Pushed,
}

/// Sizes and outcomes; `None` for what came to nothing yet.
type Uploads = JoinSet<Result<Option<(u64, Outcome)>, ClientError>>;

impl Lane {
    /// Makes the repository ready where the product wants that.
    pub(super) async fn open(
        destination: Destination,
        jobs: Option<usize>,
        cancel: &CancellationToken,
    ) -> Result<Self, PipelineError> {
        let Destination { client, repository, tags, mount_from, include_foreign } = destination;
        tokio::select! {
            ensured = client.ensure(&repository, None) => ensured?,
            () = cancel.cancelled() => return Err(ClientError::Interrupted.into()),
        };
        let jobs = match jobs {
            Some(jobs) => jobs,
            None => client.hints(&repository).await.parallel_uploads,
        };
        let jobs = jobs.max(1);
        Ok(Self {
            client,
            repository,
            tags,
            mount_from,
            include_foreign,
            jobs,
            bulk: Semaphore::new(jobs),
            stop: cancel.child_token(),
            lives: Lives::default(),
            ensured: OnceCell::new(),
        })
    }

    /// How many things are on their way at once.
    pub(super) fn width(&self) -> usize {
        (self.jobs * SMALL_LANES).min(MOST_LANES).max(self.jobs)
    }

    /// Takes all offers, then the image. `None` when the source gave up: it knows why.
    pub(super) async fn run(
        self: Arc<Self>,
        offers: mpsc::Receiver<Offer>,
        image: oneshot::Receiver<Image>,
    ) -> Result<Option<Pushed>, PipelineError> {
        let mut sent = Sent { blobs: HashMap::new(), ahead: Ahead::default(), pushed: Pushed::default() };
        let outcome = self.take(offers, image, &mut sent).await;
        if !matches!(outcome, Ok(Some(_))) {
            self.stop.cancel();
            sent.ahead.undo(&self.client, &self.repository).await;
        }
        outcome
    }

    async fn take(
        self: &Arc<Self>,
        offers: mpsc::Receiver<Offer>,
        image: oneshot::Receiver<Image>,
        sent: &mut Sent,
    ) -> Result<Option<Pushed>, PipelineError> {
        self.blobs(offers, sent).await?;
        let Ok(image) = image.await else { return Ok(None) };
        if self.include_foreign {
            self.foreign(&image, sent).await?;
        }
        sent.ahead.is_complete();
        tokio::select! {
            written = self.manifests(&image, sent) => written?,
            () = self.stop.cancelled() => return Err(ClientError::Interrupted.into()),
        }
        let root = image.manifests.last().expect("a source's image is never empty").descriptor();
        sent.pushed.digest = root.digest.clone();
        sent.pushed.media_type.clone_from(&root.media_type);
        Ok(Some(sent.pushed.clone()))
    }

    /// Sends all blobs while the source offers them.
    async fn blobs(
        self: &Arc<Self>,
        mut offers: mpsc::Receiver<Offer>,
        sent: &mut Sent,
    ) -> Result<(), PipelineError> {
        let mut uploads = Uploads::new();
        let mut open = true;
        let failed = loop {
            if !open && uploads.is_empty() {
                return Ok(());
            }
            tokio::select! {
                () = self.stop.cancelled() => break ClientError::Interrupted,
                offer = offers.recv(), if open && uploads.len() < self.width() => match offer {
                    Some(Offer::Manifests(manifests)) => match self.ask(&manifests).await {
                        Ok(ahead) => sent.ahead = ahead,
                        Err(error) => break error,
                    },
                    Some(Offer::Blob(blob)) => self.blob(*blob, sent, &mut uploads),
                    Some(Offer::Live(live)) => {
                        let lane = Arc::clone(self);
                        uploads.spawn(async move { lane.live(live).await });
                    }
                    Some(Offer::Question(question)) => {
                        let lane = Arc::clone(self);
                        uploads.spawn(async move { lane.answer(*question).await });
                    }
                    None => open = false,
                },
                Some(done) = uploads.join_next() => match flatten(done) {
                    Ok(Some((size, outcome))) => sent.pushed.count(size, outcome),
                    Ok(None) => {}
                    Err(error) => break error,
                },
            }
        };
        self.stop.cancel();
        drop(offers);
        // Every upload deletes its session before it ends.
        while uploads.join_next().await.is_some() {}
        Err(failed.into())
    }

    async fn ask(&self, manifests: &[Manifest]) -> Result<Ahead, ClientError> {
        tokio::select! {
            ahead = ahead::ask(&self.client, &self.repository, manifests, self.width()) => ahead,
            () = self.stop.cancelled() => Err(ClientError::Interrupted),
        }
    }

    /// Fetches the layers that are not distributed with the image, and brings them to the registry all the same.
    async fn foreign(&self, image: &Image, sent: &mut Sent) -> Result<(), ClientError> {
        for layer in image.manifests.iter().flat_map(foreign) {
            if sent.blobs.contains_key(&layer.digest) {
                continue;
            }
            let blob = tokio::select! {
                blob = self.client.foreign_layer(layer) => blob?,
                () = self.stop.cancelled() => return Err(ClientError::Interrupted),
            };
            let (size, outcome) = self.upload(&blob, Presence::Unknown).await?;
            sent.pushed.count(size, outcome);
            sent.blobs.insert(layer.digest.clone(), blob);
        }
        Ok(())
    }

    /// Starts a blob on its way, unless it is or was.
    fn blob(self: &Arc<Self>, blob: Blob, sent: &mut Sent, uploads: &mut Uploads) {
        let digest = blob.descriptor.digest.clone();
        // Layers that stand twice, a config with the bytes of a layer: once (case 49).
        if sent.blobs.insert(digest.clone(), blob.clone()).is_some() {
            return;
        }
        let size = blob.descriptor.size;
        if sent.ahead.is_there(&digest) {
            sent.pushed.count(size, Outcome::Exists);
            self.client.progress().event(Event::BlobFinished { digest, size, outcome: Outcome::Exists });
            return;
        }
        let (lane, presence) = (Arc::clone(self), sent.ahead.presence(&digest));
        uploads.spawn(async move { lane.upload(&blob, presence).await.map(Some) });
    }

    /// Brings one blob to the registry. A failure that the provider can mend (a project that is not there yet) is mended once.
    pub(super) async fn upload(
        &self,
        blob: &Blob,
        presence: Presence,
    ) -> Result<(u64, Outcome), ClientError> {
        let (digest, size) = (blob.descriptor.digest.clone(), blob.descriptor.size);
        let _turn = if size > SMALL {
            tokio::select! {
                turn = self.bulk.acquire() => turn.ok(),
                () = self.stop.cancelled() => return Err(ClientError::Interrupted),
            }
        } else {
            None
        };
        let progress = self.client.progress();
        progress.event(Event::BlobStarted { digest: digest.clone(), size });
        let outcome = match self.send(blob, presence).await {
            Err(error) if self.mend(&error).await? => self.send(blob, presence).await,
            outcome => outcome,
        }?;
        progress.event(Event::BlobFinished { digest, size, outcome });
        Ok((size, outcome))
    }

    async fn send(&self, blob: &Blob, presence: Presence) -> Result<Outcome, ClientError> {
        self.client.push_blob(&self.repository, blob, presence, &self.mount_from, &self.stop).await
    }

    /// Lets the provider make the repository ready after a failure; true when it did, so that trying again makes sense.
    pub(super) async fn mend(&self, error: &ClientError) -> Result<bool, ClientError> {
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
    async fn manifests(&self, image: &Image, sent: &mut Sent) -> Result<(), PipelineError> {
        let (root, children) = image.manifests.split_last().expect("a source's image is never empty");
        let mut written = HashSet::new();
        for manifest in children {
            self.tell_foreign(manifest);
            if manifest.digest() != root.digest() && written.insert(manifest.digest()) {
                if !sent.ahead.is_written(manifest.digest()) {
                    let target = Target::Digest(manifest.digest().clone());
                    self.manifest(&target, manifest, sent).await?;
                }
                sent.pushed.manifests += 1;
            }
        }
        self.tell_foreign(root);
        let targets: Vec<Target> = self.tags.iter().cloned().map(Target::Tag).collect();
        if targets.is_empty() && !sent.ahead.is_written(root.digest()) {
            self.manifest(&Target::Digest(root.digest().clone()), root, sent).await?;
        }
        for target in targets {
            self.manifest(&target, root, sent).await?;
        }
        sent.pushed.manifests += 1;
        self.list_referrers(image).await
    }

    /// Manifests that refer to another are listed where the registry does not do that itself (case 63).
    async fn list_referrers(&self, image: &Image) -> Result<(), PipelineError> {
        for manifest in &image.manifests {
            self.client.list_referrer(&self.repository, manifest).await?;
        }
        Ok(())
    }

    /// Writes one manifest. What the registry says it lacks is sent, whatever was known before, and the manifest once more: that
    /// heals collected garbage and beliefs that were wrong (case 51). A registry that lacks more each time it is asked tells only
    /// some at once: then everything that the manifest names is looked after.
    async fn manifest(
        &self,
        target: &Target,
        manifest: &Manifest,
        sent: &mut Sent,
    ) -> Result<(), ClientError> {
        let put = || self.client.put_manifest(&self.repository, target, manifest);
        let Err(mut error) = put().await else { return Ok(()) };
        let mut healed: HashSet<Digest> = HashSet::new();
        for round in 0..2 {
            let lacking = error.lacking();
            // Gitea says that it lacks something, and not what.
            let untold = lacking.is_empty() && error.lacks_something();
            let is_known = lacking.iter().all(|digest| sent.blobs.contains_key(digest));
            let is_done = lacking.iter().all(|digest| healed.contains(digest));
            if (is_done && !untold) || !is_known || (untold && round > 0) {
                break;
            }
            let (wanted, presence): (Vec<Digest>, _) = if untold {
                (named(manifest).cloned().collect(), Presence::Unknown)
            } else if round == 0 {
                (lacking.into_iter().collect(), Presence::Missing)
            } else {
                self.client.learned().learn(Trait::ValidatesManifests, false);
                (named(manifest).cloned().collect(), Presence::Unknown)
            };
            if wanted.is_empty() {
                break;
            }
            for digest in wanted {
                self.client.learned().learn_blob(&self.repository, &digest, false);
                if let Some(blob) = sent.blobs.get(&digest)
                    && healed.insert(digest)
                {
                    let outcome = self.send_again(blob, presence).await?;
                    sent.pushed.count(blob.descriptor.size, outcome);
                }
            }
            match put().await {
                Ok(_) => return Ok(()),
                Err(again) => error = again,
            }
        }
        if healed.is_empty() && self.mend(&error).await? {
            return put().await.map(|_| ());
        }
        Err(error)
    }

    /// A blob that was believed to be there: what could be mounted is no longer trusted either.
    async fn send_again(&self, blob: &Blob, presence: Presence) -> Result<Outcome, ClientError> {
        self.client.push_blob(&self.repository, blob, presence, &[], &self.stop).await
    }

    /// Layers that are not distributed are named by the manifest and stay where they are (case 57).
    fn tell_foreign(&self, manifest: &Manifest) {
        for layer in foreign(manifest).filter(|_| !self.include_foreign) {
            let (digest, size) = (layer.digest.clone(), layer.size);
            self.client.progress().event(Event::BlobFinished { digest, size, outcome: Outcome::Skipped });
        }
    }
}

/// The layers of a manifest that are not distributed.
fn foreign(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    let layers = match manifest.shape() {
        Shape::Image { layers, .. } => layers.as_slice(),
        Shape::Index { .. } => &[],
    };
    layers.iter().filter(|layer| media::is_foreign(&layer.media_type))
}

/// The blobs that a manifest names.
fn named(manifest: &Manifest) -> impl Iterator<Item = &Digest> {
    let blobs = match manifest.shape() {
        Shape::Image { config, layers } => Some(std::iter::once(&**config).chain(layers)),
        Shape::Index { .. } => None,
    };
    blobs.into_iter().flatten().map(|blob| &blob.digest)
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
