//! Cases 23, 26, 27, 28: tokens, and how long they last.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idp_oci::client::dialect::{
    AuthRequest, Authorization, Challenge, Dialect, DialectError, ErrorKind, Grant, Hints, Scope,
};
use idp_oci::client::http::Http;
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::{Credential, Standard};
use idp_oci::client::{Client, ClientOptions, Learned, Scheme};
use idp_oci::name::Repository;
use idp_oci::secret::Secret;
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};

use super::{asks, form, grants, scopes, token_requests};
use crate::{blob, bytes, client_with, hold, is_stored, options, push, repository, tag, user};

fn standard(server: &Server, credential: Credential) -> Standard {
    let base = format!("http://{}/v2/", server.address()).parse().expect("a URL");
    Standard::new(base, credential, Http::new(options()))
}

/// Asks for a token for reading `a`.
async fn authorize(server: &Server, standard: &Standard) -> Result<Grant, DialectError> {
    let params = vec![("realm".to_owned(), format!("http://{}/token", server.address()))];
    let challenge = Challenge { scheme: "bearer".to_owned(), params, raw: String::new() };
    let scope = Scope::repository(&"a".parse().expect("a repository"), &["pull"]);
    let request = AuthRequest {
        scopes: vec![scope],
        challenges: vec![challenge],
        attempt: 1,
        operation: "test".to_owned(),
    };
    standard.authorize(&request).await
}

fn token(grant: &Grant) -> String {
    match &grant.authorization {
        Authorization::Bearer(token) => token.expose().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Many who need the same token at once make one request for it; who needs another, or is another, makes one of his own.
#[tokio::test]
async fn case_23a_one_request_for_one_token() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    hold(&server);
    let (one, _) = client_with(&server, user("right"), options());
    let blobs: Vec<_> = (0..8).map(|n| blob(bytes(100 + n))).collect();
    let all = futures_util::future::join_all(blobs.iter().map(|blob| push(&one, blob))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(token_requests(&server).len(), 1, "{:#?}", server.log());
    // Reading is part of it.
    one.manifest(&repository(), &tag(), None).await.expect("read");
    assert_eq!(token_requests(&server).len(), 1);
    // Another repository is another scope.
    let other: Repository = "other".parse().expect("a repository");
    let reads = futures_util::future::join_all((0..8).map(|_| one.tags(&other))).await;
    assert!(reads.iter().all(Result::is_ok), "{reads:?}");
    assert_eq!(token_requests(&server).len(), 2);
    // And another client is another identity.
    let (two, _) = client_with(&server, user("right"), options());
    two.manifest(&repository(), &tag(), None).await.expect("read");
    assert_eq!(token_requests(&server).len(), 3);
}

/// A registry that moves its token service, or names another one, is followed there.
#[tokio::test]
async fn case_23b_realm_and_service_belong_to_a_token() {
    let server = Server::start(Registry::default()).await;
    hold(&server);
    for (realm, service) in [("first", "a"), ("second", "a"), ("second", "b")] {
        let challenge = format!(r#"Bearer realm="http://HOST/token/{realm}",service="{service}""#);
        server.rule(on("GET", "/manifests/", asks(&server, &[&challenge])));
        server.rule(on(
            "GET",
            &format!("/token/{realm}?service={service}"),
            grants(&format!("{realm}-{service}")),
        ));
        // What the registry takes until it changes its mind.
        server.rule(on("GET", "/manifests/", Fault::Header("x-nothing", String::new())));
    }
    let (client, _) = client_with(&server, user("right"), options());
    for expect in ["Bearer first-a", "Bearer second-a", "Bearer second-b"] {
        client.manifest(&repository(), &tag(), None).await.expect("read");
        assert_eq!(server.requests().last().expect("a request").authorization(), Some(expect));
    }
    server.verify();
    assert_eq!(token_requests(&server).len(), 3);
}

/// The specifications, by a provider to whom the refusal of a fresh grant is final.
#[derive(Debug)]
struct Strict(Standard);

#[async_trait]
impl Dialect for Strict {
    fn name(&self) -> String {
        "strict".to_owned()
    }

    async fn authorize(&self, request: &AuthRequest) -> Result<Grant, DialectError> {
        if request.attempt > 1 {
            return Err(DialectError::new(ErrorKind::Denied, "the grant was refused"));
        }
        self.0.authorize(request).await
    }
}

/// What another process learned may be over: a registry that now asks for something else gets that, in one request more.
#[tokio::test]
async fn case_23c_a_remembered_challenge_that_is_over() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    hold(&server);
    let learned = Arc::new(Learned::nothing());
    learned.learn_challenges(&[r#"Basic realm="x""#.to_owned()]);
    let registry = server.address().parse().expect("a registry");
    let options_ = ClientOptions { retry: RetryPolicy::immediate(1), learned, ..ClientOptions::default() };
    let dialect = Arc::new(Strict(standard(&server, user("right"))));
    let client = Client::new(registry, Scheme::Http, Http::new(options()), dialect, options_);
    client.expect("a client").manifest(&repository(), &tag(), None).await.expect("read");
    assert_eq!((server.requests().len(), token_requests(&server).len()), (3, 1), "{:#?}", server.log());
}

/// What token services answer: where the token stands, how long it lasts, and when that is not said or is nonsense.
#[tokio::test]
async fn case_26a_answers_of_token_services() {
    for (body, lifetime) in [
        (r#"{"token":"t"}"#.to_owned(), 60),
        (r#"{"access_token":"t"}"#.to_owned(), 60),
        (r#"{"token":"t","access_token":"u","expires_in":900}"#.to_owned(), 900),
        (r#"{"token":"","access_token":"t","expires_in":300}"#.to_owned(), 300),
        (r#"{"token":null,"access_token":"t"}"#.to_owned(), 60),
        (r#"{"token":"t","expires_in":-5}"#.to_owned(), 60),
        (r#"{"token":"t","expires_in":0}"#.to_owned(), 60),
        (r#"{"token":"t","expires_in":"soon"}"#.to_owned(), 60),
        (r#"{"token":"t","expires_in":null}"#.to_owned(), 60),
        // Clocks differ: a token lasts from when it came, whatever the day was over there.
        (r#"{"token":"t","expires_in":300,"issued_at":"1970-01-01T00:00:00Z"}"#.to_owned(), 300),
        (r#"{"token":"t","expires_in":300,"issued_at":"2999-01-01T00:00:00Z"}"#.to_owned(), 300),
        (r#"{"token":"t","expires_in":300,"issued_at":7}"#.to_owned(), 300),
    ] {
        let server =
            Server::script(vec![on("GET", "/token", Fault::Reply(Reply::status(200).body(body.clone())))])
                .await;
        let grant = authorize(&server, &standard(&server, user("right"))).await.expect(&body);
        assert_eq!(
            (token(&grant).as_str(), grant.expires_in),
            ("t", Some(Duration::from_secs(lifetime))),
            "{body}"
        );
    }
    for body in [
        "{}".to_owned(),
        r#"{"token":""}"#.to_owned(),
        r#"{"token":7}"#.to_owned(),
        "[]".to_owned(),
        "token".to_owned(),
        "<html><title>hunter2</title>".to_owned(),
        String::new(),
        format!(r#"{{"token":"{}"}}"#, "x".repeat(70_000)),
    ] {
        let server =
            Server::script(vec![on("GET", "/token", Fault::Reply(Reply::status(200).body(body.clone())))])
                .await;
        let error = authorize(&server, &standard(&server, user("right"))).await.expect_err(&body);
        assert!(!matches!(error.kind, ErrorKind::Unavailable | ErrorKind::RateLimited), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("token service") && !text.contains("hunter2") && text.len() < 500, "{text}");
    }
}

/// A token is used as long as it lasts, and no longer: one of a second is asked for again, as one of a minute is not.
#[tokio::test]
async fn case_26b_a_token_is_used_while_it_lasts() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    hold(&server);
    let (client, _) = client_with(&server, user("right"), options());
    for _ in 0..3 {
        client.manifest(&repository(), &tag(), None).await.expect("read");
    }
    assert_eq!((token_requests(&server).len(), server.count("GET", "/manifests/")), (1, 4));
}

/// The specifications, on a registry that takes chunks.
#[derive(Debug)]
struct Chunked(Standard);

#[async_trait]
impl Dialect for Chunked {
    fn name(&self) -> String {
        "chunked".to_owned()
    }

    async fn authorize(&self, request: &AuthRequest) -> Result<Grant, DialectError> {
        self.0.authorize(request).await
    }

    async fn hints(&self, _: Option<&Repository>) -> Hints {
        let pairs = [("upload-mode", "chunked"), ("chunk-default", "1000")];
        Hints::from_pairs(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
    }
}

/// A token that ends while a body goes up, or between chunks, is renewed; what was sent for nothing is sent again from its start.
#[tokio::test]
async fn case_27_a_token_ends_during_an_upload() {
    for (method, chunked) in [("PUT", false), ("PATCH", true), ("PUT", true)] {
        for (skip, times) in [(0, 1), (usize::from(chunked && method == "PATCH"), 1)] {
            let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
            // The refusal comes at the end of the body.
            let challenge = r#"Bearer realm="http://HOST/token",error="invalid_token""#;
            server.rule(on(method, "/uploads/", asks(&server, &[challenge])).after(skip).times(times));
            // A token for the same is the same here, so that the renewed one is made to differ.
            server.rule(on("GET", "/token", grants("x+repository:team/app:pull,push")).after(1));
            let registry = server.address().parse().expect("a registry");
            let dialect: Arc<dyn Dialect> = match chunked {
                true => Arc::new(Chunked(standard(&server, user("right")))),
                false => Arc::new(standard(&server, user("right"))),
            };
            let retry = RetryPolicy::immediate(4);
            let options_ = ClientOptions { retry, ..ClientOptions::default() };
            let client = Client::new(registry, Scheme::Http, Http::new(options()), dialect, options_);
            let client = client.expect("a client");
            let blob = blob(bytes(3500));
            push(&client, &blob).await.expect("pushed");
            server.verify();
            assert!(is_stored(&server, &blob), "{method} {chunked}: {:#?}", server.log());
            assert_eq!(token_requests(&server).len(), 2, "{:#?}", server.log());
            let seen = server.requests();
            let at = seen.iter().position(|seen| seen.method == method && seen.status == 401);
            let refused = &seen[at.expect("a refusal")];
            let again = seen.iter().rfind(|seen| seen.method == method && seen.target == refused.target);
            let again = again.expect("sent again");
            assert_eq!(
                (again.status / 100, &again.body),
                (2, &refused.body),
                "the same bytes to the same place"
            );
        }
    }
}

/// A token service that knows no POST, or does not like ours, is asked by GET with the refresh token as a password.
#[tokio::test]
async fn case_28a_from_post_to_get() {
    for status in [404, 405, 400] {
        let server = Server::script(vec![
            on("POST", "/token", Fault::Reply(Reply::status(status))),
            on("GET", "/token", grants("t")),
        ])
        .await;
        let standard = standard(&server, Credential::IdentityToken(Secret::new("refresh")));
        assert_eq!(token(&authorize(&server, &standard).await.expect("a token")), "t");
        server.verify();
        let seen = server.requests();
        assert_eq!(form(&seen[0], "grant_type").as_deref(), Some("refresh_token"));
        assert_eq!(form(&seen[0], "refresh_token").as_deref(), Some("refresh"));
        assert_eq!(seen[0].authorization(), None);
        assert_eq!(scopes(&seen[1]), ["repository:a:pull"]);
        // `<token>:refresh`.
        assert_eq!(seen[1].authorization(), Some("Basic PHRva2VuPjpyZWZyZXNo"));
    }
}

/// A refresh token that is replaced is replaced here as well, for as long as we run.
#[tokio::test]
async fn case_28b_a_refresh_token_is_replaced() {
    let answer = |refresh: &str| {
        Fault::Reply(
            Reply::status(200)
                .body(serde_json::json!({"access_token": "t", "refresh_token": refresh}).to_string()),
        )
    };
    let server = Server::script(vec![
        on("POST", "/token", answer("second")),
        on("POST", "/token", Fault::Reply(Reply::status(200).body(r#"{"access_token":"t"}"#))),
        on("POST", "/token", answer("third")),
        on("POST", "/token", Fault::Reply(Reply::status(404))),
        on("GET", "/token", grants("t")),
    ])
    .await;
    let standard = standard(&server, Credential::IdentityToken(Secret::new("first")));
    for _ in 0..4 {
        authorize(&server, &standard).await.expect("a token");
    }
    server.verify();
    let seen = server.requests();
    let sent: Vec<_> = seen.iter().filter_map(|seen| form(seen, "refresh_token")).collect();
    assert_eq!(sent, ["first", "second", "second", "third"]);
    // `<token>:third`.
    assert_eq!(seen[4].authorization(), Some("Basic PHRva2VuPjp0aGlyZA=="));
    assert!(!format!("{standard:?}").contains("third"), "{standard:?}");
}
