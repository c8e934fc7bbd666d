//! The binary, run as a person would, in a home of its own: an empty directory, nothing inherited from the environment, an end to
//! every run. What comes back is data, and prints as a snapshot with ports, paths and times blanked.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of output that are kept.
const MOST_OUTPUT: u64 = 16 * 1024 * 1024;

/// A home for the binary.
#[derive(Debug)]
pub struct Sandbox {
    binary: PathBuf,
    root: TempDir,
    env: Vec<(String, String)>,
}

/// How a run ended.
#[derive(Debug, Clone)]
#[must_use]
pub struct Output {
    /// The exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// What it printed to stdout.
    pub stdout: String,
    /// What it printed to stderr.
    pub stderr: String,
    root: PathBuf,
}

/// A registry of the binary's own (`idp registry serve`); ends when it is dropped.
#[derive(Debug)]
pub struct Serving {
    /// `127.0.0.1:PORT`.
    pub address: String,
    child: Child,
}

impl Sandbox {
    /// An empty home for `binary`, which the caller knows: `env!("CARGO_BIN_EXE_idp")`.
    pub fn new(binary: impl AsRef<Path>) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let sandbox = Self { binary: binary.as_ref().to_owned(), root, env: Vec::new() };
        sandbox.make("home");
        sandbox.make("work");
        sandbox.share_compiled_code();
        sandbox
    }

    /// A provider is compiled once for all sandboxes: the cache lies beside the binary, and its key is the same everywhere.
    fn share_compiled_code(&self) {
        self.make("home/.idpbuilder/providers");
        self.write_private("home/.idpbuilder/providers/compiled.key", &"k".repeat(32));
    }

    fn cache(&self) -> PathBuf {
        let directory = self.binary.parent().unwrap_or(Path::new("/tmp")).join("test-oci-cache");
        let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        directory
    }

    fn make(&self, path: &str) {
        fs::create_dir_all(self.path(path)).expect("a directory");
    }

    /// A variable for all runs from here on.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.set_env(name, value);
        self
    }

    /// Sets a variable for all runs from here on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// A path below the sandbox: `home/…`, or `work/…`, where the binary runs.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("below the sandbox")).expect("a directory");
        fs::write(&path, text).expect("written");
        path
    }

    /// Writes a file that nobody else can read.
    pub fn write_private(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("below the sandbox")).expect("a directory");
        let _ = fs::remove_file(&path);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.expect("made").write_all(text.as_bytes()).expect("written");
        path
    }

    /// Writes a program of `/bin/sh` into a directory that is on the `PATH`.
    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    /// The binary with arguments, ready to be spawned by a test with wishes of its own.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("IDPBUILDER_OCI_CACHE_DIR", self.cache())
            // What all sandboxes share is compiled code; content from another test would change what this one counts.
            .env("IDPBUILDER_OCI_CACHE", "false")
            .current_dir(self.path("work"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Where a development build finds its providers is not the user's business.
        if let Some(providers) = std::env::var_os("IDP_PROVIDER_DIR") {
            command.env("IDP_PROVIDER_DIR", providers);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary to its end.
    pub fn idp<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.idp_with_stdin(arguments, b"")
    }

    /// Runs the binary to its end, with something to read.
    pub fn idp_with_stdin<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("piped");
        // It need not read.
        let _ = stdin.write_all(input);
        drop(stdin);
        self.wait(child)
    }

    /// Waits for a run that was spawned from [`Self::command`].
    pub fn wait(&self, mut child: Child) -> Output {
        use std::os::unix::process::ExitStatusExt as _;
        fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(pipe) = pipe {
                    let _ = pipe.take(MOST_OUTPUT).read_to_end(&mut bytes);
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        }
        let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
        let started = Instant::now();
        let status = loop {
            match child.try_wait().expect("a child of ours") {
                Some(status) => break status,
                None if started.elapsed() > PATIENCE => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let stderr = stderr.join().unwrap_or_default();
                    panic!("the binary did not end within {PATIENCE:?}; stderr so far:\n{stderr}");
                }
                None => std::thread::sleep(Duration::from_millis(3)),
            }
        };
        Output {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: stdout.join().expect("the reader ends with the pipe"),
            stderr: stderr.join().expect("the reader ends with the pipe"),
            root: self.root.path().to_owned(),
        }
    }

    /// Starts `idp registry serve` on a free port, and waits until it listens.
    pub fn serve(&self, arguments: &[&str]) -> Serving {
        let all = ["registry", "serve", "--listen", "127.0.0.1:0"].iter().chain(arguments);
        let mut child = self.command(all).stderr(Stdio::null()).spawn().expect("the binary starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line with the address");
        let address = line.trim().to_owned();
        if address.is_empty() {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the registry did not start");
        }
        Serving { address, child }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A push that named no registry has started one, which would outlive its home.
        if self.path("home/.idpbuilder/state/registry.json").exists() {
            let _ = self.command(["registry", "stop"]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// The run, when it ended as expected; a panic with all of its output otherwise.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| filter(text, &self.root);
        write!(
            f,
            "exit: {}\n--- stdout\n{}--- stderr\n{}",
            self.code,
            shown(&self.stdout),
            shown(&self.stderr)
        )
    }
}

/// Blanks what differs from run to run: the sandbox's path, ports, times.
fn filter(text: &str, root: &Path) -> String {
    let mut text = text.replace(&root.display().to_string(), "[ROOT]");
    for host in ["127.0.0.1:", "localhost:"] {
        text = blank_digits(&text, host, "", "[PORT]");
    }
    blank_digits(&text, "", " ms", "[TIME]")
}

/// Replaces digits between `before` and `after` by `blank`; the digits reach back as far as they can when `before` is empty.
fn blank_digits(text: &str, before: &str, after: &str, blank: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            let fits = result.ends_with(before) && rest[digits..].starts_with(after);
            result.push_str(if fits { blank } else { &rest[..digits] });
            rest = &rest[digits..];
        } else {
            let plain = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
            result.push_str(&rest[..plain]);
            rest = &rest[plain..];
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::filter;

    #[test]
    fn what_differs_is_blanked() {
        for (text, expect) in [
            ("http://127.0.0.1:5000/v2/1", "http://127.0.0.1:[PORT]/v2/1"),
            ("in 12 ms, 3 tries", "in [TIME] ms, 3 tries"),
            ("/tmp/x/home/.docker", "[ROOT]/home/.docker"),
        ] {
            assert_eq!(filter(text, Path::new("/tmp/x")), expect);
        }
    }
}
