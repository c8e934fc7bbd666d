//! How often a registry may be asked, as its answers say: `RateLimit-Limit: 100;w=21600`, `RateLimit-Remaining: 76;w=21600`
//! (draft-ietf-httpapi-ratelimit-headers). Headers in, numbers out.

use std::fmt;

use http::HeaderMap;
use serde::Serialize;

/// What a registry said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RateLimit {
    /// So many in a window.
    pub limit: u64,
    /// So many are left.
    pub remaining: u64,
    /// Seconds of a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u64>,
    /// Who is counted: an address, an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl RateLimit {
    /// Reads an answer's headers; `None` unless both numbers are there.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let limit = text("ratelimit-limit")?;
        let remaining = text("ratelimit-remaining")?;
        let source = text("docker-ratelimit-source").map(|source| source.chars().take(200).collect());
        Some(Self {
            limit: number(limit)?,
            remaining: number(remaining)?,
            window_s: limit.split(';').find_map(|part| part.trim().strip_prefix("w=")?.parse().ok()),
            source,
        })
    }

    /// A tenth or less is left.
    pub fn is_low(&self) -> bool {
        self.remaining.saturating_mul(10) <= self.limit
    }
}

fn number(text: &str) -> Option<u64> {
    text.split([';', ',']).next()?.trim().parse().ok()
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} requests are left", self.remaining, self.limit)?;
        match self.window_s {
            Some(window) if window % 3600 == 0 => write!(f, " in {} h", window / 3600)?,
            Some(window) => write!(f, " in {window} s")?,
            None => {}
        }
        match &self.source {
            Some(source) => write!(f, ", counted for {source}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::RateLimit;

    fn read(pairs: &[(&'static str, &'static str)]) -> Option<RateLimit> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        RateLimit::of(&pairs.collect::<HeaderMap>())
    }

    /// registries.md 1.7.
    #[test]
    fn headers() {
        let limit = read(&[
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "76;w=21600"),
            ("docker-ratelimit-source", "192.0.2.1"),
        ]);
        let limit = limit.expect("a limit");
        assert_eq!(limit.to_string(), "76 of 100 requests are left in 6 h, counted for 192.0.2.1");
        assert!(!limit.is_low());
        let low = read(&[("ratelimit-limit", "100"), ("ratelimit-remaining", "10")]).expect("a limit");
        assert!(low.is_low());
        assert_eq!(low.to_string(), "10 of 100 requests are left");
        assert_eq!(read(&[("ratelimit-limit", "100")]), None);
        assert_eq!(read(&[("ratelimit-limit", "x"), ("ratelimit-remaining", "1")]), None);
    }
}
