//! `idp registry doctor`: what a registry is, how it is reached, who one is there, what one may do, what it can, and what lies in wait in its tags.
//! Every finding is a [`Check`]; one that fails ends nothing but what depends on it. Changes nothing: what could is asked only with
//! `write`, in the named repository, and in a way that leaves nothing behind.
//!
//! | file | looks at |
//! |---|---|
//! | [`reach`], [`certificate`] | the way there: connection, TLS, clock |
//! | [`who`] | the product, the credential, the account, rate limits |
//! | [`can`] | rights and features |
//! | [`tags`] | tags that break consumers |

use std::fmt::Write as _;

use idp_oci::client::{ClientError, Kind};
use idp_oci::name::Repository;
use serde::Serialize;

use super::choose::choose;
use super::session::{self, Subject};
use super::{Context, Error};

mod can;
mod certificate;
mod reach;
mod tags;
mod who;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, and may bite.
    Warn,
    /// Does not work.
    Fail,
    /// Could not be, or was not, found out.
    Unknown,
}

/// Where a finding comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The registry was asked just now.
    Probed,
    /// The provider knows it of the product.
    Provider,
    /// Flags, environment, files.
    Configuration,
    /// Nobody could say.
    Unknown,
}

/// One finding.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// What was looked at; stable.
    pub name: &'static str,
    /// How it is.
    pub status: Status,
    /// In a word where there is one: `yes`, `no`, a number.
    pub value: Option<String>,
    /// In a sentence.
    pub finding: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What to do next.
    pub next: Option<String>,
    /// What kind of failure.
    #[serde(skip)]
    pub kind: Option<Kind>,
}

impl Check {
    fn new(name: &'static str, status: Status, origin: Origin, finding: impl Into<String>) -> Self {
        Self { name, status, value: None, finding: finding.into(), origin, next: None, kind: None }
    }

    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, Origin::Probed, finding)
    }

    fn warn(name: &'static str, finding: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, Origin::Probed, finding).next(next)
    }

    fn fail(name: &'static str, kind: Kind, finding: impl Into<String>) -> Self {
        Self { kind: Some(kind), ..Self::new(name, Status::Fail, Origin::Probed, finding) }
    }

    fn unknown(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, Status::Unknown, Origin::Unknown, finding)
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }
}

/// Everything that was found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diagnosis {
    /// `host[:port]`.
    pub registry: String,
    /// The repository, when one was looked at.
    pub repository: Option<String>,
    /// Name and version of the provider.
    pub provider: Option<String>,
    /// In the order in which things were looked at.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    /// The worst failure; `None` when nothing failed.
    pub fn worst(&self) -> Option<Kind> {
        let severity = |kind: &Kind| match kind {
            Kind::Other => 1,
            Kind::NotFound => 2,
            Kind::Auth => 3,
            Kind::Transient => 4,
            Kind::Interrupted => 5,
        };
        self.checks.iter().filter_map(|check| check.kind).max_by_key(severity)
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Warn => "warn",
                Status::Fail => "fail",
                Status::Unknown => "-",
            };
            let origin = if check.origin == Origin::Provider { " (says the provider)" } else { "" };
            let finding = check.finding.replace('\n', "\n                       ");
            let _ = writeln!(text, "{status:<5} {:<16} {finding}{origin}", check.name);
            if let Some(next) = &check.next {
                let _ = writeln!(text, "{:23}-> {next}", "");
            }
        }
        let count = |status| self.checks.iter().filter(|check| check.status == status).count();
        let plural =
            |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        let _ = writeln!(
            text,
            "{}, {}",
            plural(count(Status::Fail), "failure"),
            plural(count(Status::Warn), "warning")
        );
        text
    }
}

/// What an operation's error means for the exit code.
fn kind(error: &Error) -> Kind {
    match error {
        Error::Registry { error, .. } => error.kind(),
        Error::Credential(_) => Kind::Auth,
        _ => Kind::Other,
    }
}

/// An error in one line.
fn line(error: &ClientError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Looks at the default registry, and at a repository in it.
pub async fn doctor(
    context: &Context,
    repository: Option<&Repository>,
    write: bool,
) -> Result<Diagnosis, Error> {
    let (address, why) = context.default_registry()?.ok_or(Error::NoRegistry)?;
    let registry = address.registry;
    tracing::debug!(target: "idp::doctor", %registry, why, "looking");
    let mut found = Diagnosis {
        registry: registry.to_string(),
        repository: repository.map(ToString::to_string),
        provider: None,
        checks: Vec::new(),
    };
    let chosen = match choose(context, &registry, true).await {
        Ok(chosen) => chosen,
        Err(error) => {
            found.add(Check::fail("provider", kind(&error), error.to_string()));
            return Ok(found);
        }
    };
    found.provider = Some(chosen.selection.provider.manifest.label());
    let session = session::open(context, Subject { registry: &registry, repository, tag: None }).await;
    // Names may stand for other hosts.
    let host = session.as_ref().map_or(&registry, |session| session.client.registry());
    let insecure = context.insecure(&registry)?;
    let reached = reach::look(&mut found, &chosen.http, host, chosen.scheme, insecure).await;
    who::product(&mut found, &chosen.selection);
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            found.add(Check::fail("login", kind(&error), error.to_string()).origin(Origin::Configuration));
            return Ok(found);
        }
    };
    if !reached {
        who::credential(&mut found, &session);
        found.add(Check::unknown(
            "further",
            "nothing else can be found out while the registry does not answer",
        ));
        return Ok(found);
    }
    let let_in = who::account(&mut found, &session).await;
    who::limits(&mut found, &session).await;
    can::registry(&mut found, &session, let_in).await;
    if let Some(repository) = repository {
        let repository = session.on_wire(repository).clone();
        can::repository(&mut found, &session, &repository, write).await;
        tags::look(&mut found, &session, &repository).await;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Check, Diagnosis, Kind, Status};

    #[test]
    fn the_worst_failure_decides() {
        let mut found =
            Diagnosis { registry: "r".to_owned(), repository: None, provider: None, checks: Vec::new() };
        found.add(Check::ok("a", "fine"));
        found.add(Check::warn("b", "not so fine", "do something"));
        assert_eq!(found.worst(), None);
        found.add(Check::fail("c", Kind::NotFound, "not there"));
        found.add(Check::fail("d", Kind::Auth, "not allowed"));
        found.add(Check::fail("e", Kind::Other, "broken"));
        assert_eq!(found.worst(), Some(Kind::Auth));
        assert_eq!(found.checks.iter().filter(|check| check.status == Status::Fail).count(), 3);
        assert!(found.text().ends_with("3 failures, 1 warning\n"), "{}", found.text());
    }
}
