//! Requests that were made to do harm, and what is too much of a good thing: each is refused with its code, and nothing
//! panics.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use proptest::prelude::*;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Server, codes, header, image};
use crate::digest::Digest;
use crate::server::access::Open;
use crate::server::{Limits, Registry};
use crate::store::memory::MemoryStore;
use crate::store::upload::UploadLimits;

async fn start(limits: Limits) -> Server {
    Server::with(Arc::new(MemoryStore::default()), Arc::new(Open), limits).await
}

/// A request as it is written, and the answer's status and body.
async fn raw(server: &Server, head: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(&server.base["http://".len()..]).await.expect("connected");
    stream.write_all(head).await.expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn get(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"].concat()
}

#[tokio::test]
async fn targets_that_were_made_to_do_harm() {
    let server = start(Limits::default()).await;
    let long = format!("/v2/{}/tags/list", "a".repeat(256));
    let digest = Digest::of(b"");
    let upper = format!("/v2/a/blobs/{}", digest.as_str().to_uppercase());
    for (target, status, code) in [
        // Dots and slashes, plain and escaped: never a path.
        ("/v2/../../etc/passwd/tags/list", 400, "NAME_INVALID"),
        ("/v2/%2e%2e/%2e%2e/etc/tags/list", 400, "NAME_INVALID"),
        ("/v2/..%2f..%2fetc/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/../b/tags/list", 400, "NAME_INVALID"),
        ("/v2/./a/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%2f%2fb/tags/list", 400, "NAME_INVALID"),
        ("/v2//a/tags/list", 400, "NAME_INVALID"),
        ("/v2/a//tags/list", 400, "NAME_INVALID"),
        ("/v2/a\\b/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%5cb/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%00b/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%0d%0ab/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%20b/tags/list", 400, "NAME_INVALID"),
        // Decoded once and no more.
        ("/v2/a%252fb/tags/list", 400, "NAME_INVALID"),
        // One escaped slash is a slash, for names and for rules alike.
        ("/v2/a%2Fb/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/%c3%a9/tags/list", 400, "NAME_INVALID"),
        ("/v2/%ff%fe/tags/list", 404, "UNSUPPORTED"),
        ("/v2/a%/tags/list", 400, "NAME_INVALID"),
        (&long, 400, "NAME_INVALID"),
        ("/v2/a/manifests/..%2f..%2fetc%2fpasswd", 404, "UNSUPPORTED"),
        ("/v2/a/manifests/%2e%2e", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/x%00", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/blobs/sha256:..%2f..%2fetc", 404, "UNSUPPORTED"),
        ("/v2/a/blobs/sha256:zz", 400, "DIGEST_INVALID"),
        (&upper, 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/uploads/..%2f..%2fx", 404, "UNSUPPORTED"),
        ("/v2/a/blobs/uploads/%00", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("/V2/", 404, "UNSUPPORTED"),
        ("//v2/", 404, "UNSUPPORTED"),
        ("/v2/_catalog?last=%ff%00&n=1", 200, ""),
        ("/v2/_catalog?n=%00", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/_catalog?n=%2b1", 400, "PAGINATION_NUMBER_INVALID"),
        ("http://x/v2/", 200, ""),
        ("*", 404, "UNSUPPORTED"),
    ] {
        let (found, body) = raw(&server, &get(target.as_bytes())).await;
        assert_eq!(found, status, "{target}: {body}");
        let json: serde_json::Value =
            serde_json::from_str(&body).unwrap_or_else(|_| panic!("{target}: {body}"));
        let found = json.pointer("/errors/0/code").and_then(|code| code.as_str()).unwrap_or_default();
        assert_eq!(found, code, "{target}");
    }
    // What is no request at all.
    for head in [
        get(b"/v2/\x01"),
        get(b"/v2/ a"),
        get(&[b"/".as_slice(), &[b'a'; 70_000]].concat()),
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n".to_vec(),
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_vec(),
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
    ] {
        let (status, _) = raw(&server, &head).await;
        assert!(
            (400..500).contains(&status),
            "{status}: {}",
            String::from_utf8_lossy(&head[..head.len().min(80)])
        );
    }
    assert_eq!(server.send(Method::GET, "/v2/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn too_much_is_refused_with_its_code() {
    let limits = Limits {
        headers: 10,
        header_bytes: 2000,
        target_bytes: 300,
        tags: 3,
        blob_bytes: 1000,
        ..Limits::default()
    };
    let server = start(limits).await;
    let many: Vec<String> = (0..20).map(|index| format!("x-{index}: y")).collect();
    let headers = |lines: &str| {
        format!("GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}\r\n\r\n").into_bytes()
    };
    for (head, status, what) in [
        (headers(&many.join("\r\n")), 431, "at most 10"),
        (headers(&format!("x-long: {}", "y".repeat(2000))), 431, "at most 2000"),
        (get(format!("/v2/?{}", "x".repeat(300)).as_bytes()), 414, "at most 300"),
    ] {
        let (found, body) = raw(&server, &head).await;
        assert_eq!(found, status, "{body}");
        assert!(body.contains(what) && body.contains("UNSUPPORTED"), "{body}");
    }
    // Beyond what the connection reads there is no message, and no more memory either.
    let crowd: Vec<String> = (0..200).map(|index| format!("x-{index}: y")).collect();
    assert_eq!(raw(&server, &headers(&crowd.join("\r\n"))).await.0, 431);
    assert_eq!(raw(&server, &headers(&format!("x-long: {}", "y".repeat(1_000_000)))).await.0, 431);

    let (config, layer) = (server.push_blob("a", "{}").await, server.push_blob("a", "abc").await);
    let manifest = image(&config, &layer);
    let path = format!("/v2/a/manifests/{}?tag=a&tag=b&tag=c", Digest::of(manifest.as_bytes()));
    assert_eq!(server.put_manifest(&path, manifest.clone()).await.status(), StatusCode::CREATED);
    let response = server.put_manifest(&format!("{path}&tag=d"), manifest).await;
    assert_eq!(response.status(), StatusCode::URI_TOO_LONG);

    // Blobs: said before, in one request, in chunks, and not said at all.
    let bytes = vec![7_u8; 1001];
    let digest = Digest::of(&bytes);
    server.push_blob("a", bytes[..1000].to_vec()).await;
    let single = format!("/v2/a/blobs/uploads/?digest={digest}");
    let response = server.request(Method::POST, &single).body(bytes.clone()).send().await.expect("an answer");
    assert_eq!(
        (response.status(), codes(response).await),
        (StatusCode::PAYLOAD_TOO_LARGE, vec!["SIZE_INVALID".into()])
    );
    let unsaid = |bytes: &[u8]| {
        let parts: Vec<_> =
            bytes.chunks(100).map(|part| Ok::<_, std::io::Error>(Bytes::copy_from_slice(part))).collect();
        reqwest::Body::wrap_stream(futures_util::stream::iter(parts))
    };
    let response =
        server.request(Method::POST, &single).body(unsaid(&bytes)).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let location = server.begin("a").await;
    let patch = async |bytes: &[u8]| {
        server
            .request(Method::PATCH, &location)
            .body(bytes.to_vec())
            .send()
            .await
            .expect("an answer")
            .status()
    };
    assert_eq!(patch(&bytes[..600]).await, StatusCode::ACCEPTED);
    assert_eq!(patch(&bytes[600..]).await, StatusCode::PAYLOAD_TOO_LARGE);
    // What was refused before any of it was read changed nothing.
    let status = server.send(Method::GET, &location).await;
    assert_eq!(header(&status, "range"), "0-599");
    let request = server.request(Method::PATCH, &location).body(unsaid(&bytes[600..]));
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.send(Method::GET, &location).await.status(), StatusCode::NOT_FOUND, "of no more use");
}

#[tokio::test]
async fn uploads_at_once_are_limited() {
    let uploads = UploadLimits { sessions_per_owner: 2, ..UploadLimits::default() };
    let server = start(Limits { receiving: 1, uploads, ..Limits::default() }).await;
    let (first, _second) = (server.begin("a").await, server.begin("a").await);
    let response = server.send(Method::POST, "/v2/a/blobs/uploads/").await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&response, "retry-after"), "60");
    assert_eq!(codes(response).await, ["TOOMANYREQUESTS"]);
    // One that is being received, and another that would be.
    let (begun, has_begun) = tokio::sync::oneshot::channel::<()>();
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let body = futures_util::stream::unfold(
        (0, Some(begun), Some(ends)),
        |(step, mut begun, mut ends)| async move {
            match step {
                0 => Some((Ok::<_, std::io::Error>("a"), (1, begun, ends))),
                1 => {
                    begun.take()?.send(()).ok();
                    let _ = ends.take()?.await;
                    Some((Ok("b"), (2, begun, ends)))
                }
                _ => None,
            }
        },
    );
    let request = server.request(Method::PATCH, &first).body(reqwest::Body::wrap_stream(body));
    let under_way = tokio::spawn(request.send());
    has_begun.await.expect("it begins");
    // Connections are taken up in order, and its head may still be on its way.
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"abc"));
    let response = loop {
        let response = server.request(Method::POST, &path).body("abc").send().await.expect("an answer");
        if response.status() != StatusCode::CREATED {
            break response;
        }
    };
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&response, "retry-after"), "1");
    end.send(()).expect("it waits");
    assert_eq!(under_way.await.expect("no panic").expect("an answer").status(), StatusCode::ACCEPTED);
    server.push_blob("a", "abc").await;
}

#[tokio::test]
async fn answers_say_how_they_may_be_used() {
    let server = start(Limits::default()).await;
    let digest = server.push_blob("a", "{}").await;
    let manifest = image(&digest, &server.push_blob("a", "abc").await);
    server.put_manifest("/v2/a/manifests/v1", manifest.clone()).await;
    let by_digest = format!("/v2/a/manifests/{}", Digest::of(manifest.as_bytes()));
    for (path, expect) in [
        ("/v2/", "no-store"),
        ("/v2/a/tags/list", "no-store"),
        ("/v2/a/manifests/v1", "no-cache"),
        (by_digest.as_str(), "private, max-age=31536000, immutable"),
        (&format!("/v2/a/blobs/{digest}"), "private, max-age=31536000, immutable"),
        ("/v2/a/blobs/sha256:x", "no-store"),
        ("/v3/", "no-store"),
        ("/metrics", "no-store"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let response = server.send(method, path).await;
            assert_eq!(header(&response, "cache-control"), expect, "{path}");
            assert_eq!(header(&response, "x-content-type-options"), "nosniff");
            assert!(header(&response, "content-security-policy").contains("sandbox"));
        }
    }
}

/// Without a socket: what a connection would let through, and more.
fn answered(request: Request<axum::body::Body>) -> StatusCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let registry =
            Registry::new(Arc::new(MemoryStore::default()), Arc::new(Open), Limits::default(), None);
        let service = TowerToHyperService::new(registry.router());
        let response = service.call(request).await.unwrap_or_else(|error| match error {});
        response.status()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_target_makes_it_fail(
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "X"]),
        path in "(/v2)?(/(a|\\.\\.|%2[fF]|%00|%ff|tags|list|manifests|blobs|uploads|referrers|_catalog|sha256:[0-9a-f]{0,64}|[!-~]{0,8})){0,7}/?",
        query in "((n|last|digest|mount|from|tag|artifactType|digest-algorithm|scope)=[!-~]{0,12}&?){0,4}",
    ) {
        let target = format!("{path}?{query}");
        if let Ok(request) = Request::builder().method(method).uri(target.as_str()).body(axum::body::Body::empty()) {
            let status = answered(request);
            prop_assert!(!status.is_server_error(), "{method} {target}: {status}");
        }
    }

    #[test]
    fn no_header_makes_it_fail(
        name in prop::sample::select(vec![
            "authorization", "content-length", "content-range", "content-type", "range", "if-range", "if-none-match", "host",
            "x-forwarded-for", "expect", "accept",
        ]),
        value in prop::collection::vec(any::<u8>(), 0..40),
        path in prop::sample::select(vec!["/v2/", "/v2/a/blobs/uploads/", "/v2/a/manifests/v1", "/token"]),
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
    ) {
        let request = Request::builder().method(method).uri(path).header(name, value);
        if let Ok(request) = request.body(axum::body::Body::from("body")) {
            let status = answered(request);
            prop_assert!(!status.is_server_error(), "{method} {path} {name}: {status}");
        }
    }
}
