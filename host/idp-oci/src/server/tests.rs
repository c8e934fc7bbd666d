//! The registry over real sockets: what the conformance suite does not ask, and what must not break while it is not at hand.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use reqwest::{Client, Method, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::access::{Access, Action, Caller, Identity, Need, Open, Unidentified, Why};
use super::{Event, Limits, ServeOptions, serve};
use crate::digest::Digest;
use crate::media;
use crate::store::Store;
use crate::store::fs::FsStore;
use crate::store::memory::MemoryStore;

mod access;
mod beside;
mod hostile;

struct Server {
    base: String,
    client: Client,
    events: Arc<Mutex<Vec<Event>>>,
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::with(Arc::new(MemoryStore::default()), Arc::new(Open), Limits::default()).await
    }

    async fn with(store: Arc<dyn Store>, access: Arc<dyn Access>, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let observer: super::Observer = Arc::new(move |event: &Event| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        });
        let shutdown = CancellationToken::new();
        let options = ServeOptions {
            access,
            limits,
            observer: Some(observer),
            grace: Duration::from_millis(500),
            ..ServeOptions::new(listener, store)
        };
        let server = tokio::spawn(serve(options, shutdown.clone()));
        // Another test of this process may have been first; nothing here speaks TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { base, client, events, shutdown, server }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    async fn send(&self, method: Method, path: &str) -> Response {
        self.request(method, path).send().await.expect("an answer")
    }

    async fn push_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let response = self.request(Method::POST, &path).body(bytes).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::CREATED);
        digest
    }

    /// Waits until the requests that were answered are as they should be.
    async fn until(&self, condition: impl Fn(&[Event]) -> bool) {
        let reached = async {
            while !condition(&self.events.lock().unwrap_or_else(PoisonError::into_inner)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reached).await.expect("the requests are answered");
    }

    /// Opens a session and says where it is.
    async fn begin(&self, repository: &str) -> String {
        let response = self.send(Method::POST, &format!("/v2/{repository}/blobs/uploads/")).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        header(&response, "location")
    }

    async fn put_manifest(&self, path: &str, body: String) -> Response {
        let request = self.request(Method::PUT, path).header("content-type", media::OCI_MANIFEST);
        request.body(body).send().await.expect("an answer")
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().expect("text").to_owned()
}

async fn codes(response: Response) -> Vec<String> {
    let body: serde_json::Value =
        serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
    let errors = body["errors"].as_array().expect("errors");
    errors.iter().map(|error| error["code"].as_str().expect("a code").to_owned()).collect()
}

fn image(config: &Digest, layer: &Digest) -> String {
    format!(
        r#"{{"schemaVersion":2,  "mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{layer}","size":3}}],"unknown":[1,{{}}]}}"#,
        media::OCI_MANIFEST,
        media::OCI_CONFIG,
        media::OCI_LAYER
    )
}

#[tokio::test]
async fn an_image_goes_in_and_comes_out_byte_for_byte() {
    let server = Server::start().await;
    let (config, layer) = (server.push_blob("a/b", "{}").await, server.push_blob("a/b", "abc").await);
    let manifest = image(&config, &layer);
    let digest = Digest::of(manifest.as_bytes());
    let response = server.put_manifest("/v2/a/b/manifests/v1", manifest.clone()).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header(&response, "docker-content-digest"), digest.as_str());
    for reference in ["v1", digest.as_str()] {
        let path = format!("/v2/a/b/manifests/{reference}");
        let (head, get) = (server.send(Method::HEAD, &path).await, server.send(Method::GET, &path).await);
        for name in ["content-type", "content-length", "docker-content-digest", "etag"] {
            assert_eq!(header(&head, name), header(&get, name), "{name}");
        }
        assert_eq!(header(&get, "content-type"), media::OCI_MANIFEST);
        assert_eq!(get.bytes().await.expect("a body"), manifest);
        assert_eq!(head.bytes().await.expect("no body"), "");
    }
    let path = format!("/v2/a/b/manifests/{digest}");
    let known = server.request(Method::GET, &path).header("if-none-match", format!("\"{digest}\""));
    assert_eq!(known.send().await.expect("an answer").status(), StatusCode::NOT_MODIFIED);
    let events = server.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(events.len(), 8);
    assert_eq!((events[1].received, events[2].received), (3, manifest.len() as u64));
    assert_eq!((events[3].sent, events[4].sent), (0, manifest.len() as u64));
}

#[tokio::test]
async fn everything_that_is_missing_is_named_at_once() {
    let server = Server::start().await;
    let (config, layer) = (Digest::of(b"{}"), Digest::of(b"abc"));
    let response = server.put_manifest("/v2/a/manifests/v1", image(&config, &layer)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(codes(response).await, ["MANIFEST_BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"]);
    // Blobs of another repository do not count.
    server.push_blob("b", "{}").await;
    server.push_blob("a", "abc").await;
    let response = server.put_manifest("/v2/a/manifests/v1", image(&config, &layer)).await;
    assert_eq!(codes(response).await, ["MANIFEST_BLOB_UNKNOWN"]);
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_code() {
    let limits = Limits { manifest_bytes: 1000, sparse_indexes: false, ..Limits::default() };
    let server = Server::with(Arc::new(MemoryStore::default()), Arc::new(Open), limits).await;
    let missing = Digest::of(b"missing");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{missing}","size":7}}]}}"#,
        media::OCI_INDEX,
        media::OCI_MANIFEST
    );
    let get = |path: &str| (Method::GET, path.to_owned(), None::<String>);
    let put = |path: &str, body: &str| (Method::PUT, path.to_owned(), Some(body.to_owned()));
    for ((method, path, body), status, code) in [
        (get("/v3/"), 404, "UNSUPPORTED"),
        (get("/v2/A/tags/list"), 400, "NAME_INVALID"),
        (get("/v2/a/tags/list"), 404, "NAME_UNKNOWN"),
        (get("/v2/_catalog?n=-1"), 400, "PAGINATION_NUMBER_INVALID"),
        (get("/v2/a/manifests/v1"), 404, "MANIFEST_UNKNOWN"),
        (get("/v2/a/manifests/.v1"), 404, "MANIFEST_UNKNOWN"),
        (get("/v2/a/blobs/sha256:x"), 400, "DIGEST_INVALID"),
        (get(&format!("/v2/a/blobs/{missing}")), 404, "BLOB_UNKNOWN"),
        (get("/v2/a/referrers/x"), 400, "DIGEST_INVALID"),
        (get("/v2/a/blobs/uploads/x"), 404, "BLOB_UPLOAD_UNKNOWN"),
        (put("/v2/a/tags/list", ""), 405, "UNSUPPORTED"),
        (put("/v2/a/manifests/.v1", "{}"), 400, "TAG_INVALID"),
        (put("/v2/a/manifests/v1", "{}"), 400, "MANIFEST_INVALID"),
        (
            put("/v2/a/manifests/v1", &index.replace(media::OCI_INDEX, media::OCI_MANIFEST)),
            400,
            "MANIFEST_INVALID",
        ),
        (put(&format!("/v2/a/manifests/{missing}"), "{}"), 400, "DIGEST_INVALID"),
        (put("/v2/a/manifests/v1", &index), 400, "MANIFEST_BLOB_UNKNOWN"),
        (put("/v2/a/manifests/v1", &" ".repeat(1001)), 413, "SIZE_INVALID"),
        ((Method::POST, "/v2/a/blobs/uploads/?digest-algorithm=md5".into(), None), 400, "DIGEST_INVALID"),
        ((Method::POST, "/v2/a/blobs/uploads/?mount=x&from=b".into(), None), 400, "DIGEST_INVALID"),
        (
            (Method::POST, format!("/v2/a/blobs/uploads/?digest={missing}"), Some("other".into())),
            400,
            "DIGEST_INVALID",
        ),
        ((Method::DELETE, format!("/v2/a/blobs/{missing}"), None), 404, "BLOB_UNKNOWN"),
        ((Method::DELETE, "/v2/a/manifests/v1".into(), None), 404, "MANIFEST_UNKNOWN"),
    ] {
        let mut request = server.request(method.clone(), &path);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(codes(response).await, [code], "{method} {path}");
    }
    // The same size without a declared length.
    let chunks = futures_util::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(" ".repeat(100))));
    let request = server.request(Method::PUT, "/v2/a/manifests/v1").body(reqwest::Body::wrap_stream(chunks));
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn chunks_belong_where_the_upload_stands() {
    let server = Server::start().await;
    let location = server.begin("a").await;
    let patch = async |range: &str, body: &'static str| {
        let request = server.request(Method::PATCH, &location).header("content-range", range).body(body);
        request.send().await.expect("an answer")
    };
    let response = patch("0-2", "abc").await;
    assert_eq!((response.status(), header(&response, "range").as_str()), (StatusCode::ACCEPTED, "0-2"));
    for wrong in ["0-2", "4-6"] {
        let response = patch(wrong, "def").await;
        assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{wrong}");
        assert_eq!(
            (header(&response, "range"), header(&response, "location")),
            ("0-2".into(), location.clone())
        );
    }
    for bad in ["3-9", "5-3", "bytes 3-5/6", "3", "-", "3-18446744073709551615"] {
        assert_eq!(patch(bad, "def").await.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(patch("3-5", "def").await.status(), StatusCode::ACCEPTED);
    let digest = Digest::of(b"abcdefg");
    let finish = server.request(Method::PUT, &format!("{location}?digest={digest}")).body("g");
    let response = finish.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::CREATED);
    let blob = server.send(Method::GET, &header(&response, "location")).await;
    assert_eq!(blob.bytes().await.expect("a body"), "abcdefg");
    assert_eq!(server.send(Method::GET, &location).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_upload_goes_on_where_it_broke_off() {
    let server = Server::start().await;
    let location = server.begin("a").await;
    // A client that promises ten bytes, sends four and is gone.
    let mut stream = TcpStream::connect(&server.base["http://".len()..]).await.expect("connected");
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabcd");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let status = server.send(Method::GET, &location).await;
    assert_eq!((status.status(), header(&status, "range").as_str()), (StatusCode::NO_CONTENT, "0-3"));
    let digest = Digest::of(b"abcdef");
    let finish = server.request(Method::PUT, &format!("{location}?digest={digest}")).body("ef");
    assert_eq!(finish.send().await.expect("an answer").status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_an_upload_that_can_go_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = FsStore::open(directory.path()).await.expect("a store");
    let server = Server::with(Arc::new(store), Arc::new(Open), Limits::default()).await;
    let content = vec![7_u8; 2 * 1024 * 1024];
    let digest = Digest::of(&content);
    for (index, sent) in [2, 600_000, 1_100_000, 1_700_000, 2_000_000].into_iter().enumerate() {
        let location = server.begin("a").await;
        let mut stream = TcpStream::connect(&server.base["http://".len()..]).await.expect("connected");
        let head =
            format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", content.len());
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.write_all(&content[..sent]).await.expect("sent");
        drop(stream);
        server
            .until(|events| events.iter().filter(|event| event.method == Method::PATCH).count() > index)
            .await;
        let status = server.send(Method::GET, &location).await;
        assert_eq!(header(&status, "range"), format!("0-{}", sent - 1));
        let finish = server
            .request(Method::PUT, &format!("{location}?digest={digest}"))
            .header("content-range", format!("{sent}-{}", content.len() - 1));
        let response = finish.body(content[sent..].to_vec()).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::CREATED, "{sent}");
    }
}

#[tokio::test]
async fn a_body_that_pauses_too_long_is_given_up() {
    let limits = Limits { body_patience: Duration::from_millis(50), ..Limits::default() };
    let server = Server::with(Arc::new(MemoryStore::default()), Arc::new(Open), limits).await;
    let location = server.begin("a").await;
    let body =
        futures_util::stream::iter([Ok::<_, std::io::Error>("abc")]).chain(futures_util::stream::pending());
    let request = server.request(Method::PATCH, &location).body(reqwest::Body::wrap_stream(body));
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::REQUEST_TIMEOUT);
    let status = server.send(Method::GET, &location).await;
    assert_eq!(header(&status, "range"), "0-2");
}

#[tokio::test]
async fn large_blobs_whole_and_in_part() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = FsStore::open(directory.path()).await.expect("a store");
    let server = Server::with(Arc::new(store), Arc::new(Open), Limits::default()).await;
    let content: Vec<u8> = (0..3_000_001_u32).map(|index| (index % 251) as u8).collect();
    let digest = server.push_blob("a", content.clone()).await;
    let path = format!("/v2/a/blobs/{digest}");
    let whole = server.send(Method::GET, &path).await;
    assert_eq!(header(&whole, "content-length"), "3000001");
    assert!(whole.bytes().await.expect("a body") == content);
    for (first, last) in
        [(0, 0), (262_143, 262_144), (1, 2_999_999), (3_000_000, 3_000_000), (262_144, 524_287)]
    {
        let request = server.request(Method::GET, &path).header("range", format!("bytes={first}-{last}"));
        let part = request.send().await.expect("an answer");
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(header(&part, "content-range"), format!("bytes {first}-{last}/3000001"));
        assert!(part.bytes().await.expect("a body") == content[first..=last], "{first}-{last}");
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::start().await;
    let (config, layer) = (server.push_blob("a", "{}").await, server.push_blob("a", "abc").await);
    let manifest = image(&config, &layer);
    let digest = Digest::of(manifest.as_bytes());
    let path = format!("/v2/a/manifests/{digest}?tag=v3&tag=v1&tag=v2");
    let response = server.put_manifest(&path, manifest).await;
    let tags: Vec<_> = response.headers().get_all("oci-tag").iter().collect();
    assert_eq!(tags, ["v1", "v2", "v3"]);
    let mut next = Some("/v2/a/tags/list?n=2".to_owned());
    let mut pages = Vec::new();
    while let Some(path) = next {
        let response = server.send(Method::GET, &path).await;
        let link = response.headers().get("link").map(|link| link.to_str().expect("text").to_owned());
        next = link.map(|link| link[1..].split_once(">; rel=\"next\"").expect("a next page").0.to_owned());
        pages.push(response.text().await.expect("a body"));
    }
    assert_eq!(pages, [r#"{"name":"a","tags":["v1","v2"]}"#, r#"{"name":"a","tags":["v3"]}"#]);
    let none = server.send(Method::GET, "/v2/a/tags/list?n=0").await;
    assert!(none.headers().get("link").is_none());
    assert_eq!(none.text().await.expect("a body"), r#"{"name":"a","tags":[]}"#);
    let catalogue = server.send(Method::GET, "/v2/_catalog").await;
    assert_eq!(catalogue.text().await.expect("a body"), r#"{"repositories":["a"]}"#);
}

/// Lets users read what is theirs: `authorization` is the name of the one repository.
#[derive(Debug)]
struct Owner;

#[async_trait::async_trait]
impl Access for Owner {
    async fn identify(&self, caller: &Caller<'_>) -> Result<Identity, Unidentified> {
        Ok(caller.authorization.map_or_else(Identity::default, Identity::user))
    }

    fn permits(&self, identity: &Identity, need: Need<'_>) -> bool {
        let Some(user) = &identity.user else { return false };
        match need {
            Need::Registry => true,
            Need::Catalogue | Need::AnyRepository(_) => false,
            Need::Repository(repository, action) => repository.as_str() == user && action != Action::Delete,
        }
    }

    fn challenges(&self, _caller: &Caller<'_>, _needs: &[Need<'_>], _why: Why) -> Vec<String> {
        vec!["Basic realm=\"x\"".to_owned()]
    }
}

#[tokio::test]
async fn access_is_asked_for_each_thing_that_a_request_needs() {
    let server = Server::with(Arc::new(MemoryStore::default()), Arc::new(Owner), Limits::default()).await;
    let send = async |user: &str, method: Method, path: &str| {
        let request = server.request(method, path).header("authorization", user);
        request.body("secret").send().await.expect("an answer")
    };
    for path in ["/v2/", "/nothing", "/v2/A/tags/list"] {
        let response = server.send(Method::GET, path).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(header(&response, "www-authenticate"), "Basic realm=\"x\"");
        assert_eq!(codes(response).await, ["UNAUTHORIZED"]);
    }
    assert_eq!(send("a", Method::GET, "/v2/").await.status(), StatusCode::OK);
    let digest = Digest::of(b"secret");
    let upload = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(send("b", Method::POST, &upload).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(send("a", Method::POST, &upload).await.status(), StatusCode::CREATED);
    let blob = format!("/v2/a/blobs/{digest}");
    assert_eq!(send("a", Method::DELETE, &blob).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(send("a", Method::GET, "/v2/_catalog").await.status(), StatusCode::FORBIDDEN);
    // Who may not read a blob cannot have it by mounting, neither from where it is nor from anywhere.
    for from in ["&from=a", "", "&from=No", "&from=b"] {
        let mount = format!("/v2/b/blobs/uploads/?mount={digest}{from}");
        assert_eq!(send("b", Method::POST, &mount).await.status(), StatusCode::ACCEPTED, "{from}");
    }
    assert_eq!(
        send("b", Method::GET, &format!("/v2/b/blobs/{digest}")).await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn shutting_down_finishes_what_is_under_way_and_cuts_off_what_hangs() {
    let server = Server::start().await;
    let location = server.begin("a").await;
    let digest = Digest::of(b"abc");
    let (send, receive) = tokio::sync::oneshot::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel::<()>();
    let rest = futures_util::stream::once(async {
        begun.send(()).expect("it is waited for");
        let _ = receive.await;
        Ok("c")
    });
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>("ab")]).chain(rest);
    let request = server.request(Method::PUT, &format!("{location}?digest={digest}"));
    let under_way = tokio::spawn(request.body(reqwest::Body::wrap_stream(body)).send());
    let mut hanging = TcpStream::connect(&server.base["http://".len()..]).await.expect("connected");
    hanging
        .write_all(b"PUT /v2/a/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        .await
        .expect("sent");
    has_begun.await.expect("it begins");
    // Connections are taken up in order: when a later one is answered, both of these are.
    assert_eq!(server.send(Method::GET, "/v2/").await.status(), StatusCode::OK);
    server.shutdown.cancel();
    send.send(()).expect("it waits");
    let response = under_way.await.expect("no panic").expect("an answer");
    assert_eq!(response.status(), StatusCode::CREATED);
    server.server.await.expect("no panic").expect("served");
    let mut rest = Vec::new();
    let _ = hanging.read_to_end(&mut rest).await;
    assert_eq!(rest, b"", "cut off without an answer");
    assert!(server.client.get(&server.base).send().await.is_err(), "nobody listens any more");
}
