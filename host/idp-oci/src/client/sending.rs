//! One request on its way: whether its bytes move, and what it means when there is no answer. Knows the library's errors.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use url::Url;

use super::cause::{chain, is_unsent, other_protocol, tls_cause, why};
use super::http::{HttpError, authority};
use crate::blob::Chunks;

/// Bodies are handed to the connection in pieces no larger than this: that one is taken is how it shows that bytes move.
pub(super) const PIECE: usize = 64 * 1024;

/// Why there is no answer, and whether the other side said that it did nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: HttpError,
    pub(super) unsent: bool,
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self { error, unsent: false }
    }
}

/// The proxy answered 407.
pub(super) fn unknown_to(proxy: String) -> HttpError {
    let why = "wants a user and a password, or other ones (407); put them into its address: \
               HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT";
    HttpError::Proxy { proxy, why: why.to_owned() }
}

/// When bytes last moved, and whether it was our own content that failed.
#[derive(Debug, Clone)]
pub(super) struct Activity {
    last: Arc<Mutex<Instant>>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), failed: Arc::default() }
    }
}

impl Activity {
    /// When bytes last moved.
    pub(super) fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body whose pieces are seen when they are taken.
    pub(super) fn watch(&self, chunks: Chunks) -> reqwest::Body {
        let (last, failed) = (Arc::clone(&self.last), Arc::clone(&self.failed));
        let pieces = chunks.flat_map(|chunk| match chunk {
            Ok(bytes) => pieces(bytes).map(Ok).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        });
        reqwest::Body::wrap_stream(pieces.inspect(move |chunk| {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            if let Err(error) = chunk {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }))
    }

    /// What an error of the library means.
    pub(super) fn explain(&self, error: reqwest::Error, url: &Url, proxy: Option<String>) -> Failure {
        if let Some(failed) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return HttpError::Source(failed).into();
        }
        let error = error.without_url();
        let text = chain(&error);
        if let Some(tls) = tls_cause(&error).or_else(|| other_protocol(&error, url)) {
            return HttpError::Tls(tls).into();
        }
        let error = match proxy {
            Some(proxy) if text.contains("proxy authorization required") => unknown_to(proxy),
            Some(proxy) if text.contains("tunnel error: unsuccessful") => {
                let why = format!("the proxy {proxy} makes no connection to it");
                HttpError::Connect { host: authority(url), why }
            }
            proxy if error.is_connect() => {
                let why = if text.contains("dns error") {
                    "there is no such name, or nobody to ask for it".to_owned()
                } else if error.is_timeout() {
                    "no answer to the connection".to_owned()
                } else {
                    why(&error)
                };
                let host = proxy.map_or_else(|| authority(url), |proxy| format!("proxy {proxy}"));
                HttpError::Connect { host, why }
            }
            _ if text.contains("too large") => HttpError::TooLarge(text),
            _ => return Failure { unsent: is_unsent(&error), error: HttpError::Broken(why(&error)) },
        };
        error.into()
    }
}

/// Bytes in pieces.
pub(super) fn pieces(mut bytes: Bytes) -> impl Stream<Item = Bytes> + Send {
    stream::iter(std::iter::from_fn(move || {
        (!bytes.is_empty()).then(|| bytes.split_to(bytes.len().min(PIECE)))
    }))
}
