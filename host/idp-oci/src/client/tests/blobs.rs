//! Cases 1 to 6 and 33 to 50 (uploads), 65 to 68 (downloads).

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use idp_test_support::faults::{Fault, Registry, Reply, Server, on};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{client, client_with, options, repository};
use crate::blob::Blob;
use crate::client::dialect::{AuthRequest, Dialect, DialectError, Grant, Hints};
use crate::client::http::Http;
use crate::client::retry::RetryPolicy;
use crate::client::standard::{Credential, Standard};
use crate::client::{
    Client, ClientError, ClientOptions, Kind, Learned, Outcome, Presence, Scheme, Verify, base_url,
};
use crate::manifest::Descriptor;
use crate::name::Repository;

/// A registry with other hints.
#[derive(Debug)]
struct Hinted(Vec<(&'static str, &'static str)>);

#[async_trait::async_trait]
impl Dialect for Hinted {
    fn name(&self) -> String {
        "hinted".to_owned()
    }

    async fn authorize(&self, _request: &AuthRequest) -> Result<Grant, DialectError> {
        unreachable!("these registries are open")
    }

    async fn hints(&self, _repository: Option<&Repository>) -> Hints {
        Hints::from_pairs(self.0.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }
}

fn hinted(server: &Server, hints: &[(&'static str, &'static str)]) -> Client {
    let registry = server.address().parse().expect("a registry");
    let options_ = ClientOptions { retry: RetryPolicy::immediate(4), ..ClientOptions::default() };
    let dialect = Arc::new(Hinted(hints.to_vec()));
    Client::new(registry, Scheme::Http, Http::new(options()), dialect, options_).expect("a client")
}

/// Large enough to be asked for before it is sent.
const LARGE: usize = 70_001;

fn learning(server: &Server, learned: Arc<Learned>) -> Client {
    let registry = server.address().parse().expect("a registry");
    let http = Http::new(options());
    let base = base_url(&registry, Scheme::Http).expect("a URL");
    let dialect = Arc::new(Standard::new(base, super::user("right"), http.clone()));
    let options = ClientOptions { retry: RetryPolicy::immediate(4), learned, ..ClientOptions::default() };
    Client::new(registry, Scheme::Http, http, dialect, options).expect("a client")
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|index| (index * 7 % 251) as u8).collect()
}

fn blob(length: usize) -> Blob {
    Blob::from_bytes("a/b", bytes(length))
}

async fn upload(client: &Client, blob: &Blob) -> Result<Outcome, ClientError> {
    client.push_blob(&repository(), blob, Presence::Unknown, &[], &CancellationToken::new()).await
}

/// The blob is there, and no session is left.
fn is_stored(server: &Server, blob: &Blob) -> bool {
    server.registry(|registry| {
        let key = ("team/app".to_owned(), blob.descriptor.digest.to_string());
        registry.blobs.contains_key(&key) && registry.sessions.is_empty()
    })
}

/// Methods in order.
fn methods(server: &Server) -> String {
    server.requests().iter().map(|seen| seen.method.clone()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn two_requests_for_what_is_small_and_three_for_what_is_asked_for_first() {
    let server = Server::start(Registry::default()).await;
    let client = client(&server);
    for blob in [blob(0), blob(2), blob(700_000)] {
        assert_eq!(upload(&client, &blob).await.expect("sent"), Outcome::Sent);
        assert!(is_stored(&server, &blob));
    }
    // The first small one is sent with its POST, which this registry does not know; the next asks by a mount from the repository.
    assert_eq!(methods(&server), "POST PUT POST PUT HEAD POST PUT");
    assert_eq!((server.count("POST", "?digest="), server.count("POST", "?mount=")), (1, 1));
    for blob in [blob(0), blob(2), blob(700_000)] {
        assert_eq!(upload(&client, &blob).await.expect("there"), Outcome::Exists);
    }
    assert_eq!(server.requests().len(), 7 + 3);
    // What was there once is asked for, and no byte of it goes again.
    assert_eq!(server.count("HEAD", ""), 1 + 3);
    assert_eq!(server.requests()[7..].iter().map(|seen| seen.body.len()).sum::<usize>(), 0);
    let put = server.requests().into_iter().find(|seen| seen.method == "PUT").expect("a PUT");
    assert!(put.target.contains("?_state=0&digest=sha256:"), "{}", put.target);
}

/// What one process learned, the next one knows: nothing is tried that does not work, and no challenge is waited for.
#[tokio::test]
async fn what_was_learned_is_used() {
    let home = tempfile::tempdir().expect("a directory");
    let single = Server::start(Registry {
        single_post: true,
        ..Registry::with_auth(idp_test_support::faults::Auth::Bearer)
    })
    .await;
    let file = home.path().join("hosts/r.json");
    let run = async |size: usize| {
        let learned = Arc::new(Learned::load(&file));
        let client = learning(&single, Arc::clone(&learned));
        let before = single.requests().len();
        upload(&client, &blob(size)).await.expect("sent");
        drop((client, learned));
        single.requests()[before..].iter().map(|seen| seen.method.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(run(9).await, "POST GET POST");
    assert_eq!(run(10).await, "GET POST");
    // A megabyte goes with the POST where that is known to work, once it is known to be missing.
    assert_eq!(run(LARGE).await, "GET HEAD POST");
    // The challenge that was learned leads nowhere any more: one request more, and no failure.
    let text = std::fs::read_to_string(&file).expect("kept").replace("/token", "/moved");
    std::fs::write(&file, text).expect("written");
    assert_eq!(run(11).await, "GET POST GET POST");
}

/// Cases 33, 34: answers to HEAD.
#[tokio::test]
async fn what_a_head_says() {
    for (reply, exists) in [
        (Reply::status(200), true),
        (Reply::status(200).header("docker-content-digest", "sha256:00"), false),
        (Reply::status(200).header("content-length", "5"), false),
        (Reply::status(404), false),
        (Reply::status(405), false),
        (Reply::status(501), false),
        (Reply::status(403), false),
    ] {
        let server = Server::start(Registry::default()).await;
        // HEAD answers get the length of their body.
        let reply = if reply_has_length(&reply) { reply } else { reply.body(bytes(LARGE)) };
        server.rule(on("HEAD", "/blobs/", Fault::Reply(reply.clone())));
        let expect = if exists { Outcome::Exists } else { Outcome::Sent };
        assert_eq!(upload(&client(&server), &blob(LARGE)).await.expect("pushed"), expect, "{reply:?}");
    }
}

fn reply_has_length(reply: &Reply) -> bool {
    format!("{reply:?}").contains("content-length")
}

/// Cases 35, 36.
#[tokio::test]
async fn mounts() {
    let from: [Repository; 2] = ["other".parse().expect("a name"), "third".parse().expect("a name")];
    let mount = async |registry: Registry, rules: Vec<idp_test_support::faults::Rule>| {
        let server = Server::start(registry).await;
        for rule in rules {
            server.rule(rule);
        }
        let outcome = client(&server)
            .push_blob(&repository(), &blob(LARGE), Presence::Unknown, &from[..1], &CancellationToken::new())
            .await;
        assert!(is_stored(&server, &blob(LARGE)), "{:#?}", server.log());
        (outcome.expect("pushed"), methods(&server))
    };
    let with_blob = || {
        let mut registry = Registry::default();
        registry.add_blob("other", bytes(LARGE));
        registry
    };
    assert_eq!(mount(with_blob(), vec![]).await, (Outcome::Mounted, "HEAD POST".to_owned()));
    // 202: its session is used.
    assert_eq!(mount(Registry::default(), vec![]).await, (Outcome::Sent, "HEAD POST PUT".to_owned()));
    for status in [400, 401, 404, 405, 500] {
        let refused = on("POST", "mount=", Fault::Reply(Reply::status(status)));
        let (outcome, seen) = mount(with_blob(), vec![refused]).await;
        assert_eq!(outcome, Outcome::Sent);
        assert_eq!(seen.replace("GET ", ""), "HEAD POST POST PUT", "{status}");
    }
    // The session of the first is not left behind when the second has it.
    let server = Server::start(Registry::default()).await;
    server.registry(|registry| registry.add_blob("third", bytes(LARGE)));
    let outcome = client(&server)
        .push_blob(&repository(), &blob(LARGE), Presence::Unknown, &from, &CancellationToken::new())
        .await;
    assert_eq!(
        (outcome.expect("mounted"), methods(&server).as_str()),
        (Outcome::Mounted, "HEAD POST DELETE POST")
    );
    assert!(is_stored(&server, &blob(LARGE)));
    let server = Server::start(with_blob()).await;
    let client = hinted(&server, &[("mount", "no")]);
    client
        .push_blob(&repository(), &blob(LARGE), Presence::Unknown, &from, &CancellationToken::new())
        .await
        .expect("sent");
    assert_eq!(methods(&server), "HEAD POST PUT");
}

/// Case 37.
#[tokio::test]
async fn single_post() {
    let hints = [("upload-mode", "single-post")];
    let server = Server::start(Registry { single_post: true, ..Registry::default() }).await;
    upload(&hinted(&server, &hints), &blob(LARGE)).await.expect("sent");
    assert_eq!(methods(&server), "HEAD POST");
    // Answered as if it were none: the session is used, and it is not tried again.
    let server = Server::start(Registry::default()).await;
    let client = hinted(&server, &hints);
    upload(&client, &blob(LARGE)).await.expect("sent");
    upload(&client, &blob(10)).await.expect("sent");
    assert_eq!(methods(&server), "HEAD POST PUT POST PUT");
    assert_eq!(server.count("POST", "digest="), 1);
    for status in [400, 404, 405] {
        let server = Server::start(Registry::default()).await;
        server.rule(on("POST", "digest=", Fault::Reply(Reply::status(status))));
        upload(&hinted(&server, &hints), &blob(LARGE)).await.expect("sent");
        assert_eq!(methods(&server), "HEAD POST POST PUT", "{status}");
    }
}

/// Cases 38, 39: statuses that are not quite right.
#[tokio::test]
async fn tolerated_statuses() {
    for status in [200, 201, 202, 204] {
        let server = Server::start(Registry::default()).await;
        server.rule(on("PUT", "/uploads/", Fault::Reply(Reply::status(status))));
        assert_eq!(upload(&client(&server), &blob(9)).await.expect("sent"), Outcome::Sent, "{status}");
    }
    let hints = [("upload-mode", "chunked"), ("chunk-default", "4")];
    for status in [201, 202, 204] {
        let server = Server::script(vec![
            on("POST", "", Fault::Reply(Reply::status(202).header("location", "/u?s=0"))),
            // Without a new location the old one is kept; a stale range is not believed (ECR).
            on("PATCH", "/u?s=0", Fault::Reply(Reply::status(status).header("range", "0-0"))),
            on("PATCH", "/u?s=0", Fault::Reply(Reply::status(status).header("location", "u?s=1"))),
            on("PATCH", "/u?s=1", Fault::Reply(Reply::status(status))),
            on("PUT", "/u?s=1&digest=", Fault::Reply(Reply::status(201))),
        ])
        .await;
        upload(&hinted(&server, &hints), &blob(10)).await.expect("sent");
        server.verify();
        let ranges: Vec<String> = server
            .requests()
            .iter()
            .filter_map(|seen| {
                seen.headers.get("content-range").map(|range| range.to_str().unwrap_or("").to_owned())
            })
            .collect();
        assert_eq!(ranges, ["0-3", "4-7", "8-9"]);
    }
}

/// Case 40.
#[tokio::test]
async fn least_chunks_are_honoured() {
    let server = Server::start(Registry::default()).await;
    server.rule(on("POST", "/uploads/", Fault::Header("oci-chunk-min-length", "6".to_owned())));
    upload(&hinted(&server, &[("upload-mode", "chunked"), ("chunk-default", "4")]), &blob(10))
        .await
        .expect("sent");
    assert!(is_stored(&server, &blob(10)));
    assert_eq!(methods(&server), "POST PATCH PATCH PUT");
}

/// Cases 4 to 6: where a session may lie.
#[tokio::test]
async fn sessions_elsewhere() {
    let other =
        Server::script(vec![on("PUT", "/put?signature=a%2Fb&digest=", Fault::Reply(Reply::status(201)))])
            .await;
    let server = Server::start(Registry::with_auth(idp_test_support::faults::Auth::Basic)).await;
    let location = format!("http://{}/put?signature=a%2Fb", other.address());
    server.rule(on("POST", "", Fault::Header("location", location)));
    let (client, _) = client_with(&server, super::user("right"), options());
    upload(&client, &blob(LARGE)).await.expect("sent");
    other.verify();
    assert_eq!(other.requests()[0].authorization(), None);
    for location in ["http://169.254.169.254/x", "http://10.0.0.1/x", "ftp://127.0.0.1/x"] {
        server.rule(on("POST", "", Fault::Header("location", location.to_owned())));
        let error = upload(&client, &blob(LARGE + 1)).await.expect_err("refused");
        assert_eq!(error.kind(), Kind::Other, "{error}");
    }
}

/// Case 43: a session that is gone is begun anew, but not for ever.
#[tokio::test]
async fn vanished_sessions() {
    let unknown = || Fault::Reply(Reply::error(404, "BLOB_UPLOAD_UNKNOWN", &Value::Null));
    let server = Server::start(Registry::default()).await;
    server.rule(on("PUT", "/uploads/", unknown()).times(2));
    upload(&client(&server), &blob(9)).await.expect("sent");
    assert_eq!((server.count("POST", ""), server.count("PUT", "")), (3, 3));
    let server = Server::start(Registry::default()).await;
    server.rule(on("PUT", "/uploads/", unknown()).always());
    let error = upload(&client(&server), &blob(9)).await.expect_err("no end");
    assert_eq!((error.kind(), server.count("PUT", "")), (Kind::NotFound, 4));
}

/// Case 44: too large for what stands before the registry.
#[tokio::test]
async fn too_large_requests_become_chunks() {
    let large = blob(9 * 1024 * 1024);
    let server = Server::start(Registry::default()).await;
    server.rule(on("PUT", "/uploads/", Fault::Early(Reply::status(413))));
    upload(&client(&server), &large).await.expect("sent");
    assert!(is_stored(&server, &large));
    assert_eq!(methods(&server), "HEAD POST PUT DELETE POST PATCH PATCH PUT");
    let server = Server::start(Registry::default()).await;
    server.rule(on("*", "/uploads/s", Fault::Reply(Reply::status(413))).always());
    let error = upload(&client(&server), &large).await.expect_err("too large");
    assert!(error.to_string().contains("client_max_body_size"), "{error}");
}

/// Case 11: the answer counts, not the broken pipe.
#[tokio::test]
async fn an_early_refusal_is_seen() {
    let server = Server::start(Registry::default()).await;
    let denied = Reply::error(403, "DENIED", &Value::Null);
    server.rule(on("PUT", "/uploads/", Fault::Early(denied)).always());
    let error = upload(&client(&server), &blob(3_000_000)).await.expect_err("refused");
    assert_eq!((error.kind(), error.status()), (Kind::Auth, Some(403)), "{error}");
}

/// Case 45: begun anew where the registry kept nothing; continued where it did; done where only the answer was lost.
#[tokio::test]
async fn broken_uploads() {
    let large = blob(2_000_000);
    let server = Server::start(Registry::default()).await;
    server.rule(on("PUT", "/uploads/", Fault::DropAfterRequest(500_000)));
    let (first, recorder) = client_with(&server, Credential::Anonymous, options());
    upload(&first, &large).await.expect("sent");
    assert!(is_stored(&server, &large));
    assert_eq!((methods(&server).as_str(), recorder.retries()), ("HEAD POST PUT GET DELETE POST PUT", 1));

    let server = Server::start(Registry { resumable: true, ..Registry::default() }).await;
    server.rule(on("PUT", "/uploads/", Fault::DropAfterRequest(500_000)));
    upload(&client(&server), &large).await.expect("sent");
    assert!(is_stored(&server, &large));
    assert_eq!(methods(&server), "HEAD POST PUT GET PATCH PUT");
    let patch = server.requests().into_iter().find(|seen| seen.method == "PATCH").expect("a PATCH");
    assert_eq!(patch.body.len(), 1_500_000);

    let server = Server::start(Registry::default()).await;
    server.rule(on("PUT", "/uploads/", Fault::Lose));
    upload(&client(&server), &large).await.expect("sent");
    assert_eq!(methods(&server), "HEAD POST PUT GET HEAD");

    let server = Server::start(Registry::default()).await;
    server.rule(on("PUT", "/uploads/", Fault::Drop).always());
    let error = upload(&client(&server), &blob(9)).await.expect_err("it never works");
    assert_eq!((error.kind(), server.count("PUT", "")), (Kind::Transient, 4));
    assert!(server.registry(|registry| registry.sessions.is_empty()), "{:#?}", server.log());
}

/// Cases 46, 47: who spoiled it.
#[tokio::test]
async fn wrong_digests() {
    let invalid = || Fault::Reply(Reply::error(400, "DIGEST_INVALID", &Value::Null));
    let server = Server::start(Registry::default()).await;
    server.rule(on("PUT", "/uploads/", invalid()));
    upload(&client(&server), &blob(9)).await.expect("sent at the second try");
    assert_eq!(server.count("PUT", ""), 2);
    let server = Server::start(Registry::default()).await;
    server.rule(on("PUT", "/uploads/", invalid()).always());
    let error = upload(&client(&server), &blob(9)).await.expect_err("refused");
    assert_eq!((error.status(), server.count("PUT", "")), (Some(400), 2));
    // The file is not what its descriptor says any more.
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"other").expect("written");
    let changed = Blob::from_file(Descriptor::of("a/b", b"bytes"), Arc::new(file), 0);
    let server = Server::start(Registry::default()).await;
    let error = upload(&client(&server), &changed).await.expect_err("refused");
    assert!(matches!(&error, ClientError::Source { problem, .. } if problem.contains("changed")), "{error}");
    assert_eq!(server.count("PUT", ""), 1);
    // It is shorter.
    let short = Blob::from_file(
        Descriptor::of("a/b", b"bytes that are not there"),
        Arc::new(tempfile::tempfile().expect("a file")),
        0,
    );
    let error = upload(&client(&server), &short).await.expect_err("refused");
    assert!(matches!(error, ClientError::Source { .. }), "{error}");
    assert!(server.registry(|registry| registry.sessions.is_empty()), "{:#?}", server.log());
}

/// Case 48: the session is deleted, whichever request was on its way.
#[tokio::test]
async fn cancelled_uploads_leave_nothing() {
    for (method, fault) in
        [("PUT", Fault::Hang), ("POST", Fault::Delay(Duration::from_millis(200))), ("HEAD", Fault::Hang)]
    {
        let server = Server::start(Registry::default()).await;
        server.rule(on(method, "/blobs/", fault));
        let (client, cancel) = (client(&server), CancellationToken::new());
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move { client.push_blob(&repository(), &blob(LARGE), Presence::Unknown, &[], &cancel).await }
        });
        while server.count(method, "") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
        let error = task.await.expect("it ends").expect_err("cancelled");
        assert_eq!(error.kind(), Kind::Interrupted);
        assert!(server.registry(|registry| registry.sessions.is_empty()), "{method} {:#?}", server.log());
        assert_eq!(server.count("DELETE", ""), usize::from(method != "HEAD"), "{method}");
    }
}

async fn download(client: &Client, blob: &Blob, verify: Verify) -> Result<Vec<u8>, String> {
    let chunks = client
        .fetch_blob(&repository(), &blob.descriptor, verify)
        .await
        .map_err(|error| error.to_string())?;
    chunks
        .try_fold(Vec::new(), async |mut all, chunk| {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .map_err(|error| error.to_string())
}

async fn with_blob(blob: &Blob, content: Bytes) -> Server {
    let server = Server::start(Registry::default()).await;
    let key = ("team/app".to_owned(), blob.descriptor.digest.to_string());
    server.registry(|registry| registry.blobs.insert(key, content));
    server
}

/// Case 65.
#[tokio::test]
async fn downloads_go_on_where_they_broke() {
    let large = blob(600_000);
    for (faults, ranges) in [
        (vec![], vec![]),
        (vec![Fault::Truncate(100_000), Fault::Truncate(100_000)], vec!["bytes=100000-", "bytes=200000-"]),
        (vec![Fault::Truncate(0)], vec![]),
        // A range that is not understood: what was had is skipped.
        (
            vec![Fault::Truncate(100_000), Fault::Reply(Reply::status(200).body(bytes(600_000)))],
            vec!["bytes=100000-"],
        ),
        (vec![Fault::Drop, Fault::Reply(Reply::status(503))], vec![]),
    ] {
        let server = with_blob(&large, bytes(600_000)).await;
        let count = faults.len();
        for fault in faults {
            server.rule(on("GET", "/blobs/", fault));
        }
        assert_eq!(download(&client(&server), &large, Verify::Here).await.expect("whole"), bytes(600_000));
        server.verify();
        let asked: Vec<String> = server
            .requests()
            .iter()
            .filter_map(|seen| seen.headers.get("range").map(|range| range.to_str().unwrap_or("").to_owned()))
            .collect();
        assert_eq!(asked, ranges);
        assert!(server.requests().len() <= count + 1);
        assert!(server.requests().iter().all(|seen| seen.headers["accept-encoding"] == "identity"));
    }
}

/// Cases 65, 67, 68: what cannot be right is refused.
#[tokio::test]
async fn spoiled_downloads_are_refused() {
    let small = blob(1000);
    let wrong_part = Reply::status(206).header("content-range", "bytes 0-999/1000").body(bytes(1000));
    for (content, faults, expect) in [
        (bytes(1000), vec![Fault::Corrupt], "the bytes are"),
        (bytes(1001), vec![], "the manifest says 1000"),
        (bytes(999), vec![], "ended early"),
        (bytes(1000), vec![Fault::Truncate(500), Fault::Reply(wrong_part)], "bytes 0-999/1000"),
        (bytes(1000), vec![Fault::Reply(Reply::status(404))], "404"),
        (bytes(1000), vec![Fault::Drop; 4], "4 tries"),
    ] {
        let server = with_blob(&small, content).await;
        for fault in faults {
            server.rule(on("GET", "/blobs/", fault));
        }
        let error = download(&client(&server), &small, Verify::Here).await.expect_err(expect);
        assert!(error.contains(expect), "{error}");
    }
}

/// Whoever reads it checks it, where that was agreed.
#[tokio::test]
async fn the_reader_may_verify() {
    let small = blob(1000);
    let server = with_blob(&small, bytes(1000)).await;
    server.rule(on("GET", "/blobs/", Fault::Corrupt));
    assert!(download(&client(&server), &small, Verify::Reader).await.is_ok());
}
