//! Cases 19 and 20: answers that are too much, and answers that are none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use idp_oci::client::http::{ERROR_BODY, HttpOptions};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::Credential;
use idp_oci::client::{Access, ClientError, Kind, Outcome, Scheme};
use idp_oci::name::Target;
use idp_test_support::faults::raw::{Raw, read_head};
use idp_test_support::faults::{Fault, Reply, Server, on};
use tokio::io::AsyncWriteExt as _;

use crate::{blob, client_of, client_with, manifest, options, push, repository, tag};

/// Thousands of headers, and one that never ends: no answer, for good, and not much of it is read.
#[tokio::test]
async fn case_19a_header_bombs() {
    for many in [true, false] {
        let written = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&written);
        let server = Raw::start(move |_, mut stream| {
            let written = Arc::clone(&counter);
            async move {
                let _ = read_head(&mut stream).await;
                let mut line = "HTTP/1.1 200 OK\r\n".to_owned();
                if !many {
                    line.push_str("x: ");
                }
                let mut number = 0;
                while stream.write_all(line.as_bytes()).await.is_ok() && number < 1_000_000 {
                    written.fetch_add(line.len(), Ordering::SeqCst);
                    number += 1;
                    line = if many { format!("x-{number}: {number}\r\n") } else { "y".repeat(1000) };
                    if many && number == 50_000 {
                        line = "\r\n".to_owned();
                    }
                }
            }
        })
        .await;
        let (client, recorder) = client_of(
            &server.address(),
            Scheme::Http,
            Credential::Anonymous,
            options(),
            RetryPolicy::immediate(4),
        );
        let error = client.manifest(&repository(), &tag(), None).await.expect_err("too much");
        assert_eq!((error.kind(), recorder.retries(), server.accepted()), (Kind::Other, 0, 1), "{error}");
        assert!(error.to_string().contains("too large"), "{error}");
        // What the system keeps for a connection is a few MiB.
        assert!(written.load(Ordering::SeqCst) < 32_000_000, "{many}: {written:?}");
    }
}

/// Of an error's body 64 KiB are kept, and its end is not waited for.
#[tokio::test]
async fn case_19b_error_bodies_are_cut_off() {
    let server = Raw::start(|_, mut stream| async move {
        let _ = read_head(&mut stream).await;
        let head: &[u8] = b"HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head).await;
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    })
    .await;
    let (client, _) = client_of(
        &server.address(),
        Scheme::Http,
        Credential::Anonymous,
        options(),
        RetryPolicy::immediate(4),
    );
    let error = client.manifest(&repository(), &tag(), None).await.expect_err("refused");
    let shown = format!("{error} {error:?}");
    assert!(shown.len() as u64 <= ERROR_BODY && error.status() == Some(400), "{} bytes", shown.len());
}

/// A manifest that never ends is given up at its limit.
#[tokio::test]
async fn case_19c_manifests_are_bounded() {
    let server = Raw::start(|_, mut stream| async move {
        let _ = read_head(&mut stream).await;
        let head: &[u8] =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\r\n";
        let _ = stream.write_all(head).await;
        while stream.write_all(&[b' '; 4096]).await.is_ok() {}
    })
    .await;
    let (client, recorder) = client_of(
        &server.address(),
        Scheme::Http,
        Credential::Anonymous,
        options(),
        RetryPolicy::immediate(4),
    );
    let error = client.manifest(&repository(), &tag(), None).await.expect_err("too large");
    assert!(error.to_string().contains("too large"), "{error}");
    assert_eq!((error.kind(), recorder.retries(), server.accepted()), (Kind::Other, 0, 1));
}

/// A page that says yes to everything.
async fn portal() -> Server {
    let page = Reply::status(200)
        .header("content-type", "text/html; charset=utf-8")
        .body("<!doctype html><title>Welcome to the network</title>");
    Server::script(vec![on("*", "/", Fault::Reply(page)).always()]).await
}

fn is_no_registry(error: &ClientError) {
    let text = error.to_string();
    assert!(text.contains("not a registry"), "{text}");
    assert!(!text.contains("<title>") && error.kind() == Kind::Other, "{text}");
}

/// A captive portal is not a registry: one is not logged in there, gets nothing from there, and has pushed nothing there.
#[tokio::test]
async fn case_20_a_captive_portal_is_not_a_registry() {
    let server = portal().await;
    let (client, recorder) = client_with(&server, crate::user("right"), HttpOptions { ..options() });
    is_no_registry(&client.check().await.expect_err("not logged in"));
    let digest = Target::Digest(manifest().digest().clone());
    for target in [tag(), digest] {
        is_no_registry(&client.manifest(&repository(), &target, None).await.expect_err("nothing"));
        let head = client.head_manifest(&repository(), &target, Access::Pull).await;
        is_no_registry(&head.expect_err("nothing"));
        let put = client.put_manifest(&repository(), &target, &manifest()).await;
        is_no_registry(&put.expect_err("not pushed"));
    }
    let outcome = push(&client, &blob("one")).await;
    assert!(!matches!(outcome, Ok(Outcome::Exists | Outcome::Mounted)), "{outcome:?}");
    assert_eq!(recorder.retries(), 0);
    // A page for a HEAD alone, with the right length, is no blob either.
    let page = Reply::status(200).header("content-type", "text/html").body("one");
    let server = Server::start(idp_test_support::faults::Registry::default()).await;
    server.rule(on("HEAD", "/blobs/", Fault::Reply(page)));
    let outcome = push(&crate::client(&server), &blob("one")).await.expect("sent");
    assert_eq!(outcome, Outcome::Sent);
}
