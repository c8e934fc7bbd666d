//! Case 16: whom TLS connections are made with, and as whom.

use http::Method;
use idp_oci::client::http::{Http, HttpError, HttpOptions, Identity, Request};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::standard::Credential;
use idp_oci::client::{ClientError, Kind, Scheme};
use idp_oci::secret::Secret;
use idp_test_support::faults::{Fault, Registry, Reply, Server, on};
use idp_test_support::net::certificates::{Authority, Serving};

use crate::{blob, client_of, is_stored, options, push};

const HERE: &str = "127.0.0.1";

fn trusting(authority: &Authority) -> HttpOptions {
    HttpOptions { extra_roots: vec![authority.pem().into_bytes()], ..options() }
}

async fn serve(authority: &Authority, how: Serving) -> Server {
    Server::start_tls(authority.serving(&how), Registry::default()).await
}

/// Pushes something; how often it was tried again, and how often a connection was made.
async fn try_with(server: &Server, http: HttpOptions) -> (Result<(), ClientError>, usize, usize) {
    let before = server.accepted();
    let retry = RetryPolicy::immediate(4);
    let (client, recorder) = client_of(&server.address(), Scheme::Https, Credential::Anonymous, http, retry);
    let blob = blob("one");
    let result = push(&client, &blob).await.map(|_| assert!(is_stored(server, &blob)));
    (result, recorder.retries(), server.accepted() - before)
}

/// Trust is given by a certificate of ours, and taken by none, by time and by name; no such refusal is tried again.
#[tokio::test]
async fn case_16a_certificates_are_checked() {
    let authority = Authority::new();
    let good = Serving::name(HERE);
    for (how, known, expect) in [
        (good.clone(), true, None),
        (good.clone(), false, Some("nobody known vouches for it")),
        (Serving { expired: true, ..good }, true, Some("it has expired")),
        (Serving::name("registry.example"), true, Some("it is for another name")),
    ] {
        let server = serve(&authority, how.clone()).await;
        let http = if known { trusting(&authority) } else { options() };
        let (result, retries, connections) = try_with(&server, http).await;
        let Some(expect) = expect else {
            result.expect("trusted");
            continue;
        };
        let error = result.expect_err(expect);
        assert!(matches!(&error, ClientError::Network { error: HttpError::Tls(_), .. }), "{error:?}");
        assert_eq!((error.kind(), retries, connections), (Kind::Other, 0, 1), "{error}");
        let text = error.to_string();
        assert!(text.contains(expect) && text.contains("caFile") && text.contains("--insecure"), "{text}");
        assert!(server.requests().is_empty());
        // Whoever does not want to be checked for is not.
        let (result, ..) = try_with(&server, HttpOptions { insecure: true, ..options() }).await;
        result.expect(expect);
    }
}

/// A registry that wants to know who connects: told by our certificate, and said clearly without one.
#[tokio::test]
async fn case_16b_client_certificates() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let how = Serving { wants_client: true, ..Serving::name(HERE) };
    let server = serve(&authority, how).await;
    let with = |host: &str, pem: String| HttpOptions {
        identity: Some(Identity { host: host.to_owned(), pem: Secret::new(pem) }),
        ..trusting(&authority)
    };
    let (result, ..) = try_with(&server, with(&server.address(), authority.client("me"))).await;
    result.expect("known");
    for (http, expect) in [
        (trusting(&authority), "client certificate"),
        (with("registry.example", authority.client("me")), "client certificate"),
        (with(&server.address(), stranger.client("me")), "alert"),
        (with(&server.address(), "hunter2".to_owned()), "is no certificate with its key"),
    ] {
        let (result, retries, _) = try_with(&server, http).await;
        let error = result.expect_err(expect);
        assert_eq!((error.kind(), retries), (Kind::Other, 0), "{error}");
        assert!(error.to_string().contains(expect), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

/// Case 4: our certificate is for the registry, and not for where it sends us.
#[tokio::test]
async fn case_04b_other_hosts_do_not_see_the_client_certificate() {
    let authority = Authority::new();
    let how = Serving { wants_client: true, ..Serving::name(HERE) };
    let (server, other) = (serve(&authority, how.clone()).await, serve(&authority, how).await);
    let there = format!("https://{}/v2/", other.address());
    server.rule(on("GET", "/v2/", Fault::Reply(Reply::status(307).header("location", &there))).always());
    let identity = Identity { host: server.address(), pem: Secret::new(authority.client("me")) };
    let http = Http::new(HttpOptions { identity: Some(identity), ..trusting(&authority) });
    let url = format!("https://{}/v2/", server.address()).parse().expect("a URL");
    let error = http.execute(Request::new(Method::GET, url)).await.expect_err("not shown");
    assert!(matches!(&error, HttpError::Tls(why) if why.contains("client certificate")), "{error}");
    assert_eq!((server.requests().len(), other.requests().len()), (1, 0));
}

/// Either side may speak what the other does not, and is told so.
#[tokio::test]
async fn case_16c_http_and_tls_mistaken_for_each_other() {
    let authority = Authority::new();
    let tls = serve(&authority, Serving::name(HERE)).await;
    let plain = Server::start(Registry::default()).await;
    for (server, scheme, expect) in [
        (&tls, Scheme::Http, "speaks no plain http, and perhaps TLS"),
        (&plain, Scheme::Https, "speaks no TLS; if it is a plain-http registry, use --insecure"),
    ] {
        let retry = RetryPolicy::immediate(4);
        let (client, recorder) =
            client_of(&server.address(), scheme, Credential::Anonymous, trusting(&authority), retry);
        let error = client.check().await.expect_err("not understood");
        assert!(error.to_string().contains(expect), "{error}");
        assert_eq!((error.kind(), recorder.retries(), server.requests().len()), (Kind::Other, 0, 0));
    }
    // What Go's servers say to plain http on a TLS port reaches people as it is.
    let text = "Client sent an HTTP request to an HTTPS server.\n";
    let go = Server::script(vec![on("GET", "/v2/", Fault::Reply(Reply::status(400).body(text)))]).await;
    let (client, recorder) =
        client_of(&go.address(), Scheme::Http, Credential::Anonymous, options(), RetryPolicy::immediate(4));
    let error = client.check().await.expect_err("refused");
    assert!(error.to_string().contains(text.trim()), "{error}");
    assert_eq!(recorder.retries(), 0);
    // Which of the two it is, is found out before anything is asked.
    for (server, expect) in [(&tls, Scheme::Https), (&plain, Scheme::Http)] {
        let name = server.address().parse().expect("a registry");
        assert_eq!(Scheme::of(&name, false).await, expect);
        assert_eq!(server.requests().len(), 0);
    }
}
