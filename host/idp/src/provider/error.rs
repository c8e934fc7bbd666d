//! How a provider fails when it is not its own answer: it crashed, ran into a limit, was denied, or cannot run here at all.

use std::fmt;

use idp_oci::client::dialect::{DialectError, ErrorKind};

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Units of computation.
    Fuel,
    /// Linear memory, tables, instances.
    Memory,
    /// Secrets and responses held at once.
    Handles,
    /// Secrets to be searched for, and bytes of derived ones.
    Secrets,
    /// Wall clock.
    Time,
    /// Log lines.
    Log,
    /// Bytes of what an exported function returned, or of what a host call was given.
    Answer,
    /// Depth of calls.
    Stack,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fuel => "fuel (an endless loop?)",
            Self::Memory => "memory",
            Self::Handles => "handles (4096 secrets and responses)",
            Self::Secrets => "secrets (128 in use, 64 MiB derived)",
            Self::Time => "time",
            Self::Log => "log lines (200 a call)",
            Self::Answer => "answer size",
            Self::Stack => "stack",
        })
    }
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A trap.
    Crashed,
    /// A budget was used up.
    Limit(Limit),
    /// It wanted what it may not have.
    Denied,
    /// It asked for a credential, and the place where it should be is broken. Not the provider's fault.
    Credential,
    /// It cannot run in this host.
    Incompatible,
    /// The host could not read, compile or cache it.
    Unusable,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crashed => f.write_str("provider-crashed"),
            Self::Limit(limit) => write!(f, "provider-limit: out of {limit}"),
            Self::Denied => f.write_str("provider-denied"),
            Self::Credential => f.write_str("no credential"),
            Self::Incompatible => f.write_str("provider-incompatible"),
            Self::Unusable => f.write_str("provider-unusable"),
        }
    }
}

/// A provider failed. The operation that needed it ends; nothing else does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderError {
    /// Name and version, or the path as given when nothing better is known.
    pub provider: String,
    /// The export that was called; empty before any was.
    pub export: String,
    /// What kind.
    pub failure: Failure,
    /// Details, redacted.
    pub detail: String,
    /// The last lines it logged in this call, redacted.
    pub log: Vec<String>,
}

impl ProviderError {
    /// A failure outside of a call.
    pub fn new(provider: impl Into<String>, failure: Failure, detail: impl fmt::Display) -> Self {
        Self {
            provider: provider.into(),
            export: String::new(),
            failure,
            detail: detail.to_string(),
            log: Vec::new(),
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "provider {}: {}", self.provider, self.failure)?;
        if !self.export.is_empty() {
            write!(f, " in {}", self.export)?;
        }
        write!(f, ": {}", self.detail)?;
        // What Rust says to itself is of no use to those who did not build the provider.
        let said = self.log.iter().filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE"));
        let said: Vec<&str> = said.map(String::as_str).collect();
        if !said.is_empty() {
            write!(f, " (its last words: {})", said[said.len().saturating_sub(3)..].join(" | "))?;
        }
        match self.failure {
            Failure::Crashed | Failure::Limit(_) => {
                f.write_str("; --log-level debug shows its log, --provider generic goes without it")
            }
            Failure::Denied | Failure::Credential | Failure::Incompatible | Failure::Unusable => Ok(()),
        }
    }
}

impl std::error::Error for ProviderError {}

impl From<ProviderError> for DialectError {
    fn from(error: ProviderError) -> Self {
        let (kind, code) = match error.failure {
            Failure::Crashed => (ErrorKind::ProviderFailed, "provider-crashed"),
            Failure::Limit(_) => (ErrorKind::ProviderFailed, "provider-limit"),
            Failure::Denied => (ErrorKind::EgressDenied, "provider-denied"),
            Failure::Credential => {
                let code = "credential-source".to_owned();
                return Self { code, ..Self::new(ErrorKind::Unauthenticated, error.detail) };
            }
            Failure::Incompatible => (ErrorKind::ProviderFailed, "provider-incompatible"),
            Failure::Unusable => (ErrorKind::ProviderFailed, "provider-unusable"),
        };
        Self { code: code.to_owned(), ..Self::new(kind, error.to_string()) }
    }
}

/// Raised by a host function to end a call: becomes [`Failure::Limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitHit(pub(crate) Limit);

impl fmt::Display for LimitHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "out of {}", self.0)
    }
}

impl std::error::Error for LimitHit {}

/// Raised by the host when a credential that is asked for cannot be found out: becomes [`Failure::Credential`].
#[derive(Debug, Clone)]
pub(crate) struct NoCredential(pub(crate) String);

impl fmt::Display for NoCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoCredential {}

/// Raised by the host when a result is not one that a provider may give: becomes [`Failure::Denied`].
#[derive(Debug, Clone)]
pub(crate) struct NotAllowed(pub(crate) String);

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAllowed {}
