//! A client for one registry: how it is reached, as whom, and through which provider.

use std::collections::BTreeMap;
use std::sync::Arc;

use idp_oci::client::dialect::{
    Answer, AuthRequest, Dialect, DialectError, Ensured, ErrorKind, Explanation, Grant, Hints,
};
use idp_oci::client::standard::{Credential as Native, Standard};
use idp_oci::client::{Client, ClientError, ClientOptions, Event, Learned, RateLimit, Scheme, base_url};
use idp_oci::name::{Reference, Registry, Repository, Tag};
use idp_oci::pipeline::PipelineError;

use super::choose::{Chosen, choose};
use super::slots::{self, Slots};
use super::{Context, Error};
use crate::config::credentials::{Credential, CredentialError, Found};
use crate::config::registries::Address;
use crate::provider::{CallContext, ProviderDialect};

/// `--provider none`: what the specification says, done by the host itself. The way out when a provider fails, and the measure
/// of what a provider costs.
pub(super) const NO_PROVIDER: &str = "none";

/// One registry, ready to be spoken to.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client: Client,
    /// The provider's name and version.
    pub provider: String,
    /// As it goes on the wire, when the session is for one.
    repository: Option<Repository>,
    /// Absent with `--provider none`.
    pub(super) dialect: Option<Arc<ProviderDialect>>,
    slots: Slots,
    /// As it was written.
    pub(super) registry: Registry,
    /// Why the registry did not answer when it was asked what it is.
    pub(super) silence: Option<ClientError>,
}

/// What a session is for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Which registry, as it was written.
    pub registry: &'a Registry,
    /// Which of its repositories, where that is known: credentials and names may depend on it.
    pub repository: Option<&'a Repository>,
    /// Which tag; for the provider to say what it thinks of it.
    pub tag: Option<&'a Tag>,
}

impl<'a> From<&'a Reference> for Subject<'a> {
    fn from(reference: &'a Reference) -> Self {
        Self {
            registry: &reference.registry,
            repository: Some(&reference.repository),
            tag: reference.tag.as_ref(),
        }
    }
}

/// Opens a session.
pub async fn open(context: &Context, subject: Subject<'_>) -> Result<Session, Error> {
    let Subject { registry, repository, .. } = subject;
    // Before anything is sent: what is found is blanked in all output from here on.
    let (mut credential, broken) = match context.credentials.find(registry, repository).await {
        Ok(found) => (found, None),
        // Docker's files speak about all registries. One that is broken matters when this one wants to know who we are.
        Err(CredentialError::Docker(error)) => (None, Some(chain(&error))),
        Err(error) => return Err(error.into()),
    };
    if context.options.provider.as_deref() == Some(NO_PROVIDER) {
        return without_provider(context, subject, credential, broken).await;
    }
    let chosen = choose(context, registry, false).await?;
    let mut slots = slots::of(context, &chosen.selection, &chosen.registry, credential.as_ref()).await?;
    let mut dialect = load(context, &chosen, registry, &slots).await?;
    let wire = on_the_wire(context, &chosen, &dialect, subject).await?;
    if credential.is_none() && broken.is_none() {
        credential = by_keys(context, &wire.credential_keys, repository).await?;
        if credential.is_some() {
            slots = slots::of(context, &chosen.selection, &chosen.registry, credential.as_ref()).await?;
            dialect = load(context, &chosen, registry, &slots).await?;
        }
    }
    if wire.registry != *registry {
        dialect = load(context, &chosen, &wire.registry, &slots).await?;
    }
    let failed = |error: ClientError| failure(registry, &slots, error);
    let base = base_url(&wire.registry, chosen.scheme).map_err(failed)?;
    let standard = Standard::new(base, native(slots.registry.as_ref()), chosen.http.clone());
    let provider = Arc::new(dialect.with_fallback(Arc::new(standard)));
    let dialect = or_say_why(provider.clone(), broken);
    let options = client_options(context, &wire.registry)?;
    let client = Client::new(wire.registry, chosen.scheme, chosen.http, dialect, options).map_err(failed)?;
    let label = chosen.selection.provider.manifest.label();
    let registry = registry.clone();
    Ok(Session {
        client,
        provider: label,
        repository: wire.repository,
        dialect: Some(provider),
        slots,
        registry,
        silence: chosen.silence,
    })
}

/// A session that asks no provider anything.
async fn without_provider(
    context: &Context,
    subject: Subject<'_>,
    credential: Option<Found>,
    broken: Option<String>,
) -> Result<Session, Error> {
    let registry = subject.registry;
    let slots = Slots { registry: credential, ..Slots::default() };
    let failed = |error: ClientError| failure(registry, &slots, error);
    let http = super::choose::http(context, registry)?;
    let scheme = Scheme::of(registry, context.insecure(registry)?).await;
    let base = base_url(registry, scheme).map_err(failed)?;
    let standard = Standard::new(base, native(slots.registry.as_ref()), http.clone());
    let dialect = or_say_why(Arc::new(standard), broken);
    let options = client_options(context, registry)?;
    let client = Client::new(registry.clone(), scheme, http, dialect, options).map_err(failed)?;
    Ok(Session {
        client,
        provider: NO_PROVIDER.to_owned(),
        repository: subject.repository.cloned(),
        dialect: None,
        slots,
        registry: registry.clone(),
        silence: None,
    })
}

fn client_options(context: &Context, registry: &Registry) -> Result<ClientOptions, Error> {
    let learned = context.paths.learned(registry).map_or_else(Learned::nothing, Learned::load);
    Ok(ClientOptions {
        retry: context.retry()?,
        operation: context.options.operation.to_owned(),
        progress: Arc::clone(&context.progress),
        learned: Arc::new(learned),
    })
}

/// The dialect; where the credential could not be read, one that says so as soon as it matters.
fn or_say_why(dialect: Arc<dyn Dialect>, broken: Option<String>) -> Arc<dyn Dialect> {
    match broken {
        Some(reason) => Arc::new(WithoutCredential { inner: dialect, reason }),
        None => dialect,
    }
}

/// The chosen provider, ready to be asked about one registry.
async fn load(
    context: &Context,
    chosen: &Chosen,
    registry: &Registry,
    slots: &Slots,
) -> Result<ProviderDialect, Error> {
    let mut call = CallContext {
        dry_run: context.options.dry_run,
        create: context.create(&chosen.registry),
        visibility: context.visibility(&chosen.registry).map(|visibility| visibility.as_str().to_owned()),
        ..CallContext::new(registry.clone(), chosen.scheme.as_str(), context.options.operation)
    };
    if let Some(config) = context.registries.get(&chosen.registry) {
        call.settings.clone_from(&config.settings);
    }
    call.credentials.clone_from(&slots.sets);
    call.deferred.clone_from(&slots.deferred);
    let loaded = chosen.providers.load(&chosen.selection, call).await;
    loaded.map_err(|error| Error::Dialect(error.to_string()))
}

/// Names as the provider wants them on the wire.
struct Wire {
    registry: Registry,
    repository: Option<Repository>,
    credential_keys: Vec<String>,
}

/// Asks the provider for the names on the wire. One that has no opinion, or that failed to have one, leaves them as written.
async fn on_the_wire(
    context: &Context,
    chosen: &Chosen,
    dialect: &ProviderDialect,
    subject: Subject<'_>,
) -> Result<Wire, Error> {
    let as_written = Wire {
        registry: subject.registry.clone(),
        repository: subject.repository.cloned(),
        credential_keys: Vec::new(),
    };
    let Some(repository) = subject.repository else { return known_host(chosen, dialect, as_written) };
    let name = match dialect.normalize(repository.as_str(), subject.tag.map(Tag::as_str)).await {
        Ok(name) => name,
        Err(error) if error.kind == ErrorKind::Unsupported => return Ok(as_written),
        Err(error) if error.kind == ErrorKind::ProviderFailed => {
            tracing::warn!(target: "idp::provider", "names are used as written: {error}");
            return Ok(as_written);
        }
        Err(error) => {
            let what = format!("{}/{repository}", subject.registry);
            return Err(failure(subject.registry, &Slots::default(), ClientError::Dialect { what, error }));
        }
    };
    for text in name.warnings {
        context.progress.event(Event::Warning { text });
    }
    let label = chosen.selection.provider.manifest.label();
    let refused = |problem: String| Error::Dialect(format!("provider {label}: {problem}"));
    let registry: Registry = name.host.parse().map_err(|error| refused(format!("naming: {error}")))?;
    let repository = name.repository.parse().map_err(|error| refused(format!("naming: {error}")))?;
    Ok(Wire { registry, repository: Some(repository), credential_keys: name.credential_keys })
}

/// Where a registry is spoken to when no repository of it is in question: as written, unless the manifest knows it by another name.
fn known_host(chosen: &Chosen, dialect: &ProviderDialect, written: Wire) -> Result<Wire, Error> {
    let manifest = &chosen.selection.provider.manifest;
    match manifest.wire_host(&written.registry).filter(|host| *host != written.registry) {
        None => Ok(written),
        Some(host) if dialect.trusted() || dialect.may_reach(&host) => Ok(Wire { registry: host, ..written }),
        Some(host) => Err(Error::Dialect(format!(
            "provider {}: it names another registry, {host}; allow it with --grant 'egress=https://{host} GET /v2/'",
            manifest.label()
        ))),
    }
}

/// The first credential under one of a provider's keys for credential files. A key that names no host finds nothing.
async fn by_keys(
    context: &Context,
    keys: &[String],
    repository: Option<&Repository>,
) -> Result<Option<Found>, Error> {
    for key in keys {
        let Ok(address) = key.parse::<Address>() else { continue };
        if let Some(found) = context.credentials.find(&address.registry, repository).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

impl Session {
    /// Who the registry takes us for, by the provider or by being let in; `None` when it only says that it lets us in.
    pub async fn verify(&self) -> Result<Option<String>, Error> {
        let answer = match &self.dialect {
            Some(dialect) => dialect.verify().await,
            None => Err(nobody_to_ask()),
        };
        match answer {
            Ok(facts) => {
                if let Some(warning) = facts.get("warning") {
                    let text = warning.clone();
                    self.client.progress().event(Event::Warning { text });
                }
                Ok(facts.get("account").cloned())
            }
            Err(error) if error.kind == ErrorKind::Unsupported => {
                self.client.check().await.map_err(|error| self.failed(error))?;
                Ok(None)
            }
            Err(error) => {
                let what = format!("logging in to registry {}", self.registry);
                Err(self.failed(ClientError::Dialect { what, error }))
            }
        }
    }

    /// The repository as it goes on the wire.
    pub fn on_wire<'a>(&'a self, written: &'a Repository) -> &'a Repository {
        self.repository.as_ref().unwrap_or(written)
    }

    /// What the registry says about how often it may be asked; a warning when little is left.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        let limit = self.client.rate_limit()?;
        let text = format!("{}: {limit}", self.registry);
        if limit.is_low() {
            let text =
                format!("{text}; a credential may have a higher limit (`idp login {}`)", self.registry);
            self.client.progress().event(Event::Warning { text });
        } else {
            tracing::debug!(target: "idp::limits", "{text}");
        }
        Some(limit)
    }

    /// A pipeline's error with what people need to know about this session.
    pub fn pipeline_failed(&self, error: PipelineError) -> Error {
        match error {
            PipelineError::Client(error) => self.failed(error),
            other => Error::Pipeline(Box::new(other)),
        }
    }

    /// A provider's error with what people need to know about this session; `what` was wanted.
    pub fn refused(&self, what: String, error: DialectError) -> Error {
        self.failed(ClientError::Dialect { what, error })
    }

    /// A client's error with what people need to know about this session.
    pub fn failed(&self, error: ClientError) -> Error {
        failure(&self.registry, &self.slots, error)
    }
}

/// What a provider would answer that does not know: do the generic thing.
pub(super) fn nobody_to_ask() -> DialectError {
    DialectError::new(ErrorKind::Unsupported, "no provider is asked")
}

fn failure(registry: &Registry, slots: &Slots, error: ClientError) -> Error {
    let credential = slots.source();
    let notes = slots.notes();
    Error::Registry { registry: registry.to_string(), credential, notes, error: Box::new(error) }
}

fn native(found: Option<&Found>) -> Native {
    match found.map(|found| &found.credential) {
        None => Native::Anonymous,
        Some(Credential::Basic { username, password }) => {
            Native::Basic { username: username.clone(), password: password.clone() }
        }
        Some(Credential::IdentityToken(token)) => Native::IdentityToken(token.clone()),
        Some(Credential::Bearer(token)) => Native::Bearer(token.clone()),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A dialect whose credential could not be read: it answers everything but "who are you".
#[derive(Debug)]
struct WithoutCredential {
    inner: Arc<dyn Dialect>,
    reason: String,
}

#[async_trait::async_trait]
impl Dialect for WithoutCredential {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn authorize(&self, _request: &AuthRequest) -> Result<Grant, DialectError> {
        let text = format!("the registry asks who we are, and {}", self.reason);
        Err(DialectError::new(ErrorKind::Unauthenticated, text))
    }

    async fn hints(&self, repository: Option<&Repository>) -> Hints {
        self.inner.hints(repository).await
    }

    async fn explain(&self, answer: &Answer, operation: &str) -> Option<Explanation> {
        self.inner.explain(answer, operation).await
    }

    async fn ensure(
        &self,
        repository: &Repository,
        after: Option<&str>,
    ) -> Result<Option<Ensured>, DialectError> {
        self.inner.ensure(repository, after).await
    }
}

/// What `idp registry doctor` asks.
impl Session {
    /// Where the credential comes from; `None` when there is none, or when it was not yet looked for.
    pub fn credential_source(&self) -> Option<String> {
        self.slots.source()
    }

    /// Everything that the registry says of the account (`wit/README.md`, "verify"); empty when it only lets us in.
    pub async fn whoami(&self) -> Result<BTreeMap<String, String>, Error> {
        let answer = match &self.dialect {
            Some(dialect) => dialect.verify().await,
            None => Err(nobody_to_ask()),
        };
        match answer {
            Ok(facts) => Ok(facts),
            Err(error) if error.kind == ErrorKind::Unsupported => {
                self.client.check().await.map_err(|error| self.failed(error))?;
                Ok(BTreeMap::new())
            }
            Err(error) => {
                let what = format!("logging in to registry {}", self.registry);
                Err(self.failed(ClientError::Dialect { what, error }))
            }
        }
    }

    /// What the provider knows of rate limits.
    pub async fn limits(&self) -> Result<Vec<BTreeMap<String, String>>, DialectError> {
        match &self.dialect {
            Some(dialect) => dialect.limits().await,
            None => Err(nobody_to_ask()),
        }
    }
}
