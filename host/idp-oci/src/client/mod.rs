//! How registries are spoken to: the distribution protocol, with retry, authorization and verification, over [`http`].
//! What differs between products is asked of a [`dialect::Dialect`]. Knows names and content; knows no source, sink or terminal.
//!
//! | file | holds |
//! |---|---|
//! | [`http`], [`redirect`], [`redact`], [`scheme`] | exchanges, where they may lead, what is shown of them, TLS or not |
//! | [`challenge`], [`auth`], [`dialect`], [`standard`] | being let in |
//! | [`retry`], [`outage`], [`error`], [`progress`] | trying again, giving up, telling |
//! | `call`, [`probe`] | one request with all of the above; one whose answer is looked at as it is |
//! | [`learned`] | what talking to it has taught |
//! | [`peer`], [`rate`] | who is at the other end of TLS; how often it may be asked, in its own words |
//! | `blob`, `upload`, `download`, `ranges`, `manifest`, `lacking`, `tag`, `referrers` | the verbs |

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use url::Url;

pub mod auth;
mod blob;
mod call;
mod cause;
pub mod challenge;
mod check;
pub mod dialect;
mod download;
pub mod error;
pub mod http;
pub(crate) mod lacking;
pub mod learned;
mod manifest;
pub mod outage;
pub mod peer;
pub mod probe;
pub mod progress;
mod ranges;
pub mod rate;
pub mod redact;
pub mod redirect;
mod referrers;
pub mod retry;
pub mod scheme;
mod seen;
pub mod standard;
mod tag;
#[cfg(test)]
mod tests;
mod upload;

pub use auth::Access;
pub use call::ping;
pub use download::Verify;
pub use error::{ClientError, Kind};
pub use learned::Learned;
pub use manifest::{Offered, Written};
pub use progress::{Event, Outcome, Progress, Silent};
pub use ranges::{RangePolicy, Ranges};
pub use rate::RateLimit;
pub use referrers::Referrers;
pub use scheme::Scheme;
pub use tag::Names;
pub(crate) use upload::SMALL;
pub use upload::{Presence, Unsent};

use self::dialect::{Created, Dialect, DialectError, EnsureState, Ensured, Hints};
use self::http::Http;
use self::redirect::Place;
use crate::name::{Registry, Repository};

/// What a client does in its own way.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// How often and how patiently things are tried again.
    pub retry: retry::RetryPolicy,
    /// `push`, `pull`, `login`, …: for the provider's wording.
    pub operation: String,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// What is known of the registry from before, and where what is found out now is kept.
    pub learned: Arc<Learned>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            retry: retry::RetryPolicy::default(),
            operation: String::new(),
            progress: Arc::new(Silent),
            learned: Arc::default(),
        }
    }
}

/// One registry as one identity. Cheap to clone; clones share connections, grants and what was learned.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: Registry,
    /// `https://host/v2/`.
    base: Url,
    home: Place,
    http: Http,
    dialect: Arc<dyn Dialect>,
    options: ClientOptions,
    session: auth::Session,
    gate: retry::Gate,
    outages: outage::Outages,
    hints: tokio::sync::Mutex<HashMap<Repository, Hints>>,
    /// `Warning` headers that have been shown.
    warned: Mutex<HashSet<String>>,
    learned: Arc<Learned>,
    created: Mutex<Vec<Created>>,
    rate_limit: Mutex<Option<RateLimit>>,
}

/// `https://host[:port]/v2/`.
pub fn base_url(registry: &Registry, scheme: Scheme) -> Result<Url, ClientError> {
    format!("{}://{registry}/v2/", scheme.as_str()).parse().map_err(|error: url::ParseError| {
        ClientError::Content { what: format!("registry {registry}"), problem: error.to_string() }
    })
}

impl Client {
    /// A client. Nothing is sent before the first verb. Fails only when the registry's name is no host that a URL can hold.
    pub fn new(
        registry: Registry,
        scheme: Scheme,
        http: Http,
        dialect: Arc<dyn Dialect>,
        options: ClientOptions,
    ) -> Result<Self, ClientError> {
        let base = base_url(&registry, scheme)?;
        let learned = Arc::clone(&options.learned);
        let session = auth::Session::new(Arc::clone(&dialect), options.operation.clone());
        session.remember(&learned.challenges());
        let shared = Shared {
            registry,
            home: Place::of(&base),
            base,
            http,
            dialect,
            options,
            session,
            gate: retry::Gate::default(),
            outages: outage::Outages::default(),
            hints: tokio::sync::Mutex::default(),
            warned: Mutex::default(),
            learned,
            created: Mutex::default(),
            rate_limit: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Which registry.
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Its dialect.
    pub fn dialect(&self) -> &dyn Dialect {
        &*self.shared.dialect
    }

    /// What is known of the registry.
    pub fn learned(&self) -> &Learned {
        &self.shared.learned
    }

    /// Who is told.
    pub fn progress(&self) -> &dyn Progress {
        &*self.shared.options.progress
    }

    /// How bytes are best moved to and from a repository; the dialect is asked once.
    pub async fn hints(&self, repository: &Repository) -> Hints {
        let mut known = self.shared.hints.lock().await;
        if let Some(hints) = known.get(repository) {
            return hints.clone();
        }
        let hints = self.shared.dialect.hints(Some(repository)).await;
        known.insert(repository.clone(), hints.clone());
        hints
    }

    /// Makes a repository ready for a push, where the product wants that; `after` is the class of the failure that led here.
    pub async fn ensure(
        &self,
        repository: &Repository,
        after: Option<&str>,
    ) -> Result<Option<Ensured>, ClientError> {
        let ensured =
            self.shared.dialect.ensure(repository, after).await.map_err(|error: DialectError| {
                let what = format!("making {}/{repository} ready", self.registry());
                ClientError::Dialect { what, error }
            })?;
        if let Some(Ensured { state: EnsureState::Created, created, note }) = &ensured {
            self.shared.session.forget();
            let made = created.clone().unwrap_or_else(|| Created {
                kind: "repository".to_owned(),
                name: repository.to_string(),
                visibility: None,
            });
            let note = note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
            let text = format!("Created {made} at {}{note}", self.registry());
            self.progress().event(Event::Note { text });
            self.shared.created.lock().unwrap_or_else(PoisonError::into_inner).push(made);
        }
        Ok(ensured)
    }

    /// What was made at the registry so far, so that pushes can succeed.
    pub fn created(&self) -> Vec<Created> {
        self.shared.created.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the registry said last about how often it may be asked.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.shared.rate_limit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The URL of something in a repository. Tags, digests and repositories need no escaping.
    fn url(&self, repository: &Repository, path: &str) -> Url {
        let mut url = self.shared.base.clone();
        url.set_path(&format!("/v2/{repository}/{path}"));
        url
    }
}
