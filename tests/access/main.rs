//! Who may do what, shown to clients: our own, crane, and a token service of others before our registry.
//!
//! | module | what it shows |
//! |---|---|
//! | `own` | our client logs in by password and by token, mounts, is refused, and reads what is for everybody |
//! | `crane` | another client does |
//! | `docker` | a third does, and keeps a refresh token |
//! | `skopeo` | skopeo and podman read what is for everybody without a login |
//! | `service` | the registry takes the tokens of docker_auth |
//!
//! Requests are counted; no time is asserted.

mod crane;
mod docker;
mod own;
mod service;
mod skopeo;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idp_oci::server::auth::{self, AuthSettings};
use idp_oci::server::limits::Rates;
use idp_oci::server::{Event, Observer, ServeOptions, serve};
use idp_oci::store::memory::MemoryStore;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A registry in this process.
struct Registry {
    /// `127.0.0.1:port`
    address: String,
    events: Arc<Mutex<Vec<Event>>>,
    shutdown: CancellationToken,
}

impl Registry {
    /// With alice and bob, whose passwords are their names backwards, and these settings.
    async fn start(home: &Path, settings: Value) -> Self {
        let hash = |password: &str| bcrypt::hash(password, 4).expect("hashed");
        let text = format!("alice:{}\nbob:{}\n", hash("ecila"), hash("bob"));
        std::fs::write(home.join("users"), text).expect("written");
        let settings: AuthSettings = serde_json::from_value(settings).expect("settings");
        let access = auth::access(&settings, home, Rates::default().failed_logins).expect("access");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let observer: Observer = Arc::new(move |event: &Event| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        });
        let shutdown = CancellationToken::new();
        let options = ServeOptions {
            access,
            observer: Some(observer),
            grace: Duration::from_millis(200),
            ..ServeOptions::new(listener, Arc::new(MemoryStore::default()))
        };
        tokio::spawn(serve(options, shutdown.clone()));
        Self { address, events, shutdown }
    }

    /// Requests so far: `GET /v2/ 401`.
    fn requests(&self) -> Vec<String> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events
            .iter()
            .map(|event| format!("{} {} {}", event.method, event.path, event.status.as_u16()))
            .collect()
    }

    /// How many of them begin so.
    fn count(&self, start: &str) -> usize {
        self.requests().iter().filter(|request| request.starts_with(start)).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
