//! moto's ECR and STS behind `tests/peers/moto/serve.py`, in which botocore checks the signature of every request.
//!
//! In: the keys that it knows. Out: a [`Server`] whose log has the operations as paths. It speaks plain HTTP at `/`; there is no registry
//! behind it.

use std::path::Path;
use std::process::Command;

use super::access::Format;
use super::server::{LOG, Plan, Server};
use super::{Unavailable, peers_dir};

const PEER: &str = "moto";

/// The account that moto takes everybody for.
pub const ACCOUNT: &str = "123456789012";
/// User and password of its tokens.
pub const LOGIN: (&str, &str) = ("AWS", "123456789012-auth-token");

/// Starts moto.
#[derive(Debug)]
pub struct Moto;

impl Moto {
    /// With one pair of keys, and a session token for temporary ones.
    pub async fn start(id: &str, secret: &str, session_token: Option<&str>) -> Result<Server, Unavailable> {
        let python = peers_dir().join("venv").join(PEER).join("bin/python");
        // What it runs may move with the checkout, what it is made of need not.
        let python = std::path::absolute(&python).unwrap_or(python);
        if !python.is_file() {
            return Err(Unavailable::NotBuilt { peer: PEER, path: python });
        }
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
        let script = checkout.unwrap_or(Path::new(".")).join("tests/peers/moto/serve.py");
        Plan {
            peer: PEER,
            prepare: &|_, port| {
                let mut command = Command::new(&python);
                command.arg(&script).args([&port.to_string(), id, secret]).args(session_token);
                // Nothing of it belongs into the checkout.
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                Ok(command)
            },
            ready: "/moto-api/",
            access_log: Some((LOG, Format::Combined)),
        }
        .start()
        .await
    }
}
