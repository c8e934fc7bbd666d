//! `idp registry gc|fsck|usage|restore|images`: what is done with the embedded registry's content, whether it runs or not.

use std::path::PathBuf;

use idp_oci::name::Reference;
use serde_json::Value;

use super::error::{Exit, Report};
use super::ui::size;
use super::{Session, Stop};
use crate::ops::embedded::control::Task;
use crate::ops::{self, Options};

/// Which registry.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    /// Directory of the content; that of the settings, else ~/.idpbuilder/registry, unless given
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Settings; ~/.idpbuilder/registry.yaml unless given, where it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Collect garbage: what no tag, manifest or upload needs, and tags that no rule of retention keeps
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry gc --dry-run\n  idp registry gc\n  idp registry gc --delete-untagged 604800\n\n\
  Pushes and pulls go on meanwhile. A blob that no manifest names is kept for an hour, for pushes under way."
)]
pub(super) struct GcArgs {
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Keep blobs that no manifest names for so many seconds; less than the settings' is safe only while nobody pushes
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u64>,
    /// Delete manifests that no tag, index or subject has kept for so many seconds
    #[arg(long, value_name = "SECONDS")]
    delete_untagged: Option<u64>,
    #[command(flatten)]
    place: Where,
}

/// Check everything that is kept: every byte against its digest, every reference, every count
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  idp registry fsck\n  idp registry fsck --fast\n  idp registry fsck --repair --output json\n\n\
  The exit code is 1 when something is wrong and was not put right."
)]
pub(super) struct FsckArgs {
    /// Do not read content: only whether it is there, and its size
    #[arg(long)]
    fast: bool,
    /// Put right what can be, and set damaged content aside
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    place: Where,
}

/// Show how much is kept, by repository
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp registry usage\n  idp registry usage team --output json")]
pub(super) struct UsageArgs {
    /// Only repositories below this name
    #[arg(value_name = "NAMESPACE", default_value = "")]
    namespace: String,
    /// No more repositories than so many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    place: Where,
}

/// Bring back a tag or a manifest that was deleted, within the undo window of the settings
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  idp registry restore team/app:1.0\n\n\
  `collection.undoSeconds` in the settings says for how long that can be done; without it what is deleted is gone.")]
pub(super) struct RestoreArgs {
    /// repository:tag or repository@digest
    #[arg(value_name = "REFERENCE")]
    reference: String,
    #[command(flatten)]
    place: Where,
}

fn ask(place: &Where, task: Task, doing: &str, session: &Session) -> Result<Value, Stop> {
    let options = Options { operation: "upkeep", ..Options::default() };
    session.work(doing, options, async |context| {
        ops::embedded::ask(context, place.root.as_deref(), place.config.as_deref(), task).await
    })
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

pub(super) fn gc(args: &GcArgs, session: &Session) -> Result<(), Stop> {
    let task = Task::Gc {
        dry_run: args.dry_run,
        grace_seconds: args.grace,
        delete_untagged_seconds: args.delete_untagged,
    };
    let report = ask(&args.place, task, "collect garbage", session)?;
    let mut text = String::new();
    if let Some(repositories) = report["repositories"].as_object() {
        for (name, gone) in repositories {
            text += &format!(
                "{name}: {} tags, {} manifests, {} blobs, {}\n",
                number(gone, "/tags"),
                number(gone, "/manifests"),
                number(gone, "/blobs"),
                size(number(gone, "/bytes")),
            );
        }
    }
    session.console.result(&text, &report)?;
    let (verb, disk) = if args.dry_run { ("would go", "would be free") } else { ("went", "are free") };
    session.console.say(&format!(
        "{} tags, {} manifests and {} blobs {verb}; {} of the disk {disk}",
        number(&report, "/total/tags"),
        number(&report, "/total/manifests"),
        number(&report, "/total/blobs"),
        size(number(&report, "/contentBytes")),
    ));
    Ok(())
}

pub(super) fn fsck(args: &FsckArgs, session: &Session) -> Result<(), Stop> {
    let task = Task::Fsck { fast: args.fast, repair: args.repair };
    let report = ask(&args.place, task, "check the registry", session)?;
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = String::new();
    let mut left = 0;
    for finding in findings {
        let repaired = finding["repaired"].as_bool().unwrap_or_default();
        left += usize::from(!repaired);
        text += &format!(
            "{}: {}{}\n",
            finding["kind"].as_str().unwrap_or_default(),
            finding["what"].as_str().unwrap_or_default(),
            if repaired { " (repaired)" } else { "" },
        );
    }
    if let Some(incomplete) = report["incomplete"].as_object() {
        for (manifest, lacks) in incomplete {
            let lacks = lacks.as_array().map_or(0, Vec::len);
            text += &format!(
                "incomplete: {manifest} lacks {lacks} blobs, and can be pulled when it was pushed again\n"
            );
        }
    }
    session.console.result(&text, &report)?;
    session.console.say(&format!(
        "{} repositories, {} manifests, {} tags, {} blobs; {} read; {} findings, {left} of them left; {} unused",
        number(&report, "/repositories"),
        number(&report, "/manifests"),
        number(&report, "/tags"),
        number(&report, "/blobs"),
        size(number(&report, "/hashedBytes")),
        findings.len(),
        size(number(&report, "/unusedBytes")),
    ));
    if left == 0 { Ok(()) } else { Err(Stop::Told(Exit::Failed)) }
}

pub(super) fn usage(args: &UsageArgs, session: &Session) -> Result<(), Stop> {
    let task = Task::Usage { namespace: args.namespace.clone(), limit: args.limit };
    let report = ask(&args.place, task, "count what is kept", session)?;
    let line = |name: &str, usage: &Value| {
        format!(
            "{:>10}  {:>6} tags  {:>6} manifests  {:>6} blobs  {name}\n",
            size(number(usage, "/bytes")),
            number(usage, "/tags"),
            number(usage, "/manifests"),
            number(usage, "/blobs"),
        )
    };
    let mut text = String::new();
    for entry in report["repositories"].as_array().into_iter().flatten() {
        text += &line(entry[0].as_str().unwrap_or_default(), &entry[1]);
    }
    text += &line("in all", &report["total"]);
    Ok(session.console.result(&text, &report)?)
}

pub(super) fn restore(args: &RestoreArgs, session: &Session) -> Result<(), Stop> {
    // Any registry: the name of the embedded one need not be written.
    let here = "localhost".parse().ok();
    let wrong = |error: String| Report::new(Exit::Usage, format!("`{}`: {error}", args.reference));
    let reference =
        Reference::parse(&args.reference, here.as_ref()).map_err(|error| wrong(error.to_string()))?;
    let what = match (&reference.tag, &reference.digest) {
        (Some(tag), None) => tag.to_string(),
        (_, Some(digest)) => digest.to_string(),
        (None, None) => return Err(wrong("name a tag or a digest".to_owned()).into()),
    };
    let task = Task::Restore { repository: reference.repository.to_string(), reference: what };
    let report = ask(&args.place, task, &format!("bring back `{}`", args.reference), session)?;
    if report["restored"].is_null() {
        let sentence = format!("`{}` was not deleted, or cannot be brought back any more", args.reference);
        return Err(Report::new(Exit::NotFound, sentence)
            .hint("`collection.undoSeconds` in registry.yaml says for how long what is deleted is kept")
            .into());
    }
    session.console.say(&format!("{} is there again", args.reference));
    Ok(session.console.result("", &report)?)
}
