//! A server that is whatever a test writes: bytes in, bytes out, connection by connection. For what no HTTP library can be made to do.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

/// A running server on loopback; ends when it is dropped.
#[derive(Debug)]
pub struct Raw {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Raw {
    /// Gives every connection, with its number from 1 on, to `act`; it ends when `act` is done with it.
    pub async fn start<F, D>(act: F) -> Self
    where
        F: Fn(usize, TcpStream) -> D + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                connections.spawn(act(number, stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepted, task }
    }

    /// The same inside of TLS; connections whose handshake fails are counted and go no further.
    pub async fn start_tls<F, D>(config: Arc<ServerConfig>, act: F) -> Self
    where
        F: Fn(usize, TlsStream<TcpStream>) -> D + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let act = Arc::new(act);
        Self::start(move |number, stream| {
            let (acceptor, act) = (acceptor.clone(), Arc::clone(&act));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    act(number, stream).await;
                }
            }
        })
        .await
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections were made.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Reads the head of an HTTP/1 request; empty when the connection ends before.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}
