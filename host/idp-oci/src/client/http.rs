//! The only place that sends HTTP. A request is data, so that it can be sent again; an answer is a status, headers and a body
//! that streams. Redirects are followed here and not by the library: credentials stay with the origin they were meant for.
//! Knows nothing of registries; retries nothing.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use super::cause::why;
use super::connect::build;
use super::proxy::{Proxies, ProxyRules};
use super::redact;
use super::redirect::{self, Place, same_origin};
use super::sending::{Activity, Failure, PIECE, pieces, unknown_to};
use crate::blob::Chunks;
use crate::secret::Secret;

/// Error bodies are kept up to here (case 19).
pub const ERROR_BODY: u64 = 64 * 1024;

/// Redirects in a row (case 7).
const MOST_REDIRECTS: usize = 10;

/// Times that a request is sent again which the other side says it did not look at (case 12).
const MOST_UNSENT: usize = 2;

/// What a system may still hold of a body whose last piece was taken.
const IN_FLIGHT: u64 = 4 * 1024 * 1024;

/// Looks names up. The default asks the system; a sandbox puts a filter here. Not asked for address literals.
#[async_trait]
pub trait Resolve: Send + Sync + fmt::Debug {
    /// The addresses of a name. Their port counts where it is not 0 and the URL names none.
    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>>;
}

/// A client certificate. It is shown to one host: whoever else we are sent to learns nothing of it (case 4).
#[derive(Debug, Clone)]
pub struct Identity {
    /// `host[:port]`, as it stands in URLs.
    pub host: String,
    /// PEM: the certificate, those that vouch for it, and the private key.
    pub pem: Secret,
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
    /// Proxies that are not asked of the environment.
    pub proxy: Option<ProxyRules>,
    /// Who we are on TLS, for one host only.
    pub identity: Option<Identity>,
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
            proxy: None,
            identity: None,
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
    /// The proxy wants something of us.
    #[error("the proxy {proxy} {why}")]
    Proxy {
        /// `host[:port]` of the proxy.
        proxy: String,
        /// `wants a user and a password (407)`.
        why: String,
    },
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
    /// The body, where it was read before anybody asked for it.
    read: Option<Bytes>,
    /// What is missing of the length that was said. HTTP/2 connections may end politely in the middle of an answer, and the library
    /// takes that for its end.
    missing: Option<u64>,
}

impl Response {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next bytes of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        if let Some(read) = self.read.take() {
            return Ok(Some(read).filter(|read| !read.is_empty()));
        }
        match tokio::time::timeout(self.idle, self.inner.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let length = chunk.len() as u64;
                self.missing = self.missing.map(|missing| missing.saturating_sub(length));
                Ok(Some(chunk))
            }
            Ok(Ok(None)) if self.missing.is_some_and(|missing| missing > 0) => {
                Err(HttpError::Broken("the answer ended early".to_owned()))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(HttpError::Broken(why(&error))),
            Err(_) => Err(HttpError::Idle(self.idle)),
        }
    }

    /// Reads the body now, so that whoever asks for it later gets it without fail.
    pub async fn fill(&mut self, cap: u64) -> Result<(), HttpError> {
        self.read = Some(self.collect(cap).await?);
        Ok(())
    }

    /// The whole body, which must not be larger than `cap`.
    pub async fn bytes(mut self, cap: u64) -> Result<Bytes, HttpError> {
        self.collect(cap).await
    }

    async fn collect(&mut self, cap: u64) -> Result<Bytes, HttpError> {
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
    /// For https to the one host that may see our certificate.
    known: OnceLock<Result<reqwest::Client, HttpError>>,
    proxies: OnceLock<Option<Arc<Proxies>>>,
    /// Origins that answered last: a connection may have been kept open.
    warm: Mutex<HashSet<url::Origin>>,
    /// What was sent as a credential, to whomever: one host may hand back what another was sent.
    told: redact::Told,
}

impl Http {
    /// Nothing is set up before the first request.
    pub fn new(options: HttpOptions) -> Self {
        let (plain, secure, known, proxies, warm, told) = Default::default();
        Self { shared: Arc::new(Shared { options, plain, secure, known, proxies, warm, told }) }
    }

    /// The options it was made with.
    pub fn options(&self) -> &HttpOptions {
        &self.shared.options
    }

    /// Sends a request and follows redirects (cases 4 to 8). Every status is an answer, not an error.
    pub async fn execute(&self, mut request: Request) -> Result<Response, HttpError> {
        let mut seen = Vec::new();
        loop {
            seen.push(request.url.clone());
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
                let chain: Vec<String> = seen.iter().chain([&target]).map(redact::url).collect();
                return Err(HttpError::Redirect(format!("redirects without end: {}", chain.join(" → "))));
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
        self.shared.told.tell(&request.credentials);
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
                    let got = self.without(redact::headers(&response.headers));
                    tracing::debug!(target: "idp::http", %method, url, status, elapsed_ms = elapsed, sent, got);
                }
                Err(error) => {
                    tracing::debug!(target: "idp::http", %method, url, %error, elapsed_ms = elapsed, sent);
                }
            }
        }
        result
    }

    /// Sends until there is an answer or a failure that counts. What the other side says it did not look at is sent again; so is a
    /// question on a connection that was kept open and that the other side closed meanwhile, once (case 17).
    async fn exchange(&self, request: &Request) -> Result<Response, HttpError> {
        let origin = request.url.origin();
        let mut asks = matches!(request.method, Method::GET | Method::HEAD);
        let mut unsent = 0;
        loop {
            let was_warm = self.warm().contains(&origin);
            let failure = match self.attempt(request).await {
                Ok(response) => {
                    self.warm().insert(origin);
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            self.warm().remove(&origin);
            let again = !matches!(request.body, Body::Once(_));
            if failure.unsent && again && unsent < MOST_UNSENT {
                unsent += 1;
            } else if matches!(failure.error, HttpError::Broken(_)) && was_warm && asks {
                asks = false;
            } else {
                return Err(failure.error);
            }
        }
    }

    /// A text without anything that was sent as a credential.
    pub(super) fn without(&self, text: String) -> String {
        self.shared.told.hide(text)
    }

    fn warm(&self) -> MutexGuard<'_, HashSet<url::Origin>> {
        self.shared.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(&self, request: &Request) -> Result<Response, Failure> {
        let client = self.client(&request.url)?;
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
            Body::Bytes(bytes) if bytes.len() <= PIECE => outgoing.body(bytes.clone()),
            Body::Bytes(bytes) => outgoing.body(activity.watch(pieces(bytes.clone()).map(Ok).boxed())),
            Body::Stream { open, .. } => outgoing.body(activity.watch(open())),
            Body::Once(chunks) => {
                let chunks = chunks.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(chunks) = chunks else {
                    return Err(
                        HttpError::Source("it goes by once, and was asked for again".to_owned()).into()
                    );
                };
                outgoing.body(activity.watch(chunks))
            }
        };
        let patience = self.options().idle_timeout;
        // What was taken is not yet there: a slow line may need a while for what the system holds (case 18).
        let held = u32::try_from(request.body.len().unwrap_or(IN_FLIGHT).min(IN_FLIGHT) * 100 / IN_FLIGHT)
            .unwrap_or(100);
        let idle = patience + patience * held / 100;
        let sending = outgoing.send();
        tokio::pin!(sending);
        let answer = loop {
            let deadline = activity.last() + idle;
            tokio::select! {
                answer = &mut sending => break answer,
                () = tokio::time::sleep_until(deadline.into()) => {
                    if activity.last() + idle <= Instant::now() {
                        return Err(HttpError::Idle(idle).into());
                    }
                }
            }
        };
        let idle = patience;
        let proxy = || self.proxies().and_then(|proxies| proxies.name(&request.url));
        let inner = answer.map_err(|error| activity.explain(error, &request.url, proxy()))?;
        if inner.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            && let Some(proxy) = proxy()
        {
            return Err(unknown_to(proxy).into());
        }
        let bodyless = request.method == Method::HEAD || matches!(inner.status().as_u16(), 204 | 304);
        let length =
            inner.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(Response {
            missing: length.filter(|_| !bodyless),
            status: inner.status(),
            headers: inner.headers().clone(),
            url: request.url.clone(),
            inner,
            idle,
            read: None,
        })
    }

    /// The client for a URL.
    fn client(&self, url: &Url) -> Result<reqwest::Client, HttpError> {
        let shared = &self.shared;
        let secure = url.scheme() == "https";
        let identity = shared.options.identity.as_ref().filter(|identity| secure && identity.is_for(url));
        let cell = match (secure, identity) {
            (false, _) => &shared.plain,
            (true, None) => &shared.secure,
            (true, Some(_)) => &shared.known,
        };
        cell.get_or_init(|| build(&shared.options, secure, identity, self.proxies())).clone()
    }

    /// Whether a request goes by a proxy, which then looks up names and connects.
    pub fn is_proxied(&self, url: &Url) -> bool {
        self.proxies().is_some_and(|proxies| proxies.before(url).is_some())
    }

    fn proxies(&self) -> Option<Arc<Proxies>> {
        self.shared.proxies.get_or_init(|| Proxies::wanted(&self.shared.options)).clone()
    }
}

impl Identity {
    fn is_for(&self, url: &Url) -> bool {
        let host = format!("https://{}", self.host).parse();
        host.is_ok_and(|host: Url| same_origin(&host, url))
    }
}

/// `host[:port]` as people write it.
pub(super) fn authority(url: &Url) -> String {
    url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
}
