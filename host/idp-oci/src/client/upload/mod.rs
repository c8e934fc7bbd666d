//! A blob's way up: mounted, sent whole, or in chunks; begun anew when a session breaks, and no session left behind
//! (distribution-spec, "Pushing blobs"; registries.md 0.3). Depends on `call` and on the hints of the dialect.

mod kept;
mod open;
mod recover;
mod stream;
mod turn;
mod way;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{Method, StatusCode};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::auth::Access;
use super::call::{Answered, Call, is_passing};
use super::dialect::Hints;
use super::http::Body;
use super::progress::{Event, Outcome};
use super::retry::Waits;
use super::{Client, ClientError, Kind, redirect};
use crate::blob::Blob;
use crate::manifest::Descriptor;
use crate::name::Repository;
use kept::Kept;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use recover::kept;
pub use stream::Unsent;
pub(super) use turn::Turns;
pub use way::Presence;
pub(crate) use way::SMALL;
use way::{CHUNK, From, MOST_CHUNK, Single, Way};

/// How long cleaning up may hold up the end (case 48).
const CLEAN_UP: Duration = Duration::from_secs(2);
/// From this size on a registry is asked what it has kept of a broken upload.
const WORTH_RESUMING: u64 = 1024 * 1024;
/// No chunk is made smaller than this because of a 413 or 416 (case 44).
const LEAST_CHUNK: u64 = 4 * 1024 * 1024;
/// How often a session may vanish under an upload (case 43).
const MOST_VANISHED: usize = 3;
/// How often chunks may be made smaller: from the largest to the least.
const MOST_SHRUNK: usize = 7;
/// How often a 416 may be about where a session stands (case 41).
const MOST_REALIGNED: usize = 3;

impl Client {
    /// Brings a blob to a repository: not at all when it is there, by a mount from one of `mount_from`, or by sending it. When
    /// `cancel` fires, the upload's session is deleted before this returns. Whoever brings what is just being brought waits for that.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Blob,
        presence: Presence,
        mount_from: &[Repository],
        cancel: &CancellationToken,
    ) -> Result<Outcome, ClientError> {
        let turn = self.shared.turns.of(repository, &blob.descriptor.digest);
        let mut is_there = tokio::select! {
            turn = turn.lock() => turn,
            () = cancel.cancelled() => return Err(ClientError::Interrupted),
        };
        if *is_there {
            return Ok(Outcome::Exists);
        }
        let outcome = self.bring(repository, blob, presence, mount_from, cancel).await;
        *is_there = outcome.is_ok();
        outcome
    }

    async fn bring(
        &self,
        repository: &Repository,
        blob: &Blob,
        presence: Presence,
        mount_from: &[Repository],
        cancel: &CancellationToken,
    ) -> Result<Outcome, ClientError> {
        let hints = self.hints(repository).await;
        let learned = &self.shared.learned;
        let descriptor = &blob.descriptor;
        let digest = &descriptor.digest;
        let way = self.way(&hints, repository, descriptor, presence, mount_from);
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
            shrunk: 0,
            rehashed: false,
            realigned: 0,
            not_found: false,
            hints,
            kept: None,
        };
        upload.take_kept();
        let result = upload.run(&way.mounts).await;
        match &result {
            Ok(_) => learned.learn_blob(repository, digest, true),
            // The network or the registry failed for good: the next process goes on where this one stood.
            Err(error)
                if error.kind() == Kind::Transient && upload.kept.is_some() && upload.session.is_some() =>
            {
                return result;
            }
            Err(_) => drop(upload.drop_session().await),
        }
        if let Some(kept) = upload.kept.take() {
            kept.forget();
        }
        result
    }

    /// What bringing a blob would take: methods and bytes of the requests, in order.
    pub async fn rehearse_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        presence: Presence,
        is_there: bool,
        mount_from: &[Repository],
    ) -> Vec<(&'static str, u64)> {
        let hints = self.hints(repository).await;
        self.way(&hints, repository, blob, presence, mount_from).requests(blob.size, is_there)
    }

    fn way(
        &self,
        hints: &Hints,
        repository: &Repository,
        blob: &Descriptor,
        presence: Presence,
        mount_from: &[Repository],
    ) -> Way {
        let learned = &self.shared.learned;
        let presence = match presence {
            Presence::Unknown if learned.has_seen(repository, &blob.digest) => Presence::Likely,
            presence => presence,
        };
        Way::of(hints, learned, blob.size, presence, repository, mount_from)
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
    /// How often requests were made smaller.
    shrunk: usize,
    rehashed: bool,
    /// How often a 416 was about the offset.
    realigned: usize,
    /// A single POST was answered with 404.
    not_found: bool,
    /// Where the session is noted for another process, when this one is cut off.
    kept: Option<Kept>,
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
        if self.session.is_some() {
            // Another process was cut off here.
            if self.resume().await? {
                self.session = None;
                return Ok(Outcome::Sent);
            }
            if self.session.is_some() {
                let (at, size) = (self.offset, self.blob.descriptor.size);
                let text = format!("{}: goes on at {at} of {size} bytes", self.what);
                self.client.progress().event(Event::Note { text });
            }
        }
        if self.session.is_none()
            && let Some(outcome) = self.mount(mounts).await?
        {
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
                    // The session may stand elsewhere than we think: then it is not the size of the request that is wrong.
                    if self.realigned < MOST_REALIGNED && self.realign(&error).await? {
                        self.realigned += 1;
                        continue;
                    }
                    let size = self.chunk.unwrap_or(self.blob.descriptor.size.min(4 * CHUNK));
                    // A registry that wants larger chunks than what stands before it lets through is not asked for ever.
                    self.shrunk += 1;
                    if size <= LEAST_CHUNK || self.shrunk > MOST_SHRUNK {
                        return Err(error);
                    }
                    self.drop_session().await;
                    self.chunk = Some((size / 2).max(LEAST_CHUNK));
                }
                Failed::Vanished(error) => {
                    self.vanished += 1;
                    // One that is merely invalid may still be there.
                    if error.status() == Some(StatusCode::NOT_FOUND.as_u16()) {
                        self.session = None;
                    } else {
                        self.drop_session().await;
                    }
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

    /// Takes the note of a process that was cut off, where there is one and the session may be asked.
    fn take_kept(&mut self) {
        let Some(folder) = &self.client.shared.options.uploads else { return };
        if self.blob.descriptor.size < kept::WORTH || !self.hints.trust_range {
            return;
        }
        let (registry, digest) = (self.client.registry(), &self.blob.descriptor.digest);
        self.kept = Kept::take(folder, registry, self.repository, digest);
        let session = self.kept.as_mut().and_then(Kept::session);
        let (base, home) = (&self.client.shared.base, self.client.shared.home);
        let allow = self.client.shared.http.options().allow_private_redirects;
        // It was believed when it came; the rules are the same for what lay on the disk.
        self.session =
            session.and_then(|session| redirect::resolve(base, home, session.as_str(), allow).ok());
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
        let session = self.session.clone().ok_or_else(|| self.no_session())?;
        let url = open::closing(session, &self.blob.descriptor.digest);
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
