//! Cases 1 to 6: where an upload goes on.

use std::sync::Arc;

use async_trait::async_trait;
use idp_oci::client::dialect::{AuthRequest, Authorization, Dialect, DialectError, Grant, Hints, Reuse};
use idp_oci::client::http::{Http, HttpOptions};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::Credential;
use idp_oci::client::{Client, ClientOptions, Kind, Scheme};
use idp_oci::name::Repository;
use idp_oci::secret::Secret;
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Seen, Server, on};
use idp_test_support::net::certificates::{Authority, Serving};

use crate::{blob, bytes, client, client_of, client_with, is_stored, names, options, push, user};

/// A registry with habits: its hints, and headers of its own as credentials.
#[derive(Debug)]
struct Peculiar(Vec<(&'static str, &'static str)>);

#[async_trait]
impl Dialect for Peculiar {
    fn name(&self) -> String {
        "peculiar".to_owned()
    }

    async fn authorize(&self, _: &AuthRequest) -> Result<Grant, DialectError> {
        let headers = vec![("x-registry-token".to_owned(), Secret::new("hunter2"))];
        let authorization = Authorization::Headers(headers);
        Ok(Grant { authorization, scopes: Vec::new(), expires_in: None, reuse: Reuse::Registry })
    }

    async fn hints(&self, _: Option<&Repository>) -> Hints {
        Hints::from_pairs(self.0.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }
}

fn peculiar(server: &Server, hints: &[(&'static str, &'static str)]) -> Client {
    let registry = server.address().parse().expect("a registry");
    let options_ = ClientOptions { retry: RetryPolicy::immediate(4), ..ClientOptions::default() };
    let dialect = Arc::new(Peculiar(hints.to_vec()));
    Client::new(registry, Scheme::Http, Http::new(options()), dialect, options_).expect("a client")
}

/// Takes every upload at its own address and answers what comes there.
async fn storage() -> Server {
    Server::script(vec![on("PUT", "", Fault::Reply(Reply::status(201))).always()]).await
}

/// The answer to every POST.
fn opened(location: &str) -> Fault {
    Fault::Reply(Reply::status(202).header("location", location))
}

/// Requests with bodies of an upload.
fn sent(server: &Server) -> Vec<Seen> {
    server.requests().into_iter().filter(|seen| seen.method == "PUT" || seen.method == "PATCH").collect()
}

/// A `Location` of any form is resolved against the URL that answered in the end, not the one that was asked.
#[tokio::test]
async fn case_01_locations_are_resolved_against_the_final_url() {
    let uploads = "/v2/team/app/blobs/uploads/";
    for (location, expect) in [
        ("http://HOST/elsewhere/1", "/elsewhere/1"),
        ("/v2/team/app/blobs/uploads/1", "/v2/team/app/blobs/uploads/1"),
        ("//HOST/v2/1", "/v2/1"),
        ("HOST/v2/1", "/v2/1"),
        ("../other/1", "/v2/team/app/blobs/other/1"),
        ("1", "/v2/team/app/blobs/uploads/1"),
    ] {
        let other = storage().await;
        other.rule(on("POST", uploads, opened(&location.replace("HOST", &other.address()))).always());
        let server = Server::start(Registry::default()).await;
        let there = format!("http://{}{uploads}", other.address());
        let moved = Reply::status(307).header("location", &there);
        server.rule(on("POST", uploads, Fault::Reply(moved)).always());
        let blob = blob(bytes(1000));
        push(&client(&server), &blob).await.expect(location);
        assert!(sent(&server).is_empty(), "{location}: {:#?}", server.log());
        let sent = sent(&other);
        assert_eq!(sent.len(), 1, "{location}: {:#?}", other.log());
        assert_eq!(sent[0].target, format!("{expect}?digest={}", blob.descriptor.digest), "{location}");
        assert_eq!(sent[0].body, bytes(1000));
    }
}

/// The query of a `Location` is kept byte for byte, and `digest` comes after it.
#[tokio::test]
async fn case_02_the_query_of_a_location_is_kept() {
    for query in ["_state=a%2Fb%3D%3d&x=1", "X-Amz-Signature=a%20b%2B&empty=&flag", "a=b&a=c&digest2=%zz"] {
        let server = storage().await;
        server.rule(on("POST", "/uploads/", opened(&format!("/up/1?{query}"))).always());
        let blob = blob(bytes(10));
        push(&client(&server), &blob).await.expect("sent");
        let expect = format!("/up/1?{query}&digest={}", blob.descriptor.digest);
        assert_eq!(sent(&server)[0].target, expect);
    }
}

/// Every answer to PATCH names the address that the next request goes to.
#[tokio::test]
async fn case_03a_the_newest_location_is_used() {
    let server = Server::start(Registry::default()).await;
    let client = peculiar(&server, &[("upload-mode", "chunked"), ("chunk-default", "1000")]);
    let blob = blob(bytes(3500));
    push(&client, &blob).await.expect("sent");
    assert!(is_stored(&server, &blob));
    // The registry puts into each address how much it has by then.
    let states: Vec<String> = sent(&server)
        .iter()
        .map(|seen| {
            let query = seen.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
            query.split('&').next().unwrap_or_default().to_owned()
        })
        .collect();
    let expect: Vec<String> = (0..states.len()).map(|n| format!("_state={}", (n * 1000).min(3500))).collect();
    assert_eq!((states.len() >= 4, &states), (true, &expect));
}

/// So does the answer to a question for the state of a broken upload.
#[tokio::test]
async fn case_03b_the_status_of_an_upload_names_the_newest_location() {
    let server = Server::start(Registry { resumable: true, ..Registry::default() }).await;
    server.rule(on("PUT", "/uploads/", Fault::DropAfterRequest(500_000)));
    let fresh = "/v2/team/app/blobs/uploads/s1?_state=fresh".to_owned();
    server.rule(on("GET", "/uploads/s1", Fault::Header("location", fresh)));
    let blob = blob(bytes(2_000_000));
    push(&client(&server), &blob).await.expect("sent");
    server.verify();
    assert!(is_stored(&server, &blob));
    let asked = server.requests().iter().position(|seen| seen.method == "GET").expect("a question");
    let next = server.requests()[asked + 1].clone();
    assert!(next.target.contains("_state=fresh") && !next.body.is_empty(), "{:#?}", server.log());
}

/// Storage elsewhere gets the bytes, and neither credentials nor headers that stand for them.
#[tokio::test]
async fn case_04_other_hosts_get_bytes_and_no_credentials() {
    for custom in [false, true] {
        let other = storage().await;
        let server = if custom {
            let challenge = r#"Custom realm="x""#;
            let server = Server::start(Registry::default()).await;
            let asks = Reply::status(401).header("www-authenticate", challenge);
            server.rule(on("*", "/v2/", Fault::Reply(asks)));
            server
        } else {
            Server::start(Registry::with_auth(Auth::Basic)).await
        };
        let location = format!("http://{}/bucket/1?X-Amz-Signature=abc", other.address());
        server.rule(on("POST", "/uploads/", opened(&location)).always());
        let client =
            if custom { peculiar(&server, &[]) } else { client_with(&server, user("right"), options()).0 };
        client.check().await.expect("let in");
        let blob = blob(bytes(1000));
        push(&client, &blob).await.expect("sent");
        let credential = if custom { "x-registry-token" } else { "authorization" };
        let opened = server.requests().into_iter().rfind(|seen| seen.method == "POST").expect("a POST");
        assert!(opened.headers.contains_key(credential), "it proves nothing if there was none");
        let sent = sent(&other);
        assert_eq!((sent.len(), &sent[0].body), (1, &bytes(1000)));
        for name in ["authorization", "x-registry-token", "cookie"] {
            assert!(!sent[0].headers.contains_key(name), "{name}");
        }
    }
}

/// From https to http is refused for good, and nothing goes there.
#[tokio::test]
async fn case_05_downgrades_are_refused() {
    let authority = Authority::new();
    let http = HttpOptions { extra_roots: vec![authority.pem().into_bytes()], ..options() };
    let plain = storage().await;
    let down = format!("http://{}/up/1", plain.address());
    for redirect in [false, true] {
        let server =
            Server::start_tls(authority.serving(&Serving::name("127.0.0.1")), Registry::default()).await;
        let fault =
            if redirect { Fault::Reply(Reply::status(307).header("location", &down)) } else { opened(&down) };
        server.rule(on("POST", "/uploads/", fault).always());
        let retry = RetryPolicy::immediate(4);
        let (client, recorder) =
            client_of(&server.address(), Scheme::Https, Credential::Anonymous, http.clone(), retry);
        let error = push(&client, &blob("one")).await.expect_err("refused");
        assert_eq!((error.kind(), recorder.retries()), (Kind::Other, 0), "{error}");
        assert!(error.to_string().contains("without TLS"), "{error}");
        server.verify();
        assert!(plain.requests().is_empty());
    }
}

/// A registry outside does not send us inside: not by `Location`, not by redirect, not for a token.
#[tokio::test]
async fn case_06_the_inner_network_is_not_asked() {
    let inside = storage().await;
    inside.rule(on("GET", "/token", Fault::Reply(Reply::status(200).body(r#"{"token":"t"}"#))).always());
    inside.rule(on("POST", "/up/1", opened("/up/1")).always());
    let at = |path: &str| format!("http://{}{path}", inside.address());
    let (location, moved) = (opened(&at("/up/1")), Reply::status(307).header("location", &at("/up/1")));
    let challenge = format!("Bearer realm=\"{}\"", at("/token"));
    let asks = Reply::status(401).header("www-authenticate", &challenge);
    for (method, fault) in [("POST", location), ("POST", Fault::Reply(moved)), ("*", Fault::Reply(asks))] {
        for allowed in [false, true] {
            let server = Server::start(Registry::default()).await;
            let part = if method == "*" { "/v2/" } else { "/uploads/" };
            server.rule(on(method, part, fault.clone()));
            let http = HttpOptions {
                resolver: Some(names(&[("registry.example", &[server.port()])])),
                allow_private_redirects: allowed,
                ..options()
            };
            let registry = format!("registry.example:{}", server.port());
            let (client, recorder) =
                client_of(&registry, Scheme::Http, user("right"), http, RetryPolicy::immediate(4));
            let before = inside.requests().len();
            let result = push(&client, &blob("one")).await;
            assert_eq!(result.is_ok(), allowed, "{method} {result:?}");
            assert_eq!(inside.requests().len() > before, allowed, "{method}");
            if let Err(error) = result {
                let text = error.to_string();
                assert!(
                    text.contains("inner network") && text.contains("--allow-private-redirects"),
                    "{text}"
                );
                assert_eq!(recorder.retries(), 0);
            }
        }
    }
    // Whoever is inside itself may send us around there, but not to where machines keep their secrets.
    for address in ["169.254.169.254", "10.0.0.1", "[fe80::1]", "[fd00::1]", "192.168.0.1"] {
        let server = Server::start(Registry::default()).await;
        server.rule(on("POST", "/uploads/", opened(&format!("http://{address}/latest"))).always());
        let error = push(&client(&server), &blob("one")).await.expect_err(address);
        assert!(error.to_string().contains("inner network"), "{error}");
    }
}
