//! `idp delete`.

use std::io::IsTerminal as _;

use super::connect::Connect;
use super::error::{Exit, Report};
use super::{Session, Stop};
use crate::config::env;
use crate::ops;
use crate::ops::delete::{Deleted, Request};

/// Delete a tag, a digest, or a whole repository
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp delete registry.example/team/app:1.0\n  \
                        idp delete registry.example/team/app@sha256:… --allow-siblings\n  \
                        idp delete registry.example/team/app --repository --dry-run\n\n\
                        Other tags of the same manifest never go by accident: where the registry cannot delete one without the others, \
                        the command fails and names them. Stdout holds a line for each name that went.")]
pub struct Args {
    /// REPOSITORY:TAG or REPOSITORY@DIGEST; a repository with --repository
    #[arg(value_name = "REF")]
    reference: String,
    /// Delete the repository with everything in it
    #[arg(long)]
    repository: bool,
    /// Delete also what the product protects, where it lets itself be told so; implies --yes
    #[arg(long)]
    force: bool,
    /// Let other tags of the same manifest go too
    #[arg(long)]
    allow_siblings: bool,
    /// Say what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before a repository is deleted
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let mut options = session.options(&args.connect, "delete")?;
    options.dry_run = args.dry_run;
    let what = if args.repository { "repository " } else { "" };
    let doing = format!("delete {what}`{}`", args.reference);
    if args.repository && !args.dry_run && !args.yes && !args.force {
        confirm(&args.reference, session)?;
    }
    let request = Request {
        reference: args.reference,
        repository: args.repository,
        force: args.force,
        allow_siblings: args.allow_siblings,
    };
    let deleted =
        session.work(&doing, options, async |context| ops::delete::delete(context, request).await)?;
    print(&deleted, session)
}

/// Asks on a terminal; elsewhere there is nobody to ask.
fn confirm(reference: &str, session: &Session) -> Result<(), Report> {
    if !std::io::stdin().is_terminal() || session.env.get(env::CI).is_some() {
        return Err(Report::new(
            Exit::Usage,
            format!("deleting repository `{reference}` takes everything in it, and there is nobody to ask"),
        )
        .hint("give --yes when it is meant; --dry-run says what would go"));
    }
    session.console.line(&format!("Delete repository {reference} with everything in it? [y/N]"));
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Report::new(Exit::Failed, format!("cannot read from the terminal: {error}")))?;
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Report::new(Exit::Failed, "nothing was deleted")),
    }
}

fn print(deleted: &Deleted, session: &Session) -> Result<(), Stop> {
    let console = &session.console;
    let verb = match (deleted.dry_run, deleted.asynchronous) {
        (true, _) => "Would delete",
        (false, true) => "The registry is deleting",
        (false, false) => "Deleted",
    };
    let names = match deleted.removed.as_slice() {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    };
    let place = format!("{}/{}", deleted.registry, deleted.repository);
    console.say(&format!("{verb} {names} of {place}, through provider {}", deleted.provider));
    if !deleted.also_removed.is_empty() {
        let verb = if deleted.dry_run { "would go" } else { "went" };
        console.say(&format!("With it {verb} the tags {}", deleted.also_removed.join(", ")));
    }
    if let Some(note) = &deleted.note {
        console.say(note);
    }
    let text: String = deleted.names().map(|name| format!("{name}\n")).collect();
    Ok(console.result(&text, deleted)?)
}
