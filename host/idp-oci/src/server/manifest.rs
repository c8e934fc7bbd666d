//! Manifests: put, read, delete (distribution-spec, "Pushing Manifests"). The bytes are kept as they came; what they name
//! must be there first.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::json;

use crate::digest::{Digest, Hasher};
use crate::manifest::{Descriptor, Manifest, Shape};
use crate::media;
use crate::name::{Repository, Tag, Target};
use crate::server::blob::{CONTENT_DIGEST, FOR_EVER, accepted, identify, insert, is_known};
use crate::server::body::Incoming;
use crate::server::error::Error;
use crate::server::page::Query;
use crate::server::{Registry, length};
use crate::store::{Referral, StoredManifest};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(crate) const TAG: HeaderName = HeaderName::from_static("oci-tag");

pub(crate) async fn put(
    registry: &Registry,
    parts: &Parts,
    incoming: &mut Incoming,
    repository: &Repository,
    target: &Target,
    query: &Query,
) -> Result<Response, Error> {
    let bytes = read_body(registry, parts, incoming).await?;
    let digest = match target {
        Target::Digest(expected) => verify(expected, &bytes)?,
        Target::Tag(_) => Digest::of(&bytes),
    };
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let manifest = Manifest::parse(bytes, content_type)?;
    let tags = tags(target, query, registry.limits.tags)?;
    check_references(registry, repository, &manifest).await?;
    let referral = Referral::of(&manifest)?;
    let stored = StoredManifest {
        media_type: manifest.descriptor().media_type.clone(),
        digest,
        bytes: manifest.bytes().clone(),
    };
    let put = registry.store.put_manifest(repository, &stored, referral.as_ref(), &tags);
    registry.measured("PutManifest", put).await?;

    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    insert(headers, LOCATION, &format!("/v2/{repository}/manifests/{}", stored.digest));
    insert(headers, CONTENT_DIGEST, stored.digest.as_str());
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    if let Some(referral) = &referral {
        insert(headers, SUBJECT, referral.subject.as_str());
    }
    for tag in &tags {
        if let Ok(value) = HeaderValue::try_from(tag.as_str()) {
            headers.append(TAG, value);
        }
    }
    Ok(response)
}

async fn read_body(registry: &Registry, parts: &Parts, incoming: &mut Incoming) -> Result<Bytes, Error> {
    let limit = registry.limits.manifest_bytes;
    let too_large = || {
        let message = format!("a manifest has at most {limit} bytes here");
        Error::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    };
    if length(&parts.headers).is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    incoming.whole(limit).await?.ok_or_else(too_large)
}

fn verify(expected: &Digest, bytes: &[u8]) -> Result<Digest, Error> {
    let mut hasher = Hasher::new(expected.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    if actual == *expected {
        Ok(actual)
    } else {
        let message = format!("the manifest has digest {actual}, and not {expected}");
        Err(Error::bad_request("DIGEST_INVALID", message))
    }
}

/// The tag in the path, or those in `?tag=` beside a digest.
fn tags(target: &Target, query: &Query, most: usize) -> Result<Vec<Tag>, Error> {
    let mut tags = BTreeSet::new();
    if let Target::Tag(tag) = target {
        tags.insert(tag.clone());
    } else {
        for text in query.all("tag") {
            tags.insert(text.parse().map_err(|error: crate::name::NameError| {
                Error::bad_request("TAG_INVALID", error.to_string())
            })?);
        }
    }
    if tags.len() > most {
        let message = format!("a request names at most {most} tags; send the others in another");
        return Err(Error::new(StatusCode::URI_TOO_LONG, "TAG_INVALID", message));
    }
    Ok(tags.into_iter().collect())
}

/// One `MANIFEST_BLOB_UNKNOWN` for each thing that is missing, all in one answer.
async fn check_references(
    registry: &Registry,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<(), Error> {
    let mut missing = BTreeMap::new();
    match manifest.shape() {
        Shape::Image { config, layers } => {
            let named = std::iter::once(&**config).chain(layers).filter(|named| !is_elsewhere(named));
            let named: BTreeSet<Digest> = named.map(|named| named.digest.clone()).collect();
            let named: Vec<Digest> = named.into_iter().collect();
            for digest in registry.store.missing_blobs(repository, &named).await? {
                missing.insert(digest, "blob");
            }
        }
        Shape::Index { .. } if registry.limits.sparse_indexes => {}
        Shape::Index { manifests } => {
            for named in manifests {
                if !registry.store.has_manifest(repository, &named.digest).await? {
                    missing.insert(named.digest.clone(), "manifest");
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let errors = missing.into_iter().map(|(digest, what)| {
        (format!("`{repository}` has no {what} {digest}: push it first"), json!({ "digest": digest }))
    });
    Err(Error::each(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", errors))
}

/// Layers that are to be had from somewhere else need not be here.
fn is_elsewhere(descriptor: &Descriptor) -> bool {
    !descriptor.urls.is_empty() || media::is_foreign(&descriptor.media_type)
}

pub(crate) async fn read(
    registry: &Registry,
    parts: &Parts,
    repository: &Repository,
    target: &Target,
) -> Result<Response, Error> {
    let read = registry.store.manifest(repository, target);
    let Some(manifest) = registry.measured("GetManifest", read).await? else {
        return Err(unknown(repository, target));
    };
    let mut response = Response::new(Body::empty());
    identify(response.headers_mut(), &manifest.digest);
    let keep =
        if matches!(target, Target::Digest(_)) { FOR_EVER } else { HeaderValue::from_static("no-cache") };
    response.headers_mut().insert(CACHE_CONTROL, keep);
    if is_known(&parts.headers, &manifest.digest) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let headers = response.headers_mut();
    insert(headers, CONTENT_TYPE, &manifest.media_type);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(manifest.bytes.len()));
    if parts.method == Method::GET {
        *response.body_mut() = Body::from(manifest.bytes);
    }
    Ok(response)
}

pub(crate) async fn delete(
    registry: &Registry,
    repository: &Repository,
    target: &Target,
) -> Result<Response, Error> {
    let deleted = match target {
        Target::Tag(tag) => {
            registry.measured("DeleteTag", registry.store.delete_tag(repository, tag)).await?
        }
        Target::Digest(digest) => {
            registry.measured("DeleteManifest", registry.store.delete_manifest(repository, digest)).await?
        }
    };
    if deleted { Ok(accepted()) } else { Err(unknown(repository, target)) }
}

fn unknown(repository: &Repository, target: &Target) -> Error {
    Error::not_found("MANIFEST_UNKNOWN", format!("`{repository}` has no manifest {target}"))
}
