//! An internet on loopback: a proxy that knows names, and behind each name a [`Site`] of the test's, with TLS and a certificate of a
//! throw-away authority. The binary is run as behind a company's proxy (`HTTPS_PROXY`, `SSL_CERT_FILE`), so that `ghcr.io` is spoken to as
//! `ghcr.io`: selection by name, grants and audiences are the real ones, and nothing leaves the machine. A name that no site has is
//! refused by the proxy.

pub mod certificates;
mod proxy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use bytes::Bytes;
use http::HeaderMap;

pub use crate::faults::Reply;
use crate::faults::url_pairs;
use crate::sandbox::Sandbox;

/// One request as a site gets it: whole.
#[derive(Debug, Clone)]
pub struct Request {
    /// `host` or `host:port`, the port where it is not the scheme's.
    pub host: String,
    /// `GET`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Request {
    /// The path, as it was sent.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The decoded values of a parameter of the query, in order.
    pub fn query(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        url_pairs(query).filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    }

    /// The decoded value of a field of a form.
    pub fn form(&self, name: &str) -> Option<String> {
        let text = std::str::from_utf8(&self.body).ok()?;
        url_pairs(text).find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// User name and password of Basic credentials.
    pub fn basic(&self) -> Option<(String, String)> {
        let sent = self.header("authorization")?.strip_prefix("Basic ")?;
        let pair = base64::engine::general_purpose::STANDARD.decode(sent).ok()?;
        let (user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// A bearer token.
    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }
}

/// What answers under one or more names.
pub trait Site: Send {
    /// The answer to a request.
    fn answer(&mut self, request: &Request) -> Reply;
}

impl<F: FnMut(&Request) -> Reply + Send> Site for F {
    fn answer(&mut self, request: &Request) -> Reply {
        self(request)
    }
}

/// A request with the status of its answer.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What was asked.
    pub request: Request,
    /// How it was answered.
    pub status: u16,
}

type Sites = BTreeMap<String, Arc<Mutex<dyn Site>>>;

struct Shared {
    sites: Mutex<Sites>,
    seen: Mutex<Vec<Seen>>,
    /// Names that were asked for and that no site has.
    strangers: Mutex<Vec<String>>,
    authority: certificates::Authority,
}

/// A running net; ends when it is dropped.
pub struct Net {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// A thread of its own: a test waits for the binary, and the binary for the net.
    runtime: Option<tokio::runtime::Runtime>,
    directory: tempfile::TempDir,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Net({})", self.address)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    /// A net without sites.
    pub fn start() -> Self {
        let authority = certificates::Authority::new();
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).expect("written");
        let shared = Arc::new(Shared {
            sites: Mutex::default(),
            seen: Mutex::default(),
            strangers: Mutex::default(),
            authority,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread");
        let address = proxy::start(&runtime, Arc::clone(&shared));
        Self { shared, address, runtime: Some(runtime), directory }
    }

    /// Puts a site under names: `ghcr.io`, `registry.example:5000`. It answers http and https. The handle reads and changes it.
    pub fn site<S: Site + 'static>(&self, names: &[&str], site: S) -> Arc<Mutex<S>> {
        let site = Arc::new(Mutex::new(site));
        for name in names {
            let shared: Arc<Mutex<dyn Site>> = site.clone();
            lock(&self.shared.sites).insert((*name).to_owned(), shared);
        }
        site
    }

    /// The root certificate, in a file.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The variables that make a program use this net.
    pub fn env(&self) -> [(&'static str, String); 4] {
        let proxy = format!("http://{}", self.address);
        [
            ("HTTPS_PROXY", proxy.clone()),
            ("HTTP_PROXY", proxy),
            ("NO_PROXY", "127.0.0.1".to_owned()),
            ("SSL_CERT_FILE", self.certificate().display().to_string()),
        ]
    }

    /// A home for the binary in this net.
    pub fn sandbox(&self, binary: impl AsRef<std::path::Path>) -> Sandbox {
        let mut sandbox = Sandbox::new(binary);
        for (name, value) in self.env() {
            sandbox.set_env(name, &value);
        }
        sandbox
    }

    /// Everything that was asked, in order of arrival.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// `METHOD host/target → status` lines, for comparison and for people.
    pub fn log(&self) -> Vec<String> {
        let line = |seen: &Seen| {
            format!("{} {}{} {}", seen.request.method, seen.request.host, seen.request.target, seen.status)
        };
        lock(&self.shared.seen).iter().map(line).collect()
    }

    /// How many requests of this method (`*`: any) to this host had `part` in path or query.
    pub fn count(&self, method: &str, host: &str, part: &str) -> usize {
        let of = |seen: &&Seen| {
            (method == "*" || seen.request.method == method)
                && seen.request.host == host
                && seen.request.target.contains(part)
        };
        lock(&self.shared.seen).iter().filter(of).count()
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        lock(&self.shared.seen).clear();
    }

    /// Names that were asked for and that no site has.
    pub fn strangers(&self) -> Vec<String> {
        lock(&self.shared.strangers).clone()
    }
}

impl Shared {
    /// Whether there is a site of this name.
    fn knows(&self, name: &str) -> bool {
        let known = lock(&self.sites).contains_key(name);
        if !known {
            lock(&self.strangers).push(name.to_owned());
        }
        known
    }

    fn answer(&self, request: Request) -> Reply {
        let site = lock(&self.sites).get(&request.host).cloned();
        let reply = site.map_or_else(|| Reply::status(502), |site| lock(&site).answer(&request));
        let status = reply.code();
        lock(&self.seen).push(Seen { request, status });
        reply
    }
}
