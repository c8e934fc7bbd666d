//! Manifests first: one write by digest asks a registry for everything that an image names. A registry that checks manifests
//! answers with all that it lacks, so that nothing else has to be asked for.
//!
//! Whether a registry checks is a hint of its provider, or learned. It is learned with a manifest that is to be pushed anyway, once a
//! registry: one that is accepted although blobs are missing is completed by this very push, or deleted when the push fails. A tag is
//! never written here. Depends on the client only.

use std::collections::{BTreeSet, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::client::learned::Trait;
use crate::client::{Access, Client, ClientError, Kind, Offered, Presence};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, Shape};
use crate::media;
use crate::name::{Repository, Target};

/// From so many blobs on it pays to ask with a manifest that is written by tag in the end: it is one request more.
const WORTH: usize = 4;

/// What is known of a push's content before any of it is sent.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    missing: HashSet<Digest>,
    present: HashSet<Digest>,
    written: HashSet<Digest>,
    /// Accepted without all of their blobs.
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

    /// The push failed: what it left incomplete goes, as far as the registry lets it.
    pub(super) async fn undo(&self, client: &Client, repository: &Repository) {
        for digest in &self.sparse {
            let target = Target::Digest(digest.clone());
            if let Err(error) = client.delete_manifest(repository, &target).await {
                tracing::debug!(target: "idp::push", %digest, %error, "an incomplete manifest without a tag stays");
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
    let hint = client.hints(repository).await.validates_manifests;
    let root = manifests.last().map(Manifest::digest);
    let mut worthy: Vec<(Manifest, Vec<Descriptor>)> = manifests
        .iter()
        .filter_map(|manifest| Some((manifest.clone(), blobs(manifest)?)))
        // A child of an index is written by digest anyway.
        .filter(|(manifest, blobs)| blobs.len() >= WORTH - usize::from(Some(manifest.digest()) != root))
        .collect();
    worthy.sort_by_key(|(_, blobs)| std::cmp::Reverse(blobs.len()));
    worthy.dedup_by_key(|(manifest, _)| manifest.digest().clone());
    let mut rest = worthy.into_iter();
    let known = hint.or_else(|| client.learned().holds(Trait::ValidatesManifests));
    match known {
        Some(true) => {
            // What this machine brought there is believed to be there: the write by tag is checked, and says so if not.
            let seen = |digest: &Digest| client.learned().has_seen(repository, digest);
            let all = manifests.iter().filter_map(blobs).flatten().map(|blob| blob.digest);
            let all: Vec<Digest> = all.collect();
            if all.iter().all(seen) {
                ahead.present.extend(all);
                return Ok(ahead);
            }
        }
        Some(false) => return Ok(ahead),
        None => {
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
                Ok::<_, ClientError>((manifest, blobs, offered))
            }
        })
        .collect();
    let answers: Vec<(Manifest, Vec<Descriptor>, Offered)> =
        stream::iter(questions).buffer_unordered(jobs).try_collect().await?;
    for (manifest, blobs, offered) in answers {
        match offered {
            Offered::Written(_) => {
                ahead.present.extend(blobs.into_iter().map(|blob| blob.digest));
                ahead.written.insert(manifest.digest().clone());
            }
            Offered::Lacking(lacking) => ahead.lacks(&blobs, &lacking),
            Offered::Refused => {}
        }
    }
    // Blobs that two images share are missing for both or for none; what one answer says last is not truer.
    ahead.present.retain(|digest| !ahead.missing.contains(digest));
    Ok(ahead)
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
    match offer(client, repository, manifest).await? {
        Offered::Lacking(lacking) => {
            client.learned().learn(Trait::ValidatesManifests, true);
            ahead.lacks(blobs, &lacking);
            Ok(true)
        }
        Offered::Refused => Ok(false),
        Offered::Written(_) => {
            ahead.written.insert(manifest.digest().clone());
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
            let there: Vec<(Digest, bool)> =
                stream::iter(questions).buffer_unordered(jobs).try_collect().await?;
            if there.iter().any(|(_, there)| !there) {
                client.learned().learn(Trait::ValidatesManifests, false);
                ahead.sparse.push(manifest.digest().clone());
            }
            for (digest, there) in there {
                if there {
                    ahead.present.insert(digest)
                } else {
                    ahead.missing.insert(digest)
                };
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
