//! Cases 33 to 51: blobs on their way up. What is asserted is what is stored, what went over the wire twice, and what is left open;
//! how many requests lead there is the client's business, where a case does not speak of it.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::client::{Access, Client, ClientError, Kind, Outcome, Presence};
use idp_oci::manifest::Descriptor;
use idp_oci::name::{Repository, Tag};
use idp_oci::pipeline::{PipelineError, PushOptions, push as push_pipeline};
use idp_test_support::faults::{Fault, Registry, Reply, Server, digest_of, on};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support_b::{
    Memory, carried, carriers, header, hinted, is_tagged, layer, no_sessions, push_all, with_options,
};
use crate::{blob, bytes, client, is_stored, push, repository};

const MIB: usize = 1024 * 1024;

async fn start() -> Server {
    Server::start(Registry::default()).await
}

async fn mounting(client: &Client, blob: &Blob, from: &str) -> Result<Outcome, ClientError> {
    let from: [Repository; 1] = [from.parse().expect("a repository")];
    client.push_blob(&repository(), blob, Presence::Unknown, &from, &CancellationToken::new()).await
}

async fn has(client: &Client, blob: &Blob) -> bool {
    client.has_blob(&repository(), &blob.descriptor, Access::Push).await.expect("asked")
}

/// Sends in chunks of this size.
fn chunked(server: &Server, size: &'static str) -> Client {
    hinted(server, &[("upload-mode", "chunked"), ("chunk-default", size)])
}

/// `first-last` of every PATCH, in order.
fn ranges(server: &Server) -> Vec<String> {
    let patches = server.requests().into_iter().filter(|seen| seen.method == "PATCH");
    patches.map(|seen| header(&seen, "content-range").unwrap_or_default().to_owned()).collect()
}

/// HEAD 200 without `Content-Length` or `Docker-Content-Digest`: it exists.
#[tokio::test]
async fn case_33a_a_head_without_headers_means_it_exists() {
    let server = start().await;
    let three = blob("abc");
    // The server gives every answer to HEAD the length of its body, which is the blob's.
    server.rule(on("HEAD", "/blobs/", Fault::Reply(Reply::status(200).body("abc"))).always());
    assert!(has(&client(&server), &three).await);
    assert_eq!(carried(&server), 0);
}

/// HEAD 405, 501 or 404: it is sent.
#[tokio::test]
async fn case_33b_a_registry_without_head_gets_the_bytes() {
    for status in [404, 405, 501] {
        let server = start().await;
        server.rule(on("HEAD", "/blobs/", Fault::Reply(Reply::status(status))).always());
        assert_eq!(push(&client(&server), &blob("abc")).await.expect("sent"), Outcome::Sent, "{status}");
        assert!(is_stored(&server, &blob("abc")), "{status}");
        assert_eq!(carried(&server), 3, "{status}");
    }
}

/// A digest in the answer to HEAD that differs from the requested one is not trusted: it is sent.
#[tokio::test]
async fn case_34_a_head_that_names_another_digest_is_not_believed() {
    for (name, value) in [("docker-content-digest", digest_of(b"other")), ("content-length", "5".to_owned())]
    {
        let server = start().await;
        let reply = Reply::status(200).body("abc").header(name, &value);
        server.rule(on("HEAD", "/blobs/", Fault::Reply(reply)).always());
        assert!(!has(&client(&server), &blob("abc")).await, "{name}");
        push(&client(&server), &blob("abc")).await.expect("sent");
        assert!(is_stored(&server, &blob("abc")), "{name}");
    }
}

/// Mount 201: nothing is sent; a header that names another digest is not a mount of this blob.
#[tokio::test]
async fn case_35a_a_mount_that_was_made() {
    let server = start().await;
    server.registry(|registry| registry.add_blob("other", "abc"));
    assert_eq!(mounting(&client(&server), &blob("abc"), "other").await.expect("mounted"), Outcome::Mounted);
    assert!(is_stored(&server, &blob("abc")));
    assert_eq!(carried(&server), 0);

    let server = start().await;
    let lie = Reply::status(201).header("docker-content-digest", &digest_of(b"other"));
    server.rule(on("POST", "from=other", Fault::Reply(lie)).always());
    mounting(&client(&server), &blob("abc"), "other").await.expect("sent");
    assert!(is_stored(&server, &blob("abc")), "{:#?}", server.log());
}

/// Mount 202: its session is the one that is used.
#[tokio::test]
async fn case_35b_a_mount_that_became_a_session() {
    let server = start().await;
    let outcome = mounting(&client(&server), &blob("abc"), "other").await;
    assert_eq!(outcome.expect("sent"), Outcome::Sent);
    assert!(is_stored(&server, &blob("abc")));
    assert_eq!(server.registry(|registry| registry.opened), 1, "{:#?}", server.log());
}

/// Mount 4xx or 5xx: a plain POST, once; no loop.
#[tokio::test]
async fn case_35c_a_mount_that_is_refused() {
    for status in [400, 401, 403, 404, 405, 500, 503] {
        let server = start().await;
        server.rule(on("POST", "mount=", Fault::Reply(Reply::status(status))).always());
        let outcome = mounting(&client(&server), &blob("abc"), "other").await;
        assert_eq!(outcome.expect("sent"), Outcome::Sent, "{status}");
        assert!(is_stored(&server, &blob("abc")), "{status}");
        let plain = server.count("POST", "") - server.count("POST", "mount=");
        assert_eq!((plain, server.registry(|registry| registry.opened)), (1, 1), "{status}");
        assert!(server.count("POST", "mount=") <= 2, "{status}: {:#?}", server.log());
    }
}

/// An anonymous mount (without `from`) that is ignored: the session of its 202 is used.
#[tokio::test]
async fn case_36_an_anonymous_mount_that_is_ignored() {
    let server = start().await;
    let client = hinted(&server, &[("mount", "anonymous"), ("upload-mode", "post-put")]);
    push(&client, &blob("abc")).await.expect("sent");
    assert!(is_stored(&server, &blob("abc")));
    assert_eq!(server.count("POST", "mount="), 1, "{:#?}", server.log());
    assert_eq!(server.registry(|registry| registry.opened), 1, "{:#?}", server.log());
}

/// A single POST that is taken: the bytes go once, and no session is opened.
#[tokio::test]
async fn case_37a_a_single_post_that_is_taken() {
    let server = Server::start(Registry { single_post: true, ..Registry::default() }).await;
    push(&hinted(&server, &[("upload-mode", "single-post")]), &blob("abc")).await.expect("sent");
    assert!(is_stored(&server, &blob("abc")));
    assert_eq!((carried(&server), server.registry(|registry| registry.opened)), (3, 0));
}

/// Two blobs, to a registry that answers a single POST with this.
async fn refusing_a_single_post(status: u16) {
    let server = start().await;
    if status != 202 {
        server.rule(on("POST", "digest=", Fault::Reply(Reply::status(status))).always());
    }
    let client = hinted(&server, &[("upload-mode", "single-post")]);
    for content in ["abc", "defg"] {
        push(&client, &blob(content)).await.expect("sent");
        assert!(is_stored(&server, &blob(content)), "{status}");
    }
    assert_eq!(server.count("POST", "digest="), 1, "{status}: {:#?}", server.log());
}

/// A single POST that is answered with 202 and a session, or 400, 405: on to PUT, and remembered for the host.
#[tokio::test]
async fn case_37b_a_single_post_that_is_refused() {
    for status in [202, 400, 405] {
        refusing_a_single_post(status).await;
    }
}

/// 404: the same, when the plain POST that follows is taken.
#[tokio::test]
async fn case_37c_a_single_post_that_is_not_found() {
    refusing_a_single_post(404).await;
}

/// PUT 201, and 200, 202, 204 without a `Location`.
#[tokio::test]
async fn case_38_statuses_of_the_final_put() {
    for status in [200, 201, 202, 204] {
        let server = start().await;
        server.rule(on("PUT", "/uploads/", Fault::Reply(Reply::status(status))));
        assert_eq!(push(&client(&server), &blob("abc")).await.expect("sent"), Outcome::Sent, "{status}");
        assert_eq!(carried(&server), 3, "{status}");
        server.verify();
    }
}

/// PATCH 201 or 204 instead of 202, also early (ECR answers 201 with a stale `Range`): the bytes go on where they were.
#[tokio::test]
async fn case_39_statuses_of_a_patch() {
    for status in [201, 202, 204] {
        let habits = Registry { patch_status: Some(status), stale_range: true, ..Registry::default() };
        let server = Server::start(habits).await;
        push(&chunked(&server, "4"), &blob("0123456789")).await.expect("sent");
        assert!(is_stored(&server, &blob("0123456789")), "{status}");
        assert_eq!(ranges(&server), ["0-3", "4-7", "8-9"], "{status}");
        assert_eq!(carried(&server), 10, "{status}");
    }
}

/// `OCI-Chunk-Min-Length` is honoured.
#[tokio::test]
async fn case_40a_the_least_chunk_that_is_asked_for() {
    let server = Server::start(Registry { least_chunk: Some(6), ..Registry::default() }).await;
    push(&chunked(&server, "4"), &blob("0123456789")).await.expect("sent");
    assert!(is_stored(&server, &blob("0123456789")));
    assert_eq!(ranges(&server), ["0-5", "6-9"]);
}

/// A registry that asks for more than we are to send at once gets what we send at once.
#[tokio::test]
async fn case_40b_the_least_chunk_is_capped() {
    for asked in [9, u64::MAX] {
        let server = Server::start(Registry { least_chunk: Some(asked), ..Registry::default() }).await;
        let hints = [("upload-mode", "chunked"), ("chunk-default", "4"), ("chunk-max", "5")];
        push(&hinted(&server, &hints), &blob("0123456789")).await.expect("sent");
        assert!(is_stored(&server, &blob("0123456789")));
        assert_eq!(ranges(&server), ["0-4", "5-9"], "{asked}");
    }
}

/// PATCH 416 because the registry has less than it took: what it has is asked for, and the rest sent on the same session.
#[tokio::test]
async fn case_41a_a_registry_that_kept_less() {
    let server = Server::start(Registry { keeps_only: Some(3), ..Registry::default() }).await;
    push(&chunked(&server, "4"), &blob("0123456789")).await.expect("sent");
    assert!(is_stored(&server, &blob("0123456789")));
    assert_eq!(server.registry(|registry| registry.opened), 1, "{:#?}", server.log());
    assert_eq!(server.count("DELETE", ""), 0, "{:#?}", server.log());
}

/// A `Range` that does not advance although the bytes were taken (ECR): our own offset counts.
#[tokio::test]
async fn case_41b_a_range_that_does_not_advance() {
    let server = Server::start(Registry { stale_range: true, ..Registry::default() }).await;
    push(&chunked(&server, "4"), &blob("0123456789")).await.expect("sent");
    assert!(is_stored(&server, &blob("0123456789")));
    assert_eq!((carried(&server), ranges(&server).len()), (10, 3));
}

/// PATCH 416 for ever: the tries are bounded, and no session is left.
#[tokio::test]
async fn case_41c_a_416_that_stays() {
    let server = start().await;
    server.rule(on("PATCH", "", Fault::Reply(Reply::status(416))).always());
    let error = push(&chunked(&server, "4"), &blob("0123456789")).await.expect_err("refused");
    assert_eq!(error.status(), Some(416), "{error}");
    assert!(no_sessions(&server), "{:#?}", server.log());
    assert!(server.count("PATCH", "") <= 20, "{:#?}", server.log());
}

/// What a registry says it kept of a broken upload, in every form: the blob is stored all the same.
#[tokio::test]
async fn case_42_forms_of_range() {
    let large = blob(bytes(2_000_000));
    let status = |range: &str| Reply::status(204).header("range", range);
    for (kept, answer) in [
        (500_000, None),
        (500_000, Some(status("bytes=0-499999"))),
        // Nothing, or one byte: it is said for both.
        (0, Some(status("0-0"))),
        (1, Some(status("0-0"))),
        (500_000, Some(Reply::status(204))),
        (500_000, Some(status("0--1"))),
        (500_000, Some(status("0-99999999999999999999"))),
        (500_000, Some(status("0-2000000"))),
        (500_000, Some(status("7-499999"))),
    ] {
        let server = Server::start(Registry { resumable: true, ..Registry::default() }).await;
        server.rule(on("PUT", "/uploads/", Fault::DropAfterRequest(kept)));
        let shown = format!("{kept} {answer:?}");
        if let Some(reply) = answer {
            // Without a new place: that of the session stays.
            server.rule(on("GET", "/uploads/", Fault::Reply(reply)));
        }
        push(&client(&server), &large).await.expect("sent");
        assert!(is_stored(&server, &large), "{shown} {:#?}", server.log());
    }
}

/// `BLOB_UPLOAD_UNKNOWN` in the middle: a new session from the start, at most so many times.
#[tokio::test]
async fn case_43_sessions_that_vanish() {
    let unknown = || Fault::Reply(Reply::error(404, "BLOB_UPLOAD_UNKNOWN", &Value::Null));
    for method in ["PATCH", "PUT"] {
        let server = start().await;
        server.rule(on(method, "/uploads/", unknown()).times(2));
        push(&chunked(&server, "4"), &blob("0123456789")).await.expect("sent");
        assert!(server.registry(|registry| {
            registry.blobs.contains_key(&("team/app".to_owned(), digest_of(b"0123456789")))
        }));
        assert_eq!(server.registry(|registry| registry.opened), 3, "{method}");

        let server = start().await;
        server.rule(on(method, "/uploads/", unknown()).always());
        let error = push(&chunked(&server, "4"), &blob("0123456789")).await.expect_err("no end");
        assert!(error.refusal().is_some_and(|refusal| refusal.has_code("BLOB_UPLOAD_UNKNOWN")), "{error}");
        assert!(server.registry(|registry| registry.opened) <= 10, "{method}: {:#?}", server.log());
    }
}

/// 413, and 416 for a body that is too large: chunks of halved size, down to 4 MiB.
#[tokio::test]
async fn case_44a_bodies_that_are_too_large_become_chunks() {
    let large = blob(bytes(20 * MIB));
    for status in [413, 416] {
        for largest in [4 * MIB, 6 * MIB, 19 * MIB] {
            let server =
                Server::start(Registry { largest: Some((largest, status)), ..Registry::default() }).await;
            push(&client(&server), &large).await.expect("sent");
            assert!(is_stored(&server, &large), "{status} {largest}");
            let patches: Vec<usize> = carriers(&server)
                .iter()
                .filter(|seen| seen.method == "PATCH" && seen.status == 202)
                .map(|seen| seen.body.len())
                .collect();
            assert!(patches.len() > 1 && patches.iter().all(|size| *size <= largest), "{patches:?}");
            assert_eq!(patches.iter().sum::<usize>(), 20 * MIB, "{patches:?}");
        }
    }
}

/// Smaller than 4 MiB is not tried: the error says what limits it, and no session is left.
#[tokio::test]
async fn case_44b_a_limit_below_4_mib_is_said() {
    let server = Server::start(Registry { largest: Some((3 * MIB, 413)), ..Registry::default() }).await;
    let error = push(&client(&server), &blob(bytes(9 * MIB))).await.expect_err("too large");
    assert_eq!(error.status(), Some(413));
    assert!(error.to_string().contains("limits the size of a request"), "{error}");
    assert!(no_sessions(&server), "{:#?}", server.log());
    assert!(server.count("PATCH", "") <= 2, "{:#?}", server.log());
}

/// Cut at some point, and the registry says what it kept: only the rest goes, on the same session.
#[tokio::test]
async fn case_45a_a_cut_upload_goes_on_where_it_was() {
    for percent in [10, 50, 90] {
        let (size, large) = (2 * MIB, blob(bytes(2 * MIB)));
        let server = Server::start(Registry { resumable: true, ..Registry::default() }).await;
        server.rule(on("PUT", "/uploads/", Fault::DropAfterRequest(size * percent / 100)));
        push(&client(&server), &large).await.expect("sent");
        assert!(is_stored(&server, &large), "{percent}");
        assert_eq!(server.registry(|registry| registry.opened), 1, "{percent}");
        assert_eq!(carried(&server), size, "{percent}: {:#?}", server.log());
    }
}

/// Cut, and nothing kept: that blob is sent anew, and blobs that were finished never.
#[tokio::test]
async fn case_45b_finished_blobs_are_never_sent_again() {
    let server = start().await;
    let (first, second) = (bytes(300_000), bytes(1_500_000));
    let cut = digest_of(&second);
    server.rule(on("PUT", &cut[7..], Fault::DropAfterRequest(700_000)));
    let source = Memory::image([first.clone(), second.clone()]);
    push_all(&client(&server), source.clone()).await.expect("pushed");
    assert!(is_tagged(&server, source.root()) && no_sessions(&server));
    let sent = |content: &[u8]| {
        let digest = digest_of(content);
        carriers(&server).iter().filter(|seen| seen.target.contains(&digest[7..])).count()
    };
    assert_eq!((sent(&first), sent(b"{}"), sent(&second)), (1, 1, 2), "{:#?}", server.log());
}

/// Only the answer is lost: what arrived is not sent again.
#[tokio::test]
async fn case_45c_an_answer_that_is_lost() {
    let server = start().await;
    let large = blob(bytes(2 * MIB));
    server.rule(on("PUT", "/uploads/", Fault::Lose));
    push(&client(&server), &large).await.expect("sent");
    assert!(is_stored(&server, &large));
    assert_eq!(carried(&server), 2 * MIB, "{:#?}", server.log());
}

/// What a file holds differs from what its descriptor says, in bytes or in length.
fn changed(content: &[u8], said: &[u8]) -> Blob {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(content).expect("written");
    Blob::from_file(Descriptor::of("a/b", said), Arc::new(file), 0)
}

/// The source changes while it is read, in its bytes or in its size: the session is deleted, and the error is permanent.
#[tokio::test]
async fn case_46_a_source_that_changes() {
    for source in [changed(b"other", b"bytes"), changed(b"short", b"longer than that")] {
        let server = start().await;
        let error = push(&client(&server), &source).await.expect_err("refused");
        assert!(matches!(error, ClientError::Source { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Other);
        assert!(no_sessions(&server), "{:#?}", server.log());
        assert!(!server.requests().iter().any(|seen| seen.status == 201), "{:#?}", server.log());
        assert!(server.count("PUT", "/uploads/") <= 1, "{:#?}", server.log());
    }
}

/// `DIGEST_INVALID`, and our bytes are right: spoiled on the way, sent once more, and no third time.
#[tokio::test]
async fn case_47a_bytes_that_were_spoiled_on_the_way() {
    let invalid = || Fault::Reply(Reply::error(400, "DIGEST_INVALID", &Value::Null));
    let server = start().await;
    server.rule(on("PUT", "/uploads/", invalid()));
    let (patient, recorder) = with_options(&server, &[], |_| {});
    push(&patient, &blob("abc")).await.expect("sent at the second try");
    assert!(is_stored(&server, &blob("abc")));
    assert_eq!((carried(&server), recorder.retries()), (6, 1));

    let server = start().await;
    server.rule(on("PUT", "/uploads/", invalid()).always());
    let error = push(&client(&server), &blob("abc")).await.expect_err("refused");
    assert_eq!((error.status(), error.kind(), carried(&server)), (Some(400), Kind::Other, 6));
    assert!(no_sessions(&server));
}

/// `DIGEST_INVALID`, and our bytes are not what they should be: said so, and not sent again.
#[tokio::test]
async fn case_47b_bytes_that_were_wrong_before() {
    let server = start().await;
    let error = push(&client(&server), &changed(b"other", b"bytes")).await.expect_err("refused");
    let told = error.to_string();
    assert!(told.contains("changed while it was read") && told.contains(&digest_of(b"other")), "{told}");
    assert_eq!(carried(&server), 5);
}

/// Given up: sessions are deleted, no manifest is written, and a registry that does not answer does not hold up the end.
#[tokio::test]
async fn case_48_giving_up() {
    for deaf in [false, true] {
        let server = start().await;
        server.rule(on("PUT", "/blobs/", Fault::Hang).always());
        if deaf {
            server.rule(on("DELETE", "/blobs/", Fault::Hang).always());
        }
        let (client, cancel) = (client(&server), CancellationToken::new());
        let task = tokio::spawn({
            let (cancel, source) = (cancel.clone(), Memory::image([bytes(5000), bytes(6000)]));
            let tags: [Tag; 1] = ["1".parse().expect("a tag")];
            async move {
                let (name, options) = (repository(), PushOptions::default());
                push_pipeline(&client, &name, &tags, Box::new(source), &options, &cancel).await
            }
        });
        while server.count("PUT", "/blobs/") < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
        // Bounded so that a failure is one; the client waits for two seconds at most.
        let ended = tokio::time::timeout(Duration::from_secs(60), task).await.expect("it ends");
        let error = ended.expect("no panic").expect_err("given up");
        assert_eq!(error.kind(), Kind::Interrupted);
        assert_eq!((no_sessions(&server), server.count("DELETE", "/blobs/")), (!deaf, 3));
        let written = server.requests().iter().any(|seen| {
            seen.method == "PUT" && seen.target.contains("/manifests/") && seen.status / 100 == 2
        });
        assert!(!written, "{:#?}", server.log());
    }
}

/// An empty blob, `{}`, a layer that stands twice, a config with the bytes of a layer: each goes once.
#[tokio::test]
async fn case_49_what_stands_twice_goes_once() {
    let server = start().await;
    let twice = Bytes::from_static(b"twice");
    let source = Memory::image([Bytes::new(), twice.clone(), twice.clone(), Bytes::from_static(b"{}")]);
    let pushed = push_all(&client(&server), source.clone()).await.expect("pushed");
    assert!(is_tagged(&server, source.root()));
    assert_eq!((pushed.blobs_sent, pushed.bytes_sent), (3, 7));
    assert_eq!(carried(&server), "twice".len() + "{}".len(), "{:#?}", server.log());
    let empty = ("team/app".to_owned(), digest_of(b""));
    assert!(server.registry(|registry| registry.blobs.contains_key(&empty)));
}

/// Two pushes of the same blob at once in one process: its bytes go once.
#[tokio::test]
async fn case_50a_two_pushes_of_a_blob_in_one_process() {
    let server = start().await;
    server.rule(on("PUT", "/uploads/", Fault::Delay(Duration::from_millis(100))).always());
    server.rule(on("POST", "digest=", Fault::Delay(Duration::from_millis(100))).always());
    let (client, same) = (client(&server), blob(bytes(5000)));
    let (one, two) = tokio::join!(push(&client, &same), push(&client, &same));
    one.expect("pushed");
    two.expect("pushed");
    assert!(is_stored(&server, &same));
    assert_eq!(carried(&server), 5000, "{:#?}", server.log());
}

/// The same by two processes: both come to their end.
#[tokio::test]
async fn case_50b_two_pushes_of_a_blob_by_two_processes() {
    let server = start().await;
    server.rule(on("PUT", "/uploads/", Fault::Delay(Duration::from_millis(100))).always());
    let (one, two, same) = (client(&server), client(&server), blob(bytes(5000)));
    let (one, two) = tokio::join!(push(&one, &same), push(&two, &same));
    one.expect("pushed");
    two.expect("pushed");
    assert!(is_stored(&server, &same), "{:#?}", server.log());
}

/// A manifest is refused because blobs are lacking: exactly those are sent, and the manifest once more.
#[tokio::test]
async fn case_51a_what_the_registry_lacks_is_sent() {
    for status in [400, 404] {
        let server = start().await;
        // Large enough to be asked for.
        let (kept, lost) = (bytes(4000), bytes(100_000));
        // It says that it has one of them, and does not.
        let there = Reply::status(200).body(lost.clone());
        server.rule(on("HEAD", &digest_of(&lost), Fault::Reply(there)).always());
        let detail = serde_json::json!({"digest": digest_of(&lost)});
        let lacking = Reply::error(status, "MANIFEST_BLOB_UNKNOWN", &detail);
        server.rule(on("PUT", "/manifests/", Fault::Reply(lacking)));
        let source = Memory::image([kept.clone(), lost.clone()]);
        push_all(&client(&server), source.clone()).await.expect("pushed");
        assert!(is_tagged(&server, source.root()), "{status}");
        assert_eq!(carried(&server), 2 + 4000 + 100_000, "{status}: {:#?}", server.log());
    }
}

/// A registry that says so for ever is not asked for ever.
#[tokio::test]
async fn case_51b_a_registry_that_lacks_it_for_ever() {
    let server = start().await;
    let detail = serde_json::json!({"digest": layer("abc").descriptor.digest});
    let lacking = Reply::error(400, "MANIFEST_BLOB_UNKNOWN", &detail);
    server.rule(on("PUT", "/manifests/", Fault::Reply(lacking)).always());
    let (client, recorder) = with_options(&server, &[], |_| {});
    let error = push_all(&client, Memory::image([Bytes::from_static(b"abc")])).await.expect_err("refused");
    assert!(matches!(&error, PipelineError::Client(error) if error.status() == Some(400)), "{error}");
    assert!(error.to_string().contains("MANIFEST_BLOB_UNKNOWN"), "{error}");
    assert!(server.count("PUT", "/manifests/") <= 3, "{:#?}", server.log());
    assert!(carried(&server) <= 2 * ("abc".len() + "{}".len()), "{:#?} {recorder:?}", server.log());
}
