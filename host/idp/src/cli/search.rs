//! `idp search`.

use std::fmt::Write as _;
use std::num::NonZeroUsize;

use super::connect::{Identity, Reach};
use super::error::{Exit, Report};
use super::table::{clip, time};
use super::ui::Output;
use super::{Session, Stop};
use crate::config::registries::Address;
use crate::ops::search::{Hit, Request};
use crate::ops::{self, Options};

/// Search repositories, on several registries at once
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp search app                                     every registry that is known\n  \
                        idp search nginx -r docker.io --limit 10\n  idp search app -r registry.example -r localhost:5000 --output json\n\n\
                        Known are the default registry, those of registries.yaml, and those with stored credentials. A registry that \
                        cannot be searched is a warning; only when none could be, the command fails, with the exit code of the last one."
)]
pub struct Args {
    /// What is in the name; products with a search of their own may look at more
    #[arg(value_name = "TERM")]
    term: String,
    /// Search this registry; may be given several times; all that are known unless given
    #[arg(long, short, value_name = "REGISTRY", help_heading = "Registry options")]
    registry: Vec<Address>,
    /// No more than so many hits of each registry
    #[arg(long, value_name = "N", default_value = "100")]
    limit: NonZeroUsize,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let console = &session.console;
    let given = args.identity.given(console, &session.known)?;
    let several = args.registry.len() != 1;
    if several && (given.username.is_some() || given.password.is_some() || given.token.is_some()) {
        return Err(Report::new(
            Exit::Usage,
            "a credential on the command line is for one registry; name it with --registry",
        )
        .hint("`idp login REGISTRY` stores one for each")
        .into());
    }
    let plain_http = args.registry.iter().filter(|address| address.plain_http);
    let plain_http = plain_http.map(|address| address.registry.clone()).collect();
    let options = Options { given, several, plain_http, ..args.reach.options("search") };
    let doing = format!("search `{}`", args.term);
    let request = Request {
        term: args.term,
        registries: args.registry.into_iter().map(|address| address.registry).collect(),
        limit: args.limit.get(),
    };
    let text = console.output() == Output::Text;
    let mut printed = Ok(());
    let found = session.work(&doing, options, async |context| {
        let hits = |hits: &[Hit]| {
            if text {
                printed = console.stdout(&hits.iter().map(line).collect::<String>());
            }
            printed.is_ok()
        };
        ops::search::search(context, request, hits).await
    })?;
    printed?;
    for registry in &found.more {
        console.say(&format!("{registry} has more; --limit says how much"));
    }
    if text { Ok(()) } else { Ok(console.result("", &found)?) }
}

/// `registry/repository  updated 2026-07-01T10:00Z  12 pulls  description`.
fn line(hit: &Hit) -> String {
    let mut line = format!("{}/{}", hit.registry, hit.entry.name);
    let facts = &hit.entry.facts;
    if let Some(at) = facts.updated_at.as_deref().or(facts.pushed_at.as_deref()) {
        let _ = write!(line, "  updated {}", time(at));
    }
    if let Some(pulls) = facts.pulls {
        let _ = write!(line, "  {pulls} pulls");
    }
    if let Some(text) = facts.description.as_deref().map(clip).filter(|text| !text.is_empty()) {
        let _ = write!(line, "  {text}");
    }
    line.push('\n');
    line
}
