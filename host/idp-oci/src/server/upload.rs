//! Uploads: begin, mount, append, finish, ask, cancel (distribution-spec, "Pushing blobs"). Bytes stream into the session.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use crate::digest::{Algorithm, Digest};
use crate::name::Repository;
use crate::server::access::{Action, Need};
use crate::server::blob::{CONTENT_DIGEST, insert};
use crate::server::body::Incoming;
use crate::server::error::Error;
use crate::server::gate::{Requester, too_many};
use crate::server::page::Query;
use crate::server::{Registry, length};
use crate::store::upload::{Upload, UploadError, UploadId};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// POST: a mount, a whole blob, or a session.
pub(crate) async fn begin(
    registry: &Registry,
    requester: &Requester,
    incoming: &mut Incoming,
    repository: &Repository,
    query: &Query,
) -> Result<Response, Error> {
    if let Some(digest) = query.get("mount") {
        let digest = parse_digest(digest)?;
        if mount(registry, requester, repository, &digest, query).await? {
            return Ok(created(repository, &digest));
        }
    } else if let Some(digest) = query.get("digest") {
        let digest = parse_digest(digest)?;
        let _place = place(registry)?;
        check_declared(registry, incoming, 0)?;
        let mut upload = registry.uploads.single(digest.algorithm()).await?;
        receive(registry, incoming, &mut upload).await?;
        let size = upload.offset();
        registry.measured("CommitBlob", upload.commit(repository, &digest)).await?;
        registry.beside.metrics.uploaded(size);
        return Ok(created(repository, &digest));
    }
    let algorithm = match query.get("digest-algorithm") {
        None | Some("sha256") => Algorithm::Sha256,
        Some("sha512") => Algorithm::Sha512,
        Some(other) => {
            let message = format!("digest algorithm `{other}` is not supported; sha256 and sha512 are");
            return Err(Error::bad_request("DIGEST_INVALID", message));
        }
    };
    let owner = requester.sender().map(|sender| sender.to_string()).unwrap_or_default();
    let id = registry.uploads.begin(repository, algorithm, &owner).await?;
    Ok(state(StatusCode::ACCEPTED, repository, id, 0))
}

/// A blob is mounted from where the client may read. What it may not read does not exist for it.
async fn mount(
    registry: &Registry,
    requester: &Requester,
    repository: &Repository,
    digest: &Digest,
    query: &Query,
) -> Result<bool, Error> {
    // A source that is no name has no blob: the client gets a session, as for any other source without it.
    let from = match query.get("from").filter(|from| !from.is_empty()).map(str::parse::<Repository>) {
        Some(Err(_)) => return Ok(false),
        from => from.transpose().ok().flatten(),
    };
    let need = match &from {
        Some(from) => Need::Repository(from, Action::Pull),
        None => Need::AnyRepository(Action::Pull),
    };
    if !registry.may(requester, need) {
        return Ok(false);
    }
    let mounted =
        registry.measured("MountBlob", registry.store.mount(repository, digest, from.as_ref())).await?;
    if mounted {
        registry.beside.metrics.mounted();
    }
    Ok(mounted)
}

/// PATCH: the next bytes, with or without saying where they belong.
pub(crate) async fn append(
    registry: &Registry,
    parts: &Parts,
    incoming: &mut Incoming,
    repository: &Repository,
    id: &str,
) -> Result<Response, Error> {
    let id: UploadId = id.parse()?;
    let mut upload = registry.uploads.open(repository, id).await?;
    let offset = accept(registry, parts, incoming, repository, id, &mut upload).await?;
    Ok(state(StatusCode::ACCEPTED, repository, id, offset))
}

/// PUT: the last bytes, if any, and the digest of all.
pub(crate) async fn finish(
    registry: &Registry,
    parts: &Parts,
    incoming: &mut Incoming,
    repository: &Repository,
    id: &str,
    query: &Query,
) -> Result<Response, Error> {
    let id: UploadId = id.parse()?;
    let mut upload = registry.uploads.open(repository, id).await?;
    let digest = query.get("digest").ok_or_else(|| {
        Error::bad_request("DIGEST_INVALID", "the last request of an upload names its digest: ?digest=…")
    })?;
    let digest = parse_digest(digest)?;
    upload.expect(digest.algorithm());
    let size = accept(registry, parts, incoming, repository, id, &mut upload).await?;
    registry.measured("CommitBlob", registry.uploads.finish(repository, id, upload, &digest)).await?;
    registry.beside.metrics.uploaded(size);
    Ok(created(repository, &digest))
}

/// GET: how far it has come.
pub(crate) async fn status(
    registry: &Registry,
    repository: &Repository,
    id: &str,
) -> Result<Response, Error> {
    let id: UploadId = id.parse()?;
    let offset = registry.uploads.open(repository, id).await?.offset();
    Ok(state(StatusCode::NO_CONTENT, repository, id, offset))
}

/// DELETE: no more of it.
pub(crate) async fn cancel(
    registry: &Registry,
    repository: &Repository,
    id: &str,
) -> Result<Response, Error> {
    registry.uploads.cancel(repository, id.parse()?).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Takes a chunk that belongs where the session stands, and says where it stands then.
async fn accept(
    registry: &Registry,
    parts: &Parts,
    incoming: &mut Incoming,
    repository: &Repository,
    id: UploadId,
    upload: &mut Upload,
) -> Result<u64, Error> {
    let offset = upload.offset();
    let declared = declared(&parts.headers)?;
    if let Some((first, _)) = declared
        && first != offset
    {
        let message = format!("the next byte of this upload is {offset}, and not {first}");
        return Err(Error::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", message)
            .with(LOCATION, location(repository, id))
            .with(RANGE, progress(offset)));
    }
    let _place = place(registry)?;
    check_declared(registry, incoming, offset)?;
    let received = match receive(registry, incoming, upload).await {
        Err(Failed::Storage(error)) => {
            registry.uploads.forget(id);
            return Err(error.into());
        }
        Err(Failed::Size(error)) => {
            // It can only grow: what came of it is of no use.
            registry.uploads.forget(id);
            return Err(error);
        }
        Err(Failed::Body(error)) => return Err(error),
        Ok(()) => upload.offset() - offset,
    };
    if let Some((first, last)) = declared
        && received != last - first + 1
    {
        let message = format!("Content-Range says {} bytes, and {received} came", last - first + 1);
        return Err(Error::bad_request("SIZE_INVALID", message));
    }
    Ok(upload.offset())
}

#[derive(Debug)]
enum Failed {
    Body(Error),
    Size(Error),
    Storage(UploadError),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Body(error) | Failed::Size(error) => error,
            Failed::Storage(error) => error.into(),
        }
    }
}

/// A place among the blobs that are received at once.
fn place(registry: &Registry) -> Result<OwnedSemaphorePermit, Error> {
    Arc::clone(&registry.receiving).try_acquire_owned().map_err(|_| {
        let message = format!("{} blobs are being received, which is the limit", registry.limits.receiving);
        too_many(&message, Duration::from_secs(1))
    })
}

/// Refuses what would be too large before any of it is read, where the client says how much it is.
fn check_declared(registry: &Registry, incoming: &Incoming, offset: u64) -> Result<(), Error> {
    let whole = incoming.declared().map_or(0, |declared| offset.saturating_add(declared));
    if whole > registry.limits.blob_bytes { Err(too_large(registry)) } else { Ok(()) }
}

fn too_large(registry: &Registry) -> Error {
    let message = format!("a blob has at most {} bytes here", registry.limits.blob_bytes);
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
}

/// Streams the body into the session. What came before a body broke off is kept: the client can ask and go on.
async fn receive(registry: &Registry, incoming: &mut Incoming, upload: &mut Upload) -> Result<(), Failed> {
    let ended = loop {
        match incoming.next().await {
            Ok(Some(chunk))
                if upload.offset().saturating_add(chunk.len() as u64) > registry.limits.blob_bytes =>
            {
                return Err(Failed::Size(too_large(registry)));
            }
            Ok(Some(chunk)) => upload.append(chunk).await.map_err(Failed::Storage)?,
            Ok(None) => break Ok(()),
            Err(error) => break Err(Failed::Body(error)),
        }
    };
    upload.flush().await.map_err(Failed::Storage)?;
    ended
}

/// First and last byte of the chunk, where the request says so; agrees with its length, where it says that.
fn declared(headers: &HeaderMap) -> Result<Option<(u64, u64)>, Error> {
    let Some(text) = headers.get(CONTENT_RANGE) else { return Ok(None) };
    let parsed = text.to_str().ok().and_then(|text| text.split_once('-')).and_then(|(first, last)| {
        let number =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        Some((number(first)?, number(last)?))
    });
    let Some((first, last)) = parsed.filter(|(first, last): &(u64, u64)| first <= last && *last < u64::MAX)
    else {
        let message = "Content-Range of a chunk is first-last, both counted in bytes from 0";
        return Err(Error::bad_request("BLOB_UPLOAD_INVALID", message));
    };
    if length(headers).is_some_and(|length| length != last - first + 1) {
        let message = "Content-Range and Content-Length of the chunk disagree";
        return Err(Error::bad_request("SIZE_INVALID", message));
    }
    Ok(Some((first, last)))
}

fn parse_digest(text: &str) -> Result<Digest, Error> {
    text.parse()
        .map_err(|error: crate::digest::DigestError| Error::bad_request("DIGEST_INVALID", error.to_string()))
}

fn location(repository: &Repository, id: UploadId) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

/// `0-<last byte>`; nothing yet is written as `0-0`, as registries do since Docker's first one.
fn progress(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

fn state(status: StatusCode, repository: &Repository, id: UploadId, offset: u64) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    insert(headers, LOCATION, &location(repository, id));
    insert(headers, RANGE, &progress(offset));
    insert(headers, UPLOAD_UUID, &id.to_string());
    if status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    response
}

fn created(repository: &Repository, digest: &Digest) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    insert(headers, LOCATION, &format!("/v2/{repository}/blobs/{digest}"));
    insert(headers, CONTENT_DIGEST, digest.as_str());
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    response
}
