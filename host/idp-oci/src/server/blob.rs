//! Blobs: read them, in parts too, and delete them (distribution-spec, "Pulling blobs"). Bytes stream from the store.

use std::io;
use std::ops::Range;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use crate::blob::Blob;
use crate::digest::Digest;
use crate::name::Repository;
use crate::server::Registry;
use crate::server::error::Error;
use crate::store::OCTETS;

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Content under its digest never changes. Private, as others may not be allowed to have it.
pub(crate) const FOR_EVER: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

pub(crate) async fn read(
    registry: &Registry,
    parts: &Parts,
    repository: &Repository,
    digest: &Digest,
) -> Result<Response, Error> {
    if parts.method == Method::GET
        && !is_known(&parts.headers, digest)
        && let Some(url) = registry.store.blob_url(repository, digest).await?
    {
        return Ok(elsewhere(digest, url.as_str()));
    }
    let Some(blob) = registry.measured("OpenBlob", registry.store.blob(repository, digest)).await? else {
        return Err(unknown(repository, digest));
    };
    let size = blob.descriptor.size;
    let mut response = Response::new(Body::empty());
    identify(response.headers_mut(), digest);
    response.headers_mut().insert(CACHE_CONTROL, FOR_EVER);
    if is_known(&parts.headers, digest) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    // The specification of HTTP knows ranges of GET only (RFC 9110 section 14.2).
    let wanted = if parts.method == Method::GET { range(&parts.headers, digest, size) } else { Wanted::All };
    let range = match wanted {
        Wanted::All => 0..size,
        Wanted::Part(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            insert(response.headers_mut(), CONTENT_RANGE, &value);
            range
        }
        Wanted::Nothing => {
            let message = format!("the blob has {size} bytes, and none of those that are asked for");
            return Err(Error::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", message)
                .with(CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if parts.method == Method::GET {
        *response.body_mut() = stream(&blob, range);
    }
    Ok(response)
}

/// Sends the client to where the bytes are; ranges are asked for there.
fn elsewhere(digest: &Digest, url: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let headers = response.headers_mut();
    insert(headers, CONTENT_DIGEST, digest.as_str());
    insert(headers, LOCATION, url);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    response
}

pub(crate) async fn delete(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
) -> Result<Response, Error> {
    if !registry.measured("DeleteBlob", registry.store.delete_blob(repository, digest)).await? {
        return Err(unknown(repository, digest));
    }
    Ok(accepted())
}

/// 202 and nothing else.
pub(crate) fn accepted() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    response
}

fn unknown(repository: &Repository, digest: &Digest) -> Error {
    Error::not_found("BLOB_UNKNOWN", format!("`{repository}` has no blob {digest}"))
}

/// The headers that say which content this is.
pub(crate) fn identify(headers: &mut HeaderMap, digest: &Digest) {
    insert(headers, CONTENT_DIGEST, digest.as_str());
    insert(headers, ETAG, &etag(digest));
}

/// A header whose value was parsed before: a digest, a name, a number.
pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client says that it has this content (RFC 9110 section 13.1.2).
pub(crate) fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    let etag = etag(digest);
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().trim_start_matches("W/"))
        .any(|value| value == "*" || value == etag)
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    Nothing,
}

/// One range is served; a request for several, or in other units, is answered with everything, as HTTP lets us.
fn range(headers: &HeaderMap, digest: &Digest, size: u64) -> Wanted {
    let Some(text) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else { return Wanted::All };
    if headers.get(IF_RANGE).is_some_and(|value| value.as_bytes() != etag(digest).as_bytes()) {
        return Wanted::All;
    }
    let Some(spec) = text.trim().strip_prefix("bytes=").map(str::trim) else { return Wanted::All };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Wanted::All;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number too large for us is beyond the end of every blob.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(last)) if first.is_empty() => size.saturating_sub(last)..size,
        _ => return Wanted::All,
    };
    if range.is_empty() { Wanted::Nothing } else { Wanted::Part(range) }
}

fn stream(blob: &Blob, range: Range<u64>) -> Body {
    let mut left = range.end - range.start;
    let chunks = blob.read_from(range.start).map_ok(move |mut chunk: Bytes| {
        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= chunk.len() as u64;
        (chunk, left)
    });
    // Ends after the chunk with which nothing is left, before another is read.
    let chunks = chunks.scan(false, |ended, chunk: io::Result<(Bytes, u64)>| {
        let item = (!*ended).then(|| {
            *ended = chunk.as_ref().map_or(true, |(_, left)| *left == 0);
            chunk.map(|(chunk, _)| chunk)
        });
        std::future::ready(item)
    });
    Body::from_stream(chunks)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::{IF_RANGE, RANGE};

    use super::{Wanted, range};
    use crate::digest::Digest;

    #[test]
    fn ranges() {
        let digest = Digest::of(b"");
        for (text, expect) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-5", Wanted::Part(2..6)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=2-99", Wanted::Part(2..10)),
            ("bytes=2-99999999999999999999999", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=10-20", Wanted::Nothing),
            ("bytes=5-0", Wanted::Nothing),
            ("bytes=0-1,3-4", Wanted::All),
            ("lines=0-1", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=", Wanted::All),
        ] {
            let headers = HeaderMap::from_iter([(RANGE, text.parse().expect("a value"))]);
            assert_eq!(range(&headers, &digest, 10), expect, "{text}");
        }
        let mut headers = HeaderMap::from_iter([(RANGE, "bytes=0-0".parse().expect("a value"))]);
        headers.insert(IF_RANGE, "\"other\"".parse().expect("a value"));
        assert_eq!(range(&headers, &digest, 10), Wanted::All);
        headers.insert(IF_RANGE, format!("\"{digest}\"").parse().expect("a value"));
        assert_eq!(range(&headers, &digest, 10), Wanted::Part(0..1));
    }
}
