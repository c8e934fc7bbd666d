//! What a push would send: the source is read to its end, the registry is asked by HEAD what it has, and the requests are those that
//! the same planner would make of it. Nothing is written anywhere.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{PipelineError, ahead};
use crate::blob::Part;
use crate::client::{Access, Client, ClientError, Presence};
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::name::{Repository, Tag};
use crate::source::{Image, Offer, Selection, Source, SourceError};

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

/// What a push would be.
#[derive(Debug, Clone)]
pub struct Rehearsed {
    /// The root manifest.
    pub root: Manifest,
    /// Manifests.
    pub manifests: usize,
    /// Distinct blobs, with their sizes.
    pub blobs: BTreeMap<String, u64>,
    /// Those of them that the registry has.
    pub there: usize,
    /// The requests, in the order of the push.
    pub requests: Vec<Planned>,
}

/// Reads the source and asks the registry.
pub async fn rehearse(
    client: &Client,
    repository: &Repository,
    tags: &[Tag],
    source: Box<dyn Source>,
    selection: &Selection,
    mount_from: &[Repository],
) -> Result<Rehearsed, PipelineError> {
    let source_name = source.describe();
    let (image, blobs, announced) = read(source, selection)
        .await
        .map_err(|error| PipelineError::Source { source_name: source_name.clone(), error })?;
    let Some((root, children)) = image.manifests.split_last() else {
        let error = SourceError::Invalid("it holds no manifest".to_owned());
        return Err(PipelineError::Source { source_name, error });
    };
    let there = there(client, repository, &blobs).await?;
    let is_there = |digest: &Digest| there.get(digest.as_str()).copied().unwrap_or(false);
    let mut requests = Vec::new();
    let manifest = |manifest: &Manifest, name: &str| Planned {
        method: "PUT",
        target: format!("manifest {name}"),
        bytes: manifest.descriptor().size,
    };
    let asked = if announced {
        ahead::would_ask(client, repository, &image.manifests).await
    } else {
        ahead::Asked::default()
    };
    for asked in &asked.manifests {
        requests.push(manifest(asked, asked.digest().as_str()));
    }
    for (digest, size) in &blobs {
        let known: Option<Digest> = digest.parse().ok();
        let here = there.get(digest).copied().unwrap_or(false);
        let is_asked = known.as_ref().is_some_and(|digest| asked.knows(digest));
        if is_asked && here {
            continue;
        }
        let presence = if is_asked { Presence::Missing } else { Presence::Unknown };
        for (method, bytes) in
            client.rehearse_blob(repository, known.as_ref(), *size, presence, here, mount_from).await
        {
            requests.push(Planned { method, target: format!("blob {digest}"), bytes });
        }
    }
    let mut written: Vec<&Digest> = asked
        .manifests
        .iter()
        .filter(|manifest| ahead::all_there(manifest, &is_there))
        .map(Manifest::digest)
        .collect();
    for child in children {
        if !written.contains(&child.digest()) {
            requests.push(manifest(child, child.digest().as_str()));
            written.push(child.digest());
        }
    }
    if tags.is_empty() && !written.contains(&root.digest()) {
        requests.push(manifest(root, root.digest().as_str()));
    }
    requests.extend(tags.iter().map(|tag| manifest(root, tag.as_str())));
    Ok(Rehearsed {
        root: root.clone(),
        manifests: image.manifests.len(),
        there: there.values().filter(|there| **there).count(),
        blobs,
        requests,
    })
}

/// What the registry has of these.
async fn there(
    client: &Client,
    repository: &Repository,
    blobs: &BTreeMap<String, u64>,
) -> Result<HashMap<String, bool>, ClientError> {
    let questions: Vec<_> = blobs
        .iter()
        .filter_map(|(digest, size)| Some((digest.parse::<Digest>().ok()?, *size)))
        .map(|(digest, size)| {
            let (client, repository) = (client.clone(), repository.clone());
            async move {
                let blob = crate::manifest::Descriptor::new("", digest.clone(), size);
                let there = client.has_blob(&repository, &blob, Access::Pull).await?;
                Ok::<_, ClientError>((digest.to_string(), there))
            }
        })
        .collect();
    stream::iter(questions).buffer_unordered(8).try_collect().await
}

/// All that a source has: its image, the blobs with their sizes, and whether it knows its manifests before it sends a blob.
async fn read(
    source: Box<dyn Source>,
    selection: &Selection,
) -> Result<(Image, BTreeMap<String, u64>, bool), SourceError> {
    let (sender, mut receiver) = mpsc::channel(4);
    let drain = async {
        let (mut blobs, mut announced) = (BTreeMap::new(), false);
        while let Some(offer) = receiver.recv().await {
            match offer {
                Offer::Manifests(_) => announced = true,
                Offer::Question(question) => drop(question),
                Offer::Blob(blob) => {
                    blobs.insert(blob.descriptor.digest.to_string(), blob.descriptor.size);
                }
                Offer::Live(mut live) => {
                    while let Some(part) = live.parts.recv().await {
                        if let Part::End(made) = part {
                            blobs.insert(made.digest.to_string(), made.size);
                        }
                    }
                    let _ = live.taken.send(true);
                }
            }
        }
        (blobs, announced)
    };
    let (image, (blobs, announced)) = tokio::join!(source.read(selection, sender), drain);
    Ok((image?, blobs, announced))
}
