//! `idp copy`.

use idp_oci::manifest::Platform;
use idp_oci::name::Repository;

use super::connect::Connect;
use super::push::{Verb, platform, print_all, several};
use super::{Session, Stop};
use crate::config::registries::{CreateRule, Visibility};
use crate::ops::copy::Request;
use crate::ops::{self};

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
    /// Only this platform of a multi-platform image: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    platform: Option<Platform>,
    /// Mount blobs from this repository of DEST's registry instead of sending them; may be given several times
    #[arg(long, value_name = "REPOSITORY")]
    mount_from: Vec<Repository>,
    /// What may be made at DEST, as for `idp push`
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, default_missing_value = "parent")]
    create: Option<CreateRule>,
    /// Who may see what is made: the product's private unless given
    #[arg(long, value_enum, value_name = "WHO")]
    visibility: Option<Visibility>,
    /// Get layers that are not to be distributed from the URLs that the manifest gives, and send them as well
    #[arg(long)]
    include_foreign: bool,
    /// Ask both sides what they have, say exactly which requests and bytes would go, and write nothing
    #[arg(long, visible_alias = "dry-run")]
    plan: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    several(&args.connect, args.dest.len())?;
    let mut options = session.options(&args.connect, "copy")?;
    options.create = args.create;
    options.visibility = args.visibility;
    let doing = format!("copy `{}` to `{}`", args.source, args.dest.join("`, `"));
    let request = Request {
        source: args.source,
        destinations: args.dest,
        platform: args.platform,
        referrers: args.referrers,
        all_tags: args.all_tags,
        plan: args.plan,
        include_foreign: args.include_foreign,
        mount_from: args.mount_from,
    };
    let copied = session.work(&doing, options, async |context| ops::copy::copy(context, request).await)?;
    if copied.unchanged > 0 {
        session.console.say(&format!("{} tags are the same on both sides", copied.unchanged));
    }
    print_all(copied.outcome, Verb::Copy, session)
}
