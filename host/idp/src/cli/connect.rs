//! The flags that say which registry is meant, as whom, and through which provider. Shared by all commands that talk to one.

use std::io::{IsTerminal as _, Read as _};

use idp_oci::secret::Secret;

use super::error::{Exit, Report};
use super::ui::Console;
use crate::config::credentials::Given;
use crate::config::known::Known;
use crate::ops::Options;

/// A password has no more bytes than this, whatever is piped in.
const LONGEST_PASSWORD: u64 = 64 * 1024;

/// Connection flags. A flag beats the environment, that beats registries.yaml, that beats Docker's and podman's files.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub struct Connect {
    /// Registry of names that have none: host[:port] or a URL [env: IDPBUILDER_REGISTRY_URL]
    #[arg(long, short, value_name = "REGISTRY")]
    pub registry: Option<String>,
    #[command(flatten)]
    /// Who one is.
    pub identity: Identity,
    #[command(flatten)]
    /// How it is reached.
    pub reach: Reach,
}

/// How a registry is reached, and through which provider.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub struct Reach {
    /// Allow plain HTTP and certificates that do not verify [env: IDPBUILDER_REGISTRY_INSECURE]
    #[arg(long)]
    insecure: bool,
    /// Follow the registry to private addresses where it is not itself
    #[arg(long)]
    allow_private_redirects: bool,
    /// Provider to use: a name, the path of a component, or `none` for the specification's own behaviour
    #[arg(long, value_name = "NAME|PATH")]
    provider: Option<String>,
    /// Allow the provider something that its manifest asks for: egress=ORIGIN [METHOD,METHOD] [/PATH]
    #[arg(long, value_name = "GRANT")]
    grant: Vec<String>,
}

impl Reach {
    /// As options of an operation that says nothing else yet.
    pub fn options(self, operation: &'static str) -> Options {
        Options {
            insecure: self.insecure,
            allow_private_redirects: self.allow_private_redirects,
            provider: self.provider,
            grants: self.grant,
            operation,
            ..Options::default()
        }
    }
}

/// Who one is.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub struct Identity {
    /// User name [env: IDPBUILDER_REGISTRY_USERNAME]
    #[arg(long, short, value_name = "USER")]
    pub username: Option<String>,
    /// Password; other users of this machine may see it, so prefer --password-stdin [env: IDPBUILDER_REGISTRY_PASSWORD]
    #[arg(long, short, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<Secret>,
    /// Read the password from stdin
    #[arg(long)]
    pub password_stdin: bool,
    /// Token: with a user it is sent as that user's password, alone as a bearer token [env: IDPBUILDER_REGISTRY_TOKEN]
    #[arg(long, short, value_name = "TOKEN", conflicts_with_all = ["password", "password_stdin"])]
    pub token: Option<Secret>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connect({:?})", self.registry)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?})", self.username)
    }
}

impl Identity {
    /// The credential of the flags, with what comes over stdin.
    pub fn given(&self, console: &Console, known: &Known) -> Result<Given, Report> {
        if self.password.is_some() {
            console.warn("--password is visible to other users of this machine; --password-stdin is not");
        }
        let password = if self.password_stdin { Some(from_stdin(known)?) } else { self.password.clone() };
        Ok(Given { username: self.username.clone(), password, token: self.token.clone() })
    }
}

impl Connect {
    /// The options of an operation.
    pub fn options(
        &self,
        console: &Console,
        known: &Known,
        operation: &'static str,
    ) -> Result<Options, Report> {
        Ok(Options {
            registry: self.registry.clone(),
            given: self.identity.given(console, known)?,
            ..self.reach.clone().options(operation)
        })
    }
}

fn from_stdin(known: &Known) -> Result<Secret, Report> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Report::new(Exit::Usage, "--password-stdin reads a pipe, and stdin is a terminal")
            .hint("for example: `printf %s \"$PASSWORD\" | idp login --username ci --password-stdin registry.example`"));
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    stdin.lock().take(LONGEST_PASSWORD).read_to_string(&mut text).map_err(|error| {
        Report::new(Exit::Failed, format!("cannot read the password from stdin: {error}"))
    })?;
    // `echo` adds a line break, a password has none.
    let password = Secret::new(text.trim_end_matches(['\r', '\n']));
    if password.is_empty() {
        return Err(Report::new(Exit::Usage, "--password-stdin found no password on stdin"));
    }
    known.add(&password);
    Ok(password)
}
