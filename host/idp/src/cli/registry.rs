//! `idp registry serve|detect|show|doctor`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::connect::Connect;
use super::doctor;
use super::error::{Exit, Report};
use super::{Session, Stop};
use crate::ops::{self, Options};

/// Serve a registry, or find out what kind one is and how it does
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry serve\n  idp registry detect registry.example\n  idp registry doctor registry.example/team/app"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(ServeArgs),
    Detect(DetectArgs),
    Show(ShowArgs),
    Doctor(doctor::Args),
}

/// Serve an OCI registry from a directory, until interrupted
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry serve\n  idp registry serve --listen 127.0.0.1:0 --memory\n  \
  idp registry serve --root ./registry --htpasswd ./users\n\n\
  Stdout holds one line, the address, as soon as clients can connect."
)]
struct ServeArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Directory of the content; ~/.idpbuilder/registry unless given
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    root: Option<PathBuf>,
    /// Keep the content in memory, and forget it at the end
    #[arg(long)]
    memory: bool,
    /// Let in the users of this file (bcrypt, as `htpasswd -B` writes it) and nobody else
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
}

/// Find out which product a registry is, and which provider serves it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry detect registry.example\n  idp registry detect localhost:5000 --output json"
)]
struct DetectArgs {
    /// host[:port] or a URL; the default registry unless given
    #[arg(value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

/// Show how a registry is set up here, or what is known of one of its repositories
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry show registry.example\n  idp registry show registry.example/team/app --output json"
)]
struct ShowArgs {
    /// A registry, or a repository; the default registry unless given
    #[arg(value_name = "REGISTRY|REPOSITORY")]
    place: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Serialize)]
struct Listening {
    address: SocketAddr,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    match args.command {
        Command::Serve(args) => serve(args, session),
        Command::Detect(args) => detect(args, session),
        Command::Show(args) => show(args, session),
        Command::Doctor(args) => doctor::run(args, session),
    }
}

fn serve(args: ServeArgs, session: &Session) -> Result<(), Stop> {
    let options = Options { operation: "serve", ..Options::default() };
    let request = ops::serve::Request {
        listen: args.listen,
        root: args.root,
        memory: args.memory,
        htpasswd: args.htpasswd,
    };
    let doing = format!("serve a registry at `{}`", args.listen);
    let console = &session.console;
    let ready = |address: SocketAddr| console.result(&format!("{address}\n"), &Listening { address });
    session.work(&doing, options, async |context| ops::serve::serve(context, request, ready).await)
}

fn show(args: ShowArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "show")?;
    let doing = match &args.place {
        Some(place) => format!("show `{place}`"),
        None => "show the default registry".to_owned(),
    };
    let shown = session
        .work(&doing, options, async |context| ops::show::show(context, args.place.as_deref()).await)?;
    Ok(session.console.result(&shown.text(), &shown)?)
}

fn detect(args: DetectArgs, session: &Session) -> Result<(), Stop> {
    let mut options = session.options(&args.connect, "detect")?;
    if let Some(host) = args.host {
        if options.registry.is_some() {
            return Err(Report::new(Exit::Usage, "HOST and --registry name two registries; give one").into());
        }
        options.registry = Some(host);
    }
    let doing = match &options.registry {
        Some(registry) => format!("detect `{registry}`"),
        None => "detect the default registry".to_owned(),
    };
    let detected = session.work(&doing, options, async |context| ops::detect::detect(context).await)?;
    Ok(session.console.result(&detected.text(), &detected)?)
}
