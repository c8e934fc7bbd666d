//! What has been learned about being let in to one registry: its challenges, and grants of the dialect with what they are good for.
//! Challenges of answers flow in, headers for requests flow out. Nobody asks for a grant that another task is asking for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::challenge;
use super::dialect::{
    AuthRequest, Authorization, Challenge, Dialect, DialectError, ErrorKind, Grant, Reuse, Scope,
};
use super::error::ClientError;
use crate::name::Repository;
use crate::secret::Secret;

/// What a request is allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write: asked for from the first request of a push on, so that one token serves all of it.
    Push,
    /// Delete.
    Delete,
}

impl Access {
    /// The scopes of it (registries.md 0.1).
    pub fn scopes(self, repository: &Repository) -> Vec<Scope> {
        let actions: &[&str] = match self {
            Self::Pull => &["pull"],
            Self::Push => &["pull", "push"],
            Self::Delete => &["delete"],
        };
        vec![Scope::repository(repository, actions)]
    }
}

/// Headers that let a request in, for as long as they do.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    id: u64,
    pub(super) headers: HeaderMap,
}

#[derive(Debug)]
struct Kept {
    pass: Pass,
    asked: Vec<Scope>,
    reuse: Reuse,
    until: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    /// An answer came: what can be known without asking is known.
    answered: bool,
    challenges: Vec<Challenge>,
    /// The challenges are another process's: this one has not seen any.
    remembered: bool,
    kept: Vec<Kept>,
    refused: Vec<(Vec<Scope>, ClientError)>,
    secrets: Vec<Secret>,
    next_id: u64,
}

/// One registry, one identity.
#[derive(Debug)]
pub(super) struct Session {
    dialect: Arc<dyn Dialect>,
    operation: String,
    state: Mutex<State>,
    first: tokio::sync::Mutex<()>,
    flights: Mutex<HashMap<Vec<Scope>, Arc<tokio::sync::Mutex<()>>>>,
}

impl Session {
    pub(super) fn new(dialect: Arc<dyn Dialect>, operation: String) -> Self {
        let (state, first, flights) = Default::default();
        Self { dialect, operation, state, first, flights }
    }

    /// Starts from what the registry asked for another time (`WWW-Authenticate` values). Scopes are not believed: they were another
    /// request's.
    pub(super) fn remember(&self, values: &[String]) {
        let mut challenges: Vec<Challenge> =
            values.iter().flat_map(|value| challenge::parse(value)).collect();
        for challenge in &mut challenges {
            challenge
                .params
                .retain(|(name, _)| !matches!(name.as_str(), "scope" | "error" | "error_description"));
        }
        let mut state = self.state();
        state.remembered = !challenges.is_empty();
        state.challenges = challenges;
    }

    /// True, once, when the challenges were another process's: they led nowhere, and are forgotten.
    pub(super) fn forget_remembered(&self) -> bool {
        let mut state = self.state();
        let remembered = std::mem::take(&mut state.remembered);
        if remembered {
            state.challenges.clear();
        }
        remembered
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the first answer is there, one request goes alone: it learns the challenge for all, and a wrong password is tried
    /// once and not once a worker (case 31).
    pub(super) async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.state().answered {
            return None;
        }
        let turn = self.first.lock().await;
        (!self.state().answered).then_some(turn)
    }

    /// The first exchange is over.
    pub(super) fn answered(&self) {
        self.state().answered = true;
    }

    /// Remembers the challenges of an answer, whatever its status: some registries send them with 200.
    pub(super) fn learn(&self, headers: &HeaderMap) -> Vec<Challenge> {
        let challenges = challenge::of_headers(headers);
        if !challenges.is_empty() {
            let mut state = self.state();
            state.challenges.clone_from(&challenges);
            state.remembered = false;
        }
        challenges
    }

    /// The challenges of the last answer that had any.
    pub(super) fn challenges(&self) -> Vec<Challenge> {
        self.state().challenges.clone()
    }

    /// A final refusal for these scopes is not asked for twice.
    pub(super) fn refused(&self, scopes: &[Scope]) -> Option<ClientError> {
        let state = self.state();
        state.refused.iter().find(|(asked, _)| asked == scopes).map(|(_, error)| error.clone())
    }

    /// Remembers a final refusal.
    pub(super) fn refuse(&self, scopes: &[Scope], error: &ClientError) {
        self.state().refused.push((scopes.to_vec(), error.clone()));
    }

    /// Something changed at the registry (a repository was made): refusals may be over, and tokens may grant too little.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.refused.clear();
        state.kept.retain(|kept| kept.reuse == Reuse::Registry);
    }

    /// A grant that is at hand.
    pub(super) fn cached(&self, scopes: &[Scope]) -> Option<Pass> {
        let now = Instant::now();
        let mut state = self.state();
        state.kept.retain(|kept| kept.until.is_none_or(|until| until > now));
        state.kept.iter().find(|kept| kept.is_good_for(scopes)).map(|kept| kept.pass.clone())
    }

    /// Asks the dialect for a grant; at the first attempt only when no other task just got one that is not the `stale` one.
    pub(super) async fn authorize(
        &self,
        scopes: &[Scope],
        challenges: &[Challenge],
        attempt: u32,
        stale: Option<&Pass>,
    ) -> Result<Pass, DialectError> {
        if let Some(stale) = stale {
            self.state().kept.retain(|kept| kept.pass.id != stale.id);
        }
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(flights.entry(scopes.to_vec()).or_default())
        };
        let _alone = flight.lock().await;
        // A second attempt wants the dialect's verdict, whatever another task was granted at its first.
        if attempt == 1
            && let Some(pass) = self.cached(scopes)
        {
            return Ok(pass);
        }
        let request = AuthRequest {
            scopes: merge(scopes, challenges, attempt),
            challenges: challenges.to_vec(),
            attempt,
            operation: self.operation.clone(),
        };
        let grant = self.dialect.authorize(&request).await?;
        let lifetime = match (&grant.authorization, grant.expires_in) {
            (_, Some(lifetime)) => Some(lifetime),
            (Authorization::Basic { .. } | Authorization::Anonymous, None) => None,
            (_, None) => Some(self.dialect.hints(None).await.token_lifetime),
        };
        self.keep(scopes, grant, lifetime)
    }

    fn keep(&self, scopes: &[Scope], grant: Grant, lifetime: Option<Duration>) -> Result<Pass, DialectError> {
        let (headers, secrets) = headers(grant.authorization)?;
        let mut state = self.state();
        for secret in secrets {
            if !state.secrets.contains(&secret) {
                state.secrets.push(secret);
            }
        }
        state.next_id += 1;
        let pass = Pass { id: state.next_id, headers };
        if grant.reuse != Reuse::Never {
            // Used up a little early: a request that is on its way when a token ends has to be sent again.
            let until = lifetime.map(|lifetime| {
                Instant::now() + lifetime.saturating_sub((lifetime / 10).min(Duration::from_secs(10)))
            });
            state.kept.push(Kept { pass: pass.clone(), asked: scopes.to_vec(), reuse: grant.reuse, until });
        }
        Ok(pass)
    }

    /// The text without anything that was used as a credential: a registry may echo what it was sent.
    pub(super) fn scrub(&self, text: &str) -> String {
        let state = self.state();
        let long_enough = state.secrets.iter().filter(|secret| secret.expose().len() >= 4);
        long_enough.fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "…"))
    }
}

impl Kept {
    fn is_good_for(&self, scopes: &[Scope]) -> bool {
        match self.reuse {
            Reuse::Never => false,
            Reuse::Registry => true,
            Reuse::Repository => scopes.iter().all(|scope| {
                self.asked.iter().any(|asked| asked.kind == scope.kind && asked.name == scope.name)
            }),
            Reuse::Scope => scopes.iter().all(|scope| {
                self.asked.iter().any(|asked| {
                    asked.kind == scope.kind
                        && asked.name == scope.name
                        && scope.actions.iter().all(|action| asked.actions.contains(action))
                })
            }),
        }
    }
}

/// What was just refused first (some token services look at the first scope only), then what we know to need. A challenge may
/// carry placeholders, so scopes of other names count only after a fresh grant was refused.
fn merge(ours: &[Scope], challenges: &[Challenge], attempt: u32) -> Vec<Scope> {
    let mut merged: Vec<Scope> = Vec::new();
    let theirs = challenges.iter().flat_map(challenge::scopes).filter(|scope| {
        attempt > 1 || ours.iter().any(|our| our.kind == scope.kind && our.name == scope.name)
    });
    for scope in theirs.chain(ours.iter().cloned()) {
        match merged.iter_mut().find(|known| known.kind == scope.kind && known.name == scope.name) {
            Some(known) => {
                known.actions.extend(scope.actions);
                known.actions.sort();
                known.actions.dedup();
            }
            None => merged.push(scope),
        }
    }
    merged
}

/// The headers of an authorization, marked as sensitive, and what of them must never be shown.
fn headers(authorization: Authorization) -> Result<(HeaderMap, Vec<Secret>), DialectError> {
    let mut headers = HeaderMap::new();
    let mut secrets = Vec::new();
    let mut insert = |name: HeaderName, value: &Secret| {
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
            DialectError::new(ErrorKind::Invalid, format!("the credential cannot stand in a `{name}` header"))
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok::<_, DialectError>(())
    };
    match authorization {
        Authorization::Anonymous => {}
        Authorization::Bearer(token) => {
            insert(AUTHORIZATION, &Secret::new(format!("Bearer {}", token.expose())))?;
            secrets.push(token);
        }
        Authorization::Basic { username, password } => {
            let pair = Secret::new(format!("{username}:{}", password.expose()));
            let encoded = Secret::new(base64::engine::general_purpose::STANDARD.encode(pair.expose()));
            insert(AUTHORIZATION, &Secret::new(format!("Basic {}", encoded.expose())))?;
            secrets.extend([password, encoded]);
        }
        Authorization::Headers(pairs) => {
            for (name, value) in pairs {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                    DialectError::new(ErrorKind::Invalid, format!("`{name}` is not a header name"))
                })?;
                insert(name, &value)?;
                secrets.push(value);
            }
        }
    }
    Ok((headers, secrets))
}

#[cfg(test)]
mod tests {
    use super::{Access, merge};
    use crate::client::challenge::parse;

    /// Case 24, registries.md 0.1.
    #[test]
    fn what_was_refused_comes_first() {
        let ours = [
            Access::Push.scopes(&"a/b".parse().expect("a repository")),
            Access::Pull.scopes(&"c".parse().expect("a repository")),
        ]
        .concat();
        let challenges =
            parse(r#"Bearer realm="r",scope="repository:user/image:pull repository:c:pull,push""#);
        let shown = |attempt| -> Vec<String> {
            merge(&ours, &challenges, attempt).iter().map(ToString::to_string).collect()
        };
        assert_eq!(shown(1), ["repository:c:pull,push", "repository:a/b:pull,push"]);
        assert_eq!(
            shown(2),
            ["repository:user/image:pull", "repository:c:pull,push", "repository:a/b:pull,push"]
        );
    }
}
