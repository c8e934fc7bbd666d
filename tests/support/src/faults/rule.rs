//! Which request meets which fault.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// An empty answer.
    pub fn status(status: u16) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A registry's error document.
    pub fn error(status: u16, code: &str, detail: &serde_json::Value) -> Self {
        let document =
            serde_json::json!({"errors": [{"code": code, "message": "on command", "detail": detail}]});
        Self::status(status).header("content-type", "application/json").body(document.to_string())
    }

    /// With a header; replaces one of the same name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    /// With one more header of this name.
    #[must_use]
    pub fn and_header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    /// The status.
    pub fn code(&self) -> u16 {
        self.status
    }

    /// Status, headers and body.
    pub fn into_parts(self) -> (u16, HeaderMap, Bytes) {
        (self.status, self.headers, self.body)
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This answer, after the whole request was read.
    Reply(Reply),
    /// This answer, before the body was read.
    Early(Reply),
    /// The connection ends without an answer.
    Drop,
    /// So many bytes of the body are read, then the connection ends. A resumable registry keeps them.
    DropAfterRequest(usize),
    /// The request is served, and its answer lost.
    Lose,
    /// Served late.
    Delay(Duration),
    /// Never answered.
    Hang,
    /// Served with a header of another value.
    Header(&'static str, String),
    /// Served with a flipped bit in the last byte.
    Corrupt,
    /// Served up to this byte of the body; then the connection ends.
    Truncate(usize),
}

/// A fault and when it happens.
#[derive(Debug, Clone)]
pub struct Rule {
    method: String,
    part: String,
    skip: usize,
    times: usize,
    fault: Fault,
}

/// Requests with this method (`*` for any) that have `part` in path or query; the first of them, unless told otherwise.
pub fn on(method: &str, part: &str, fault: Fault) -> Rule {
    Rule { method: method.to_owned(), part: part.to_owned(), skip: 0, times: 1, fault }
}

impl Rule {
    /// Lets the first `skip` of them pass.
    #[must_use]
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// So many of them.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// All of them; [`super::Server::verify`] asks for at least one.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    pub(super) fn meets(&mut self, method: &str, target: &str) -> Option<Fault> {
        if self.times == 0 || (self.method != "*" && self.method != method) || !target.contains(&self.part) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.fault.clone())
    }

    pub(super) fn is_due(&self) -> bool {
        self.times == usize::MAX || (self.times > 0 && self.times < usize::MAX / 2)
    }
}
