//! The seam under the egress check: one exchange of HTTP, nothing followed, to addresses that were checked before. Knows no provider.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use url::Url;
use zeroize::Zeroizing;

/// One request, ready to go out.
pub struct Exchange {
    /// Upper-case.
    pub method: String,
    /// Checked by the caller.
    pub url: Url,
    /// Values may hold secrets.
    pub headers: Vec<(String, Zeroizing<Vec<u8>>)>,
    /// May hold secrets.
    pub body: Zeroizing<Vec<u8>>,
    /// The only addresses that may be connected to; none when a proxy is.
    pub addresses: Vec<IpAddr>,
    /// For the whole exchange.
    pub timeout: Duration,
    /// Bytes of the largest body.
    pub body_max: usize,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.url.origin().ascii_serialization(), self.url.path())
    }
}

/// An answer as it came.
pub struct RawAnswer {
    /// Status code.
    pub status: u16,
    /// Lower-case names, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Whole.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for RawAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawAnswer({}, {} bytes)", self.status, self.body.len())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The request never reached a server.
    #[error("no connection: {0}")]
    Connect(String),
    /// The other side is not who it should be; trying again changes nothing.
    #[error("no trusted connection: {0}")]
    Untrusted(String),
    /// It may have.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Nothing in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// More than asked for.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// Something that cannot be sent at all.
    #[error("{0}")]
    Invalid(String),
}

/// Sends one request and looks names up. Implemented over the client that moves the pipeline's bytes, so that TLS, proxies and
/// redaction are the same.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Whether a proxy makes the connection. It looks the name up as well, where nobody here could.
    fn behind_proxy(&self, _url: &Url) -> bool {
        false
    }

    /// All addresses of a name. Not asked for address literals.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// One exchange; a redirect is an answer.
    async fn exchange(&self, exchange: Exchange) -> Result<RawAnswer, TransportError>;
}

/// A transport of its own, for tests and until the caller brings the pipeline's client. Uses no proxy.
#[derive(Debug, Default)]
pub struct Direct {
    pins: Arc<Pins>,
    plain: OnceLock<Result<reqwest::Client, String>>,
    secure: OnceLock<Result<reqwest::Client, String>>,
}

/// Names with the addresses that were checked for them: the connection goes there and nowhere else.
#[derive(Debug, Default)]
struct Pins(Mutex<HashMap<String, Vec<IpAddr>>>);

impl reqwest::dns::Resolve for Pins {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = pins.get(name.as_str()).cloned();
        Box::pin(async move {
            let found = found.ok_or_else(|| io::Error::other("this name was not checked"))?;
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        })
    }
}

impl Direct {
    fn client(&self, url: &Url) -> Result<reqwest::Client, TransportError> {
        let secure = url.scheme() == "https";
        let cell = if secure { &self.secure } else { &self.plain };
        let built = cell.get_or_init(|| {
            let _ = rustls_provider();
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .https_only(secure)
                .connect_timeout(Duration::from_secs(10))
                .dns_resolver(Arc::clone(&self.pins))
                .build()
                .map_err(|error| error.to_string())
        });
        built.clone().map_err(TransportError::Invalid)
    }
}

/// Says which cryptography TLS uses; a second call changes nothing.
fn rustls_provider() -> bool {
    rustls::crypto::ring::default_provider().install_default().is_ok()
}

#[async_trait]
impl Transport for Direct {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }

    async fn exchange(&self, exchange: Exchange) -> Result<RawAnswer, TransportError> {
        let timeout = exchange.timeout;
        tokio::time::timeout(timeout, self.send(exchange))
            .await
            .unwrap_or(Err(TransportError::Timeout(timeout)))
    }
}

impl Direct {
    async fn send(&self, exchange: Exchange) -> Result<RawAnswer, TransportError> {
        let invalid = |what: &str| TransportError::Invalid(what.to_owned());
        let client = self.client(&exchange.url)?;
        if let Some(host) = exchange.url.host_str() {
            let mut pins = self.pins.0.lock().unwrap_or_else(PoisonError::into_inner);
            pins.insert(host.to_owned(), exchange.addresses);
        }
        let method =
            reqwest::Method::from_bytes(exchange.method.as_bytes()).map_err(|_| invalid("no method"))?;
        let mut request = client.request(method, exchange.url);
        for (name, value) in &exchange.headers {
            let mut value = reqwest::header::HeaderValue::from_bytes(value).map_err(|_| {
                TransportError::Invalid(format!("the value of header `{name}` cannot be sent"))
            })?;
            value.set_sensitive(true);
            request = request.header(name.as_str(), value);
        }
        if !exchange.body.is_empty() {
            request = request.body(exchange.body.to_vec());
        }
        let mut answer = request.send().await.map_err(|error| {
            let connect = error.is_connect();
            let text = chain(&error.without_url());
            if connect { TransportError::Connect(text) } else { TransportError::Broken(text) }
        })?;
        let status = answer.status().as_u16();
        let headers =
            answer.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        let headers = headers.collect();
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) =
            answer.chunk().await.map_err(|error| TransportError::Broken(chain(&error.without_url())))?
        {
            if body.len() + chunk.len() > exchange.body_max {
                return Err(TransportError::TooLarge(exchange.body_max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(RawAnswer { status, headers, body })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
