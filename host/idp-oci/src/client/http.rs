//! The only place that sends HTTP. A request is data, so that it can be sent again; an answer is a status, headers and a body
//! that streams. Redirects are followed here and not by the library: credentials stay with the origin they were meant for.
//! Knows nothing of registries; retries nothing.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use super::cause::{chain, tls_cause, why};
use super::redact;
use super::redirect::{self, Place, same_origin};
use crate::blob::Chunks;

/// Error bodies are kept up to here (case 19).
pub const ERROR_BODY: u64 = 64 * 1024;

/// Redirects in a row (case 7).
const MOST_REDIRECTS: usize = 10;

/// Looks names up. The default asks the system; a sandbox puts a filter here. Not asked for address literals.
#[async_trait]
pub trait Resolve: Send + Sync + fmt::Debug {
    /// The addresses of a name; their port is ignored.
    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>>;
}

/// How connections are made.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Certificates are not verified.
    pub insecure: bool,
    /// PEM files' contents: trusted besides the system's roots.
    pub extra_roots: Vec<Vec<u8>>,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long nothing may move, in either direction. There is no limit on a whole transfer.
    pub idle_timeout: Duration,
    /// `User-Agent`.
    pub user_agent: String,
    /// Instead of the system's resolver.
    pub resolver: Option<Arc<dyn Resolve>>,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` count.
    pub proxy_from_env: bool,
    /// Redirects to the inner network are followed also from outside of it.
    pub allow_private_redirects: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            insecure: false,
            extra_roots: Vec::new(),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            user_agent: concat!("idp/", env!("CARGO_PKG_VERSION")).to_owned(),
            resolver: None,
            proxy_from_env: true,
            allow_private_redirects: false,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No connection, so that nothing was sent.
    #[error("{host} cannot be reached: {why}")]
    Connect {
        /// `host[:port]`, of the registry or of where it sent us.
        host: String,
        /// `connection refused`.
        why: String,
    },
    /// A connection, and no trust in it.
    #[error("TLS: {0}")]
    Tls(String),
    /// Nothing moved for so long.
    #[error("nothing moved for {} s", .0.as_secs_f32())]
    Idle(Duration),
    /// The connection broke, or the answer ended early.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// We were sent somewhere we do not go.
    #[error("{0}")]
    Redirect(String),
    /// The answer is larger than anything we have a use for.
    #[error("the answer is too large: {0}")]
    TooLarge(String),
    /// Our own content could not be read while it was sent.
    #[error("reading what was to be sent: {0}")]
    Source(String),
    /// The client could not be set up: a root certificate that is none, for example.
    #[error("{0}")]
    Setup(String),
}

impl HttpError {
    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Idle(_) | Self::Broken(_))
    }
}

/// Opens a body from its start.
type Open = Arc<dyn Fn() -> Chunks + Send + Sync>;

/// What goes with a request; can always be sent again from the start.
#[derive(Clone, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes at hand.
    Bytes(Bytes),
    /// A stream of known length.
    Stream {
        /// How many bytes it has.
        length: u64,
        /// Opens it from the start.
        open: Open,
    },
    /// A stream whose length nobody knows, and which goes by once: a second time it is an error.
    Once(Arc<Mutex<Option<Chunks>>>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len() {
            Some(length) => write!(f, "Body({length} bytes)"),
            None => write!(f, "Body(of unknown length)"),
        }
    }
}

impl Body {
    /// How many bytes, where that is known.
    fn len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Stream { length, .. } => Some(*length),
            Self::Once(_) => None,
        }
    }
}

/// A request as data.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers that may follow a redirect to another origin.
    pub headers: HeaderMap,
    /// Headers for this origin only.
    pub credentials: HeaderMap,
    /// The body.
    pub body: Body,
    /// Where the registry is, for the decision which redirects are followed.
    pub home: Place,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} [{}]", self.method, redact::url(&self.url), redact::headers(&self.headers))
    }
}

impl Request {
    /// A request without headers or body.
    pub fn new(method: Method, url: Url) -> Self {
        let home = Place::of(&url);
        let (headers, credentials) = (HeaderMap::new(), HeaderMap::new());
        Self { method, url, headers, credentials, body: Body::Empty, home }
    }
}

/// An answer whose body has not been read.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// What answered, after redirects.
    pub url: Url,
    inner: reqwest::Response,
    idle: Duration,
}

impl Response {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next bytes of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        match tokio::time::timeout(self.idle, self.inner.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(HttpError::Broken(why(&error))),
            Err(_) => Err(HttpError::Idle(self.idle)),
        }
    }

    /// The whole body, which must not be larger than `cap`.
    pub async fn bytes(mut self, cap: u64) -> Result<Bytes, HttpError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() as u64 + chunk.len() as u64 > cap {
                return Err(HttpError::TooLarge(format!("more than {cap} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    /// The first [`ERROR_BODY`] bytes of the body, or what of them can be had.
    pub async fn error_body(mut self) -> Vec<u8> {
        let cap = usize::try_from(ERROR_BODY).unwrap_or(usize::MAX);
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            let rest = cap - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(rest)]);
            if body.len() == cap {
                break;
            }
        }
        body
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Whole {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Connections, kept open and shared. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: HttpOptions,
    /// For http: has no TLS roots to load.
    plain: OnceLock<Result<reqwest::Client, HttpError>>,
    /// For https.
    secure: OnceLock<Result<reqwest::Client, HttpError>>,
}

impl Http {
    /// Nothing is set up before the first request.
    pub fn new(options: HttpOptions) -> Self {
        Self { shared: Arc::new(Shared { options, plain: OnceLock::new(), secure: OnceLock::new() }) }
    }

    /// The options it was made with.
    pub fn options(&self) -> &HttpOptions {
        &self.shared.options
    }

    /// Sends a request and follows redirects (cases 4 to 8). Every status is an answer, not an error.
    pub async fn execute(&self, mut request: Request) -> Result<Response, HttpError> {
        let mut seen = HashSet::new();
        loop {
            seen.insert(request.url.clone());
            let response = self.hop(&request).await?;
            let location = response.headers.get(LOCATION).map(HeaderValue::as_bytes);
            let (301..=303 | 307 | 308, Some(location)) = (response.status.as_u16(), location) else {
                return Ok(response);
            };
            let shown = redact::url(&request.url);
            let reading = matches!(request.method, Method::GET | Method::HEAD);
            if !reading && !matches!(response.status.as_u16(), 307 | 308) {
                return Err(HttpError::Redirect(format!(
                    "{shown} answers {} to {}, which would turn it into another method; \
                     use the name of the registry that it redirects to",
                    response.status, request.method
                )));
            }
            let location = String::from_utf8_lossy(location).into_owned();
            let allow = self.options().allow_private_redirects;
            let target = redirect::resolve(&request.url, request.home, &location, allow)?;
            if seen.len() > MOST_REDIRECTS || seen.contains(&target) {
                let mut chain: Vec<String> = seen.iter().map(redact::url).collect();
                chain.sort();
                return Err(HttpError::Redirect(format!(
                    "redirects without end, through {}",
                    chain.join(", ")
                )));
            }
            if !same_origin(&request.url, &target) {
                request.credentials.clear();
            }
            request.url = target;
        }
    }

    /// Sends a request once: no redirects, and a body of at most `cap` bytes. For callers with rules of their own.
    pub async fn send_once(&self, request: &Request, cap: u64) -> Result<Whole, HttpError> {
        let response = self.hop(request).await?;
        let (status, headers) = (response.status, response.headers.clone());
        Ok(Whole { status, headers, body: response.bytes(cap).await? })
    }

    /// One exchange.
    async fn hop(&self, request: &Request) -> Result<Response, HttpError> {
        let started = Instant::now();
        let result = self.exchange(request).await;
        let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if tracing::enabled!(target: "idp::http", tracing::Level::DEBUG) {
            let (method, url) = (&request.method, redact::url(&request.url));
            let mut sent = request.headers.clone();
            sent.extend(request.credentials.clone());
            let sent = redact::headers(&sent);
            match &result {
                Ok(response) => {
                    let status = response.status.as_u16();
                    let got = without(redact::headers(&response.headers), &request.credentials);
                    tracing::debug!(target: "idp::http", %method, url, status, elapsed_ms = elapsed, sent, got);
                }
                Err(error) => {
                    tracing::debug!(target: "idp::http", %method, url, %error, elapsed_ms = elapsed, sent);
                }
            }
        }
        result
    }

    async fn exchange(&self, request: &Request) -> Result<Response, HttpError> {
        let client = self.client(request.url.scheme())?;
        let activity = Activity::default();
        let mut outgoing = client.request(request.method.clone(), request.url.clone());
        let mut headers = request.headers.clone();
        headers.extend(request.credentials.clone());
        // Bytes are what digests name: nothing on the way may compress them (case 67).
        headers.entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        if let Some(length) = request.body.len()
            && !matches!(request.method, Method::GET | Method::HEAD | Method::DELETE)
        {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        outgoing = outgoing.headers(headers);
        outgoing = match &request.body {
            Body::Empty => outgoing,
            Body::Bytes(bytes) => outgoing.body(bytes.clone()),
            Body::Stream { open, .. } => outgoing.body(activity.watch(open())),
            Body::Once(chunks) => {
                let chunks = chunks.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(chunks) = chunks else {
                    return Err(HttpError::Source("it goes by once, and was asked for again".to_owned()));
                };
                outgoing.body(activity.watch(chunks))
            }
        };
        let idle = self.options().idle_timeout;
        let sending = outgoing.send();
        tokio::pin!(sending);
        let answer = loop {
            let deadline = activity.last() + idle;
            tokio::select! {
                answer = &mut sending => break answer,
                () = tokio::time::sleep_until(deadline.into()) => {
                    if activity.last() + idle <= Instant::now() {
                        return Err(HttpError::Idle(idle));
                    }
                }
            }
        };
        let inner = answer.map_err(|error| activity.explain(error, &request.url))?;
        Ok(Response {
            status: inner.status(),
            headers: inner.headers().clone(),
            url: request.url.clone(),
            inner,
            idle,
        })
    }

    fn client(&self, scheme: &str) -> Result<reqwest::Client, HttpError> {
        let secure = scheme == "https";
        let cell = if secure { &self.shared.secure } else { &self.shared.plain };
        cell.get_or_init(|| build(self.options(), secure)).clone()
    }
}

fn build(options: &HttpOptions, secure: bool) -> Result<reqwest::Client, HttpError> {
    let setup = |error: &dyn fmt::Display| HttpError::Setup(format!("cannot set up TLS: {error}"));
    let mut builder = reqwest::Client::builder()
        .user_agent(&options.user_agent)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_adaptive_window(true);
    if !options.proxy_from_env {
        builder = builder.no_proxy();
    }
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

/// When bytes last moved, and whether it was our own content that failed.
#[derive(Debug, Clone)]
struct Activity {
    last: Arc<Mutex<Instant>>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), failed: Arc::default() }
    }
}

impl Activity {
    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, chunks: Chunks) -> reqwest::Body {
        let (last, failed) = (Arc::clone(&self.last), Arc::clone(&self.failed));
        reqwest::Body::wrap_stream(chunks.inspect(move |chunk| {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            if let Err(error) = chunk {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }))
    }

    fn explain(&self, error: reqwest::Error, url: &Url) -> HttpError {
        if let Some(failed) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return HttpError::Source(failed);
        }
        let error = error.without_url();
        let text = chain(&error);
        if let Some(tls) = tls_cause(&error) {
            return HttpError::Tls(tls);
        }
        if error.is_connect() {
            let why = if text.contains("dns error") {
                "there is no such name, or nobody to ask for it".to_owned()
            } else if error.is_timeout() {
                "no answer to the connection".to_owned()
            } else {
                why(&error)
            };
            HttpError::Connect { host: authority(url), why }
        } else if text.contains("too large") {
            HttpError::TooLarge(text)
        } else {
            HttpError::Broken(why(&error))
        }
    }
}

/// A text without the credentials that were sent: whoever got them may hand them back.
fn without(text: String, credentials: &HeaderMap) -> String {
    let sent = credentials.values().filter_map(|value| value.to_str().ok());
    // `Bearer TOKEN`: the token alone is as bad.
    let words = sent.filter_map(|value| value.split_whitespace().last()).filter(|word| word.len() >= 4);
    words.fold(text, |text, word| text.replace(word, "…"))
}

/// `host[:port]` as people write it.
pub(super) fn authority(url: &Url) -> String {
    url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
}
