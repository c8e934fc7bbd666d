//! Calls of exported functions: a fresh store a call, every budget set, every failure named. Knows components and nothing of registries.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use idp_oci::client::dialect::Scope;
use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker, ResourceTable};
use wasmtime::{Store, Trap};

use super::clock::Clock;
use super::context::CallContext;
use super::convert::{RESULT_MAX, Screen, Screened};
use super::egress::{Gate, Policy};
use super::error::{Failure, Limit, LimitHit, NoCredential, NotAllowed, ProviderError};
use super::holdings::Holdings;
use super::manifest::Manifest;
use super::memory::Memory;
use super::pattern::{OriginPattern, Symbols};
use super::scrub::Scrubber;
use super::state::{LogBook, Question, State};
use super::transport::Transport;
use super::v0_1::RegistryProvider;
use super::v0_1::exports::idp::registry_provider::{
    artifacts, auth, explanations, identity, naming, provider, repositories, transport,
};
use super::v0_1::idp::registry_provider::types;
use super::wasi;

/// Secrets and responses together.
const HANDLES_MAX: usize = 4096;
/// Bytes copied out of the guest by one host call.
const HOSTCALL_MAX: usize = 8 * 1024 * 1024;
/// Units of fuel after which other tasks get their turn.
const FUEL_SLICE: u64 = 10_000_000;
/// Quoted lines of the log.
const LOG_TAIL: usize = 20;

/// The interfaces that a component exports, found by probing.
#[derive(Clone)]
pub(crate) struct Exports {
    pub(crate) provider: provider::GuestIndices,
    pub(crate) identity: Option<identity::GuestIndices>,
    pub(crate) naming: Option<naming::GuestIndices>,
    pub(crate) auth: Option<auth::GuestIndices>,
    pub(crate) transport: Option<transport::GuestIndices>,
    pub(crate) repositories: Option<repositories::GuestIndices>,
    pub(crate) artifacts: Option<artifacts::GuestIndices>,
    pub(crate) explanations: Option<explanations::GuestIndices>,
}

/// A component, linked and ready to be instantiated.
#[derive(Clone)]
pub(crate) struct Linked {
    pre: InstancePre<State>,
    pub(crate) exports: Exports,
    label: Arc<str>,
    fuel: u64,
}

/// What all calls about one registry share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) context: Arc<CallContext>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) audiences: Arc<HashMap<String, Vec<OriginPattern>>>,
    pub(crate) settings: Arc<Vec<String>>,
    pub(crate) memory: Arc<Memory>,
    /// The most that any call may take.
    pub(crate) deadline: Duration,
}

/// Budgets that differ by question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) time: Duration,
    pub(crate) requests: u32,
}

impl Budget {
    pub(crate) const USUAL: Self = Self { time: Duration::from_secs(20), requests: 64 };
    pub(crate) const DESCRIBE: Self = Self { time: Duration::from_secs(5), requests: 0 };
    pub(crate) const IDENTIFY: Self = Self { time: Duration::from_secs(5), requests: 1 };
}

/// A call in the making.
pub(crate) struct Asked {
    pub(crate) export: &'static str,
    pub(crate) budget: Budget,
    pub(crate) question: Question,
    pub(crate) symbols: Symbols,
    pub(crate) granted: Vec<Scope>,
}

type Running<'a, R> = Pin<Box<dyn Future<Output = wasmtime::Result<Result<R, types::Error>>> + Send + 'a>>;

impl Linked {
    /// Links a component. What it imports and this host does not have is said by name.
    pub(crate) fn new(component: &Component, manifest: &Manifest) -> Result<Self, ProviderError> {
        let label = manifest.label();
        let incompatible = |detail: String| ProviderError::new(label.clone(), Failure::Incompatible, detail);
        let mut linker = Linker::new(component.engine());
        RegistryProvider::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)
            .map_err(|error| incompatible(error.to_string()))?;
        wasi::link(&mut linker, component).map_err(&incompatible)?;
        let pre = linker.instantiate_pre(component).map_err(|error| incompatible(newer(&error)))?;
        let exports = Exports::probe(component, &pre).map_err(|error| incompatible(newer(&error)))?;
        Ok(Self { pre, exports, label: label.into(), fuel: manifest.fuel() })
    }

    /// Name and version.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Runs one question. The outer error is the host's, the inner one the guest's own. `read` turns the guest's answer into
    /// something that outlives the store, which is thrown away.
    pub(crate) async fn call<R, T>(
        &self,
        shared: &Shared,
        asked: Asked,
        run: impl for<'a> FnOnce(&'a mut Store<State>, &'a Instance) -> Running<'a, R> + Send,
        read: impl FnOnce(&mut State, R) -> wasmtime::Result<T> + Send,
    ) -> Result<Result<T, types::Error>, ProviderError>
    where
        R: Screened + Send + 'static,
    {
        let started = Instant::now();
        let log = LogBook::new(&self.label);
        let export = asked.export;
        let time = asked.budget.time.min(shared.deadline);
        let failed = |failure, detail: String| ProviderError {
            export: export.to_owned(),
            log: log.tail(LOG_TAIL),
            ..ProviderError::new(&*self.label, failure, detail)
        };
        let clock = Clock::default();
        let mut store = self.store(shared, asked, log.clone(), clock.clone()).map_err(|error| {
            let (failure, detail) = classify(&error);
            failed(failure, detail)
        })?;
        let ran = clock.within(time, async {
            let instance = self.pre.instantiate_async(&mut store).await?;
            run(&mut store, &instance).await
        });
        let outcome = match ran.await {
            None => {
                let detail = format!("it did not answer within {} ms", time.as_millis());
                return Err(failed(Failure::Limit(Limit::Time), detail));
            }
            Some(Err(error)) => {
                let (failure, detail) = classify(&error);
                return Err(failed(failure, store.data().scrub.line(&detail, 2000)));
            }
            Some(Ok(outcome)) => outcome,
        };
        tracing::debug!(
            target: "idp::provider",
            provider = &*self.label,
            export,
            micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            fuel = self.fuel.saturating_sub(store.get_fuel().unwrap_or_default()),
            refused = outcome.is_err(),
            "answered"
        );
        let state = store.data_mut();
        let mut screen = Screen { scrub: &state.scrub, bytes: 0 };
        let outcome = match outcome {
            Ok(mut answer) => {
                answer.screen(&mut screen);
                Ok(answer)
            }
            Err(mut error) => {
                error.screen(&mut screen);
                Err(error)
            }
        };
        if screen.bytes > RESULT_MAX {
            return Err(failed(
                Failure::Limit(Limit::Answer),
                format!("it returned more than {RESULT_MAX} bytes"),
            ));
        }
        match outcome {
            Ok(answer) => match read(state, answer) {
                Ok(value) => Ok(Ok(value)),
                Err(error) => {
                    let (failure, detail) = classify(&error);
                    Err(failed(failure, detail))
                }
            },
            Err(error) => Ok(Err(error)),
        }
    }

    fn store(
        &self,
        shared: &Shared,
        asked: Asked,
        log: LogBook,
        clock: Clock,
    ) -> wasmtime::Result<Store<State>> {
        let scrub = Scrubber::default();
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let gate = Gate::new(
            Arc::clone(&shared.policy),
            asked.symbols,
            Arc::clone(&shared.transport),
            asked.budget.requests,
        );
        let state = State {
            table,
            holdings: Holdings::default(),
            derived: 0,
            wasi: wasi::context(&log, &scrub),
            gate,
            scrub,
            log,
            context: Arc::clone(&shared.context),
            audiences: Arc::clone(&shared.audiences),
            settings: Arc::clone(&shared.settings),
            question: asked.question,
            granted: asked.granted,
            memory: Arc::clone(&shared.memory),
            clock,
        };
        let mut store = Store::new(self.pre.component().engine(), state);
        store.limiter(|state| &mut state.holdings);
        store.set_fuel(self.fuel)?;
        store.fuel_async_yield_interval(Some(FUEL_SLICE))?;
        store.set_hostcall_fuel(HOSTCALL_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        Ok(store)
    }
}

impl Exports {
    fn probe(component: &Component, pre: &InstancePre<State>) -> wasmtime::Result<Self> {
        // Finds any 0.1.x.
        let has = |name: &str| {
            component.get_export_index(None, format!("idp:registry-provider/{name}@0.1.0").as_str()).is_some()
        };
        macro_rules! optional {
            ($interface:ident) => {
                if has(stringify!($interface)) { Some($interface::GuestIndices::new(pre)?) } else { None }
            };
        }
        Ok(Self {
            provider: provider::GuestIndices::new(pre)?,
            identity: optional!(identity),
            naming: optional!(naming),
            auth: optional!(auth),
            transport: optional!(transport),
            repositories: optional!(repositories),
            artifacts: optional!(artifacts),
            explanations: optional!(explanations),
        })
    }

    /// Names of the interfaces, for `provider show --run`.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        [
            ("provider", true),
            ("identity", self.identity.is_some()),
            ("naming", self.naming.is_some()),
            ("auth", self.auth.is_some()),
            ("transport", self.transport.is_some()),
            ("repositories", self.repositories.is_some()),
            ("artifacts", self.artifacts.is_some()),
            ("explanations", self.explanations.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
    }
}

/// What a link error means for people.
fn newer(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    if text.contains("implementation is missing") || text.contains("matching implementation was not found") {
        format!(
            "it needs a function that this idp ({}) does not have: needs a newer idp ({text})",
            env!("CARGO_PKG_VERSION")
        )
    } else {
        text
    }
}

/// Which failure an error of wasmtime is.
fn classify(error: &wasmtime::Error) -> (Failure, String) {
    if let Some(LimitHit(limit)) = error.downcast_ref::<LimitHit>() {
        return (Failure::Limit(*limit), format!("out of {limit}"));
    }
    if let Some(refused) = error.downcast_ref::<NotAllowed>() {
        return (Failure::Denied, refused.to_string());
    }
    if let Some(missing) = error.downcast_ref::<NoCredential>() {
        return (Failure::Credential, missing.to_string());
    }
    let text = format!("{error:#}");
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let failure = match trap {
            Trap::OutOfFuel => Failure::Limit(Limit::Fuel),
            Trap::StackOverflow => Failure::Limit(Limit::Stack),
            _ => Failure::Crashed,
        };
        tracing::debug!(target: "idp::provider", "{text}");
        return (failure, trap.to_string());
    }
    if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() {
        return (Failure::Crashed, "it called exit".to_owned());
    }
    let failure = if text.contains("out of log lines") {
        Failure::Limit(Limit::Log)
    } else if text.contains("too much data is being copied") {
        Failure::Limit(Limit::Answer)
    } else if text.contains("handle limit exceeded") || text.contains("no free keys") {
        Failure::Limit(Limit::Handles)
    } else {
        Failure::Crashed
    };
    (failure, text)
}
