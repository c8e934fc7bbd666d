//! The embedded registry, in this process.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idp_oci::server::auth::AuthKind;
use idp_oci::server::tls::Tls;
use idp_oci::server::{self, BesideOptions, Limits, Registry, ServeOptions, WebhookTargets, auth};
use idp_oci::store::Store;
use idp_oci::store::fs::FsStore;
use idp_oci::store::memory::MemoryStore;
use idp_oci::store::object::{BucketStore, SweepOptions};
use tokio::net::TcpListener;

use super::embedded::{self, Note, control};
use super::{Context, Error};
use crate::config::server::ServerConfig;

/// The port of a registry that is told nothing and serves in the foreground.
const PORT: u16 = 5000;

/// Where object stores' own credentials stand in the environment.
pub(super) const VENDORS: &[&str] = &["AWS_", "GOOGLE_", "AZURE_"];

/// What is served, where and to whom.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Address and port; port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// The directory of the content; that of `registry.yaml`, else `~/.idpbuilder/registry`.
    pub root: Option<PathBuf>,
    /// In memory instead.
    pub memory: bool,
    /// Users with bcrypt hashes, instead of what the settings say.
    pub htpasswd: Option<PathBuf>,
    /// HTTPS, whatever the settings say.
    pub tls: bool,
    /// Settings; `~/.idpbuilder/registry.yaml` unless given.
    pub config: Option<PathBuf>,
    /// This is the process in the background: it takes a free port where it is told none.
    pub background: bool,
}

/// What a registry is over.
enum Kept {
    Memory(Arc<MemoryStore>),
    Directory(FsStore),
    Bucket(BucketStore),
}

impl Kept {
    fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => Arc::clone(store) as Arc<dyn Store>,
            Self::Directory(store) => Arc::new(store.clone()),
            Self::Bucket(store) => Arc::new(store.clone()),
        }
    }
}

/// Serves until the context is cancelled. `ready` is told the address as soon as clients can connect.
pub async fn serve(
    context: &Context,
    request: Request,
    ready: impl FnOnce(SocketAddr) -> io::Result<()>,
) -> Result<(), Error> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |error| Error::Io { what, error }
    };
    let config = settings(context, &request)?;
    // A registry that was told its own place is nobody's but its caller's.
    let is_ours =
        request.background || (!request.memory && request.root.is_none() && request.config.is_none());
    if request.background {
        let _ = rustix::process::setsid();
    }
    let is_ours = is_ours && context.paths.home.is_some();
    let claim = if is_ours { Some(embedded::claim(&context.paths)?) } else { None };
    // A registry in memory keeps its keys and certificates no longer than itself.
    let passing =
        if request.memory { Some(tempfile::tempdir().map_err(io("making a directory"))?) } else { None };
    let root = match &passing {
        Some(passing) => passing.path().to_owned(),
        None => root_of(context, request.root.as_deref(), &config)?,
    };
    let kept = open(context, &request, &config, &root).await?;
    let listener = listen(context, &request, &config).await?;
    let address = listener.local_addr().map_err(io("asking for the address"))?;
    let mut options = ServeOptions::new(listener, kept.store());
    configure(&mut options, &config, &root, &kept)?;
    if let Some(claim) = &claim {
        let note = Note {
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            address,
            root: root.clone(),
            ca: options.tls.as_ref().and_then(|tls| tls.authority().map(Path::to_owned)),
            tls: options.tls.is_some(),
            since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        claim.announce(&note).map_err(io("saying where the registry listens"))?;
    }
    let shutdown = context.cancel.clone();
    options.started =
        Some(Box::new(move |registry: &Registry| tend(&kept, &config, root, registry, &shutdown)));
    ready(address).map_err(io("saying that the registry is ready"))?;
    server::serve(options, context.cancel.clone()).await.map_err(io("serving"))
}

/// What is done beside serving: garbage is collected, and tasks are taken.
fn tend(
    kept: &Kept,
    config: &ServerConfig,
    root: PathBuf,
    registry: &Registry,
    shutdown: &tokio_util::sync::CancellationToken,
) {
    match kept {
        Kept::Memory(_) => {}
        Kept::Directory(store) => {
            let busy = |registry: Registry| move || -> HashSet<String> { registry.uploads().repositories() };
            let (store, collection, cancel) = (store.clone(), config.collection.clone(), shutdown.clone());
            let (tasks, here) = (store.clone(), busy(registry.clone()));
            tokio::spawn(async move { store.collect_regularly(&collection, here, cancel).await });
            let (here, cancel) = (busy(registry.clone()), shutdown.clone());
            tokio::spawn(async move { control::serve(&root, tasks, here, cancel).await });
        }
        Kept::Bucket(store) => {
            let (store, cancel) = (store.clone(), shutdown.clone());
            let interval = config.collection.interval();
            tokio::spawn(async move {
                let Some(interval) = interval else { return };
                while cancel.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
                    if let Err(error) = store.sweep(SweepOptions::default()).await {
                        tracing::warn!(target: "idp::registry", %error, "garbage was not collected");
                    }
                }
            });
        }
    }
}

/// The settings, as the flags change them.
fn settings(context: &Context, request: &Request) -> Result<ServerConfig, Error> {
    // A registry in memory, or at a place of its own, is not the one that the user's settings speak of.
    let of_the_user = !request.memory && request.root.is_none();
    let mut config = match &request.config {
        None if !of_the_user => ServerConfig::default(),
        file => ServerConfig::of(&context.paths, file.as_deref())?,
    };
    if let Some(users) = &request.htpasswd {
        config.auth.kind = AuthKind::Htpasswd;
        config.auth.users = Some(users.clone());
    }
    config.tls.enabled |= request.tls;
    Ok(config)
}

/// The directory of the content, and of what the registry keeps beside it.
pub(super) fn root_of(
    context: &Context,
    given: Option<&Path>,
    config: &ServerConfig,
) -> Result<PathBuf, Error> {
    let root = given.map(Path::to_owned).or_else(|| config.root.clone()).or_else(|| context.paths.registry());
    let root = root
        .ok_or_else(|| Error::Usage("there is no home directory: give --root DIR, or --memory".to_owned()))?;
    std::path::absolute(&root)
        .map_err(|error| Error::Io { what: format!("finding `{}`", root.display()), error })
}

async fn open(
    context: &Context,
    request: &Request,
    config: &ServerConfig,
    root: &Path,
) -> Result<Kept, Error> {
    let failed =
        |error: io::Error| Error::Io { what: format!("opening the registry in `{}`", root.display()), error };
    if request.memory {
        return Ok(Kept::Memory(Arc::new(MemoryStore::default())));
    }
    fs_err::create_dir_all(root).map_err(failed)?;
    if let Some(bucket) = config.bucket.as_ref().filter(|_| request.root.is_none()) {
        let opened = BucketStore::open(bucket, context.env.beginning(VENDORS)).await;
        let store = opened.map_err(|error| Error::Io {
            what: format!("opening the registry in `{}`", bucket.url),
            error: io::Error::other(error),
        })?;
        return Ok(Kept::Bucket(store));
    }
    let opened = FsStore::open_with(root, config.store()).await;
    Ok(Kept::Directory(opened.map_err(|error| failed(io::Error::other(error)))?))
}

/// Everything that settings say of how it is served.
fn configure(
    options: &mut ServeOptions,
    config: &ServerConfig,
    root: &Path,
    kept: &Kept,
) -> Result<(), Error> {
    let wrong = |what: &str| {
        let what = what.to_owned();
        move |error: Box<dyn std::error::Error + Send + Sync>| Error::Io {
            what,
            error: io::Error::other(error),
        }
    };
    options.grace = Duration::from_secs(2);
    let rates = config.rates.rates();
    options.limits = Limits::new(&config.limits, rates);
    options.proxies =
        config.rates.proxies().map_err(|error| wrong("`rates.trustedProxies`")(error.into()))?;
    options.access = auth::access(&config.auth, root, rates.failed_logins)
        .map_err(|error| wrong("`auth`")(error.into()))?;
    if config.tls.enabled {
        let tls = Tls::open(&config.tls, &root.join("tls"), SystemTime::now())
            .map_err(|error| wrong("`tls`")(error.into()))?;
        options.tls = Some(Arc::new(tls));
    }
    let webhooks =
        WebhookTargets::open(&config.webhooks).map_err(|error| wrong("`webhooks`")(error.into()))?;
    options.beside = BesideOptions {
        metrics: config.metrics.clone(),
        health: config.health.clone(),
        directory: matches!(kept, Kept::Directory(_)).then(|| root.to_owned()),
        webhooks,
        web: config.web.clone(),
    };
    Ok(())
}

async fn listen(context: &Context, request: &Request, config: &ServerConfig) -> Result<TcpListener, Error> {
    let failed =
        |address: SocketAddr| move |error| Error::Io { what: format!("listening at `{address}`"), error };
    if let Some(address) = request.listen.or(config.listen) {
        return TcpListener::bind(address).await.map_err(failed(address));
    }
    let first = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    if !request.background {
        return TcpListener::bind(first).await.map_err(failed(first));
    }
    let mut last = None;
    for address in embedded::preferred(&context.paths) {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(failed(address)(error)),
        }
    }
    Err(last.unwrap_or_else(|| failed(first)(io::ErrorKind::AddrInUse.into())))
}
