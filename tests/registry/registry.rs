//! A registry in this process, and the programs that are pointed at it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use idp_oci::server::access::{Access, Open};
use idp_oci::server::{ServeOptions, serve};
use idp_oci::store::Store;
use idp_oci::store::fs::FsStore;
use idp_oci::store::memory::MemoryStore;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Which store a registry is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Memory,
    Fs,
}

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct TestRegistry {
    /// `127.0.0.1:port`
    pub(crate) address: String,
    runtime: Runtime,
    server: Option<JoinHandle<std::io::Result<()>>>,
    shutdown: CancellationToken,
    _directory: tempfile::TempDir,
}

impl TestRegistry {
    pub(crate) fn start(kind: Kind) -> Self {
        Self::with_access(kind, Arc::new(Open))
    }

    pub(crate) fn with_access(kind: Kind, access: Arc<dyn Access>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let shutdown = CancellationToken::new();
        let (address, server) = runtime.block_on(async {
            let store: Arc<dyn Store> = match kind {
                Kind::Memory => Arc::new(MemoryStore::default()),
                Kind::Fs => Arc::new(FsStore::open(directory.path()).await.expect("a store")),
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let options = ServeOptions { access, ..ServeOptions::new(listener, store) };
            (address, tokio::spawn(serve(options, shutdown.clone())))
        });
        Self { address, runtime, server: Some(server), shutdown, _directory: directory }
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(server) = self.server.take() {
            let ended = self.runtime.block_on(server);
            if !std::thread::panicking() {
                ended.expect("no panic").expect("served");
            }
        }
    }
}

/// A program that `tests/peers/build` put in its place, or one on the PATH. Says when there is none.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let peers = std::env::var_os("IDP_PEERS_DIR")
        .filter(|value| !value.is_empty())
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(peers.join("bin"))
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        let required = std::env::var_os("IDP_REQUIRE_PEERS").is_some_and(|value| value == "1");
        let excused = std::env::var("IDP_PEERS_EXCUSED").unwrap_or_default();
        let excused = excused.split(',').any(|entry| entry.trim() == name);
        let missing = format!("`{name}` is neither in {} nor on the PATH", peers.join("bin").display());
        assert!(!required || excused, "IDP_REQUIRE_PEERS=1, and {missing}");
        // Straight to the terminal: the harness keeps what macros print of a test that passes.
        let current = std::thread::current();
        let test = current.name().unwrap_or("a test");
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {missing}");
    }
    found
}
