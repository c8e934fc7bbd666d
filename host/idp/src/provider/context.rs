//! What a provider is asked about: the registry, its configuration and its credentials. Filled in by the caller; data only, but for
//! credentials that are looked for when they are asked for.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use idp_oci::name::Registry;
use idp_oci::secret::Secret;
use tokio::sync::OnceCell;

use super::pattern::OriginPattern;

/// A credential for one slot (`wit/README.md`, "credential-set").
#[derive(Debug, Clone, Default)]
pub struct CredentialSet {
    /// `basic`, `identity-token`, `bearer`, …
    pub kind: String,
    /// `source`, `username`, `region`, …
    pub public: Vec<(String, String)>,
    /// By the names of its kind: `password`, `token`, …
    pub secrets: Vec<(String, Secret)>,
    /// Where it may be sent, beyond what the manifest ties to the slot; usually nothing.
    pub audience: Vec<OriginPattern>,
}

/// What `ambient.unix-time-ms` tells: passed in, so that a signature that was recorded can be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Now {
    /// This machine's.
    #[default]
    System,
    /// Stands still, at so many milliseconds after 1970.
    At(u64),
}

impl Now {
    /// Milliseconds after 1970.
    pub fn unix_ms(self) -> u64 {
        match self {
            Self::System => {
                let elapsed: Duration =
                    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
            }
            Self::At(ms) => ms,
        }
    }
}

/// Finds a credential that costs something to find: requests, a helper program.
#[async_trait]
pub trait Find: Send + Sync + fmt::Debug {
    /// The credential, or none when nothing is configured. An error is a sentence for people, with what to do about it.
    async fn find(&self) -> Result<Option<CredentialSet>, String>;

    /// What decides which credential would be found, told without finding it: two that differ here may be two identities.
    fn selector(&self) -> String;

    /// Where it looks: a sentence for people, for when there was nothing.
    fn looked(&self) -> String;
}

/// A credential that is found when a provider asks for it, and then once.
#[derive(Debug)]
pub struct Deferred {
    source: Box<dyn Find>,
    found: OnceCell<Result<Option<CredentialSet>, String>>,
}

impl Deferred {
    /// Nothing is looked for yet.
    pub fn new(source: impl Find + 'static) -> Arc<Self> {
        Arc::new(Self { source: Box::new(source), found: OnceCell::new() })
    }

    /// What was found, if anybody has asked.
    pub fn found(&self) -> Option<&Result<Option<CredentialSet>, String>> {
        self.found.get()
    }

    /// What decides which credential would be found.
    pub(crate) fn selector(&self) -> String {
        self.source.selector()
    }

    /// Where is looked, for when there was nothing.
    pub fn looked(&self) -> String {
        self.source.looked()
    }

    async fn find(&self) -> &Result<Option<CredentialSet>, String> {
        self.found.get_or_init(|| self.source.find()).await
    }
}

/// What stays the same for all calls about one registry in one command.
#[derive(Clone)]
pub struct CallContext {
    /// `host[:port]` as it is spoken to.
    pub registry: Registry,
    /// `https` or `http`.
    pub scheme: String,
    /// From the registry's configuration, and what `identify` derived.
    pub settings: BTreeMap<String, String>,
    /// By slot.
    pub credentials: HashMap<String, CredentialSet>,
    /// By slot; for those without one above.
    pub deferred: HashMap<String, Arc<Deferred>>,
    /// `push`, `pull`, `login`, …
    pub operation: String,
    /// Nothing is to be changed.
    pub dry_run: bool,
    /// What time it is.
    pub now: Now,
    /// How far a push may go to make room for what is pushed.
    pub create: Create,
    /// Visibility of what is made; the provider's choice, which is to be private, unless given.
    pub visibility: Option<String>,
}

/// What may be made before a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Create {
    /// Nothing.
    Never,
    /// The repository itself, where the product wants that.
    #[default]
    Repository,
    /// What it lies in, too: a project, an organisation.
    Parent,
}

impl CallContext {
    /// A registry without settings or credentials.
    pub fn new(registry: Registry, scheme: &str, operation: &str) -> Self {
        Self {
            registry,
            scheme: scheme.to_owned(),
            settings: BTreeMap::new(),
            credentials: HashMap::new(),
            deferred: HashMap::new(),
            operation: operation.to_owned(),
            dry_run: false,
            now: Now::System,
            create: Create::default(),
            visibility: None,
        }
    }

    /// The credential of a slot; looked for now where that was put off.
    pub(crate) async fn credential(&self, slot: &str) -> Result<Option<&CredentialSet>, &str> {
        if let Some(set) = self.credentials.get(slot) {
            return Ok(Some(set));
        }
        match self.deferred.get(slot) {
            Some(deferred) => deferred.find().await.as_ref().map(Option::as_ref).map_err(String::as_str),
            None => Ok(None),
        }
    }

    /// Every secret that is known by now; looks for none.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let found = self.deferred.values().filter_map(|deferred| deferred.found()?.as_ref().ok()?.as_ref());
        self.credentials.values().chain(found).flat_map(|set| set.secrets.iter().map(|(_, value)| value))
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots: Vec<&String> = self.credentials.keys().chain(self.deferred.keys()).collect();
        write!(
            f,
            "CallContext({}://{}, {}, credentials for {slots:?})",
            self.scheme, self.registry, self.operation
        )
    }
}
