//! Manifests first: one write by digest asks a registry for everything that an image names. A registry that checks manifests
//! answers with all that it lacks, so that nothing else has to be asked for.
//!
//! Whether a registry checks is a hint of its provider, or learned. It is learned with a manifest that is to be pushed anyway, once a
//! registry: one that is accepted although blobs are missing is completed by this very push, or deleted when the push fails, unless it
//! was there before. What was learned may have changed since: where it says that nothing is missing, one blob is asked for as well. A
//! tag is never written here. Depends on the client only.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::client::learned::Trait;
use crate::client::{Access, Client, ClientError, Kind, Offered, Presence};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, Shape};
use crate::media;
use crate::name::{Repository, Target};

/// From so many blobs on it pays to ask with a manifest that is written by tag in the end: it is one request more.
const WORTH: usize = 4;

/// Cleaning up after a failure is not waited for longer than this.
const UNDOING: Duration = Duration::from_secs(2);

/// What is held of a registry's checking of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    /// Its provider says that it checks.
    Hinted,
    /// It did when it was last seen.
    Learned,
    /// It does not.
    No,
    /// Nobody knows.
    Unknown,
}

/// What is known of a push's content before any of it is sent.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    missing: HashSet<Digest>,
    present: HashSet<Digest>,
    written: HashSet<Digest>,
    /// Accepted without all of their blobs, and not there before.
    sparse: Vec<Digest>,
}

impl Ahead {
    /// Whether a blob is there, where that is known.
    pub(super) fn is_there(&self, digest: &Digest) -> bool {
        self.present.contains(digest)
    }

    /// What an upload may start from.
    pub(super) fn presence(&self, digest: &Digest) -> Presence {
        if self.missing.contains(digest) { Presence::Missing } else { Presence::Unknown }
    }

    /// Whether a manifest has been written by its digest already.
    pub(super) fn is_written(&self, digest: &Digest) -> bool {
        self.written.contains(digest)
    }

    /// All blobs are where they belong: no manifest is incomplete any more.
    pub(super) fn is_complete(&mut self) {
        self.sparse.clear();
    }

    /// The push failed: what it left incomplete goes, as far as the registry lets it.
    pub(super) async fn undo(&self, client: &Client, repository: &Repository) {
        for digest in &self.sparse {
            let target = Target::Digest(digest.clone());
            let deleted = tokio::time::timeout(UNDOING, client.delete_manifest(repository, &target)).await;
            if !matches!(deleted, Ok(Ok(_))) {
                tracing::debug!(target: "idp::push", %digest, ?deleted, "an incomplete manifest without a tag stays");
            }
        }
    }

    fn lacks(&mut self, blobs: &[Descriptor], lacking: &BTreeSet<Digest>) {
        for blob in blobs {
            if lacking.contains(&blob.digest) {
                self.missing.insert(blob.digest.clone());
            } else {
                self.present.insert(blob.digest.clone());
            }
        }
    }
}

/// Asks. Errors are those that the push would meet as well: nobody answers, or nobody is let in.
pub(super) async fn ask(
    client: &Client,
    repository: &Repository,
    manifests: &[Manifest],
    jobs: usize,
) -> Result<Ahead, ClientError> {
    let ahead = find_out(client, repository, manifests, jobs).await?;
    for digest in &ahead.present {
        client.learned().learn_blob(repository, digest, true);
    }
    for digest in &ahead.missing {
        client.learned().learn_blob(repository, digest, false);
    }
    Ok(ahead)
}

async fn find_out(
    client: &Client,
    repository: &Repository,
    manifests: &[Manifest],
    jobs: usize,
) -> Result<Ahead, ClientError> {
    let mut ahead = Ahead::default();
    let mut rest = worthy(manifests).into_iter();
    let believed = belief(client, repository).await;
    match believed {
        Belief::Hinted | Belief::Learned if all_seen(client, repository, manifests) => {
            let asked = sample_of_all(manifests).filter(|_| believed == Belief::Learned);
            let holds = match asked {
                Some(blob) => client.has_blob(repository, &blob, Access::Push).await?,
                None => true,
            };
            if holds {
                ahead.present.extend(all_blobs(manifests));
                return Ok(ahead);
            }
            forget_blobs(client, repository, manifests);
        }
        Belief::Hinted | Belief::Learned => {}
        Belief::No => return Ok(ahead),
        Belief::Unknown => {
            let Some((manifest, blobs)) = rest.next() else { return Ok(ahead) };
            if !try_out(client, repository, &manifest, &blobs, jobs, &mut ahead).await? {
                return Ok(ahead);
            }
        }
    }
    let questions: Vec<_> = rest
        .map(|(manifest, blobs)| {
            let (client, repository) = (client.clone(), repository.clone());
            async move {
                let offered = offer(&client, &repository, &manifest).await?;
                let doubtful = believed != Belief::Hinted && matches!(offered, Offered::Written(_));
                let holds = !doubtful || client.has_blob(&repository, sample(&blobs), Access::Push).await?;
                Ok::<_, ClientError>((manifest, blobs, offered, holds))
            }
        })
        .collect();
    let answers: Vec<(Manifest, Vec<Descriptor>, Offered, bool)> =
        stream::iter(questions).buffer_unordered(jobs).try_collect().await?;
    for (manifest, blobs, offered, holds) in answers {
        match offered {
            Offered::Written(_) => {
                ahead.written.insert(manifest.digest().clone());
                if holds {
                    ahead.present.extend(blobs.into_iter().map(|blob| blob.digest));
                } else {
                    // It checks no more. The manifest may have been there before, so it is not ours to take away.
                    client.learned().learn(Trait::ValidatesManifests, false);
                    look(client, repository, &blobs, jobs, &mut ahead).await?;
                }
            }
            Offered::Lacking(lacking) => ahead.lacks(&blobs, &lacking),
            Offered::Refused => {}
        }
    }
    // Blobs that two images share are missing for both or for none; what one answer says last is not truer.
    ahead.present.retain(|digest| !ahead.missing.contains(digest));
    Ok(ahead)
}

/// What would be asked, for a rehearsal.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The manifests that would be written by digest first.
    pub(super) manifests: Vec<Manifest>,
    /// Whether these would be asked for before that: whether the registry checks is to be found out.
    pub(super) tries_out: bool,
    /// The blob that would be asked for although nothing is written.
    pub(super) sample: Option<Digest>,
    /// What was learned is checked with a blob of each manifest that is taken.
    doubtful: bool,
    known: HashSet<Digest>,
}

impl Asked {
    /// Whether it would be known of a blob whether it is there.
    pub(super) fn knows(&self, digest: &Digest) -> bool {
        self.known.contains(digest)
    }

    /// The blobs that would be asked for when this manifest is taken at once.
    pub(super) fn looked_at(&self, manifest: &Manifest) -> Vec<Digest> {
        let Some(blobs) = blobs(manifest) else { return Vec::new() };
        match (self.tries_out, self.doubtful) {
            (true, _) => blobs.into_iter().map(|blob| blob.digest).collect(),
            (false, true) => vec![sample(&blobs).digest.clone()],
            (false, false) => Vec::new(),
        }
    }
}

/// What a push would ask: the decision of [`ask`], without asking.
pub(super) async fn would_ask(client: &Client, repository: &Repository, manifests: &[Manifest]) -> Asked {
    let mut asked = Asked::default();
    let believed = belief(client, repository).await;
    asked.tries_out = believed == Belief::Unknown;
    asked.doubtful = believed != Belief::Hinted;
    match believed {
        Belief::No => return asked,
        Belief::Hinted | Belief::Learned if all_seen(client, repository, manifests) => {
            if asked.doubtful {
                asked.sample = sample_of_all(manifests).map(|blob| blob.digest);
            }
            asked.known.extend(all_blobs(manifests));
            return asked;
        }
        _ => {
            let most = if asked.tries_out { 1 } else { usize::MAX };
            for (manifest, blobs) in worthy(manifests).into_iter().take(most) {
                asked.known.extend(blobs.into_iter().map(|blob| blob.digest));
                asked.manifests.push(manifest);
            }
        }
    }
    asked
}

/// Whether all that an image names is there.
pub(super) fn all_there(manifest: &Manifest, is_there: &dyn Fn(&Digest) -> bool) -> bool {
    blobs(manifest).is_some_and(|blobs| blobs.iter().all(|blob| is_there(&blob.digest)))
}

/// Whether the registry checks manifests, as far as that is known.
async fn belief(client: &Client, repository: &Repository) -> Belief {
    let hint = client.hints(repository).await.validates_manifests;
    match hint {
        Some(true) => Belief::Hinted,
        Some(false) => Belief::No,
        None => match client.learned().holds(Trait::ValidatesManifests) {
            Some(true) => Belief::Learned,
            Some(false) => Belief::No,
            None => Belief::Unknown,
        },
    }
}

/// The blob that stands for all of an image: its config, which no other image shares.
fn sample(blobs: &[Descriptor]) -> &Descriptor {
    blobs.first().expect("an image has a config")
}

/// A blob that stands for all that is pushed.
fn sample_of_all(manifests: &[Manifest]) -> Option<Descriptor> {
    manifests.iter().rev().find_map(blobs).map(|blobs| sample(&blobs).clone())
}

/// What was seen there is there no more: somebody emptied the repository.
fn forget_blobs(client: &Client, repository: &Repository, manifests: &[Manifest]) {
    for digest in all_blobs(manifests) {
        client.learned().learn_blob(repository, &digest, false);
    }
}

/// Asks for each blob by itself; true when all are there.
async fn look(
    client: &Client,
    repository: &Repository,
    blobs: &[Descriptor],
    jobs: usize,
    ahead: &mut Ahead,
) -> Result<bool, ClientError> {
    let questions: Vec<_> = blobs
        .iter()
        .cloned()
        .map(|blob| {
            let (client, repository) = (client.clone(), repository.clone());
            async move {
                let there = client.has_blob(&repository, &blob, Access::Push).await?;
                Ok::<_, ClientError>((blob.digest, there))
            }
        })
        .collect();
    let answers: Vec<(Digest, bool)> = stream::iter(questions).buffer_unordered(jobs).try_collect().await?;
    let all = answers.iter().all(|(_, there)| *there);
    for (digest, there) in answers {
        if there {
            ahead.present.insert(digest)
        } else {
            ahead.missing.insert(digest)
        };
    }
    Ok(all)
}

/// The manifests that it pays to ask with, the largest first.
fn worthy(manifests: &[Manifest]) -> Vec<(Manifest, Vec<Descriptor>)> {
    let root = manifests.last().map(Manifest::digest);
    let mut worthy: Vec<(Manifest, Vec<Descriptor>)> = manifests
        .iter()
        .filter_map(|manifest| Some((manifest.clone(), blobs(manifest)?)))
        // A child of an index is written by digest anyway.
        .filter(|(manifest, blobs)| blobs.len() >= WORTH - usize::from(Some(manifest.digest()) != root))
        .collect();
    worthy.sort_by_key(|(_, blobs)| std::cmp::Reverse(blobs.len()));
    worthy.dedup_by_key(|(manifest, _)| manifest.digest().clone());
    worthy
}

fn all_blobs(manifests: &[Manifest]) -> impl Iterator<Item = Digest> {
    manifests.iter().filter_map(blobs).flatten().map(|blob| blob.digest)
}

/// What this machine brought there is believed to be there: the write by tag is checked, and says so if not.
fn all_seen(client: &Client, repository: &Repository, manifests: &[Manifest]) -> bool {
    all_blobs(manifests).all(|digest| client.learned().has_seen(repository, &digest))
}

/// Finds out whether the registry checks manifests. True when it does.
async fn try_out(
    client: &Client,
    repository: &Repository,
    manifest: &Manifest,
    blobs: &[Descriptor],
    jobs: usize,
    ahead: &mut Ahead,
) -> Result<bool, ClientError> {
    let target = Target::Digest(manifest.digest().clone());
    let was_there = client.head_manifest(repository, &target, Access::Push).await?.is_some();
    match offer(client, repository, manifest).await? {
        Offered::Lacking(lacking) => {
            client.learned().learn(Trait::ValidatesManifests, true);
            ahead.lacks(blobs, &lacking);
            Ok(true)
        }
        Offered::Refused => Ok(false),
        Offered::Written(_) => {
            ahead.written.insert(manifest.digest().clone());
            if !look(client, repository, blobs, jobs, ahead).await? {
                client.learned().learn(Trait::ValidatesManifests, false);
                if !was_there {
                    ahead.sparse.push(manifest.digest().clone());
                }
            }
            Ok(false)
        }
    }
}

/// Failures that pass, and those that end everything, are failures; any other refusal is left to the real write.
async fn offer(
    client: &Client,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Offered, ClientError> {
    match client.offer_manifest(repository, manifest).await {
        Err(error) if matches!(error.kind(), Kind::Transient | Kind::Auth | Kind::Interrupted) => Err(error),
        Err(_) => Ok(Offered::Refused),
        offered => offered,
    }
}

/// The blobs that an image needs, each once; `None` for an index.
fn blobs(manifest: &Manifest) -> Option<Vec<Descriptor>> {
    let Shape::Image { config, layers } = manifest.shape() else { return None };
    let mut seen = HashSet::new();
    let all = std::iter::once(&**config).chain(layers).filter(|blob| !media::is_foreign(&blob.media_type));
    Some(all.filter(|blob| seen.insert(blob.digest.clone())).cloned().collect())
}
