//! The registry inside crane (`crane registry serve`, of go-containerregistry): no authentication, but a second, quite
//! different implementation, with relative `Location`s and referrers.
//!
//! In: nothing. Out: a [`Server`] without an access log.

use std::process::Command;

use super::server::{Plan, Server};
use super::{Unavailable, built};

/// Starts crane's registry.
#[derive(Debug)]
pub struct CraneRegistry;

impl CraneRegistry {
    /// A server with its blobs on disk and its manifests in memory.
    pub async fn start() -> Result<Server, Unavailable> {
        let program = built("crane")?;
        Plan {
            peer: "crane",
            prepare: &|dir, port| {
                let blobs = dir.join("blobs");
                std::fs::create_dir(&blobs)?;
                let mut command = Command::new(&program);
                command
                    .args(["registry", "serve", "--address", &format!("127.0.0.1:{port}"), "--disk"])
                    .arg(blobs);
                Ok(command)
            },
            ready: "/v2/",
            access_log: None,
        }
        .start()
        .await
    }
}
