//! `idp list`.

use std::fmt::Write as _;

use super::connect::Connect;
use super::{Session, Stop};
use crate::ops;

/// List the repositories of a registry, or the tags of a repository
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp list registry.example               repositories\n  \
                        idp list registry.example/team/app      tags\n  idp list team/app -r localhost:5000 --output json")]
pub struct Args {
    /// A registry, or a repository; the default registry unless given
    #[arg(value_name = "REGISTRY|REPOSITORY")]
    place: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "list")?;
    let doing = match &args.place {
        Some(place) => format!("list `{place}`"),
        None => "list the default registry".to_owned(),
    };
    let list = session
        .work(&doing, options, async |context| ops::list::list(context, args.place.as_deref()).await)?;
    let mut text = String::new();
    for entry in &list.entries {
        text.push_str(&entry.name);
        for detail in
            entry.digest.iter().chain(entry.details.get("updated-at")).chain(entry.details.get("pushed-at"))
        {
            let _ = write!(text, "  {detail}");
        }
        text.push('\n');
    }
    Ok(session.console.result(&text, &list)?)
}
