//! Which provider serves a registry: flags and `registries.yaml` put as a request to [`crate::provider::Providers`], which decides.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idp_oci::client::dialect::Answer;
use idp_oci::client::http::{Http, HttpOptions, Identity};
use idp_oci::client::{ClientError, Scheme, ping};
use idp_oci::name::Registry;
use idp_oci::secret::Secret;
use zeroize::Zeroizing;

use super::transport::Pipeline;
use super::{Context, Error};
use crate::provider::{
    ProviderError, ProviderInfo, Providers, ProvidersConfig, SelectRequest, Selection, UserGrant,
};

/// A registry with the provider that was chosen for it. Nothing has been compiled or run for it, unless it took `identify` to tell.
#[derive(Debug)]
pub struct Chosen {
    /// Which registry.
    pub registry: Registry,
    /// How it is spoken to.
    pub scheme: Scheme,
    /// The provider, why, and what it may.
    pub selection: Selection,
    /// All providers, to load the chosen one with.
    pub providers: Providers,
    /// Connections to the registry.
    pub http: Http,
    /// Why `GET /v2/` had no answer, where it was asked.
    pub silence: Option<ClientError>,
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
    let mut silence = None;
    let ask = async {
        let answer = ping(&http, registry, scheme).await.map_err(|error| silence = Some(error)).ok()?;
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
    Ok(Chosen { registry: registry.clone(), scheme, selection, providers, http, silence })
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
        environment: context.env.clone(),
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

/// Connections to a registry, as flags, environment and `registries.yaml` want them.
pub(super) fn http(context: &Context, registry: &Registry) -> Result<Http, Error> {
    let mut options = HttpOptions {
        insecure: context.insecure(registry)?,
        idle_timeout: context.timeout()?,
        allow_private_redirects: context.options.allow_private_redirects,
        ..HttpOptions::default()
    };
    let read = |file: &Path, what: &str| {
        let file = context.registries.resolve(file);
        fs_err::read(&file).map_err(|error| Error::Io { what: format!("reading {what} {registry}"), error })
    };
    if let Some(ca) = super::embedded::authority(context, registry) {
        // It is made anew with the certificates of the embedded registry; one that cannot be read fails in the handshake.
        options.extra_roots.extend(fs_err::read(ca).ok());
    }
    if let Some(config) = context.registries.get(registry) {
        if let Some(file) = &config.ca_file {
            options.extra_roots.push(read(file, "the certificates of")?);
        }
        if let Some(file) = &config.cert_file {
            let mut pem = read(file, "our certificate for")?;
            if let Some(file) = &config.key_file {
                let key = Zeroizing::new(read(file, "the key of our certificate for")?);
                pem.push(b'\n');
                pem.extend_from_slice(&key);
            }
            // What is no text is no PEM, and is said to be none when it is used.
            let pem = Secret::new(String::from_utf8(pem).unwrap_or_default());
            options.identity = Some(Identity { host: registry.to_string(), pem });
        }
    }
    Ok(Http::new(options))
}

/// What a provider is, for `idp provider list|show`.
pub fn catalogue(context: &Context) -> Providers {
    providers(context, &HttpOptions::default())
}

/// A provider by name or path.
pub fn show(context: &Context, name: &str) -> Result<ProviderInfo, ProviderError> {
    catalogue(context).show(name)
}
