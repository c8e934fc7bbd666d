//! `idp registry user add|remove|list`.

use std::path::PathBuf;

use clap::Subcommand;
use idp_oci::secret::Secret;
use serde::Serialize;

use super::error::{Exit, Report};
use super::login::new_password;
use super::{Session, Stop};
use crate::config::store::Place;
use crate::ops::Options;
use crate::ops::embedded::users::{self, Request};

/// Add, change, remove and list the users of the embedded registry
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry user add alice\n  printf %s \"$PASSWORD\" | idp registry user add ci --password-stdin\n  \
  idp registry user list\n\n\
  A running registry notices at once. That it asks for users at all is a setting: `auth: {kind: htpasswd}` (or `token`) in registry.yaml."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(AddArgs),
    Remove(RemoveArgs),
    List(ListArgs),
}

/// Where the users stand.
#[derive(Debug, clap::Args)]
struct File {
    /// The users' file; that of the settings, else `users` in the registry's directory, unless given
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings; ~/.idpbuilder/registry.yaml unless given, where it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl File {
    fn request(self) -> Request {
        Request { file: self.file, config: self.config }
    }
}

/// Add a user, or give one another password
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry user add alice\n  printf %s \"$PASSWORD\" | idp registry user add ci --password-stdin --login"
)]
struct AddArgs {
    /// The user
    #[arg(value_name = "NAME")]
    name: String,
    /// Read the password from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Keep the credential for yourself as well, where docker and idp find it (Docker's credential helper, or its configuration)
    #[arg(long)]
    login: bool,
    #[command(flatten)]
    file: File,
}

/// Remove a user
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  idp registry user remove alice")]
struct RemoveArgs {
    /// The user
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    file: File,
}

/// List the users
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  idp registry user list --output json")]
struct ListArgs {
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Users {
    users: Vec<String>,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let options = Options { operation: "users", ..Options::default() };
    match args.command {
        Command::Add(args) => add(args, options, session),
        Command::Remove(args) => {
            let doing = format!("remove the user `{}`", args.name);
            let (name, request) = (args.name, args.file.request());
            session.work(&doing, options, async |context| users::remove(context, &request, &name))?;
            session.console.say(&format!("removed {name}"));
            Ok(session.console.result("", &serde_json::json!({ "removed": name }))?)
        }
        Command::List(args) => {
            let request = args.file.request();
            let users =
                session.work("list the users", options, async |context| users::list(context, &request))?;
            let text: String = users.iter().map(|user| format!("{user}\n")).collect();
            Ok(session.console.result(&text, &Users { users })?)
        }
    }
}

fn add(args: AddArgs, options: Options, session: &Session) -> Result<(), Stop> {
    let password: Secret = new_password(args.password_stdin, session)?;
    if password.is_empty() {
        return Err(Report::new(Exit::Usage, "no password is given").into());
    }
    let doing = format!("add the user `{}`", args.name);
    let (name, request) = (args.name, args.file.request());
    let added = session.work(&doing, options, async |context| {
        users::add(context, &request, &name, &password, args.login).await
    })?;
    session.console.say(&format!("{} {name} in {}", added.change, added.file.display()));
    if let Some(place) = &added.kept {
        let place = match place {
            Place::Helper(helper) => format!("the credential helper {helper}"),
            Place::File(file) => file.display().to_string(),
        };
        session.console.say(&format!(
            "the credential of {} is kept by {place}",
            added.registry.as_deref().unwrap_or_default()
        ));
    }
    if !added.asked_for {
        session.console.warn(
            "this registry lets everybody in: write `auth: {kind: htpasswd}` into its registry.yaml, and start it again",
        );
    }
    Ok(session
        .console
        .result("", &serde_json::json!({ "user": name, "change": added.change, "file": added.file }))?)
}
