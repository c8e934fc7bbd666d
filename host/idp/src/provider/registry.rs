//! All providers of this process: the built-in ones and the files that the user names. Lists and shows them from their manifests, selects, loads.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idp_oci::client::dialect::{Answer, DialectError};
use idp_oci::name::Registry;
use wasmtime::component::Component;

use super::builtin::{ALL, BuiltIn, GENERIC};
use super::cache::{Cache, component_digest};
use super::call::Linked;
use super::compile;
use super::context::CallContext;
use super::detected::{Detected, Detections};
use super::dialect::ProviderDialect;
use super::engine::{Backend, runtime};
use super::error::{Failure, ProviderError};
use super::grants::{Allowance, Grants, UserGrant};
use super::load::{self, Trusted};
use super::manifest::{COMPONENT_MAX, Manifest, ManifestError};
use super::memory::{Memory, Vault, identity};
use super::pattern::{Captures, setting_key};
use super::select::{self, CERTAIN_ENOUGH, Candidate, Evidence};
use super::transport::{Direct, Transport};
use crate::config::env::Environment;

/// Where things are, and what counts.
#[derive(Debug, Clone)]
pub struct ProvidersConfig {
    /// Compiled code; may be lost, and may be restored by others.
    pub cache_dir: PathBuf,
    /// The key of the cache and what was detected; this user's own.
    pub state_dir: PathBuf,
    /// Nothing but built-in providers: safe mode.
    pub builtin_only: bool,
    /// Components that the configuration names: they take part in host patterns and fingerprints.
    pub components: Vec<PathBuf>,
    /// Whether compiled code is kept; `None`: unless `CI` is `true`.
    pub keep_compiled: Option<bool>,
    /// The executable with [`compile::COMMAND`]; `None`: this one.
    pub executable: Option<PathBuf>,
    /// What sends a provider's requests.
    pub transport: Arc<dyn Transport>,
    /// The most that one call of a provider may take; never more than 20 s.
    pub deadline: Duration,
    /// Where settings of built-in providers come from that the configuration does not make.
    pub environment: Environment,
}

impl ProvidersConfig {
    /// Everything below one directory, with a transport of its own.
    pub fn below(directory: &Path) -> Self {
        Self {
            cache_dir: directory.join("cache"),
            state_dir: directory.join("providers"),
            builtin_only: false,
            components: Vec::new(),
            keep_compiled: None,
            executable: None,
            transport: Arc::new(Direct::default()),
            deadline: Duration::from_secs(20),
            environment: Environment::default(),
        }
    }
}

/// Where a provider's code comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Part of idp, by name.
    BuiltIn(&'static str),
    /// A component in a file.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(_) => f.write_str("built in"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A provider as its manifest shows it.
#[derive(Debug, Clone)]
pub struct ProviderInfo {
    /// Where it comes from.
    pub source: Source,
    /// What it says.
    pub manifest: Arc<Manifest>,
    /// SHA-256 of the component, for files.
    pub digest: Option<String>,
}

/// What a selection goes by.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// `host[:port]`.
    pub registry: Registry,
    /// `https` or `http`.
    pub scheme: String,
    /// `--provider`: a name or a path.
    pub flag: Option<String>,
    /// The registry's configuration: a name or a path.
    pub configured: Option<String>,
    /// `--grant`, and those of the registry's configuration.
    pub grants: Vec<UserGrant>,
    /// Settings of the registry's configuration.
    pub settings: BTreeMap<String, String>,
    /// An earlier detection does not count, and a new one is kept.
    pub fresh: bool,
}

impl SelectRequest {
    /// For a registry without flags or configuration.
    pub fn new(registry: Registry, scheme: &str) -> Self {
        Self {
            registry,
            scheme: scheme.to_owned(),
            flag: None,
            configured: None,
            grants: Vec::new(),
            settings: BTreeMap::new(),
            fresh: false,
        }
    }

    fn host(&self) -> String {
        format!("{}://{}", self.scheme, self.registry)
    }
}

/// Which provider, why, and what it may.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The provider.
    pub provider: ProviderInfo,
    /// Why, in the order in which it was looked at.
    pub evidence: Vec<Evidence>,
    /// What it asks to reach, and whether it may.
    pub grants: Grants,
    /// Settings that the environment gives, then those that `identify` derived; the configuration's own win.
    pub settings: BTreeMap<String, String>,
    /// Parts of the registry's name.
    pub captures: Captures,
}

impl Selection {
    /// Whether the user or the registry's name decided, and not what an answer looks like.
    pub fn is_named(&self) -> bool {
        self.evidence.iter().any(|evidence| {
            matches!(evidence, Evidence::Flag(_) | Evidence::Configured(_) | Evidence::Host { .. })
        })
    }

    /// Adds what `identify` derived.
    fn derived(&mut self, settings: BTreeMap<String, String>) {
        for (name, value) in settings {
            self.settings.entry(name).or_insert(value);
        }
    }
}

/// All providers of this process.
#[derive(Debug)]
pub struct Providers {
    config: ProvidersConfig,
    detections: Detections,
    linked: Mutex<HashMap<String, Linked>>,
}

impl fmt::Debug for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

fn unusable(provider: &str, why: impl fmt::Display) -> ProviderError {
    ProviderError::new(provider, Failure::Unusable, why)
}

fn bad_manifest(provider: &str, error: ManifestError) -> ProviderError {
    let failure = match error {
        ManifestError::Contract { .. } | ManifestError::Schema(_) => Failure::Incompatible,
        _ => Failure::Unusable,
    };
    ProviderError::new(provider, failure, error)
}

/// The bytes of a component, not more than there may be.
fn read(path: &Path) -> Result<Vec<u8>, ProviderError> {
    let name = path.display().to_string();
    let found = std::fs::metadata(path).map_err(|error| unusable(&name, error))?;
    // A pipe would be waited for, a device has no end.
    if !found.is_file() {
        return Err(unusable(&name, "it is not a file"));
    }
    if found.len() > COMPONENT_MAX {
        return Err(unusable(&name, ManifestError::TooLarge(found.len())));
    }
    std::fs::read(path).map_err(|error| unusable(&name, error))
}

impl Providers {
    /// Reads nothing yet.
    pub fn new(config: ProvidersConfig) -> Self {
        let detections = Detections::new(config.state_dir.join("detected.json"));
        Self { config, detections, linked: Mutex::default() }
    }

    /// What was found out about hosts.
    pub fn detections(&self) -> &Detections {
        &self.detections
    }

    /// Every provider that takes part in selection. A file that is none is left out with a warning.
    pub fn list(&self) -> Vec<ProviderInfo> {
        let mut all: Vec<ProviderInfo> =
            ALL.iter().filter_map(|provider| self.built_in(provider.name).ok()).collect();
        if !self.config.builtin_only {
            for path in &self.config.components {
                match self.file(path) {
                    Ok(info) => all.push(info),
                    Err(error) => tracing::warn!(target: "idp::provider", "{error}"),
                }
            }
        }
        all
    }

    /// A provider by name, or by path when the text has a `/` or ends in `.wasm`. Reads its manifest, runs nothing.
    pub fn show(&self, name_or_path: &str) -> Result<ProviderInfo, ProviderError> {
        let path = Path::new(name_or_path);
        if name_or_path.contains('/') || path.extension().is_some_and(|extension| extension == "wasm") {
            if self.config.builtin_only {
                return Err(unusable(name_or_path, "only built-in providers are used (--builtin-only)"));
            }
            return self.file(path);
        }
        if BuiltIn::find(name_or_path).is_some() {
            return self.built_in(name_or_path);
        }
        let found = self.list().into_iter().find(|info| info.manifest.name == name_or_path);
        found.ok_or_else(|| {
            let names: Vec<String> = self.list().iter().map(|info| info.manifest.name.clone()).collect();
            unusable(
                name_or_path,
                format!("there is no provider of this name; there are {}, or give a path", names.join(", ")),
            )
        })
    }

    fn built_in(&self, name: &str) -> Result<ProviderInfo, ProviderError> {
        let provider = BuiltIn::find(name).ok_or_else(|| unusable(name, "no built-in provider"))?;
        let manifest = provider.manifest().map_err(|error| bad_manifest(name, error))?;
        Ok(ProviderInfo {
            source: Source::BuiltIn(provider.name),
            manifest: Arc::new(manifest),
            digest: None,
        })
    }

    fn file(&self, path: &Path) -> Result<ProviderInfo, ProviderError> {
        let component = read(path)?;
        let name = path.display().to_string();
        let manifest = Manifest::of_component(&component).map_err(|error| bad_manifest(&name, error))?;
        Ok(ProviderInfo {
            source: Source::File(path.to_owned()),
            manifest: Arc::new(manifest),
            digest: Some(component_digest(&component)),
        })
    }

    /// Chooses the provider of a registry. `ask` is the answer to an unauthenticated `GET /v2/`; it is awaited only when nothing
    /// earlier decides.
    pub async fn select(
        &self,
        request: &SelectRequest,
        ask: impl Future<Output = Option<Answer>> + Send,
    ) -> Result<Selection, ProviderError> {
        if let Some(wanted) = &request.flag {
            return Ok(self.chosen(request, self.show(wanted)?, vec![Evidence::Flag(wanted.clone())]));
        }
        if let Some(wanted) = &request.configured {
            return Ok(self.chosen(request, self.show(wanted)?, vec![Evidence::Configured(wanted.clone())]));
        }
        let infos = self.list();
        let candidates: Vec<Candidate> = infos
            .iter()
            .map(|info| Candidate {
                manifest: Arc::clone(&info.manifest),
                built_in: matches!(info.source, Source::BuiltIn(_)),
            })
            .collect();
        let (by_host, mut evidence) = select::by_host(&candidates, &request.registry);
        if let Some(index) = by_host {
            return Ok(self.chosen(request, infos[index].clone(), evidence));
        }
        if !request.fresh
            && let Some((detected, age)) = self.detections.get(&request.host())
            && let Some(info) = infos.iter().find(|info| info.manifest.name == detected.provider)
        {
            evidence.push(Evidence::Detected { provider: detected.provider, age });
            let mut selection = self.chosen(request, info.clone(), evidence);
            selection.derived(detected.settings);
            return Ok(selection);
        }
        let Some(answer) = ask.await else {
            evidence.extend([Evidence::NoAnswer, Evidence::Generic]);
            return Ok(self.chosen(request, self.built_in(GENERIC)?, evidence));
        };
        self.detect(request, &infos, &candidates, &answer, evidence).await
    }

    async fn detect(
        &self,
        request: &SelectRequest,
        infos: &[ProviderInfo],
        candidates: &[Candidate],
        answer: &Answer,
        mut evidence: Vec<Evidence>,
    ) -> Result<Selection, ProviderError> {
        let matches = select::by_answer(candidates, answer);
        evidence.extend(matches.iter().map(|(_, evidence, _)| evidence.clone()));
        let mut winner = None;
        // Only the likeliest is asked: identifying may send one request, and one is what a registry is bothered with.
        if let Some((index, _, certainty)) = matches.first() {
            let info = &infos[*index];
            let name = info.manifest.name.clone();
            let selection = self.chosen(request, info.clone(), Vec::new());
            let context = CallContext {
                settings: request.settings.clone(),
                ..CallContext::new(request.registry.clone(), &request.scheme, "identify")
            };
            let identified = match self.load(&selection, context).await {
                Ok(provider) => provider.identify(answer).await,
                Err(error) => Err(error),
            };
            let (mut certainty, mut product, mut settings) = (*certainty, name.clone(), BTreeMap::new());
            match identified {
                Ok(identification) => {
                    certainty = identification.certainty;
                    product = [Some(identification.product), identification.version]
                        .into_iter()
                        .flatten()
                        .collect::<Vec<_>>()
                        .join(" ");
                    settings = identification.settings;
                    evidence.push(Evidence::Identified {
                        provider: name.clone(),
                        certainty,
                        product: product.clone(),
                    });
                }
                Err(error) if error.kind == idp_oci::client::dialect::ErrorKind::Unsupported => {}
                Err(error) => {
                    evidence.push(Evidence::IdentifyFailed { provider: name.clone(), why: error.message });
                }
            }
            if certainty >= CERTAIN_ENOUGH {
                winner = Some((info.clone(), certainty, product, settings));
            }
        }
        let (info, certainty, product, settings) = match winner {
            Some(winner) => winner,
            None => {
                evidence.push(Evidence::Generic);
                (self.built_in(GENERIC)?, 0, String::new(), BTreeMap::new())
            }
        };
        // Kept as found, generic too: the answer is what the next command would see. But only a registry's own answer speaks for it
        // (OCI distribution 1.1, end-1): one that is starting, limited, or hidden by a proxy's error page says nothing of itself.
        let doubtful = !matches!(answer.status, 200 | 401)
            || evidence.iter().any(|found| matches!(found, Evidence::IdentifyFailed { .. }));
        let provider = info.manifest.name.clone();
        let detected = Detected { provider, certainty, product, settings: settings.clone(), at: 0 };
        if !doubtful {
            self.detections.put(&request.host(), detected);
        }
        let mut selection = self.chosen(request, info, evidence);
        selection.derived(settings);
        Ok(selection)
    }

    fn chosen(&self, request: &SelectRequest, provider: ProviderInfo, evidence: Vec<Evidence>) -> Selection {
        let captures = select::captures(&provider.manifest, &request.registry);
        let mut captures = captures.map(|(_, captures)| captures).unwrap_or_default();
        let settings = match provider.source {
            Source::BuiltIn(_) => self.environment_settings(&provider.manifest),
            Source::File(_) => BTreeMap::new(),
        };
        // What the user set may name an origin to reach; what a registry made us derive may not.
        for (name, value) in settings.iter().chain(&request.settings) {
            captures.insert(setting_key(name), value.clone());
        }
        let allowance = match provider.source {
            Source::BuiltIn(_) => Allowance::BuiltIn,
            Source::File(_) => Allowance::User(request.grants.clone()),
        };
        let grants = Grants::new(&provider.manifest, &allowance, &captures);
        Selection { provider, evidence, grants, settings, captures }
    }

    /// The settings that the environment gives.
    fn environment_settings(&self, manifest: &Manifest) -> BTreeMap<String, String> {
        let given = manifest.setting.iter().filter_map(|setting| {
            let value = setting.env.iter().find_map(|name| self.config.environment.named(name))?;
            Some((setting.name.clone(), value))
        });
        given.collect()
    }

    /// Makes a selected provider ready for questions about one registry.
    pub async fn load(
        &self,
        selection: &Selection,
        mut context: CallContext,
    ) -> Result<ProviderDialect, DialectError> {
        let linked = self.link(&selection.provider).await?;
        for (key, value) in &selection.settings {
            context.settings.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let vault = Vault::new(
            self.config.state_dir.join("remembered"),
            self.config.state_dir.join("remembered.key"),
            identity(&selection.provider, &context),
        );
        let dialect = ProviderDialect::new(
            linked,
            Arc::clone(&selection.provider.manifest),
            selection.grants.clone(),
            &selection.captures,
            context,
            Arc::clone(&self.config.transport),
            self.config.deadline,
        )?;
        Ok(dialect.with_memory(Memory::kept_in(vault)))
    }

    async fn link(&self, info: &ProviderInfo) -> Result<Linked, ProviderError> {
        let label = info.manifest.label();
        let built_in = match &info.source {
            Source::BuiltIn(name) => BuiltIn::find(name),
            Source::File(_) => None,
        };
        let path = match &info.source {
            Source::BuiltIn(_) => built_in.map(BuiltIn::path).unwrap_or_default(),
            Source::File(path) => path.clone(),
        };
        let key = format!("{:?} {:?}", info.source, info.digest);
        if let Some(linked) = self.linked.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(linked.clone());
        }
        let component = match built_in.and_then(|provider| provider.code) {
            Some(code) => {
                let engine = runtime(Backend::BUILT_IN).map_err(|error| unusable(&label, error))?;
                load::component(&engine, &Trusted::verified(code))
                    .map_err(|error| unusable(&label, format!("{error:#}")))?
            }
            None => {
                let bytes = read(&path)?;
                let digest = component_digest(&bytes);
                // What was shown and granted is what runs.
                if info.digest.as_ref().is_some_and(|shown| *shown != digest) {
                    return Err(unusable(
                        &label,
                        format!("{} changed since it was selected", path.display()),
                    ));
                }
                let backend = if built_in.is_some() { Backend::BUILT_IN } else { Backend::THIRD_PARTY };
                self.compiled(&label, &bytes, &digest, backend).await?
            }
        };
        let linked = Linked::new(&component, &info.manifest)?;
        self.linked.lock().unwrap_or_else(PoisonError::into_inner).insert(key, linked.clone());
        Ok(linked)
    }

    /// From the cache, or compiled now.
    async fn compiled(
        &self,
        label: &str,
        bytes: &[u8],
        digest: &str,
        backend: Backend,
    ) -> Result<Component, ProviderError> {
        let engine = runtime(backend).map_err(|error| unusable(label, error))?;
        let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        let cache =
            self.config.keep_compiled.unwrap_or(!in_ci).then(|| {
                Cache::new(self.config.cache_dir.clone(), self.config.state_dir.join("compiled.key"))
            });
        if let Some(code) = cache.as_ref().and_then(|cache| cache.get(digest, backend)) {
            match load::component(&engine, &Trusted::verified(&code)) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::debug!(target: "idp::provider", "compiled code does not load and is made anew: {error:#}");
                }
            }
        }
        let executable = match &self.config.executable {
            Some(executable) => executable.clone(),
            None => std::env::current_exe().map_err(|error| unusable(label, error))?,
        };
        let code =
            compile::in_child(&executable, bytes, backend).await.map_err(|error| unusable(label, error))?;
        if let Some(cache) = &cache {
            cache.put(digest, backend, &code);
        }
        load::component(&engine, &Trusted::verified(&code))
            .map_err(|error| unusable(label, format!("{error:#}")))
    }
}
