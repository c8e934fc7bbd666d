//! What went wrong, where, after how many tries, and what mends it. Text for people is made here; nothing is printed.

use std::fmt;

use super::dialect::{DialectError, ErrorKind, Explanation};
use super::http::HttpError;
use super::retry;
use http::StatusCode;

/// One entry of a registry's error document (distribution-spec, "Error Codes"; read leniently).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// `NAME_UNKNOWN`, `DENIED`, …; empty when the answer was plain text.
    pub code: String,
    /// The registry's words.
    pub message: String,
    /// The detail as JSON text, where there is any.
    pub detail: Option<String>,
}

impl RegistryError {
    /// Reads an error body: the standard document, a bare object or string, or the first line of plain text. HTML says nothing.
    pub fn parse(body: &str) -> Vec<Self> {
        let Ok(document) = serde_json::from_str::<serde_json::Value>(body) else {
            let line = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            let message = clip(line);
            if message.is_empty() || line.starts_with('<') {
                return Vec::new();
            }
            return vec![Self { code: String::new(), message, detail: None }];
        };
        let entries = match document.get("errors") {
            Some(serde_json::Value::Array(entries)) => entries.clone(),
            _ => vec![document],
        };
        entries.iter().take(200).filter_map(Self::read).collect()
    }

    fn read(entry: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        let (code, message) = match entry {
            serde_json::Value::String(text) => (String::new(), clip(text)),
            _ => (
                clip(text("code")),
                clip(if text("message").is_empty() { text("error") } else { text("message") }),
            ),
        };
        let detail = entry.get("detail").filter(|detail| !detail.is_null()).map(|detail| match detail {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        (!code.is_empty() || !message.is_empty()).then_some(Self { code, message, detail })
    }
}

/// Control characters of a terminal have no business in an error message.
fn clip(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(500).collect()
}

/// An answer that is final.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What was wanted: `upload of blob sha256:… to r.example/app`.
    pub what: String,
    /// Method and redacted URL.
    pub request: String,
    /// The status.
    pub status: StatusCode,
    /// What the registry said.
    pub errors: Vec<RegistryError>,
    /// How often it was tried.
    pub attempts: usize,
    /// What the provider makes of it.
    pub explanation: Option<Explanation>,
    /// A sentence of ours.
    pub note: Option<String>,
}

impl Refusal {
    /// Whether the registry named this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.errors.iter().any(|error| error.code.eq_ignore_ascii_case(code))
    }

    /// The class of the provider's explanation; empty where there is none.
    pub fn class(&self) -> &str {
        self.explanation.as_ref().map_or("", |explanation| &explanation.class)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the registry answered {}", self.what, self.status.as_u16())?;
        if let Some(reason) = self.status.canonical_reason() {
            write!(f, " {reason}")?;
        }
        for error in self.errors.iter().take(3) {
            let separator = if error.code.is_empty() || error.message.is_empty() { "" } else { ": " };
            write!(f, "; {}{separator}{}", error.code, error.message)?;
        }
        write!(f, " ({})", self.request)?;
        if self.attempts > 1 {
            write!(f, ", {} tries", self.attempts)?;
        }
        if let Some(explanation) = &self.explanation {
            write!(f, "\n{}", explanation.title)?;
            if !explanation.cause.is_empty() {
                write!(f, ": {}", explanation.cause)?;
            }
            for fix in &explanation.fixes {
                write!(f, "\n  {fix}")?;
            }
        } else if let Some(next) = self.next() {
            write!(f, "\n{next}")?;
        }
        if let Some(note) = &self.note {
            write!(f, "\n{note}")?;
        }
        Ok(())
    }
}

impl Refusal {
    /// What to do next, where the provider has nothing better.
    fn next(&self) -> Option<&'static str> {
        Some(match self.status.as_u16() {
            401 => "no credential was accepted; log in with `idp login`, or check user and password",
            403 => "the credential is known and not allowed to do this; ask for access, or use another one",
            404 => "check the names of registry, repository and tag",
            413 => {
                "something in front of the registry limits the size of a request; raise its limit (nginx: client_max_body_size)"
            }
            429 => "the registry limits how often it is asked; try again later, or log in for a higher limit",
            status if status >= 500 => "the registry failed; trying again unchanged may help",
            _ => return None,
        })
    }
}

/// What a caller may want to do about an error; exit codes follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is not there.
    NotFound,
    /// Nobody, or somebody who may not.
    Auth,
    /// The network or the registry, after our own retries.
    Transient,
    /// Given up on request.
    Interrupted,
    /// Anything else; trying again does not help.
    Other,
}

/// Why something did not happen at a registry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The registry said no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// There was no answer.
    #[error("{what}: {error} ({request}){tries}", tries = tries(*.attempts))]
    Network {
        /// What was wanted.
        what: String,
        /// Method and redacted URL.
        request: String,
        /// How often it was tried.
        attempts: usize,
        /// The last failure.
        error: HttpError,
    },
    /// The provider has no answer.
    #[error("{what}: {error}")]
    Dialect {
        /// What was wanted.
        what: String,
        /// Its words.
        error: DialectError,
    },
    /// What came is not what was asked for.
    #[error("{what}: {problem}")]
    Content {
        /// What was wanted.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What was to be sent could not be read, or is not what it is said to be.
    #[error("{what}: {problem}")]
    Source {
        /// What was to be sent.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// Given up on request.
    #[error("interrupted")]
    Interrupted,
}

fn tries(attempts: usize) -> String {
    if attempts > 1 { format!(", {attempts} tries") } else { String::new() }
}

impl ClientError {
    /// What a caller may want to do about it.
    pub fn kind(&self) -> Kind {
        match self {
            // `wit/README.md`, "explanation.class".
            Self::Refused(refusal) => match refusal.class() {
                "not-logged-in"
                | "bad-credentials"
                | "credentials-expired"
                | "no-permission"
                | "policy-blocked"
                | "read-only" => Kind::Auth,
                "missing-parent" | "missing-repository" | "missing-reference" => Kind::NotFound,
                "rate-limited" | "throttled" | "server-error" => Kind::Transient,
                "" | "unknown" => match refusal.status.as_u16() {
                    401 | 403 => Kind::Auth,
                    404 => Kind::NotFound,
                    _ if retry::is_transient(refusal.status) => Kind::Transient,
                    _ => Kind::Other,
                },
                _ => Kind::Other,
            },
            Self::Network { error, .. } if error.is_transient() => Kind::Transient,
            Self::Dialect { error, .. } => match error.kind {
                ErrorKind::Unauthenticated | ErrorKind::Denied | ErrorKind::EgressDenied => Kind::Auth,
                ErrorKind::NotFound => Kind::NotFound,
                ErrorKind::RateLimited | ErrorKind::Unavailable => Kind::Transient,
                _ => Kind::Other,
            },
            Self::Interrupted => Kind::Interrupted,
            Self::Network { .. } | Self::Content { .. } | Self::Source { .. } => Kind::Other,
        }
    }

    /// Why, without what was wanted: for lines that say that themselves.
    pub fn cause(&self) -> String {
        match self {
            Self::Refused(refusal) => format!("the registry answered {}", refusal.status),
            Self::Network { error, .. } => error.to_string(),
            Self::Dialect { error, .. } => error.to_string(),
            Self::Content { problem, .. } | Self::Source { problem, .. } => problem.clone(),
            Self::Interrupted => self.to_string(),
        }
    }

    /// The host that no connection could be made to.
    pub fn unreachable(&self) -> Option<&str> {
        match self {
            Self::Network { error: HttpError::Connect { host, .. }, .. } => Some(host),
            _ => None,
        }
    }

    /// The final answer of the registry, where there is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The registry refused something because content that it names is not there, whether it says which or not.
    pub fn lacks_something(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.errors.iter().any(super::lacking::is))
    }

    /// The digests that the registry says it lacks, where that is why it refused (`MANIFEST_BLOB_UNKNOWN`).
    pub fn lacking(&self) -> std::collections::BTreeSet<crate::digest::Digest> {
        self.refusal().map(|refusal| super::lacking::of(&refusal.errors)).unwrap_or_default()
    }

    /// The status of the final answer.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status.as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::{DialectError, ErrorKind};
    use super::{ClientError, Kind, RegistryError};

    /// What a provider may not do is a matter of permission, and not of another try.
    #[test]
    fn a_provider_without_a_grant() {
        let error = DialectError::new(ErrorKind::EgressDenied, "not granted");
        let error = ClientError::Dialect { what: "push".to_owned(), error };
        assert_eq!((error.kind(), error.cause().as_str()), (Kind::Auth, "not granted"));
    }

    fn shown(body: &str) -> Vec<String> {
        RegistryError::parse(body)
            .into_iter()
            .map(|error| format!("{}|{}|{}", error.code, error.message, error.detail.unwrap_or_default()))
            .collect()
    }

    /// registries.md 0.4.
    #[test]
    fn error_bodies() {
        for (body, expect) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no","detail":[{"a":1}]}]}"#,
                vec![r#"DENIED|no|[{"a":1}]"#],
            ),
            (r#"{"errors":[{"code":"A","detail":"d"},{"message":"m","detail":null}]}"#, vec!["A||d", "|m|"]),
            (r#"{"errors":["text"]}"#, vec!["|text|"]),
            (r#"{"errors":[]}"#, vec![]),
            (r#"{"code":"UNAUTHORIZED","message":"m"}"#, vec!["UNAUTHORIZED|m|"]),
            (r#"{"error":"bad"}"#, vec!["|bad|"]),
            ("\n404 page not found\n", vec!["|404 page not found|"]),
            ("<html>", vec![]),
            ("", vec![]),
            ("\u{1b}[31mred", vec!["|[31mred|"]),
        ] {
            assert_eq!(shown(body), expect, "{body}");
        }
    }
}
