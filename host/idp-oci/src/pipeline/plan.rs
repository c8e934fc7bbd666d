//! From a reference to everything that has to be pulled: manifests, children before parents, and the blobs they name, each once.
//! Bounded in depth and in number, whatever an index says (case 60).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{PipelineError, platform};
use crate::cache::Cache;
use crate::client::{Client, ClientError, Event, Kind};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, Platform, Shape};
use crate::media;
use crate::name::{Repository, Target};
use crate::sink::Plan;

/// Indexes in indexes.
const DEEPEST: usize = 8;
/// Manifests below the root, and the bytes of all of them: they are held in memory.
const MOST: usize = 10_000;
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Where manifests are got.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) client: &'a Client,
    pub(super) repository: &'a Repository,
    /// Asked first for what is named by digest.
    pub(super) cache: Option<&'a Arc<Cache>>,
}

impl Place<'_> {
    async fn manifest(
        self,
        target: &Target,
        expected: Option<&Descriptor>,
    ) -> Result<Manifest, PipelineError> {
        if let (Some(cache), Target::Digest(digest)) = (self.cache, target) {
            let (cache, digest, expected) = (Arc::clone(cache), digest.clone(), expected.cloned());
            let cached =
                tokio::task::spawn_blocking(move || cache.manifest(&digest, expected.as_ref())).await;
            if let Ok(Some(manifest)) = cached {
                return Ok(manifest);
            }
        }
        let manifest = self.client.manifest(self.repository, target, expected).await?;
        if let Some(cache) = self.cache {
            let digest = match target {
                Target::Digest(digest) => digest.clone(),
                Target::Tag(_) => manifest.digest().clone(),
            };
            let (cache, bytes) = (Arc::clone(cache), manifest.bytes().clone());
            let _ = tokio::task::spawn_blocking(move || cache.put_manifest(&digest, &bytes)).await;
        }
        Ok(manifest)
    }
}

/// Gets the manifests. With a platform, of an index only the one image for it.
pub(super) async fn of(
    place: Place<'_>,
    target: &Target,
    wanted: Option<&Platform>,
    jobs: usize,
) -> Result<Plan, PipelineError> {
    let what = format!("{}/{} {target}", place.client.registry(), place.repository);
    let mut root = place.manifest(target, None).await?;
    if let Some(wanted) = wanted {
        root = choose(place, root, wanted, &what).await?;
    }
    let known = children(place, &root, &what, jobs).await?;
    let mut plan = Plan { manifests: Vec::new(), blobs: Vec::new(), reference: None };
    let mut visited = HashSet::new();
    arrange(&root, &known, &mut visited, &mut plan.manifests);
    let mut named = HashSet::new();
    for manifest in &plan.manifests {
        let Shape::Image { config, layers } = manifest.shape() else { continue };
        for blob in std::iter::once(&**config).chain(layers) {
            if !media::is_foreign(&blob.media_type) && named.insert(blob.digest.clone()) {
                plan.blobs.push(blob.clone());
            }
        }
    }
    Ok(plan)
}

/// Goes down to the image for a platform.
async fn choose(
    place: Place<'_>,
    mut manifest: Manifest,
    wanted: &Platform,
    what: &str,
) -> Result<Manifest, PipelineError> {
    for _ in 0..DEEPEST {
        let Shape::Index { manifests } = manifest.shape() else { return Ok(manifest) };
        let fits = |child: &&Descriptor| {
            child.platform.as_ref().is_some_and(|offered| platform::matches(wanted, offered))
        };
        // An index without platforms may hold one that has them.
        let nested = |child: &&Descriptor| child.platform.is_none() && media::is_index(&child.media_type);
        let Some(child) = manifests.iter().find(fits).or_else(|| manifests.iter().find(nested)).cloned()
        else {
            let available: Vec<String> =
                manifests.iter().filter_map(|child| child.platform.as_ref()).map(platform::shown).collect();
            let available =
                if available.is_empty() { "none with a platform".to_owned() } else { available.join(", ") };
            return Err(PipelineError::NoPlatform {
                what: what.to_owned(),
                wanted: platform::shown(wanted),
                available,
            });
        };
        manifest = get(place, &child).await?;
    }
    Err(too_deep(what))
}

/// Everything below a root, level by level, several at once.
async fn children(
    place: Place<'_>,
    root: &Manifest,
    what: &str,
    jobs: usize,
) -> Result<HashMap<Digest, Manifest>, PipelineError> {
    let mut known = HashMap::new();
    let mut seen = HashSet::from([root.digest().clone()]);
    let mut level = below(root);
    let (mut bytes, mut absent) = (0_u64, Vec::new());
    for _ in 0..DEEPEST {
        level.retain(|child| seen.insert(child.digest.clone()));
        if level.is_empty() {
            break;
        }
        bytes = level.iter().fold(bytes, |bytes, child| bytes.saturating_add(child.size));
        if seen.len() > MOST + 1 || bytes > MOST_BYTES {
            let problem = format!("it names more than {MOST} manifests, or {MOST_BYTES} bytes of them");
            return Err(PipelineError::Image { what: what.to_owned(), problem });
        }
        let got: Vec<Result<Manifest, Digest>> = stream::iter(std::mem::take(&mut level))
            .map(|child| async move {
                match get(place, &child).await {
                    // An index may name what was never pushed here (a sparse index, case 57); its bytes stay as they are.
                    Err(PipelineError::Client(error)) if error.kind() == Kind::NotFound => {
                        Ok(Err(child.digest))
                    }
                    got => got.map(Ok),
                }
            })
            .buffered(jobs)
            .try_collect()
            .await?;
        for manifest in got {
            match manifest {
                Ok(manifest) => {
                    level.extend(below(&manifest));
                    known.insert(manifest.digest().clone(), manifest);
                }
                Err(digest) => absent.push(digest),
            }
        }
    }
    if level.iter().any(|child| !seen.contains(&child.digest)) {
        return Err(too_deep(what));
    }
    if let Some(first) = absent.first() {
        let text = match absent.len() {
            1 => format!("{what} names manifest {first}, which is not there"),
            count => format!("{what} names {count} manifests that are not there, the first of them {first}"),
        };
        place.client.progress().event(Event::Warning { text });
    }
    Ok(known)
}

fn below(manifest: &Manifest) -> Vec<Descriptor> {
    match manifest.shape() {
        Shape::Index { manifests } => manifests.clone(),
        Shape::Image { .. } => Vec::new(),
    }
}

async fn get(place: Place<'_>, child: &Descriptor) -> Result<Manifest, PipelineError> {
    let target = Target::Digest(child.digest.clone());
    let manifest = place.manifest(&target, Some(child)).await?;
    let size = manifest.descriptor().size;
    if size != child.size {
        let what = format!("manifest {} of {}/{}", child.digest, place.client.registry(), place.repository);
        let problem = format!("it has {size} bytes, and the index says {}", child.size);
        return Err(ClientError::Content { what, problem }.into());
    }
    Ok(manifest)
}

/// Children before parents, in the order of the indexes. Digests make circles impossible; `visited` makes sure of it.
fn arrange(
    manifest: &Manifest,
    known: &HashMap<Digest, Manifest>,
    visited: &mut HashSet<Digest>,
    arranged: &mut Vec<Manifest>,
) {
    if !visited.insert(manifest.digest().clone()) {
        return;
    }
    for child in below(manifest) {
        if let Some(child) = known.get(&child.digest) {
            arrange(child, known, visited, arranged);
        }
    }
    arranged.push(manifest.clone());
}

fn too_deep(what: &str) -> PipelineError {
    let problem = format!("indexes are nested more than {DEEPEST} deep");
    PipelineError::Image { what: what.to_owned(), problem }
}
