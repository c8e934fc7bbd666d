//! The proxy: `CONNECT name:port`, then TLS as that name; and plain requests with an absolute URI.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Request, Shared};

type Answer = Response<Full<Bytes>>;

pub(super) fn start(runtime: &tokio::runtime::Runtime, shared: Arc<Shared>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("it is bound");
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("a socket");
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                let service = service_fn(move |request| proxied(Arc::clone(&shared), request));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let _ = connection.with_upgrades().await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    address
}

async fn proxied(shared: Arc<Shared>, request: http::Request<Incoming>) -> Result<Answer, Infallible> {
    let Some(authority) = request.uri().authority().map(ToString::to_string) else {
        return Ok(empty(StatusCode::BAD_REQUEST));
    };
    if request.method() != Method::CONNECT {
        let name = authority.strip_suffix(":80").unwrap_or(&authority).to_owned();
        return served(shared, name, request).await;
    }
    let name = authority.strip_suffix(":443").unwrap_or(&authority).to_owned();
    if !shared.knows(&name) {
        return Ok(empty(StatusCode::BAD_GATEWAY));
    }
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let host = name.split(':').next().unwrap_or_default();
        let acceptor = tokio_rustls::TlsAcceptor::from(shared.authority.server(host));
        let Ok(stream) = acceptor.accept(TokioIo::new(upgraded)).await else { return };
        let service = service_fn(move |request| served(Arc::clone(&shared), name.clone(), request));
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    });
    Ok(empty(StatusCode::OK))
}

async fn served(
    shared: Arc<Shared>,
    host: String,
    request: http::Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(empty(StatusCode::BAD_REQUEST)) };
    let bodyless = head.method == Method::HEAD;
    let reply = shared.answer(Request {
        host,
        method: head.method.to_string(),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers,
        body: body.to_bytes(),
    });
    let (status, headers, body) = reply.into_parts();
    let length = body.len();
    let mut response = Response::new(Full::new(if bodyless { Bytes::new() } else { body }));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    *response.headers_mut() = headers;
    if bodyless {
        response.headers_mut().entry("content-length").or_insert(HeaderValue::from(length));
    }
    Ok(response)
}

fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
