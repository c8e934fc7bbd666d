//! What may be shown of a URL or of headers, in logs and in errors. An allow-list: what is not known to be harmless is not shown.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use url::Url;

use crate::secret::Secret;

/// Query parameters of the distribution protocol itself. Everything else (`_state`, signatures of object stores) is hidden.
const PLAIN_QUERY: [&str; 10] =
    ["digest", "mount", "from", "n", "last", "service", "scope", "artifactType", "tag", "client_id"];

/// Headers whose values tell nothing that must not be told.
const PLAIN_HEADERS: [&str; 24] = [
    "accept",
    "accept-encoding",
    "accept-ranges",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "docker-content-digest",
    "docker-distribution-api-version",
    "docker-upload-uuid",
    "etag",
    "oci-chunk-min-length",
    "oci-filters-applied",
    "oci-subject",
    "oci-tag",
    "range",
    "ratelimit-limit",
    "ratelimit-remaining",
    "retry-after",
    "server",
    "user-agent",
    "warning",
];

/// The URL without user information, and with the values of unknown query parameters hidden.
pub fn url(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have a user.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    if let Some(query) = url.query() {
        let query: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, _)) if PLAIN_QUERY.contains(&name) => pair.to_owned(),
                Some((name, _)) => format!("{name}=…"),
                None => "…".to_owned(),
            })
            .collect();
        shown.set_query(None);
        return format!("{shown}?{}", query.join("&"));
    }
    shown.to_string()
}

/// `name: value` pairs; values of headers that may hold a secret are hidden.
pub fn headers(headers: &HeaderMap) -> String {
    let mut text = String::new();
    for (name, value) in headers {
        let name = name.as_str();
        let value = match value.to_str() {
            Ok(value) if PLAIN_HEADERS.contains(&name) => value.to_owned(),
            Ok(value) if name == "location" || name == "link" => location(value),
            Ok(value) if name == "www-authenticate" => value.to_owned(),
            _ => "…".to_owned(),
        };
        let _ = write!(text, "{}{name}: {value}", if text.is_empty() { "" } else { "; " });
    }
    text
}

/// A `Location`, which is often no whole URL: everything after `?` is hidden.
fn location(value: &str) -> String {
    match value.split_once('?') {
        Some((path, _)) => format!("{path}?…"),
        None => value.to_owned(),
    }
}

/// Credentials that are remembered; tokens come and go.
const MOST_TOLD: usize = 64;

/// What was sent as a credential, to whomever: one host may hand back what another was sent.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<VecDeque<Secret>>);

impl Told {
    fn known(&self) -> MutexGuard<'_, VecDeque<Secret>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what stands in these headers.
    pub(super) fn tell(&self, credentials: &HeaderMap) {
        for value in credentials.values().filter_map(|value| value.to_str().ok()) {
            // `Bearer TOKEN`: the token alone is as bad. So is the password of a pair.
            let word = value.split_whitespace().last().unwrap_or_default();
            let pair = value.strip_prefix("Basic ").and_then(|pair| STANDARD.decode(pair).ok());
            let pair = pair.and_then(|pair| String::from_utf8(pair).ok()).map(Secret::new);
            let password =
                pair.as_ref().and_then(|pair| pair.expose().split_once(':')).map(|(_, password)| password);
            for secret in [Some(word), password].into_iter().flatten().filter(|secret| secret.len() >= 4) {
                let mut known = self.known();
                if known.iter().all(|known| known.expose() != secret) {
                    known.truncate(MOST_TOLD - 1);
                    known.push_front(Secret::new(secret));
                }
            }
        }
    }

    /// A text without any of it.
    pub(super) fn hide(&self, text: String) -> String {
        self.known().iter().fold(text, |text, secret| text.replace(secret.expose(), "…"))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    /// Case 32.
    #[test]
    fn secrets_are_not_shown() {
        let url = "https://u:hunter2@s3.example/b?X-Amz-Signature=hunter2&digest=sha256:1&hunter2#hunter2";
        let shown = super::url(&url.parse().expect("a URL"));
        assert_eq!(shown, "https://s3.example/b?X-Amz-Signature=…&digest=sha256:1&…");
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Basic hunter2"),
            ("set-cookie", "session=hunter2"),
            ("x-registry-token", "hunter2"),
            ("location", "/v2/a?_state=hunter2"),
            ("content-length", "5"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let shown = super::headers(&headers);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("content-length: 5") && shown.contains("location: /v2/a?…"), "{shown}");
    }
}
