//! A client for one registry: how it is reached, as whom, and through which provider.

use std::sync::Arc;

use idp_oci::client::dialect::{AuthRequest, Dialect, DialectError, ErrorKind, Grant};
use idp_oci::client::http::{Http, HttpOptions};
use idp_oci::client::standard::{Credential as Native, Standard};
use idp_oci::client::{Client, ClientError, ClientOptions, Scheme, base_url};
use idp_oci::name::{Registry, Repository};
use idp_oci::pipeline::PipelineError;

use super::list::Entry;
use super::{Context, Error};
use crate::config::credentials::{Credential, CredentialError, Found};

/// One registry, ready to be spoken to. Nothing has been sent to it yet, except to find out whether it speaks TLS where plain HTTP
/// is allowed.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client: Client,
    /// The provider's name and version.
    pub provider: String,
    /// What is used to log in.
    pub credential: Option<Found>,
    registry: Registry,
}

/// Opens a session with a registry, for one of its repositories where that is known (credentials may depend on it).
pub async fn open(
    context: &Context,
    registry: &Registry,
    repository: Option<&Repository>,
) -> Result<Session, Error> {
    let http = http(context, registry)?;
    let scheme = Scheme::of(registry, context.insecure(registry)?).await;
    let failed = |error: ClientError| failure(registry, None, error);
    let (credential, broken) = match context.credentials.find(registry, repository).await {
        Ok(found) => (found, None),
        // Docker's files speak about all registries. One that is broken matters when this one wants to know who we are.
        Err(CredentialError::Docker(error)) => (None, Some(chain(&error))),
        Err(error) => return Err(error.into()),
    };
    let base = base_url(registry, scheme).map_err(failed)?;
    let standard = Standard::new(base, native(credential.as_ref()), http.clone());
    let dialect: Arc<dyn Dialect> = Arc::new(standard);
    let dialect = match broken {
        None => dialect,
        Some(reason) => Arc::new(WithoutCredential { inner: dialect, reason }) as Arc<dyn Dialect>,
    };
    let provider = dialect.name();
    let options = ClientOptions {
        retry: context.retry()?,
        operation: context.options.operation.to_owned(),
        progress: Arc::clone(&context.progress),
    };
    let client = Client::new(registry.clone(), scheme, http, dialect, options).map_err(failed)?;
    Ok(Session { client, provider, credential, registry: registry.clone() })
}

impl Session {
    /// Who the registry takes us for; `None` when it only says that it lets us in.
    pub async fn verify(&self) -> Result<Option<String>, Error> {
        self.client.check().await.map_err(|error| self.failed(error))?;
        Ok(None)
    }

    /// The repositories of the registry.
    pub async fn repositories(&self) -> Result<Vec<Entry>, Error> {
        let names = self.client.catalog().await.map_err(|error| self.failed(error))?;
        Ok(names.into_iter().map(|name| Entry::named(name.to_string())).collect())
    }

    /// The tags of a repository.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Entry>, Error> {
        let names = self.client.tags(repository).await.map_err(|error| self.failed(error))?;
        Ok(names.into_iter().map(|name| Entry::named(name.to_string())).collect())
    }

    /// A pipeline's error with what people need to know about this session.
    pub fn pipeline_failed(&self, error: PipelineError) -> Error {
        match error {
            PipelineError::Client(error) => self.failed(error),
            other => Error::Pipeline(other),
        }
    }

    /// A client's error with what people need to know about this session.
    pub fn failed(&self, error: ClientError) -> Error {
        failure(&self.registry, self.credential.as_ref(), error)
    }
}

fn failure(registry: &Registry, credential: Option<&Found>, error: ClientError) -> Error {
    let credential = credential.map(|found| found.source.clone());
    Error::Registry { registry: registry.to_string(), credential, error }
}

/// Connections to a registry, as flags, environment and `registries.yaml` want them.
pub fn http(context: &Context, registry: &Registry) -> Result<Http, Error> {
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
        Err(DialectError::new(ErrorKind::Unauthenticated, format!("the registry asks who we are, and {}", self.reason)))
    }

    async fn hints(&self, repository: Option<&Repository>) -> idp_oci::client::dialect::Hints {
        self.inner.hints(repository).await
    }

    async fn explain(
        &self,
        answer: &idp_oci::client::dialect::Answer,
        operation: &str,
    ) -> Option<idp_oci::client::dialect::Explanation> {
        self.inner.explain(answer, operation).await
    }

    async fn ensure(
        &self,
        repository: &Repository,
        after: Option<&str>,
    ) -> Result<Option<idp_oci::client::dialect::Ensured>, DialectError> {
        self.inner.ensure(repository, after).await
    }
}
