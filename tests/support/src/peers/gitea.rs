//! Gitea with its container registry: sqlite, one administrator, and helpers for organisations, users and access tokens.
//!
//! In: nothing. Out: [`Gitea`], a [`Server`] with an access log and an API to prepare owners and credentials.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::access::Format;
use super::http::Call;
use super::server::{Plan, Server, isolate};
use super::{Unavailable, built, peers_dir};

const PEER: &str = "gitea";
/// The line before what 1.24 mended in the container registry.
const OLD: &str = "gitea-1.23";
const ADMIN: (&str, &str) = ("idp-admin", "peer-password-1");

/// Which Gitea, and how it is configured besides.
#[derive(Debug, Clone, Default)]
pub struct GiteaOptions {
    /// 1.23 instead of the newest.
    pub old: bool,
    /// Lines of the section `[packages]`: `LIMIT_SIZE_CONTAINER = 1 KiB`.
    pub packages: &'static str,
    /// `ROOT_URL`, where it is not the address; `{port}` is that of the server.
    pub root_url: Option<&'static str>,
    /// Lives under a path itself, which `root_url` names then.
    pub under_path: bool,
}

/// Gitea on loopback. Dropping it kills the process and deletes its data.
#[derive(Debug)]
pub struct Gitea {
    server: Server,
}

impl std::ops::Deref for Gitea {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Gitea {
    /// Starts it with an empty database and one administrator.
    pub async fn start() -> Result<Self, Unavailable> {
        Self::with(&GiteaOptions::default()).await
    }

    /// The same, configured.
    pub async fn with(options: &GiteaOptions) -> Result<Self, Unavailable> {
        let peer = if options.old { OLD } else { PEER };
        let program = built(peer)?;
        let share = std::path::absolute(peers_dir()).unwrap_or_default().join("share").join(peer);
        let server = Plan {
            peer,
            prepare: &|dir, port| {
                let config = dir.join("app.ini");
                fs::write(&config, app_ini(dir, &share, port, options))?;
                run(&program, dir, &["migrate"])?;
                let (user, password) = ADMIN;
                let email = format!("{user}@example.invalid");
                let create = [
                    "admin",
                    "user",
                    "create",
                    "--admin",
                    "--must-change-password=false",
                    "--username",
                    user,
                ];
                run(&program, dir, &[&create[..], &["--password", password, "--email", &email]].concat())?;
                Ok(command(&program, dir, &["web"]))
            },
            ready: if options.under_path { "/v2/" } else { "/api/v1/version" },
            access_log: Some(("log/access.log", Format::Combined)),
        }
        .start()
        .await?;
        Ok(Self { server })
    }

    /// User name and password of the administrator, who may also push to `idp-admin/…`.
    pub fn admin(&self) -> (&'static str, &'static str) {
        ADMIN
    }

    /// Makes an organisation owned by the administrator; `visibility` is `public`, `limited` or `private`.
    pub async fn create_organisation(&self, name: &str, visibility: &str) -> Result<(), Unavailable> {
        self.post("/api/v1/orgs", ADMIN, &json!({"username": name, "visibility": visibility})).await?;
        Ok(())
    }

    /// Makes an ordinary user, who may push to `name/…` only.
    pub async fn create_user(&self, name: &str, password: &str) -> Result<(), Unavailable> {
        let user = json!({
            "username": name, "password": password, "email": format!("{name}@example.invalid"),
            "must_change_password": false,
        });
        self.post("/api/v1/admin/users", ADMIN, &user).await?;
        Ok(())
    }

    /// Makes a personal access token of `owner` (user and password) with scopes such as `write:package`; its value.
    pub async fn create_token(
        &self,
        owner: (&str, &str),
        name: &str,
        scopes: &[&str],
    ) -> Result<String, Unavailable> {
        let path = format!("/api/v1/users/{}/tokens", owner.0);
        let answer = self.post(&path, owner, &json!({"name": name, "scopes": scopes})).await?;
        let token = answer["sha1"].as_str().map(str::to_owned);
        token.ok_or_else(|| self.server.failure(PEER, format!("POST {path} gave no token")))
    }

    async fn post(&self, path: &str, basic: (&str, &str), body: &Value) -> Result<Value, Unavailable> {
        let call = Call { method: Method::POST, path, basic: Some(basic), json: Some(body) };
        match call.send_to(self.server.address()).await {
            Ok((StatusCode::CREATED, answer)) => serde_json::from_slice(&answer)
                .map_err(|error| self.server.failure(PEER, format!("POST {path}: not JSON: {error}"))),
            Ok((status, answer)) => {
                let answer = String::from_utf8_lossy(&answer).into_owned();
                Err(self.server.failure(PEER, format!("POST {path}: {status} {answer}")))
            }
            Err(error) => Err(self.server.failure(PEER, format!("POST {path}: {error}"))),
        }
    }
}

/// The configuration: everything off that a container registry does not need.
fn app_ini(dir: &Path, share: &Path, port: u16, options: &GiteaOptions) -> String {
    let (dir, share) = (dir.display(), share.display());
    let root_url =
        options.root_url.unwrap_or("http://127.0.0.1:{port}/").replace("{port}", &port.to_string());
    let GiteaOptions { packages, under_path, .. } = options;
    format!(
        "WORK_PATH = {dir}\nRUN_MODE = prod\n\
         [server]\nPROTOCOL = http\nHTTP_ADDR = 127.0.0.1\nHTTP_PORT = {port}\n\
         ROOT_URL = {root_url}\nUSE_SUB_URL_PATH = {under_path}\nSTATIC_ROOT_PATH = {share}\nDISABLE_SSH = true\nOFFLINE_MODE = true\n\
         [database]\nDB_TYPE = sqlite3\nPATH = {dir}/gitea.db\nSQLITE_JOURNAL_MODE = WAL\n\
         [security]\nINSTALL_LOCK = true\nSECRET_KEY = of-a-throw-away-server\n\
         [service]\nDISABLE_REGISTRATION = true\n\
         [packages]\nENABLED = true\n{packages}\n\
         [actions]\nENABLED = false\n\
         [indexer]\nISSUE_INDEXER_TYPE = db\n\
         [cron]\nENABLED = false\n\
         [log]\nMODE = console\nLEVEL = Info\nROOT_PATH = {dir}/log\nlogger.access.MODE = file\n"
    )
}

fn command(program: &Path, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    isolate(&mut command, dir);
    command.arg("--config").arg(dir.join("app.ini")).args(args);
    // In a container the tests are root, whom Gitea refuses unless told so. It serves loopback and its own directory only.
    command.env("GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT", "true");
    command
}

/// Runs one of its commands to the end.
fn run(program: &Path, dir: &Path, args: &[&str]) -> io::Result<()> {
    let output = command(program, dir, args).output()?;
    if output.status.success() {
        return Ok(());
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(io::Error::other(format!("gitea {}: {}\n{out}{err}", args[0], output.status)))
}
