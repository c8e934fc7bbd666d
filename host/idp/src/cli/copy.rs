//! `idp copy`.

use super::connect::Connect;
use super::push::{Transfer, Verb, print_all, several};
use super::{Session, Stop};
use crate::ops;
use crate::ops::copy::Request;

/// Copy from one registry to another, or to several, without the disk
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp copy docker.io/library/alpine:3 registry.example/mirror/alpine:3\n  \
  idp copy registry.example/team/app:1.0 registry.example/prod/app:1.0    mounted, nothing is sent\n  \
  idp copy registry.example/team/app one.example/app two.example/app --all-tags\n  \
  idp copy registry.example/team/app:1.0 other.example/app:1.0 --referrers --plan\n\n\
  Whole indexes are copied, byte for byte. Credentials of flags are DEST's. Stdout holds one line a copy, registry/repository@digest."
)]
pub struct Args {
    /// What is copied: registry/repository[:tag][@digest]; a repository with --all-tags
    #[arg(value_name = "SRC")]
    source: String,
    /// Where to: a reference, or a repository, which takes the tag of SRC. Several take what is read once
    #[arg(value_name = "DEST", required = true)]
    dest: Vec<String>,
    /// Every tag of the repository; those that are the same on both sides are left alone
    #[arg(long)]
    all_tags: bool,
    /// What refers to it as well: signatures, SBOMs, provenance
    #[arg(long)]
    referrers: bool,
    #[command(flatten)]
    transfer: Transfer,
    /// Ask both sides what they have, say exactly which requests and bytes would go, and write nothing
    #[arg(long, visible_alias = "dry-run")]
    plan: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    several(&args.connect, args.dest.len())?;
    let mut options = session.options(&args.connect, "copy")?;
    args.transfer.apply(&mut options);
    let doing = format!("copy `{}` to `{}`", args.source, args.dest.join("`, `"));
    let request = Request {
        source: args.source,
        destinations: args.dest,
        platform: args.transfer.platform,
        referrers: args.referrers,
        all_tags: args.all_tags,
        plan: args.plan,
        include_foreign: args.transfer.include_foreign,
        mount_from: args.transfer.mount_from,
    };
    let copied = session.work(&doing, options, async |context| ops::copy::copy(context, request).await)?;
    if copied.unchanged > 0 {
        session.console.say(&format!("{} tags are the same on both sides", copied.unchanged));
    }
    print_all(copied.outcome, Verb::Copy, session)
}
