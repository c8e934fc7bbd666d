//! Removal. A tag goes by itself; a digest only after its tags; a whole image by the API, or piece by piece.

use std::collections::BTreeSet;

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, refusal};

use crate::api::{self, Api, Operation};
use crate::extras::{self, Extras};
use crate::login::client;
use crate::place;

/// Deletions that one question may need; the host allows 64 requests.
const DELETIONS: usize = 48;

/// Removes without taking along what was not named.
pub(crate) fn remove(name: &str, target: &Target, options: &Pairs) -> Result<Removal> {
    match target {
        Target::Tag(tag) => {
            if invocation::dry_run() {
                distribution::digest_of(&client(), name, tag)?;
            } else {
                delete(name, tag)?;
            }
            Ok(removal(vec![tag.clone()], Vec::new()))
        }
        Target::Digest(digest) => remove_digest(name, digest, options),
        Target::Everything => everything(name),
    }
}

fn remove_digest(name: &str, digest: &str, options: &Pairs) -> Result<Removal> {
    let tags = match extras::all(name).ok().and_then(|extras| extras.tags_of(digest)) {
        Some(tags) => tags,
        None => distribution::siblings(&client(), name, digest)?,
    };
    distribution::spare_siblings(name, digest, &tags, options)?;
    if tags.len() > DELETIONS {
        return Err(too_many(name));
    }
    if invocation::dry_run() {
        distribution::digest_of(&client(), name, digest)?;
    } else {
        for tag in &tags {
            delete(name, tag)?;
        }
        delete(name, digest)?;
    }
    Ok(removal(vec![digest.to_owned()], tags))
}

fn too_many(name: &str) -> Error {
    Error::other(format!(
        "{name} has more tags and manifests than can be deleted one by one; use `gcloud artifacts docker images delete {}/{name} \
         --delete-tags`",
        invocation::registry()
    ))
    .code("too-many-tags")
}

/// One deletion by the registry, and what its refusals mean.
fn delete(name: &str, reference: &str) -> Result<()> {
    let url = Client::url(&format!("/v2/{name}/manifests/{reference}"));
    let answer = client().send(&[Scope::repository(name, ["delete"])], || Request::delete(&*url))?;
    if answer.is_success() {
        return Ok(());
    }
    let separator = if reference.contains(':') { '@' } else { ':' };
    let doing = format!("delete {name}{separator}{reference}");
    let error = refusal::error(&answer, &doing);
    let body = answer.text();
    let status = answer.status();
    Err(if error.code == "GOOGLE_MANIFEST_DANGLING_TAG" {
        Error::conflict(format!(
            "could not {doing}: a tag points to it that was not there a moment ago; look with `idp list`"
        ))
        .code("siblings")
        .status(status)
    } else if error.code == "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE" {
        Error::conflict(format!("could not {doing}: an index refers to it; delete the index first"))
            .code("GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE")
            .status(status)
    } else if is_immutable(&error.code, &body) {
        Error::conflict(format!(
            "could not {doing}: the tags of this repository are immutable, so they cannot be deleted; see `gcloud artifacts repositories \
             update --no-immutable-tags`"
        ))
        .code("immutable")
        .status(status)
    } else {
        error
    })
}

/// Whether a refusal is about immutable tags.
pub(crate) fn is_immutable(code: &str, body: &str) -> bool {
    let lower = body.to_ascii_lowercase();
    lower.contains("immutable") || (code == "FAILED_PRECONDITION" && lower.contains("tag"))
}

/// The image with everything in it: one request to the API, or every tag and then every manifest.
fn everything(name: &str) -> Result<Removal> {
    let place = place::image(name)?;
    let extras = extras::all(name)?;
    let tags = extras.tags.clone().unwrap_or_default();
    if invocation::dry_run() {
        return Ok(removal(tags, Vec::new()));
    }
    if let Some(api) = Api::new(&place)? {
        let answer = api.delete(&place.package())?;
        if answer.is_success() {
            let operation = api.follow(answer.json::<Operation>().unwrap_or_default())?;
            if let Some(error) = &operation.error {
                return Err(api::failed(error, &format!("delete {name}"), &place));
            }
            let asynchronous = !operation.done && !operation.name.is_empty();
            return Ok(Removal { asynchronous, ..removal(tags, Vec::new()) });
        }
        if !matches!(answer.status(), 403 | 404) {
            return Err(api::error(&answer, &format!("delete {name}"), &place));
        }
    }
    piece_by_piece(name, &extras, tags)
}

fn piece_by_piece(name: &str, extras: &Extras, tags: Vec<String>) -> Result<Removal> {
    let digests: Vec<&String> = extras.manifest.iter().flat_map(|manifests| manifests.keys()).collect();
    if tags.len() + 2 * digests.len() > DELETIONS {
        return Err(too_many(name));
    }
    for tag in &tags {
        delete(name, tag)?;
    }
    // What an index refers to goes after the index: a second round finds it free.
    let mut left: BTreeSet<&String> = digests.into_iter().collect();
    for last in [false, true] {
        for digest in left.clone() {
            match delete(name, digest) {
                Ok(()) => {
                    left.remove(digest);
                }
                Err(error) if error.code == "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE" && !last => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removal(tags, Vec::new()))
}

fn removal(removed: Vec<String>, also_removed: Vec<String>) -> Removal {
    Removal { removed, also_removed, asynchronous: false, extra: Vec::new() }
}
