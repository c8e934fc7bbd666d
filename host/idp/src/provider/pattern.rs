//! Patterns of hosts and origins, as manifests and users write them. Pure text; decides nothing by itself.
//!
//! A host pattern is a list of labels: `{name}` captures one label or a part of one, `*` as the first label stands for one.
//! An origin pattern is `registry`, `realm`, `realm-host`, `setting:NAME`, or scheme, host pattern and port; it never holds a path.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use url::Url;

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A host pattern.
    #[error(
        "`{0}` is not a host pattern: labels joined by dots; `{{name}}` for a part, `*` for the first label alone"
    )]
    Host(String),
    /// An origin pattern.
    #[error(
        "`{0}` is not an origin: `registry`, `realm`, `realm-host`, `setting:NAME`, or `https://host[:port]` without a path (a first label \
         may be `*`)"
    )]
    Origin(String),
    /// A template over a part that no host pattern captures, or over a setting that nobody made.
    #[error("`{template}` needs `{{{name}}}`, which neither the registry's name nor its settings give")]
    Unbound {
        /// The template.
        template: String,
        /// The missing part.
        name: String,
    },
}

/// Captured parts of a host name, and under [`setting_key`] what the user set: both fill templates.
pub type Captures = BTreeMap<String, String>;

/// The key of a setting among captured parts; no part of a host name has a `:`.
pub(crate) fn setting_key(name: &str) -> String {
    format!("setting:{name}")
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Exact(String),
    Any,
    Part { before: String, name: String, after: String },
}

impl Label {
    fn parse(text: &str, first: bool) -> Option<Self> {
        let plain = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
        };
        if text == "*" {
            return first.then_some(Self::Any);
        }
        if let Some((before, rest)) = text.split_once('{') {
            let (name, after) = rest.split_once('}')?;
            let good = !name.is_empty() && plain(name) && plain(before) && plain(after);
            return good.then(|| Self::Part {
                before: before.to_owned(),
                name: name.to_owned(),
                after: after.to_owned(),
            });
        }
        (!text.is_empty() && text.len() <= 63 && plain(text)).then(|| Self::Exact(text.to_owned()))
    }
}

/// `{account}.dkr.ecr.{region}.amazonaws.com`, `*.example.com`, `registry.example.com:5000`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern {
    labels: Vec<Label>,
    port: Option<u16>,
}

impl HostPattern {
    /// The captured parts when `host[:port]` matches. A pattern without a port matches every port.
    pub fn matches(&self, host_and_port: &str) -> Option<Captures> {
        let text = host_and_port.to_ascii_lowercase();
        let (host, port) = split_port(&text);
        if self.port.is_some() && self.port != port {
            return None;
        }
        let mut captures = Captures::new();
        let labels: Vec<&str> = host.split('.').collect();
        if labels.len() != self.labels.len() {
            return None;
        }
        for (pattern, label) in self.labels.iter().zip(labels) {
            let good = match pattern {
                Label::Exact(exact) => exact == label,
                Label::Any => is_label(label),
                Label::Part { before, name, after } => {
                    let part = label.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
                    // A name used twice must mean the same thing twice.
                    is_label(part)
                        && captures
                            .insert(name.clone(), part.to_owned())
                            .is_none_or(|earlier| earlier == part)
                }
            };
            if !good {
                return None;
            }
        }
        Some(captures)
    }

    /// Whether everything that `other` matches is matched by this pattern too.
    pub fn covers(&self, other: &Self) -> bool {
        (self.port.is_none() || self.port == other.port)
            && self.labels.len() == other.labels.len()
            && self.labels.iter().zip(&other.labels).all(|(mine, theirs)| match (mine, theirs) {
                (Label::Any, _) => true,
                (Label::Exact(mine), Label::Exact(theirs)) => mine == theirs,
                (Label::Part { before, after, .. }, Label::Exact(theirs)) => theirs
                    .strip_prefix(before.as_str())
                    .and_then(|rest| rest.strip_suffix(after.as_str()))
                    .is_some_and(is_label),
                (
                    Label::Part { before, after, .. },
                    Label::Part { before: their_before, after: their_after, .. },
                ) => their_before.starts_with(before.as_str()) && their_after.ends_with(after.as_str()),
                (Label::Part { before, after, .. }, Label::Any) => before.is_empty() && after.is_empty(),
                (Label::Exact(_), _) => false,
            })
    }

    /// The names of the captured parts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().filter_map(|label| match label {
            Label::Part { name, .. } => Some(name.as_str()),
            Label::Exact(_) | Label::Any => None,
        })
    }

    fn fill(&self, captures: &Captures) -> Result<Self, PatternError> {
        let mut labels = Vec::with_capacity(self.labels.len());
        for label in &self.labels {
            labels.push(match label {
                Label::Part { before, name, after } => {
                    let value = captures.get(name).filter(|value| is_label(value)).ok_or_else(|| {
                        PatternError::Unbound { template: self.to_string(), name: name.clone() }
                    })?;
                    Label::Exact(format!("{before}{value}{after}"))
                }
                other => other.clone(),
            });
        }
        Ok(Self { labels, port: self.port })
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn split_port(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (text, None),
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = || PatternError::Host(text.chars().take(300).collect());
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().map_err(|_| refuse())?)),
            _ => (text, None),
        };
        // An IPv6 literal is one label.
        if host.starts_with('[') {
            let literal =
                host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(refuse)?;
            literal.parse::<std::net::Ipv6Addr>().map_err(|_| refuse())?;
            return Ok(Self { labels: vec![Label::Exact(host.to_ascii_lowercase())], port });
        }
        let lower = host.to_ascii_lowercase();
        let labels = lower
            .split('.')
            .enumerate()
            .map(|(index, label)| Label::parse(label, index == 0).ok_or_else(refuse))
            .collect::<Result<Vec<_>, _>>()?;
        // `*` or `{name}` alone, or over a bare top-level name, would be everybody's host.
        let fixed = labels.iter().rev().take_while(|label| matches!(label, Label::Exact(_))).count();
        if fixed < labels.len() && fixed < 2 {
            return Err(refuse());
        }
        Ok(Self { labels, port })
    }
}

impl TryFrom<String> for HostPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, label) in self.labels.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            match label {
                Label::Exact(text) => f.write_str(text)?,
                Label::Any => f.write_str("*")?,
                Label::Part { before, name, after } => write!(f, "{before}{{{name}}}{after}")?,
            }
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Scheme, host and port (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// True for `https`.
    pub tls: bool,
    /// Lower-case; an IPv6 literal has its brackets.
    pub host: String,
    /// Always known.
    pub port: u16,
}

impl Origin {
    /// The origin of an `http` or `https` URL.
    pub fn of(url: &Url) -> Option<Self> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self { tls, host: url.host_str()?.to_ascii_lowercase(), port: url.port_or_known_default()? })
    }

    /// The origin of a registry spoken to over `https` or `http`.
    pub fn registry(scheme: &str, registry: &str) -> Option<Self> {
        Self::of(&Url::parse(&format!("{scheme}://{registry}/")).ok()?)
    }

    fn host_and_port(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.tls { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// What a manifest or a user calls an origin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum OriginPattern {
    /// The registry that the call is about.
    Registry,
    /// The realm of its challenge: that very URL.
    Realm,
    /// Any path of the host of its realm: where the product's API is when the registry has a host of its own.
    RealmHost,
    /// The origin of the URL that the user gave as this setting.
    Setting(String),
    /// Scheme and host pattern; the port is the scheme's when none is written.
    Named {
        /// True for `https`.
        tls: bool,
        /// With its port.
        host: HostPattern,
    },
}

/// What the two symbols stand for in one call.
#[derive(Debug, Clone)]
pub struct Symbols {
    /// The registry itself.
    pub registry: Origin,
    /// Realms of its challenges, with their paths.
    pub realms: Vec<(Origin, String)>,
}

impl Symbols {
    /// Whether the URL of a challenge is there: the origin and the path, or what lies below it.
    pub fn is_realm(&self, origin: &Origin, path: &str) -> bool {
        self.realms.iter().any(|(realm, realm_path)| realm == origin && path_matches(realm_path, path))
    }
}

impl OriginPattern {
    /// Whether an origin is meant.
    pub fn matches(&self, origin: &Origin, symbols: &Symbols) -> bool {
        match self {
            Self::Registry => *origin == symbols.registry,
            Self::Realm | Self::RealmHost => symbols.realms.iter().any(|(realm, _)| realm == origin),
            // Nothing before it is filled in.
            Self::Setting(_) => false,
            Self::Named { tls, host } => {
                *tls == origin.tls && host.matches(&origin.host_and_port()).is_some()
            }
        }
    }

    /// Whether everything that `other` means is meant by this pattern too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Named { tls, host }, Self::Named { tls: their_tls, host: their_host }) => {
                tls == their_tls && host.covers(their_host)
            }
            (mine, theirs) => mine == theirs,
        }
    }

    /// Puts captured parts and settings in.
    pub fn fill(&self, captures: &Captures) -> Result<Self, PatternError> {
        match self {
            Self::Setting(name) => {
                let url = captures.get(&setting_key(name)).and_then(|text| Url::parse(text).ok());
                let origin = url.as_ref().and_then(Origin::of);
                let unbound = || PatternError::Unbound { template: self.to_string(), name: name.clone() };
                origin.as_ref().map(Self::exactly).ok_or_else(unbound)
            }
            Self::Named { tls, host } => Ok(Self::Named { tls: *tls, host: host.fill(captures)? }),
            symbol => Ok(symbol.clone()),
        }
    }

    /// Exactly one origin.
    pub fn exactly(origin: &Origin) -> Self {
        let labels = if origin.host.starts_with('[') {
            vec![Label::Exact(origin.host.clone())]
        } else {
            origin.host.split('.').map(|label| Label::Exact(label.to_owned())).collect()
        };
        Self::Named { tls: origin.tls, host: HostPattern { labels, port: Some(origin.port) } }
    }
}

impl FromStr for OriginPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = || PatternError::Origin(text.chars().take(300).collect());
        let (tls, rest) = match text {
            "registry" => return Ok(Self::Registry),
            "realm" => return Ok(Self::Realm),
            "realm-host" => return Ok(Self::RealmHost),
            _ if text.starts_with("setting:") => {
                let name = text.trim_start_matches("setting:");
                return if is_label(name) { Ok(Self::Setting(name.to_owned())) } else { Err(refuse()) };
            }
            _ => match text.split_once("://").ok_or_else(refuse)? {
                ("https", rest) => (true, rest),
                ("http", rest) => (false, rest),
                _ => return Err(refuse()),
            },
        };
        let mut host: HostPattern = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| refuse())?;
        host.port = host.port.or(Some(if tls { 443 } else { 80 }));
        Ok(Self::Named { tls, host })
    }
}

impl TryFrom<String> for OriginPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry => f.write_str("registry"),
            Self::Realm => f.write_str("realm"),
            Self::RealmHost => f.write_str("realm-host"),
            Self::Setting(name) => write!(f, "setting:{name}"),
            Self::Named { tls, host } => {
                let default = if *tls { 443 } else { 80 };
                let shown = HostPattern {
                    labels: host.labels.clone(),
                    port: host.port.filter(|port| *port != default),
                };
                write!(f, "{}://{shown}", if *tls { "https" } else { "http" })
            }
        }
    }
}

/// Whether a path lies under a prefix: `*` and `/` mean every path; a prefix ends at a segment's end, or with `*` anywhere.
pub(crate) fn path_matches(prefix: &str, path: &str) -> bool {
    if let Some(raw) = prefix.strip_suffix('*') {
        return path.starts_with(raw);
    }
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
