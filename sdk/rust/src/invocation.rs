//! What this call is about. Everything is asked for, nothing is passed, so that the contract can grow.

use crate::contract::{Pairs, Scope};
use crate::{Challenge, Secret, pairs, sys};

/// Credentials of a slot: what kind, where from, the harmless parts in the clear and the others as handles.
#[derive(Debug)]
pub struct Credential {
    /// `basic`, `identity-token`, `bearer`, `aws-keys`, …
    pub kind: String,
    /// `source`, `username`, `region`, `account`, `expires-at`.
    pub public: Pairs,
    /// `password`, `token`, …
    pub secrets: Vec<(String, Secret)>,
}

impl Credential {
    /// The user name, empty when there is none.
    pub fn username(&self) -> &str {
        pairs::get(&self.public, "username").unwrap_or_default()
    }

    /// Where it came from, in words.
    pub fn source(&self) -> &str {
        pairs::get(&self.public, "source").unwrap_or("the credential store")
    }

    /// A secret part by its name.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.iter().find(|(key, _)| key == name).map(|(_, secret)| secret)
    }
}

/// The answer that is to be identified or explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The request's method.
    pub method: String,
    /// The request's URL.
    pub url: String,
    /// The answer's status.
    pub status: u16,
    /// The answer's headers.
    pub headers: Pairs,
    /// The start of the body.
    pub body: String,
    /// `elapsed-ms`.
    pub extra: Pairs,
}

impl Answer {
    /// The first value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The challenges of the answer.
    pub fn challenges(&self) -> Vec<Challenge> {
        let values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case("www-authenticate"));
        values.flat_map(|(_, value)| Challenge::parse(value)).collect()
    }

    /// The path of the URL, without its query.
    pub fn path(&self) -> &str {
        crate::link::path(&self.url)
    }
}

/// `host[:port]` of the registry as it is spoken to.
pub fn registry() -> String {
    sys::registry()
}

/// `https` or `http`.
pub fn scheme() -> String {
    sys::scheme()
}

/// Scheme and host of the registry: `https://registry.example:5000`.
pub fn origin() -> String {
    format!("{}://{}", scheme(), registry())
}

/// A setting that the manifest declares.
pub fn setting(name: &str) -> Option<String> {
    sys::setting(name)
}

/// The credentials of a slot that the manifest declares.
pub fn credential(slot: &str) -> Option<Credential> {
    sys::credential(slot)
}

/// All challenges of the answer that led here; empty when acting ahead of one.
pub fn challenges() -> Vec<Challenge> {
    sys::challenges()
}

/// 1 on the first try, 2 when a fresh grant was refused.
pub fn attempt() -> u32 {
    sys::attempt()
}

/// The answer to be identified or explained.
pub fn subject() -> Option<Answer> {
    sys::subject()
}

/// `push`, `pull`, `login`, …, for wording only.
pub fn operation() -> String {
    sys::operation()
}

/// What the last grant really covered, where the token says so.
pub fn granted() -> Vec<Scope> {
    sys::granted()
}

/// Whether nothing may be changed.
pub fn dry_run() -> bool {
    sys::dry_run()
}

/// A secret that an earlier call of this provider and identity kept.
pub fn remembered(key: &str) -> Option<Secret> {
    sys::remembered(key).map(Secret)
}

/// Keeps a secret for later calls, at most so long.
pub fn remember(key: &str, value: &Secret, expires_in_s: u32) {
    sys::remember(key, value.duplicate(), expires_in_s);
}
