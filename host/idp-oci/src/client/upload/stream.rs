//! An upload whose length and digest are known at its end: POST, one PATCH of unknown length, an empty PUT with the digest
//! (distribution-spec, "Pushing a blob in chunks"; what Docker does, so every registry takes it unless its hints say otherwise).
//! The bytes go by once: nothing is tried again here.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::auth::Access;
use super::super::call::{Answered, Call, is_passing};
use super::super::dialect::UploadMode;
use super::super::http::Body;
use super::super::{Client, ClientError, retry};
use super::CLEAN_UP;
use super::open::{Opening, closing};
use crate::blob::{Chunks, Part};
use crate::manifest::Descriptor;
use crate::name::Repository;

/// Why live content is not there.
#[derive(Debug)]
pub enum Unsent {
    /// For a reason that passes: it may be offered again.
    Passing(ClientError),
    /// The registry does not take content of unknown length, or not so much in one request.
    Refused(ClientError),
    /// It ended before it was whole: the source knows why.
    Abandoned,
    /// Nothing helps.
    Final(ClientError),
}

impl Client {
    /// Whether a repository takes content whose length is not known when it begins.
    pub async fn takes_streams(&self, repository: &Repository) -> bool {
        let hints = self.hints(repository).await;
        !matches!(hints.upload_mode, UploadMode::Monolithic | UploadMode::Chunked)
    }

    /// Sends content while it comes. What fails leaves no session behind.
    pub async fn push_stream(
        &self,
        repository: &Repository,
        label: &str,
        parts: mpsc::Receiver<Part>,
        cancel: &CancellationToken,
    ) -> Result<Descriptor, Unsent> {
        let what = format!("upload of {label} to {}/{repository}", self.registry());
        let scopes = Access::Push.scopes(repository);
        let opening = Call::new(Method::POST, self.url(repository, "blobs/uploads/"), scopes, what);
        let answered = match self.opening(&opening, cancel).await {
            Opening::Answered(answered) => answered.map_err(Unsent::of)?,
            Opening::GivenUp(late) => {
                let session = late.and_then(|answered| self.session_of(&answered, &opening.what).ok()?);
                if let Some(session) = session {
                    self.end_session(session, &opening).await;
                }
                return Err(Unsent::Final(ClientError::Interrupted));
            }
        };
        if answered.response.status != StatusCode::ACCEPTED {
            return Err(Unsent::Final(self.refusal(&opening, answered, None).await));
        }
        let mut session = self.opened(&opening, &answered)?;
        let sent = tokio::select! {
            sent = self.stream(&opening, &mut session, parts) => sent,
            () = cancel.cancelled() => Err(Unsent::Final(ClientError::Interrupted)),
        };
        if sent.is_err() {
            self.end_session(session, &opening).await;
        }
        let descriptor = sent?;
        self.learned().learn_blob(repository, &descriptor.digest, true);
        Ok(descriptor)
    }

    /// Deletes a session, as well as that can be done.
    async fn end_session(&self, session: Url, opening: &Call) {
        let call = Call::new(Method::DELETE, session, opening.scopes.clone(), opening.what.clone()).once();
        let _ = tokio::time::timeout(CLEAN_UP, self.call(&call)).await;
    }

    async fn stream(
        &self,
        opening: &Call,
        session: &mut Url,
        parts: mpsc::Receiver<Part>,
    ) -> Result<Descriptor, Unsent> {
        let (body, end) = body(parts);
        let call = Call::new(Method::PATCH, session.clone(), opening.scopes.clone(), opening.what.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(body)
            .once();
        let answered = match self.call(&call).await {
            Ok(answered) => answered,
            Err(ClientError::Source { .. }) if end.is_gone() => return Err(Unsent::Abandoned),
            // A body that goes by once cannot follow a redirect or a challenge that comes after its first byte.
            Err(error @ ClientError::Source { .. }) => return Err(Unsent::Passing(error)),
            Err(error) => return Err(Unsent::of(error)),
        };
        if !matches!(answered.response.status.as_u16(), 200 | 201 | 202 | 204) {
            return Err(self.unsent(&call, answered).await);
        }
        if let Some(next) = self.session_of(&answered, &call.what).map_err(Unsent::Final)? {
            *session = next;
        }
        let Some(descriptor) = end.descriptor() else { return Err(Unsent::Abandoned) };
        let url = closing(session.clone(), &descriptor.digest);
        let call = Call::new(Method::PUT, url, opening.scopes.clone(), opening.what.clone())
            .header(CONTENT_TYPE, "application/octet-stream");
        let answered = self.call(&call).await.map_err(Unsent::of)?;
        if matches!(answered.response.status.as_u16(), 200 | 201 | 202 | 204) {
            return Ok(descriptor);
        }
        Err(self.unsent(&call, answered).await)
    }

    /// Where the upload goes on: an answer that opens one has to say so.
    fn opened(&self, call: &Call, answered: &Answered) -> Result<Url, Unsent> {
        let session = self.session_of(answered, &call.what).map_err(Unsent::Final)?;
        session.ok_or_else(|| {
            let problem = "the registry opened an upload and did not say where".to_owned();
            Unsent::Final(ClientError::Content { what: call.what.clone(), problem })
        })
    }

    async fn unsent(&self, call: &Call, answered: Answered) -> Unsent {
        let status = answered.response.status;
        let error = self.refusal(call, answered, None).await;
        let gone = error.refusal().is_some_and(|refusal| {
            ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "DIGEST_INVALID"]
                .iter()
                .any(|code| refusal.has_code(code))
        });
        match status.as_u16() {
            411 | 413 | 416 | 501 => Unsent::Refused(error),
            _ if gone || status == StatusCode::NOT_FOUND || retry::is_transient(status) => {
                Unsent::Passing(error)
            }
            _ => Unsent::Final(error),
        }
    }
}

impl Unsent {
    fn of(error: ClientError) -> Self {
        if is_passing(&error) { Self::Passing(error) } else { Self::Final(error) }
    }
}

/// How the content ended, as the body saw it.
#[derive(Debug, Clone, Default)]
struct End(Arc<Mutex<Option<Option<Descriptor>>>>);

impl End {
    fn set(&self, end: Option<Descriptor>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    fn descriptor(&self) -> Option<Descriptor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().flatten()
    }

    /// The source gave up.
    fn is_gone(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Some(None))
    }
}

fn body(parts: mpsc::Receiver<Part>) -> (Body, End) {
    let end = End::default();
    let seen = end.clone();
    let chunks: Chunks = unfold((parts, seen), async |(mut parts, seen)| match parts.recv().await {
        Some(Part::Bytes(bytes)) => Some((Ok(bytes), (parts, seen))),
        Some(Part::End(descriptor)) => {
            seen.set(Some(*descriptor));
            None
        }
        None => {
            seen.set(None);
            let error = std::io::Error::other("the source ended before its end");
            Some((Err(error), (parts, seen)))
        }
    })
    .boxed();
    (Body::Once(Arc::new(Mutex::new(Some(chunks)))), end)
}
