//! The embedded registry, in this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idp_oci::server::htpasswd::Htpasswd;
use idp_oci::server::{self, ServeOptions};
use idp_oci::store::Store;
use idp_oci::store::fs::FsStore;
use idp_oci::store::memory::MemoryStore;
use tokio::net::TcpListener;

use super::embedded::{self, Note};
use super::{Context, Error};
use crate::config::server::ServerConfig;

/// The port of a registry that is told nothing and serves in the foreground.
const PORT: u16 = 5000;

/// What is served, where and to whom.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Address and port; port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// The directory of the content; that of `registry.yaml`, else `~/.idpbuilder/registry`.
    pub root: Option<PathBuf>,
    /// In memory instead.
    pub memory: bool,
    /// Users with bcrypt hashes; everybody is let in unless given.
    pub htpasswd: Option<PathBuf>,
    /// Settings; `~/.idpbuilder/registry.yaml` unless given.
    pub config: Option<PathBuf>,
    /// This is the process in the background: it takes a free port where it is told none.
    pub background: bool,
}

/// Serves until the context is cancelled. `ready` is told the address as soon as clients can connect.
pub async fn serve(
    context: &Context,
    request: Request,
    ready: impl FnOnce(SocketAddr) -> io::Result<()>,
) -> Result<(), Error> {
    let io = |what: String| move |error| Error::Io { what, error };
    let file = request.config.clone().or_else(|| context.paths.registry_settings());
    let config = ServerConfig::load(file.as_deref(), request.config.is_some())?;
    // A registry that was told its own place is nobody's but its caller's.
    let is_ours = request.background || (!request.memory && request.root.is_none());
    if request.background {
        let _ = rustix::process::setsid();
    }
    let claim =
        if is_ours && context.paths.home.is_some() { Some(embedded::claim(&context.paths)?) } else { None };
    let root = root(context, &request, &config)?;
    let store: Arc<dyn Store> = match &root {
        None => Arc::new(MemoryStore::default()),
        Some(root) => open(root).await?,
    };
    let listener = listen(context, &request, &config).await?;
    let address = listener.local_addr().map_err(io("asking for the address".to_owned()))?;
    let mut options = ServeOptions::new(listener, store);
    options.grace = Duration::from_secs(2);
    if let Some(file) = &request.htpasswd {
        let users = Htpasswd::read(file).map_err(|error| Error::Io {
            what: "reading users".to_owned(),
            error: io::Error::other(error),
        })?;
        options.access = Arc::new(users);
    }
    if let Some(claim) = &claim {
        let note = Note {
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            address,
            root: root.unwrap_or_default(),
            ca: None,
            tls: false,
            since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        claim.announce(&note).map_err(io("saying where the registry listens".to_owned()))?;
    }
    ready(address).map_err(io("saying that the registry is ready".to_owned()))?;
    server::serve(options, context.cancel.clone()).await.map_err(io("serving".to_owned()))
}

/// Where the content is; `None` for memory.
fn root(context: &Context, request: &Request, config: &ServerConfig) -> Result<Option<PathBuf>, Error> {
    if request.memory {
        return Ok(None);
    }
    let configured = config.root.as_deref().map(|root| config.resolve(root));
    let root =
        request.root.clone().or(configured).or_else(|| context.paths.registry()).ok_or_else(|| {
            Error::Usage("there is no home directory: give --root DIR, or --memory".to_owned())
        })?;
    std::path::absolute(&root)
        .map(Some)
        .map_err(|error| Error::Io { what: format!("finding `{}`", root.display()), error })
}

async fn open(root: &Path) -> Result<Arc<dyn Store>, Error> {
    let failed =
        |error: io::Error| Error::Io { what: format!("opening the registry in `{}`", root.display()), error };
    fs_err::create_dir_all(root).map_err(failed)?;
    let opened = FsStore::open(root).await;
    Ok(Arc::new(opened.map_err(|error| failed(io::Error::other(error)))?))
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
