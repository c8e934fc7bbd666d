//! Cases 10, 11, 14, 17, 18: what becomes of connections.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use http::Method;
use idp_oci::client::http::{Body, Http, HttpError, HttpOptions, Request, Resolve};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::Credential;
use idp_oci::client::{Access, Kind, Scheme};
use idp_oci::name::Registry as Name;
use idp_test_support::faults::raw::{Raw, read_head};
use idp_test_support::faults::{Fault, Registry, Reply, Server, on};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{
    blob, bytes, client, client_of, client_with, hold, is_stored, manifest, options, push, repository, tag,
};

const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

fn put(address: &str, body: Body) -> Request {
    let url = format!("http://{address}/up").parse().expect("a URL");
    Request { body, ..Request::new(Method::PUT, url) }
}

fn get(address: &str) -> Request {
    Request::new(Method::GET, format!("http://{address}/x").parse().expect("a URL"))
}

/// A body of pieces of 1000 bytes, with a pause before each.
fn paced(pieces: usize, pause: Duration) -> Body {
    let open = move || {
        futures_util::stream::iter(0..pieces)
            .then(move |_| async move {
                tokio::time::sleep(pause).await;
                Ok(bytes(1000))
            })
            .boxed()
    };
    Body::Stream { length: pieces as u64 * 1000, open: Arc::new(open) }
}

/// Reads the body of a request whose head was read.
async fn read_body(stream: &mut TcpStream, head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await.expect("a body");
    body.len()
}

/// No upload waits for `100 Continue`: a server that never says it, says it unasked, or late, gets the body all the same.
#[tokio::test]
async fn case_10_nothing_waits_for_100_continue() {
    for (before, after) in [(0, 0), (1, 0), (0, 1), (1, 2)] {
        let server = Raw::start(move |_, mut stream| async move {
            let head = read_head(&mut stream).await;
            assert!(!head.to_lowercase().contains("\r\nexpect:"), "{head}");
            for _ in 0..before {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.expect("written");
            }
            assert_eq!(read_body(&mut stream, &head).await, 300_000);
            for _ in 0..after {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.expect("written");
            }
            stream.write_all(CREATED).await.expect("written");
        })
        .await;
        let body = paced(300, Duration::ZERO);
        let answer = Http::new(options()).execute(put(&server.address(), body)).await;
        assert_eq!((answer.expect("an answer").status.as_u16(), server.accepted()), (201, 1));
    }
}

/// The answer to an upload counts also when the server says it before the body is there, and closes.
#[tokio::test]
async fn case_11a_an_early_answer_is_seen() {
    for status in [400, 403, 413] {
        for length in [300_000, 20_000_000] {
            let server = Raw::start(move |_, mut stream| async move {
                let _ = read_head(&mut stream).await;
                let answer =
                    format!("HTTP/1.1 {status} No\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n");
                stream.write_all(answer.as_bytes()).await.expect("written");
                // What was not read makes the system say so with a reset, not an end.
            })
            .await;
            for pieces in [true, false] {
                let body =
                    if pieces { paced(length / 1000, Duration::ZERO) } else { Body::Bytes(bytes(length)) };
                for _ in 0..5 {
                    let answer = Http::new(options()).execute(put(&server.address(), body.clone())).await;
                    assert_eq!(answer.expect("the answer, not EPIPE").status, status, "{length} {pieces}");
                }
            }
        }
    }
}

/// So it is with a blob: the registry's reason reaches whoever pushes.
#[tokio::test]
async fn case_11b_an_early_refusal_of_a_blob_is_seen() {
    let server = Server::start(Registry::default()).await;
    let denied = Reply::error(403, "DENIED", &serde_json::Value::Null);
    server.rule(on("PUT", "/uploads/", Fault::Early(denied)).always());
    let error = push(&client(&server), &blob(bytes(20_000_000))).await.expect_err("refused");
    assert_eq!((error.kind(), error.status()), (Kind::Auth, Some(403)), "{error}");
    assert!(error.to_string().contains("DENIED"), "{error}");
}

/// A registry at an IPv6 literal.
#[tokio::test]
async fn case_14a_ipv6_literals() {
    if TcpListener::bind("[::1]:0").await.is_err() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: case_14a_ipv6_literals: this machine has no IPv6");
        return;
    }
    let server = Server::start_at("[::1]:0", Registry::default()).await;
    let address = server.address();
    assert!(address.starts_with("[::1]:"), "{address}");
    let name: Name = address.parse().expect("a registry");
    assert!(name.is_loopback());
    assert_eq!(Scheme::of(&name, false).await, Scheme::Http);
    let client = client(&server);
    push(&client, &blob("{}")).await.expect("pushed");
    client.put_manifest(&repository(), &tag(), &manifest()).await.expect("written");
    let read = client.manifest(&repository(), &tag(), None).await.expect("read");
    assert_eq!(read.bytes(), manifest().bytes());
}

/// A zone belongs to one machine: refused by name where a registry is named, and where one is sent to.
#[tokio::test]
async fn case_14b_zones_are_refused() {
    for zone in ["[fe80::1%eth0]:5000", "[fe80::1%25eth0]"] {
        let error = zone.parse::<Name>().expect_err("refused").to_string();
        assert!(error.contains(zone) && error.contains("zone"), "{error}");
        let server = Server::start(Registry::default()).await;
        let location = format!("http://{zone}/up/1");
        server.rule(on("POST", "/uploads/", Fault::Reply(Reply::status(202).header("location", &location))));
        let error = push(&client(&server), &blob("one")).await.expect_err("refused");
        assert_eq!(error.kind(), Kind::Other);
        assert!(error.to_string().contains("not a URL"), "{error}");
    }
}

/// One address that is dead, before one that is not.
#[derive(Debug)]
struct Both(Vec<SocketAddr>);

#[async_trait]
impl Resolve for Both {
    async fn resolve(&self, _: &str) -> std::io::Result<Vec<SocketAddr>> {
        Ok(self.0.clone())
    }
}

/// A port on which connections are neither made nor refused: nobody accepts, and the queue is full.
async fn black_hole() -> Option<(TcpListener, Vec<tokio::task::JoinHandle<()>>)> {
    let socket = TcpSocket::new_v6().ok()?;
    socket.bind("[::1]:0".parse().expect("an address")).ok()?;
    let listener = socket.listen(1).ok()?;
    let address = listener.local_addr().ok()?;
    let filling = (0..8).map(|_| {
        tokio::spawn(async move {
            let _open = TcpStream::connect(address).await;
            std::future::pending().await
        })
    });
    let filling = filling.collect();
    for _ in 0..100 {
        let one = tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address));
        if one.await.is_err() {
            return Some((listener, filling));
        }
    }
    None
}

/// An IPv6 address that is dead does not keep us from the IPv4 address that lives.
#[tokio::test]
async fn case_14c_a_dead_address_is_passed_over() {
    let server = Server::start(Registry::default()).await;
    let Some((hole, filling)) = black_hole().await else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: case_14c_a_dead_address_is_passed_over: no IPv6 here");
        return;
    };
    let closed = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1));
    for dead in [hole.local_addr().expect("bound"), closed] {
        // The addresses differ in their ports, so the URL names none.
        let live = SocketAddr::from(([127, 0, 0, 1], server.port()));
        let http = HttpOptions {
            resolver: Some(Arc::new(Both(vec![dead, live]))),
            connect_timeout: Duration::from_secs(10),
            ..options()
        };
        let (client, recorder) = client_of(
            "registry.example",
            Scheme::Http,
            Credential::Anonymous,
            http,
            RetryPolicy::immediate(1),
        );
        client.check().await.expect("by the address that lives");
        assert_eq!(recorder.retries(), 0);
    }
    filling.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A connection that the other side closed while it was idle costs a question one more try that nobody sees.
#[tokio::test]
async fn case_17a_an_idle_connection_was_closed() {
    for method in [Method::GET, Method::HEAD] {
        let server = Raw::start(|number, mut stream| async move {
            let _ = read_head(&mut stream).await;
            let head: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(head).await.expect("written");
            // It was closed just when the next request was on its way: that one is read, and nothing comes back.
            let _ = read_head(&mut stream).await;
            if number > 1 {
                stream.write_all(head).await.expect("written");
            }
        })
        .await;
        let http = Http::new(options());
        let request = Request { method, ..get(&server.address()) };
        for _ in 0..2 {
            http.execute(request.clone()).await.expect("an answer").bytes(10).await.expect("read");
        }
        assert_eq!(server.accepted(), 2);
    }
}

/// One try and not more; and who was never answered gets none, nor does a write that may have arrived.
#[tokio::test]
async fn case_17b_one_try_that_nobody_sees() {
    let server = Raw::start(|number, mut stream| async move {
        let _ = read_head(&mut stream).await;
        if number == 1 {
            stream.write_all(OK).await.expect("written");
            let _ = read_head(&mut stream).await;
        }
    })
    .await;
    let http = Http::new(options());
    let answer = http.execute(get(&server.address())).await.expect("an answer");
    answer.bytes(10).await.expect("read");
    let error = http.execute(get(&server.address())).await.expect_err("closed");
    assert!(matches!(error, HttpError::Broken(_)) && error.is_transient(), "{error}");
    assert_eq!(server.accepted(), 2);
    let error = http.execute(get(&server.address())).await.expect_err("closed");
    assert!(error.is_transient());
    assert_eq!(server.accepted(), 3);

    let server = Raw::start(|_, mut stream| async move {
        let _ = read_head(&mut stream).await;
        stream.write_all(OK).await.expect("written");
        let _ = read_head(&mut stream).await;
    })
    .await;
    let http = Http::new(options());
    http.execute(get(&server.address())).await.expect("an answer").bytes(10).await.expect("read");
    let error = http.execute(put(&server.address(), Body::Bytes(bytes(10)))).await.expect_err("closed");
    assert_eq!((error.is_transient(), server.accepted()), (true, 1));
}

/// A connection that is known to be closed is not used: a write goes over a new one, and nobody hears of it.
#[tokio::test]
async fn case_17c_a_body_that_was_not_begun() {
    let server = Raw::start(|_, mut stream| async move {
        let head = read_head(&mut stream).await;
        read_body(&mut stream, &head).await;
        stream.write_all(CREATED).await.expect("written");
    })
    .await;
    let http = Http::new(options());
    for number in 1..=3 {
        let answer = http.execute(put(&server.address(), paced(10, Duration::ZERO))).await;
        assert_eq!((answer.expect("an answer").status.as_u16(), server.accepted()), (201, number));
        // The end has to arrive before the next request begins.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A server that says nothing, before its answer or in the middle of it, is given up and asked again.
#[tokio::test]
async fn case_18a_a_silent_server_is_asked_again() {
    let image = manifest();
    let body = image.bytes().clone();
    let server = Raw::start(move |number, mut stream| {
        let body = body.clone();
        async move {
            let _ = read_head(&mut stream).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            match number {
                1 => {}
                2 => {
                    stream.write_all(head.as_bytes()).await.expect("written");
                    stream.write_all(&body[..10]).await.expect("written");
                }
                _ => {
                    stream.write_all(head.as_bytes()).await.expect("written");
                    stream.write_all(&body).await.expect("written");
                }
            }
            std::future::pending().await
        }
    })
    .await;
    let idle = HttpOptions { idle_timeout: Duration::from_secs(1), ..options() };
    let (client, recorder) =
        client_of(&server.address(), Scheme::Http, Credential::Anonymous, idle, RetryPolicy::immediate(4));
    let read = client.manifest(&repository(), &tag(), None).await.expect("the third try");
    assert_eq!((read.bytes(), server.accepted(), recorder.retries()), (image.bytes(), 3, 2));
}

/// An upload that is slow at its source and moves takes longer than any silence may, and gets there.
#[tokio::test]
async fn case_18b_a_slow_source_is_waited_for() {
    let server = Server::script(vec![on("PUT", "/up", Fault::Reply(Reply::status(201)))]).await;
    let idle = HttpOptions { idle_timeout: Duration::from_millis(800), ..options() };
    let answer = Http::new(idle).execute(put(&server.address(), paced(12, Duration::from_millis(100)))).await;
    assert_eq!(answer.expect("an answer").status, 201);
    assert_eq!(server.requests()[0].body.len(), 12_000);
}

/// So does one that is slow on the line, in one piece or in many.
#[tokio::test]
async fn case_18c_a_slow_line_is_waited_for() {
    const LENGTH: usize = 24 * 1024 * 1024;
    let server = Raw::start(|_, mut stream| async move {
        let _ = read_head(&mut stream).await;
        let (mut piece, mut read) = (vec![0; 256 * 1024], 0);
        while read < LENGTH {
            let length = stream.read(&mut piece).await.expect("more");
            assert!(length > 0, "the client gave up");
            read += length;
            tokio::time::sleep(Duration::from_millis(length as u64 * 20 / piece.len() as u64)).await;
        }
        stream.write_all(CREATED).await.expect("written");
    })
    .await;
    let idle = HttpOptions { idle_timeout: Duration::from_millis(800), ..options() };
    let answer = Http::new(idle).execute(put(&server.address(), Body::Bytes(bytes(LENGTH)))).await;
    assert_eq!(answer.expect("an answer").status, 201);
}

/// A download that is slow and moves likewise.
#[tokio::test]
async fn case_18d_a_slow_answer_is_waited_for() {
    let server = Raw::start(|_, mut stream| async move {
        let _ = read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n").await.expect("written");
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.write_all(b"x").await.expect("written");
        }
    })
    .await;
    let idle = HttpOptions { idle_timeout: Duration::from_millis(800), ..options() };
    let answer = Http::new(idle).execute(get(&server.address())).await.expect("an answer");
    assert_eq!(answer.bytes(100).await.expect("all of it").len(), 12);
}

/// A registry that drops a connection now and then is not noticed by who reads and writes with it.
#[tokio::test]
async fn case_17d_a_registry_that_closes_connections() {
    let server = Server::start(Registry::default()).await;
    hold(&server);
    let (client, recorder) = client_with(&server, Credential::Anonymous, options());
    client.head_manifest(&repository(), &tag(), Access::Pull).await.expect("asked");
    server.rule(on("HEAD", "/manifests/", Fault::Drop));
    client.head_manifest(&repository(), &tag(), Access::Pull).await.expect("asked");
    server.verify();
    assert_eq!((server.requests().len(), recorder.retries()), (3, 0));
    let blob = blob("two");
    push(&client, &blob).await.expect("pushed");
    assert!(is_stored(&server, &blob));
}
