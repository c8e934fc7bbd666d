//! What is seen of a request: its id, its line in the access log, the observer's event, the metrics.
//!
//! May use metrics and the log; decides nothing. In: a request's head, then its answer. Out: the answer with its id, and
//! a count when its last byte has gone or its client has.
//!
//! The line never has a query: tokens and upload states travel in queries. What clients choose is bounded and printable.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::{Frame, SizeHint};

use crate::server::metrics::{Finished, Handler, Metrics};
use crate::server::{Event, Observer, Peer, length};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a client's id has at most; longer ones are replaced.
const ID_BYTES: usize = 64;

/// How much of a client's name and of a path is written.
const AGENT_BYTES: usize = 200;
const PATH_BYTES: usize = 1024;

/// What is learned of a request while it is answered.
#[derive(Debug)]
pub(crate) struct Noted {
    /// Who asks, if anybody is known.
    pub(crate) user: Option<String>,
    /// What it turned out to be for.
    pub(crate) handler: Handler,
}

impl Default for Noted {
    fn default() -> Self {
        Self { user: None, handler: Handler::Nothing }
    }
}

/// A request under way. Counted when it is dropped, which is when its answer has gone out, or was given up.
#[derive(Debug)]
pub(crate) struct Seen {
    metrics: Arc<Metrics>,
    began: Instant,
    method: Method,
    handler: Handler,
    status: StatusCode,
    received: u64,
    sent: u64,
    id: HeaderValue,
}

impl Seen {
    pub(crate) fn begin(metrics: &Arc<Metrics>, parts: &Parts) -> Self {
        metrics.begin();
        Self {
            metrics: Arc::clone(metrics),
            began: Instant::now(),
            method: parts.method.clone(),
            handler: Handler::Nothing,
            // Unless it is answered, the registry failed.
            status: StatusCode::INTERNAL_SERVER_ERROR,
            received: 0,
            sent: 0,
            id: request_id(&parts.headers),
        }
    }

    /// The answer is ready: writes the line, tells the observer, and lets the body count itself.
    pub(crate) fn answered(
        mut self,
        mut response: Response,
        parts: &Parts,
        noted: &Noted,
        received: u64,
        observer: Option<&Observer>,
    ) -> Response {
        (self.handler, self.status, self.received) = (noted.handler, response.status(), received);
        response.headers_mut().insert(REQUEST_ID, self.id.clone());
        let is_head = self.method == Method::HEAD;
        let event = Event {
            method: self.method.clone(),
            path: parts.uri.path().to_owned(),
            status: self.status,
            received,
            sent: if is_head { 0 } else { length(response.headers()).unwrap_or(0) },
        };
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        let agent = parts.headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
        tracing::info!(
            target: "idp::registry",
            method = %event.method,
            path = %printable(event.path.as_bytes(), PATH_BYTES),
            status = event.status.as_u16(),
            user = noted.user.as_deref().unwrap_or("-"),
            peer = %peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string()),
            agent = %printable(agent, AGENT_BYTES),
            id = self.id.to_str().unwrap_or("-"),
            received = event.received,
            sent = event.sent,
            milliseconds = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        );
        if let Some(observer) = observer {
            observer(&event);
        }
        if is_head {
            *response.body_mut() = Body::empty();
            return response;
        }
        response.map(|inner| Body::new(Counted { inner, seen: self }))
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.metrics.end(&Finished {
            handler: self.handler,
            method: &self.method,
            status: self.status,
            elapsed: self.began.elapsed(),
            received: self.received,
            sent: self.sent,
        });
    }
}

/// The body of an answer, which counts what is taken from it.
struct Counted {
    inner: Body,
    seen: Seen,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.seen.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The client's, if it is one; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|value| {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        (1..=ID_BYTES).contains(&value.len()) && value.as_bytes().iter().all(is_plain)
    });
    given.cloned().unwrap_or_else(new_id)
}

/// Unique over restarts as well: when this process began, and a count.
fn new_id() -> HeaderValue {
    static BEGAN: LazyLock<u64> = LazyLock::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = format!("{:x}-{:x}", *BEGAN, COUNT.fetch_add(1, Ordering::Relaxed));
    HeaderValue::try_from(id).expect("hexadecimal digits are good in headers")
}

/// As it may stand in a log: nothing that moves a terminal's cursor or begins a line, and not too much of it.
fn printable(bytes: &[u8], most: usize) -> String {
    let (kept, more) =
        bytes.split_at_checked(most).map_or((bytes, false), |(kept, rest)| (kept, !rest.is_empty()));
    let mut text: String =
        kept.iter().map(|byte| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '?' }).collect();
    if more {
        text.push('…');
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{REQUEST_ID, printable, request_id};

    #[test]
    fn ids_are_the_clients_where_they_are_plain() {
        let id = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).expect("a value");
            request_id(&HeaderMap::from_iter([(REQUEST_ID, value)]))
        };
        let long = [b'a'; 65];
        for good in [&b"a"[..], b"0123-ab_c.D", &long[..64]] {
            assert_eq!(id(good).as_bytes(), good);
        }
        for bad in [&b""[..], b"a b", b"a\"b", b"\xffa", b"a=b;c", &long] {
            let made = id(bad);
            assert!(made != bad && !made.is_empty(), "{bad:?} {made:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn what_clients_choose_is_bounded_and_printable() {
        for (bytes, most, expect) in [
            (&b""[..], 5, "-"),
            (b"docker/29", 20, "docker/29"),
            (b"a\x1b[31m\nb\xff", 20, "a?[31m?b?"),
            (b"abcdef", 5, "abcde…"),
            (b"abcde", 5, "abcde"),
        ] {
            assert_eq!(printable(bytes, most), expect);
        }
    }
}
