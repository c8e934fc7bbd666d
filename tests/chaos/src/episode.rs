//! An episode: a repository of its own, some pushes and pulls in bad weather, two at a time, killed now and then; in the end all of it once
//! more in good weather, which must succeed. All of it follows from a seed and the kind of registry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use idp_test_support::faults::digest_of;
use rustix::process::Signal;
use serde_json::Value;

use crate::asked::Asked;
use crate::dice::Dice;
use crate::pool::Item;
use crate::run::{Ended, run};
use crate::shown;
use crate::trace::{Killing, Trace, Weather};
use crate::world::World;

/// What an episode needs.
pub(crate) struct Stage<'a> {
    pub(crate) world: &'a World,
    pub(crate) asked: &'a Asked,
    pub(crate) items: &'a [Item],
    /// What an archive became when it was pushed: the same in every run.
    pub(crate) archives: &'a Mutex<BTreeMap<String, String>>,
}

/// What came of an episode.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) log: String,
    pub(crate) runs: BTreeMap<String, u64>,
    pub(crate) kills: u64,
    pub(crate) leftovers: u64,
}

/// What is known of a tag.
#[derive(Debug, Default)]
struct Known {
    /// What it may name.
    may: BTreeSet<String>,
    /// A push of it has succeeded.
    is_there: bool,
}

#[derive(Debug, Clone)]
enum Act {
    Push { source: usize },
    Pull { form: usize },
}

const FORMS: usize = 3;

/// The forms of a pull of an image: two layouts, the same one for all items of an episode among them, and an archive.
fn destination(folder: &Path, item: &Item, form: usize) -> (PathBuf, String) {
    if item.image.is_none() {
        let path = folder.join(format!("{}-{form}", item.name));
        return (path.clone(), path.display().to_string());
    }
    match form {
        0 => {
            let path = folder.join("shared");
            (path.clone(), format!("oci:{}:{}", path.display(), item.name))
        }
        1 => {
            let path = folder.join(format!("layout-{}", item.name));
            (path.clone(), format!("oci:{}:{}", path.display(), item.name))
        }
        _ => {
            let path = folder.join(format!("{}.tar", item.name));
            (path.clone(), format!("oci-archive:{}", path.display()))
        }
    }
}

pub(crate) async fn play(stage: &Stage<'_>, seed: u64) -> Result<Report> {
    let mut dice = Dice::of(seed, stage.world.kind);
    let folder = stage.world.sandbox.path(&format!("work/episode-{seed}"));
    std::fs::create_dir_all(&folder)?;
    let repository = format!("{}episode-{seed}", stage.world.namespace);
    let mut items: Vec<&Item> = Vec::new();
    while items.len() < 3 {
        let item = dice.pick(stage.items);
        if !items.iter().any(|other| other.name == item.name) {
            items.push(item);
        }
    }
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut report = Report::default();
    let weather = *dice.pick(&[Weather::Rough, Weather::Rough, Weather::Storm]);
    for number in 0..dice.within(3..=6) {
        let mut acts = Vec::new();
        for _ in 0..dice.within(1..=2) {
            let item = *dice.pick(&items);
            let is_there = known.get(&item.name).is_some_and(|known| known.is_there);
            let act = if is_there && dice.permille(600) {
                Act::Pull { form: usize::try_from(dice.below(FORMS as u64))? }
            } else {
                Act::Push { source: usize::try_from(dice.below(item.sources.len() as u64))? }
            };
            let killing = match dice.below(100) {
                0..=19 => Some(Signal::KILL),
                20..=27 => Some(Signal::INT),
                _ => None,
            };
            let killing = killing.map(|signal| {
                let magnitude = dice.within(2..=5);
                let at_request = 1 + dice.below(1 << magnitude);
                Killing { at_request, signal, late: dice.permille(500) }
            });
            let trace = Trace::new(dice.next(), weather, killing);
            // Two runs at once have different tags.
            if !acts.iter().any(|(other, _, _): &(&Item, Act, Arc<Trace>)| other.name == item.name) {
                acts.push((item, act, trace));
            }
        }
        let running =
            acts.iter().map(|(item, act, trace)| one(stage, &folder, &repository, item, act, trace));
        let ended = futures_util::future::join_all(running).await;
        for ((item, act, trace), ended) in acts.iter().zip(ended) {
            settle(stage, &repository, item, act, trace, ended?, &mut known, &mut report, number, false)
                .await?;
        }
    }
    for item in &items {
        let form = usize::try_from(dice.below(FORMS as u64))?;
        for act in [Act::Push { source: 0 }, Act::Pull { form }] {
            let trace = Trace::new(dice.next(), Weather::Calm, None);
            let ended = one(stage, &folder, &repository, item, &act, &trace).await?;
            settle(stage, &repository, item, &act, &trace, ended, &mut known, &mut report, 99, true).await?;
        }
    }
    report.leftovers = leftovers(&folder);
    if report.kills == 0 && report.leftovers > 0 {
        report
            .violations
            .push(format!("{} unfinished files are left, and nothing was killed", report.leftovers));
    }
    if report.violations.is_empty() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(report)
}

/// Runs it, and looks at what it left on disk.
async fn one(
    stage: &Stage<'_>,
    folder: &Path,
    repository: &str,
    item: &Item,
    act: &Act,
    trace: &Arc<Trace>,
) -> Result<Ended> {
    let reference = format!("{}/{repository}:{}", stage.world.front.address(), item.name);
    match act {
        Act::Push { source } => {
            let arguments = ["push".to_owned(), item.sources[*source].clone(), reference];
            trace.note(arguments.join(" "));
            run(stage.world, &arguments, trace).await
        }
        Act::Pull { form } => {
            let (path, destination) = destination(folder, item, *form);
            let is_layout = item.image.is_some() && *form < 2;
            let before = if is_layout { shown::blobs(&path) } else { BTreeSet::new() };
            if !is_layout {
                // A directory must be new; an archive is made anew so that what lies there is known.
                let _ = std::fs::remove_file(&path);
                let _ = std::fs::remove_dir_all(&path);
            }
            let arguments = ["pull".to_owned(), reference, destination];
            trace.note(arguments.join(" "));
            let ended = run(stage.world, &arguments, trace).await?;
            if let Err(error) = look(&path, item, *form, ended.code).await {
                trace.violation(format!("after exit code {}: {error:#}", ended.code));
            }
            let received = trace.state().received.clone();
            for digest in received.keys().filter(|digest| before.contains(*digest)) {
                trace.violation(format!("{digest} came again, and {} had it", path.display()));
            }
            Ok(ended)
        }
    }
}

/// What a pull left at its destination.
async fn look(path: &Path, item: &Item, form: usize, code: i32) -> Result<()> {
    let (path, files, is_image) = (path.to_owned(), item.files.clone(), item.image.is_some());
    tokio::task::spawn_blocking(move || match (is_image, form, code) {
        (false, _, 0) => shown::directory(&path, &files),
        (true, 0 | 1, 0) => {
            ensure!(!shown::layout(&path)?.is_empty(), "the layout names nothing");
            Ok(())
        }
        (true, 0 | 1, _) => shown::layout(&path).map(drop),
        (true, _, 0) => {
            ensure!(shown::archive(&path)?.len() == 1, "the archive names one image");
            Ok(())
        }
        // Killed behind the last step it is there and whole; otherwise it is not there.
        _ if path.exists() && is_image => shown::archive(&path).map(drop),
        _ if path.exists() => shown::directory(&path, &files),
        _ => Ok(()),
    })
    .await?
}

/// Looks at the registry, and learns from it.
#[expect(clippy::too_many_arguments, reason = "one place judges a run by everything there is")]
async fn settle(
    stage: &Stage<'_>,
    repository: &str,
    item: &Item,
    act: &Act,
    trace: &Arc<Trace>,
    ended: Ended,
    known: &mut BTreeMap<String, Known>,
    report: &mut Report,
    number: u64,
    must: bool,
) -> Result<()> {
    let known = known.entry(item.name.clone()).or_default();
    if let Err(error) = compare(stage, repository, item, act, &ended, known).await {
        trace.violation(format!("after exit code {}: {error:#}", ended.code));
    }
    if must && ended.code != 0 {
        trace.violation(format!("exit code {} in good weather: {}", ended.code, ended.stderr.trim()));
    }
    if ended.code == 137 {
        report.kills += 1;
    }
    let verb = if matches!(act, Act::Push { .. }) { "push" } else { "pull" };
    *report.runs.entry(format!("{verb} {}", ended.code)).or_default() += 1;
    for digest in stage.world.front.finished(repository) {
        if !stage.asked.has(repository, &digest).await? {
            stage.world.front.forget(repository, &digest);
        }
    }
    let state = trace.state();
    let _ = writeln!(
        report.log,
        "--- step {number}, {:?}, {:?}: exit code {}",
        trace.weather, trace.killing, ended.code
    );
    for line in &state.log {
        let _ = writeln!(report.log, "{line}");
    }
    let _ = writeln!(report.log, "stdout: {}\nstderr: {}", ended.stdout.trim(), ended.stderr.trim());
    for violation in &state.violations {
        let _ = writeln!(report.log, "VIOLATION: {violation}");
        report.violations.push(format!("step {number}: {violation}"));
    }
    Ok(())
}

async fn compare(
    stage: &Stage<'_>,
    repository: &str,
    item: &Item,
    act: &Act,
    ended: &Ended,
    known: &mut Known,
) -> Result<()> {
    let named = stage.asked.tag(repository, &item.name).await?;
    let manifests = match &named {
        // Whatever it names: all of it is there.
        Some(digest) => {
            stage.asked.whole(repository, digest).await.context("the tag names what is not whole")?
        }
        None => Vec::new(),
    };
    match act {
        Act::Push { source } => {
            let is_archive = item.image.is_none() || item.sources[*source].starts_with("docker-archive:");
            let expected = item.image.as_ref().filter(|_| !is_archive).map(|image| image.digest().to_owned());
            if ended.code == 0 {
                let digest = ended.digest()?.to_owned();
                ensure!(named.as_ref() == Some(&digest), "{digest} was pushed, and the tag names {named:?}");
                match expected {
                    Some(expected) => {
                        ensure!(digest == expected, "{digest} was pushed, and the layout has {expected}")
                    }
                    None => {
                        let mut archives = stage.archives.lock().unwrap_or_else(PoisonError::into_inner);
                        let first =
                            archives.entry(item.sources[*source].clone()).or_insert_with(|| digest.clone());
                        ensure!(*first == digest, "the same source was {first} before, and is {digest} now");
                    }
                }
                if is_archive && let Some(image) = &item.image {
                    let config = config(&manifests)?;
                    ensure!(image.contents.contains_key(&config), "the config is another one: {config}");
                    layers(stage, repository, &manifests, &config).await?;
                }
                known.may = BTreeSet::from([digest]);
                known.is_there = true;
            } else if let Some(digest) = named {
                let is_new = match expected {
                    Some(expected) => digest == expected,
                    None => {
                        let archives = stage.archives.lock().unwrap_or_else(PoisonError::into_inner);
                        archives.get(&item.sources[*source]).is_none_or(|first| *first == digest)
                    }
                };
                ensure!(known.may.contains(&digest) || is_new, "the tag names {digest}, which nobody pushed");
                known.may.insert(digest);
            } else {
                ensure!(!known.is_there, "the tag is gone");
            }
        }
        Act::Pull { .. } => {
            let named = named.context("the tag is gone")?;
            ensure!(known.may.contains(&named), "the tag names {named}, and {:?} were pushed", known.may);
            if ended.code == 0 {
                let digest = ended.digest()?;
                ensure!(digest == named, "{digest} was pulled, and the tag names {named}");
            }
        }
    }
    Ok(())
}

fn config(manifests: &[(String, bytes::Bytes)]) -> Result<String> {
    let [(_, manifest)] = manifests else { bail!("one manifest was to be pushed") };
    let document: Value = serde_json::from_slice(manifest)?;
    Ok(document["config"]["digest"].as_str().context("a config")?.to_owned())
}

/// The layers unpack to what the config names.
async fn layers(
    stage: &Stage<'_>,
    repository: &str,
    manifests: &[(String, bytes::Bytes)],
    config: &str,
) -> Result<()> {
    let [(_, manifest)] = manifests else { return Ok(()) };
    let document: Value = serde_json::from_slice(manifest)?;
    let config: Value = serde_json::from_slice(&stage.asked.bytes(repository, config).await?)?;
    let layers = document["layers"].as_array().context("layers")?;
    let diff_ids = config["rootfs"]["diff_ids"].as_array().context("diff_ids")?;
    ensure!(layers.len() == diff_ids.len(), "{} layers, {} diff_ids", layers.len(), diff_ids.len());
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let bytes = stage.asked.bytes(repository, layer["digest"].as_str().unwrap_or_default()).await?;
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&*bytes).read_to_end(&mut plain)?;
        ensure!(
            Some(&*digest_of(&plain)) == diff_id.as_str(),
            "a layer unpacks to something else than {diff_id}"
        );
    }
    Ok(())
}

/// Unfinished files, as they are called everywhere. What is kept of a blob so that a later pull goes on with it is meant to stay (one
/// file a blob), until the blob is there.
fn leftovers(folder: &Path) -> u64 {
    let mut count = 0;
    shown::walk(folder, &mut |file| {
        let hidden = |part: std::path::Component| part.as_os_str().to_string_lossy().starts_with(".idp-");
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hex = name.strip_prefix(".idp-part-").map(|rest| rest.rsplit(['-', ':']).next().unwrap_or(rest));
        count += match hex {
            Some(hex) => u64::from(file.with_file_name(hex).exists()),
            None => u64::from(file.strip_prefix(folder).is_ok_and(|path| path.components().any(hidden))),
        };
    });
    count
}
