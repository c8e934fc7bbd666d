//! What a test sets up, and the state of the call on this thread.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::exchange::Exchange;
use super::manifest::{Known, Manifest};
use super::value::{Audience, Secret};
use crate::Challenge;
use crate::contract::{Pairs, Scope};
use crate::invocation::{Answer, Credential};

thread_local! {
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Credentials of a slot, in the clear.
#[derive(Debug, Clone)]
struct Set {
    kind: String,
    public: Pairs,
    secret: Pairs,
}

/// A scripted host. Build it up, then [`run`](Self::run) the provider's function in it.
#[derive(Debug)]
pub struct Host {
    pub(crate) registry: String,
    pub(crate) scheme: String,
    pub(crate) operation: String,
    pub(crate) attempt: u32,
    pub(crate) dry_run: bool,
    pub(crate) now_ms: u64,
    pub(crate) challenges: Vec<Challenge>,
    pub(crate) granted: Vec<Scope>,
    pub(crate) subject: Option<Answer>,
    pub(crate) manifest: Option<Manifest>,
    settings: BTreeMap<String, String>,
    credentials: BTreeMap<String, Set>,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) sent: usize,
    /// Realms learned from answers to requests of this call.
    pub(crate) learned: Vec<String>,
    pub(crate) remembered: BTreeMap<String, Kept>,
    pub(crate) log: Vec<String>,
    pub(crate) failures: Vec<String>,
}

/// A remembered secret and when it ends.
pub(crate) struct Kept {
    pub(crate) value: Secret,
    pub(crate) until_ms: u64,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept(until {})", self.until_ms)
    }
}

impl Host {
    /// A host for a call about this registry (`host[:port]`, https), on 2026-11-21 09:00 UTC, without credentials.
    pub fn new(registry: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            scheme: "https".to_owned(),
            operation: "push".to_owned(),
            attempt: 1,
            dry_run: false,
            now_ms: super::case::NOW_MS,
            challenges: Vec::new(),
            granted: Vec::new(),
            subject: None,
            manifest: None,
            settings: BTreeMap::new(),
            credentials: BTreeMap::new(),
            exchanges: Vec::new(),
            sent: 0,
            learned: Vec::new(),
            remembered: BTreeMap::new(),
            log: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// The manifest whose grants, slots, token endpoints and public pointers hold. Without one everything is granted and only
    /// answers to credentials are sealed.
    ///
    /// # Panics
    /// When it does not parse.
    #[must_use]
    pub fn manifest(mut self, text: &str) -> Self {
        self.manifest = Some(Manifest::parse(text).unwrap_or_else(|error| panic!("{error}")));
        self
    }

    /// `https` or `http`.
    #[must_use]
    pub fn scheme(mut self, scheme: &str) -> Self {
        scheme.clone_into(&mut self.scheme);
        self
    }

    /// The operation in progress; `push` unless told.
    #[must_use]
    pub fn operation(mut self, operation: &str) -> Self {
        operation.clone_into(&mut self.operation);
        self
    }

    /// 1, or 2 when a fresh grant was refused.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Nothing may be changed.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// A value of `WWW-Authenticate` of the answer that led here.
    #[must_use]
    pub fn challenge(mut self, header: &str) -> Self {
        self.challenges.extend(Challenge::parse(header));
        self
    }

    /// A setting of the registry's configuration.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A user name and a password in the slot `registry`.
    #[must_use]
    pub fn basic(self, username: &str, password: &str) -> Self {
        self.credential("registry", "basic", &[("username", username)], &[("password", password)])
    }

    /// Credentials of a slot: kind, public and secret parts.
    #[must_use]
    pub fn credential(
        mut self,
        slot: &str,
        kind: &str,
        public: &[(&str, &str)],
        secret: &[(&str, &str)],
    ) -> Self {
        let mut public = crate::pairs::pairs(public.iter().copied());
        if crate::pairs::get(&public, "source").is_none() {
            public.push(("source".to_owned(), "the test".to_owned()));
        }
        let secret = crate::pairs::pairs(secret.iter().copied());
        self.credentials.insert(slot.to_owned(), Set { kind: kind.to_owned(), public, secret });
        self
    }

    /// The time of the call.
    #[must_use]
    pub fn now_ms(mut self, unix_ms: u64) -> Self {
        self.now_ms = unix_ms;
        self
    }

    /// Something that an earlier call remembered. In `idp` it may be sent where it was captured; here, to the registry and to the
    /// origins that the manifest names.
    #[must_use]
    pub fn remembered(mut self, key: &str, value: &str) -> Self {
        let audience = self.known().everywhere();
        let value = Secret::new(value.as_bytes().to_vec(), audience, false, true);
        self.remembered.insert(key.to_owned(), Kept { value, until_ms: u64::MAX });
        self
    }

    /// The answer to be identified or explained.
    #[must_use]
    pub fn subject(mut self, mut answer: Answer) -> Self {
        // As the host gives it: what a query holds may let one in, and a cookie does.
        let path = |text: &mut String| text.truncate(text.find(['?', '#']).unwrap_or(text.len()));
        path(&mut answer.url);
        answer.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("set-cookie"));
        let locations = answer.headers.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case("location"));
        locations.for_each(|(_, value)| path(value));
        self.subject = Some(answer);
        self
    }

    /// The next exchange; they are asked for in this order.
    #[must_use]
    pub fn exchange(mut self, exchange: Exchange) -> Self {
        self.exchanges.push(exchange);
        self
    }

    /// Runs a question.
    ///
    /// # Panics
    /// When a request was not the scripted one, or a scripted one was not sent.
    pub fn run<T>(self, question: impl FnOnce() -> T) -> T {
        match self.try_run(question) {
            Ok(answer) => answer,
            Err(failures) => panic!("{failures}"),
        }
    }

    /// Runs a question.
    ///
    /// # Errors
    /// What was different about the requests, in words.
    pub fn try_run<T>(mut self, question: impl FnOnce() -> T) -> Result<T, String> {
        struct Clear;
        impl Drop for Clear {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| *current = None);
            }
        }
        let named: Audience = self.manifest.iter().flat_map(super::manifest::Manifest::origins).collect();
        for kept in self.remembered.values_mut() {
            kept.value = kept.value.also_for(&named);
        }
        CURRENT.with_borrow_mut(|current| *current = Some(self));
        let clear = Clear;
        let answer = question();
        let host = CURRENT.with_borrow_mut(Option::take).expect("set above, and nothing else takes it");
        drop(clear);
        let mut failures = host.failures;
        failures.extend(
            host.exchanges[host.sent.min(host.exchanges.len())..]
                .iter()
                .map(|unused| format!("`{}` was expected and never sent", unused.request)),
        );
        if failures.is_empty() { Ok(answer) } else { Err(failures.join("\n")) }
    }

    /// The state of the call on this thread.
    ///
    /// # Panics
    /// Outside of [`run`](Self::run): a provider's function needs a host.
    pub(crate) fn with<T>(act: impl FnOnce(&mut Self) -> T) -> T {
        CURRENT.with_borrow_mut(|current| {
            act(current.as_mut().expect("provider functions are called inside `testing::Host::run`"))
        })
    }

    pub(crate) fn known(&self) -> Known {
        let registry = format!("{}://{}", self.scheme, self.registry);
        let realms = self.challenges.iter().filter(|challenge| challenge.is("bearer"));
        let realms =
            realms.filter_map(|challenge| challenge.realm_url(&registry)).chain(self.learned.iter().cloned());
        Known { realms: realms.collect(), settings: self.settings.clone(), registry }
    }

    pub(crate) fn setting_value(&self, name: &str) -> Option<String> {
        let declared = self.manifest.as_ref().is_none_or(|manifest| manifest.declares_setting(name));
        declared.then(|| self.settings.get(name).cloned()).flatten()
    }

    pub(crate) fn credential_set(&self, slot: &str) -> Option<Credential> {
        let known = self.known();
        let audience: Audience = match &self.manifest {
            Some(manifest) => manifest.audience(&known, slot)?,
            None => known.everywhere(),
        };
        let set = self.credentials.get(slot)?;
        let secrets = set.secret.iter().map(|(name, value)| {
            let value = Secret::new(value.clone().into_bytes(), audience.clone(), true, true);
            (name.clone(), crate::Secret(value))
        });
        Some(Credential { kind: set.kind.clone(), public: set.public.clone(), secrets: secrets.collect() })
    }
}
