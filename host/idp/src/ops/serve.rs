//! The embedded registry in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use idp_oci::server::htpasswd::Htpasswd;
use idp_oci::server::{self, ServeOptions};
use idp_oci::store::Store;
use idp_oci::store::fs::FsStore;
use idp_oci::store::memory::MemoryStore;
use tokio::net::TcpListener;

use super::{Context, Error};

/// What is served, where and to whom.
#[derive(Debug, Clone)]
pub struct Request {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The directory of the content; `~/.idpbuilder/registry` unless given.
    pub root: Option<PathBuf>,
    /// In memory instead.
    pub memory: bool,
    /// Users with bcrypt hashes; everybody is let in unless given.
    pub htpasswd: Option<PathBuf>,
}

/// Serves until the context is cancelled. `ready` is told the address as soon as clients can connect.
pub async fn serve(
    context: &Context,
    request: Request,
    ready: impl FnOnce(SocketAddr) -> std::io::Result<()>,
) -> Result<(), Error> {
    let io = |what: String| move |error| Error::Io { what, error };
    let store: Arc<dyn Store> = if request.memory {
        Arc::new(MemoryStore::default())
    } else {
        let root = request.root.or_else(|| context.paths.registry()).ok_or_else(|| {
            Error::Usage("there is no home directory: give --root DIR, or --memory".to_owned())
        })?;
        fs_err::create_dir_all(&root).map_err(io(format!("making `{}`", root.display())))?;
        let opened = FsStore::open(&root).await;
        Arc::new(opened.map_err(|error| Error::Io {
            what: format!("opening the registry in `{}`", root.display()),
            error: std::io::Error::other(error),
        })?)
    };
    let listener =
        TcpListener::bind(request.listen).await.map_err(io(format!("listening at `{}`", request.listen)))?;
    let address = listener.local_addr().map_err(io("asking for the address".to_owned()))?;
    let mut options = ServeOptions::new(listener, store);
    options.grace = std::time::Duration::from_secs(2);
    if let Some(file) = &request.htpasswd {
        let users = Htpasswd::read(file).map_err(|error| Error::Io {
            what: "reading users".to_owned(),
            error: std::io::Error::other(error),
        })?;
        options.access = Arc::new(users);
    }
    ready(address).map_err(io("saying that the registry is ready".to_owned()))?;
    server::serve(options, context.cancel.clone()).await.map_err(io("serving".to_owned()))
}
