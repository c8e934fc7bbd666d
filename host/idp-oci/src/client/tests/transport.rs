//! Cases 1 to 20: redirects, retries, limits.

use std::time::Duration;

use http::Method;
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};

use super::{client, client_with, options, repository, user};
use crate::client::http::{Http, HttpError, HttpOptions, Request};
use crate::client::{Kind, Scheme, ping};
use crate::name::Target;

fn tag() -> Target {
    Target::Tag("1".parse().expect("a tag"))
}

fn redirect(status: u16, location: &str) -> Fault {
    Fault::Reply(Reply::status(status).header("location", location))
}

async fn get(server: &Server, options: HttpOptions) -> Result<u16, HttpError> {
    let url = format!("http://{}/start", server.address()).parse().expect("a URL");
    Http::new(options).execute(Request::new(Method::GET, url)).await.map(|response| response.status.as_u16())
}

/// Cases 7, 8.
#[tokio::test]
async fn redirects_are_followed_and_end() {
    for status in [301, 302, 303, 307, 308] {
        let ok = Fault::Reply(Reply::status(200));
        let server =
            Server::script(vec![on("GET", "/start", redirect(status, "end")), on("GET", "/end", ok)]).await;
        assert_eq!(get(&server, options()).await, Ok(200), "{status}");
        server.verify();
    }
    let server = Server::script(vec![
        on("GET", "/start", redirect(302, "/loop")).always(),
        on("GET", "/loop", redirect(302, "/start?again")).always(),
    ])
    .await;
    let error = get(&server, options()).await.expect_err("a loop");
    assert!(matches!(&error, HttpError::Redirect(text) if text.contains("without end")), "{error}");
    assert!(!error.is_transient());
    let chain: Vec<_> = (0..30).map(|n| on("GET", "/", redirect(302, &format!("/{n}")))).collect();
    let server = Server::script(chain).await;
    assert!(get(&server, options()).await.is_err());
    assert_eq!(server.requests().len(), 11);
}

/// Cases 4, 7: a PUT that is redirected stays a PUT with its body, loses its credentials on the way to another origin, and is
/// refused where it would become a GET.
#[tokio::test]
async fn redirected_writes() {
    let other = Server::script(vec![on("PUT", "/elsewhere", Fault::Reply(Reply::status(201)))]).await;
    let server = Server::start(Registry::with_auth(Auth::Basic)).await;
    let location = format!("http://{}/elsewhere", other.address());
    server.rule(on("PUT", "/manifests/", redirect(307, &location)).after(1));
    let (client, _) = client_with(&server, user("right"), options());
    let manifest = super::manifests::image(&[]);
    client.put_manifest(&repository(), &tag(), &manifest).await.expect("written");
    other.verify();
    let seen = &other.requests()[0];
    assert_eq!((seen.authorization(), &seen.body), (None, manifest.bytes()));
    assert_eq!(seen.headers["content-type"], manifest.descriptor().media_type.as_str());
    server.rule(on("PUT", "/manifests/", redirect(302, "/v2/")));
    let error = client.put_manifest(&repository(), &tag(), &manifest).await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Other, "{error}");
}

/// Case 52 and the retry rules: what passes is tried as often as the policy says, on any method; what stays is not.
#[tokio::test]
async fn retries_are_counted() {
    for (fault, requests, kind) in [
        (Fault::Reply(Reply::status(503).header("retry-after", "0")), 4, Kind::Transient),
        (
            Fault::Reply(Reply::status(429).header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")),
            4,
            Kind::Transient,
        ),
        (Fault::Reply(Reply::status(500)), 4, Kind::Transient),
        (Fault::Drop, 4, Kind::Transient),
        (Fault::Reply(Reply::status(400)), 1, Kind::Other),
        (Fault::Reply(Reply::status(403)), 1, Kind::Auth),
        (Fault::Reply(Reply::status(404)), 1, Kind::NotFound),
        (Fault::Reply(Reply::status(501)), 1, Kind::Other),
    ] {
        let server = Server::start(Registry::default()).await;
        server.rule(on("*", "/manifests/", fault.clone()).always());
        let (client, recorder) = client_with(&server, user("right"), options());
        let error = client.manifest(&repository(), &tag(), None).await.expect_err("it fails");
        assert_eq!((server.requests().len(), error.kind()), (requests, kind), "{fault:?}: {error}");
        assert_eq!(recorder.retries(), requests - 1, "{fault:?}");
        let put = client.put_manifest(&repository(), &tag(), &super::manifests::image(&[])).await;
        assert_eq!(
            (server.count("PUT", ""), put.expect_err("it fails").kind()),
            (requests, kind),
            "{fault:?}"
        );
    }
}

/// A failure that passes is not seen by the caller.
#[tokio::test]
async fn it_goes_well_in_the_end() {
    let server = Server::start(Registry::default()).await;
    server.registry(|registry| registry.add_blob("team/app", "{}"));
    server.rule(on("PUT", "/manifests/", Fault::Reply(Reply::status(502))).times(2));
    server.rule(on("PUT", "/manifests/", Fault::Drop));
    client(&server)
        .put_manifest(&repository(), &tag(), &super::manifests::image(&[]))
        .await
        .expect("written");
    server.verify();
    assert_eq!(server.count("PUT", ""), 4);
}

/// Nothing listens there: transient, after three tries for a host that never answered and all of the policy's for one that did.
#[tokio::test]
async fn no_connection() {
    for (answered, tries) in [(false, 3), (true, 4)] {
        let server = Server::start(Registry::default()).await;
        let (client, recorder) = client_with(&server, user("right"), options());
        if answered {
            let _ = client.tags(&repository()).await;
        }
        let host = server.address();
        drop(server);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let error = client.tags(&repository()).await.expect_err("nobody there");
        assert_eq!((error.kind(), recorder.retries()), (Kind::Transient, tries - 1));
        assert_eq!(error.unreachable(), Some(host.as_str()));
        let text = error.to_string();
        assert!(text.contains(&format!("{host} cannot be reached: connection refused (GET")), "{text}");
        assert!(text.ends_with(&format!(", {tries} tries")), "{text}");
    }
}

/// However many are at it, a host that is away is waited for, and spoken of, once a try.
#[tokio::test]
async fn an_outage_is_one_for_all() {
    let server = Server::start(Registry::default()).await;
    let (client, recorder) = client_with(&server, user("right"), options());
    drop(server);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let repository = repository();
    let all = futures_util::future::join_all((0..8).map(|_| client.tags(&repository))).await;
    assert!(all.iter().all(|one| one.as_ref().is_err_and(|error| error.kind() == Kind::Transient)));
    assert_eq!(recorder.retries(), 2);
}

/// Case 18.
#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let server = Server::start(Registry::default()).await;
    server.rule(on("GET", "/manifests/", Fault::Hang));
    server.registry(|registry| {
        let image = super::manifests::image(&[]);
        registry.add_manifest("team/app", "1", &image.descriptor().media_type, image.bytes().clone())
    });
    let idle = HttpOptions { idle_timeout: Duration::from_millis(150), ..options() };
    let (client, recorder) = client_with(&server, user("right"), idle);
    client.manifest(&repository(), &tag(), None).await.expect("the second try");
    assert_eq!((server.requests().len(), recorder.retries()), (2, 1));
}

/// Case 19: the body of an error is cut off; a manifest that never ends is not read to its end.
#[tokio::test]
async fn large_answers_are_capped() {
    let server = Server::start(Registry::default()).await;
    server.rule(on("GET", "/manifests/", Fault::Reply(Reply::status(400).body("x".repeat(1_000_000)))));
    let error = client(&server).manifest(&repository(), &tag(), None).await.expect_err("refused").to_string();
    assert!(error.len() < 2000, "{} bytes", error.len());
    server.rule(on("GET", "/manifests/", Fault::Reply(Reply::status(200).body("x".repeat(9_000_000)))));
    let error = client(&server).manifest(&repository(), &tag(), None).await.expect_err("too large");
    assert!(error.to_string().contains("too large") && error.kind() == Kind::Other, "{error}");
}

/// `Warning` headers are shown once (registries.md 0.4).
#[tokio::test]
async fn warnings_are_shown_once() {
    let server = Server::start(Registry::default()).await;
    server.rule(on("*", "/v2/", Fault::Header("warning", r#"299 - "moves on Friday""#.to_owned())).always());
    let (client, recorder) = client_with(&server, user("right"), options());
    for _ in 0..3 {
        let _ = client.tags(&repository()).await;
    }
    let warnings: Vec<String> = recorder
        .events()
        .into_iter()
        .filter_map(|event| match event {
            crate::client::Event::Warning { text } => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].ends_with("says: moves on Friday"), "{warnings:?}");
}

/// Plain http on loopback is found out without an HTTP request; elsewhere it is not even looked for.
#[tokio::test]
async fn schemes() {
    let server = Server::start(Registry::default()).await;
    let registry = server.address().parse().expect("a registry");
    assert_eq!(Scheme::of(&registry, false).await, Scheme::Http);
    assert_eq!(server.requests().len(), 0);
    assert_eq!(Scheme::of(&"r.example".parse().expect("a registry"), false).await, Scheme::Https);
    let answer = ping(&Http::new(options()), &registry, Scheme::Http).await.expect("an answer");
    assert_eq!(answer.status.as_u16(), 200);
    let error = ping(&Http::new(options()), &registry, Scheme::Https).await.expect_err("no TLS there");
    assert!(error.to_string().contains("GET https://127.0.0.1"), "{error}");
}
