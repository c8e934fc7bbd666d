//! How connections are set up: certificates, names, proxies, windows. Options in, a client of the library out; sends nothing.

use std::fmt;
use std::sync::Arc;

use super::cause::chain;
use super::http::{HttpError, HttpOptions, Identity, Resolve};
use super::proxy::Proxies;

/// What one stream of HTTP/2 may be ahead of its reader: at 100 ms to and fro that is 80 MB/s. The library would begin with 64 KiB and
/// stall on every round trip until it has guessed better (case 13).
const STREAM_WINDOW: u32 = 8 * 1024 * 1024;

/// What all streams of a connection may be ahead together: the most that waits in memory for slow readers.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// A client for http or https.
pub(super) fn build(
    options: &HttpOptions,
    secure: bool,
    identity: Option<&Identity>,
    proxies: Option<Arc<Proxies>>,
) -> Result<reqwest::Client, HttpError> {
    let setup = |error: &dyn fmt::Display| HttpError::Setup(format!("cannot set up TLS: {error}"));
    let mut builder = reqwest::Client::builder()
        .user_agent(&options.user_agent)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW);
    builder = Proxies::set(proxies, builder);
    if let Some(resolver) = &options.resolver {
        builder = builder.dns_resolver(Arc::new(Resolver(Arc::clone(resolver))));
    }
    if secure {
        // Fails when there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = Vec::new();
        for pem in &options.extra_roots {
            let found = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| setup(&chain(&error)))?;
            if found.is_empty() {
                return Err(setup(&"a file of root certificates holds none"));
            }
            roots.extend(found);
        }
        builder = builder.tls_certs_merge(roots).tls_danger_accept_invalid_certs(options.insecure);
        if let Some(identity) = identity {
            let pem = reqwest::Identity::from_pem(identity.pem.expose().as_bytes());
            let why = |_| {
                setup(&format!("the client certificate for {} is no certificate with its key", identity.host))
            };
            builder = builder.identity(pem.map_err(why)?);
        }
    } else {
        builder = builder.tls_backend_preconfigured(trusting_nobody().map_err(|error| setup(&error))?);
    }
    builder.build().map_err(|error| setup(&chain(&error)))
}

/// A TLS configuration that costs nothing to make and accepts no server: for clients that speak http only.
pub(super) fn trusting_nobody() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

struct Resolver(Arc<dyn Resolve>);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = resolver.resolve(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}
