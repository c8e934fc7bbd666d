//! An hour of random faults: the binary against real registries behind a network that fails by a seed, several runs at once on one registry
//! and one home, killed at random points. `cargo xtask chaos [--minutes M] [--seed N]` runs it; `IDP_BINARY` names the binary.
//!
//! What must hold, after every run: a push that says so has brought the image there, byte for byte, as a reader past the faults finds; a tag
//! never names what is not whole; nothing that a registry had is sent again, nothing that a layout had comes again; what a pull leaves
//! behind looks whole only when it is; exit codes are those of the table; nothing panics; nothing unfinished piles up.
//!
//! An episode that broke something is run again by its kind of registry and its seed: `cargo xtask chaos --episode gitea:1234`. Those
//! that found bugs are rows of `seeds`, which every run plays first.

mod asked;
mod dice;
mod episode;
mod front;
mod line;
mod pool;
mod run;
mod shown;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use asked::Asked;
use dice::Dice;
use episode::{Report, Stage};
use tokio::signal::unix::{SignalKind, signal};
use world::{KINDS, World};

/// Episodes at once before each registry.
const WORKERS: usize = 2;

struct Options {
    seed: u64,
    time: Duration,
    episodes: Vec<(String, u64)>,
    kinds: Vec<&'static str>,
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn options() -> Result<Options> {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut options =
        Options { seed: clock, time: Duration::from_secs(300), episodes: Vec::new(), kinds: KINDS.to_vec() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{argument} wants a value"))?;
        match &*argument {
            "--seed" => options.seed = value.parse()?,
            "--minutes" => options.time = Duration::from_secs_f64(60.0 * value.parse::<f64>()?),
            "--registry" => options.kinds.retain(|kind| value.split(',').any(|wanted| wanted == *kind)),
            "--episode" => options.episodes.push(row(&value.replace(':', " "))?),
            other => {
                bail!("unknown option {other}: --seed N, --minutes M, --registry A,B, --episode KIND:SEED")
            }
        }
    }
    Ok(options)
}

fn row(line: &str) -> Result<(String, u64)> {
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().context("a kind of registry")?;
    Ok((kind.to_owned(), words.next().context("a seed")?.parse()?))
}

/// Everything that is added up.
#[derive(Default)]
struct Total {
    episodes: u64,
    runs: BTreeMap<String, u64>,
    kills: u64,
    leftovers: u64,
    violations: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match chaos().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn chaos() -> Result<()> {
    let mut options = options()?;
    let binary =
        std::env::var_os("IDP_BINARY").map(PathBuf::from).context("IDP_BINARY names the binary to run")?;
    say(&format!("seed {}", options.seed));
    let pool = tempfile::tempdir()?;
    let items = Arc::new(pool::make(pool.path())?);
    let mut worlds = Vec::new();
    for kind in &options.kinds {
        match World::start(kind, &binary).await {
            Ok(world) => worlds.push(Arc::new(world)),
            Err(error) if is_required(kind) => return Err(error.context(format!("{kind} must take part"))),
            Err(error) => say(&format!("SKIPPED: chaos before {kind}: {error:#}")),
        }
    }
    if worlds.is_empty() {
        bail!("no registry can be had here");
    }
    let only_these = !options.episodes.is_empty();
    if !only_these {
        for line in include_str!("../seeds").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            options.episodes.push(row(line)?);
        }
    }
    let end = Instant::now() + if only_these { Duration::ZERO } else { options.time };
    let stop = interrupted()?;
    let total = Arc::new(Mutex::new(Total::default()));
    let failed = PathBuf::from("target/chaos/failed");
    let archives: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let mut workers = tokio::task::JoinSet::new();
    for world in &worlds {
        let rows: Vec<u64> =
            options.episodes.iter().filter(|(kind, _)| kind == world.kind).map(|(_, seed)| *seed).collect();
        let asked = Arc::new(Asked::new(&world.direct, world.login.as_ref()));
        let mut dice = Dice::of(options.seed, world.kind);
        let seeds: Box<dyn Iterator<Item = u64> + Send> = if only_these {
            Box::new(rows.into_iter())
        } else {
            Box::new(rows.into_iter().chain(std::iter::from_fn(move || Some(dice.below(1_000_000_000)))))
        };
        let seeds = Arc::new(Mutex::new(seeds));
        for _ in 0..WORKERS {
            let (world, asked, items) = (Arc::clone(world), Arc::clone(&asked), Arc::clone(&items));
            let (archives, total, seeds) = (Arc::clone(&archives), Arc::clone(&total), Arc::clone(&seeds));
            let (failed, stop) = (failed.clone(), Arc::clone(&stop));
            workers.spawn(async move {
                while (only_these || Instant::now() < end) && !stop.load(Ordering::Relaxed) {
                    let Some(seed) = seeds.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                        break;
                    };
                    let stage = Stage { world: &world, asked: &asked, items: &items, archives: &archives };
                    let report = episode::play(&stage, seed).await.unwrap_or_else(|error| Report {
                        violations: vec![format!("the episode ended: {error:#}")],
                        ..Report::default()
                    });
                    account(&total, world.kind, seed, report, &failed);
                }
            });
        }
    }
    while workers.join_next().await.is_some() {}
    summary(&worlds, &total.lock().unwrap_or_else(PoisonError::into_inner))
}

/// As in the tests: with `IDP_REQUIRE_PEERS=1` a registry that is not there is a failure, unless it is excused.
fn is_required(kind: &str) -> bool {
    let excused = std::env::var("IDP_PEERS_EXCUSED").unwrap_or_default();
    std::env::var_os("IDP_REQUIRE_PEERS").is_some_and(|value| value == "1")
        && !excused.split(',').any(|name| name.trim() == kind)
}

/// Set by Ctrl-C and SIGTERM: episodes are played to their end, and no new ones begun, so that everything started here is ended.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let set = Arc::clone(&stop);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        set.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}

fn account(total: &Mutex<Total>, kind: &str, seed: u64, report: Report, failed: &std::path::Path) {
    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
    total.episodes += 1;
    total.kills += report.kills;
    total.leftovers += report.leftovers;
    for (what, count) in report.runs {
        *total.runs.entry(what).or_default() += count;
    }
    if report.violations.is_empty() {
        return;
    }
    let file = failed.join(format!("{kind}-{seed}.log"));
    let kept = std::fs::create_dir_all(failed).and_then(|()| std::fs::write(&file, &report.log));
    for violation in report.violations {
        say(&format!("VIOLATION {kind}:{seed}: {violation}"));
        total.violations.push(violation);
    }
    if kept.is_ok() {
        say(&format!("  what happened: {}", file.display()));
    }
    say(&format!("  again: cargo xtask chaos --episode {kind}:{seed}"));
}

fn summary(worlds: &[Arc<World>], total: &Total) -> Result<()> {
    let names: Vec<_> = worlds.iter().map(|world| world.kind).collect();
    let strays: u64 = worlds.iter().map(|world| world.front.strays()).sum();
    say(&format!(
        "{} episodes before {}; {strays} connections of processes that were gone",
        total.episodes,
        names.join(", ")
    ));
    for (what, count) in &total.runs {
        say(&format!("  {what:>10}: {count}"));
    }
    say(&format!("  killed {}, unfinished files they left: {}", total.kills, total.leftovers));
    for world in worlds {
        let (mut files, mut bytes) = (0u64, 0u64);
        for folder in ["home", "tmp", "cache"] {
            shown::walk(&world.sandbox.path(folder), &mut |file| {
                files += 1;
                bytes += file.metadata().map_or(0, |metadata| metadata.len());
            });
        }
        // What a killed run left in the cache is not seen as content by the next one.
        shown::layout(&world.sandbox.path("cache")).context("the content cache")?;
        say(&format!("  home and temporary files before {}: {files} files, {bytes} bytes", world.kind));
    }
    if total.violations.is_empty() { Ok(()) } else { bail!("{} violations", total.violations.len()) }
}
