//! A peer as a running program: its process group, its data directory, its log, and the wait until it answers.
//!
//! In: a command that is to listen on a port or socket. Out: [`Server`], alive until it is dropped.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::access::{Access, Format};
use super::http::Call;
use super::{Unavailable, search_path};

/// How long a peer may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Another program may take the free port before the peer listens on it.
const ATTEMPTS: u32 = 3;

/// Runs a command so that it dies with us even if we are killed: when our end of the pipe closes, the watcher ends the
/// whole process group. The command takes the shell's place, so its process id is the one we know.
const WATCHED: &str = r#"exec 3<&0; (read -r _ <&3; kill -TERM 0) & exec "$@" 3<&- </dev/null"#;

/// A registry on loopback. Dropping it kills the process and deletes its data.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: String,
    log_format: Option<(PathBuf, Format)>,
    dir: TempDir,
}

impl Server {
    /// Host and port, as in `127.0.0.1:40123`: what stands before the first `/` of a reference. Plain HTTP.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The directory with the server's configuration, data and log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything the server printed so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The requests the server logged so far, without those that started and prepared it; `None` if this server writes
    /// no access log. Servers log a request after they answered it, so this waits (at most 2 s) for a still log.
    pub async fn requests(&self) -> Option<Vec<Access>> {
        let (path, format) = self.log_format.as_ref()?;
        let started = Instant::now();
        let mut last = read_lossy(path);
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = read_lossy(path);
            if now == last || started.elapsed() > Duration::from_secs(2) {
                return Some(format.parse(&now));
            }
            last = now;
        }
    }

    /// A [`Unavailable::DidNotStart`] about this server, with the end of its log.
    pub(super) fn failure(&self, peer: &'static str, why: String) -> Unavailable {
        self.process.failure(peer, why)
    }
}

/// How to start one registry.
pub(super) struct Plan<'a> {
    /// The peer's name, for errors.
    pub(super) peer: &'static str,
    /// Writes the configuration for a port into a directory and gives the command; may prepare data first.
    pub(super) prepare: &'a (dyn Fn(&Path, u16) -> io::Result<Command> + Sync),
    /// A path that answers, with any status below 500, once the server is up.
    pub(super) ready: &'a str,
    /// Where below the directory the access log is (`LOG` for what the program prints), and its format.
    pub(super) access_log: Option<(&'a str, Format)>,
}

/// The file, below a peer's directory, that takes what it prints.
pub(super) const LOG: &str = "printed.log";

impl Plan<'_> {
    /// Starts it on a free port and waits until it answers.
    pub(super) async fn start(self) -> Result<Server, Unavailable> {
        let mut attempt = 1;
        loop {
            let dir = data_dir(self.peer)?;
            let log = dir.path().join(LOG);
            let broken = |error: io::Error| Unavailable::DidNotStart {
                peer: self.peer,
                why: error.to_string(),
                log: tail(&read_lossy(&log)),
            };
            let port = free_port().map_err(broken)?;
            let command = (self.prepare)(dir.path(), port).map_err(broken)?;
            // Nothing of a registry is kept, so it need not end in order.
            let mut process = Process::spawn(self.peer, command, dir.path(), Duration::ZERO)?;
            let address = format!("127.0.0.1:{port}");
            let answers = async || matches!(Call::get(self.ready).send_to(&address).await, Ok((s, _)) if s.as_u16() < 500);
            match process.wait_until(answers).await {
                Ok(()) => {
                    let log_format = self.access_log.map(|(file, format)| (dir.path().join(file), format));
                    return Ok(Server { process, address, log_format, dir });
                }
                Err(StartError::Exited(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(process.failure(self.peer, error.to_string())),
            }
        }
    }
}

/// Why a process that was started does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("it ended by itself ({0})")]
    Exited(std::process::ExitStatus),
    #[error("it did not answer within {} s", START_LIMIT.as_secs())]
    Silent,
}

/// A process group of ours. Dropping it ends every process in it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    grace: Duration,
}

impl Process {
    /// Spawns `command` as its own process group, with an environment of its own, printing to [`LOG`] in `dir`.
    /// On drop it gets SIGTERM and then `grace` until SIGKILL.
    pub(super) fn spawn(
        peer: &'static str,
        command: Command,
        dir: &Path,
        grace: Duration,
    ) -> Result<Self, Unavailable> {
        let log = dir.join(LOG);
        let spawned = (|| {
            let output = File::options().create(true).append(true).open(&log)?;
            let mut watched = Command::new("/bin/sh");
            watched.args(["-c", WATCHED, "sh"]).arg(command.get_program()).args(command.get_args());
            isolate(&mut watched, dir);
            for (key, value) in command.get_envs() {
                watched.env(key, value.unwrap_or_default());
            }
            watched.process_group(0).stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output).spawn()
        })();
        match spawned {
            Ok(child) => Ok(Self { child, log, grace }),
            Err(error) => {
                let why = format!("cannot run {}: {error}", command.get_program().display());
                Err(Unavailable::DidNotStart { peer, why, log: String::new() })
            }
        }
    }

    /// Polls `answers` until it is true.
    pub(super) async fn wait_until(&mut self, answers: impl AsyncFn() -> bool) -> Result<(), StartError> {
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(StartError::Exited(status));
            }
            // A server that takes a connection and never answers must not hold us past the limit.
            if tokio::time::timeout(Duration::from_secs(5), answers()).await.unwrap_or(false) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(StartError::Silent)
    }

    pub(super) fn log(&self) -> String {
        read_lossy(&self.log)
    }

    pub(super) fn failure(&self, peer: &'static str, why: String) -> Unavailable {
        Unavailable::DidNotStart { peer, why, log: tail(&self.log()) }
    }

    fn signal(&self, signal: Signal) {
        // The leader is not reaped yet, so the id is still ours. That the group is gone already is no fault.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            // Reaped: the id may belong to someone else. The watcher ends what is left when our pipe closes.
            return;
        }
        if !self.grace.is_zero() {
            self.signal(Signal::TERM);
            let asked = Instant::now();
            while asked.elapsed() < self.grace {
                if let Ok(Some(_)) = self.child.try_wait() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Gives a command nothing of our environment but PATH, and a home in `dir`.
pub(super) fn isolate(command: &mut Command, dir: &Path) {
    command.env_clear().env("PATH", search_path()).env("HOME", dir).env("TMPDIR", dir).current_dir(dir);
}

/// A fresh directory with a short path: a Unix socket's path has at most 107 bytes.
pub(super) fn data_dir(peer: &'static str) -> Result<TempDir, Unavailable> {
    tempfile::Builder::new().prefix("idp-").tempdir().map_err(|error| {
        let why = format!("cannot make a directory for its data: {error}");
        Unavailable::DidNotStart { peer, why, log: String::new() }
    })
}

/// A line of a htpasswd file. Servers check it on every request, hence a cheap hash.
pub(super) fn htpasswd(user: &str, password: &str) -> io::Result<String> {
    Ok(format!("{user}:{}\n", bcrypt_hash(password)?))
}

/// The cheapest bcrypt hash there is.
pub(super) fn bcrypt_hash(password: &str) -> io::Result<String> {
    bcrypt::hash(password, 4).map_err(io::Error::other)
}

fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn is_alive(pid: &str) -> bool {
        // A killed process whose parent has not reaped it yet still has a directory in /proc.
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    async fn gone(pid: &str) -> bool {
        for _ in 0..100 {
            if !is_alive(pid) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// A process with a child in its group; the child's id is the first line it prints.
    async fn with_child() -> (Process, TempDir, String) {
        let dir = data_dir("test").expect("a temporary directory");
        let script = shell("sleep 600 & echo $!; wait");
        let mut process = Process::spawn("test", script, dir.path(), Duration::ZERO).expect("sh runs");
        let log = dir.path().join(LOG);
        process.wait_until(async || read_lossy(&log).ends_with('\n')).await.expect("it prints the id");
        let child = process.log().trim().to_owned();
        assert!(is_alive(&child));
        (process, dir, child)
    }

    #[tokio::test]
    async fn dropping_ends_the_whole_group() {
        let (process, _dir, child) = with_child().await;
        drop(process);
        assert!(gone(&child).await, "the process's child {child} is still there");
    }

    #[tokio::test]
    async fn the_group_ends_when_the_test_process_dies() {
        let (mut process, _dir, child) = with_child().await;
        // What the kernel does for us when we are killed.
        drop(process.child.stdin.take());
        assert!(gone(&child).await, "the process's child {child} outlives us");
    }

    #[tokio::test]
    async fn an_early_end_is_reported_with_the_end_of_the_log() {
        let dir = data_dir("test").expect("a temporary directory");
        let script = shell("echo cannot do this >&2; exit 3");
        let mut process = Process::spawn("test", script, dir.path(), Duration::ZERO).expect("sh runs");
        let error = process.wait_until(async || false).await.expect_err("it ended");
        let text = process.failure("test", error.to_string()).to_string();
        assert!(text.contains("exit status: 3") && text.contains("cannot do this"), "{text}");
    }
}
