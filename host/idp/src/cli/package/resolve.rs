//! `idp package tags`, `lock`, `update` and `deps`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use idp_package::resolve::{Lock, Tree};
use idp_package::version::picks::Pick;

use super::super::connect::Connect;
use super::super::error::{Exit, Report};
use super::super::{Session, Stop};
use crate::ops;
use crate::ops::package::lock::{Locked, Request};

/// What decides which versions fit.
#[derive(Debug, Clone, clap::Args)]
struct Wants {
    /// Where the package is or will be, which `./name` starts from; its name in the default registry unless given
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<String>,
    /// Switch an optional dependency on: FEATURE in every package, PACKAGE/FEATURE in one
    #[arg(long = "feature", value_name = "FEATURE")]
    features: Vec<String>,
    /// The cluster's version of Kubernetes, to be held against `requires.kubernetes`
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    /// A kind that the cluster knows, group/version/Kind; may be given several times
    #[arg(long = "api", value_name = "API")]
    apis: Vec<String>,
    #[command(flatten)]
    connect: Connect,
}

impl Wants {
    fn request(self, directory: PathBuf) -> (Request, Connect) {
        let request = Request {
            directory,
            repository: self.repository,
            features: self.features.into_iter().collect(),
            kubernetes: self.kube_version,
            apis: self.apis,
            ..Request::default()
        };
        (request, self.connect)
    }
}

/// Choose exact versions of all dependencies and write them to idp.lock
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package lock ./platform\n  idp package lock ./platform --repository registry.example/team/platform\n  \
  idp package lock ./platform --check          in CI: exit code 1 when it no longer fits\n  idp package lock ./platform --explain cert-manager\n\n\
  What is locked stays where it can; `update` moves it. Images of the content are looked up as well, with their digests and platforms."
)]
pub(super) struct LockArgs {
    /// The package's directory
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Only say whether the lock fits the package; nothing is asked or written
    #[arg(long, conflicts_with_all = ["explain", "lowest", "fresh"])]
    check: bool,
    /// Say who asked for this package
    #[arg(long, value_name = "NAME", conflicts_with_all = ["lowest", "fresh"])]
    explain: Option<String>,
    /// The lowest versions that fit, to try lower bounds
    #[arg(long)]
    lowest: bool,
    /// Forget what was locked
    #[arg(long)]
    fresh: bool,
    /// Do not look up images
    #[arg(long)]
    no_images: bool,
    #[command(flatten)]
    wants: Wants,
}

pub(super) fn lock(args: LockArgs, session: &Session) -> Result<(), Stop> {
    let doing = format!("lock `{}`", args.dir.display());
    let (mut request, connect) = args.wants.request(args.dir);
    (request.lowest, request.fresh, request.images) = (args.lowest, args.fresh, !args.no_images);
    let options = session.options(&connect, "package lock")?;
    if args.check {
        let stale =
            session.work(&doing, options, async |context| ops::package::lock::check(context, &request))?;
        let lines: String = stale.iter().map(|why| format!("{why}\n")).collect();
        session.console.result(&lines, &serde_json::json!({ "fits": stale.is_empty(), "stale": stale }))?;
        return if stale.is_empty() { Ok(()) } else { Err(Stop::Told(Exit::Failed)) };
    }
    if let Some(name) = &args.explain {
        let found = session
            .work(&doing, options, async |context| ops::package::lock::deps(context, &request).await)?;
        return explain(name, &found.1, session);
    }
    let locked =
        session.work(&doing, options, async |context| ops::package::lock::lock(context, &request).await)?;
    print(&locked, session)
}

fn explain(name: &str, lock: &Lock, session: &Session) -> Result<(), Stop> {
    let chains = lock.explain(name);
    if chains.is_empty() {
        let sentence = format!("{name} is not among the dependencies");
        return Err(Report::new(Exit::NotFound, sentence).hint("`idp package deps` shows them").into());
    }
    let mut text = String::new();
    for chain in &chains {
        let _ = write!(text, "{}", chain.root);
        for step in &chain.steps {
            let _ = write!(text, " -> {} {} (asked for {})", step.name, step.version, step.constraint);
        }
        text.push('\n');
    }
    Ok(session.console.result(&text, &chains)?)
}

fn print(locked: &Locked, session: &Session) -> Result<(), Stop> {
    let console = &session.console;
    for unknown in &locked.unknown_images {
        console.warn(&format!("not looked up: {unknown}"));
    }
    for change in &locked.changes {
        console.say(&match (&change.from, &change.to) {
            (Some(from), Some(to)) => format!("  {} {from} -> {to}", change.name),
            (None, Some(to)) => format!("  {} {to}", change.name),
            (Some(from), None) => format!("  {} {from} is no longer needed", change.name),
            (None, None) => continue,
        });
    }
    let state = if locked.written { "Wrote" } else { "Unchanged:" };
    console.say(&format!(
        "{state} {}: {} packages, {} images, {} requests",
        locked.file.display(),
        locked.lock.packages.len(),
        locked.lock.images.len(),
        locked.requests,
    ));
    let lines: String = locked
        .lock
        .packages
        .iter()
        .map(|package| format!("{} {} {}\n", package.name, package.version, package.digest))
        .collect();
    Ok(console.result(&lines, locked)?)
}

/// Choose newer versions of some dependencies, or of all, and leave the rest
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package update cert-manager --dir ./platform\n  idp package update --dir ./platform     everything"
)]
pub(super) struct UpdateArgs {
    /// Which packages; all unless given
    names: Vec<String>,
    /// The package's directory
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Do not look up images
    #[arg(long)]
    no_images: bool,
    #[command(flatten)]
    wants: Wants,
}

pub(super) fn update(args: UpdateArgs, session: &Session) -> Result<(), Stop> {
    let doing = format!("update `{}`", args.dir.display());
    let (mut request, connect) = args.wants.request(args.dir);
    request.fresh = args.names.is_empty();
    request.update = args.names.into_iter().collect::<BTreeSet<_>>();
    request.images = !args.no_images;
    let options = session.options(&connect, "package update")?;
    let locked =
        session.work(&doing, options, async |context| ops::package::lock::lock(context, &request).await)?;
    print(&locked, session)
}

/// Show the dependencies of a package as a tree
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package deps ./platform\n  idp package deps ./platform --output json\n\n\
  From idp.lock where there is one; else as `lock` would choose now."
)]
pub(super) struct DepsArgs {
    /// The package's directory
    #[arg(default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    wants: Wants,
}

pub(super) fn deps(args: DepsArgs, session: &Session) -> Result<(), Stop> {
    let doing = format!("show the dependencies of `{}`", args.dir.display());
    let (request, connect) = args.wants.request(args.dir);
    let options = session.options(&connect, "package deps")?;
    let (tree, _) =
        session.work(&doing, options, async |context| ops::package::lock::deps(context, &request).await)?;
    let mut text = format!("{} {}\n", tree.name, tree.version);
    branches(&mut text, &tree, "");
    Ok(session.console.result(&text, &tree)?)
}

fn branches(text: &mut String, tree: &Tree, indent: &str) {
    for (index, child) in tree.dependencies.iter().enumerate() {
        let last = index + 1 == tree.dependencies.len();
        let (mark, below) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let constraint = child.constraint.as_deref().map(|text| format!(" ({text})")).unwrap_or_default();
        let again = if child.repeated { " …" } else { "" };
        let _ = writeln!(text, "{indent}{mark}{} {}{constraint}{again}", child.name, child.version);
        branches(text, child, &format!("{indent}{below}"));
    }
}

/// Say what the tags of a repository are to those who read versions
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package tags registry.example/team/my-app\n  idp package tags registry.example/team/my-app --constraint '1.x'\n\n\
  Finds tags that break constraints for everybody, versions under two names, tags that move, dates that win over versions; and says what \
  Argo CD, Flux, Helm and idp take for a constraint."
)]
pub(super) struct TagsArgs {
    /// registry/repository
    repository: String,
    /// A constraint to try
    #[arg(long, value_name = "CONSTRAINT")]
    constraint: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn tags(args: TagsArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package tags")?;
    let doing = format!("look at the tags of `{}`", args.repository);
    let found = session.work(&doing, options, async |context| {
        ops::package::tags::tags(context, &args.repository, args.constraint.as_deref()).await
    })?;
    let mut text = String::new();
    for finding in &found.findings {
        let _ = writeln!(text, "{}: {} {}", finding.tag, finding.explanation, finding.advice);
    }
    if let Some(picks) = &found.picks {
        for (who, pick) in
            [("Argo CD", &picks.argocd), ("Flux", &picks.flux), ("Helm", &picks.helm), ("idp", &picks.idp)]
        {
            let _ = match pick {
                Pick::Tag(tag) => writeln!(text, "{who:<8}takes {tag}"),
                Pick::Fails(why) => writeln!(text, "{who:<8}fails: {why}"),
            };
        }
    }
    session.console.say(&format!(
        "{}: {} tags, {} to speak of",
        found.repository,
        found.tags,
        found.findings.len()
    ));
    Ok(session.console.result(&text, &found)?)
}
