//! Errors for people: one sentence, its causes, what to do next, and the exit code. The only file that knows exit codes.

use std::error::Error as _;

use idp_oci::client::dialect::ErrorKind;
use idp_oci::client::{ClientError, Kind};
use idp_oci::sink::SinkError;
use idp_oci::source::SourceError;
use idp_package::build::PackageError;
use idp_package::resolve::ResolveError;
use idp_package::trust::TrustError;
use serde::Serialize;

use super::ui::{Console, Output};
use crate::config::credentials::CredentialError;
use crate::config::registries::RegistriesError;
use crate::ops::Error;

/// How the process ends (the table in `docs/usage.md`). A promise: numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// Done.
    Done,
    /// Failed, and will fail again.
    Failed,
    /// An image, the daemon, a repository or a tag is not there.
    NotFound,
    /// Authentication or permission.
    Auth,
    /// The network or the registry, after our own retries: worth trying again unchanged.
    Transient,
    /// The command line.
    Usage,
    /// A bug in `idp`.
    Bug,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::NotFound => 2,
            Self::Auth => 3,
            Self::Transient => 4,
            Self::Usage => 64,
            Self::Bug => 70,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// Of SIGINT and SIGTERM.
    pub fn of_signal(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::Interrupted),
            15 => Some(Self::Terminated),
            _ => None,
        }
    }
}

/// What is printed about a failure.
#[derive(Debug, Clone)]
pub struct Report {
    exit: Exit,
    sentence: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Report {
    /// A failure that has no typed error behind it.
    pub fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// Something to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// `doing` completes "Failed to": `push `app` to `r.example``.
    pub fn of(doing: &str, error: &Error) -> Self {
        let mut report = Self::new(exit(error), format!("Failed to {doing}"));
        report.explain(error);
        report
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    fn explain(&mut self, error: &Error) {
        match error {
            Error::Registry { registry, credential, notes, error } => {
                self.registry(registry, credential.as_deref(), notes, error)
            }
            Error::Several { errors, last } => {
                self.causes.push(format!("all {errors} registries failed; the last of them:"));
                return self.explain(last);
            }
            _ => {
                self.causes.push(error.to_string());
                let mut cause = error.source();
                while let Some(error) = cause {
                    self.causes.push(error.to_string());
                    cause = error.source();
                }
            }
        }
        self.hints.extend(hint(error));
    }

    fn registry(&mut self, registry: &str, credential: Option<&str>, notes: &[String], error: &ClientError) {
        let text = error.to_string();
        self.causes.push(text.lines().next().unwrap_or_default().to_owned());
        if let Some(refusal) = error.refusal() {
            if let Some(explanation) = &refusal.explanation {
                let cause = if explanation.cause.is_empty() {
                    explanation.title.clone()
                } else {
                    format!("{}: {}", explanation.title, explanation.cause)
                };
                self.causes.push(cause);
                self.hints.extend(explanation.fixes.iter().cloned());
            }
            self.causes.extend(refusal.note.clone());
        } else {
            self.causes.extend(text.lines().skip(1).map(|line| line.trim().to_owned()));
        }
        match error.kind() {
            // It is not the credential that lacks something, but a grant; the provider's host said which.
            Kind::Auth if lacks_grant(error) || is_broken(error) => {}
            Kind::Auth => match credential {
                Some(source) => {
                    // The provider's shorter version of the same.
                    let known = format!("run `idp login {registry}`");
                    self.hints.retain(|hint| *hint != known);
                    self.hints.push(format!(
                        "credentials came from {source}; `idp login {registry}` checks and stores others"
                    ));
                }
                None if !notes.is_empty() => self.hints.extend(notes.iter().cloned()),
                // The provider said so already, or a credential helper failed.
                None if self.hints.iter().any(|hint| hint.contains("idp login")) => {}
                None => {
                    self.hints.push(format!("no credentials were found; `idp login {registry}` stores some"))
                }
            },
            Kind::Transient => self.hints.push(match error.unreachable() {
                Some(host) => format!(
                    "check that `{host}` is spelled right and running, and that there is a way to it (network, VPN, \
                     proxy by HTTPS_PROXY and NO_PROXY); a registry without TLS needs --insecure"
                ),
                None => "trying again unchanged may help; `--log-level debug` shows every request".to_owned(),
            }),
            // Not after `idp list REGISTRY` itself: that would send people in a circle.
            Kind::NotFound
                if self.hints.is_empty() && !self.sentence.ends_with(&format!("list `{registry}`")) =>
            {
                self.hints.push(format!("`idp list {registry}` shows what is there"));
            }
            Kind::NotFound | Kind::Interrupted | Kind::Other => {}
        }
    }

    /// Prints it to stderr.
    pub fn print(&self, console: &Console) {
        if console.output() == Output::Json {
            console.event(&serde_json::json!({
                "event": "error",
                "error": self.sentence,
                "causes": self.causes,
                "hints": self.hints,
                "exit": self.exit.code(),
                "class": self.exit,
            }));
            return;
        }
        console.line(&format!("{} {}", console.paint("31;1", "error:"), self.sentence));
        for cause in &self.causes {
            console.line(&format!("  {} {cause}", console.paint("2", "caused by:")));
        }
        if !self.hints.is_empty() {
            console.line("");
        }
        for hint in &self.hints {
            console.line(&format!("{} {hint}", console.paint("36", "hint:")));
        }
    }
}

/// Whether a source of credentials failed, which said itself what to do.
fn is_broken(error: &ClientError) -> bool {
    matches!(error, ClientError::Dialect { error, .. } if error.code == "credential-source")
}

fn lacks_grant(error: &ClientError) -> bool {
    matches!(error, ClientError::Dialect { error, .. } if error.kind == ErrorKind::EgressDenied)
}

fn exit(error: &Error) -> Exit {
    match error {
        Error::Name(_) | Error::Usage(_) | Error::NoRegistry => Exit::Usage,
        Error::Env(_)
        | Error::Registries(_)
        | Error::Store(_)
        | Error::Provider(_)
        | Error::Dialect(_)
        | Error::Io { .. } => Exit::Failed,
        Error::Package(error) => match &**error {
            PackageError::NoManifest(_) => Exit::NotFound,
            _ => Exit::Failed,
        },
        Error::Resolve(error) => match &**error {
            ResolveError::Catalogue { .. } => Exit::Transient,
            _ => Exit::Failed,
        },
        Error::Trust(error) => match &**error {
            TrustError::Client(error) => of_kind(error.kind()),
            _ => Exit::Failed,
        },
        Error::Refused(_) => Exit::Auth,
        Error::Unfit(_) | Error::Conflict(_) => Exit::Failed,
        Error::Missing(_) | Error::Absent(_) => Exit::NotFound,
        Error::PushDisabled(_) | Error::Credential(_) => Exit::Auth,
        Error::Source(error) => match error {
            SourceError::NotFound(_) => Exit::NotFound,
            SourceError::Malformed(_) => Exit::Usage,
            SourceError::Invalid(_)
            | SourceError::Manifest { .. }
            | SourceError::Io { .. }
            | SourceError::Closed => Exit::Failed,
        },
        Error::Sink(error) => match error {
            SinkError::NotFound(_) => Exit::NotFound,
            SinkError::Unsupported(_) | SinkError::Corrupt(_) | SinkError::Io { .. } => Exit::Failed,
        },
        Error::Registry { error, .. } => match &**error {
            // A permission is lacking, if one of the provider's.
            ClientError::Dialect { error, .. } if error.kind == ErrorKind::EgressDenied => Exit::Auth,
            error => of_kind(error.kind()),
        },
        // Warnings have told them apart.
        Error::Several { last, .. } => exit(last),
        Error::Pipeline(error) => of_kind(error.kind()),
    }
}

pub(super) fn of_kind(kind: Kind) -> Exit {
    match kind {
        Kind::NotFound => Exit::NotFound,
        Kind::Auth => Exit::Auth,
        Kind::Transient => Exit::Transient,
        Kind::Interrupted => Exit::Interrupted,
        Kind::Other => Exit::Failed,
    }
}

fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::NoRegistry => {
            "write host/repository, give --registry, set IDPBUILDER_REGISTRY_URL, or set `default:` in \
             ~/.idpbuilder/registries.yaml"
                .to_owned()
        }
        Error::Missing(_) => "make it there first, or let the push make it: --create repository".to_owned(),
        Error::Conflict(_) => {
            "raise `metadata.version` (`idp package version patch`), or replace what is there with --force"
                .to_owned()
        }
        Error::Package(error) if matches!(**error, PackageError::NoManifest(_)) => {
            "`idp package new NAME` starts one; `idp push DIR` pushes any directory as it is".to_owned()
        }
        Error::Registries(RegistriesError::Exposed { file, .. }) => {
            format!(
                "`chmod 600 {}`, or keep the password elsewhere: passwordFile, passwordEnv, helper",
                file.display()
            )
        }
        Error::Io { error, .. } if error.kind() == std::io::ErrorKind::AddrInUse => {
            "another program listens there; choose another port with --listen (0 takes a free one)".to_owned()
        }
        Error::Credential(CredentialError::NoPassword(_)) => {
            "give the password with --password-stdin or IDPBUILDER_REGISTRY_PASSWORD".to_owned()
        }
        Error::Credential(CredentialError::NoUsername(_)) => {
            "give the user with --username or IDPBUILDER_REGISTRY_USERNAME".to_owned()
        }
        _ => return None,
    })
}
