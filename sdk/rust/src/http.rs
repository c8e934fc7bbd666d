//! Requests and answers. The host sends, follows redirects, checks every hop against the grants, and cuts captures out of
//! answers before a provider can look at them.
//!
//! ```ignore
//! let answer = Request::get(url).basic("alice", &password).capture("token", json("/token")).send()?;
//! let token = answer.captured("token");
//! ```

use serde::de::DeserializeOwned;

use crate::contract::{Error, Result};
use crate::secret::{Encoding, Secret, Segment, secret, text};
use crate::sys;

/// Where a capture is cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// A JSON pointer (RFC 6901) into the body.
    Json(&'a str),
    /// A header.
    Header(&'a str),
    /// The whole body.
    Body,
}

/// Capture from the body by JSON pointer.
pub fn json(pointer: &str) -> Source<'_> {
    Source::Json(pointer)
}

/// Capture a header.
pub fn header(name: &str) -> Source<'_> {
    Source::Header(name)
}

/// What is sent.
#[derive(Debug, Default)]
pub(crate) enum Body<'a> {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Text with secrets in it.
    Text(Vec<Segment<'a>>),
    /// `application/x-www-form-urlencoded`; encoded by the host.
    Form(Vec<(String, Vec<Segment<'a>>)>),
}

/// A value cut out of the answer: name, kind and selector in the words of the contract.
#[derive(Debug, Clone)]
pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) source: &'static str,
    pub(crate) selector: String,
}

/// A request, built up and then sent.
#[derive(Debug)]
#[must_use = "a request does nothing before `send`"]
pub struct Request<'a> {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, Vec<Segment<'a>>)>,
    pub(crate) body: Body<'a>,
    pub(crate) captures: Vec<Capture>,
    pub(crate) max_redirects: u8,
    pub(crate) timeout_ms: Option<u32>,
    failed: Option<Error>,
}

impl<'a> Request<'a> {
    /// Any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Body::Empty,
            captures: Vec::new(),
            max_redirects: 0,
            timeout_ms: None,
            failed: None,
        }
    }

    /// GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// HEAD.
    pub fn head(url: impl Into<String>) -> Self {
        Self::new("HEAD", url)
    }

    /// POST.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// DELETE.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    /// One more parameter of the query, percent-encoded. Secrets never go into a URL.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        self.url.push(separator);
        self.url.push_str(&crate::link::percent(name));
        self.url.push('=');
        self.url.push_str(&crate::link::percent(value));
        self
    }

    /// A header of plain text.
    pub fn header(self, name: &str, value: impl Into<String>) -> Self {
        self.header_segments(name, [text(value.into())])
    }

    /// A header with secrets in it: `[text("token "), secret(&token)]`.
    pub fn header_segments(mut self, name: &str, value: impl IntoIterator<Item = Segment<'a>>) -> Self {
        self.headers.push((name.to_owned(), value.into_iter().collect()));
        self
    }

    /// `Authorization: Basic`.
    pub fn basic(mut self, username: &str, password: &Secret) -> Self {
        let pair = Secret::assemble([text(username), text(":"), secret(password)]);
        match pair.encode(Encoding::Base64) {
            Ok(encoded) => self.header_segments("authorization", [text("Basic "), Segment::Owned(encoded)]),
            Err(error) => {
                self.failed.get_or_insert(error);
                self
            }
        }
    }

    /// `Authorization: Bearer`.
    pub fn bearer(self, token: &'a Secret) -> Self {
        self.header_segments("authorization", [text("Bearer "), secret(token)])
    }

    /// What a grant says. A grant that came from elsewhere than this provider is sent the same way.
    pub fn authorized(self, authorization: &'a crate::Authorization) -> Self {
        use crate::Authorization::{Anonymous, Basic, Bearer, Headers};
        match authorization {
            Anonymous => self,
            Bearer(token) => self.bearer(token),
            Basic(username, password) => self.basic(username, password),
            Headers(list) => list
                .iter()
                .fold(self, |request, (name, value)| request.header_segments(name, [secret(value)])),
        }
    }

    /// A field of a form, percent-encoded by the host.
    pub fn form(mut self, name: &str, value: impl Into<String>) -> Self {
        self.push_field(name, text(value.into()));
        self
    }

    /// A field of a form that is a secret.
    pub fn form_secret(mut self, name: &str, value: &'a Secret) -> Self {
        self.push_field(name, secret(value));
        self
    }

    fn push_field(&mut self, name: &str, value: Segment<'a>) {
        if !matches!(self.body, Body::Form(_)) {
            self.body = Body::Form(Vec::new());
        }
        if let Body::Form(fields) = &mut self.body {
            fields.push((name.to_owned(), vec![value]));
        }
    }

    /// A body of bytes.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Bytes(bytes.into());
        self
    }

    /// A body of text with secrets in it. Text from outside belongs through [`Encoding`].
    pub fn body_segments(mut self, parts: impl IntoIterator<Item = Segment<'a>>) -> Self {
        self.body = Body::Text(parts.into_iter().collect());
        self
    }

    /// A JSON body, with its content type.
    pub fn json(mut self, value: &serde_json::Value) -> Self {
        self.body = Body::Bytes(value.to_string().into_bytes());
        self.header("content-type", "application/json")
    }

    /// Cuts a value out of the answer, as a secret of this name.
    pub fn capture(mut self, name: &str, source: Source<'_>) -> Self {
        let (source, selector) = match source {
            Source::Json(pointer) => ("json-pointer", pointer),
            Source::Header(name) => ("header", name),
            Source::Body => ("body", ""),
        };
        self.captures.push(Capture { name: name.to_owned(), source, selector: selector.to_owned() });
        self
    }

    /// How many redirects the host follows; none unless told. Credentials are dropped when the origin changes.
    pub fn max_redirects(mut self, count: u8) -> Self {
        self.max_redirects = count;
        self
    }

    /// A deadline for this request; the one of the whole call holds as well.
    pub fn timeout_ms(mut self, milliseconds: u32) -> Self {
        self.timeout_ms = Some(milliseconds);
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// `egress-denied` when the host does not let it out, `unavailable` when nothing answered. A status is never an error.
    pub fn send(mut self) -> Result<Response> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => sys::send(&self).map(Response),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response(sys::Response);

impl Response {
    /// The status.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status())
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).into_iter().next()
    }

    /// Every value of a header, in order.
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.0.headers(name)
    }

    /// The body; captured values are blanked.
    ///
    /// # Errors
    /// `denied` for a sealed answer.
    pub fn body(&self) -> Result<Vec<u8>> {
        self.0.body()
    }

    /// The body as text, replacing what is not UTF-8; empty for a sealed answer.
    pub fn text(&self) -> String {
        self.body().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The body, parsed.
    ///
    /// # Errors
    /// `denied` for a sealed answer, `other` for a page for people, `unavailable` when it is not that JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body()?).map_err(|error| {
            if let Some(page) = crate::refusal::web_page(self) {
                return page;
            }
            Error::unavailable(format!("the answer of {} is not the expected JSON: {error}", self.url()))
                .code("unexpected-body")
                .status(self.status())
        })
    }

    /// One scalar of the body as text; of a sealed answer only what the manifest lists as public.
    pub fn json_scalar(&self, pointer: &str) -> Option<String> {
        self.0.json_scalar(pointer)
    }

    /// A captured value; `None` when the answer has none, or an empty one.
    pub fn captured(&self, name: &str) -> Option<Secret> {
        self.0.captured(name).map(Secret)
    }

    /// Whether the body is closed to the provider.
    pub fn sealed(&self) -> bool {
        self.0.sealed()
    }

    /// Where the answer came from, after redirects.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// `Retry-After` in seconds, when it is a number of them.
    pub fn retry_after_s(&self) -> Option<u32> {
        self.header("retry-after")?.trim().parse().ok()
    }
}
