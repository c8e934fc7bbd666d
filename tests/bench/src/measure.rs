//! One run of a program: how long it took, what it cost the processor, how much memory it held at most.
//!
//! In: a command. Out: [`Run`]. Time is wall time from start to end as a shell would see it.

use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// From start to end.
    pub(crate) wall: Duration,
    /// User and system time.
    pub(crate) cpu: Duration,
    /// The most resident memory, in bytes; 0 when the run was over before it could be read.
    pub(crate) peak: u64,
}

/// Runs a command to its end. A failure is an error with what it printed.
pub(crate) fn run(command: &mut Command) -> Result<Run> {
    let program = command.get_program().to_string_lossy().into_owned();
    // A file and not a pipe: nobody reads while it runs, and a full pipe would stop it.
    let mut said = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone()?);
    let before = children_cpu();
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
    let (status, peak) = wait(&mut child)?;
    let wall = started.elapsed();
    if !status.success() {
        let mut text = String::new();
        std::io::Seek::rewind(&mut said)?;
        std::io::Read::read_to_string(&mut said, &mut text)?;
        bail!("{program} ended with {status}: {text}");
    }
    Ok(Run { wall, cpu: children_cpu().saturating_sub(before), peak })
}

/// Waits, and looks at the high-water mark meanwhile: it only grows, so the last look is close to the truth.
fn wait(child: &mut Child) -> Result<(ExitStatus, u64)> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Ok(text) = fs::read_to_string(&status) {
            peak = peak.max(high_water(&text));
        }
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak));
        }
        std::thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_millis(20));
    }
}

fn high_water(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Processor time of all children that have ended, in ticks of 10 ms.
fn children_cpu() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields after the name in parentheses, which may hold anything: cutime and cstime are the 14th and 15th of them.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(13) + ticks(14)) * 1000 / rustix::param::clock_ticks_per_second())
}

/// Several runs of the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(Vec<Run>);

impl Series {
    /// One more.
    pub(crate) fn push(&mut self, run: Run) {
        self.0.push(run);
    }

    /// Nothing was run.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shortest.
    pub(crate) fn min(&self) -> Duration {
        self.0.iter().map(|run| run.wall).min().unwrap_or_default()
    }

    /// The middle one.
    pub(crate) fn median(&self) -> Duration {
        let mut all: Vec<Duration> = self.0.iter().map(|run| run.wall).collect();
        all.sort();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    /// Processor time a run.
    pub(crate) fn cpu(&self) -> Duration {
        let total: Duration = self.0.iter().map(|run| run.cpu).sum();
        total / u32::try_from(self.0.len().max(1)).unwrap_or(1)
    }

    /// The most memory of any.
    pub(crate) fn peak(&self) -> u64 {
        self.0.iter().map(|run| run.peak).max().unwrap_or(0)
    }
}
