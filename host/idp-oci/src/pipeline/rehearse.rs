//! What a push would send: the source is read to its end, the registry is asked by HEAD what it has, and the requests are those that
//! the same planner would make of it. Nothing is written at a registry; what was packed is remembered (the memo) for the push itself.

use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{PipelineError, ahead};
use crate::blob::Part;
use crate::client::{Access, Client, ClientError, Presence};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::name::{Repository, Tag};
use crate::source::{Offer, Selection, Source, SourceError};

/// Questions to a registry at once.
const AT_ONCE: usize = 8;

/// All that a source has.
#[derive(Debug, Clone)]
pub struct Survey {
    /// What the source is, in words.
    pub source: String,
    /// Children first, the root last; never empty.
    pub manifests: Vec<Manifest>,
    /// The blobs that would be pushed, each once.
    pub blobs: BTreeMap<Digest, Descriptor>,
    /// The manifests are known before any blob is sent.
    announced: bool,
}

/// One request that would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Planned {
    /// `PUT`.
    pub method: &'static str,
    /// What for: `blob sha256:…`, `manifest 1.0`.
    pub target: String,
    /// Bytes of its body.
    pub bytes: u64,
}

/// What a push to one registry would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Blobs that the registry has.
    pub there: usize,
    /// The requests, in the order of the push.
    pub requests: Vec<Planned>,
}

impl Survey {
    /// Reads a source to its end, packing what would be packed, and keeps none of it.
    pub async fn of(source: Box<dyn Source>, selection: &Selection) -> Result<Self, PipelineError> {
        let source_name = source.describe();
        let failed = |error| PipelineError::Source { source_name: source_name.clone(), error };
        let (sender, mut receiver) = mpsc::channel(4);
        let drain = async {
            let (mut blobs, mut announced) = (BTreeMap::new(), false);
            let mut keep = |blob: Descriptor| blobs.insert(blob.digest.clone(), blob);
            while let Some(offer) = receiver.recv().await {
                match offer {
                    Offer::Manifests(_) => announced = true,
                    Offer::Question(question) => drop(question),
                    Offer::Blob(blob) => drop(keep(blob.descriptor)),
                    Offer::Live(mut live) => {
                        while let Some(part) = live.parts.recv().await {
                            if let Part::End(made) = part {
                                keep(*made);
                            }
                        }
                        let _ = live.taken.send(true);
                    }
                }
            }
            (blobs, announced)
        };
        let (image, (blobs, announced)) = tokio::join!(source.read(selection, sender), drain);
        let manifests = image.map_err(failed)?.manifests;
        if manifests.is_empty() {
            return Err(failed(SourceError::Invalid("it holds no manifest".to_owned())));
        }
        Ok(Self { source: source_name, manifests, blobs, announced })
    }

    /// What gets the tag.
    pub fn root(&self) -> &Manifest {
        self.manifests.last().expect("a survey is never empty")
    }

    /// Asks a registry what it has, and says which requests would go.
    pub async fn plan(
        &self,
        client: &Client,
        repository: &Repository,
        tags: &[Tag],
        mount_from: &[Repository],
    ) -> Result<Plan, PipelineError> {
        let there = self.there(client, repository).await?;
        let put = |manifest: &Manifest, name: &str| Planned {
            method: "PUT",
            target: format!("manifest {name}"),
            bytes: manifest.descriptor().size,
        };
        let asked = if self.announced {
            ahead::would_ask(client, repository, &self.manifests).await
        } else {
            ahead::Asked::default()
        };
        let head = |target: String| Planned { method: "HEAD", target, bytes: 0 };
        let is_there = |digest: &Digest| there.contains(digest);
        let mut requests = Vec::new();
        for manifest in &asked.manifests {
            let name = manifest.digest().as_str();
            if asked.tries_out {
                requests.push(head(format!("manifest {name}")));
            }
            requests.push(put(manifest, name));
            if ahead::all_there(manifest, &is_there) {
                requests.extend(asked.looked_at(manifest).iter().map(|blob| head(format!("blob {blob}"))));
            }
        }
        requests.extend(asked.sample.iter().map(|blob| head(format!("blob {blob}"))));
        for (digest, blob) in &self.blobs {
            let is_there = there.contains(digest);
            let presence = match asked.knows(digest) {
                true if is_there => continue,
                true => Presence::Missing,
                false => Presence::Unknown,
            };
            let sent = client.rehearse_blob(repository, blob, presence, is_there, mount_from).await;
            let target = format!("blob {digest}");
            requests.extend(sent.into_iter().map(|(method, bytes)| Planned {
                method,
                target: target.clone(),
                bytes,
            }));
        }
        let taken = asked.manifests.iter().filter(|manifest| ahead::all_there(manifest, &is_there));
        let mut written: HashSet<&Digest> = taken.map(Manifest::digest).collect();
        let root = self.root();
        let children = &self.manifests[..self.manifests.len() - 1];
        for child in children {
            if child.digest() != root.digest() && written.insert(child.digest()) {
                requests.push(put(child, child.digest().as_str()));
            }
        }
        if tags.is_empty() && written.insert(root.digest()) {
            requests.push(put(root, root.digest().as_str()));
        }
        requests.extend(tags.iter().map(|tag| put(root, tag.as_str())));
        Ok(Plan { there: there.len(), requests })
    }

    /// The blobs that a registry has.
    async fn there(&self, client: &Client, repository: &Repository) -> Result<HashSet<Digest>, ClientError> {
        let questions: Vec<_> = self
            .blobs
            .values()
            .cloned()
            .map(|blob| {
                let (client, repository) = (client.clone(), repository.clone());
                async move {
                    let there = client.has_blob(&repository, &blob, Access::Pull).await?;
                    Ok::<_, ClientError>(there.then_some(blob.digest))
                }
            })
            .collect();
        let found: Vec<Option<Digest>> =
            stream::iter(questions).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}
