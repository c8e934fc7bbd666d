//! What follows when an upload breaks: which failures pass, who spoiled the bytes, where a session stands, and that none is left behind.

use futures_util::TryStreamExt as _;
use http::header::RANGE;
use http::{Method, StatusCode};

use super::super::auth::Access;
use super::super::call::{Answered, Call};
use super::super::{ClientError, retry};
use super::{CLEAN_UP, Failed, Upload, WORTH_RESUMING};
use crate::digest::Hasher;

impl Upload<'_> {
    /// What a refused PATCH or PUT leads to.
    pub(super) async fn failed(&mut self, call: &Call, answered: Answered) -> Failed {
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
    pub(super) async fn judge_digest(&mut self, error: ClientError) -> Failed {
        let expected = &self.blob.descriptor.digest;
        let hashing =
            self.blob.read_from(0).try_fold(Hasher::new(expected.algorithm()), async |mut hasher, chunk| {
                hasher.update(&chunk);
                Ok(hasher)
            });
        let hashed = tokio::select! {
            hashed = hashing => hashed,
            () = self.cancel.cancelled() => return Failed::Final(ClientError::Interrupted),
        };
        let problem = match hashed.map(Hasher::finish) {
            Ok(actual) if actual != *expected => {
                format!(
                    "what is to be sent changed while it was read: it is {actual} now, and was {expected}"
                )
            }
            Ok(_) if !self.rehashed => {
                self.rehashed = true;
                // What the session has is what was spoiled: it must not be gone on with.
                self.drop_session().await;
                return Failed::Again { error, asked: None };
            }
            Ok(_) => return Failed::Final(error),
            Err(error) => error.to_string(),
        };
        Failed::Final(ClientError::Source { what: self.what.clone(), problem })
    }

    /// After a broken exchange: goes on where the registry says it stands, or starts over. True when it turns out that the
    /// registry has everything (case 45).
    pub(super) async fn resume(&mut self) -> Result<bool, ClientError> {
        let size = self.blob.descriptor.size;
        let Some(url) = self.session.clone().filter(|_| size > WORTH_RESUMING && self.hints.trust_range)
        else {
            // As below: a session that is over was completed, perhaps.
            let is_over = self.drop_session().await == Some(StatusCode::NOT_FOUND);
            return Ok(is_over && self.asked_again().await?);
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
                return self.asked_again().await;
            }
            _ => {}
        }
        self.drop_session().await;
        Ok(false)
    }

    /// After a 416: asks where the session stands. True when that is not where we thought, and it goes on from there (case 41).
    pub(super) async fn realign(&mut self, error: &ClientError) -> Result<bool, ClientError> {
        let is_416 = error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE.as_u16());
        let Some(url) = self.session.clone().filter(|_| is_416 && self.offset > 0 && self.hints.trust_range)
        else {
            return Ok(false);
        };
        let call =
            Call::new(Method::GET, url, Access::Push.scopes(self.repository), self.what.clone()).once();
        let Ok(answered) = self.step(&call).await else { return Ok(false) };
        if answered.response.status != StatusCode::NO_CONTENT {
            return Ok(false);
        }
        let kept = answered.response.headers.get(RANGE).and_then(|range| kept(range.to_str().ok()?));
        match kept {
            // `0-0` is said for nothing as well as for one byte (case 42).
            Some(kept) if kept > 1 && kept != self.offset && kept <= self.blob.descriptor.size => {
                self.adopt(&answered)?;
                self.offset = kept;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Deletes the session, as well as that can be done. What the registry said to that, if there was one.
    pub(super) async fn drop_session(&mut self) -> Option<StatusCode> {
        self.offset = 0;
        let url = self.session.take()?;
        let call =
            Call::new(Method::DELETE, url, Access::Push.scopes(self.repository), self.what.clone()).once();
        let deleted = tokio::time::timeout(CLEAN_UP, self.client.call(&call)).await;
        let status = deleted.ok().and_then(Result::ok).map(|answered| answered.response.status);
        if !status.is_some_and(|status| status.is_success()) {
            tracing::debug!(target: "idp::upload", what = self.what, "the upload session could not be deleted");
        }
        status
    }
}

/// How many bytes `0-9`, `bytes=0-9` say are there.
pub(crate) fn kept(range: &str) -> Option<u64> {
    let (start, end) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    (start == "0").then(|| end.parse::<u64>().ok()?.checked_add(1))?
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
