//! What consumes packages in a cluster, as programs: what each makes of an artifact in a registry on loopback.
//!
//! Argo CD and Flux take part with the code that their servers pull with, in small programs of ours (`tests/peers/fetched`);
//! oras is its command. In: a repository and a tag, a digest or a constraint. Out: [`Fetched`], the tree or the refusal.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Unavailable, built};

/// A program that pulls an artifact and unpacks it.
#[derive(Debug, Clone)]
pub struct Consumer {
    program: PathBuf,
    name: &'static str,
}

/// What a consumer made of an artifact.
#[derive(Debug, Deserialize)]
pub struct Fetched {
    /// Which program, and its version.
    pub consumer: String,
    /// The digest that the tag or constraint stands for, where it came so far.
    #[serde(default)]
    pub revision: Option<String>,
    /// The manifest's annotations, where the consumer shows them.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// What it wrote, by path.
    pub tree: Vec<Entry>,
    /// Why it did not.
    #[serde(default)]
    pub error: Option<Refused>,
}

/// A file, a directory or a link that a consumer wrote.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// Relative, with forward slashes.
    pub path: String,
    /// `file`, `directory`, `link` or `other`.
    pub kind: String,
    /// Four octal digits.
    pub mode: String,
    /// Of a file.
    pub size: u64,
    /// Of a file, in hexadecimal.
    #[serde(default)]
    pub sha256: String,
    /// Of a link.
    #[serde(default)]
    pub target: String,
    /// The consumer unpacks it, and leaves it out where it passes the tree on (Flux).
    #[serde(default)]
    pub dropped: bool,
}

/// A consumer's refusal, in its own words.
#[derive(Debug, Deserialize)]
pub struct Refused {
    /// `resolve`, `manifest` or `extract`.
    pub step: String,
    /// What it said.
    pub message: String,
}

impl Consumer {
    /// The newest Argo CD that is pinned.
    pub fn argo_cd() -> Result<Self, Unavailable> {
        Self::program("argocd-oci")
    }

    /// The line that idpbuilder installs.
    pub fn argo_cd_3_1() -> Result<Self, Unavailable> {
        Self::program("argocd-oci-3.1")
    }

    /// Flux's source-controller.
    pub fn flux() -> Result<Self, Unavailable> {
        Self::program("flux-fetch")
    }

    /// `oras pull`.
    pub fn oras() -> Result<Self, Unavailable> {
        Self::program("oras")
    }

    fn program(name: &'static str) -> Result<Self, Unavailable> {
        Ok(Self { program: built(name)?, name })
    }

    /// Pulls `reference` (a tag or a digest; for Argo CD a constraint too) of a repository such as `127.0.0.1:40123/team/app`.
    ///
    /// # Panics
    /// If the program does not run, or does not answer as it should. A refusal is an answer.
    pub fn fetch(&self, repository: &str, reference: &str) -> Fetched {
        if self.name == "oras" {
            return self.oras_pull(repository, reference);
        }
        let output = self.command().args([repository, reference]).output().expect("the consumer runs");
        assert!(output.status.success(), "{}: {output:?}", self.name);
        serde_json::from_slice(&output.stdout).expect("the consumer answers in JSON")
    }

    /// A program with nothing of the caller's environment: no proxy, no credentials.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(std::env::var_os("TMPDIR").map(|directory| ("TMPDIR", directory)));
        command
    }

    fn oras_pull(&self, repository: &str, reference: &str) -> Fetched {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        std::fs::create_dir(&out).expect("made");
        let separator = if reference.starts_with("sha256:") { '@' } else { ':' };
        let output = self
            .command()
            .env("HOME", directory.path())
            .args(["pull", "--plain-http", "--format", "json", "--output"])
            .arg(&out)
            .arg(format!("{repository}{separator}{reference}"))
            .output()
            .expect("oras runs");
        let error = (!output.status.success()).then(|| Refused {
            step: "extract".to_owned(),
            message: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let revision = told["reference"].as_str().and_then(|reference| reference.split_once('@'));
        let revision = revision.map(|(_, digest)| digest.to_owned());
        let tree =
            if error.is_none() { tree(&out).expect("oras wrote what can be read") } else { Vec::new() };
        Fetched { consumer: "oras".to_owned(), revision, annotations: BTreeMap::new(), tree, error }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is below a directory, by path.
fn tree(root: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for found in std::fs::read_dir(directory)? {
            let path = found?.path();
            let metadata = path.symlink_metadata()?;
            let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
            let mut entry = Entry {
                path: path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned(),
                kind: "other".to_owned(),
                mode: format!("{mode:04o}"),
                size: 0,
                sha256: String::new(),
                target: String::new(),
                dropped: false,
            };
            if metadata.is_dir() {
                "directory".clone_into(&mut entry.kind);
                open.push(path);
            } else if metadata.is_file() {
                "file".clone_into(&mut entry.kind);
                entry.size = metadata.len();
                entry.sha256 = hex(&Sha256::digest(std::fs::read(&path)?));
            } else if metadata.is_symlink() {
                "link".clone_into(&mut entry.kind);
                entry.target = std::fs::read_link(&path)?.to_string_lossy().into_owned();
            }
            entries.push(entry);
        }
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}
