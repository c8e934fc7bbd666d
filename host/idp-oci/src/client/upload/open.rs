//! How an upload begins: a mount that may be all, a POST with the bytes or a plain one, and the session that the answer names.

use http::header::{CONTENT_TYPE, LOCATION};
use http::{Method, StatusCode};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::auth::Access;
use super::super::call::{Answered, Call, is_passing};
use super::super::http::HttpError;
use super::super::learned::Trait;
use super::super::progress::Outcome;
use super::super::{Client, ClientError, redirect, retry};
use super::way::{self, From, Single};
use super::{CLEAN_UP, Failed, MOST_CHUNK, Upload};
use crate::digest::Digest;

/// What became of a POST that may open a session.
pub(super) enum Opening {
    /// There was an answer, or none will come.
    Answered(Result<Answered, ClientError>),
    /// The push was given up; the answer came all the same.
    GivenUp(Option<Answered>),
}

impl Client {
    /// Sends a POST that may open a session. It is not dropped half-way: its answer names what has to be deleted.
    pub(super) async fn opening(&self, call: &Call, cancel: &CancellationToken) -> Opening {
        if cancel.is_cancelled() {
            return Opening::GivenUp(None);
        }
        let calling = self.call(call);
        tokio::pin!(calling);
        let late = tokio::select! {
            answered = &mut calling => return Opening::Answered(answered),
            () = cancel.cancelled() => tokio::time::timeout(CLEAN_UP, &mut calling).await,
        };
        Opening::GivenUp(late.ok().and_then(Result::ok))
    }

    /// The session that an answer names; `None` when it names none. Where it leads is held to the rules of redirects (cases 4 to 6).
    pub(super) fn session_of(&self, answered: &Answered, what: &str) -> Result<Option<Url>, ClientError> {
        let response = &answered.response;
        let Some(location) = response.headers.get(LOCATION) else { return Ok(None) };
        let location = String::from_utf8_lossy(location.as_bytes());
        let allow = self.shared.http.options().allow_private_redirects;
        let session =
            redirect::resolve(&response.url, self.shared.home, &location, allow).map_err(|error| {
                let error = match error {
                    // Whoever was sent a credential may hand it back here.
                    HttpError::Redirect(text) => HttpError::Redirect(self.scrub(&text)),
                    error => error,
                };
                let request = "Location of an upload session".to_owned();
                ClientError::Network { what: what.to_owned(), request, attempts: answered.attempts, error }
            })?;
        Ok(Some(session))
    }
}

/// A session's URL with the digest that ends it; the rest stays as it came (case 2).
pub(super) fn closing(mut session: Url, digest: &Digest) -> Url {
    let digest = format!("digest={digest}");
    let query = session.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&{digest}"));
    session.set_query(Some(&query.unwrap_or(digest)));
    session
}

impl Upload<'_> {
    /// Asks for mounts. A granted one is the outcome. A session that is opened instead is used (cases 35, 36); a refusal is none:
    /// the bytes are sent.
    pub(super) async fn mount(&mut self, mounts: &[From]) -> Result<Option<Outcome>, ClientError> {
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
            // Where no HEAD went before, this asks whether the blob is there as well.
            let asks = !matches!(from, From::Repository(_));
            let call = Call::new(Method::POST, url, scopes, self.what.clone()).once();
            let answered = match self.graceful(&call).await {
                Ok(answered) if !asks || !retry::is_transient(answered.response.status) => answered,
                Err(ClientError::Interrupted) => return Err(ClientError::Interrupted),
                // The question was lost, not answered; nothing is learned from that.
                _ if asks && self.asked_again().await? => return Ok(Some(Outcome::Exists)),
                _ => continue,
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

    /// Whether the blob is there after all, where that is worth a request of its own: with all the tries that a request has.
    pub(super) async fn asked_again(&self) -> Result<bool, ClientError> {
        if self.blob.descriptor.size <= way::SMALL {
            return Ok(false);
        }
        tokio::select! {
            there = self.client.has_blob(self.repository, &self.blob.descriptor, Access::Push) => there,
            () = self.cancel.cancelled() => Err(ClientError::Interrupted),
        }
    }

    /// Sends a POST that may open a session, and takes the session also when the push is given up meanwhile: it has to be deleted.
    async fn graceful(&mut self, call: &Call) -> Result<Answered, ClientError> {
        match self.client.opening(call, self.cancel).await {
            Opening::Answered(answered) => answered,
            Opening::GivenUp(late) => {
                if let Some(answered) = late {
                    self.adopt(&answered)?;
                }
                Err(ClientError::Interrupted)
            }
        }
    }

    /// Opens a session. True when the blob went with the POST.
    pub(super) async fn start(&mut self) -> Result<bool, Failed> {
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
                if self.not_found {
                    // It was not the repository that was unknown.
                    self.client.shared.learned.learn(Trait::SinglePost, false);
                }
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
                self.not_found = answered.response.status == StatusCode::NOT_FOUND;
                if !self.not_found {
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
    pub(super) fn adopt(&mut self, answered: &Answered) -> Result<(), ClientError> {
        let response = &answered.response;
        if let Some(session) = self.client.session_of(answered, &self.what)? {
            if let Some(kept) = &mut self.kept {
                kept.keep(&session);
            }
            self.session = Some(session);
        }
        let least = response.header("oci-chunk-min-length").and_then(|value| value.parse::<u64>().ok());
        if let (Some(chunk), Some(least)) = (self.chunk, least) {
            self.chunk = Some(chunk.max(least.min(MOST_CHUNK)));
        }
        Ok(())
    }
}
