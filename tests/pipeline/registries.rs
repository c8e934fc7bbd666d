//! The registries of the matrix, started on loopback, and whom they let in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idp_test_support::peers::{
    self, Access, CraneRegistry, Distribution, Gitea, Login, Olareg, Options, Server, Unavailable, Zot,
};
use idp_test_support::sandbox::{Sandbox, Serving};

const USER: &str = "someone";
const PASSWORD: &str = "a password";

/// A running registry.
pub(crate) struct Registry {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Where repositories may be made, with a slash behind it.
    pub(crate) namespace: &'static str,
    /// User and password.
    pub(crate) login: Option<(String, String)>,
    /// The provider that it is to get.
    pub(crate) provider: &'static str,
    running: Running,
}

enum Running {
    Peer(Server),
    Gitea(Box<Gitea>),
    Own { _serving: Serving },
}

impl Registry {
    /// A reference in it.
    pub(crate) fn reference(&self, repository: &str) -> String {
        format!("{}/{}{repository}", self.address, self.namespace)
    }

    /// What was asked of it so far, where it keeps a log.
    pub(crate) async fn requests(&self) -> Option<Vec<Access>> {
        match &self.running {
            Running::Peer(server) => server.requests().await,
            Running::Gitea(gitea) => gitea.requests().await,
            Running::Own { .. } => None,
        }
    }

    /// The sandbox knows the credentials, as Docker keeps them.
    pub(crate) fn log_in(&self, sandbox: &Sandbox) {
        if let Some((user, password)) = &self.login {
            log_in(sandbox, &self.address, user, password);
        }
    }
}

/// Writes `~/.docker/config.json`.
pub(crate) fn log_in(sandbox: &Sandbox, registry: &str, user: &str, password: &str) {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let config = serde_json::json!({"auths": {registry: {"auth": auth}}});
    sandbox.write_private("home/.docker/config.json", &config.to_string());
}

fn who() -> (String, String) {
    (USER.to_owned(), PASSWORD.to_owned())
}

fn peer(
    started: Result<Server, Unavailable>,
    name: &str,
    login: Option<(String, String)>,
) -> Option<Registry> {
    let server = peers::require(started, name)?;
    let address = server.address().to_owned();
    Some(Registry { address, namespace: "team/", login, provider: "generic", running: Running::Peer(server) })
}

fn options(login: Option<&(String, String)>) -> Options {
    Options { auth: login.cloned(), ..Options::default() }
}

/// CNCF distribution 2.8, as Debian ships it.
pub(crate) async fn distribution_2(login: bool) -> Option<Registry> {
    let login = login.then(who);
    peer(Distribution::v2(options(login.as_ref())).await, "docker-registry", login)
}

/// CNCF distribution 3.
pub(crate) async fn distribution_3(login: bool) -> Option<Registry> {
    let login = login.then(who);
    peer(Distribution::v3(options(login.as_ref())).await, "distribution", login)
}

/// olareg without authentication.
pub(crate) async fn olareg_open() -> Option<Registry> {
    peer(Olareg::start(Login::Open).await, "olareg", None)
}

/// olareg with Basic.
pub(crate) async fn olareg_basic() -> Option<Registry> {
    peer(Olareg::start(Login::Basic(USER.into(), PASSWORD.into())).await, "olareg", Some(who()))
}

/// olareg with tokens.
pub(crate) async fn olareg_token() -> Option<Registry> {
    peer(Olareg::start(Login::Token(USER.into(), PASSWORD.into())).await, "olareg", Some(who()))
}

/// The registry inside crane.
pub(crate) async fn crane() -> Option<Registry> {
    peer(CraneRegistry::start().await, "crane", None)
}

/// zot.
pub(crate) async fn zot(login: bool) -> Option<Registry> {
    let login = login.then(who);
    peer(Zot::start(login.clone()).await, "zot", login)
}

/// Gitea, as its administrator with a password.
pub(crate) async fn gitea() -> Option<Registry> {
    let gitea = peers::require(Gitea::start().await, "gitea")?;
    let (user, password) = gitea.admin();
    Some(Registry {
        address: gitea.address().to_owned(),
        namespace: "idp-admin/",
        login: Some((user.to_owned(), password.to_owned())),
        provider: "gitea",
        running: Running::Gitea(Box::new(gitea)),
    })
}

/// `idp registry serve`, on the filesystem or in memory, open or with a htpasswd file.
pub(crate) fn own(sandbox: &Sandbox, memory: bool, login: bool) -> Registry {
    let mut arguments = if memory { vec!["--memory"] } else { vec!["--root", "registry"] };
    let login = login.then(who);
    if let Some((user, password)) = &login {
        let hash = bcrypt::hash(password, 4).expect("hashed");
        sandbox.write_private("work/users", &format!("{user}:{hash}\n"));
        arguments.extend(["--htpasswd", "users"]);
    }
    let serving = sandbox.serve(&arguments);
    Registry {
        address: serving.address.clone(),
        namespace: "team/",
        login,
        provider: "generic",
        running: Running::Own { _serving: serving },
    }
}
