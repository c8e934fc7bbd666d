//! Cases 30 and 31: being refused.

use idp_oci::client::{Kind, Outcome};
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};

use crate::{blob, bytes, client_with, is_stored, manifest, options, push, repository, tag, user};

fn denied() -> Fault {
    Fault::Reply(Reply::error(403, "DENIED", &serde_json::Value::Null))
}

/// Whether something is there may be a secret: an upload finds out.
#[tokio::test]
async fn case_30a_a_403_for_a_question_says_nothing() {
    let server = Server::start(Registry::default()).await;
    server.rule(on("HEAD", "/blobs/", Fault::Reply(Reply::status(403))).always());
    let (client, recorder) = client_with(&server, user("right"), options());
    let blob = blob("one");
    assert_eq!(push(&client, &blob).await.expect("pushed"), Outcome::Sent);
    assert!(is_stored(&server, &blob));
    assert_eq!(recorder.retries(), 0);
}

/// Who may not write is told so after one request, in the registry's words.
#[tokio::test]
async fn case_30b_a_403_for_a_write_is_final() {
    let server = Server::start(Registry::default()).await;
    server.rule(on("POST", "/uploads/", denied()).always());
    server.rule(on("PUT", "/manifests/", denied()).always());
    let (client, recorder) = client_with(&server, user("right"), options());
    let written = client.put_manifest(&repository(), &tag(), &manifest()).await;
    for error in [push(&client, &blob("one")).await.expect_err("no"), written.expect_err("no")] {
        assert_eq!((error.kind(), error.status()), (Kind::Auth, Some(403)));
        assert!(error.to_string().contains("DENIED"), "{error}");
    }
    assert_eq!(
        (server.count("PUT", "/manifests/"), server.count("PUT", "/uploads/"), recorder.retries()),
        (1, 0, 0)
    );
    assert!(server.registry(|registry| registry.blobs.is_empty()));
}

/// Who may push and not delete cannot clear away what broke; that keeps nobody from trying again.
#[tokio::test]
async fn case_30c_a_refused_cleanup_refuses_nothing_else() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    for number in 0..9 {
        let token = format!("{number}+repository:team/app:pull,push");
        server.rule(on("GET", "/token", super::grants(&token)));
    }
    server.rule(on("PUT", "/uploads/", Fault::Reply(Reply::status(500))));
    let (client, recorder) = client_with(&server, user("right"), options());
    let (one, two) = (blob(bytes(1000)), blob(bytes(2000)));
    assert_eq!(push(&client, &one).await.expect("the second time"), Outcome::Sent);
    assert!(
        server.log().iter().any(|line| line.starts_with("DELETE") && line.ends_with("401")),
        "{:#?}",
        server.log()
    );
    assert_eq!(push(&client, &two).await.expect("as ever"), Outcome::Sent);
    assert_eq!(recorder.retries(), 1);
}

/// A wrong password goes out once, however many want to be let in with it, and nothing waits for another try.
#[tokio::test]
async fn case_31_a_wrong_password_is_tried_once() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let server = Server::start(Registry::with_auth(auth)).await;
        let (client, recorder) = client_with(&server, user("wrong"), options());
        let blobs: Vec<_> = (0..8).map(|n| blob(bytes(100 + n))).collect();
        let all = futures_util::future::join_all(blobs.iter().map(|blob| push(&client, blob))).await;
        for outcome in all {
            let error = outcome.expect_err("refused");
            assert_eq!((error.kind(), error.status()), (Kind::Auth, Some(401)));
        }
        let sent = server.requests().iter().filter(|seen| seen.authorization().is_some()).count();
        assert_eq!((sent, recorder.retries()), (1, 0), "{auth:?} {:#?}", server.log());
        // The question that was refused, and the one that had a password.
        assert_eq!(server.requests().len(), 2, "{:#?}", server.log());
    }
}
