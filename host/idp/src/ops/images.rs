//! Images: everything that has a tag in the embedded registry, with digest, size and kind. Asked over its own interface, as anybody would.

use idp_oci::digest::Digest;
use idp_oci::manifest::{Manifest, Shape};
use idp_oci::name::{Repository, Target};
use serde::Serialize;

use super::embedded::{self, registry_of};
use super::session::{self, Session, Subject};
use super::{Context, Error};

/// Tags that are looked at, at most: a page for people, and no export.
const MOST: usize = 10_000;

/// Something with a tag.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// Its repository.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Its manifest.
    pub digest: Digest,
    /// Bytes of config and layers; of an index, of its children's manifests only.
    pub size: u64,
    /// `image`, `index`, or the artifact's type.
    pub kind: String,
}

/// All of them, by repository and tag.
///
/// # Errors
/// It does not run, or does not let this user in.
pub async fn images(context: &Context) -> Result<Vec<Image>, Error> {
    let status = embedded::status(context).await;
    let Some(note) = status.note.filter(|_| status.running) else {
        return Err(Error::Absent("the embedded registry is not running".to_owned()));
    };
    let registry = registry_of(&note);
    let session =
        session::open(context, Subject { registry: &registry, repository: None, tag: None }).await?;
    let mut found = Vec::new();
    let repositories = session.client.catalog().await.map_err(|error| session.failed(error))?;
    for repository in repositories {
        let tags = session.client.tags(&repository).await.map_err(|error| session.failed(error))?;
        for tag in tags {
            if found.len() == MOST {
                return Ok(found);
            }
            if let Some(image) = one(&session, &repository, Target::Tag(tag)).await? {
                found.push(image);
            }
        }
    }
    Ok(found)
}

/// None where it went meanwhile.
async fn one(session: &Session, repository: &Repository, target: Target) -> Result<Option<Image>, Error> {
    let manifest = match session.client.manifest(repository, &target, None).await {
        Ok(manifest) => manifest,
        Err(error) if error.kind() == idp_oci::client::Kind::NotFound => return Ok(None),
        Err(error) => return Err(session.failed(error)),
    };
    Ok(Some(Image {
        repository: repository.to_string(),
        tag: target.to_string(),
        digest: manifest.digest().clone(),
        size: size(&manifest),
        kind: kind(&manifest),
    }))
}

fn size(manifest: &Manifest) -> u64 {
    let sum = |all: &[idp_oci::manifest::Descriptor], start: u64| {
        all.iter().fold(start, |sum, one| sum.saturating_add(one.size))
    };
    match manifest.shape() {
        Shape::Image { config, layers } => sum(layers, config.size),
        Shape::Index { manifests } => sum(manifests, 0),
    }
}

fn kind(manifest: &Manifest) -> String {
    match (manifest.artifact_type(), manifest.shape()) {
        (Some(kind), _) => kind.to_owned(),
        (None, Shape::Index { .. }) => "index".to_owned(),
        (None, Shape::Image { config, .. }) if idp_oci::media::is_config(&config.media_type) => {
            "image".to_owned()
        }
        (None, Shape::Image { config, .. }) => config.media_type.clone(),
    }
}
