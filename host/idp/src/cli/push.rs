//! `idp push`.

use idp_oci::manifest::Platform;
use idp_oci::name::Repository;
use idp_oci::source::Compression;

use super::connect::Connect;
use super::error::{Exit, Report};
use super::ui::size;
use super::{Session, Stop};
use crate::config::registries::{CreateRule, Visibility};
use crate::ops::push::{Outcome, Pushed, Request};
use crate::ops::{self};

/// Push an image, an OCI layout, an archive or a directory to a registry
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp push app:1.0 registry.example/team/app:1.0      an image of the Docker daemon\n  \
  idp push oci:./layout:1.0 team/app:1.0 -r localhost:5000\n  idp push docker-archive:app.tar registry.example/team/app\n  \
  idp push ./manifests registry.example/team/manifests:1.2.0\n  \
  idp push app:1.0 registry.example/new-project/app:1.0 --create --visibility private\n  \
  idp push app:1.0 one.example/app:1.0 two.example/app:1.0   read and compressed once\n  idp push app:1.0 registry.example/app:1.0 --plan           the requests that would go\n\n\
  A name that is no path is an image of the Docker daemon; docker-daemon:NAME says so. Stdout holds one line, registry/repository@digest."
)]
pub struct Args {
    /// An image of the Docker daemon (app:1.0), oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], or a path: a
    /// layout, an archive, or a directory that is pushed as it is
    source: String,
    /// Where to: a reference, or repository[:tag] in the default registry; the source's own name unless given. Several take what is
    /// read and compressed once
    dest: Vec<String>,
    #[command(flatten)]
    transfer: Transfer,
    /// What becomes of layers that are plain tars (from the Docker daemon, and of directories); `keep` leaves everything as the
    /// source has it, its manifests included
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    compress: Compress,
    /// Say what would be pushed and made, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Ask the registry what it has, say exactly which requests and bytes would go, and write nothing
    #[arg(long, conflicts_with = "dry_run")]
    plan: bool,
    #[command(flatten)]
    connect: Connect,
}

/// What is said of anything that goes to a registry.
#[derive(Debug, clap::Args)]
pub(super) struct Transfer {
    /// Only this platform of a multi-platform image: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    pub(super) platform: Option<Platform>,
    /// Mount blobs from this repository of the same registry instead of sending them; may be given several times
    #[arg(long, value_name = "REPOSITORY")]
    pub(super) mount_from: Vec<Repository>,
    /// Get layers that are not to be distributed from the URLs that the manifest gives, and send them as well
    #[arg(long)]
    pub(super) include_foreign: bool,
    /// What may be made at the registry: nothing; the repository, where the product wants it made (unless given); or its project or
    /// organisation as well (`--create` alone)
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, default_missing_value = "parent")]
    create: Option<CreateRule>,
    /// Who may see what is made: the product's private unless given
    #[arg(long, value_enum, value_name = "WHO")]
    visibility: Option<Visibility>,
}

impl Transfer {
    /// What of it is about the registry and not about the content.
    pub(super) fn apply(&self, options: &mut ops::Options) {
        options.create = self.create;
        options.visibility = self.visibility;
    }
}

/// What becomes of plain layers.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Compress {
    /// Everything reads it
    #[default]
    Gzip,
    /// Smaller and faster; engines of 2021 and later read it
    Zstd,
    /// They stay plain tars
    None,
    /// Nothing is touched
    Keep,
}

impl From<Compress> for Compression {
    fn from(compress: Compress) -> Self {
        match compress {
            Compress::Gzip => Self::Gzip,
            Compress::Zstd => Self::Zstd,
            Compress::None => Self::None,
            Compress::Keep => Self::Keep,
        }
    }
}

pub(super) fn run(args: Args, session: &Session) -> Result<(), Stop> {
    let mut options = session.options(&args.connect, "push")?;
    options.dry_run = args.dry_run;
    args.transfer.apply(&mut options);
    several(&args.connect, args.dest.len())?;
    let doing = match args.dest.as_slice() {
        [] => format!("push `{}`", args.source),
        dests => format!("push `{}` to `{}`", args.source, dests.join("`, `")),
    };
    let request = Request {
        source: args.source,
        destinations: args.dest,
        plan: args.plan,
        include_foreign: args.transfer.include_foreign,
        platform: args.transfer.platform,
        compression: args.compress.into(),
        mount_from: args.transfer.mount_from,
    };
    let outcome = session.work(&doing, options, async |context| ops::push::push(context, request).await)?;
    print_all(outcome, Verb::Push, session)
}

/// A credential of the command line names no registry, and is not for several.
pub(super) fn several(connect: &Connect, registries: usize) -> Result<(), Report> {
    let identity = &connect.identity;
    let given = identity.password.is_some() || identity.password_stdin || identity.token.is_some();
    if registries < 2 || !given {
        return Ok(());
    }
    Err(Report::new(
        Exit::Usage,
        "a password or token on the command line says not for which of several destinations",
    )
    .hint("log in to each with `idp login REGISTRY`, or push to one after the other"))
}

/// What was done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Push,
    Copy,
}

impl Verb {
    fn plain(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Copy => "copy",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Push => "Pushed",
            Self::Copy => "Copied",
        }
    }
}

/// What arrived as the result, and then what did not as the failure.
pub(super) fn print_all(outcome: Outcome, verb: Verb, session: &Session) -> Result<(), Stop> {
    let (text, console) = (lines(&outcome.pushed), &session.console);
    for pushed in &outcome.pushed {
        say(pushed, verb, session);
    }
    match outcome.pushed.as_slice() {
        [] if !outcome.failed.is_empty() => {}
        [one] if outcome.failed.is_empty() => console.result(&text, one)?,
        all => console.result(&text, &all)?,
    }
    let mut failed = outcome.failed.into_iter();
    let Some((reference, error)) = failed.next() else { return Ok(()) };
    for (reference, error) in failed {
        Report::of(&format!("{} to `{reference}`", verb.plain()), &error).print(console);
    }
    Err(Stop::Failed(Report::of(&format!("{} to `{reference}`", verb.plain()), &error)))
}

fn lines(pushed: &[Pushed]) -> String {
    pushed.iter().map(|pushed| format!("{}\n", pushed.pinned)).collect()
}

fn say(pushed: &Pushed, verb: Verb, session: &Session) {
    let console = &session.console;
    let (source, reference, blobs) = (&pushed.source, &pushed.reference, pushed.blobs);
    let bytes = size(pushed.bytes_sent);
    if let Some(requests) = &pushed.requests {
        for request in requests {
            console.say(&format!("{:<5} {} ({})", request.method, request.target, size(request.bytes)));
        }
        let all: u64 = requests.iter().map(|request| request.bytes).sum();
        console.say(&format!(
            "Would {} {source} to {reference}: {} requests, {} ({} of {blobs} blobs are there); nothing was written",
            verb.plain(),
            requests.len(),
            size(all),
            pushed.blobs_reused,
        ));
        return;
    }
    console.say(&if pushed.dry_run {
        format!("Would push {source} to {reference}: {blobs} blobs ({bytes}); nothing was written")
    } else {
        format!(
            "{} {source} to {reference}: {blobs} blobs, {} sent ({bytes}), {} already there, through provider {}",
            verb.done(),
            pushed.blobs_sent, pushed.blobs_reused, pushed.provider,
        )
    });
}

/// `os/arch[/variant]`.
pub(super) fn platform(text: &str) -> Result<Platform, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [os, architecture] => (*os, *architecture, None),
        [os, architecture, variant] => (*os, *architecture, Some(*variant)),
        _ => return Err("write os/arch or os/arch/variant, for example linux/arm64".to_owned()),
    };
    if os.is_empty() || architecture.is_empty() || variant.is_some_and(str::is_empty) {
        return Err("write os/arch or os/arch/variant, for example linux/arm64".to_owned());
    }
    let mut platform = Platform::default();
    platform.set_os(os.into());
    platform.set_architecture(architecture.into());
    platform.set_variant(variant.map(str::to_owned));
    platform.set_os_version(None);
    platform.set_os_features(None);
    Ok(platform)
}

#[cfg(test)]
mod tests {
    use super::platform;

    #[test]
    fn platforms() {
        let arm = platform("linux/arm64/v8").expect("a platform");
        assert_eq!(
            (arm.os().to_string(), arm.architecture().to_string()),
            ("linux".to_owned(), "arm64".to_owned())
        );
        assert_eq!(arm.variant().as_deref(), Some("v8"));
        for bad in ["", "linux", "linux/", "a/b/c/d", "/amd64"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
    }
}
