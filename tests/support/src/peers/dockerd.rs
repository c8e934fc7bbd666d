//! A Docker daemon of its own: images only, no networking, nothing shared with one that already runs on the machine.
//!
//! In: nothing. Out: [`Dockerd`], with the `unix://` address for `DOCKER_HOST`. Needs root, as the daemon does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixStream;

use super::http::Call;
use super::server::{Process, data_dir};
use super::{Unavailable, installed, is_root};

/// A running Docker daemon. Dropping it ends the daemon and deletes its images.
#[derive(Debug)]
pub struct Dockerd {
    process: Process,
    socket: PathBuf,
    version: String,
    _dir: TempDir,
}

impl Dockerd {
    /// Starts Debian's `dockerd` with its data in a directory of its own (storage driver `vfs`, which works anywhere).
    pub async fn start() -> Result<Self, Unavailable> {
        const PEER: &str = "dockerd";
        let program = installed("dockerd", "docker.io")?;
        if !is_root() {
            return Err(Unavailable::NeedsRoot { peer: PEER });
        }
        let dir = data_dir(PEER)?;
        let socket = dir.path().join("docker.sock");
        let mut command = Command::new(program);
        command.args([
            "--iptables=false",
            "--ip6tables=false",
            "--ip-masq=false",
            "--bridge=none",
            "-s",
            "vfs",
        ]);
        command.arg("-H").arg(format!("unix://{}", socket.display()));
        command.arg("--config-file").arg(dir.path().join("daemon.json"));
        command.arg("--data-root").arg(dir.path().join("data"));
        command.arg("--exec-root").arg(dir.path().join("exec"));
        command.arg("--pidfile").arg(dir.path().join("pid"));
        std::fs::write(dir.path().join("daemon.json"), "{}").map_err(|error| Unavailable::DidNotStart {
            peer: PEER,
            why: format!("cannot write its configuration: {error}"),
            log: String::new(),
        })?;
        // It ends its containerd, which has a process group of its own, when it is asked to end.
        let mut process = Process::spawn(PEER, command, dir.path(), Duration::from_secs(15))?;
        let waited = process.wait_until(async || get(&socket, "/_ping").await.is_some()).await;
        if let Err(error) = waited {
            return Err(process.failure(PEER, error.to_string()));
        }
        let version = get(&socket, "/version").await.and_then(|body| {
            let version: serde_json::Value = serde_json::from_slice(&body).ok()?;
            Some(format!("{}, API {}", version["Version"].as_str()?, version["ApiVersion"].as_str()?))
        });
        let Some(version) = version else {
            return Err(process.failure(PEER, "it does not answer GET /version".to_owned()));
        };
        Ok(Self { process, socket, version, _dir: dir })
    }

    /// The value for `DOCKER_HOST`: `unix:///…/docker.sock`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Path of the API socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon's version and newest API version, as in `20.10.24, API 1.41`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Everything the daemon printed so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

async fn get(socket: &Path, path: &str) -> Option<bytes::Bytes> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let (status, body) = Call::get(path).send_over(stream, "docker").await.ok()?;
    status.is_success().then_some(body)
}
