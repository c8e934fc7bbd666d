//! `idp package push`, `pull` and `show`.

use std::fmt::Write as _;
use std::path::PathBuf;

use idp_oci::name::Tag;
use idp_package::describe::{Description, Kind};

use super::super::connect::Connect;
use super::super::ui::size;
use super::super::{Session, Stop};
use super::make::{NamedArgs, OriginArgs};
use crate::ops;
use crate::ops::package::push::Request;
use crate::ops::package::show::Shown;

/// Push a package, from its directory or built, under its version
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package push ./my-app\n  idp package push ./my-app registry.example/team/\n  \
  idp package push my-app-1.0.0.tar registry.example/team/my-app\n  idp package push ./my-app registry.example/team/ --also stable\n\n\
  A version that is there stays what it is: pushing another package under it fails. Pushing the same one again changes nothing. \
  Stdout holds one line, registry/repository@digest."
)]
pub(super) struct PushArgs {
    /// The package's directory, FILE.tar, oci:DIR[:TAG] or oci-archive:FILE
    source: String,
    /// A repository that ends in the package's name, or one that ends in / and gets it; the name in the default registry unless given
    dest: Option<String>,
    /// A tag besides the version, which moves; may be given several times
    #[arg(long, value_name = "TAG")]
    also: Vec<Tag>,
    /// Move `MAJOR`, `MAJOR.MINOR` and `latest` as well. Argo CD and Flux may pick these for a range
    #[arg(long)]
    floating: bool,
    /// Put this package in the place of another one under the same version
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    origin: OriginArgs,
    #[command(flatten)]
    named: NamedArgs,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn push(args: PushArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package push")?;
    let doing = match &args.dest {
        Some(dest) => format!("push package `{}` to `{dest}`", args.source),
        None => format!("push package `{}`", args.source),
    };
    let request = Request {
        source: args.source,
        destination: args.dest,
        also: args.also,
        floating: args.floating,
        force: args.force,
        origin: args.origin.into(),
        named: args.named.into(),
    };
    let pushed =
        session.work(&doing, options, async |context| ops::package::push::push(context, request).await)?;
    let console = &session.console;
    let also = match pushed.also.as_slice() {
        [] => String::new(),
        tags => format!(", also as {}", tags.join(", ")),
    };
    console.say(&format!(
        "{} {} {} to {}{also}: {} sent, through provider {}",
        if pushed.unchanged { "Found unchanged" } else { "Pushed" },
        pushed.name,
        pushed.version,
        pushed.pushed.reference,
        size(pushed.pushed.bytes_sent),
        pushed.pushed.provider,
    ));
    Ok(console.result(&format!("{}\n", pushed.pushed.pinned), &pushed)?)
}

/// Pull the files of a package to a directory
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package pull registry.example/team/my-app:1.0.0\n  idp package pull my-app-1.0.0.tar ./out\n  \
  idp package pull registry.example/charts/podinfo:6.0.0 ./podinfo     a chart\n\n\
  Takes what others made as well: Helm's charts, Flux's artifacts, what `oras push` made of a directory. All of it is checked before \
  the directory appears."
)]
pub(super) struct PullArgs {
    /// registry/repository:version, or a built package
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// Where to, a new or empty directory; one with the repository's name here unless given
    dir: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn pull(args: PullArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package pull")?;
    let doing = format!("pull package `{}`", args.package);
    let pulled = session.work(&doing, options, async |context| {
        ops::package::pull::pull(context, &args.package, args.dir).await
    })?;
    let directory = pulled.destination.display();
    let name = pulled.description.name.as_deref().unwrap_or("it");
    session.console.say(&format!(
        "Pulled {name} {} ({}) to {directory}",
        pulled.description.version.as_deref().unwrap_or_default(),
        kind(pulled.description.kind),
    ));
    Ok(session.console.result(&format!("{directory}\n"), &pulled)?)
}

/// Show what a package is, without fetching its content
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package show registry.example/team/my-app:1.0.0\n  idp package show ./my-app\n  \
  idp package show my-app-1.0.0.tar --output json"
)]
pub(super) struct ShowArgs {
    /// registry/repository:version, a package's directory, or a built package
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// List its files
    #[arg(long)]
    files: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn show(args: ShowArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package show")?;
    let doing = format!("show package `{}`", args.package);
    let shown = session
        .work(&doing, options, async |context| ops::package::show::show(context, &args.package).await)?;
    Ok(session.console.result(&text(&shown, args.files), &shown)?)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Package => "a package",
        Kind::HelmChart => "a Helm chart",
        Kind::FluxArtifact => "an artifact of Flux",
        Kind::Directory => "a directory",
        Kind::Image => "a container image",
        Kind::Index => "an index",
        Kind::Other => "an artifact",
    }
}

fn text(shown: &Shown, files: bool) -> String {
    let of: &Description = &shown.description;
    let mut text = String::new();
    let mut line = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{key:<14}{value}");
        }
    };
    line("name", of.name.as_deref());
    line("version", of.version.as_deref());
    line("kind", Some(kind(of.kind)));
    line("type", of.r#type.as_deref());
    line("description", of.description.as_deref());
    line("licenses", of.licenses.as_deref());
    line("created", of.created.as_deref().filter(|created| !created.starts_with("1970-01-01")));
    line("source", of.source.as_deref());
    line("revision", of.revision.as_deref());
    line("digest", Some(&of.digest.to_string()));
    line("pinned", shown.pinned.as_deref());
    let content = match (of.files, of.unpacked_size) {
        (Some(files), Some(bytes)) => format!("{files} files, {} ({} packed)", size(bytes), size(of.size)),
        _ => format!("{} packed", size(of.size)),
    };
    line("content", Some(&content));
    for target in &of.targets {
        line("target", Some(&format!("{} ({})", target.name, target.path)));
    }
    for dependency in &of.dependencies {
        let place =
            dependency.repository.as_deref().map(|place| format!(" from {place}")).unwrap_or_default();
        line("needs", Some(&format!("{} {}{place}", dependency.name, dependency.version)));
    }
    for image in &of.images {
        let digest = image.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        line("image", Some(&format!("{}{digest}", image.reference)));
    }
    if let (true, Some(config)) = (files, &of.config) {
        for file in &config.files {
            line("file", Some(&format!("{} ({})", file.path, size(file.size))));
        }
    }
    text
}
