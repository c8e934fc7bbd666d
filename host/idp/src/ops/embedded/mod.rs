//! The embedded registry of this user: found, started in the background, stopped. `serve.rs` is what runs in that process.
//!
//! In: the context. Out: where it listens. Nothing is configured for it: loopback, a directory under the home, the address it had last
//! time or the first free one from port 5000 on.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use idp_oci::client::{Event, Scheme, ping};
use idp_oci::name::Registry;
use serde::Serialize;

pub use self::claim::{Claim, Found, Note, Place};
use super::context::To;
use super::{Context, Error};
use crate::config::env;
use crate::config::paths::Paths;
use crate::config::registries::Address;
use crate::config::server::ServerConfig;

mod claim;
pub mod control;
pub mod users;

/// Ports that are tried, from the first on.
const PORTS: std::ops::Range<u16> = 5000..5020;
/// A start takes milliseconds; a repair after a crash, longer.
const START: Duration = Duration::from_secs(30);
/// Requests under way get their answer first.
const STOP: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The log of the process in the background is begun anew beyond this.
const LONGEST_LOG: u64 = 8 * 1024 * 1024;
/// Where idpbuilder serves its Gitea.
const GITEA: &str = "gitea.cnoe.localtest.me:8443";

/// What is to be started, as `idp registry start` takes it.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Arguments for `idp registry serve`.
    pub arguments: Vec<String>,
}

/// How it is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Whether there is a process.
    pub running: bool,
    /// What it says of itself.
    #[serde(flatten)]
    pub note: Option<Note>,
    /// How long it has been running, in seconds.
    pub seconds: Option<u64>,
    /// Whether it answers.
    pub answers: bool,
    /// Where it logs to.
    pub log: Option<PathBuf>,
}

impl Status {
    /// For people.
    pub fn text(&self) -> String {
        let Some(note) = self.note.as_ref().filter(|_| self.running) else {
            return "not running; `idp registry start` starts it, and so does the first push that names no registry\n"
                .to_owned();
        };
        let answers = if self.answers { "answers" } else { "does NOT answer" };
        let scheme = if note.tls { "https" } else { "http" };
        let mut text = format!(
            "running at {scheme}://{}, {answers}\nprocess   {}, for {} s\ncontent   {}\n",
            note.address,
            note.pid,
            self.seconds.unwrap_or_default(),
            note.root.display(),
        );
        if let Some(ca) = &note.ca {
            text += &format!("trust     {}\n", ca.display());
        }
        if let Some(log) = &self.log {
            text += &format!("log       {}\n", log.display());
        }
        text
    }
}

fn place(paths: &Paths) -> Result<Place, Error> {
    let state = paths.state().ok_or_else(|| {
        Error::Usage(
            "there is no home directory: give --root DIR, or --memory, to serve in the foreground".to_owned(),
        )
    })?;
    Ok(Place::new(&state))
}

/// Becomes the registry of this user.
pub fn claim(paths: &Paths) -> Result<Claim, Error> {
    place(paths)?.claim()
}

/// What there is.
pub fn look(paths: &Paths) -> Found {
    place(paths).map_or(Found::None(None), |place| place.look())
}

/// Where a registry listens that is told nothing: where it did before, else the first of these that is free.
pub fn preferred(paths: &Paths) -> Vec<SocketAddr> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let last = match look(paths) {
        Found::None(last) => last.filter(|address| address.ip().is_loopback()),
        Found::Running(_) | Found::Starting => None,
    };
    last.into_iter().chain(PORTS.map(loopback)).chain([loopback(0)]).collect()
}

/// Starts it unless it runs. True when it was started.
pub async fn start(context: &Context, start: &Start) -> Result<(Note, bool), Error> {
    let place = place(&context.paths)?;
    let log = context.paths.registry_log().unwrap_or_default();
    let mut child: Option<Child> = None;
    let began = Instant::now();
    let mut started = false;
    loop {
        match place.look() {
            Found::Running(note) if answers(context, &note).await => return Ok((note, started)),
            Found::None(_) if child.is_none() => {
                child = Some(spawn(start, &log)?);
                started = true;
            }
            Found::Running(_) | Found::Starting | Found::None(_) => {}
        }
        if let Some(running) = &mut child
            && let Ok(Some(status)) = running.try_wait()
        {
            // Another process was faster.
            if let Found::Running(note) = place.look() {
                return Ok((note, false));
            }
            return Err(Error::Io {
                what: format!("starting the embedded registry, which ended with {status}"),
                error: std::io::Error::other(last_words(&log)),
            });
        }
        if began.elapsed() > START {
            return Err(Error::Io {
                what: format!("waiting {} s for the embedded registry", START.as_secs()),
                error: std::io::Error::other(format!("it does not answer; its log: {}", log.display())),
            });
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = context.cancel.cancelled() => return Err(Error::interrupted()),
        }
    }
}

fn spawn(start: &Start, log: &Path) -> Result<Child, Error> {
    let io = |what: &str| {
        let what = format!("{what} the embedded registry");
        move |error| Error::Io { what: what.clone(), error }
    };
    if let Some(folder) = log.parent() {
        fs_err::create_dir_all(folder).map_err(io("making a directory for"))?;
    }
    if std::fs::metadata(log).is_ok_and(|found| found.len() > LONGEST_LOG) {
        let _ = std::fs::rename(log, log.with_extension("log.1"));
    }
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .map_err(io("opening the log of"))?;
    let program = std::env::current_exe().map_err(io("finding the program of"))?;
    let mut command = Command::new(program);
    command
        .args(["registry", "serve", "--background"])
        .args(&start.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .current_dir("/")
        // Ctrl-C in this terminal is not for it.
        .process_group(0);
    // It lives long, and has no use for what this command was given.
    for variable in [env::REGISTRY_USERNAME, env::REGISTRY_PASSWORD, env::REGISTRY_TOKEN] {
        command.env_remove(variable.name);
    }
    command.spawn().map_err(io("starting"))
}

/// The end of the log.
fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let told: Vec<&str> = lines[lines.len().saturating_sub(4)..].iter().map(|line| line.trim()).collect();
    if told.is_empty() { format!("it said nothing in {}", log.display()) } else { told.join("; ") }
}

async fn answers(context: &Context, note: &Note) -> bool {
    let registry = registry_of(note);
    let Ok(http) = super::choose::http(context, &registry) else { return false };
    let scheme = if note.tls { Scheme::Https } else { Scheme::Http };
    tokio::time::timeout(Duration::from_secs(2), ping(&http, &registry, scheme))
        .await
        .is_ok_and(|answer| answer.is_ok_and(|answer| answer.status.as_u16() < 500))
}

/// How it is called in references.
pub fn registry_of(note: &Note) -> Registry {
    let address = if note.address.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, note.address.port()))
    } else {
        note.address
    };
    address.to_string().parse().expect("an address is a registry's name")
}

/// The certificate authority of the embedded registry, if this is its address.
pub(super) fn authority(context: &Context, registry: &Registry) -> Option<PathBuf> {
    match look(&context.paths) {
        Found::Running(note) if registry_of(&note) == *registry => note.ca,
        _ => None,
    }
}

/// Ends it: what is under way gets its answer. `None` when there was nothing to end.
pub async fn stop(context: &Context) -> Result<Option<Note>, Error> {
    let place = place(&context.paths)?;
    let began = Instant::now();
    let mut told = None;
    loop {
        match (place.look(), &told) {
            (Found::None(_), _) => return Ok(told),
            (Found::Running(note), None) => {
                let signal = |error: rustix::io::Errno| Error::Io {
                    what: format!("ending process {}", note.pid),
                    error: error.into(),
                };
                if let Some(pid) = rustix::process::Pid::from_raw(note.pid) {
                    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(signal)?;
                }
                told = Some(note);
            }
            (Found::Running(_) | Found::Starting, _) => {}
        }
        if began.elapsed() > STOP {
            let pid = told.map_or_else(|| "its process".to_owned(), |note| format!("process {}", note.pid));
            return Err(Error::Io {
                what: "stopping the embedded registry".to_owned(),
                error: std::io::Error::other(format!("{pid} has not ended after {} s", STOP.as_secs())),
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Has a task done with a registry's content, whether it is served or not.
pub async fn ask(
    context: &Context,
    root: Option<&Path>,
    config: Option<&Path>,
    task: control::Task,
) -> Result<serde_json::Value, Error> {
    // The settings of this user speak of this user's registry.
    let settings = match (root, config) {
        (Some(_), None) => ServerConfig::default(),
        (_, config) => ServerConfig::of(&context.paths, config)?,
    };
    if let Some(bucket) = settings.bucket.as_ref().filter(|_| root.is_none()) {
        return control::ask_bucket(context, bucket, task).await;
    }
    let root = super::serve::root_of(context, root, &settings)?;
    control::ask(root, settings.store(), task).await
}

/// How it is.
pub async fn status(context: &Context) -> Status {
    let log = context.paths.registry_log().filter(|log| log.exists());
    match look(&context.paths) {
        Found::Running(note) => {
            let answers = answers(context, &note).await;
            Status { running: true, seconds: Some(note.age().as_secs()), note: Some(note), answers, log }
        }
        Found::Starting | Found::None(_) => {
            Status { running: false, note: None, seconds: None, answers: false, log }
        }
    }
}

/// The registry of names that have none, where nothing is configured: idpbuilder's Gitea when it answers, else the embedded registry,
/// which is started when it is not running. The choice is told.
pub(super) async fn find(context: &Context, to: To) -> Result<Option<Address>, Error> {
    let note = |text: String| context.progress.event(Event::Note { text });
    if let Some(address) = gitea().await {
        note(format!(
            "No registry is configured: using idpbuilder's Gitea at {}, which answers",
            address.registry
        ));
        return Ok(Some(address));
    }
    // Who looks for something finds it where something was brought before.
    let is_made = context.paths.registry().is_some_and(|root| root.exists());
    if context.paths.home.is_none()
        || (to == To::Read && !is_made && !matches!(look(&context.paths), Found::Running(_)))
    {
        return Ok(None);
    }
    let (found, started) = start(context, &Start::default()).await?;
    let registry = registry_of(&found);
    let how = if started { "started now; `idp registry stop` ends it" } else { "running" };
    note(format!("No registry is configured: using the embedded registry at {registry} ({how})"));
    Ok(Some(Address { registry, plain_http: !found.tls }))
}

/// Only a registry counts: much else listens at 8443. Nothing secret is sent, so its certificate does not matter yet.
async fn gitea() -> Option<Address> {
    let port = GITEA.rsplit_once(':')?.1.parse().ok()?;
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // The name stands for this machine everywhere: who does not listen here need not be looked up.
    let connected = tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(here));
    drop(connected.await.ok()?.ok()?);
    let registry: Registry = GITEA.parse().ok()?;
    let options = idp_oci::client::http::HttpOptions {
        insecure: true,
        idle_timeout: Duration::from_secs(2),
        ..Default::default()
    };
    let http = idp_oci::client::http::Http::new(options);
    let asked = tokio::time::timeout(Duration::from_secs(3), ping(&http, &registry, Scheme::Https));
    let answer = asked.await.ok()?.ok()?;
    let is_registry = answer.headers.contains_key("docker-distribution-api-version")
        || answer.headers.get("www-authenticate").is_some_and(|value| {
            value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("bearer realm="))
        });
    is_registry.then_some(Address { registry, plain_http: false })
}

#[cfg(test)]
mod tests {
    use super::{Note, claim, preferred};
    use crate::config::env::Environment;
    use crate::config::paths::Paths;

    /// References to it stay good.
    #[test]
    fn the_address_of_last_time_comes_first() {
        let home = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(&Environment::of([("HOME", home.path().to_str().expect("UTF-8"))]));
        assert_eq!(preferred(&paths)[0].to_string(), "127.0.0.1:5000");
        assert_eq!(preferred(&paths).last().expect("some").port(), 0);
        for (address, first) in [("127.0.0.1:7777", "127.0.0.1:7777"), ("10.0.0.1:7777", "127.0.0.1:5000")] {
            let mine = claim(&paths).expect("claimed");
            let note = Note {
                pid: 1,
                address: address.parse().expect("an address"),
                root: home.path().to_owned(),
                ca: None,
                tls: false,
                since: 0,
                version: "0".to_owned(),
            };
            mine.announce(&note).expect("announced");
            drop(mine);
            assert_eq!(preferred(&paths)[0].to_string(), first);
        }
    }
}
