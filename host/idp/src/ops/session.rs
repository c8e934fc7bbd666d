//! A client for one registry: how it is reached, as whom, and through which provider.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use idp_oci::client::dialect::{
    Answer, AuthRequest, Dialect, DialectError, Ensured, ErrorKind, Explanation, Grant, Hints,
};
use idp_oci::client::http::{Http, HttpOptions};
use idp_oci::client::standard::{Credential as Native, Standard};
use idp_oci::client::{Client, ClientError, ClientOptions, Scheme, base_url, ping};
use idp_oci::name::{Registry, Repository};
use idp_oci::pipeline::PipelineError;

use super::list::Entry;
use super::transport::Pipeline;
use super::{Context, Error};
use crate::config::credentials::{Credential, CredentialError, Found, REGISTRY_SLOT};
use crate::provider::{
    CallContext, CredentialSet, ProviderDialect, ProviderError, Providers, ProvidersConfig, SelectRequest,
    Selection, UserGrant,
};

/// The most entries of a list that a provider is asked for.
const LONGEST_LIST: usize = 100_000;

/// One registry, ready to be spoken to.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client: Client,
    /// The provider's name and version.
    pub provider: String,
    dialect: Arc<ProviderDialect>,
    credential: Option<Found>,
    registry: Registry,
}

/// A registry with the provider that was chosen for it. Nothing has been compiled or run for it, unless it took `identify` to tell.
#[derive(Debug)]
pub struct Chosen {
    /// Which registry.
    pub registry: Registry,
    /// How it is spoken to.
    pub scheme: Scheme,
    /// The provider, why, and what it may.
    pub selection: Selection,
    providers: Providers,
    http: Http,
}

/// Chooses the provider of a registry. `fresh` asks the registry even when it was asked before.
pub async fn choose(context: &Context, registry: &Registry, fresh: bool) -> Result<Chosen, Error> {
    let http = http(context, registry)?;
    let scheme = Scheme::of(registry, context.insecure(registry)?).await;
    let providers = providers(context, http.options());
    let config = context.registries.get(registry);
    let mut grants = Vec::new();
    for text in context.options.grants.iter().chain(config.iter().flat_map(|config| &config.grants)) {
        grants.push(text.parse::<UserGrant>().map_err(|error| Error::Usage(error.to_string()))?);
    }
    let configured = config.and_then(|config| config.provider.as_ref());
    let request = SelectRequest {
        flag: context.options.provider.clone(),
        configured: configured.map(|name| located(context, name)),
        grants,
        settings: config.map(|config| config.settings.clone()).unwrap_or_default(),
        fresh,
        ..SelectRequest::new(registry.clone(), scheme.as_str())
    };
    let ask = async {
        let answer = ping(&http, registry, scheme).await.ok()?;
        Some(Answer {
            method: "GET".to_owned(),
            url: format!("{}://{registry}/v2/", scheme.as_str()),
            status: answer.status.as_u16(),
            headers: answer
                .headers
                .iter()
                .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
                .collect(),
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    };
    let selection = providers.select(&request, ask).await?;
    for evidence in &selection.evidence {
        tracing::debug!(target: "idp::provider", provider = selection.provider.manifest.label(), "{evidence}");
    }
    Ok(Chosen { registry: registry.clone(), scheme, selection, providers, http })
}

/// All providers, with the pipeline's connections under them.
pub fn providers(context: &Context, options: &HttpOptions) -> Providers {
    // Without a home there is nothing to keep, and a directory that cannot be made is the same as one that is lost.
    let nowhere = || PathBuf::from("/nonexistent");
    let config = ProvidersConfig {
        cache_dir: context.paths.cache().map_or_else(nowhere, |cache| cache.join("compiled")),
        state_dir: context.paths.providers().unwrap_or_else(nowhere),
        components: components(context),
        transport: Arc::new(Pipeline::new(options)),
        ..ProvidersConfig::below(&nowhere())
    };
    Providers::new(config)
}

/// The components that `registries.yaml` names.
fn components(context: &Context) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = context
        .registries
        .registries
        .values()
        .filter_map(|config| config.provider.as_deref())
        .filter(|name| is_path(name))
        .map(|name| context.registries.resolve(Path::new(name)))
        .collect();
    paths.dedup();
    paths
}

fn is_path(name: &str) -> bool {
    name.contains('/') || Path::new(name).extension().is_some_and(|extension| extension == "wasm")
}

fn located(context: &Context, name: &str) -> String {
    if is_path(name) {
        context.registries.resolve(Path::new(name)).display().to_string()
    } else {
        name.to_owned()
    }
}

/// Opens a session with a registry, for one of its repositories where that is known (credentials may depend on it).
pub async fn open(
    context: &Context,
    registry: &Registry,
    repository: Option<&Repository>,
) -> Result<Session, Error> {
    // Before anything is sent: what is found is blanked in all output from here on.
    let (credential, broken) = match context.credentials.find(registry, repository).await {
        Ok(found) => (found, None),
        // Docker's files speak about all registries. One that is broken matters when this one wants to know who we are.
        Err(CredentialError::Docker(error)) => (None, Some(chain(&error))),
        Err(error) => return Err(error.into()),
    };
    let Chosen { scheme, selection, providers, http, .. } = choose(context, registry, false).await?;
    let failed = |error: ClientError| failure(registry, credential.as_ref(), error);
    let mut call = CallContext {
        dry_run: context.options.dry_run,
        ..CallContext::new(registry.clone(), scheme.as_str(), context.options.operation)
    };
    if let Some(config) = context.registries.get(registry) {
        call.settings.clone_from(&config.settings);
    }
    call.credentials = slots(context, &selection, registry, credential.as_ref()).await?;
    let base = base_url(registry, scheme).map_err(failed)?;
    let standard = Standard::new(base, native(credential.as_ref()), http.clone());
    let label = selection.provider.manifest.label();
    let provider =
        providers.load(&selection, call).await.map_err(|error| Error::Dialect(error.to_string()))?;
    let provider = Arc::new(provider.with_fallback(Arc::new(standard)));
    let mut dialect: Arc<dyn Dialect> = provider.clone();
    if let Some(reason) = broken {
        dialect = Arc::new(WithoutCredential { inner: dialect, reason });
    }
    let options = ClientOptions {
        retry: context.retry()?,
        operation: context.options.operation.to_owned(),
        progress: Arc::clone(&context.progress),
    };
    let client = Client::new(registry.clone(), scheme, http, dialect, options).map_err(failed)?;
    Ok(Session { client, provider: label, dialect: provider, credential, registry: registry.clone() })
}

/// The credentials of all slots that the provider declares.
async fn slots(
    context: &Context,
    selection: &Selection,
    registry: &Registry,
    credential: Option<&Found>,
) -> Result<HashMap<String, CredentialSet>, Error> {
    let mut sets = HashMap::new();
    for slot in &selection.provider.manifest.credential {
        let found = if slot.slot == REGISTRY_SLOT {
            credential.cloned()
        } else {
            context.credentials.slot(&slot.slot, registry, None).await?
        };
        if let Some(found) = found {
            sets.insert(slot.slot.clone(), set(&found));
        }
    }
    Ok(sets)
}

/// A credential as the provider contract words it.
fn set(found: &Found) -> CredentialSet {
    let mut public = vec![("source".to_owned(), found.source.clone())];
    if let Some(username) = found.credential.username() {
        public.push(("username".to_owned(), username.to_owned()));
    }
    let (name, secret) = found.credential.secret();
    CredentialSet {
        kind: found.credential.kind().to_owned(),
        public,
        secrets: vec![(name.to_owned(), secret.clone())],
        audience: Vec::new(),
    }
}

impl Session {
    /// Who the registry takes us for, by the provider or by being let in; `None` when it only says that it lets us in.
    pub async fn verify(&self) -> Result<Option<String>, Error> {
        match self.dialect.verify().await {
            Ok(facts) => {
                if let Some(warning) = facts.get("warning") {
                    let text = warning.clone();
                    self.client.progress().event(idp_oci::client::Event::Warning { text });
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

    /// The repositories of the registry: by the provider, else by `_catalog`.
    pub async fn repositories(&self) -> Result<Vec<Entry>, Error> {
        match self.dialect.repositories(&[], LONGEST_LIST).await {
            Ok(entries) => Ok(entries.into_iter().map(entry).collect()),
            Err(error) if error.kind == ErrorKind::Unsupported => {
                let names = self.client.catalog().await.map_err(|error| self.failed(error))?;
                Ok(names.into_iter().map(|name| Entry::named(name.to_string())).collect())
            }
            Err(error) => {
                let what = format!("repositories of {}", self.registry);
                Err(self.failed(ClientError::Dialect { what, error }))
            }
        }
    }

    /// The tags of a repository: by the provider, else by `tags/list`.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Entry>, Error> {
        match self.dialect.tags(repository, &[], LONGEST_LIST).await {
            Ok(entries) => Ok(entries.into_iter().map(entry).collect()),
            Err(error) if error.kind == ErrorKind::Unsupported => {
                let names = self.client.tags(repository).await.map_err(|error| self.failed(error))?;
                Ok(names.into_iter().map(|name| Entry::named(name.to_string())).collect())
            }
            Err(error) => {
                let what = format!("tags of {}/{repository}", self.registry);
                Err(self.failed(ClientError::Dialect { what, error }))
            }
        }
    }

    /// A pipeline's error with what people need to know about this session.
    pub fn pipeline_failed(&self, error: PipelineError) -> Error {
        match error {
            PipelineError::Client(error) => self.failed(error),
            other => Error::Pipeline(Box::new(other)),
        }
    }

    /// A client's error with what people need to know about this session.
    pub fn failed(&self, error: ClientError) -> Error {
        failure(&self.registry, self.credential.as_ref(), error)
    }
}

fn entry(entry: crate::provider::Entry) -> Entry {
    Entry { name: entry.name, digest: entry.digest, details: entry.extra }
}

fn failure(registry: &Registry, credential: Option<&Found>, error: ClientError) -> Error {
    let credential = credential.map(|found| found.source.clone());
    Error::Registry { registry: registry.to_string(), credential, error: Box::new(error) }
}

/// Connections to a registry, as flags, environment and `registries.yaml` want them.
fn http(context: &Context, registry: &Registry) -> Result<Http, Error> {
    let mut options = HttpOptions {
        insecure: context.insecure(registry)?,
        idle_timeout: context.timeout()?,
        ..HttpOptions::default()
    };
    if let Some(file) = context.registries.get(registry).and_then(|config| config.ca_file.as_ref()) {
        let file = context.registries.resolve(file);
        let pem = fs_err::read(&file)
            .map_err(|error| Error::Io { what: format!("reading the certificates of {registry}"), error })?;
        options.extra_roots.push(pem);
    }
    Ok(Http::new(options))
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

/// What a provider is, for `idp provider list|show`.
pub fn catalogue(context: &Context) -> Providers {
    providers(context, &HttpOptions::default())
}

/// A provider by name or path.
pub fn show(context: &Context, name: &str) -> Result<crate::provider::ProviderInfo, ProviderError> {
    catalogue(context).show(name)
}
