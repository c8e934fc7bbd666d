//! Cases 12 and 13: HTTP/1.1 and HTTP/2.

use std::sync::Arc;
use std::sync::Mutex;

use futures_util::StreamExt as _;
use http::Method;
use idp_oci::client::http::{Body, Http, HttpError, HttpOptions, Request};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::Credential;
use idp_oci::client::{Client, Scheme};
use idp_test_support::faults::h2::{
    self, Connection, GOAWAY, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, SETTINGS, WINDOW_UPDATE,
};
use idp_test_support::faults::raw::Raw;
use idp_test_support::faults::{Fault, Registry, Server, on};
use idp_test_support::net::certificates::{Authority, Serving};

use crate::{Recorder, blob, bytes, client_of, is_stored, manifest, options, push, repository, tag};

/// What everything here is sent to.
struct World {
    authority: Authority,
}

impl World {
    fn new() -> Self {
        Self { authority: Authority::new() }
    }

    fn tls(&self, speaks: &[&'static str]) -> Arc<rustls::ServerConfig> {
        self.authority.serving(&Serving { speaks: speaks.to_vec(), ..Serving::name("127.0.0.1") })
    }

    fn options(&self) -> HttpOptions {
        HttpOptions { extra_roots: vec![self.authority.pem().into_bytes()], ..options() }
    }

    fn http(&self) -> Http {
        Http::new(self.options())
    }

    fn client(&self, address: &str) -> (Client, Arc<Recorder>) {
        let retry = RetryPolicy::immediate(4);
        client_of(address, Scheme::Https, Credential::Anonymous, self.options(), retry)
    }

    async fn h2<F, D>(&self, act: F) -> Raw
    where
        F: Fn(usize, Connection) -> D + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        h2::start(self.tls(&["h2"]), act).await
    }
}

fn get(server: &Raw) -> Request {
    Request::new(Method::GET, format!("https://{}/x", server.address()).parse().expect("a URL"))
}

fn put(server: &Raw, body: Body) -> Request {
    Request { method: Method::PUT, body, ..get(server) }
}

/// Bodies of both kinds: at hand, and in pieces.
fn bodies() -> [Body; 2] {
    let open = || futures_util::stream::iter(vec![Ok(bytes(1000)), Ok(bytes(1000))]).boxed();
    [Body::Bytes(bytes(2000)), Body::Stream { length: 2000, open: Arc::new(open) }]
}

async fn whole(answer: Result<idp_oci::client::http::Response, HttpError>) -> Result<Vec<u8>, HttpError> {
    Ok(answer?.bytes(1_000_000).await?.to_vec())
}

/// Servers that speak only HTTP/1.1, only HTTP/2, both, or do not say: all are registries. Over HTTP/2 one connection does.
#[tokio::test]
async fn case_12a_either_version() {
    for speaks in [&["http/1.1"][..], &["h2"], &["h2", "http/1.1"], &[]] {
        let world = World::new();
        let server = Server::start_tls(world.tls(speaks), Registry::default()).await;
        let (client, recorder) = world.client(&server.address());
        let blobs: Vec<_> = (0..6).map(|n| blob(bytes(100_000 + n))).collect();
        push(&client, &blob("{}")).await.expect("pushed");
        let all = futures_util::future::join_all(blobs.iter().map(|blob| push(&client, blob))).await;
        assert!(all.iter().all(Result::is_ok), "{speaks:?} {all:?}");
        assert!(blobs.iter().all(|blob| is_stored(&server, blob)));
        client.put_manifest(&repository(), &tag(), &manifest()).await.expect("written");
        client.manifest(&repository(), &tag(), None).await.expect("read");
        assert_eq!(recorder.retries(), 0);
        assert_eq!(server.accepted() == 1, speaks.contains(&"h2"), "{speaks:?}: {}", server.accepted());
    }
}

/// A server that takes its leave in the middle of an answer and finishes it: no failure. The next request goes elsewhere.
#[tokio::test]
async fn case_12b_a_server_that_leaves_politely() {
    let world = World::new();
    let server = world
        .h2(|_, mut connection| async move {
            let Some(stream) = connection.request().await else { return };
            connection.head(stream, 200, Some(13)).await;
            connection.data(stream, b"half ", false).await;
            connection.go_away(stream, NO_ERROR).await;
            connection.data(stream, b"and half", true).await;
            connection.rest().await;
        })
        .await;
    let http = world.http();
    for number in 1..=3 {
        let body = whole(http.execute(get(&server)).await).await;
        assert_eq!((body.as_deref(), server.accepted()), (Ok(&b"half and half"[..]), number));
    }
}

/// A connection that ends in the middle of an answer is a failure that passes: what was asked for is asked for again.
#[tokio::test]
async fn case_12c_a_connection_that_ends_in_an_answer() {
    for politely in [true, false] {
        let world = World::new();
        let server = world
            .h2(move |number, mut connection| async move {
                let Some(stream) = connection.request().await else { return };
                let text = manifest().bytes().clone();
                connection.head(stream, 200, Some(text.len())).await;
                if number == 1 {
                    connection.data(stream, &text[..10], false).await;
                    connection.go_away(0, if politely { NO_ERROR } else { INTERNAL_ERROR }).await;
                    return;
                }
                connection.data(stream, &text, true).await;
                connection.rest().await;
            })
            .await;
        let (client, recorder) = world.client(&server.address());
        let read = client.manifest(&repository(), &tag(), None).await.expect("the second time");
        assert_eq!(read.bytes(), manifest().bytes());
        assert_eq!((server.accepted(), recorder.retries()), (2, 1));
    }
    // A blob goes on where it broke off.
    let world = World::new();
    let server = Server::start_tls(world.tls(&["h2"]), Registry::default()).await;
    let content = blob(bytes(300_000));
    server.registry(|registry| registry.add_blob("team/app", bytes(300_000)));
    server.rule(on("GET", "/blobs/", Fault::Truncate(100_000)));
    let (client, recorder) = world.client(&server.address());
    let mut chunks = client
        .fetch_blob(&repository(), &content.descriptor, idp_oci::client::Verify::Here)
        .await
        .expect("begun");
    let mut read = Vec::new();
    while let Some(chunk) = chunks.next().await {
        read.extend_from_slice(&chunk.expect("bytes"));
    }
    assert_eq!((read.len(), recorder.retries(), server.count("GET", "/blobs/")), (300_000, 1, 2));
}

/// What a server says that it did not look at is sent again, whatever it is, and nobody hears of it; but not for ever.
#[tokio::test]
async fn case_12d_a_refused_stream_is_sent_again() {
    for body in bodies() {
        let world = World::new();
        let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
        let streams = Arc::clone(&seen);
        let server = world
            .h2(move |_, mut connection| {
                let streams = Arc::clone(&streams);
                async move {
                    while let Some(stream) = connection.request().await {
                        streams.lock().expect("a list").push(stream);
                        if stream == 1 {
                            connection.reset(stream, REFUSED_STREAM).await;
                        } else {
                            connection.status(stream, 204).await;
                        }
                    }
                }
            })
            .await;
        let http = world.http();
        assert_eq!(http.execute(put(&server, body.clone())).await.expect("an answer").status, 204);
        assert_eq!(http.execute(put(&server, body)).await.expect("an answer").status, 204);
        assert_eq!(seen.lock().expect("a list").as_slice(), [1, 3, 5]);
    }
    for body in bodies() {
        let world = World::new();
        let server = world
            .h2(|_, mut connection| async move {
                while let Some(stream) = connection.request().await {
                    connection.reset(stream, REFUSED_STREAM).await;
                }
            })
            .await;
        let error = world.http().execute(put(&server, body)).await.expect_err("always refused");
        assert!(error.is_transient(), "{error}");
    }
}

/// A server that takes its leave before it looked at a request gets it on a new connection.
#[tokio::test]
async fn case_12e_a_request_that_nobody_looked_at() {
    for body in bodies() {
        let world = World::new();
        let server = world
            .h2(|number, mut connection| async move {
                let Some(stream) = connection.request().await else { return };
                if number == 1 {
                    connection.go_away(0, NO_ERROR).await;
                } else {
                    connection.status(stream, 204).await;
                }
                connection.rest().await;
            })
            .await;
        let answer = world.http().execute(put(&server, body)).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), server.accepted()), (204, 2));
    }
}

/// What the client lets a server send ahead: enough for 80 MB/s at 100 ms to and fro, on a stream and on a connection.
#[tokio::test]
async fn case_13_windows_are_large() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let world = World::new();
    let said: Arc<Mutex<(u32, u32)>> = Arc::default();
    let (stream_window, connection_window) = (8 * 1024 * 1024, 16 * 1024 * 1024);
    let writing = Arc::clone(&said);
    let server = world
        .h2(move |_, mut connection| {
            let said = Arc::clone(&writing);
            async move {
                // What the specification says before anybody said otherwise.
                let (mut of_streams, mut of_all) = (65_535, 65_535);
                let stream = loop {
                    let Some(frame) = connection.read().await else { return };
                    match frame.kind {
                        SETTINGS => {
                            let size =
                                frame.settings().into_iter().find(|(name, _)| *name == INITIAL_WINDOW_SIZE);
                            of_streams = size.map_or(of_streams, |(_, size)| size);
                        }
                        WINDOW_UPDATE if frame.stream == 0 => of_all += frame.number(),
                        GOAWAY => return,
                        _ if frame.ends() => break frame.stream,
                        _ => {}
                    }
                };
                *said.lock().expect("numbers") = (of_streams, of_all);
                connection.status(stream, 204).await;
            }
        })
        .await;
    let answer = world.http().execute(get(&server)).await.expect("an answer");
    assert_eq!(answer.status, 204);
    let (of_streams, of_all) = *said.lock().expect("numbers");
    assert!(of_streams >= stream_window && of_all >= connection_window, "{of_streams} {of_all}");
}
