//! zot, an OCI-native registry: referrers, sha512, mount and single-request uploads that distribution does not have.
//!
//! In: optional credentials. Out: a [`Server`] with an access log; the minimal build, Docker media types allowed.

use std::fs;
use std::process::Command;

use super::access::Format;
use super::server::{LOG, Plan, Server, htpasswd};
use super::{Unavailable, built};

/// Starts zot.
#[derive(Debug)]
pub struct Zot;

impl Zot {
    /// A server with its storage in a directory; `auth` is user and password for a htpasswd file, `None` for an open
    /// server.
    pub async fn start(auth: Option<(String, String)>) -> Result<Server, Unavailable> {
        let program = built("zot")?;
        Plan {
            peer: "zot",
            prepare: &|dir, port| {
                let mut config = serde_json::json!({
                    "distSpecVersion": "1.1.1",
                    "storage": {"rootDirectory": dir.join("data"), "gc": false},
                    "http": {"address": "127.0.0.1", "port": port.to_string(), "compat": ["docker2s2"]},
                    "log": {"level": "info"},
                });
                if let Some((user, password)) = &auth {
                    let users = dir.join("htpasswd");
                    fs::write(&users, htpasswd(user, password)?)?;
                    config["http"]["auth"] = serde_json::json!({"htpasswd": {"path": users}});
                }
                let file = dir.join("config.json");
                fs::write(&file, config.to_string())?;
                let mut command = Command::new(&program);
                command.arg("serve").arg(file);
                Ok(command)
            },
            ready: "/v2/",
            access_log: Some((LOG, Format::ZotJson)),
        }
        .start()
        .await
    }
}
