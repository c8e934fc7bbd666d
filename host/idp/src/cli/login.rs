//! `idp login` and `idp logout`.

use std::io::IsTerminal as _;

use idp_oci::secret::Secret;

use super::connect::{Identity, Reach};
use super::error::{Exit, Report};
use super::{Session, Stop};
use crate::config::env;
use crate::config::store::Place;
use crate::ops::{self, Options};

/// Check credentials with a registry, then keep them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp login registry.example\n  \
  printf %s \"$PASSWORD\" | idp login --username ci --password-stdin registry.example\n\n\
  Credentials go to the credential helper of Docker's configuration, else to an installed one (secretservice, pass, osxkeychain, \
  wincred), else to Docker's config.json, readable by you alone. Nothing is kept that the registry does not accept.")]
pub struct LoginArgs {
    /// The registry; the default one unless given
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    reach: Reach,
}

/// Forget the credentials of a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp logout registry.example")]
pub struct LogoutArgs {
    /// The registry; the default one unless given
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

pub(super) fn login(args: LoginArgs, session: &Session) -> Result<(), Stop> {
    let mut given = args.identity.given(&session.console, &session.known)?;
    if given.password.is_none() && given.token.is_none() {
        // The environment may hold the rest; else a person is asked.
        let from_env =
            session.env.get(env::REGISTRY_PASSWORD).or_else(|| session.env.get(env::REGISTRY_TOKEN));
        if from_env.is_none() {
            ask(&mut given, session)?;
        }
    }
    let options = Options { registry: args.registry.clone(), given, ..args.reach.options("login") };
    let doing = match &args.registry {
        Some(registry) => format!("log in to `{registry}`"),
        None => "log in".to_owned(),
    };
    let login = session.work(&doing, options, async |context| ops::login::login(context).await)?;
    if let Place::File(file) = &login.place {
        session.console.warn(&format!(
            "the credential stands in `{}`, encoded and not encrypted; a credential helper keeps it better",
            file.display()
        ));
    }
    let text = format!("Logged in to {} as {}; kept by {}\n", login.registry, login.account, login.kept_by());
    Ok(session.console.result(&text, &login)?)
}

/// A password that is to be set: from stdin, or asked for twice on the terminal.
pub(super) fn new_password(stdin: bool, session: &Session) -> Result<Secret, Report> {
    let failed =
        |error: std::io::Error| Report::new(Exit::Failed, format!("cannot read the password: {error}"));
    if stdin {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(failed)?;
        let password = Secret::new(line.trim_end_matches(['\r', '\n']).to_owned());
        session.known.add(&password);
        return Ok(password);
    }
    if !std::io::stdin().is_terminal() || session.env.get(env::CI).is_some() {
        return Err(Report::new(Exit::Usage, "no password is given, and there is no terminal to ask on")
            .hint("printf %s \"$PASSWORD\" | … --password-stdin"));
    }
    session.console.line("New password:");
    let password = Secret::new(rpassword::read_password().map_err(failed)?);
    session.known.add(&password);
    session.console.line("The same once more:");
    let again = Secret::new(rpassword::read_password().map_err(failed)?);
    if password.expose() != again.expose() {
        return Err(Report::new(Exit::Usage, "the two are not the same"));
    }
    Ok(password)
}

/// Asks on the terminal, without echo.
fn ask(given: &mut crate::config::credentials::Given, session: &Session) -> Result<(), Report> {
    let interactive = std::io::stdin().is_terminal() && session.env.get(env::CI).is_none();
    if !interactive {
        return Err(Report::new(Exit::Usage, "no password is given, and there is no terminal to ask on")
            .hint("printf %s \"$PASSWORD\" | idp login --username USER --password-stdin REGISTRY"));
    }
    let failed =
        |error: std::io::Error| Report::new(Exit::Failed, format!("cannot read from the terminal: {error}"));
    if given.username.is_none() {
        given.username = session.env.get(env::REGISTRY_USERNAME);
    }
    if given.username.is_none() {
        session.console.line("Username:");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(failed)?;
        given.username = Some(line.trim().to_owned()).filter(|name| !name.is_empty());
    }
    if given.username.is_none() {
        return Err(Report::new(Exit::Usage, "no user name is given"));
    }
    session.console.line("Password or token:");
    let password = Secret::new(rpassword::read_password().map_err(failed)?);
    if password.is_empty() {
        return Err(Report::new(Exit::Usage, "no password is given"));
    }
    session.known.add(&password);
    given.password = Some(password);
    Ok(())
}

pub(super) fn logout(args: &LogoutArgs, session: &Session) -> Result<(), Stop> {
    let options = Options { registry: args.registry.clone(), operation: "logout", ..Options::default() };
    let doing = match &args.registry {
        Some(registry) => format!("log out of `{registry}`"),
        None => "log out".to_owned(),
    };
    let logout = session.work(&doing, options, async |context| ops::login::logout(context).await)?;
    if let Some(source) = &logout.remaining {
        session.console.warn(&format!("{} still has credentials: they come from {source}", logout.registry));
    }
    let text = if logout.removed_from.is_empty() {
        format!("No credentials of {} were kept\n", logout.registry)
    } else {
        format!("Removed the credentials of {} from {}\n", logout.registry, logout.removed_from.join(" and "))
    };
    Ok(session.console.result(&text, &logout)?)
}
