//! `idp package new`, `build` and `version`: what happens in a package's directory.

use std::path::PathBuf;

use idp_package::manifest::Type;

use super::super::error::{Exit, Report};
use super::super::ui::size;
use super::super::{Session, Stop};
use crate::ops::package::build::{Origin, Request};
use crate::ops::package::idpbuilder::Named;
use crate::ops::package::{bump, scaffold};
use crate::ops::{self, Options};

/// Start a package from a template
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package new my-app\n  idp package new my-chart --type helm\n  idp package new my-app ./packages/my-app --type kustomize"
)]
pub(super) struct NewArgs {
    /// The package's name: lower-case letters, digits and dashes
    name: String,
    /// Where to; a new directory with the package's name unless given
    dir: Option<PathBuf>,
    /// What it is made of
    #[arg(long = "type", value_enum, default_value_t, value_name = "TYPE")]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Kind {
    /// Kubernetes manifests
    #[default]
    Manifests,
    /// A kustomization with two overlays
    Kustomize,
    /// A Helm chart
    Helm,
    /// Argo CD Applications, as idpbuilder takes them
    ArgocdApps,
    /// Dependencies and nothing else
    Bundle,
}

impl From<Kind> for Type {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Manifests => Self::Manifests,
            Kind::Kustomize => Self::Kustomize,
            Kind::Helm => Self::Helm,
            Kind::ArgocdApps => Self::ArgocdApps,
            Kind::Bundle => Self::Bundle,
        }
    }
}

pub(super) fn new(args: NewArgs, session: &Session) -> Result<(), Stop> {
    let doing = format!("start package `{}`", args.name);
    let made = scaffold::new(&args.name, args.kind.into(), args.dir)
        .map_err(|error| Stop::Failed(Report::of(&doing, &error)))?;
    let directory = made.directory.display();
    session.console.say(&format!(
        "Made package {} in {directory}: {} files; `idp package validate {directory}` checks it",
        made.name,
        made.files.len()
    ));
    Ok(session.console.result(&format!("{directory}\n"), &made)?)
}

/// Where a package comes from.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OriginArgs {
    /// URL of the source, for the annotation that Argo CD and registries show
    #[arg(long = "source", value_name = "URL")]
    source_url: Option<String>,
    /// Revision of the source
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Ask git for source, revision and time. The digest then says which commit it was, not only which files
    #[arg(long)]
    git: bool,
}

impl From<OriginArgs> for Origin {
    fn from(args: OriginArgs) -> Self {
        Self { source: args.source_url, revision: args.revision, git: args.git }
    }
}

/// What a directory without a manifest is called.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct NamedArgs {
    /// The name of a directory of idpbuilder, which has no idp-package.yaml; the directory's own unless given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its version; 0.1.0 unless given
    #[arg(long, value_name = "VERSION")]
    set_version: Option<String>,
}

impl From<NamedArgs> for Named {
    fn from(args: NamedArgs) -> Self {
        Self { name: args.name, version: args.set_version }
    }
}

/// Build a package to a file or an OCI layout
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package build ./my-app\n  idp package build ./my-app oci:./layout\n  idp package build ./my-app my-app.tar --git\n\n\
  The same files give the same digest on every machine, under every user, umask and locale. SOURCE_DATE_EPOCH is the time it says it \
  was made at, 1970 unless given. Stdout holds the digest."
)]
pub(super) struct BuildArgs {
    /// The package's directory
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// FILE.tar, oci:DIR[:TAG] or oci-archive:FILE[:TAG]; NAME-VERSION.tar unless given
    dest: Option<String>,
    #[command(flatten)]
    origin: OriginArgs,
    #[command(flatten)]
    named: NamedArgs,
}

pub(super) fn build(args: BuildArgs, session: &Session) -> Result<(), Stop> {
    let doing = format!("build `{}`", args.dir.display());
    let options = Options { operation: "package build", ..Options::default() };
    let request = Request {
        directory: args.dir,
        destination: args.dest,
        origin: args.origin.into(),
        named: args.named.into(),
    };
    let built =
        session.work(&doing, options, async |context| ops::package::build::build(context, request).await)?;
    session.console.say(&format!(
        "Built {} {} ({}) to {}: {} files ({}), {} packed",
        built.name,
        built.version,
        built.r#type,
        built.destination,
        built.files,
        size(built.unpacked_size),
        size(built.size),
    ));
    Ok(session.console.result(&format!("{}\n", built.digest), &built)?)
}

/// Show a package's version, or raise it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package version\n  idp package version minor ./my-app\n  idp package version 2.0.0-rc.1 ./my-app\n\n\
  Only the version's own text in idp-package.yaml changes (and in Chart.yaml, of a chart)."
)]
pub(super) struct VersionArgs {
    /// major, minor, patch, or a version; only shown unless given
    to: Option<String>,
    /// The package's directory
    #[arg(default_value = ".")]
    dir: PathBuf,
}

pub(super) fn version(args: &VersionArgs, session: &Session) -> Result<(), Stop> {
    let doing = format!("set the version of `{}`", args.dir.display());
    // `idp package version ./my-app` shows.
    let (to, dir) = match &args.to {
        Some(text) if text.contains('/') || text == "." => (None, PathBuf::from(text)),
        to => (to.as_deref(), args.dir.clone()),
    };
    let bumped = bump::bump(&dir, to).map_err(|error| Stop::Failed(Report::of(&doing, &error)))?;
    if bumped.version.is_empty() {
        return Err(Report::new(Exit::Bug, "a package without a version").into());
    }
    if let Some(before) = &bumped.before {
        session.console.say(&format!("{} is {} now, and was {before}", bumped.name, bumped.version));
    }
    Ok(session.console.result(&format!("{}\n", bumped.version), &bumped)?)
}
