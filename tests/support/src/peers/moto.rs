//! moto's ECR and STS behind `tests/peers/moto/serve.py`, in which botocore checks the signature of every request.
//!
//! In: the keys that it knows. Out: a [`Moto`], a [`Server`] whose log has the operations as paths. It speaks plain HTTP at `/`; there is
//! no registry behind it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::access::Format;
use super::server::{LOG, Plan, Server, isolate};
use super::{Unavailable, peers_dir};

const PEER: &str = "moto";

/// The account that moto takes everybody for.
pub const ACCOUNT: &str = "123456789012";
/// User and password of its tokens.
pub const LOGIN: (&str, &str) = ("AWS", "123456789012-auth-token");

/// moto on loopback. Dropping it kills the process and its data.
#[derive(Debug)]
pub struct Moto {
    server: Server,
    python: PathBuf,
    keys: [String; 2],
}

impl std::ops::Deref for Moto {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// A script of ours beside its requirements.
fn script(name: &str) -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    checkout
        .expect("this crate is two directories below the checkout's root")
        .join("tests/peers/moto")
        .join(name)
}

impl Moto {
    /// With one pair of keys, and a session token for temporary ones.
    pub async fn start(id: &str, secret: &str, session_token: Option<&str>) -> Result<Self, Unavailable> {
        let python = peers_dir().join("venv").join(PEER).join("bin/python");
        // Its directory is not that of the tests.
        let python = std::path::absolute(&python).unwrap_or(python);
        if !python.is_file() {
            return Err(Unavailable::NotBuilt { peer: PEER, path: python });
        }
        let server = Plan {
            peer: PEER,
            prepare: &|_, port| {
                let mut command = Command::new(&python);
                command.arg(script("serve.py")).args([&port.to_string(), id, secret]).args(session_token);
                Ok(command)
            },
            ready: "/moto-api/",
            access_log: Some((LOG, Format::Combined)),
        }
        .start()
        .await?;
        Ok(Self { server, python, keys: [id.to_owned(), secret.to_owned()] })
    }

    /// Puts images into a repository of a region: tags with the content under them.
    pub fn put_images(
        &self,
        region: &str,
        repository: &str,
        images: &[(&str, &str)],
    ) -> Result<(), Unavailable> {
        let mut command = Command::new(&self.python);
        isolate(&mut command, self.server.dir());
        command.arg(script("put.py")).arg(self.server.address()).args(&self.keys).args([region, repository]);
        command.args(images.iter().map(|(tag, content)| format!("{tag}={content}")));
        let failed = |why: String| self.server.failure(PEER, format!("put.py: {why}"));
        let output = command.output().map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}
