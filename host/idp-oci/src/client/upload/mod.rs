//! A blob's way up: mounted, sent whole, or in chunks; begun anew when a session breaks, and no session left behind
//! (distribution-spec, "Pushing blobs"; registries.md 0.3). Depends on `call` and on the hints of the dialect.

mod stream;
mod way;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{Method, StatusCode};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::auth::Access;
use super::call::{Answered, Call, is_passing};
use super::dialect::Hints;
use super::http::{Body, HttpError};
use super::learned::Trait;
use super::progress::{Event, Outcome};
use super::retry::{self, Waits};
use super::{Client, ClientError, redirect};
use crate::blob::Blob;
use crate::digest::Hasher;
use crate::name::Repository;
pub use stream::Unsent;
pub use way::Presence;
pub(crate) use way::SMALL;
use way::{CHUNK, From, Single, Way};

/// How long cleaning up may hold up the end (case 48).
const CLEAN_UP: Duration = Duration::from_secs(2);
/// From this size on a registry is asked what it has kept of a broken upload.
const WORTH_RESUMING: u64 = 1024 * 1024;
/// No chunk is made smaller than this because of a 413 or 416 (case 44).
const LEAST_CHUNK: u64 = 4 * 1024 * 1024;
/// A registry cannot ask for larger chunks than this: a broken one is sent again.
const MOST_CHUNK: u64 = 512 * 1024 * 1024;
/// How often a session may vanish under an upload (case 43).
const MOST_VANISHED: usize = 3;

impl Client {
    /// Brings a blob to a repository: not at all when it is there, by a mount from one of `mount_from`, or by sending it. When
    /// `cancel` fires, the upload's session is deleted before this returns.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Blob,
        presence: Presence,
        mount_from: &[Repository],
        cancel: &CancellationToken,
    ) -> Result<Outcome, ClientError> {
        let hints = self.hints(repository).await;
        let learned = &self.shared.learned;
        let digest = &blob.descriptor.digest;
        let presence = match presence {
            Presence::Unknown if learned.has_seen(repository, digest) => Presence::Likely,
            presence => presence,
        };
        let way = Way::of(&hints, learned, blob.descriptor.size, presence, repository, mount_from);
        if way.head {
            let there = tokio::select! {
                there = self.has_blob(repository, &blob.descriptor, Access::Push) => there?,
                () = cancel.cancelled() => return Err(ClientError::Interrupted),
            };
            if there {
                learned.learn_blob(repository, digest, true);
                return Ok(Outcome::Exists);
            }
        }
        let descriptor = &blob.descriptor;
        let what =
            format!("upload of blob {} to {}/{repository}", descriptor.digest.short(), self.registry());
        let mut upload = Upload {
            client: self,
            repository,
            blob,
            cancel,
            what,
            session: None,
            single: way.single,
            chunk: way.chunk,
            offset: 0,
            vanished: 0,
            rehashed: false,
            hints,
        };
        let result = upload.run(&way.mounts).await;
        match &result {
            Ok(_) => learned.learn_blob(repository, digest, true),
            Err(_) => upload.drop_session().await,
        }
        result
    }

    /// What bringing a blob would take when it is not there: the methods of the requests, in order.
    pub async fn rehearse_blob(
        &self,
        repository: &Repository,
        size: u64,
        presence: Presence,
        mount_from: &[Repository],
    ) -> Vec<&'static str> {
        let hints = self.hints(repository).await;
        Way::of(&hints, &self.shared.learned, size, presence, repository, mount_from).requests(size)
    }
}

struct Upload<'a> {
    client: &'a Client,
    repository: &'a Repository,
    blob: &'a Blob,
    cancel: &'a CancellationToken,
    what: String,
    hints: Hints,
    /// Where the session goes on, as of the newest answer (case 3).
    session: Option<Url>,
    /// Whether the bytes go with the POST.
    single: Single,
    /// Size of chunks, when it goes in chunks.
    chunk: Option<u64>,
    /// What the session has.
    offset: u64,
    vanished: usize,
    rehashed: bool,
}

/// What a failed step of an upload leads to.
enum Failed {
    /// Nothing helps.
    Final(ClientError),
    /// A new session may go well.
    Again { error: ClientError, asked: Option<Duration> },
    /// The session is gone; no reason to wait.
    Vanished(ClientError),
    /// Smaller requests may go well.
    TooLarge(ClientError),
}

impl Upload<'_> {
    async fn run(&mut self, mounts: &[From]) -> Result<Outcome, ClientError> {
        if let Some(outcome) = self.mount(mounts).await? {
            return Ok(outcome);
        }
        let mut waits = self.client.shared.options.retry.waits();
        loop {
            let failed = match self.send().await {
                Ok(()) => {
                    self.session = None;
                    return Ok(Outcome::Sent);
                }
                Err(failed) => failed,
            };
            if self.cancel.is_cancelled() {
                return Err(ClientError::Interrupted);
            }
            match failed {
                Failed::Final(error) => return Err(error),
                Failed::TooLarge(error) => {
                    let half = self.chunk.unwrap_or(self.blob.descriptor.size.min(4 * CHUNK)) / 2;
                    if half < LEAST_CHUNK {
                        return Err(error);
                    }
                    self.drop_session().await;
                    self.chunk = Some(half);
                }
                Failed::Vanished(error) => {
                    self.vanished += 1;
                    self.session = None;
                    if self.vanished > MOST_VANISHED {
                        return Err(error);
                    }
                }
                Failed::Again { error, asked } => {
                    self.wait(&mut waits, error, asked).await?;
                    if self.resume().await? {
                        self.session = None;
                        return Ok(Outcome::Sent);
                    }
                }
            }
        }
    }

    async fn wait(
        &self,
        waits: &mut Waits,
        error: ClientError,
        asked: Option<Duration>,
    ) -> Result<(), ClientError> {
        let Some(wait) = waits.after_failure(asked) else {
            return Err(counted(error, waits.failures()));
        };
        tokio::select! {
            () = self.client.wait(&self.what, waits, wait, asked.is_some(), error.cause()) => Ok(()),
            () = self.cancel.cancelled() => Err(ClientError::Interrupted),
        }
    }

    /// Asks for mounts. A granted one is the outcome. A session that is opened instead is used (cases 35, 36); a refusal is none:
    /// the bytes are sent.
    async fn mount(&mut self, mounts: &[From]) -> Result<Option<Outcome>, ClientError> {
        let digest = &self.blob.descriptor.digest;
        let learned = &self.client.shared.learned;
        for from in mounts {
            self.drop_session().await;
            let mut url = self.client.url(self.repository, "blobs/uploads/");
            let mut scopes = Access::Push.scopes(self.repository);
            let source = match from {
                From::Repository(source) => {
                    scopes.extend(Access::Pull.scopes(source));
                    Some(source)
                }
                From::Own => Some(self.repository),
                From::Anywhere => None,
            };
            let source = source.map(|source| format!("&from={source}")).unwrap_or_default();
            url.set_query(Some(&format!("mount={digest}{source}")));
            let call = Call::new(Method::POST, url, scopes, self.what.clone()).once();
            let answered = match self.graceful(&call).await {
                Ok(answered) => answered,
                Err(ClientError::Interrupted) => return Err(ClientError::Interrupted),
                Err(_) => continue,
            };
            match answered.response.status {
                StatusCode::CREATED => {
                    let named = answered.response.header("docker-content-digest");
                    if named.is_none_or(|named| named == digest.as_str()) {
                        if *from == From::Own {
                            learned.learn(Trait::OwnMount, true);
                            return Ok(Some(Outcome::Exists));
                        }
                        return Ok(Some(Outcome::Mounted));
                    }
                }
                StatusCode::ACCEPTED => self.adopt(&answered)?,
                // A repository that is not there, or may not be written, is not the mount's fault.
                status if *from == From::Own && !matches!(status.as_u16(), 401 | 403 | 404) => {
                    learned.learn(Trait::OwnMount, false);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Sends a POST that may open a session. It is not dropped half-way: its answer names what has to be deleted.
    async fn graceful(&mut self, call: &Call) -> Result<Answered, ClientError> {
        if self.cancel.is_cancelled() {
            return Err(ClientError::Interrupted);
        }
        let client = self.client;
        let calling = client.call(call);
        tokio::pin!(calling);
        let answered = tokio::select! {
            answered = &mut calling => return answered,
            () = self.cancel.cancelled() => tokio::time::timeout(CLEAN_UP, &mut calling).await,
        };
        if let Ok(Ok(answered)) = answered
            && answered.response.status == StatusCode::ACCEPTED
        {
            self.adopt(&answered)?;
        }
        Err(ClientError::Interrupted)
    }

    /// Opens a session. True when the blob went with the POST.
    async fn start(&mut self) -> Result<bool, Failed> {
        if self.single != Single::No && self.single_post().await? {
            return Ok(true);
        }
        if self.session.is_some() {
            return Ok(false);
        }
        let url = self.client.url(self.repository, "blobs/uploads/");
        let call = Call::new(Method::POST, url, Access::Push.scopes(self.repository), self.what.clone());
        let answered = self.graceful(&call).await.map_err(Failed::Final)?;
        match answered.response.status.as_u16() {
            200 | 201 | 202 | 204 if answered.response.headers.contains_key(LOCATION) => {
                self.adopt(&answered).map_err(Failed::Final)?;
                Ok(false)
            }
            _ => Err(Failed::Final(self.client.refusal(&call, answered, None).await)),
        }
    }

    /// Sends the blob with the POST. True when that was all; a session that is opened instead is used, and what the registry does not
    /// know is not tried again (case 37).
    async fn single_post(&mut self) -> Result<bool, Failed> {
        let is_probe = self.single == Single::Probe;
        self.single = Single::No;
        let digest = &self.blob.descriptor.digest;
        let mut url = self.client.url(self.repository, "blobs/uploads/");
        url.set_query(Some(&format!("digest={digest}")));
        let mut call = Call::new(Method::POST, url, Access::Push.scopes(self.repository), self.what.clone())
            .body(self.body(0, self.blob.descriptor.size))
            .header(CONTENT_TYPE, "application/octet-stream");
        // Some fail with a 500 at what they do not know: a plain POST shows whether it is that.
        if is_probe {
            call = call.once();
        }
        let learned = &self.client.shared.learned;
        let answered = match self.graceful(&call).await {
            Ok(answered) => answered,
            Err(error) if is_probe && is_passing(&error) => return Ok(false),
            Err(error) => return Err(Failed::Final(error)),
        };
        match answered.response.status.as_u16() {
            201 => {
                learned.learn(Trait::SinglePost, true);
                Ok(true)
            }
            200 | 202 | 204 if answered.response.headers.contains_key(LOCATION) => {
                learned.learn(Trait::SinglePost, false);
                self.adopt(&answered).map_err(Failed::Final)?;
                Ok(false)
            }
            400 | 404 | 405 => {
                // A missing project is a 404 as well: the plain POST that follows says so, and nothing is concluded.
                if answered.response.status != StatusCode::NOT_FOUND {
                    learned.learn(Trait::SinglePost, false);
                }
                Ok(false)
            }
            _ if is_probe && retry::is_transient(answered.response.status) => {
                if let Some(asked) = retry::retry_after(&answered.response.headers) {
                    // The plain POST waits at the gate like everybody else.
                    let cap = self.client.shared.options.retry.server_cap;
                    self.client.shared.gate.hold(asked.min(cap));
                }
                Ok(false)
            }
            _ => Err(Failed::Final(self.client.refusal(&call, answered, None).await)),
        }
    }

    /// Takes the session that an answer names, and the least size of chunks it asks for (case 40).
    fn adopt(&mut self, answered: &Answered) -> Result<(), ClientError> {
        let response = &answered.response;
        if let Some(location) = response.headers.get(LOCATION) {
            let location = String::from_utf8_lossy(location.as_bytes());
            let allow = self.client.shared.http.options().allow_private_redirects;
            let home = self.client.shared.home;
            let session = redirect::resolve(&response.url, home, &location, allow).map_err(|error| {
                let error = match error {
                    // Whoever was sent a credential may hand it back here.
                    HttpError::Redirect(text) => HttpError::Redirect(self.client.shared.session.scrub(&text)),
                    error => error,
                };
                let request = "Location of an upload session".to_owned();
                ClientError::Network { what: self.what.clone(), request, attempts: answered.attempts, error }
            })?;
            self.session = Some(session);
        }
        let least = response.header("oci-chunk-min-length").and_then(|value| value.parse::<u64>().ok());
        if let (Some(chunk), Some(least)) = (self.chunk, least) {
            self.chunk = Some(chunk.max(least.min(MOST_CHUNK)));
        }
        Ok(())
    }

    /// Everything from the session's offset on.
    async fn send(&mut self) -> Result<(), Failed> {
        if self.session.is_none() {
            self.offset = 0;
            if self.start().await? {
                return Ok(());
            }
        }
        let size = self.blob.descriptor.size;
        if let Some(chunk) = self.chunk {
            let chunk =
                chunk.max(self.hints.chunk_min.unwrap_or(1)).min(self.hints.chunk_max.unwrap_or(MOST_CHUNK));
            while self.offset < size {
                self.patch(chunk.max(1)).await?;
            }
        }
        let mut url = self.session.clone().ok_or_else(|| self.no_session())?;
        let digest = format!("digest={}", self.blob.descriptor.digest);
        let query = url.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&{digest}"));
        url.set_query(Some(&query.unwrap_or(digest)));
        let call = Call::new(Method::PUT, url, Access::Push.scopes(self.repository), self.what.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(self.body(self.offset, size - self.offset))
            .once();
        let answered = self.step(&call).await?;
        // Strictly 201; others are seen in the field (case 38).
        if matches!(answered.response.status.as_u16(), 200 | 201 | 202 | 204) {
            return Ok(());
        }
        Err(self.failed(&call, answered).await)
    }

    async fn patch(&mut self, chunk: u64) -> Result<(), Failed> {
        let url = self.session.clone().ok_or_else(|| self.no_session())?;
        let length = chunk.min(self.blob.descriptor.size - self.offset);
        let call = Call::new(Method::PATCH, url, Access::Push.scopes(self.repository), self.what.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, &format!("{}-{}", self.offset, self.offset + length - 1))
            .body(self.body(self.offset, length))
            .once();
        let answered = self.step(&call).await?;
        // Strictly 202; 201 is ECR's, 204 others' (case 39). `Range` is not believed here: it is stale or ambiguous on many.
        if matches!(answered.response.status.as_u16(), 200 | 201 | 202 | 204) {
            self.adopt(&answered).map_err(Failed::Final)?;
            self.offset += length;
            return Ok(());
        }
        Err(self.failed(&call, answered).await)
    }

    /// One exchange of the session, given up when the push is.
    async fn step(&self, call: &Call) -> Result<Answered, Failed> {
        let answered = tokio::select! {
            answered = self.client.call(call) => answered,
            () = self.cancel.cancelled() => Err(ClientError::Interrupted),
        };
        answered.map_err(|error| {
            if is_passing(&error) { Failed::Again { error, asked: None } } else { Failed::Final(error) }
        })
    }

    /// What a refused PATCH or PUT leads to.
    async fn failed(&mut self, call: &Call, answered: Answered) -> Failed {
        let status = answered.response.status;
        let asked = retry::retry_after(&answered.response.headers);
        let error = self.client.refusal(call, answered, None).await;
        let names = |code| error.refusal().is_some_and(|refusal| refusal.has_code(code));
        if names("DIGEST_INVALID") {
            return self.judge_digest(error).await;
        }
        if status == StatusCode::NOT_FOUND || names("BLOB_UPLOAD_UNKNOWN") || names("BLOB_UPLOAD_INVALID") {
            return Failed::Vanished(error);
        }
        if matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::RANGE_NOT_SATISFIABLE) {
            return Failed::TooLarge(error);
        }
        if retry::is_transient(status) { Failed::Again { error, asked } } else { Failed::Final(error) }
    }

    /// The registry got other bytes than were promised. Ours are hashed again: if they are what they should be, the way spoiled
    /// them, and they are sent once more (cases 46, 47).
    async fn judge_digest(&mut self, error: ClientError) -> Failed {
        let expected = &self.blob.descriptor.digest;
        let hashed = self
            .blob
            .read_from(0)
            .try_fold(Hasher::new(expected.algorithm()), async |mut hasher, chunk| {
                hasher.update(&chunk);
                Ok(hasher)
            })
            .await;
        let problem = match hashed.map(Hasher::finish) {
            Ok(actual) if actual != *expected => {
                format!(
                    "what is to be sent changed while it was read: it is {actual} now, and was {expected}"
                )
            }
            Ok(_) if !self.rehashed => {
                self.rehashed = true;
                return Failed::Again { error, asked: None };
            }
            Ok(_) => return Failed::Final(error),
            Err(error) => error.to_string(),
        };
        Failed::Final(ClientError::Source { what: self.what.clone(), problem })
    }

    /// After a broken exchange: goes on where the registry says it stands, or starts over. True when it turns out that the
    /// registry has everything (case 45).
    async fn resume(&mut self) -> Result<bool, ClientError> {
        let size = self.blob.descriptor.size;
        let Some(url) = self.session.clone().filter(|_| size > WORTH_RESUMING && self.hints.trust_range)
        else {
            self.drop_session().await;
            return Ok(false);
        };
        let call =
            Call::new(Method::GET, url, Access::Push.scopes(self.repository), self.what.clone()).once();
        let status = match self.step(&call).await {
            Ok(answered) => Some(answered),
            Err(_) if self.cancel.is_cancelled() => return Err(ClientError::Interrupted),
            Err(_) => None,
        };
        match status {
            Some(answered) if answered.response.status == StatusCode::NO_CONTENT => {
                let kept = answered.response.headers.get(RANGE).and_then(|range| kept(range.to_str().ok()?));
                // `0-0` is said for nothing as well as for one byte (case 42).
                match kept {
                    Some(kept) if kept > 1 && kept <= size => {
                        self.adopt(&answered)?;
                        self.offset = kept;
                        self.chunk.get_or_insert(size);
                        return Ok(false);
                    }
                    _ => {}
                }
            }
            // The session is over: perhaps because it was completed, and only the answer was lost.
            Some(answered) if answered.response.status == StatusCode::NOT_FOUND => {
                self.session = None;
                return self.client.has_blob(self.repository, &self.blob.descriptor, Access::Push).await;
            }
            _ => {}
        }
        self.drop_session().await;
        Ok(false)
    }

    /// Deletes the session, as well as that can be done.
    async fn drop_session(&mut self) {
        self.offset = 0;
        let Some(url) = self.session.take() else { return };
        let call =
            Call::new(Method::DELETE, url, Access::Push.scopes(self.repository), self.what.clone()).once();
        let deleted = tokio::time::timeout(CLEAN_UP, self.client.call(&call)).await;
        if !matches!(&deleted, Ok(Ok(answered)) if answered.response.status.is_success()) {
            tracing::debug!(target: "idp::upload", what = self.what, "the upload session could not be deleted");
        }
    }

    /// A region of the blob as a body that tells how far it is.
    fn body(&self, start: u64, length: u64) -> Body {
        if length == 0 {
            return Body::Empty;
        }
        let (blob, client) = (self.blob.clone(), self.client.clone());
        let open = move || {
            let (client, digest) = (client.clone(), blob.descriptor.digest.clone());
            let mut position = start;
            let end = start + length;
            blob.read_from(start)
                .try_filter_map(move |mut chunk| {
                    let rest = usize::try_from(end - position).unwrap_or(usize::MAX);
                    chunk.truncate(rest);
                    position += chunk.len() as u64;
                    client.progress().event(Event::BlobAdvanced { digest: digest.clone(), position });
                    futures_util::future::ready(Ok((!chunk.is_empty()).then_some(chunk)))
                })
                .boxed()
        };
        Body::Stream { length, open: Arc::new(open) }
    }

    fn no_session(&self) -> Failed {
        let problem = "the registry opened an upload and did not say where".to_owned();
        Failed::Final(ClientError::Content { what: self.what.clone(), problem })
    }
}

/// How many bytes `0-9`, `bytes=0-9` say are there.
fn kept(range: &str) -> Option<u64> {
    let (start, end) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    (start == "0").then(|| end.parse::<u64>().ok()?.checked_add(1))?
}

/// The error with the number of tries that the upload made.
fn counted(error: ClientError, tries: usize) -> ClientError {
    match error {
        ClientError::Network { what, request, error, .. } => {
            ClientError::Network { what, request, error, attempts: tries }
        }
        ClientError::Refused(mut refusal) => {
            refusal.attempts = tries;
            ClientError::Refused(refusal)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::kept;

    /// Case 42.
    #[test]
    fn ranges_of_sessions() {
        for (range, expect) in [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(1)),
            ("bytes=0--1", None),
            ("5-9", None),
            ("", None),
        ] {
            assert_eq!(kept(range), expect, "{range}");
        }
    }
}
