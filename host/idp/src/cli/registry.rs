//! `idp registry …`: the embedded one run, and any one looked at. What is done with the content of the embedded one is in `upkeep`, its users
//! in `user`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::connect::Connect;
use super::doctor;
use super::error::{Exit, Report};
use super::ui::size;
use super::{Session, Stop, upkeep, user};
use crate::ops::embedded::Note;
use crate::ops::{self, Options};

/// Run the embedded registry, or find out what kind a registry is and how it does
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry start\n  idp registry status\n  idp registry detect registry.example\n  idp registry doctor registry.example/team/app"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(ServeArgs),
    Start(StartArgs),
    Stop(StopArgs),
    Status(StatusArgs),
    Images(ImagesArgs),
    Gc(upkeep::GcArgs),
    Fsck(upkeep::FsckArgs),
    Usage(upkeep::UsageArgs),
    Restore(upkeep::RestoreArgs),
    User(user::Args),
    Detect(DetectArgs),
    Show(ShowArgs),
    Doctor(doctor::Args),
}

/// Serve an OCI registry from a directory, until interrupted
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry serve\n  idp registry serve --listen 127.0.0.1:0 --memory\n  \
  idp registry serve --root ./registry --htpasswd ./users\n\n\
  Stdout holds one line, the address, as soon as clients can connect. Without --root and --memory it is the embedded registry of \
  this user, which `start` runs in the background."
)]
struct ServeArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Keep the content in memory, and forget it at the end
    #[arg(long, conflicts_with = "root")]
    memory: bool,
    /// This is the process of `start`
    #[arg(long, hide = true)]
    background: bool,
}

/// Where the embedded registry is, and to whom it is open.
#[derive(Debug, clap::Args)]
struct PlaceArgs {
    /// Address and port; port 0 takes a free one. Unless given: 127.0.0.1:5000, in the background the address of last time or the
    /// first free one from there on
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Directory of the content; ~/.idpbuilder/registry unless given
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Let in the users of this file (bcrypt, as `htpasswd -B` writes it) and nobody else
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Speak HTTPS, with a certificate that is made here; `tls` in the settings says more
    #[arg(long)]
    tls: bool,
    /// Settings; ~/.idpbuilder/registry.yaml unless given, where it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl PlaceArgs {
    /// For another process, which has another working directory.
    fn arguments(&self) -> std::io::Result<Vec<String>> {
        let mut arguments = Vec::new();
        if let Some(listen) = self.listen {
            arguments.extend(["--listen".to_owned(), listen.to_string()]);
        }
        for (flag, path) in
            [("--root", &self.root), ("--htpasswd", &self.htpasswd), ("--config", &self.config)]
        {
            if let Some(path) = path {
                let path = std::path::absolute(path)?;
                let path =
                    path.to_str().ok_or_else(|| std::io::Error::other(format!("{flag} is not UTF-8")))?;
                arguments.extend([flag.to_owned(), path.to_owned()]);
            }
        }
        Ok(arguments)
    }
}

/// Start the embedded registry in the background, unless it runs
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry start\n  idp registry start --listen 127.0.0.1:5005 --output json\n\n\
  One for each user. Stdout holds its address. A push that names no registry, where none is configured, starts it as well."
)]
struct StartArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

/// Stop the embedded registry; what is under way is finished first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  idp registry stop")]
struct StopArgs {}

/// Show whether the embedded registry runs, where, and since when
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp registry status\n  idp registry status --output json\n\n\
  The exit code is 2 when it is not running, and 4 when it does not answer.")]
struct StatusArgs {}

/// List what has a tag in the embedded registry
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp registry images\n  idp registry images --output json")]
struct ImagesArgs {}

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
        Command::Start(args) => start(&args, session),
        Command::Stop(_) => stop(session),
        Command::Status(_) => status(session),
        Command::Images(_) => images(session),
        Command::Gc(args) => upkeep::gc(&args, session),
        Command::Fsck(args) => upkeep::fsck(&args, session),
        Command::Usage(args) => upkeep::usage(&args, session),
        Command::Restore(args) => upkeep::restore(&args, session),
        Command::User(args) => user::run(args, session),
        Command::Detect(args) => detect(args, session),
        Command::Show(args) => show(args, session),
        Command::Doctor(args) => doctor::run(args, session),
    }
}

fn serve(args: ServeArgs, session: &Session) -> Result<(), Stop> {
    let options = Options { operation: "serve", ..Options::default() };
    let place = args.place;
    let doing = match place.listen {
        Some(listen) => format!("serve a registry at `{listen}`"),
        None => "serve the embedded registry".to_owned(),
    };
    let request = ops::serve::Request {
        listen: place.listen,
        root: place.root,
        memory: args.memory,
        htpasswd: place.htpasswd,
        tls: place.tls,
        config: place.config,
        background: args.background,
    };
    let console = &session.console;
    let ready = |address: SocketAddr| console.result(&format!("{address}\n"), &Listening { address });
    session.work(&doing, options, async |context| ops::serve::serve(context, request, ready).await)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Started {
    #[serde(flatten)]
    note: Note,
    /// It was not running before.
    started: bool,
}

fn start(args: &StartArgs, session: &Session) -> Result<(), Stop> {
    let options = Options { operation: "start", ..Options::default() };
    let doing = "start the embedded registry";
    let arguments = args.place.arguments().map_err(|error| Report::new(Exit::Usage, error.to_string()))?;
    let wanted = args.place.listen;
    let start = ops::embedded::Start { arguments };
    let (note, started) =
        session.work(doing, options, async |context| ops::embedded::start(context, &start).await)?;
    if !started {
        session.console.say("it is running already");
        if wanted.is_some_and(|wanted| wanted.port() != 0 && wanted != note.address) {
            let sentence = format!("Failed to {doing}: it runs at {} already", note.address);
            return Err(Report::new(Exit::Failed, sentence)
                .hint("stop it first: `idp registry stop`")
                .into());
        }
    }
    let address = note.address;
    Ok(session.console.result(&format!("{address}\n"), &Started { note, started })?)
}

#[derive(Debug, Serialize)]
struct Stopped {
    stopped: bool,
}

fn stop(session: &Session) -> Result<(), Stop> {
    let options = Options { operation: "stop", ..Options::default() };
    let stopped = session
        .work("stop the embedded registry", options, async |context| ops::embedded::stop(context).await)?;
    match &stopped {
        Some(note) => session.console.say(&format!("stopped, which was at {}", note.address)),
        None => session.console.say("it is not running"),
    }
    Ok(session.console.result("", &Stopped { stopped: stopped.is_some() })?)
}

fn status(session: &Session) -> Result<(), Stop> {
    let options = Options { operation: "status", ..Options::default() };
    let status = session.work("look for the embedded registry", options, async |context| {
        Ok(ops::embedded::status(context).await)
    })?;
    session.console.result(&status.text(), &status)?;
    match (status.running, status.answers) {
        (true, true) => Ok(()),
        (true, false) => Err(Stop::Told(Exit::Transient)),
        (false, _) => Err(Stop::Told(Exit::NotFound)),
    }
}

fn images(session: &Session) -> Result<(), Stop> {
    let options = Options { operation: "images", ..Options::default() };
    let found = session
        .work("list the embedded registry", options, async |context| ops::images::images(context).await)?;
    let width =
        found.iter().map(|image| image.repository.len() + image.tag.len() + 1).max().unwrap_or_default();
    let lines: String = found
        .iter()
        .map(|image| {
            let name = format!("{}:{}", image.repository, image.tag);
            format!("{name:<width$}  {}  {:>10}  {}\n", image.digest.short(), size(image.size), image.kind)
        })
        .collect();
    Ok(session.console.result(&lines, &found)?)
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
