//! Names as people and registries write them (distribution-spec, "Pulling manifests"). Text in, typed or refused; no I/O.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing where a name belongs.
    #[error("the reference is empty")]
    Empty,
    /// The host part.
    #[error("`{0}` is not a registry: write host or host:port{hint}", hint = scheme_hint(.0))]
    Registry(String),
    /// The path part.
    #[error(
        "`{0}` is not a repository name: lower-case letters, digits and single separators (`.`, `_`, `__`, `-`) in \
         components joined by `/`, at most 255 characters{hint}",
        hint = repository_hint(.0)
    )]
    Repository(String),
    /// A host and nothing behind it.
    #[error("`{0}` names a registry and no repository in it: write registry/repository[:tag]")]
    NoRepository(String),
    /// The part after `:`.
    #[error(
        "`{0}` is not a tag: letters, digits, `_`, `.` and `-`, not starting with `.` or `-`, at most 128 characters"
    )]
    Tag(String),
    /// The part after `@`.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A name without a host where nothing says which registry is meant.
    #[error("`{0}` names no registry: write host/repository, or give --registry")]
    NoRegistry(String),
}

fn repository_hint(text: &str) -> String {
    let lower = text.to_lowercase();
    if lower != text && lower.parse::<Repository>().is_ok() {
        format!("; `{lower}` is one")
    } else {
        String::new()
    }
}

fn scheme_hint(text: &str) -> &'static str {
    if text.contains("://") {
        ", without a scheme"
    } else if text.starts_with('[') && text.contains('%') {
        "; an address with a zone (`%eth0`) means something on this machine only and cannot stand in a URL"
    } else {
        ""
    }
}

/// `host[:port]`, lower-case, as it stands in references and credential files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Registry(String);

impl Registry {
    /// `host[:port]`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without its port; brackets of an IPv6 literal are kept.
    pub fn host(&self) -> &str {
        match self.0.rfind(':') {
            Some(colon) if !self.0[colon..].contains(']') => &self.0[..colon],
            _ => &self.0,
        }
    }

    /// The port, where one is written.
    pub fn port(&self) -> Option<u16> {
        self.0[self.host().len()..].strip_prefix(':').and_then(|port| port.parse().ok())
    }

    /// True for this machine's own names: plain HTTP is tried there without being asked for.
    pub fn is_loopback(&self) -> bool {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Registry {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = || NameError::Registry(text.chars().take(300).collect());
        let (host, port) = match text.rfind(':') {
            Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
            _ => (text, None),
        };
        if let Some(port) = port
            && (port.is_empty()
                || !port.bytes().all(|byte| byte.is_ascii_digit())
                || port.parse::<u16>().map_or(true, |port| port == 0))
        {
            return Err(refuse());
        }
        let good = if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            literal.parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            host.len() <= 253
                && host.split('.').all(|label| {
                    !label.is_empty()
                        && label.len() <= 63
                        && label
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                })
        };
        if good { Ok(Self(text.to_ascii_lowercase())) } else { Err(refuse()) }
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path of a repository inside a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

impl Repository {
    /// `team/app`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !text.is_empty() && text.len() <= 255 && text.split('/').all(is_path_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Repository(text.chars().take(300).collect()))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    for byte in text.bytes() {
        if alphanumeric(byte) {
            if !matches!(separator.as_str(), "" | "." | "_" | "__")
                && !separator.bytes().all(|byte| byte == b'-')
            {
                return false;
            }
            separator.clear();
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(byte as char);
        } else {
            return false;
        }
    }
    true
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name for a manifest that can move.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// `latest`, `1.2.3`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is meant where no tag is written.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let good = !text.is_empty()
            && text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if good { Ok(Self(text.to_owned())) } else { Err(NameError::Tag(text.chars().take(200).collect())) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which manifest of a repository: by tag or by digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Whatever the tag names now.
    Tag(Tag),
    /// Exactly these bytes.
    Digest(Digest),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// `registry/repository[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Where.
    pub registry: Registry,
    /// What.
    pub repository: Repository,
    /// The tag, where one is written.
    pub tag: Option<Tag>,
    /// The digest, where one is written; it wins over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses a reference; a name without a host belongs to `default_registry`, and is refused where there is none.
    ///
    /// The first component is a host when it has a `.` or a `:`, or is `localhost` (docker's rule).
    pub fn parse(text: &str, default_registry: Option<&Registry>) -> Result<Self, NameError> {
        let text = text.strip_prefix("oci://").or_else(|| text.strip_prefix("docker://")).unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.contains("://") {
            return Err(NameError::Registry(text.chars().take(300).collect()));
        }
        let (registry, rest) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first.parse()?), rest),
            _ => (None, text),
        };
        let shortened = || text.chars().take(300).collect();
        if registry.is_some() && rest.is_empty() {
            return Err(NameError::NoRepository(shortened()));
        }
        let registry = registry.or_else(|| default_registry.cloned()).ok_or_else(|| {
            if is_bare_host(text) {
                NameError::NoRepository(shortened())
            } else {
                NameError::NoRegistry(shortened())
            }
        })?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (rest, None),
        };
        let (path, tag) = match rest.rfind(':') {
            Some(colon) if !rest[colon..].contains('/') => (&rest[..colon], Some(rest[colon + 1..].parse()?)),
            _ => (rest, None),
        };
        Ok(Self { registry, repository: path.parse()?, tag, digest })
    }

    /// The digest where one is written, else the tag, else `latest`.
    pub fn target(&self) -> Target {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Target::Digest(digest.clone()),
            (None, Some(tag)) => Target::Tag(tag.clone()),
            (None, None) => Target::Tag(Tag::latest()),
        }
    }

    /// `registry/repository@digest`: what is printed when something has been pushed or pulled.
    pub fn pinned(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

/// `registry.example` or `127.0.0.1:5000` where a reference is due.
fn is_bare_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    !text.contains('/') && (host.contains('.') || host == "localhost") && port.parse::<u16>().is_ok()
}

fn is_host(component: &str) -> bool {
    component.contains('.') || component.contains(':') || component == "localhost"
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NameError, Reference, Registry, Repository, Tag};

    fn parse(text: &str) -> Result<Reference, NameError> {
        Reference::parse(text, Some(&"default.example".parse().expect("a registry")))
    }

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, expect) in [
            ("app", "default.example/app"),
            ("team/app:1", "default.example/team/app:1"),
            ("localhost/app", "localhost/app"),
            ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("Registry.Example/a", "registry.example/a"),
            ("oci://r.example/a:1", "r.example/a:1"),
            (&format!("r.example/a:1@{digest}"), &format!("r.example/a:1@{digest}")),
        ] {
            assert_eq!(parse(text).expect(text).to_string(), expect);
        }
        for bad in [
            "",
            "r.example/",
            "r.example/A",
            "r.example/a:",
            "r.example/a@sha256:0",
            "https://r.example/a",
            "a b",
            "r.example:0/a",
            "r.example:99999/a",
            "[::1/a",
            "r.example//a",
            "a/../b",
            "-r.example/a",
            "é",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(Reference::parse("app", None), Err(NameError::NoRegistry(_))));
    }

    #[test]
    fn parts_of_a_registry() {
        let registry: Registry = "[::1]:5000".parse().expect("a registry");
        assert_eq!((registry.host(), registry.port(), registry.is_loopback()), ("[::1]", Some(5000), true));
        let registry: Registry = "r.example".parse().expect("a registry");
        assert_eq!((registry.host(), registry.port(), registry.is_loopback()), ("r.example", None, false));
    }

    #[test]
    fn repositories() {
        for good in ["a", "a/b", "a.b", "a_b", "a__b", "a---b", "0/1"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a___b", "a..b", "a._b", ".a", "a-", "A", "a b"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_again(text in "[a-zA-Z0-9:./@_\\-\\[\\]]{0,60}") {
            if let Ok(reference) = parse(&text) {
                prop_assert_eq!(parse(&reference.to_string()), Ok(reference));
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,80}") {
            let _ = (parse(&text), text.parse::<Tag>());
        }
    }
}
