//! One run of the binary, as the network sees it: who it is, what may befall it, and what went over the wire for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::dice::Dice;

/// How bad the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing happens.
    Calm,
    /// One request in ten meets something.
    Rough,
    /// Three in ten.
    Storm,
}

impl Weather {
    /// In a thousand requests, so many meet something.
    pub(crate) fn requests(self) -> u64 {
        match self {
            Self::Calm => 0,
            Self::Rough => 100,
            Self::Storm => 300,
        }
    }

    /// In a thousand connections, so many are cut.
    pub(crate) fn connections(self) -> u64 {
        match self {
            Self::Calm => 0,
            Self::Rough => 40,
            Self::Storm => 120,
        }
    }
}

/// A signal that the run gets with its nth request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Killing {
    pub(crate) at_request: u64,
    pub(crate) signal: Signal,
    /// Behind the answer of the registry, not before the request reaches it.
    pub(crate) late: bool,
}

/// What is known of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) killing: Option<Killing>,
    /// The run asks the content cache of its home, and fills it.
    pub(crate) cache: bool,
    pub(crate) started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) pid: Option<Pid>,
    requests: u64,
    seen: HashMap<String, u64>,
    /// Bytes of bodies that went up, by session.
    pub(crate) sessions: HashMap<String, u64>,
    /// Bytes that went up for a digest, in all.
    pub(crate) sent: HashMap<String, u64>,
    /// Bytes of blobs that came down, by digest.
    pub(crate) received: HashMap<String, u64>,
    /// Bytes that were changed on the way.
    pub(crate) flipped: u64,
    /// What happened, in order.
    pub(crate) log: Vec<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) signalled: bool,
}

impl Trace {
    pub(crate) fn new(seed: u64, weather: Weather, killing: Option<Killing>) -> Arc<Self> {
        let cache = Dice::of(seed, "cache").permille(300);
        Arc::new(Self { cache, seed, weather, killing, started: Instant::now(), state: Mutex::default() })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The dice of something that happens: the same one each time the same thing happens for the nth time, however requests interleave.
    pub(crate) fn dice(&self, what: &str) -> Dice {
        let mut state = self.state();
        let count = state.seen.entry(what.to_owned()).or_default();
        *count += 1;
        Dice::of(self.seed, (what, *count))
    }

    /// Counts a request, and gives its number.
    pub(crate) fn request(&self) -> u64 {
        let mut state = self.state();
        state.requests += 1;
        state.requests
    }

    pub(crate) fn note(&self, line: String) {
        let at = self.started.elapsed().as_millis();
        let mut state = self.state();
        if state.log.len() < 2000 {
            state.log.push(format!("{at:>6} ms  {line}"));
        }
    }

    pub(crate) fn violation(&self, line: String) {
        self.state().violations.push(line);
    }

    /// Ends the run with its signal, when this is the request.
    pub(crate) fn perhaps_kill(&self, request: u64, late: bool) {
        let Some(killing) =
            self.killing.filter(|killing| killing.late == late && killing.at_request == request)
        else {
            return;
        };
        // Noted before it is sent: the run may be judged before this goes on.
        let pid = {
            let mut state = self.state();
            state.signalled = state.pid.is_some();
            state.pid
        };
        if let Some(pid) = pid
            && kill_process(pid, killing.signal).is_ok()
        {
            self.note(format!("signal {:?}", killing.signal));
        }
    }
}

/// The runs that go on now.
#[derive(Debug, Default)]
pub(crate) struct Traces(Mutex<Vec<Arc<Trace>>>);

impl Traces {
    pub(crate) fn add(&self, trace: &Arc<Trace>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(trace));
    }

    pub(crate) fn remove(&self, trace: &Arc<Trace>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, trace));
    }

    /// Whose connection this is: the process that holds the other end, by the kernel's tables.
    pub(crate) fn of_port(&self, port: u16) -> Option<Arc<Trace>> {
        let traces = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inode = inode_of(port)?;
        let link = format!("socket:[{inode}]");
        traces.into_iter().find(|trace| {
            let Some(pid) = trace.state().pid else { return false };
            let Ok(files) = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())) else {
                return false;
            };
            files.flatten().any(|file| {
                std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str())
            })
        })
    }
}

/// The socket whose local port this is.
fn inode_of(port: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        // Behind the local address: remote, state, queues, timer, retransmits, uid, timeout.
        let inode = fields.nth(7)?;
        (local.ends_with(&wanted) && inode != "0").then(|| inode.to_owned())
    })
}
