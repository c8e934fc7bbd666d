//! What a registry client must survive: cases by number, each against a registry that fails on command, through the client's public
//! API. A test is named by the number of its case; `16a`, `16b` are sides of one case. The few that only the binary shows are in
//! `tests/faults/`, named the same way.
//!
//! | module | cases |
//! |---|---|
//! | `transport` | 1 to 20: locations, redirects, connections, TLS, proxies, limits |
//! | `auth` | 21 to 32: being let in |
//! | `rate` | 52, 53: waiting when asked to |
//! | `upload` | 33 to 51: blobs on their way up |
//! | `manifest` | 54 to 59: manifests, and what may stand in them |
//! | `index` | 60 to 62: what an index leads to, and what a tag does |
//! | `lists` | 63, 64: referrers, lists in pages |
//! | `pull` | 65 to 69: blobs on their way down, and what is left on disk |
//! | `extract` | 70 to 72: archives that were made to do harm, and those that are merely odd |
//!
//! Requests and bytes are counted; no time is asserted.

mod auth;
mod extract;
mod index;
mod lists;
mod manifest;
mod pull;
mod rate;
mod support_b;
mod transport;
mod upload;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::client::http::{Http, HttpOptions, Resolve};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::{Credential, Standard};
use idp_oci::client::{
    Client, ClientError, ClientOptions, Event, Outcome, Presence, Progress, Scheme, base_url,
};
use idp_oci::manifest::Manifest;
use idp_oci::name::{Registry, Repository, Target};
use idp_oci::secret::Secret;
use idp_test_support::faults::Server;
use tokio_util::sync::CancellationToken;

/// Keeps events.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Progress for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Recorder {
    fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn retries(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::Retrying { .. })).count()
    }
}

/// Names on loopback: each with the ports that it is at, as far as the URL names none.
#[derive(Debug)]
struct Names(Vec<(String, Vec<SocketAddr>)>);

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let known = self.0.iter().find(|(name, _)| name == host);
        known.map(|(_, at)| at.clone()).ok_or_else(|| io::Error::other(format!("no {host} in this test")))
    }
}

fn names(known: &[(&str, &[u16])]) -> Arc<dyn Resolve> {
    let at = |ports: &[u16]| ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
    Arc::new(Names(known.iter().map(|(name, ports)| ((*name).to_owned(), at(ports))).collect()))
}

/// Connections that nothing outside of the test decides about.
fn options() -> HttpOptions {
    HttpOptions { proxy_from_env: false, idle_timeout: Duration::from_secs(20), ..HttpOptions::default() }
}

/// A client of a registry by name and scheme, as it is told to be.
fn client_of(
    registry: &str,
    scheme: Scheme,
    credential: Credential,
    http: HttpOptions,
    retry: RetryPolicy,
) -> (Client, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let registry: Registry = registry.parse().expect("a registry");
    let http = Http::new(http);
    let base = base_url(&registry, scheme).expect("a URL");
    let dialect = Arc::new(Standard::new(base, credential, http.clone()));
    let options = ClientOptions {
        retry,
        operation: "test".to_owned(),
        progress: Arc::clone(&recorder) as Arc<dyn Progress>,
        ..ClientOptions::default()
    };
    (Client::new(registry, scheme, http, dialect, options).expect("a client"), recorder)
}

/// A client with these options, which tries four times without waiting.
fn client_with(server: &Server, credential: Credential, http: HttpOptions) -> (Client, Arc<Recorder>) {
    client_of(&server.address(), Scheme::Http, credential, http, RetryPolicy::immediate(4))
}

/// A client without a credential.
fn client(server: &Server) -> Client {
    client_with(server, Credential::Anonymous, options()).0
}

/// `user` with a password; the fault server wants `right`.
fn user(password: &str) -> Credential {
    Credential::Basic { username: "user".to_owned(), password: Secret::new(password) }
}

fn repository() -> Repository {
    "team/app".parse().expect("a repository")
}

fn tag() -> Target {
    Target::Tag("1".parse().expect("a tag"))
}

/// A manifest of no layers; its config is the blob `{}`.
fn manifest() -> Manifest {
    let config = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[]}}"#
    );
    Manifest::parse(Bytes::from(text), None).expect("a manifest")
}

/// Bytes by rule, of any length.
fn bytes(length: usize) -> Bytes {
    (0..length).map(|index| (index * 7 % 251) as u8).collect()
}

fn blob(content: impl Into<Bytes>) -> Blob {
    Blob::from_bytes("application/octet-stream", content.into())
}

async fn push(client: &Client, blob: &Blob) -> Result<Outcome, ClientError> {
    client.push_blob(&repository(), blob, Presence::Unknown, &[], &CancellationToken::new()).await
}

/// The registry has the blob, and no upload is left open.
fn is_stored(server: &Server, blob: &Blob) -> bool {
    server.registry(|registry| {
        let key = (repository().to_string(), blob.descriptor.digest.to_string());
        registry.blobs.contains_key(&key) && registry.sessions.is_empty()
    })
}

/// Puts [`manifest`] and its blob into the registry under [`tag`].
fn hold(server: &Server) {
    let image = manifest();
    server.registry(|registry| {
        registry.add_blob("team/app", "{}");
        registry.add_manifest("team/app", "1", &image.descriptor().media_type, image.bytes().clone());
    });
}
