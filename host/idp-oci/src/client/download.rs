//! A blob's way down: a stream that goes on after a broken connection where it stood, never yields more than was promised, and
//! ends well only when size and digest are right (cases 65, 67, 68). Depends on `call`.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::try_unfold;
use http::header::{ETAG, RANGE};
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::auth::Access;
use super::call::{Answered, Call, is_passing};
use super::decode::{self, Decoder};
use super::http::Response;
use super::progress::Event;
use super::redirect::same_origin;
use super::retry::Waits;
use super::{Client, ClientError};
use crate::blob::Chunks;
use crate::digest::Hasher;
use crate::manifest::Descriptor;
use crate::name::Repository;

/// So many bytes since the last failure make it the first one again.
const PROGRESS: u64 = 4 * 1024 * 1024;

/// How often in a row the registry is asked for another address of a blob (case 66).
const MOST_DENIED: usize = 2;

/// Who checks the digest. The size is always checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// The stream: its end is an error when the digest is another one.
    Here,
    /// Who reads it. Sinks do, and hashing twice costs as much as sending.
    Reader,
}

impl Client {
    /// Opens a blob. The first answer has been seen when this returns; errors of the stream hold a [`ClientError`] inside.
    pub async fn fetch_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        verify: Verify,
    ) -> Result<Chunks, ClientError> {
        let hasher = (verify == Verify::Here).then(|| Hasher::new(blob.digest.algorithm()));
        self.open_blob(repository, blob, 0, hasher).await
    }

    /// The same from `start` on, which is within the blob. Who reads it has the rest and checks the whole.
    pub async fn fetch_rest(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        start: u64,
    ) -> Result<Chunks, ClientError> {
        self.open_blob(repository, blob, start, None).await
    }

    async fn open_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        start: u64,
        hasher: Option<Hasher>,
    ) -> Result<Chunks, ClientError> {
        let mut download = Download::new(self, repository, blob, start..blob.size);
        download.hasher = hasher;
        download.open().await?;
        Ok(try_unfold(download, async |mut download: Download| {
            let chunk = download.next().await.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (chunk, download)))
        })
        .boxed())
    }
}

/// A blob, or a piece of one, on its way.
pub(super) struct Download {
    client: Client,
    call: Call,
    blob: Descriptor,
    /// Where the next bytes belong.
    pub(super) position: u64,
    /// Where it ends: the blob's size, but for pieces.
    pub(super) end: u64,
    hasher: Option<Hasher>,
    response: Option<Response>,
    /// Bytes of the answer that have been yielded before.
    skip: u64,
    waits: Waits,
    /// Where it broke last.
    broke_at: u64,
    /// Ranges are not asked for.
    pub(super) whole: bool,
    /// For an answer that was compressed on the way.
    decoder: Option<Decoder>,
    /// How often in a row a store did not let us in, to which the registry had sent us.
    denied: usize,
    /// One of several pieces: what all of them must be pieces of.
    pub(super) origin: Option<Arc<Origin>>,
}

/// Where the pieces of a blob come from.
#[derive(Debug)]
pub(super) struct Origin {
    /// What the registry's redirect led to; asked first, until it refuses (it may expire, case 66).
    pub(super) direct: Mutex<Option<Url>>,
    /// What each piece must be a piece of.
    pub(super) etag: Option<HeaderValue>,
}

impl Download {
    /// Nothing is asked yet.
    pub(super) fn new(
        client: &Client,
        repository: &Repository,
        blob: &Descriptor,
        range: Range<u64>,
    ) -> Self {
        let url = client.url(repository, &format!("blobs/{}", blob.digest));
        let what =
            format!("download of blob {} from {}/{repository}", blob.digest.short(), client.registry());
        Self {
            client: client.clone(),
            call: Call::new(Method::GET, url, Access::Pull.scopes(repository), what),
            blob: blob.clone(),
            position: range.start,
            end: range.end,
            hasher: None,
            response: None,
            skip: 0,
            waits: client.shared.options.retry.waits(),
            broke_at: range.start,
            whole: false,
            decoder: None,
            denied: 0,
            origin: None,
        }
    }

    /// Asks for the whole, and yields what has not been yielded.
    pub(super) fn restart(&mut self) {
        (self.whole, self.response, self.decoder) = (true, None, None);
    }

    /// Where the bytes of the last answer came from.
    pub(super) fn answered_by(&self) -> Option<Origin> {
        let response = self.response.as_ref()?;
        let direct = (!same_origin(&response.url, &self.call.url)).then(|| response.url.clone());
        Some(Origin { direct: Mutex::new(direct), etag: response.headers.get(ETAG).cloned() })
    }

    /// Asks; of pieces, first where the registry led to before.
    async fn ask(&mut self) -> Result<Answered, ClientError> {
        let direct = self.origin.as_ref().and_then(|origin| lock(&origin.direct).clone());
        if let Some(direct) = direct {
            let home = std::mem::replace(&mut self.call.url, direct);
            let answered = self.client.call(&self.call).await;
            self.call.url = home;
            match answered {
                Ok(answered) if answered.response.status == StatusCode::PARTIAL_CONTENT => {
                    return Ok(answered);
                }
                Err(error) if is_passing(&error) => return Err(error),
                _ => {}
            }
        }
        let answered = self.client.call(&self.call).await?;
        if let Some(origin) = &self.origin {
            let url = &answered.response.url;
            *lock(&origin.direct) = (!same_origin(url, &self.call.url)).then(|| url.clone());
        }
        Ok(answered)
    }

    /// Asks for the rest. Asks the registry itself, also after a redirect whose target has expired (case 66).
    pub(super) async fn open(&mut self) -> Result<(), ClientError> {
        self.call.headers.remove(RANGE);
        if (self.position > 0 || self.end < self.blob.size) && !self.whole {
            let last = if self.end < self.blob.size { (self.end - 1).to_string() } else { String::new() };
            let range = format!("bytes={}-{last}", self.position);
            let value = http::HeaderValue::from_str(&range).expect("digits stand in every header");
            self.call.headers.insert(RANGE, value);
        }
        let mut answered = self.ask().await?;
        // The registry may have sent us to an address that has expired meanwhile, and have a new one.
        while self.denied < MOST_DENIED && is_expired(&answered, &self.call.url) {
            self.denied += 1;
            answered = self.ask().await?;
        }
        if answered.response.status == StatusCode::RANGE_NOT_SATISFIABLE
            && self.call.headers.contains_key(RANGE)
        {
            // The range lies within the blob: who says otherwise does not do ranges well, and is not asked for one again.
            self.whole = true;
            self.call.headers.remove(RANGE);
            answered = self.client.call(&self.call).await?;
        }
        let response = &answered.response;
        self.skip = 0;
        if let Some(origin) = &self.origin
            && (response.status != StatusCode::PARTIAL_CONTENT
                || origin.etag.as_ref() != response.headers.get(ETAG))
        {
            return Err(self.content("the pieces that the registry sends are not of one whole"));
        }
        match response.status {
            StatusCode::OK => {
                self.decoder = Decoder::of(&response.headers, self.blob.size);
                // Ranges would be those of what it was made into.
                self.whole |= self.decoder.is_some();
                let promised = response.header("content-length").and_then(|value| value.parse::<u64>().ok());
                if self.decoder.is_none() && promised.is_some_and(|promised| promised > self.blob.size) {
                    return Err(self.content(&format!(
                        "the registry sends {} bytes, and the manifest says {}",
                        promised.unwrap_or_default(),
                        self.blob.size
                    )));
                }
                // It may not know ranges.
                self.skip = self.position;
                self.end = self.blob.size;
            }
            StatusCode::PARTIAL_CONTENT if self.call.headers.contains_key(RANGE) => {
                let expect = format!("bytes {}-{}/", self.position, self.end.saturating_sub(1));
                let range = response.header("content-range").unwrap_or_default();
                let total = range.strip_prefix(&expect);
                let wrong = !total.is_some_and(|total| total == "*" || total == self.blob.size.to_string());
                if wrong && decode::is_gzip(&response.headers) && self.origin.is_none() {
                    // A part of what it was compressed to is of no use.
                    self.whole = true;
                    return Box::pin(self.open()).await;
                }
                if wrong {
                    return Err(self.content(&format!("asked for the rest, the registry sent `{range}`")));
                }
            }
            _ => return Err(self.client.refusal(&self.call, answered, None).await),
        }
        self.denied = 0;
        self.response = Some(answered.response);
        Ok(())
    }

    /// A chunk as it came, as the blob's: decoded, and without what was yielded before.
    fn decoded(&mut self, chunk: Bytes) -> Result<Bytes, ClientError> {
        let mut chunk = match &mut self.decoder {
            Some(decoder) => decoder.push(&chunk).map_err(|error| self.badly_encoded(&error))?,
            None => chunk,
        };
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
        self.skip -= skipped as u64;
        Ok(chunk.split_off(skipped))
    }

    fn badly_encoded(&self, error: &io::Error) -> ClientError {
        self.content(&format!("it was sent compressed, and does not decompress: {error}"))
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if self.response.is_none() {
                self.open().await?;
            }
            let Some(response) = &mut self.response else { continue };
            let failure = match response.chunk().await {
                Ok(Some(chunk)) => {
                    let chunk = self.decoded(chunk)?;
                    if chunk.is_empty() {
                        continue;
                    }
                    return self.take(chunk).map(Some);
                }
                Ok(None) if self.decoder.is_some() => {
                    let rest = self.decoder.take().map_or(Ok(Bytes::new()), Decoder::finish);
                    let rest = rest.map_err(|error| self.badly_encoded(&error))?;
                    let rest = self.decoded(rest)?;
                    if rest.is_empty() {
                        continue;
                    }
                    return self.take(rest).map(Some);
                }
                Ok(None) if self.position == self.end => return self.finish().map(|()| None),
                Ok(None) => super::http::HttpError::Broken("the body ended early".to_owned()),
                // Everything is there; how the connection ended does not matter.
                Err(_) if self.position == self.end => return self.finish().map(|()| None),
                Err(error) => error,
            };
            self.response = None;
            self.again(failure).await?;
        }
    }

    /// Waits before the rest is asked for.
    async fn again(&mut self, failure: super::http::HttpError) -> Result<(), ClientError> {
        let error = ClientError::Network {
            what: self.call.what.clone(),
            request: format!("GET {}", super::redact::url(&self.call.url)),
            attempts: self.waits.failures() + 1,
            error: failure,
        };
        if !is_passing(&error) {
            return Err(error);
        }
        // Tries are for what does not get on: a download of hours may break more often than that.
        if self.position - self.broke_at >= PROGRESS {
            self.waits = self.client.shared.options.retry.waits();
        }
        self.broke_at = self.position;
        let Some(wait) = self.waits.after_failure(None) else { return Err(error) };
        self.client.wait(&self.call.what, &self.waits, wait, false, error.cause()).await;
        Ok(())
    }

    fn take(&mut self, chunk: Bytes) -> Result<Bytes, ClientError> {
        let position = self.position + chunk.len() as u64;
        if position > self.blob.size {
            return Err(
                self.content(&format!("more than the {} bytes that the manifest says", self.blob.size))
            );
        }
        if position > self.end {
            return Err(self.content("the registry sends more than the piece that was asked for"));
        }
        self.position = position;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        // Pieces come in any order; who puts them together tells.
        if self.origin.is_none() {
            let digest = self.blob.digest.clone();
            self.client.progress().event(Event::BlobAdvanced { digest, position });
        }
        Ok(chunk)
    }

    fn finish(&mut self) -> Result<(), ClientError> {
        match self.hasher.take().map(Hasher::finish) {
            Some(actual) if actual != self.blob.digest => {
                Err(self.content(&format!("the bytes are {actual}, and {} was asked for", self.blob.digest)))
            }
            _ => Ok(()),
        }
    }

    fn content(&self, problem: &str) -> ClientError {
        ClientError::Content { what: self.call.what.clone(), problem: problem.to_owned() }
    }
}

/// Not the registry, but a store that it sent us to, does not let us in.
fn is_expired(answered: &Answered, registry: &Url) -> bool {
    matches!(answered.response.status.as_u16(), 400 | 401 | 403 | 410)
        && !same_origin(&answered.response.url, registry)
}

fn lock(url: &Mutex<Option<Url>>) -> MutexGuard<'_, Option<Url>> {
    url.lock().unwrap_or_else(PoisonError::into_inner)
}
