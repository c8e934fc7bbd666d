//! `idp provider list|show|why`.

use std::fmt::Write as _;

use clap::Subcommand;

use super::connect::Connect;
use super::{Session, Stop};
use crate::ops::providers::Provider;
use crate::ops::{self, Options};

/// See which providers there are, and which one is chosen and why
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp provider list\n  idp provider show gitea\n  idp provider why registry.example/team/app"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Why(WhyArgs),
}

/// List the providers that take part in the choice
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp provider list --output json")]
struct ListArgs {}

/// Show what a provider says about itself and asks for; nothing of it is run
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp provider show gitea\n  idp provider show ./mine.wasm")]
struct ShowArgs {
    /// Its name, or the path of a component
    #[arg(value_name = "NAME|PATH")]
    provider: String,
}

/// Say which provider a reference gets, on what evidence, and what it may do
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp provider why registry.example/team/app:1.0\n  idp provider why localhost:5000"
)]
struct WhyArgs {
    /// A reference, or a registry
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let console = &session.console;
    match args.command {
        Command::List(ListArgs {}) => {
            let list = session.work("list the providers", Options::default(), async |context| {
                Ok(ops::providers::list(context))
            })?;
            let mut text = String::new();
            for provider in &list {
                let hosts = if provider.hosts.is_empty() {
                    "by detection".to_owned()
                } else {
                    provider.hosts.join(", ")
                };
                let _ = writeln!(
                    text,
                    "{:<12} {:<10} {:<20} {hosts}",
                    provider.name, provider.version, provider.source
                );
            }
            Ok(console.result(&text, &list)?)
        }
        Command::Show(args) => {
            let doing = format!("show provider `{}`", args.provider);
            let shown = session.work(&doing, Options::default(), async |context| {
                ops::providers::show(context, &args.provider)
            })?;
            Ok(console.result(&text(&shown), &shown)?)
        }
        Command::Why(args) => {
            let options = session.options(&args.connect, "why")?;
            let doing = format!("say which provider `{}` gets", args.reference);
            let why = session.work(&doing, options, async |context| {
                ops::detect::why_reference(context, &args.reference).await
            })?;
            Ok(console.result(&why.text(), &why)?)
        }
    }
}

fn text(provider: &Provider) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<13} {value}");
    };
    row("name", &provider.name);
    row("version", &provider.version);
    row("source", &provider.source);
    let optional = [
        ("product", &provider.display_name),
        ("digest", &provider.digest),
        ("licence", &provider.license),
        ("home page", &provider.homepage),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            row(name, value);
        }
    }
    row("contract", &provider.contract);
    let lists = [
        ("host", &provider.hosts),
        ("asks for", &provider.asks_for),
        ("credential", &provider.credentials),
        ("setting", &provider.settings),
    ];
    for (name, values) in lists {
        for value in values {
            row(name, value);
        }
    }
    row("repositories", &format!("are made {}", provider.makes_repositories));
    text
}
