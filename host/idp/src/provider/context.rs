//! What a provider is asked about: the registry, its configuration and its credentials. Filled in by the caller; data only.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, SystemTime};

use idp_oci::name::Registry;
use idp_oci::secret::Secret;

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
pub enum Clock {
    /// This machine's.
    #[default]
    System,
    /// Stands still, at so many milliseconds after 1970.
    Fixed(u64),
}

impl Clock {
    /// Milliseconds after 1970.
    pub fn unix_ms(self) -> u64 {
        match self {
            Self::System => {
                let elapsed: Duration =
                    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
            }
            Self::Fixed(ms) => ms,
        }
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
    /// `push`, `pull`, `login`, …
    pub operation: String,
    /// Nothing is to be changed.
    pub dry_run: bool,
    /// What time it is.
    pub clock: Clock,
}

impl CallContext {
    /// A registry without settings or credentials.
    pub fn new(registry: Registry, scheme: &str, operation: &str) -> Self {
        Self {
            registry,
            scheme: scheme.to_owned(),
            settings: BTreeMap::new(),
            credentials: HashMap::new(),
            operation: operation.to_owned(),
            dry_run: false,
            clock: Clock::System,
        }
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots: Vec<&String> = self.credentials.keys().collect();
        write!(
            f,
            "CallContext({}://{}, {}, credentials for {slots:?})",
            self.scheme, self.registry, self.operation
        )
    }
}
