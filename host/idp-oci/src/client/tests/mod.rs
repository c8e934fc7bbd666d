//! The client against the fault server: cases of the robustness list by number, with exact counts of requests.

mod auth;
mod blobs;
mod manifests;
mod ranges;
mod transport;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idp_test_support::faults::Server;

use super::http::{Http, HttpOptions};
use super::progress::{Event, Progress};
use super::retry::RetryPolicy;
use super::standard::{Credential, Standard};
use super::{Client, ClientOptions, Scheme, base_url};
use crate::name::Repository;
use crate::secret::Secret;

/// Keeps events.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<Event>>);

impl Progress for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Recorder {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn retries(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::Retrying { .. })).count()
    }
}

pub(crate) fn options() -> HttpOptions {
    HttpOptions { proxy_from_env: false, idle_timeout: Duration::from_secs(20), ..HttpOptions::default() }
}

pub(crate) fn client_with(
    server: &Server,
    credential: Credential,
    http: HttpOptions,
) -> (Client, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let registry = server.address().parse().expect("an address is a registry");
    let http = Http::new(http);
    let base = base_url(&registry, Scheme::Http).expect("a URL");
    let dialect = Arc::new(Standard::new(base, credential, http.clone()));
    let options = ClientOptions {
        retry: RetryPolicy::immediate(4),
        operation: "test".to_owned(),
        progress: Arc::clone(&recorder) as Arc<dyn Progress>,
        ..ClientOptions::default()
    };
    (Client::new(registry, Scheme::Http, http, dialect, options).expect("a client"), recorder)
}

pub(crate) fn client(server: &Server) -> Client {
    client_with(server, Credential::Anonymous, options()).0
}

pub(crate) fn user(password: &str) -> Credential {
    Credential::Basic { username: "user".to_owned(), password: Secret::new(password) }
}

pub(crate) fn repository() -> Repository {
    "team/app".parse().expect("a repository")
}
