//! `cargo xtask fuzz`: the targets of `idp_oci::fuzzing` under libFuzzer, on the stable toolchain.
//!
//! In: the kept corpus `tests/fuzz/corpus/TARGET/`. Out: new inputs under `target/fuzz/`, and an error with the way to run it again for
//! each input that broke something. `--minimise` writes what is worth keeping back to the kept corpus.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use crate::tools::{cargo, root, run, say, target};

/// What `cargo fuzz` passes, without what wants a nightly: coverage is a pass of LLVM, and needs no sanitizer.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Inputs larger than this find nothing that smaller ones do not.
const LONGEST: usize = 16 * 1024;
/// Megabytes; every parser is bounded far below.
const MEMORY: usize = 1024;
/// Seconds that one input may take.
const SLOWEST: usize = 10;
/// Bytes of a target's kept corpus: it is committed.
const MOST_KEPT: u64 = 64 * 1024;
/// Files of it.
const MOST_FILES: usize = 60;

struct Options {
    seconds: u64,
    minimise: bool,
    targets: Vec<String>,
    files: Vec<PathBuf>,
}

/// Builds, and runs what the arguments name.
pub(crate) fn fuzz(arguments: &[String]) -> Result<()> {
    let options = parse(arguments)?;
    let program = build()?;
    if !options.files.is_empty() {
        let [name] = &*options.targets else {
            bail!("a file is run by one target: cargo xtask fuzz TARGET FILE")
        };
        return run(fuzzer(&program, name).args(&options.files));
    }
    if options.minimise {
        return options.targets.iter().try_for_each(|name| minimise(&program, name));
    }
    let waiting = Mutex::new(options.targets.iter());
    let failed = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = || waiting.lock().ok().and_then(|mut waiting| waiting.next());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(name) = next() {
                    if let Err(error) = one(&program, name, options.seconds)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(format!("{name}: {error:#}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

fn parse(arguments: &[String]) -> Result<Options> {
    let mut options = Options { seconds: 20, minimise: false, targets: Vec::new(), files: Vec::new() };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match &**argument {
            "--seconds" => {
                let seconds = arguments.next().and_then(|text| text.parse().ok());
                options.seconds = seconds.context("--seconds wants a number")?;
            }
            "--minimise" => options.minimise = true,
            name if kept(name).is_dir() && !name.contains('/') => options.targets.push(name.to_owned()),
            file if Path::new(file).is_file() => options.files.push(std::path::absolute(file)?),
            other => bail!("`{other}` is no target (a folder of tests/fuzz/corpus) and no file"),
        }
    }
    if options.targets.is_empty() {
        for entry in fs::read_dir(root().join("tests/fuzz/corpus"))? {
            options.targets.push(entry?.file_name().to_string_lossy().into_owned());
        }
        options.targets.sort();
    }
    Ok(options)
}

fn kept(name: &str) -> PathBuf {
    root().join("tests/fuzz/corpus").join(name)
}

fn build() -> Result<PathBuf> {
    let output =
        Command::new("rustc").arg("-vV").current_dir(root()).output().context("could not run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host =
        text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
    let directory = target().join("fuzz");
    // Not --locked: its lock file follows what the crates of the main workspace come to depend on.
    // With a target of its own, the flags do not reach build scripts and macros, which could not be linked with them.
    run(cargo(&root().join("tests/fuzz"))
        .args(["build", "--quiet", "--release", "--target", host])
        .env("CARGO_TARGET_DIR", &directory)
        .env("RUSTFLAGS", COVERAGE))
    .context("the fuzzer could not be built (it needs a C++ compiler)")?;
    Ok(directory.join(host).join("release/idp-fuzz"))
}

fn fuzzer(program: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command.env("IDP_FUZZ_TARGET", name).current_dir(target());
    command.args([
        &format!("-max_len={LONGEST}"),
        &format!("-rss_limit_mb={MEMORY}"),
        &format!("-timeout={SLOWEST}"),
        "-print_final_stats=1",
    ]);
    // Some targets write files; nothing of them is worth a disk.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        command.env("TMPDIR", memory);
    }
    command
}

/// Runs a target for a while; its new inputs go to `target/`, so that a later run starts with them.
fn one(program: &Path, name: &str, seconds: u64) -> Result<()> {
    let work = target().join("fuzz/corpus").join(name);
    let broken = target().join("fuzz/broken").join(name);
    fs::create_dir_all(&work)?;
    fs::create_dir_all(&broken)?;
    let log_path = target().join("fuzz").join(format!("{name}.log"));
    let log = fs::File::create(&log_path)?;
    let mut command = fuzzer(program, name);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", broken.display()))
        .args([&work, &kept(name)])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let status = command.status().context("could not start the fuzzer")?;
    let text = String::from_utf8_lossy(&fs::read(&log_path)?).into_owned();
    let number = |key: &str| {
        text.lines().rev().find_map(|line| line.strip_prefix(key)).unwrap_or("?").trim().to_owned()
    };
    if status.success() {
        let (runs, memory) = (number("stat::number_of_executed_units:"), number("stat::peak_rss_mb:"));
        say(&format!("{name}: {runs} inputs in {seconds} s, at most {memory} MB"));
        return Ok(());
    }
    let why = text.lines().find(|line| {
        line.contains("panicked at") || line.starts_with("SUMMARY") || line.contains("ERROR: libFuzzer")
    });
    let input = text
        .lines()
        .rev()
        .find_map(|line| line.split("Test unit written to ").nth(1))
        .unwrap_or("(no input)");
    bail!(
        "{status}: {}\n  all of it: {}\n  again:     cargo xtask fuzz {name} {input}\n  mended:    cp {input} tests/fuzz/corpus/{name}/",
        why.unwrap_or("no reason given"),
        log_path.display()
    )
}

/// What of the kept and of the new inputs covers something of its own, of all sizes, goes to the kept corpus, as far as there is room.
fn minimise(program: &Path, name: &str) -> Result<()> {
    let (work, kept) = (target().join("fuzz/corpus").join(name), kept(name));
    let merged = tempfile(name)?;
    fs::create_dir_all(&work)?;
    run(fuzzer(program, name)
        .arg("-set_cover_merge=1")
        .args([&merged, &kept, &work])
        .stdout(Stdio::null())
        .stderr(Stdio::null()))?;
    let mut files: Vec<_> = fs::read_dir(&merged)?.collect::<std::io::Result<Vec<_>>>()?;
    files.sort_by_key(|entry| entry.metadata().map_or(u64::MAX, |metadata| metadata.len()));
    let (mut size, mut count, mut added) = (folder_size(&kept)?, fs::read_dir(&kept)?.count(), 0);
    // Not the smallest ones only: what is long goes further.
    let step = files.len().div_ceil(MOST_FILES.saturating_sub(count).max(1)).max(1);
    for file in files.into_iter().step_by(step) {
        let length = file.metadata()?.len();
        let contents = fs::read(file.path())?;
        let is_kept = fs::read_dir(&kept)?
            .flatten()
            .any(|other| fs::read(other.path()).is_ok_and(|other| other == contents));
        if !is_kept && size + length <= MOST_KEPT && count < MOST_FILES {
            fs::copy(file.path(), kept.join(file.file_name()))?;
            size += length;
            count += 1;
            added += 1;
        }
    }
    fs::remove_dir_all(&merged)?;
    say(&format!("{name}: {added} inputs more, {} KiB in all", size / 1024));
    Ok(())
}

fn tempfile(name: &str) -> Result<PathBuf> {
    let path = target().join("fuzz/merged").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn folder_size(path: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(path)? {
        size += entry?.metadata()?.len();
    }
    Ok(size)
}
