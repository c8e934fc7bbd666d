//! What a provider is asked about: the registry, its configuration and its credentials. Filled in by the caller; data only.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

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
