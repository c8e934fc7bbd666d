//! Connections: accept, shake hands where TLS is spoken, serve HTTP/1.1, end in good order.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::access::Access;
use crate::server::beside::{Beside, BesideOptions};
use crate::server::sender::Network;
use crate::server::tls::{self, Tls};
use crate::server::{Limits, Observer, Peer, Registry};
use crate::store::Store;

/// How often uploads that nobody goes on with are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(300);

/// How long to wait when the system has no more descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// See [`ServeOptions::started`].
pub type Started = Box<dyn FnOnce(&Registry) + Send>;

/// What a registry is served with.
pub struct ServeOptions {
    /// Where. Bind it first: then its address is known, and clients can already connect.
    pub listener: TcpListener,
    /// From what.
    pub store: Arc<dyn Store>,
    /// To whom.
    pub access: Arc<dyn Access>,
    /// Within what.
    pub limits: Limits,
    /// Proxies before it, which are believed in what they say of clients.
    pub proxies: Arc<[Network]>,
    /// Told of every request.
    pub observer: Option<Observer>,
    /// How long requests may go on after the shutdown.
    pub grace: Duration,
    /// Is given the registry before the first request: for what goes on beside serving, such as collecting garbage.
    pub started: Option<Started>,
    /// Connections are encrypted with it; without, they are plain.
    pub tls: Option<Arc<Tls>>,
    /// Health, metrics and the page.
    pub beside: BesideOptions,
}

impl ServeOptions {
    /// Everybody may do everything, with the default limits.
    pub fn new(listener: TcpListener, store: Arc<dyn Store>) -> Self {
        Self {
            listener,
            store,
            access: Arc::new(crate::server::access::Open),
            limits: Limits::default(),
            proxies: Arc::default(),
            observer: None,
            grace: Duration::from_secs(10),
            started: None,
            tls: None,
            beside: BesideOptions::default(),
        }
    }
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { listener, store, access, limits, grace, tls, beside, .. } = self;
        f.debug_struct("ServeOptions")
            .field("listener", listener)
            .field("store", store)
            .field("access", access)
            .field("limits", limits)
            .field("grace", grace)
            .field("tls", tls)
            .field("beside", beside)
            .finish_non_exhaustive()
    }
}

/// Serves until `shutdown`. Then nobody new is let in, requests under way get their answer, and after the grace the rest
/// is cut off. Fails only if the listener cannot accept at all.
pub async fn serve(options: ServeOptions, shutdown: CancellationToken) -> io::Result<()> {
    let ServeOptions { listener, store, access, limits, proxies, observer, grace, tls, beside, started } =
        options;
    let registry =
        Registry::new(store, access, limits, observer).behind(proxies).with(Beside::new(beside, tls.clone()));
    if let Some(started) = started {
        started(&registry);
    }
    let tracker = TaskTracker::new();
    let cut_off = CancellationToken::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut expire = tokio::time::interval(EXPIRE_EVERY);
    if let Some(tls) = &tls {
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(keep_certificate(Arc::clone(tls))));
    }
    let outcome = loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, peer)| (stream, Peer(peer), place))
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            _ = expire.tick() => {
                registry.uploads().expire();
                continue;
            }
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                // Answers are small and come at once; a client that went away before is noticed when it is written to.
                let _ = stream.set_nodelay(true);
                let connection = arrive(stream, peer, tls.clone(), registry.clone(), shutdown.clone());
                let cut_off = cut_off.clone();
                tracker.spawn(async move {
                    cut_off.run_until_cancelled(connection).await;
                    drop(place);
                });
            }
            Err(error) if is_fatal(&error) => break Err(error),
            Err(error) => {
                tracing::warn!(target: "idp::registry", %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    };
    drop(listener);
    tracker.close();
    let ends = tokio::time::Instant::now() + grace;
    if tokio::time::timeout(grace, tracker.wait()).await.is_err() {
        cut_off.cancel();
        tracker.wait().await;
    }
    registry.beside.webhooks.finish(ends.saturating_duration_since(tokio::time::Instant::now())).await;
    outcome
}

/// A listener that is none fails for ever; everything else passes: a client gone, descriptors all in use.
fn is_fatal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Sees to it that the certificate is a good one.
async fn keep_certificate(tls: Arc<Tls>) {
    let mut tick = tokio::time::interval(tls::CHECK_EVERY);
    loop {
        tick.tick().await;
        let tls = Arc::clone(&tls);
        // Files are read, and seldom a key is made.
        let _ = tokio::task::spawn_blocking(move || tls.check(SystemTime::now())).await;
    }
}

async fn arrive(
    stream: TcpStream,
    peer: Peer,
    tls: Option<Arc<Tls>>,
    registry: Registry,
    shutdown: CancellationToken,
) {
    let Some(tls) = tls else { return connection(stream, peer, registry, shutdown).await };
    match shutdown.run_until_cancelled(tls::accept(&tls, stream)).await {
        Some(Ok(stream)) => connection(stream, peer, registry, shutdown).await,
        Some(Err(error)) => tracing::debug!(target: "idp::registry", peer = %peer.0, %error, "no handshake"),
        None => {}
    }
}

async fn connection<S>(stream: S, peer: Peer, registry: Registry, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let patience = registry.limits.header_patience;
    let service = TowerToHyperService::new(registry.router());
    let service = service_fn(move |mut request| {
        request.extensions_mut().insert(peer);
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(target: "idp::registry", %error, "a connection ended");
    }
}
