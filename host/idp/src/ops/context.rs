//! What every operation is given. Made once a command; reading `registries.yaml` is the only I/O.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use idp_oci::client::Progress;
use idp_oci::client::retry::RetryPolicy;
use idp_oci::manifest::{LARGEST_MANIFEST, MAX_MANIFEST};
use idp_oci::name::{NameError, Reference, Registry};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::config::credentials::{Credentials, Given};
use crate::config::env::{self, Environment};
use crate::config::known::Known;
use crate::config::paths::Paths;
use crate::config::registries::{Address, CreateRule, Registries, Visibility};
use crate::provider::Create;

/// Seconds of silence on a connection, unless `IDPBUILDER_OCI_TIMEOUT` says otherwise.
const TIMEOUT_S: u64 = 300;

/// Attempts of a transient failure, and the most that may be asked for.
const ATTEMPTS: u64 = 10;

/// What flags say about the registry and how it is reached.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--registry`.
    pub registry: Option<String>,
    /// `--username`, `--password`, `--token`.
    pub given: Given,
    /// `--insecure`.
    pub insecure: bool,
    /// `--allow-private-redirects`.
    pub allow_private_redirects: bool,
    /// `--provider`: a name, or the path of a component.
    pub provider: Option<String>,
    /// `--grant`.
    pub grants: Vec<String>,
    /// What is done, for the provider's wording: `push`.
    pub operation: &'static str,
    /// `--create`.
    pub create: Option<CreateRule>,
    /// `--visibility`.
    pub visibility: Option<Visibility>,
    /// Nothing is to be changed.
    pub dry_run: bool,
    /// The command is about several registries: credentials that name none are for none of them.
    pub several: bool,
    /// Registries that were written with `http://`, besides the default one.
    pub plain_http: Vec<Registry>,
    /// Nothing is tried again: what fails is what is to be found out.
    pub once: bool,
}

/// Configuration, credentials, progress, cancellation.
#[derive(Debug)]
pub struct Context {
    /// The environment.
    pub env: Environment,
    /// Our own files.
    pub paths: Paths,
    /// `registries.yaml`.
    pub registries: Arc<Registries>,
    /// Finds credentials.
    pub credentials: Credentials,
    /// What flags said.
    pub options: Options,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// Says when to give up.
    pub cancel: CancellationToken,
    /// The registry that was found where none is configured.
    found: OnceLock<Address>,
}

/// What a registry is looked for that is not configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Something is to be brought there: it is made where there is none.
    Write,
    /// Something is to be there already.
    Read,
}

/// Where the choice of a registry came from, in words.
pub type Why = &'static str;

impl Context {
    /// Reads `registries.yaml`.
    pub fn new(
        env: Environment,
        known: Known,
        options: Options,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Self, Error> {
        let paths = Paths::new(&env);
        let registries = Arc::new(Registries::load(paths.registries().as_deref())?);
        let credentials =
            Credentials::new(options.given.clone(), env.clone(), Arc::clone(&registries), known);
        let credentials = if options.several { credentials.of_several() } else { credentials };
        Ok(Self { env, paths, registries, credentials, options, progress, cancel, found: OnceLock::new() })
    }

    /// The same for a registry that the flags do not speak of: what they say of credentials and providers is another's.
    #[must_use]
    pub fn without_flags(&self) -> Self {
        let mut options = self.options.clone();
        (options.given, options.provider, options.several) = (Given::default(), None, true);
        Self {
            env: self.env.clone(),
            paths: self.paths.clone(),
            registries: Arc::clone(&self.registries),
            credentials: self.credentials.clone().without_given().of_several(),
            options,
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
            found: self.found.clone(),
        }
    }

    /// Finds a registry for names that have none, where none is configured and one of these names needs it, or there is no name at all.
    pub async fn find_registry(&self, names: &[&str], to: To) -> Result<(), Error> {
        if self.default_registry()?.is_some() {
            return Ok(());
        }
        let lacks = |name: &&str| matches!(Reference::parse(name, None), Err(NameError::NoRegistry(_)));
        if (names.is_empty() || names.iter().any(lacks))
            && let Some(address) = super::embedded::find(self, to).await?
        {
            let _ = self.found.set(address);
        }
        Ok(())
    }

    /// The registry of names that have none: flag, environment, `registries.yaml`, else what was found.
    pub fn default_registry(&self) -> Result<Option<(Address, Why)>, Error> {
        if let Some(text) = &self.options.registry {
            return Ok(Some((text.parse()?, "--registry")));
        }
        if let Some(text) = self.env.get(env::REGISTRY_URL) {
            return Ok(Some((text.parse()?, "IDPBUILDER_REGISTRY_URL")));
        }
        let configured = self.registries.default.clone().map(|address| (address, "registries.yaml"));
        Ok(configured.or_else(|| self.found.get().cloned().map(|address| (address, "found running"))))
    }

    /// A reference of the command line, in the default registry where it names none.
    pub fn reference(&self, text: &str) -> Result<Reference, Error> {
        let default = self.default_registry()?;
        let registry = default.as_ref().map(|(address, _)| &address.registry);
        match Reference::parse(text, registry) {
            Err(NameError::NoRegistry(_)) => Err(Error::NoRegistry),
            result => Ok(result?),
        }
    }

    /// Whether plain HTTP and certificates that do not verify are accepted: flag, `registries.yaml`, environment, or an address
    /// written with `http://`.
    pub fn insecure(&self, registry: &Registry) -> Result<bool, Error> {
        if self.options.insecure || self.options.plain_http.contains(registry) {
            return Ok(true);
        }
        if let Some(insecure) = self.registries.get(registry).and_then(|config| config.insecure) {
            // The environment beats the file.
            return Ok(self.env.flag(env::REGISTRY_INSECURE)?.unwrap_or(insecure));
        }
        if let Some((address, _)) = self.default_registry()?
            && address.registry == *registry
            && address.plain_http
        {
            return Ok(true);
        }
        Ok(self.env.flag(env::REGISTRY_INSECURE)?.unwrap_or(false))
    }

    /// What a push may make at a registry: flag, `registries.yaml`, else the repository itself.
    pub fn create(&self, registry: &Registry) -> Create {
        let configured = self.registries.get(registry).and_then(|config| config.create);
        match self.options.create.or(configured) {
            Some(CreateRule::Never) => Create::Never,
            Some(CreateRule::Repository) | None => Create::Repository,
            Some(CreateRule::Parent) => Create::Parent,
        }
    }

    /// The visibility of what is made: flag, `registries.yaml`.
    pub fn visibility(&self, registry: &Registry) -> Option<Visibility> {
        let configured = self.registries.get(registry).and_then(|config| config.visibility);
        self.options.visibility.or(configured)
    }

    /// How long a connection may be silent.
    pub fn timeout(&self) -> Result<Duration, Error> {
        Ok(Duration::from_secs(self.env.number(env::TIMEOUT, 1, 86_400)?.unwrap_or(TIMEOUT_S)))
    }

    /// The largest manifest that is taken from a registry, in bytes.
    pub fn max_manifest(&self) -> Result<u64, Error> {
        const MIB: u64 = 1024 * 1024;
        let most = LARGEST_MANIFEST / MIB;
        let set = self.env.number(env::MANIFEST_MAX, 1, most)?;
        Ok(set.map_or(MAX_MANIFEST, |mib| mib * MIB))
    }

    /// How often something that fails in a passing way is tried.
    pub fn retry(&self) -> Result<RetryPolicy, Error> {
        if self.options.once {
            return Ok(RetryPolicy { attempts: 1, ..RetryPolicy::default() });
        }
        let count = self.env.number(env::RETRY_COUNT, 0, ATTEMPTS)?.unwrap_or(ATTEMPTS);
        let attempts = usize::try_from(count.clamp(1, ATTEMPTS)).unwrap_or(1);
        Ok(RetryPolicy { attempts, ..RetryPolicy::default() })
    }
}
