//! A registry that fails on command. Rules stand before a small, correct registry in memory: a request that a rule matches meets its
//! fault, every other one is served as the specification says. Without the registry behind it ([`Server::script`]), every request
//! has to be expected. All requests are recorded, so that tests count them exactly.

mod auth;
pub mod h2;
pub mod raw;
mod registry;
mod rule;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::net::TcpListener;

pub use auth::{Auth, url_pairs};
pub use registry::{Registry, digest_of};
pub use rule::{Fault, Reply, Rule, on};

/// What a handler returns: an answer, or the connection closed without one.
type Answer = Result<Response<UnsyncBoxBody<Bytes, std::io::Error>>, std::io::Error>;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Bytes of the body that were read.
    pub body: Bytes,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
}

impl Seen {
    /// The credentials, if any were sent.
    pub fn authorization(&self) -> Option<&str> {
        self.headers.get("authorization").and_then(|value| value.to_str().ok())
    }
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    /// `http`, `https`.
    scheme: &'static str,
    rules: Mutex<Vec<Rule>>,
    accepted: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    registry: Option<Mutex<Registry>>,
}

/// A running server on loopback; ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// A server with a registry behind the rules.
    pub async fn start(registry: Registry) -> Self {
        Self::listen("127.0.0.1:0", None, Some(registry), Vec::new()).await
    }

    /// The same at another address: `[::1]:0`.
    pub async fn start_at(address: &str, registry: Registry) -> Self {
        Self::listen(address, None, Some(registry), Vec::new()).await
    }

    /// The same over TLS, with HTTP/2 where client and server agree on it.
    pub async fn start_tls(tls: Arc<ServerConfig>, registry: Registry) -> Self {
        Self::listen("127.0.0.1:0", Some(tls), Some(registry), Vec::new()).await
    }

    /// A server that knows nothing but its rules; anything else is answered 599 and found by [`Server::verify`].
    pub async fn script(rules: Vec<Rule>) -> Self {
        Self::listen("127.0.0.1:0", None, None, rules).await
    }

    /// The same over TLS.
    pub async fn script_tls(tls: Arc<ServerConfig>, rules: Vec<Rule>) -> Self {
        Self::listen("127.0.0.1:0", Some(tls), None, rules).await
    }

    async fn listen(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        registry: Option<Registry>,
        rules: Vec<Rule>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            address,
            scheme: if tls.is_some() { "https" } else { "http" },
            accepted: AtomicUsize::new(0),
            rules: Mutex::new(rules),
            seen: Mutex::default(),
            registry: registry.map(Mutex::new),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&serving);
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let tls = tls.clone().map(tokio_rustls::TlsAcceptor::from);
                connections.spawn(async move {
                    let service =
                        hyper::service::service_fn(move |request| handle(Arc::clone(&shared), request));
                    let http1 = hyper::server::conn::http1::Builder::new();
                    let Some(tls) = tls else {
                        let _ = http1.serve_connection(TokioIo::new(stream), service).await;
                        return;
                    };
                    let Ok(stream) = tls.accept(stream).await else { return };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = http2.serve_connection(TokioIo::new(stream), service).await;
                    } else {
                        let _ = http1.serve_connection(TokioIo::new(stream), service).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { shared, task }
    }

    /// `127.0.0.1:PORT`: the registry's name.
    pub fn address(&self) -> String {
        self.shared.address.to_string()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.shared.address.port()
    }

    /// How many connections were made.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Adds a rule; earlier ones win.
    pub fn rule(&self, rule: Rule) -> &Self {
        lock(&self.shared.rules).push(rule);
        self
    }

    /// Everything that was asked, in order of arrival.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many requests with this method (`*` for any) have `part` in path or query.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let of = |seen: &&Seen| (method == "*" || seen.method == method) && seen.target.contains(part);
        lock(&self.shared.seen).iter().filter(of).count()
    }

    /// `METHOD target → status` lines with hosts, digests and session names made short, for exact comparison.
    pub fn log(&self) -> Vec<String> {
        lock(&self.shared.seen)
            .iter()
            .map(|seen| format!("{} {} {}", seen.method, short(&seen.target), seen.status))
            .collect()
    }

    /// Reads or changes the registry behind the rules.
    pub fn registry<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut lock(self.shared.registry.as_ref().expect("a server with a registry")))
    }

    /// Every rule was used as often as it said, and nothing unexpected came.
    pub fn verify(&self) {
        let unused: Vec<String> = lock(&self.shared.rules)
            .iter()
            .filter(|rule| rule.is_due())
            .map(|rule| format!("{rule:?}"))
            .collect();
        assert!(unused.is_empty(), "rules that nothing met: {unused:#?}\nrequests: {:#?}", self.log());
        let expected = self.requests().iter().all(|seen| seen.status != 599);
        assert!(expected, "requests that no rule expects (599): {:#?}", self.log());
    }
}

/// Digests to six digits, names of sessions away.
fn short(target: &str) -> String {
    let mut text = String::new();
    let mut rest = target;
    while let Some(at) = rest.find("sha256:") {
        let (head, tail) = rest.split_at(at);
        text.push_str(head);
        text.push_str(&tail[..tail.len().min(13)]);
        rest = tail.get(71..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (head, mut incoming) = request.into_parts();
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let index = {
        let mut seen = lock(&shared.seen);
        seen.push(Seen {
            method: head.method.to_string(),
            target: target.clone(),
            headers: head.headers.clone(),
            body: Bytes::new(),
            status: 0,
        });
        seen.len() - 1
    };
    let fault = lock(&shared.rules).iter_mut().find_map(|rule| rule.meets(head.method.as_str(), &target));
    let read_at_most = match &fault {
        Some(Fault::Early(_)) => 0,
        Some(Fault::DropAfterRequest(bytes)) => *bytes,
        _ => usize::MAX,
    };
    let mut body = Vec::new();
    while body.len() < read_at_most {
        match incoming.frame().await {
            Some(Ok(frame)) => body.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            Some(Err(_)) => return Err(std::io::Error::other("the client went away")),
            None => break,
        }
    }
    body.truncate(read_at_most);
    let body = Bytes::from(body);
    lock(&shared.seen)[index].body = body.clone();
    let behind = |body: Bytes| match &shared.registry {
        Some(registry) => {
            // A registry builds its addresses from the name that it was asked by.
            let asked = head.headers.get("host").and_then(|host| host.to_str().ok().map(str::to_owned));
            let host = asked.or_else(|| head.uri.authority().map(ToString::to_string));
            let base = format!("{}://{}", shared.scheme, host.unwrap_or_else(|| shared.address.to_string()));
            lock(registry).serve(&base, head.method.as_str(), &target, &head.headers, &body)
        }
        None => Reply::status(599),
    };
    let whole = match fault {
        None => behind(body),
        Some(Fault::Reply(reply) | Fault::Early(reply)) => reply,
        Some(Fault::Drop) => return Err(std::io::Error::other("dropped on command")),
        Some(Fault::DropAfterRequest(_)) => {
            if let Some(registry) = &shared.registry {
                lock(registry).keep_partial(&target, &body);
            }
            return Err(std::io::Error::other("dropped on command"));
        }
        Some(Fault::Lose) => {
            behind(body);
            return Err(std::io::Error::other("the answer is lost on command"));
        }
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            behind(body)
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Header(name, value)) => behind(body).header(name, &value),
        Some(Fault::Corrupt) => {
            let mut reply = behind(body);
            let mut bytes = reply.body.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            reply.body = bytes.into();
            reply
        }
        Some(Fault::Truncate(at)) => {
            let reply = behind(body);
            lock(&shared.seen)[index].status = reply.status;
            return cut(&reply, at);
        }
    };
    lock(&shared.seen)[index].status = whole.status;
    let bodyless = head.method == http::Method::HEAD;
    let length = whole.body.len();
    let content = if bodyless { Bytes::new() } else { whole.body.clone() };
    let full = http_body_util::Full::new(content).map_err(|never: Infallible| match never {});
    let mut response = Response::new(full.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(whole.status).expect("a status");
    *response.headers_mut() = whole.headers;
    if bodyless {
        response.headers_mut().entry("content-length").or_insert(HeaderValue::from(length));
    }
    Ok(response)
}

/// The answer with its true length, and a connection that ends before.
fn cut(reply: &Reply, at: usize) -> Answer {
    let part = reply.body.slice(..at.min(reply.body.len()));
    let broken = stream::once(async {
        // What was written goes out before the connection ends.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        Err(std::io::Error::other("cut on command"))
    });
    let frames = stream::iter([Ok(Frame::data(part))]).chain(broken);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(reply.status).expect("a status");
    response.headers_mut().clone_from(&reply.headers);
    response.headers_mut().insert("content-length", HeaderValue::from(reply.body.len()));
    Ok(response)
}
