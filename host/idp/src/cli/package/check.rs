//! `idp package validate`, `rules` and `diff`.

use std::path::PathBuf;

use idp_package::validate::{Level, Report as Found, Severity, rules as all_rules, sarif};

use super::super::connect::Connect;
use super::super::error::Exit;
use super::super::{Session, Stop};
use crate::ops;
use crate::ops::package::validate::Request;

/// Check a package against the rules of its consumers
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package validate ./my-app\n  idp package validate ./my-app --set image-latest=error --set no-license=off\n  \
  idp package validate registry.example/team/my-app:1.0.0\n  idp package validate ./my-app --format sarif > findings.sarif\n\n\
  Nothing is asked of a network, but for a package in a registry. Exit code 1 means that there are errors (or warnings, with --strict). \
  `idp package rules` says what each rule is for; `package-rules` in registries.yaml holds for all packages, and a comment \
  `# idp:ignore RULE` for one file."
)]
pub(super) struct ValidateArgs {
    /// A directory, a built package, or one in a registry
    #[arg(default_value = ".", value_name = "PACKAGE")]
    package: String,
    /// How a rule weighs: RULE=off, info, warning or error; may be given several times
    #[arg(long = "set", value_name = "RULE=LEVEL", value_parser = level)]
    levels: Vec<(String, Level)>,
    /// A directory with more schemas: JSON Schemas of Kubernetes kinds, or CRDs; may be given several times
    #[arg(long = "schemas", value_name = "DIR")]
    schemas: Vec<PathBuf>,
    /// Warnings fail, too
    #[arg(long)]
    strict: bool,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// As --output says
    #[default]
    Auto,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

fn level(text: &str) -> Result<(String, Level), String> {
    let (rule, level) = text.split_once('=').ok_or("write RULE=LEVEL, for example image-latest=error")?;
    let level = match level {
        "off" => Level::Off,
        "info" => Level::Info,
        "warning" => Level::Warning,
        "error" => Level::Error,
        other => return Err(format!("`{other}` is none of off, info, warning and error")),
    };
    Ok((rule.to_owned(), level))
}

pub(super) fn validate(args: ValidateArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package validate")?;
    let doing = format!("validate `{}`", args.package);
    let request = Request { subject: args.package, levels: args.levels, schemas: args.schemas };
    let found = session
        .work(&doing, options, async |context| ops::package::validate::validate(context, &request).await)?;
    let console = &session.console;
    match args.format {
        Format::Sarif => console.stdout(&sarif::render(&found, env!("CARGO_PKG_VERSION")))?,
        Format::Auto => console.result(&lines(&found), &found)?,
    }
    console.say(&summary(&found));
    let most = if args.strict { Severity::Warning } else { Severity::Error };
    if found.worst().is_some_and(|worst| worst >= most) { Err(Stop::Told(Exit::Failed)) } else { Ok(()) }
}

fn lines(found: &Found) -> String {
    found.findings.iter().map(|finding| format!("{finding}\n")).collect()
}

/// What was looked at and what came of it.
fn summary(found: &Found) -> String {
    let count = |severity| found.count(severity);
    let ignored = match found.ignored {
        0 => String::new(),
        count => format!(", {count} ignored"),
    };
    format!(
        "{} files, {} objects, {} images: {} errors, {} warnings, {} notes{ignored}",
        found.files,
        found.objects,
        found.images,
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Info),
    )
}

/// List the rules of `validate`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package rules\n  idp package rules image-latest\n  idp package rules --output json"
)]
pub(super) struct RulesArgs {
    /// Only this one
    rule: Option<String>,
}

pub(super) fn rules(args: &RulesArgs, session: &Session) -> Result<(), Stop> {
    let wanted: Vec<_> =
        all_rules().filter(|rule| args.rule.as_deref().is_none_or(|wanted| wanted == rule.id)).collect();
    if wanted.is_empty() {
        let rule = args.rule.as_deref().unwrap_or_default();
        return Err(super::super::error::Report::new(Exit::NotFound, format!("there is no rule `{rule}`"))
            .hint("`idp package rules` lists them")
            .into());
    }
    let text: String = wanted
        .iter()
        .map(|rule| format!("{:<28}{:<9}{}\n", rule.id, rule.severity.as_str(), rule.explanation))
        .collect();
    Ok(session.console.result(&text, &wanted)?)
}

/// Show what differs between two packages, by file and by Kubernetes object
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp package diff registry.example/team/my-app:1.0.0 registry.example/team/my-app:1.1.0\n  \
  idp package diff registry.example/team/my-app:1.0.0 ./my-app --exit-code"
)]
pub(super) struct DiffArgs {
    /// The old one: a directory, a built package, or one in a registry
    old: String,
    /// The new one
    new: String,
    /// Exit with 1 where they differ
    #[arg(long)]
    exit_code: bool,
    /// Lines of changed text that are shown, at most
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    lines: usize,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn diff(args: DiffArgs, session: &Session) -> Result<(), Stop> {
    let options = session.options(&args.connect, "package diff")?;
    let doing = format!("compare `{}` with `{}`", args.old, args.new);
    let found = session.work(&doing, options, async |context| {
        ops::package::diff::diff(context, &args.old, &args.new, args.lines).await
    })?;
    session.console.result(&found.to_string(), &found)?;
    if found.is_empty() {
        session.console.say("They are the same");
    }
    if args.exit_code && !found.is_empty() { Err(Stop::Told(Exit::Failed)) } else { Ok(()) }
}
