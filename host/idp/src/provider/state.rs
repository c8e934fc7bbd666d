//! What the host keeps for one call, and the imports that answer from it: `log`, `ambient`, `invocation`. The effectful imports are in
//! [`super::host_http`] and [`super::host_secrets`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idp_oci::client::dialect::{Answer, Challenge, Scope};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::clock::Clock;
use super::context::CallContext;
use super::egress::Gate;
use super::error::{Limit, LimitHit, NoCredential};
use super::holdings::Holdings;
use super::memory::Memory;
use super::pattern::OriginPattern;
use super::scrub::Scrubber;
use super::secrets::{Audience, Held};
use super::v0_1::idp::registry_provider::{ambient, invocation, log, types};

/// Lines a call.
pub(crate) const LOG_LINES: usize = 200;
/// Bytes a line.
pub(crate) const LOG_LINE: usize = 4096;
/// Bytes of the secrets that one call derives.
const DERIVED_MAX: usize = 64 * 1024 * 1024;

/// What a provider logged in one call; outlives the store, so that a failure can quote it.
#[derive(Debug, Clone)]
pub(crate) struct LogBook {
    provider: Arc<str>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl LogBook {
    pub(crate) fn new(provider: &str) -> Self {
        Self { provider: provider.into(), lines: Arc::default() }
    }

    /// Keeps a line that holds no secret any more. The line after the last ends the call.
    pub(crate) fn add(&self, level: log::Level, line: String) -> Result<(), LimitHit> {
        let provider = &*self.provider;
        {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            // Before it is shown: a guest may go on writing to its standard output after the error.
            if lines.len() >= LOG_LINES {
                return Err(LimitHit(Limit::Log));
            }
            lines.push(line.clone());
        }
        match level {
            log::Level::Trace => tracing::trace!(target: "idp::provider", provider, "{line}"),
            log::Level::Debug => tracing::debug!(target: "idp::provider", provider, "{line}"),
            log::Level::Info => tracing::info!(target: "idp::provider", provider, "{line}"),
            log::Level::Warn => tracing::warn!(target: "idp::provider", provider, "{line}"),
            log::Level::Error => tracing::error!(target: "idp::provider", provider, "{line}"),
        }
        Ok(())
    }

    /// The last lines.
    pub(crate) fn tail(&self, count: usize) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines[lines.len().saturating_sub(count)..].to_vec()
    }
}

/// What one question is about, beyond the context of the registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    pub(crate) challenges: Vec<Challenge>,
    pub(crate) attempt: u32,
    pub(crate) operation: Option<String>,
    pub(crate) subject: Option<Answer>,
}

/// An answer to a request of the host's own, as a guest may see it: what a query holds may let one in.
fn subject(answer: &Answer, scrub: &Scrubber) -> invocation::Answer {
    let clean = |text: &str| {
        let mut text = text.to_owned();
        scrub.text(&mut text);
        text
    };
    let path = |text: &str| clean(text.split(['?', '#']).next().unwrap_or_default());
    let headers = answer.headers.iter().filter(|(name, _)| !name.starts_with("set-cookie"));
    let headers = headers
        .map(|(name, value)| (name.clone(), if name == "location" { path(value) } else { clean(value) }));
    invocation::Answer {
        method: answer.method.clone(),
        url: path(&answer.url),
        status: answer.status,
        headers: headers.collect(),
        body_prefix: clean(&answer.body),
        extra: Vec::new(),
    }
}

/// The data of one store.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    pub(crate) holdings: Holdings,
    /// Bytes of what was derived so far; what was dropped counts too.
    pub(crate) derived: usize,
    pub(crate) wasi: WasiCtx,
    pub(crate) gate: Gate,
    pub(crate) scrub: Scrubber,
    pub(crate) log: LogBook,
    pub(crate) context: Arc<CallContext>,
    /// Where each slot's credential may go; a slot that the manifest does not declare is not there.
    pub(crate) audiences: Arc<HashMap<String, Vec<OriginPattern>>>,
    pub(crate) settings: Arc<Vec<String>>,
    pub(crate) question: Question,
    pub(crate) granted: Vec<Scope>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) clock: Clock,
}

impl State {
    /// Puts a secret that was just made into the guest's table, and counts it.
    pub(crate) fn lend_derived(&mut self, held: Held) -> wasmtime::Result<Resource<Held>> {
        self.derived = self.derived.saturating_add(held.expose().len());
        if self.derived > DERIVED_MAX {
            return Err(LimitHit(Limit::Secrets).into());
        }
        self.lend(held)
    }

    /// Puts a secret into the guest's table.
    pub(crate) fn lend(&mut self, held: Held) -> wasmtime::Result<Resource<Held>> {
        self.table.push(held).map_err(|_| LimitHit(Limit::Handles).into())
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for State {}

impl log::Host for State {
    async fn emit(
        &mut self,
        level: log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let mut line = self.scrub.line(&message, LOG_LINE);
        for (key, value) in fields.iter().take(32) {
            line.push(' ');
            line.push_str(&self.scrub.line(&format!("{key}={value}"), LOG_LINE));
            if line.len() > LOG_LINE {
                line = self.scrub.line(&line, LOG_LINE);
                break;
            }
        }
        Ok(self.log.add(level, line)?)
    }
}

impl ambient::Host for State {
    async fn unix_time_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.context.now.unix_ms())
    }

    async fn random(&mut self, len: u32) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(4096)];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
            .map_err(|_| wasmtime::Error::msg("the system has no randomness"))?;
        Ok(bytes)
    }
}

impl invocation::Host for State {
    async fn registry(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.registry.to_string())
    }

    async fn scheme(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.scheme.clone())
    }

    async fn setting(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let declared = self.settings.contains(&name);
        Ok(self.context.settings.get(&name).filter(|_| declared).cloned())
    }

    async fn credential(&mut self, slot: String) -> wasmtime::Result<Option<invocation::CredentialSet>> {
        let context = Arc::clone(&self.context);
        let Some(declared) = self.audiences.get(&slot) else { return Ok(None) };
        let set = {
            // What a helper program takes is not the provider's time.
            let _pause = self.clock.pause();
            context.credential(&slot).await.map_err(|why| NoCredential(why.to_owned()))?
        };
        let Some(set) = set else { return Ok(None) };
        let audience = Audience::only([declared.as_slice(), &set.audience].concat());
        let mut secret = Vec::with_capacity(set.secrets.len());
        for (name, value) in &set.secrets {
            let held = Held::credential(value, audience.clone());
            // From now on it is searched for, whatever the guest makes of it.
            self.scrub.learn(&held)?;
            secret.push((name.clone(), self.lend(held)?));
        }
        Ok(Some(invocation::CredentialSet { kind: set.kind.clone(), public: set.public.clone(), secret }))
    }

    async fn challenges(&mut self) -> wasmtime::Result<Vec<invocation::Challenge>> {
        let challenges = self.question.challenges.iter().map(|challenge| invocation::Challenge {
            scheme: challenge.scheme.clone(),
            params: challenge.params.clone(),
            raw: challenge.raw.clone(),
        });
        Ok(challenges.collect())
    }

    async fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.question.attempt.max(1))
    }

    async fn subject(&mut self) -> wasmtime::Result<Option<invocation::Answer>> {
        let Some(answer) = &self.question.subject else { return Ok(None) };
        // The host sent that request: with the credentials, whether or not the guest has asked for them in this call.
        for value in self.context.secrets() {
            self.scrub.learn(&Held::credential(value, Audience::only(Vec::new())))?;
        }
        Ok(Some(subject(answer, &self.scrub)))
    }

    async fn operation(&mut self) -> wasmtime::Result<String> {
        Ok(self.question.operation.clone().unwrap_or_else(|| self.context.operation.clone()))
    }

    async fn granted(&mut self) -> wasmtime::Result<Vec<types::Scope>> {
        Ok(self.granted.iter().map(super::convert::scope_out).collect())
    }

    async fn dry_run(&mut self) -> wasmtime::Result<bool> {
        Ok(self.context.dry_run)
    }

    async fn remembered(&mut self, key: String) -> wasmtime::Result<Option<Resource<Held>>> {
        match self.memory.get(&key) {
            Some(held) => {
                self.scrub.learn(&held)?;
                Ok(Some(self.lend(held)?))
            }
            None => Ok(None),
        }
    }

    async fn remember(
        &mut self,
        key: String,
        value: Resource<Held>,
        expires_in_s: u32,
    ) -> wasmtime::Result<()> {
        let held = self.table.delete(value)?;
        if key.len() <= 256 {
            self.memory.put(key, held, Duration::from_secs(u64::from(expires_in_s)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use idp_oci::client::dialect::Answer;
    use idp_oci::secret::Secret;

    use super::{LOG_LINES, LogBook, subject};
    use crate::provider::scrub::Scrubber;
    use crate::provider::secrets::{Audience, Held};
    use crate::provider::v0_1::idp::registry_provider::log::Level;

    #[test]
    fn the_answer_in_question_shows_no_secret() {
        let scrub = Scrubber::default();
        let secret = Held::credential(&Secret::new("hunter2-hunter2"), Audience::default());
        scrub.learn(&secret).expect("one");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let shown = subject(
            &Answer {
                method: "PUT".to_owned(),
                url: "https://store.example/x?signature=s-1".to_owned(),
                status: 403,
                headers: vec![
                    pair("location", "https://store.example/y?signature=s-1"),
                    pair("x-echo", "Bearer hunter2-hunter2"),
                    pair("set-cookie", "a=b"),
                ],
                body: "you sent aHVudGVyMi1odW50ZXIy".to_owned(),
            },
            &scrub,
        );
        assert_eq!(shown.url, "https://store.example/x");
        assert_eq!(
            shown.headers,
            [pair("location", "https://store.example/y"), pair("x-echo", "Bearer ***")]
        );
        assert!(!shown.body_prefix.contains("aHVudGVy"), "{}", shown.body_prefix);
    }

    #[test]
    fn the_log_ends() {
        let log = LogBook::new("x 1");
        for _ in 0..LOG_LINES {
            log.add(Level::Debug, "line".to_owned()).expect("within the limit");
        }
        assert!(log.add(Level::Debug, "one more".to_owned()).is_err());
        assert_eq!((log.tail(1), log.tail(1000).len()), (vec!["line".to_owned()], LOG_LINES));
    }
}
