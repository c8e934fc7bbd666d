//! `idp cache status|prune|clear`.

use clap::Subcommand;

use super::ui::size;
use super::{Session, Stop};
use crate::config::size::Size;
use crate::ops::cache::Removed;
use crate::ops::{self, Options};

/// See what is kept of what was pulled, and make room
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp cache status\n  idp cache prune --limit 500MiB\n  idp cache clear\n\n\
  Pulls take blobs and manifests that were pulled before from the cache, check every byte of them, and ask the registry for the rest. \
  It is kept below its limit without these commands. registries.yaml sets it: cache: {limit: 2GiB, blobLimit: 16MiB, enabled: true}"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(StatusArgs),
    Prune(PruneArgs),
    Clear(ClearArgs),
}

/// Show where the cache is, how much is in it, and how much may be
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp cache status\n  idp cache status --output json")]
struct StatusArgs {}

/// Remove what was not used for longest, until no more than a limit is left
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp cache prune                      down to the configured limit\n  \
                        idp cache prune --limit 500MiB")]
struct PruneArgs {
    /// How much may be left: bytes, or with a unit: 512MiB, 2GiB
    #[arg(long, value_name = "SIZE")]
    limit: Option<Size>,
}

/// Remove everything that idp has put into the cache
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp cache clear\n\n\
                        Other files in the directory stay, and what another process is writing right now.")]
struct ClearArgs {}

pub(super) fn run(args: &Args, session: &Session) -> Result<(), Stop> {
    let console = &session.console;
    let options = Options::default();
    let removed = match &args.command {
        Command::Status(StatusArgs {}) => {
            let shown =
                session.work("look at the cache", options, async |context| ops::cache::status(context))?;
            let status = &shown.status;
            let mut text = format!(
                "directory  {}\nenabled    {}\nblobs      {}, {} of {}\n",
                shown.directory.display(),
                if shown.enabled { "yes" } else { "no" },
                status.blobs,
                size(status.bytes),
                size(shown.limit),
            );
            if status.partial > 0 {
                text.push_str(&format!("unfinished {}, {}\n", status.partial, size(status.partial_bytes)));
            }
            text.push_str(&format!("largest    {}\n", size(shown.blob_limit)));
            return Ok(console.result(&text, &shown)?);
        }
        Command::Prune(args) => {
            let limit = args.limit.map(|limit| limit.0);
            session.work("prune the cache", options, async |context| ops::cache::prune(context, limit))?
        }
        Command::Clear(ClearArgs {}) => {
            session.work("clear the cache", options, async |context| ops::cache::clear(context))?
        }
    };
    let Removed { blobs_removed, bytes_removed, bytes, .. } = &removed;
    let text = format!("removed {blobs_removed}, {}; {} left\n", size(*bytes_removed), size(*bytes));
    Ok(console.result(&text, &removed)?)
}
