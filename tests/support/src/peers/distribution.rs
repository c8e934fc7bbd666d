//! CNCF distribution, the reference registry: v3 from its Go module, and 2.8 as Debian ships it.
//!
//! In: [`Options`]. Out: a [`Server`] with an access log, its storage in the filesystem.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::access::Format;
use super::server::{LOG, Plan, Server, htpasswd};
use super::{Unavailable, built, installed};

/// How to run it; the default is a registry as its own defaults make it: open to all, without delete.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// User and password for Basic authentication through a htpasswd file; `None` for no authentication.
    pub auth: Option<(String, String)>,
    /// Whether blobs and manifests may be deleted.
    pub delete: bool,
    /// A token service to trust, instead of a password.
    pub tokens: Option<Tokens>,
}

/// A token service (`auth: token`).
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Its URL.
    pub realm: String,
    /// The keys that it signs with, a JSON Web Key Set.
    pub keys: PathBuf,
}

impl Tokens {
    /// Who signs.
    pub const ISSUER: &str = "a token service for one test";
    /// For whom.
    const SERVICE: &str = "a registry for one test";
}

/// Starts CNCF distribution.
#[derive(Debug)]
pub struct Distribution;

impl Distribution {
    /// Version 3, built from its Go module.
    pub async fn v3(options: Options) -> Result<Server, Unavailable> {
        start("distribution", built("distribution")?, &options).await
    }

    /// Version 2.8, Debian's package `docker-registry`.
    pub async fn v2(options: Options) -> Result<Server, Unavailable> {
        start("docker-registry", installed("docker-registry", "docker-registry")?, &options).await
    }
}

async fn start(peer: &'static str, program: PathBuf, options: &Options) -> Result<Server, Unavailable> {
    Plan {
        peer,
        prepare: &|dir, port| {
            let mut config = serde_json::json!({
                "version": "0.1",
                "log": {"level": "info"},
                "storage": {
                    "filesystem": {"rootdirectory": dir.join("data")},
                    "delete": {"enabled": options.delete},
                },
                "http": {"addr": format!("127.0.0.1:{port}")},
                // As it comes, it takes no layer with URLs, and answers 500.
                "validation": {"manifests": {"urls": {"allow": ["^https://layers\\.example/"]}}},
            });
            if let Some((user, password)) = &options.auth {
                let users = dir.join("htpasswd");
                fs::write(&users, htpasswd(user, password)?)?;
                config["auth"] = serde_json::json!({"htpasswd": {"realm": "basic-realm", "path": users}});
            }
            if let Some(tokens) = &options.tokens {
                config["auth"] = serde_json::json!({"token": {
                    "realm": tokens.realm,
                    "service": Tokens::SERVICE,
                    "issuer": Tokens::ISSUER,
                    "jwks": tokens.keys,
                }});
            }
            // JSON is YAML.
            let file = dir.join("config.yml");
            fs::write(&file, config.to_string())?;
            let mut command = Command::new(&program);
            command.arg("serve").arg(file).env("OTEL_TRACES_EXPORTER", "none");
            Ok(command)
        },
        ready: "/v2/",
        access_log: Some((LOG, Format::Combined)),
    }
    .start()
    .await
}
