//! `idp list`.

use std::num::NonZeroUsize;

use super::connect::Connect;
use super::table::Table;
use super::ui::Output;
use super::{Session, Stop};
use crate::ops;
use crate::ops::list::Request;
use crate::ops::pages::Filter;

/// List the repositories of a registry, or the tags of a repository
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp list registry.example                          repositories\n  \
                        idp list registry.example/team/app                 tags\n  \
                        idp list registry.example --namespace team --query app\n  \
                        idp list team/app -r localhost:5000 --limit 20 --output json\n\n\
                        Pages are fetched until the limit is reached, and printed as they come, in the registry's order. Where the \
                        registry tells nothing but names, stdout holds nothing but names.")]
pub struct Args {
    /// A registry, or a repository; the default registry unless given
    #[arg(value_name = "REGISTRY|REPOSITORY")]
    place: Option<String>,
    /// Only repositories below this name: an organisation, a project, a user
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Only names with this text in them; the registry filters where it can
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    /// No more than so many
    #[arg(long, value_name = "N", default_value = "1000")]
    limit: NonZeroUsize,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "list")?;
    let doing = match &args.place {
        Some(place) => format!("list `{place}`"),
        None => "list the default registry".to_owned(),
    };
    let filter = Filter { namespace: args.namespace, query: args.query };
    let request = Request { place: args.place, filter, limit: args.limit.get() };
    let console = &session.console;
    let text = console.output() == Output::Text;
    let (mut table, mut printed) = (Table::default(), Ok(()));
    let list = session.work(&doing, options, async |context| {
        let page = |entries: &[_]| {
            if text {
                printed = console.stdout(&table.rows(entries));
            }
            printed.is_ok()
        };
        ops::list::list(context, request, page).await
    })?;
    printed?;
    if list.more {
        let of = list.total.map(|total| format!(" of {total}")).unwrap_or_default();
        console.say(&format!("{} shown{of}; there is more, and --limit says how much", list.entries.len()));
    }
    if text { Ok(()) } else { Ok(console.result("", &list)?) }
}
