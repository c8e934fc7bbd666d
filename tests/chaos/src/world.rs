//! A registry, the front before it, and a home for the binary that knows how to log in there.

use std::path::Path;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idp_test_support::peers::{Distribution, Gitea, Login, Olareg, Options, Server, Zot};
use idp_test_support::sandbox::{Sandbox, Serving};

use crate::front::Front;

/// The registries, by the names that rows of `seeds` use.
pub(crate) const KINDS: &[&str] = &["distribution", "gitea", "olareg", "zot", "own"];

/// A registry with everything around it.
pub(crate) struct World {
    pub(crate) kind: &'static str,
    /// Past the front.
    pub(crate) direct: String,
    pub(crate) front: Front,
    pub(crate) sandbox: Sandbox,
    /// Where repositories may be made, with a slash behind it.
    pub(crate) namespace: &'static str,
    pub(crate) login: Option<(String, String)>,
    _running: Running,
}

enum Running {
    Peer { _server: Server },
    Gitea { _gitea: Box<Gitea> },
    Own { _serving: Serving, _home: Box<Sandbox> },
}

impl World {
    /// Starts a kind of registry. One that is not here is an error that says so.
    pub(crate) async fn start(kind: &'static str, binary: &Path) -> Result<Self> {
        let mut login = None;
        let mut namespace = "team/";
        let (direct, running) = match kind {
            "distribution" => peer(Distribution::v3(Options::default()).await?),
            "olareg" => {
                let (user, password) = ("someone".to_owned(), "a password".to_owned());
                login = Some((user.clone(), password.clone()));
                peer(Olareg::start(Login::Basic(user, password)).await?)
            }
            "zot" => peer(Zot::start(None).await?),
            "gitea" => {
                let gitea = Gitea::start().await?;
                let (user, password) = gitea.admin();
                login = Some((user.to_owned(), password.to_owned()));
                namespace = "idp-admin/";
                (gitea.address().to_owned(), Running::Gitea { _gitea: Box::new(gitea) })
            }
            "own" => {
                let home = Sandbox::new(binary);
                let serving = home.serve(&["--root", "registry"]);
                (serving.address.clone(), Running::Own { _serving: serving, _home: Box::new(home) })
            }
            other => bail!("there is no registry `{other}`; known: {}", KINDS.join(", ")),
        };
        let front = Front::start(&direct).await?;
        let mut sandbox = Sandbox::new(binary);
        std::fs::create_dir_all(sandbox.path("tmp"))?;
        let temporary = sandbox.path("tmp").display().to_string();
        sandbox.set_env("TMPDIR", &temporary);
        let cache = sandbox.path("cache").display().to_string();
        sandbox.set_env("IDPBUILDER_OCI_CACHE_DIR", &cache);
        if let Some((user, password)) = &login {
            let auth = STANDARD.encode(format!("{user}:{password}"));
            let config = serde_json::json!({"auths": {front.address(): {"auth": auth}}});
            sandbox.write_private("home/.docker/config.json", &config.to_string());
        }
        Ok(Self { kind, direct, front, sandbox, namespace, login, _running: running })
    }
}

fn peer(server: Server) -> (String, Running) {
    (server.address().to_owned(), Running::Peer { _server: server })
}
