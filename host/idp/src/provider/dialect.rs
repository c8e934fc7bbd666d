//! A loaded provider as the client's [`Dialect`]: questions of the pipeline in, answers of the component out. Where a question is not the
//! provider's, the specification's behaviour takes over (`wit/README.md`, "Life cycle").

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use idp_oci::client::dialect::{
    Answer, AuthRequest, Authorization, Challenge, Dialect, DialectError, Ensured, ErrorKind, Explanation,
    Grant, Hints, Scope,
};
use idp_oci::client::dialect::{Created, EnsureState};
use idp_oci::name::Repository;
use idp_oci::secret::Secret;
use std::time::Duration;

use super::call::{Asked, Budget, Linked, Shared};
use super::challenge;
use super::context::{CallContext, Create};
use super::convert::{error_in, explanation_in, reuse_in, scope_in, scope_out};
use super::egress::{Policy, changes_request};
use super::error::NotAllowed;
use super::grants::Grants;
use super::manifest::{EnsureWhen, Manifest};
use super::memory::Memory;
use super::pattern::{Captures, Origin, OriginPattern, Symbols};
use super::product::map;
use super::secrets::{Audience, Held};
use super::state::{Question, State};
use super::transport::Transport;
use super::v0_1::exports::idp::registry_provider::auth;

/// The code of an error about a question that a component has no answer to at all; one that it answers with `unsupported` has the
/// component's own reason.
pub const NOT_EXPORTED: &str = "not-exported";

/// A provider that speaks for one registry and one identity.
pub struct ProviderDialect {
    pub(crate) linked: Linked,
    pub(crate) shared: Shared,
    manifest: Arc<Manifest>,
    registry: Origin,
    /// Learned from challenges, for calls that act ahead of one.
    realms: Mutex<Vec<(Origin, String)>>,
    granted: Mutex<Vec<Scope>>,
    fallback: Option<Arc<dyn Dialect>>,
}

impl fmt::Debug for ProviderDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProviderDialect({} for {})", self.linked.label(), self.registry)
    }
}

impl ProviderDialect {
    pub(crate) fn new(
        linked: Linked,
        manifest: Arc<Manifest>,
        grants: Grants,
        captures: &Captures,
        context: CallContext,
        transport: Arc<dyn Transport>,
        deadline: Duration,
    ) -> Result<Self, DialectError> {
        let registry = Origin::registry(&context.scheme, context.registry.as_str()).ok_or_else(|| {
            DialectError::new(ErrorKind::Invalid, format!("`{}` is not a registry", context.registry))
        })?;
        let mut audiences = HashMap::new();
        for slot in &manifest.credential {
            let origins = slot.audience.iter().filter_map(|origin| origin.fill(captures).ok());
            audiences.insert(slot.slot.clone(), origins.collect::<Vec<OriginPattern>>());
        }
        let policy = Policy::new(&manifest, grants, captures);
        let settings = manifest.setting.iter().map(|setting| setting.name.clone()).collect();
        let shared = Shared {
            context: Arc::new(context),
            policy: Arc::new(policy),
            transport,
            audiences: Arc::new(audiences),
            settings: Arc::new(settings),
            memory: Arc::default(),
            deadline,
        };
        Ok(Self {
            linked,
            shared,
            manifest,
            registry,
            realms: Mutex::default(),
            granted: Mutex::default(),
            fallback: None,
        })
    }

    /// What is remembered, instead of nothing.
    #[must_use]
    pub(crate) fn with_memory(mut self, memory: Memory) -> Self {
        self.shared.memory = Arc::new(memory);
        self
    }

    /// Who answers what the provider leaves to the specification: the client's own Basic and Bearer flow.
    #[must_use]
    pub fn with_fallback(mut self, fallback: Arc<dyn Dialect>) -> Self {
        self.fallback = Some(fallback);
        self
    }

    /// Nothing is remembered, whatever earlier commands were told.
    #[must_use]
    pub fn forgetful(mut self) -> Self {
        self.shared.memory = Arc::default();
        self
    }

    /// As if an earlier call had remembered a value; for an hour. It may have come from wherever the provider asks.
    pub fn remembers(&self, key: &str, value: &Secret) {
        let asked = self.manifest.egress.iter().map(|rule| rule.origin.clone());
        let audience = Audience::only([OriginPattern::Registry].into_iter().chain(asked).collect());
        let held = Held::captured(value.expose().as_bytes(), audience, &[]);
        self.shared.memory.put(key.to_owned(), held, Duration::from_secs(3600));
    }

    /// The manifest of the provider.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the provider asks to reach, and whether it may.
    pub fn grants(&self) -> &Grants {
        &self.shared.policy.grants
    }

    /// Whether it is part of idp.
    pub(crate) fn trusted(&self) -> bool {
        self.shared.policy.grants.is_built_in()
    }

    /// Whether a request to another registry's API would be let out.
    pub(crate) fn may_reach(&self, host: &idp_oci::name::Registry) -> bool {
        let symbols = Symbols { registry: self.registry.clone(), realms: Vec::new() };
        let url = format!("{}://{host}/v2/", self.shared.context.scheme);
        url.parse().is_ok_and(|url| self.shared.policy.grants.check("GET", &url, &symbols).is_ok())
    }

    /// A call with what is known of this registry.
    pub(crate) fn asked(&self, export: &'static str, budget: Budget, question: Question) -> Asked {
        let symbols = self.symbols(&question.challenges);
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Asked { export, budget, question, symbols, granted }
    }

    /// The realms of these challenges, or of the last ones that had any.
    fn symbols(&self, challenges: &[Challenge]) -> Symbols {
        let found = challenge::realms(challenges, &self.registry);
        let mut realms = self.realms.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.is_empty() {
            *realms = found;
        }
        Symbols { registry: self.registry.clone(), realms: realms.clone() }
    }

    /// An error of the guest as the client's.
    pub(crate) fn refused(&self, error: super::v0_1::idp::registry_provider::types::Error) -> DialectError {
        error_in(error, self.linked.label())
    }

    pub(crate) fn unsupported(&self, what: &str) -> DialectError {
        let text = format!("provider {} does not answer {what}", self.linked.label());
        DialectError { code: NOT_EXPORTED.to_owned(), ..DialectError::new(ErrorKind::Unsupported, text) }
    }

    async fn ask_authorize(&self, request: &AuthRequest) -> Result<Grant, DialectError> {
        let Some(indices) = self.linked.exports.auth.clone() else {
            return Err(self.unsupported("auth.authorize"));
        };
        let question = Question {
            challenges: request.challenges.clone(),
            attempt: request.attempt,
            operation: Some(request.operation.clone()).filter(|operation| !operation.is_empty()),
            subject: None,
        };
        let asked = self.asked("auth.authorize", Budget::USUAL, question);
        let scopes: Vec<_> = request.scopes.iter().map(scope_out).collect();
        let grant = self
            .linked
            .call(
                &self.shared,
                asked,
                |store, instance| {
                    Box::pin(async move {
                        indices.load(&mut *store, instance)?.call_authorize(&mut *store, &scopes).await
                    })
                },
                read_grant,
            )
            .await?
            .map_err(|error| self.refused(error))?;
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.clone_from(&grant.scopes);
        Ok(grant)
    }

    /// `None` when the provider has nothing to say.
    async fn ask_explain(
        &self,
        answer: &Answer,
        operation: &str,
    ) -> Result<Option<Explanation>, DialectError> {
        let Some(indices) = self.linked.exports.explanations.clone() else { return Ok(None) };
        let question = Question {
            subject: Some(answer.clone()),
            operation: Some(operation.to_owned()),
            ..Question::default()
        };
        let asked = self.asked("explanations.explain", Budget::USUAL, question);
        let explained = self
            .linked
            .call(
                &self.shared,
                asked,
                |store, instance| {
                    Box::pin(
                        async move { indices.load(&mut *store, instance)?.call_explain(&mut *store).await },
                    )
                },
                |_, explanation| Ok(explanation_in(explanation)),
            )
            .await?;
        match explained {
            Ok(explanation) => Ok(Some(explanation)),
            Err(error) => {
                let error = self.refused(error);
                if error.kind == ErrorKind::Unsupported { Ok(None) } else { Err(error) }
            }
        }
    }

    async fn ask_hints(&self, repository: Option<&Repository>) -> Result<Hints, DialectError> {
        let Some(indices) = self.linked.exports.transport.clone() else { return Ok(Hints::default()) };
        let asked = self.asked("transport.hints", Budget::USUAL, Question::default());
        let repository = repository.map(ToString::to_string);
        let pairs = self
            .linked
            .call(
                &self.shared,
                asked,
                |store, instance| {
                    Box::pin(async move {
                        let guest = indices.load(&mut *store, instance)?;
                        guest.call_hints(&mut *store, repository.as_deref()).await
                    })
                },
                |_, pairs| Ok(pairs),
            )
            .await?
            .map_err(|error| self.refused(error))?;
        Ok(Hints::from_pairs(pairs))
    }

    /// Makes a repository ready whatever the manifest says about when; `Ok(None)` when the provider does not do that.
    pub async fn ensure_now(&self, repository: &Repository) -> Result<Option<Ensured>, DialectError> {
        let Some(indices) = self.linked.exports.repositories.clone() else { return Ok(None) };
        let asked = self.asked("repositories.ensure", Budget::USUAL, Question::default());
        let options = self.ensure_options();
        let name = repository.to_string();
        let ensured = self
            .linked
            .call(
                &self.shared,
                asked,
                |store, instance| {
                    Box::pin(async move {
                        let guest = indices.load(&mut *store, instance)?;
                        guest.call_ensure(&mut *store, &name, &options).await
                    })
                },
                |_, repository| Ok(repository.extra),
            )
            .await?;
        match ensured {
            Ok(extra) => Ok(Some(ensured_in(map(extra), repository))),
            Err(error) => {
                let error = self.refused(error);
                if error.kind == ErrorKind::Unsupported { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Flags, then settings of the registry.
    fn ensure_options(&self) -> Vec<(String, String)> {
        let context = &self.shared.context;
        let settings: &BTreeMap<String, String> = &context.settings;
        let parent = (context.create == Create::Parent).then(|| "true".to_owned());
        [("visibility", context.visibility.clone()), ("description", None), ("create-parent", parent)]
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.or_else(|| settings.get(key).cloned())?)))
            .collect()
    }

    /// A warning where generic behaviour goes on.
    fn goes_on(&self, question: &str, error: &DialectError) {
        tracing::warn!(target: "idp::provider", "{question}: going on with the defaults: {error}");
    }
}

/// A secret of a grant, when it may be sent to the registry and fits into a header.
pub(crate) fn granted_secret(held: Held, symbols: &Symbols) -> wasmtime::Result<Secret> {
    if !held.admits(&symbols.registry, symbols) {
        let text = "it granted the registry a secret that may not be sent there".to_owned();
        return Err(NotAllowed(text).into());
    }
    held.into_secret()
        .map_err(|_| NotAllowed("it granted a secret that fits into no header".to_owned()).into())
}

/// `repository.extra` of `repositories.ensure`.
fn ensured_in(mut extra: BTreeMap<String, String>, repository: &Repository) -> Ensured {
    let state = match extra.get("state").map(String::as_str) {
        Some("created") => EnsureState::Created,
        Some("implicit") => EnsureState::Implicit,
        _ => EnsureState::Exists,
    };
    let created = (state == EnsureState::Created).then(|| Created {
        kind: extra.remove("created").unwrap_or_else(|| "repository".to_owned()),
        name: extra.remove("created-name").unwrap_or_else(|| repository.to_string()),
        visibility: extra.remove("visibility"),
    });
    Ensured { state, created, note: extra.remove("note") }
}

/// Takes the secrets of a grant out of the guest's table, for the registry only.
fn read_grant(state: &mut State, grant: auth::Grant) -> wasmtime::Result<Grant> {
    let symbols = state.gate.symbols().clone();
    let mut take = |handle| -> wasmtime::Result<_> {
        let held: Held = state.table.delete(handle)?;
        granted_secret(held, &symbols)
    };
    let authorization = match grant.authorization {
        auth::Authorization::Anonymous => Authorization::Anonymous,
        auth::Authorization::Bearer(token) => Authorization::Bearer(take(token)?),
        auth::Authorization::Basic((username, password)) => {
            if username.contains(':') || username.chars().any(char::is_control) {
                return Err(
                    NotAllowed("it granted a user name with `:` or control characters".to_owned()).into()
                );
            }
            Authorization::Basic { username, password: take(password)? }
        }
        auth::Authorization::Headers(headers) => {
            let mut taken = Vec::with_capacity(headers.len());
            for (name, value) in headers {
                if !may_grant(&name) {
                    let text = format!("it granted the header `{}`", name.escape_debug());
                    return Err(NotAllowed(text).into());
                }
                taken.push((name, take(value)?));
            }
            Authorization::Headers(taken)
        }
    };
    Ok(Grant {
        authorization,
        scopes: grant.scopes.into_iter().map(scope_in).collect(),
        expires_in: grant.expires_in_s.map(|seconds| Duration::from_secs(u64::from(seconds))),
        reuse: reuse_in(grant.reuse),
    })
}

/// Headers that may carry a grant: `authorization`, and names of the product's own.
fn may_grant(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let token = !lower.is_empty()
        && lower.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    token
        && !changes_request(&lower)
        && (lower == "authorization"
            || lower == "private-token"
            || lower == "job-token"
            || lower.starts_with("x-"))
}

#[async_trait]
impl Dialect for ProviderDialect {
    fn name(&self) -> String {
        self.linked.label().to_owned()
    }

    async fn authorize(&self, request: &AuthRequest) -> Result<Grant, DialectError> {
        match (self.ask_authorize(request).await, &self.fallback) {
            (Err(error), Some(fallback)) if error.kind == ErrorKind::Unsupported => {
                fallback.authorize(request).await
            }
            (answer, _) => answer,
        }
    }

    async fn hints(&self, repository: Option<&Repository>) -> Hints {
        self.ask_hints(repository).await.unwrap_or_else(|error| {
            if error.kind != ErrorKind::Unsupported {
                self.goes_on("transport.hints", &error);
            }
            Hints::default()
        })
    }

    async fn explain(&self, answer: &Answer, operation: &str) -> Option<Explanation> {
        self.ask_explain(answer, operation).await.unwrap_or_else(|error| {
            self.goes_on("explanations.explain", &error);
            None
        })
    }

    async fn ensure(
        &self,
        repository: &Repository,
        after: Option<&str>,
    ) -> Result<Option<Ensured>, DialectError> {
        let create = self.shared.context.create;
        let wanted = match (self.manifest.ensure.when, after) {
            _ if create == Create::Never => false,
            // Who wants the parent made is not to be told that it is missing.
            (_, Some("missing-parent")) if create == Create::Parent => true,
            (EnsureWhen::BeforePush, None) => true,
            (EnsureWhen::AfterFailure, Some(class)) => {
                self.manifest.ensure.classes.iter().any(|wanted| wanted == class)
            }
            (EnsureWhen::Never | EnsureWhen::BeforePush | EnsureWhen::AfterFailure, _) => false,
        };
        if wanted { self.ensure_now(repository).await } else { Ok(None) }
    }
}
