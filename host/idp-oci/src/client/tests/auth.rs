//! Cases 20 to 32.

use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};
use tokio_util::sync::CancellationToken;

use super::{client, client_with, options, repository, user};
use crate::blob::Blob;
use crate::client::standard::Credential;
use crate::client::{ClientError, Kind, Outcome, Presence};
use crate::secret::Secret;

/// Large enough to be asked for before it is sent.
fn blob(text: &str) -> Blob {
    Blob::from_bytes("a/b", bytes::Bytes::from(text.repeat(70_000)))
}

async fn push(client: &crate::client::Client, blob: &Blob) -> Result<Outcome, ClientError> {
    client.push_blob(&repository(), blob, Presence::Unknown, &[], &CancellationToken::new()).await
}

/// No ping: the first real request learns the challenge, and the rest go with credentials at once.
#[tokio::test]
async fn basic_costs_one_request() {
    let server = Server::start(Registry::with_auth(Auth::Basic)).await;
    let (client, _) = client_with(&server, user("right"), options());
    push(&client, &blob("one")).await.expect("pushed");
    push(&client, &blob("two")).await.expect("pushed");
    assert_eq!(server.requests().len(), 1 + 3 + 3, "{:#?}", server.log());
    assert_eq!(server.requests().iter().filter(|seen| seen.authorization().is_none()).count(), 1);
}

/// Case 23: one token serves a push, and concurrent tasks share one request for it.
#[tokio::test]
async fn a_token_is_asked_for_once() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    let (client, _) = client_with(&server, user("right"), options());
    let blobs = [blob("one"), blob("two"), blob("three"), blob("four")];
    let all = futures_util::future::join_all(blobs.iter().map(|blob| push(&client, blob))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(
        (server.count("GET", "/token"), server.count("*", "/v2/")),
        (1, 1 + 4 * 3),
        "{:#?}",
        server.log()
    );
}

/// Case 24: a mount asks for both repositories in one token.
#[tokio::test]
async fn a_mount_asks_for_both_scopes() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    server.registry(|registry| registry.add_blob("other", "one".repeat(70_000)));
    let (client, _) = client_with(&server, user("right"), options());
    let from = ["other".parse().expect("a repository")];
    let outcome = client
        .push_blob(&repository(), &blob("one"), Presence::Unknown, &from, &CancellationToken::new())
        .await;
    assert_eq!(outcome.expect("mounted"), Outcome::Mounted);
    let tokens: Vec<String> = server
        .requests()
        .iter()
        .filter(|seen| seen.target.contains("/token"))
        .map(|seen| seen.target.clone())
        .collect();
    assert_eq!(tokens.len(), 2);
    assert!(tokens[1].contains("team%2Fapp") && tokens[1].contains("other%3Apull"), "{tokens:?}");
}

/// Case 31, case 32: the wrong password goes out once, also with many workers, and is never shown.
#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let server = Server::start(Registry::with_auth(auth)).await;
        let (client, recorder) = client_with(&server, user("hunter2-wrong"), options());
        let blobs = [blob("one"), blob("two"), blob("three")];
        let all = futures_util::future::join_all(blobs.iter().map(|blob| push(&client, blob))).await;
        for outcome in all {
            let error = outcome.expect_err("refused");
            assert_eq!((error.kind(), error.status()), (Kind::Auth, Some(401)));
            let shown = format!("{error} {error:?} {client:?}");
            assert!(!shown.contains("hunter2") && shown.contains("log in"), "{shown}");
        }
        let sent = server.requests().iter().filter(|seen| seen.authorization().is_some()).count();
        assert_eq!((sent, recorder.retries()), (1, 0), "{auth:?} {:#?}", server.log());
    }
}

/// Without a credential the refusal comes after one request.
#[tokio::test]
async fn anonymous_is_refused_at_once() {
    let server = Server::start(Registry::with_auth(Auth::Basic)).await;
    let error = push(&client(&server), &blob("one")).await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Auth);
    assert_eq!(server.requests().len(), 1);
}

/// Case 22: gcr once sent no challenge with the refusal of a real request.
#[tokio::test]
async fn a_401_without_challenge_asks_the_base() {
    let server = Server::start(Registry::with_auth(Auth::Basic)).await;
    server.rule(on("HEAD", "/blobs/", Fault::Reply(Reply::status(401))));
    let (client, _) = client_with(&server, user("right"), options());
    push(&client, &blob("one")).await.expect("pushed");
    assert_eq!(server.log()[..3].iter().map(|line| &line[..4]).collect::<Vec<_>>(), ["HEAD", "GET ", "HEAD"]);
    let server = Server::script(vec![
        on("HEAD", "/blobs/", Fault::Reply(Reply::status(401))),
        on("GET", "/v2/", Fault::Reply(Reply::status(200))),
    ])
    .await;
    let (client, _) = client_with(&server, user("right"), options());
    assert_eq!(push(&client, &blob("one")).await.expect_err("refused").kind(), Kind::Auth);
    server.verify();
}

/// Case 25: `insufficient_scope` is answered with one new token; then it is final.
#[tokio::test]
async fn insufficient_scope_is_answered_once() {
    let refused = || {
        let challenge =
            r#"Bearer realm="/token",scope="repository:team/app:pull,push,admin",error="insufficient_scope""#;
        Fault::Reply(Reply::status(401).header("www-authenticate", challenge))
    };
    let token =
        |value: &str| Fault::Reply(Reply::status(200).body(format!(r#"{{"access_token":"{value}"}}"#)));
    let server = Server::script(vec![
        on("HEAD", "/blobs/", refused()).times(3),
        on("GET", "/token", token("one")),
        on("GET", "/token", token("two")),
    ])
    .await;
    let (client, _) = client_with(&server, user("right"), options());
    assert_eq!(push(&client, &blob("one")).await.expect_err("refused").kind(), Kind::Auth);
    server.verify();
    assert_eq!(server.requests().len(), 5);
    let asked = &server.requests()[1].target;
    assert!(asked.contains("admin"), "{asked}");
}

/// Case 26.
#[tokio::test]
async fn answers_of_token_services() {
    for (body, good) in [
        (r#"{"token":"t"}"#, true),
        (r#"{"access_token":"t","expires_in":-5}"#, true),
        (r#"{"token":"","access_token":"t","expires_in":"soon"}"#, true),
        ("{}", false),
        ("<html>", false),
        (&format!(r#"{{"token":"{}"}}"#, "x".repeat(70_000)), false),
    ] {
        let challenge = r#"Bearer realm="/token""#;
        let server = Server::script(vec![
            on("HEAD", "/blobs/", Fault::Reply(Reply::status(401).header("www-authenticate", challenge))),
            on("GET", "/token", Fault::Reply(Reply::status(200).body(body.to_owned()))),
            on("HEAD", "/blobs/", Fault::Reply(Reply::status(200).body("one".repeat(70_000))))
                .times(usize::from(good)),
        ])
        .await;
        let (client, _) = client_with(&server, user("right"), options());
        assert_eq!(push(&client, &blob("one")).await.is_ok(), good, "{}", &body[..body.len().min(80)]);
        server.verify();
    }
}

/// Case 28: a token service that knows no POST.
#[tokio::test]
async fn an_identity_token_falls_back_to_get() {
    let server = Server::script(vec![
        on(
            "HEAD",
            "/blobs/",
            Fault::Reply(Reply::status(401).header("www-authenticate", r#"Bearer realm="/token""#)),
        ),
        on("POST", "/token", Fault::Reply(Reply::status(404))),
        on("GET", "/token", Fault::Reply(Reply::status(200).body(r#"{"token":"t"}"#))),
        on("HEAD", "/blobs/", Fault::Reply(Reply::status(200).body("one".repeat(70_000)))),
    ])
    .await;
    let (client, _) = client_with(&server, Credential::IdentityToken(Secret::new("refresh")), options());
    push(&client, &blob("one")).await.expect("there");
    server.verify();
    let form = String::from_utf8_lossy(&server.requests()[1].body).into_owned();
    assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=refresh"), "{form}");
}

/// A token service that is down for a moment is asked again, like the registry.
#[tokio::test]
async fn a_token_service_that_fails_is_asked_again() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    server.rule(on("GET", "/token", Fault::Reply(Reply::status(503).header("retry-after", "0"))).times(2));
    let (client, recorder) = client_with(&server, user("right"), options());
    push(&client, &blob("one")).await.expect("pushed");
    assert_eq!((server.count("GET", "/token"), recorder.retries()), (3, 2));
}

/// Case 27: a token that ends during an upload is renewed, and the body sent again.
#[tokio::test]
async fn a_token_ends_during_a_put() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    let challenge = format!(r#"Bearer realm="http://{}/token",error="invalid_token""#, server.address());
    // The registry behind hands out the same token for the same scopes, so the renewed one is made to differ.
    let renewed = Reply::status(200).body(r#"{"token":"x+repository:team/app:pull,push"}"#);
    server.rule(on(
        "PUT",
        "/uploads/",
        Fault::Reply(Reply::status(401).header("www-authenticate", &challenge)),
    ));
    server.rule(on("GET", "/token", Fault::Reply(renewed)).after(1));
    let (client, _) = client_with(&server, user("right"), options());
    push(&client, &blob("one")).await.expect("pushed");
    server.verify();
    assert_eq!((server.count("PUT", ""), server.count("GET", "/token")), (2, 2));
}

/// Case 30: a 403 says nothing about existence, and everything about writing.
#[tokio::test]
async fn forbidden() {
    let server = Server::start(Registry::default()).await;
    server.rule(on("HEAD", "/blobs/", Fault::Reply(Reply::status(403))));
    assert_eq!(push(&client(&server), &blob("one")).await.expect("pushed"), Outcome::Sent);
    let denied = Reply::error(403, "DENIED", &serde_json::Value::Null);
    server.rule(on("POST", "/uploads/", Fault::Reply(denied)));
    let error = push(&client(&server), &blob("two")).await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Auth);
    assert!(error.to_string().contains("DENIED"), "{error}");
    assert_eq!(server.count("POST", ""), 2);
}

/// zot: 200 with a challenge; what follows goes with credentials.
#[tokio::test]
async fn a_challenge_with_200_is_remembered() {
    let server = Server::start(Registry::default()).await;
    server.rule(on("HEAD", "/blobs/", Fault::Header("www-authenticate", "basic realm=zot".to_owned())));
    let (client, _) = client_with(&server, user("right"), options());
    push(&client, &blob("one")).await.expect("pushed");
    assert!(server.requests()[1].authorization().is_some_and(|value| value.starts_with("Basic ")));
}

/// A registry that echoes what it was sent does not make us print it (case 32).
#[tokio::test]
async fn echoed_credentials_are_scrubbed() {
    let server = Server::start(Registry::with_auth(Auth::Basic)).await;
    let echo = Reply::status(400).body("bad password right, header dXNlcjpyaWdodA==");
    server.rule(on("POST", "/uploads/", Fault::Reply(echo)));
    let (client, _) = client_with(&server, user("right"), options());
    let error = push(&client, &blob("one")).await.expect_err("refused").to_string();
    assert!(error.contains("bad password …, header …"), "{error}");
}
