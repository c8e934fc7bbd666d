//! olareg, a small OCI 1.1 registry: referrers, and a token service of its own, so the Bearer flow meets a real one.
//!
//! In: how it lets people in. Out: a [`Server`] without an access log; its storage is a directory of its own.

use std::fs;
use std::process::Command;

use super::server::{Plan, Server, bcrypt_hash};
use super::{Unavailable, built};

/// Whom it lets in.
#[derive(Debug, Clone, Default)]
pub enum Login {
    /// Everybody.
    #[default]
    Open,
    /// This user and password, by Basic on every request.
    Basic(String, String),
    /// This user and password at its token endpoint, whose opaque tokens everything else wants; `public/…` may be pulled
    /// by anybody.
    Token(String, String),
}

/// Starts olareg.
#[derive(Debug)]
pub struct Olareg;

impl Olareg {
    /// A server with its storage in a directory; deletion is on.
    pub async fn start(login: Login) -> Result<Server, Unavailable> {
        let program = built("olareg")?;
        Plan {
            peer: "olareg",
            prepare: &|dir, port| {
                let data = dir.join("data");
                fs::create_dir(&data)?;
                let mut command = Command::new(&program);
                command
                    .args(["serve", "--addr", "127.0.0.1", "--port", &port.to_string()])
                    .args(["--api-delete", "--api-blob-delete", "--dir"])
                    .arg(data);
                let (flag, user, password) = match &login {
                    Login::Open => return Ok(command),
                    Login::Basic(user, password) => ("--auth-basic", user, password),
                    Login::Token(user, password) => {
                        command.args(["--external-url", &format!("http://127.0.0.1:{port}")]);
                        ("--auth-token-opaque", user, password)
                    }
                };
                let config = dir.join("auth.yaml");
                // JSON is YAML, and needs no quoting rules of our own.
                let rules = serde_json::json!({
                    "users": {user: {"cred": bcrypt_hash(password)?}},
                    "groups": {"all": {"members": [user]}},
                    "acls": [
                        {"repo": "*", "members": ["all"], "access": ["*"]},
                        {"repo": "", "members": ["all"], "access": ["read"]},
                        {"repo": "public/*", "anonymous": true, "access": ["read"]},
                    ],
                });
                fs::write(&config, rules.to_string())?;
                command.arg(flag).arg(config);
                Ok(command)
            },
            ready: "/v2/",
            access_log: None,
        }
        .start()
        .await
    }
}
