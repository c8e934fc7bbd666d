//! Request bodies: a stream with a patience, and what is done with the rest of one that nobody wants.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::StatusCode;

use crate::server::error::Error;

/// A client that is still sending when we refuse gets to read the answer if it has no more than this left to send.
const DRAIN: u64 = 1024 * 1024;
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// The body of a request, as it arrives.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: BodyDataStream,
    patience: Duration,
    declared: Option<u64>,
    received: u64,
    ended: bool,
}

impl Incoming {
    /// `declared` is what `Content-Length` promises.
    pub(crate) fn new(body: Body, patience: Duration, declared: Option<u64>) -> Self {
        Self { stream: body.into_data_stream(), patience, declared, received: 0, ended: false }
    }

    /// How many bytes its length promises, where it has one.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// How many bytes were read from it.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes; `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Ok(next) = tokio::time::timeout(self.patience, self.stream.next()).await else {
            self.ended = true;
            let message = format!("nothing of the body came for {} seconds", self.patience.as_secs());
            return Err(Error::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", message));
        };
        match next {
            Some(Ok(chunk)) => {
                self.received += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Some(Err(error)) => Err(self.broke_off(&error.to_string())),
            // A connection that is cut off can look like the end of its body.
            None if self.declared.is_some_and(|declared| self.received < declared) => {
                Err(self.broke_off("Content-Length promised more"))
            }
            None => {
                self.ended = true;
                Ok(None)
            }
        }
    }

    fn broke_off(&mut self, why: &str) -> Error {
        self.ended = true;
        let message = format!("the body broke off after {} bytes: {why}", self.received);
        Error::bad_request("BLOB_UPLOAD_INVALID", message)
    }

    /// All of it, if it has at most `limit` bytes; `None` if it has more.
    pub(crate) async fn whole(&mut self, limit: u64) -> Result<Option<Bytes>, Error> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            if (whole.len() + chunk.len()) as u64 > limit {
                return Ok(None);
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(Some(whole.freeze()))
    }

    /// Reads a little of what nobody wants: a client whose connection is cut while it sends often does not read why.
    pub(crate) async fn drain(&mut self) {
        let until = self.received + DRAIN;
        let drained = async { while !self.ended && self.received < until && self.next().await.is_ok() {} };
        let _ = tokio::time::timeout(DRAIN_PATIENCE, drained).await;
    }
}
