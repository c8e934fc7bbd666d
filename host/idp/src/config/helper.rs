//! The credential helper protocol: `docker-credential-NAME get|store|erase|list`, a question on stdin, an answer on stdout.
//!
//! A helper is a program of the user. It has ten seconds, its answer is at most 64 KiB, and nothing that it prints is shown
//! before the secrets in it are blanked.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use idp_oci::secret::Secret;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::env::{self, Environment};

/// A helper that asks a person to unlock something needs a moment; one that hangs must not hang us.
const PATIENCE: Duration = Duration::from_secs(10);

/// Larger answers are none.
const LARGEST_ANSWER: u64 = 64 * 1024;

/// The user name that says the secret is an identity token.
pub const TOKEN_USER: &str = "<token>";

/// What a helper keeps.
#[derive(Debug, Clone)]
pub struct Kept {
    /// User name, or [`TOKEN_USER`].
    pub username: String,
    /// Password or token.
    pub secret: Secret,
}

/// Why a helper could not be used. Names the helper; `stderr` is blanked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelperError {
    /// No such program.
    #[error("credential helper `{0}` is not installed (no such program on the PATH)")]
    Missing(String),
    /// It cannot be run, or its pipes broke.
    #[error("credential helper `{0}` cannot be run: {1}")]
    Run(String, String),
    /// It took too long.
    #[error("credential helper `{0}` did not answer within {1:?}")]
    Timeout(String, Duration),
    /// It failed.
    #[error("credential helper `{name}` failed ({status}){}", said(.stderr))]
    Failed {
        /// The program.
        name: String,
        /// How it ended.
        status: String,
        /// What it said, blanked, the first lines of it.
        stderr: String,
    },
    /// Its answer is not the JSON that it should be.
    #[error("credential helper `{name}` answered with something that is not a credential{}", said(.stderr))]
    Garbage {
        /// The program.
        name: String,
        /// What it said, blanked.
        stderr: String,
    },
    /// A name that could be a path or an option.
    #[error("`{0}` is not the name of a credential helper: letters, digits, `-`, `_` and `.`")]
    Name(String),
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// One helper program.
#[derive(Debug, Clone)]
pub struct Helper {
    program: String,
    path: Option<String>,
    patience: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

impl Helper {
    /// `pass` is the program `docker-credential-pass` on the `PATH`.
    pub fn new(name: &str, env: &Environment) -> Result<Self, HelperError> {
        let good = !name.is_empty()
            && !name.starts_with(['-', '.'])
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !good {
            return Err(HelperError::Name(name.chars().take(100).collect()));
        }
        Ok(Self {
            program: format!("docker-credential-{name}"),
            path: env.get(env::PATH),
            patience: PATIENCE,
        })
    }

    /// The program's name.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Whether the program is on the `PATH`.
    pub fn is_installed(&self) -> bool {
        self.find().is_some()
    }

    fn find(&self) -> Option<PathBuf> {
        on_path(&self.program, self.path.as_deref()?)
    }

    /// What it keeps for `server`; `None` when it has nothing.
    pub async fn get(&self, server: &str) -> Result<Option<Kept>, HelperError> {
        let output = self.run("get", server.as_bytes()).await?;
        if output.not_found() {
            return Ok(None);
        }
        let answer: Option<Answer> = serde_json::from_slice(&output.stdout).ok();
        let kept =
            answer.map(|answer| Kept { username: answer.username, secret: Secret::new(answer.secret) });
        let stderr = output.shown(kept.as_ref().map(|kept| &kept.secret));
        if let Some(status) = output.failure {
            return Err(HelperError::Failed { name: self.program.clone(), status, stderr });
        }
        match kept {
            // Helpers answer an empty pair for what they do not have.
            Some(kept) if kept.secret.is_empty() => Ok(None),
            Some(kept) => Ok(Some(kept)),
            None => Err(HelperError::Garbage { name: self.program.clone(), stderr }),
        }
    }

    /// Keeps a credential.
    pub async fn store(&self, server: &str, username: &str, secret: &Secret) -> Result<(), HelperError> {
        let question = zeroize::Zeroizing::new(
            serde_json::to_vec(&Question { server_url: server, username, secret: secret.expose() })
                .expect("strings always serialise"),
        );
        let output = self.run("store", &question).await?;
        self.done(output, Some(secret))
    }

    /// Forgets a credential; one that it does not have is forgotten already.
    pub async fn erase(&self, server: &str) -> Result<(), HelperError> {
        let output = self.run("erase", server.as_bytes()).await?;
        if output.not_found() { Ok(()) } else { self.done(output, None) }
    }

    /// The servers that it keeps something for.
    pub async fn list(&self) -> Result<Vec<String>, HelperError> {
        let output = self.run("list", b"").await?;
        let names: Option<std::collections::BTreeMap<String, serde::de::IgnoredAny>> =
            serde_json::from_slice(&output.stdout).ok();
        self.done(output, None)?;
        Ok(names.unwrap_or_default().into_keys().collect())
    }

    /// Whether it runs and answers: a helper without its key ring fails here and not in the middle of a login.
    pub async fn works(&self) -> bool {
        self.is_installed() && self.run("list", b"").await.is_ok_and(|output| output.failure.is_none())
    }

    fn done(&self, output: Output, secret: Option<&Secret>) -> Result<(), HelperError> {
        let stderr = output.shown(secret);
        match output.failure {
            None => Ok(()),
            Some(status) => Err(HelperError::Failed { name: self.program.clone(), status, stderr }),
        }
    }

    async fn run(&self, action: &str, question: &[u8]) -> Result<Output, HelperError> {
        let program = self.find().ok_or_else(|| HelperError::Missing(self.program.clone()))?;
        tokio::time::timeout(self.patience, run(&program, &[action], question))
            .await
            .map_err(|_| HelperError::Timeout(self.program.clone(), self.patience))?
            .map_err(|error| HelperError::Run(self.program.clone(), error.to_string()))
    }
}

/// An executable file of this name in one of the absolute directories of a `PATH`.
pub(super) fn on_path(program: &str, path: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|file| {
            fs_err::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        })
}

/// What a program left behind.
pub(super) struct Output {
    /// How it ended, when not well.
    pub(super) failure: Option<String>,
    /// At most 64 KiB.
    pub(super) stdout: zeroize::Zeroizing<Vec<u8>>,
    stderr: zeroize::Zeroizing<Vec<u8>>,
}

/// Dropping the future kills the child.
pub(super) async fn run(
    program: &std::path::Path,
    arguments: &[&str],
    question: &[u8],
) -> std::io::Result<Output> {
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let out = child.stdout.take().expect("stdout is piped");
    let err = child.stderr.take().expect("stderr is piped");
    let mut stdout = zeroize::Zeroizing::new(Vec::new());
    let mut stderr = zeroize::Zeroizing::new(Vec::new());
    let ask = async {
        // A helper need not read its question: a broken pipe is its own affair.
        let _ = stdin.write_all(question).await;
        drop(stdin);
    };
    let (mut out, mut err) = (out.take(LARGEST_ANSWER), err.take(LARGEST_ANSWER));
    let ((), first, second) = tokio::join!(ask, out.read_to_end(&mut stdout), err.read_to_end(&mut stderr));
    first?;
    second?;
    // A helper that goes on writing gets a closed pipe, and ends.
    drop((out, err));
    let status = child.wait().await?;
    Ok(Output { failure: (!status.success()).then(|| status.to_string()), stdout, stderr })
}

impl Output {
    /// The protocol's way to say "I have nothing": these words, on stdout, with a failure.
    fn not_found(&self) -> bool {
        let text = String::from_utf8_lossy(&self.stdout);
        self.failure.is_some()
            && (text.contains("credentials not found") || text.contains("no credentials server URL"))
    }

    /// What it said on stderr: two lines, printable, without the secret and without anything that looks like one.
    pub(super) fn shown(&self, secret: Option<&Secret>) -> String {
        let known = super::known::Known::new();
        if let Some(secret) = secret {
            known.add(secret);
        }
        let text = known.blank_text(&String::from_utf8_lossy(&self.stderr));
        let text: String = text
            .chars()
            .map(|letter| if letter.is_control() && letter != '\n' { ' ' } else { letter })
            .collect();
        let lines: Vec<String> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .take(2)
            .map(|line| line.split_whitespace().map(blank_word).collect::<Vec<_>>().join(" "))
            .collect();
        lines.join("; ").chars().take(300).collect()
    }
}

/// A long word of mixed letters, and one behind `password=` or the like, is taken for a secret.
fn blank_word(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    for mark in ["password", "secret", "token", "auth"] {
        if let Some(at) = lower.find(mark)
            && let Some(equals) = word[at..].find(['=', ':'])
            && at + equals + 1 < word.len()
        {
            return format!("{}***", &word[..=at + equals]);
        }
    }
    let digits = word.bytes().any(|byte| byte.is_ascii_digit());
    let upper = word.bytes().any(|byte| byte.is_ascii_uppercase());
    let path = word.contains('/') && !word.ends_with('=');
    if word.len() >= 16 && !path && (digits || upper) { "***".to_owned() } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Helper, HelperError};
    use crate::config::env::Environment;

    fn helper(script: &str) -> (tempfile::TempDir, Helper) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("docker-credential-test");
        fs_err::write(&file, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let path = directory.path().to_str().expect("utf-8").to_owned();
        let helper = Helper::new("test", &Environment::of([("PATH", &path)])).expect("a name");
        (directory, helper)
    }

    #[tokio::test]
    async fn an_answer() {
        let (_directory, helper) = helper(
            r#"read server; printf '{"ServerURL":"%s","Username":"ci","Secret":"hunter22"}' "$server""#,
        );
        let kept = helper.get("r.example").await.expect("an answer").expect("a credential");
        assert_eq!((kept.username.as_str(), kept.secret.expose()), ("ci", "hunter22"));
    }

    #[tokio::test]
    async fn nothing_kept() {
        let (_directory, helper) = helper("echo 'credentials not found in native keychain'; exit 1");
        assert!(helper.get("r.example").await.expect("an answer").is_none());
    }

    #[tokio::test]
    async fn failures_name_the_helper_and_hide_secrets() {
        let (_one, failing) = helper(
            r#"printf '{"Username":"ci","Secret":"hunter22"}'; echo 'no key ring: hunter22 password=x dckr_pat_AbCdEf0123456789' >&2; exit 3"#,
        );
        let error = failing.get("r.example").await.expect_err("failed");
        let text = error.to_string();
        assert!(text.contains("docker-credential-test") && text.contains("no key ring: ***"), "{text}");
        assert!(!text.contains("hunter22") && !text.contains("dckr_pat") && !text.contains("=x"), "{text}");
        let (_two, garbage) = helper("echo hunter22");
        let error = garbage.get("r.example").await.expect_err("garbage");
        assert!(matches!(error, HelperError::Garbage { .. }) && !error.to_string().contains("hunter22"));
    }

    #[tokio::test]
    async fn missing_or_badly_named() {
        let env = Environment::of([("PATH", "/nonexistent")]);
        let helper = Helper::new("none", &env).expect("a name");
        assert!(matches!(helper.get("r").await, Err(HelperError::Missing(_))));
        assert!(!helper.works().await);
        for bad in ["", "../x", "a b", "-x"] {
            assert!(matches!(Helper::new(bad, &env), Err(HelperError::Name(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended() {
        let (_directory, mut helper) = helper("exec /bin/sleep 60");
        helper.patience = std::time::Duration::from_millis(200);
        assert!(matches!(helper.get("r.example").await, Err(HelperError::Timeout(..))));
    }
}
