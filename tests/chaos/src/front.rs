//! The HTTP server between the binary and a registry: it passes requests on, and does to them what the run's weather says: answers of its
//! own (5xx, 429), bodies cut in either direction, lost answers, silence, slowness, changed bytes. It counts what goes up and down.
//!
//! In: connections, each of a run that is found by its process. Out: exchanges with the registry, and lines in the run's [`Trace`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::dice::Dice;
use crate::line::Line;
use crate::trace::{Trace, Traces};

/// What is sent rather than asked for: a request costs more (performance.md, idea 3).
const SMALL: u64 = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What befalls a request.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The registry is not asked.
    Status(u16, Option<u8>),
    /// The request's body ends at so many thousandths of it, and so does the connection.
    CutUp(u64),
    /// The registry does it, and the client is not told.
    Lose,
    /// The answer's body ends there, and so does the connection.
    CutDown(u64),
    /// Nothing for a while, then the answer.
    Silence(Duration),
    /// Bodies crawl, in both directions.
    Slow,
    /// One byte is another one.
    Flip(u64),
}

impl Fault {
    fn of(dice: &mut Dice, method: &Method) -> Self {
        let moves_down = method == Method::GET;
        match dice.below(12) {
            0..=2 => {
                let status = *dice.pick(&[500, 502, 503, 503, 504, 429, 429]);
                let wait =
                    (status == 429 || status == 503).then(|| u8::try_from(dice.below(2)).unwrap_or_default());
                Self::Status(status, wait)
            }
            3 | 4 if moves_down => Self::CutDown(dice.below(1000)),
            3 | 4 => Self::CutUp(dice.below(1000)),
            5 | 6 => Self::Lose,
            7 => Self::CutDown(dice.below(1000)),
            8 => Self::Silence(Duration::from_millis(dice.within(50..=1500))),
            9 => Self::Slow,
            _ => Self::Flip(dice.next()),
        }
    }
}

/// When the registry said that it has a blob.
type Finished = Mutex<HashMap<(String, String), Instant>>;

/// A front on loopback; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Front {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    behind: String,
    traces: Traces,
    finished: Finished,
    strays: Mutex<u64>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Front {
    /// Before the registry at `behind`.
    pub(crate) async fn start(behind: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            behind: behind.to_owned(),
            traces: Traces::default(),
            finished: Mutex::default(),
            strays: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, peer)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(Arc::clone(&serving), stream, peer));
            }
        });
        Ok(Self { shared, address, task })
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn traces(&self) -> &Traces {
        &self.shared.traces
    }

    /// The blobs that a repository is believed to have.
    pub(crate) fn finished(&self, repository: &str) -> Vec<String> {
        let finished = self.shared.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.keys().filter(|(of, _)| of == repository).map(|(_, digest)| digest.clone()).collect()
    }

    /// It is not there any more.
    pub(crate) fn forget(&self, repository: &str, digest: &str) {
        self.shared.forget(repository, digest);
    }

    /// Connections whose process could not be found: it was gone already.
    pub(crate) fn strays(&self) -> u64 {
        *self.shared.strays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let trace = shared.traces.of_port(peer.port());
    let line = match &trace {
        Some(trace) => {
            let mut dice = trace.dice("connection");
            let (line, told) = Line::new(stream, &mut dice, trace.weather.connections());
            if let Some(told) = told {
                trace.note(format!("connection {}: {told}", peer.port()));
            }
            line
        }
        None => {
            *shared.strays.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            Line::whole(stream)
        }
    };
    let service = hyper::service::service_fn(move |request| {
        let (shared, trace) = (Arc::clone(&shared), trace.clone());
        async move { shared.handle(trace, request).await }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(line), service).await;
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why.to_owned())
}

/// Path without what is another one in each run, so that the dice know a request again.
fn general(path: &str) -> String {
    match path.split_once("/blobs/uploads/") {
        Some((before, session)) if !session.is_empty() => format!("{before}/blobs/uploads/*"),
        _ => path.to_owned(),
    }
}

/// `/v2/<repository>/…`.
fn repository(path: &str) -> String {
    let rest = path.strip_prefix("/v2/").unwrap_or(path);
    let end = ["/blobs/", "/manifests/", "/tags/", "/referrers/"].iter().find_map(|part| rest.find(part));
    rest[..end.unwrap_or(rest.len())].to_owned()
}

fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%3a", ":"))
}

impl Shared {
    async fn handle(
        &self,
        trace: Option<Arc<Trace>>,
        request: Request<Incoming>,
    ) -> io::Result<Response<Body>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().map(str::to_owned);
        let Some(trace) = trace else {
            return self.forward(request.map(|body| body.map_err(io::Error::other).boxed_unsync())).await;
        };
        let what = format!("{method} {}", general(&path));
        let mut dice = trace.dice(&what);
        let number = trace.request();
        trace.perhaps_kill(number, false);
        let mut fault = dice.permille(trace.weather.requests()).then(|| Fault::of(&mut dice, &method));
        // Only what has a digest is changed: other answers cannot be found out.
        let is_content = method == Method::GET
            && (path.contains("/blobs/sha256:") || path.contains("/manifests/"))
            || matches!(method, Method::PUT | Method::PATCH) && path.contains("/blobs/uploads/");
        if matches!(fault, Some(Fault::Flip(_))) && !is_content {
            fault = None;
        }
        let shown = match (&fault, parameter(query.as_deref(), "digest")) {
            (None, None) => what.clone(),
            (None, Some(digest)) => format!("{what} {digest}"),
            (Some(fault), digest) => format!("{what} {} {fault:?}", digest.unwrap_or_default()),
        };
        if let Some(Fault::Status(status, wait)) = fault {
            trace.note(format!("{shown} -> {status} of ours"));
            return Ok(refused(status, wait));
        }
        let digest = parameter(query.as_deref(), "digest");
        let mount = parameter(query.as_deref(), "mount");
        let exchange = Exchange { trace: Arc::clone(&trace), method, path, digest, mount, fault, shown };
        let response = exchange.run(self, request).await;
        trace.perhaps_kill(number, true);
        response
    }

    async fn forward(&self, request: Request<Body>) -> io::Result<Response<Body>> {
        let stream = TcpStream::connect(&self.behind).await?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        Ok(response.map(|body| {
            // The sender lives as long as the answer.
            let frames = stream::unfold((body, sender), |(mut body, sender)| async move {
                let frame = body.frame().await?;
                Some((frame.map_err(io::Error::other), (body, sender)))
            });
            StreamBody::new(frames).boxed_unsync()
        }))
    }

    fn is_finished_before(&self, repository: &str, digest: &str, moment: Instant) -> bool {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.get(&(repository.to_owned(), digest.to_owned())).is_some_and(|at| *at < moment)
    }

    /// The registry has forgotten it: Gitea does, when the last tag that named it has moved on.
    fn forget(&self, repository: &str, digest: &str) {
        let key = (repository.to_owned(), digest.to_owned());
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    fn finish(&self, repository: String, digest: String) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.entry((repository, digest)).or_insert_with(Instant::now);
    }
}

fn refused(status: u16, wait: Option<u8>) -> Response<Body> {
    let body =
        Full::new(Bytes::from_static(b"the weather is bad")).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    if let Some(wait) = wait {
        response.headers_mut().insert("retry-after", HeaderValue::from(u64::from(wait)));
    }
    response
}

struct Exchange {
    trace: Arc<Trace>,
    method: Method,
    path: String,
    digest: Option<String>,
    mount: Option<String>,
    fault: Option<Fault>,
    shown: String,
}

impl Exchange {
    async fn run(self, shared: &Shared, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let length = content_length(request.headers());
        let counted = Arc::new(Mutex::new(0u64));
        let up = Passing {
            cut: match self.fault {
                Some(Fault::CutUp(thousandths)) => Some(length.unwrap_or_default() * thousandths / 1000),
                _ => None,
            },
            flip: match self.fault {
                Some(Fault::Flip(at)) if self.method != Method::GET => {
                    length.filter(|length| *length > 0).map(|length| at % length)
                }
                _ => None,
            },
            weight: 1,
            slow: matches!(self.fault, Some(Fault::Slow)),
            length,
            count: Arc::clone(&counted),
            trace: Arc::clone(&self.trace),
        };
        let has_body =
            length.is_some_and(|length| length > 0) || request.headers().contains_key("transfer-encoding");
        let forwarded = if has_body {
            request.map(|body| up.body(body.map_err(io::Error::other).boxed_unsync()))
        } else {
            if matches!(self.fault, Some(Fault::CutUp(_))) {
                self.trace.note(format!("{} -> dropped", self.shown));
                return Err(broken("cut"));
            }
            request.map(|_| Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync())
        };
        let answered = shared.forward(forwarded).await;
        let sent = *counted.lock().unwrap_or_else(PoisonError::into_inner);
        self.account(shared, sent, answered.as_ref().ok().map(Response::status));
        let response = match answered {
            Ok(response) => response,
            Err(error) => {
                self.trace.note(format!("{} -> {error} after {sent} bytes", self.shown));
                return Err(error);
            }
        };
        self.trace.note(format!("{} -> {} ({sent} bytes up)", self.shown, response.status().as_u16()));
        match self.fault {
            Some(Fault::Lose) => return Err(broken("lost")),
            Some(Fault::Silence(wait)) => tokio::time::sleep(wait).await,
            _ => {}
        }
        let is_manifest = self.method == Method::GET && self.path.contains("/manifests/");
        let is_blob = self.method == Method::GET
            && self.path.contains("/blobs/sha256:")
            && response.status().is_success();
        let length = content_length(response.headers());
        if matches!(self.fault, Some(Fault::CutDown(_))) && (length == Some(0) || self.method == Method::HEAD)
        {
            return Err(broken("cut"));
        }
        let down = Passing {
            cut: match self.fault {
                Some(Fault::CutDown(thousandths)) => Some(length.unwrap_or(1000) * thousandths / 1000),
                _ => None,
            },
            flip: match self.fault {
                Some(Fault::Flip(at)) if is_blob || is_manifest => {
                    length.filter(|length| *length > 0).map(|length| at % length)
                }
                _ => None,
            },
            weight: if is_manifest { 2 } else { 1 },
            slow: matches!(self.fault, Some(Fault::Slow)),
            length,
            count: Arc::default(),
            trace: Arc::clone(&self.trace),
        };
        if is_blob {
            let digest = self.path.rsplit('/').next().unwrap_or_default().to_owned();
            *self.trace.state().received.entry(digest).or_default() += length.unwrap_or_default();
        }
        Ok(response.map(|body| down.body(body)))
    }

    /// What went up, for which digest; and whether the registry had it before the run began.
    fn account(&self, shared: &Shared, sent: u64, status: Option<StatusCode>) {
        let repository = repository(&self.path);
        if status == Some(StatusCode::NOT_FOUND)
            && let Some((_, digest)) = self.path.split_once("/blobs/sha256:")
        {
            shared.forget(&repository, &format!("sha256:{digest}"));
            return;
        }
        let is_upload = self.path.contains("/blobs/uploads/");
        // Asked for a mount, it opened a session: it does not have it.
        if status == Some(StatusCode::ACCEPTED)
            && let Some(digest) = &self.mount
        {
            shared.forget(&repository, digest);
        }
        if !is_upload || !matches!(self.method, Method::PUT | Method::PATCH | Method::POST) {
            return;
        }
        let Some(digest) = self.digest.clone() else {
            if self.method == Method::PATCH {
                *self.trace.state().sessions.entry(self.path.clone()).or_default() += sent;
            }
            return;
        };
        let before = self.trace.state().sessions.remove(&self.path).unwrap_or_default();
        let bytes = before + sent;
        *self.trace.state().sent.entry(digest.clone()).or_default() += bytes;
        if bytes > SMALL && shared.is_finished_before(&repository, &digest, self.trace.started) {
            self.trace.violation(format!("{bytes} bytes of {digest} went up again, and {repository} had it"));
        }
        // Of what is finished after the signal its process was never told; content that was made on the way has no other name for it.
        if status == Some(StatusCode::CREATED) && !self.trace.state().signalled {
            shared.finish(repository, digest);
        }
    }
}

fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get("content-length")?.to_str().ok()?.parse().ok()
}

/// A body on its way.
struct Passing {
    cut: Option<u64>,
    flip: Option<u64>,
    /// A blob is asked for once more, a manifest is not.
    weight: u64,
    slow: bool,
    length: Option<u64>,
    count: Arc<Mutex<u64>>,
    trace: Arc<Trace>,
}

impl Passing {
    fn body(self, body: Body) -> Body {
        // Not more than a second and a half for all of it.
        let pieces = if self.slow { 20 } else { 1 };
        // A body of unknown length may be megabytes of a layer.
        let piece = usize::try_from(self.length.unwrap_or(8 << 20) / pieces + 1).unwrap_or(usize::MAX);
        let frames =
            stream::try_unfold((self, body, Bytes::new()), move |(passing, mut body, mut rest)| async move {
                if rest.is_empty() {
                    rest = loop {
                        match body.frame().await {
                            None => return Ok(None),
                            Some(Err(error)) => return Err(error),
                            Some(Ok(frame)) => {
                                if let Ok(data) = frame.into_data()
                                    && !data.is_empty()
                                {
                                    break data;
                                }
                            }
                        }
                    };
                }
                if passing.slow {
                    tokio::time::sleep(Duration::from_millis(70)).await;
                }
                let mut chunk = rest.split_to(rest.len().min(piece));
                let before = *passing.count.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(cut) = passing.cut {
                    if before >= cut {
                        // What was written goes out before the connection ends.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        return Err(broken("cut"));
                    }
                    chunk.truncate(usize::try_from(cut - before).unwrap_or(usize::MAX));
                }
                if let Some(at) = passing.flip
                    && let Some(at) = at.checked_sub(before).and_then(|at| usize::try_from(at).ok())
                    && at < chunk.len()
                {
                    let mut bytes = chunk.to_vec();
                    bytes[at] ^= 0x20;
                    chunk = bytes.into();
                    passing.trace.state().flipped += passing.weight;
                }
                *passing.count.lock().unwrap_or_else(PoisonError::into_inner) += chunk.len() as u64;
                Ok(Some((Frame::data(chunk), (passing, body, rest))))
            });
        StreamBody::new(frames.boxed()).boxed_unsync()
    }
}
