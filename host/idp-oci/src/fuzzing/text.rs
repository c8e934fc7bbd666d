//! Parsers of headers, names and error documents.

use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::client::error::RegistryError;
use crate::client::redirect::{self, Place};
use crate::client::{RateLimit, challenge, retry, tag, upload};
use crate::digest::Digest;
use crate::layout;
use crate::name::{Reference, Registry, Repository, Tag};

/// `WWW-Authenticate`: what comes out is never more than what went in, and says the same when it is read again.
pub(super) fn challenge(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let challenges = challenge::parse(&text);
    let size: usize = challenges.iter().map(|challenge| challenge.raw.len()).sum();
    assert!(size <= text.len() * 2, "no more than what came");
    for challenge in &challenges {
        assert!(!challenge.scheme.chars().any(|letter| letter.is_ascii_uppercase()), "{challenge:?}");
        for scope in challenge::scopes(challenge) {
            let shown = scope.to_string();
            assert_eq!(challenge::parse_scope(&shown).map(|again| again.to_string()), Some(shown));
        }
    }
}

/// References and their parts: what is accepted prints as itself, and stands in a URL as a path without being escaped.
pub(super) fn reference(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let default: Registry = "default.example".parse().expect("a registry");
    for default in [None, Some(&default)] {
        match Reference::parse(text, default) {
            Ok(reference) => {
                let shown = reference.to_string();
                assert_eq!(Reference::parse(&shown, default).as_ref(), Ok(&reference), "{shown}");
                let path = format!("/v2/{}/manifests/{}", reference.repository, reference.target());
                // Not every name is a host that a URL can hold (`xn--a`); the client says so.
                if let Ok(url) = format!("https://{}{path}", reference.registry).parse::<Url>() {
                    assert_eq!(url.path(), path);
                }
                assert!(!reference.repository.as_str().contains(".."));
            }
            Err(error) => assert!(error.to_string().len() < 4000, "an error of bounded length"),
        }
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.to_string(), text);
    }
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.to_string(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        let path = layout::blob_path(&digest);
        assert_eq!(layout::digest_of_path(&path).as_ref(), Some(&digest));
        assert_eq!(path.matches('/').count(), 2, "a digest leads nowhere else: {path}");
    }
    if let Some(digest) = layout::digest_of_path(text) {
        assert_eq!(layout::blob_path(&digest), text);
    }
    let canonical = layout::canonical_name(text);
    let _ = layout::canonical_name(layout::familiar_name(&canonical));
}

/// The headers of an answer: waits, limits, the next page, challenges, what a session has.
pub(super) fn headers(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Some(wait) = retry::retry_after(&headers) {
        // Whoever adds this to now must not overflow.
        assert!(std::time::Instant::now().checked_add(wait).is_some(), "{wait:?}");
    }
    if let Some(limit) = RateLimit::of(&headers) {
        let _ = (limit.is_low(), limit.to_string());
    }
    if let Some(next) = tag::next_link(&headers) {
        let longest = headers.get_all("link").iter().map(HeaderValue::len).max().unwrap_or_default();
        assert!(next.len() <= longest && !next.contains('>'), "{next}");
    }
    assert!(challenge::of_headers(&headers).len() <= 16);
    for range in headers.get_all("range").iter().filter_map(|range| range.to_str().ok()) {
        if let Some(kept) = upload::kept(range) {
            assert!(kept > 0 && range.contains(&(kept - 1).to_string()), "{range}: {kept}");
        }
    }
}

/// `Location`: never down from TLS, never to the inner network from outside of it, whatever is written.
pub(super) fn location(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for (from, home) in [
        ("https://registry.example/v2/a/blobs/uploads/?x=1", Place::Public),
        ("http://registry.example:5000/v2/a/blobs/uploads/", Place::Public),
        ("http://127.0.0.1:5000/v2/", Place::Loopback),
    ] {
        let from: Url = from.parse().expect("a URL");
        let Ok(target) = redirect::resolve(&from, home, &text, false) else { continue };
        assert!(
            target.scheme() == "https" || from.scheme() == "http" && target.scheme() == "http",
            "{target}"
        );
        let host = target.host_str().expect("a host");
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        let is_inner = match literal.map(|address| address.to_canonical()) {
            Ok(std::net::IpAddr::V4(v4)) => {
                v4.is_private() || v4.is_link_local() || v4.is_loopback() || v4.octets()[0] == 0
            }
            Ok(std::net::IpAddr::V6(v6)) => {
                v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
            }
            Err(_) => host == "localhost",
        };
        assert!(!is_inner || home == Place::Loopback, "{target}");
    }
}

/// Error documents: bounded, and without what a terminal would obey.
pub(super) fn error(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let errors = RegistryError::parse(&text);
    assert!(errors.len() <= 200);
    for error in errors {
        assert!(!error.code.is_empty() || !error.message.is_empty());
        for shown in [&error.code, &error.message] {
            assert!(shown.chars().count() <= 500 && !shown.chars().any(char::is_control), "{shown:?}");
        }
    }
}
