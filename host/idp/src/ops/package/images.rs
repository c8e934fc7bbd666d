//! Images that a package names: found in its content, and what their tags mean looked up in their registries.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use idp_oci::manifest::{Descriptor, Shape};
use idp_oci::name::{Reference, Registry};
use idp_oci::source::{Content, Tree};
use idp_package::build::Package;
use idp_package::config;
use idp_package::kube::{self, File, Files, Scan};
use idp_package::resolve::{Location, Lock, LockedImage};

use super::super::session;
use super::super::{Context, Error};

/// How many registries are asked at once.
const AT_ONCE: usize = 4;

/// The images that the content names, in full and each once.
///
/// # Errors
/// A file cannot be read.
pub fn scan(package: &Package) -> Result<Vec<String>, Error> {
    if package.manifest.spec.images == idp_package::manifest::Images::None {
        return Ok(Vec::new());
    }
    let files = files_of(&package.tree);
    let scan = Scan::new(&files, None);
    let found: BTreeSet<String> =
        kube::images(&scan).into_iter().filter_map(|image| image.reference).collect();
    Ok(found.into_iter().collect())
}

/// The files of a tree, to be looked into.
pub(super) fn files_of(tree: &Tree) -> Files {
    let mut files = Files::new();
    for (name, file) in tree.files() {
        let seen = match &file.content {
            Content::Path(path) => File::disk(path, file.size, file.executable),
            Content::Bytes(bytes) => File::bytes(bytes.clone(), file.executable),
        };
        files.insert(name, seen);
    }
    files
}

/// As the config blob has them: what the lock says their tags mean.
pub fn recorded(found: Vec<String>, lock: Option<&Lock>) -> Vec<config::Image> {
    let locked =
        |reference: &str| lock.and_then(|lock| lock.images.iter().find(|image| image.r#ref == reference));
    found
        .into_iter()
        .map(|reference| {
            let known = locked(&reference);
            config::Image {
                digest: known.and_then(|image| image.digest.clone()),
                platforms: known.map(|image| image.platforms.clone()).unwrap_or_default(),
                reference,
            }
        })
        .collect()
}

/// Adds images to a lock; those that it had before stay what they were unless everything is `fresh`. What could not be looked up is told.
///
/// # Errors
/// Only those of the settings: a registry that does not answer is told of.
pub async fn add(
    context: &Context,
    lock: &mut Lock,
    found: Vec<String>,
    before: Option<&Lock>,
    fresh: bool,
) -> Result<Vec<String>, Error> {
    let kept: BTreeMap<&str, &LockedImage> = before
        .filter(|_| !fresh)
        .map(|lock| lock.images.iter().filter(|image| image.digest.is_some()))
        .into_iter()
        .flatten()
        .map(|image| (image.r#ref.as_str(), image))
        .collect();
    let mut all: BTreeMap<String, LockedImage> =
        lock.images.drain(..).map(|image| (image.r#ref.clone(), image)).collect();
    for reference in found {
        all.entry(reference.clone()).or_insert(LockedImage {
            r#ref: reference,
            digest: None,
            platforms: Vec::new(),
        });
    }
    for (reference, image) in &mut all {
        if let (None, Some(kept)) = (&image.digest, kept.get(reference.as_str())) {
            image.clone_from(kept);
        }
    }
    let open: Vec<String> =
        all.values().filter(|image| image.digest.is_none()).map(|image| image.r#ref.clone()).collect();
    let mut unknown = Vec::new();
    let mut asked = futures_util::stream::iter(open)
        .map(async |reference| {
            let found = look_up(context, &reference).await;
            (reference, found)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((reference, found)) = asked.next().await {
        match found {
            Ok(image) => {
                all.insert(reference, image);
            }
            Err(error) => unknown.push(format!("{reference}: {error}")),
        }
    }
    drop(asked);
    unknown.sort();
    lock.images = all.into_values().collect();
    Ok(unknown)
}

/// What a reference means now.
async fn look_up(context: &Context, text: &str) -> Result<LockedImage, Error> {
    let reference = Reference::parse(text, None::<&Registry>)?;
    let location =
        Location { registry: reference.registry.clone(), repository: reference.repository.clone() };
    let place = location.rewritten(&context.registries.rewrites);
    let subject = session::Subject {
        registry: &place.registry,
        repository: Some(&place.repository),
        tag: reference.tag.as_ref(),
    };
    let session = session::open(&context.without_flags(), subject).await?;
    let repository = session.on_wire(&place.repository).clone();
    let manifest = session.client.manifest(&repository, &reference.target(), None).await;
    let manifest = manifest.map_err(|error| session.failed(error))?;
    let platforms = match manifest.shape() {
        Shape::Index { manifests } => manifests.iter().filter_map(platform).collect::<BTreeSet<_>>(),
        Shape::Image { .. } => BTreeSet::new(),
    };
    Ok(LockedImage {
        r#ref: text.to_owned(),
        digest: Some(manifest.digest().clone()),
        platforms: platforms.into_iter().collect(),
    })
}

/// `os/architecture[/variant]`; none of what is no image, as attestations are.
fn platform(child: &Descriptor) -> Option<String> {
    let platform = child.platform.as_ref()?;
    let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
    if os == "unknown" {
        return None;
    }
    Some(match platform.variant() {
        Some(variant) => format!("{os}/{architecture}/{variant}"),
        None => format!("{os}/{architecture}"),
    })
}
