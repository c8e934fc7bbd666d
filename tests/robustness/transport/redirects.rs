//! Cases 7 to 9: redirects.

use std::sync::Arc;

use futures_util::StreamExt as _;
use http::Method;
use idp_oci::client::Kind;
use idp_oci::client::http::{Body, Http, HttpError, HttpOptions, Request};
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::{Access, Scheme};
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};

use crate::{bytes, client_of, hold, names, options, repository, tag, user};

fn moved(status: u16, location: &str) -> Fault {
    Fault::Reply(Reply::status(status).header("location", location))
}

fn request(server: &Server, method: Method, path: &str) -> Request {
    Request::new(method, format!("http://{}{path}", server.address()).parse().expect("a URL"))
}

/// A body that comes in pieces, again as often as it is asked for.
fn stream(length: usize) -> Body {
    let open = move || {
        let pieces: Vec<_> = bytes(length).chunks(100).map(|piece| Ok(piece.to_vec().into())).collect();
        futures_util::stream::iter(pieces).boxed()
    };
    Body::Stream { length: length as u64, open: Arc::new(open) }
}

/// Who reads is sent on by every kind of redirect, ten times and not eleven.
#[tokio::test]
async fn case_07a_reads_follow_ten_redirects() {
    for method in [Method::GET, Method::HEAD] {
        for status in [301, 302, 303, 307, 308] {
            let server = Server::script(vec![
                on(method.as_str(), "/start", moved(status, "end")),
                on(method.as_str(), "/end", Fault::Reply(Reply::status(200))),
            ])
            .await;
            let answer = Http::new(options()).execute(request(&server, method.clone(), "/start")).await;
            assert_eq!(answer.expect("an answer").status, 200, "{method} {status}");
            server.verify();
        }
    }
    for hops in [10, 11] {
        let rules =
            (0..hops).map(|hop| on("GET", &format!("/hop{hop}."), moved(302, &format!("/hop{}.", hop + 1))));
        let server = Server::script(rules.collect()).await;
        server.rule(on("GET", "/", Fault::Reply(Reply::status(200))));
        let answer = Http::new(options()).execute(request(&server, Method::GET, "/hop0.")).await;
        assert_eq!((answer.is_ok(), server.requests().len()), (hops == 10, 11), "{hops}");
    }
}

/// 307 and 308 send a body again, from its start.
#[tokio::test]
async fn case_07b_bodies_are_sent_again() {
    for method in [Method::POST, Method::PUT, Method::PATCH] {
        for status in [307, 308] {
            for body in [Body::Bytes(bytes(5000)), stream(5000)] {
                let server = Server::script(vec![
                    on(method.as_str(), "/start", moved(status, "/end")),
                    on(method.as_str(), "/end", Fault::Reply(Reply::status(201))),
                ])
                .await;
                let mut request = request(&server, method.clone(), "/start");
                request.body = body;
                let answer = Http::new(options()).execute(request).await.expect("an answer");
                assert_eq!(answer.status, 201);
                let seen = server.requests();
                assert_eq!(seen.len(), 2);
                for seen in seen {
                    assert_eq!((seen.method.as_str(), &seen.body), (method.as_str(), &bytes(5000)));
                }
            }
        }
    }
}

/// 301, 302 and 303 do not turn a write into a read.
#[tokio::test]
async fn case_07c_no_write_becomes_a_read() {
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        for status in [301, 302, 303] {
            let server = Server::script(vec![on(method.as_str(), "/start", moved(status, "/end"))]).await;
            let mut request = request(&server, method.clone(), "/start");
            request.body = Body::Bytes(bytes(10));
            let error = Http::new(options()).execute(request).await.expect_err("refused");
            assert!(error.to_string().contains("another method") && !error.is_transient(), "{error}");
            assert_eq!(server.requests().len(), 1);
        }
    }
}

/// A circle is found when it closes, and the error names its stations in order.
#[tokio::test]
async fn case_08_a_loop_is_named() {
    let server = Server::script(vec![
        on("GET", "/start", moved(302, "/zebra")).always(),
        on("GET", "/zebra", moved(307, "/ape?token=hunter2")).always(),
        on("GET", "/ape", moved(301, "/zebra")).always(),
    ])
    .await;
    let error = Http::new(options()).execute(request(&server, Method::GET, "/start")).await;
    let error = error.expect_err("a loop");
    assert!(matches!(error, HttpError::Redirect(_)) && !error.is_transient());
    let text = error.to_string();
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
    assert!(at("/start") < at("/zebra") && at("/zebra") < at("/ape"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(server.requests().len(), 3);
}

/// `http://host` and `http://host:80` are one origin: credentials stay.
#[tokio::test]
async fn case_09_a_default_port_is_the_same_origin() {
    for there in ["http://registry.example:80/v2/team/app/manifests/1?again", "http://other.example/v2/"] {
        let same = there.contains(":80");
        let server = Server::start(Registry::with_auth(Auth::Basic)).await;
        hold(&server);
        server.rule(on("HEAD", "/manifests/1", moved(307, there)).after(1));
        let at = &[server.port()];
        let http = HttpOptions {
            resolver: Some(names(&[("registry.example", at), ("other.example", at)])),
            ..options()
        };
        let retry = RetryPolicy::immediate(2);
        let (client, _) = client_of("registry.example", Scheme::Http, user("right"), http, retry);
        let head = client.head_manifest(&repository(), &tag(), Access::Pull).await;
        let seen = server.requests();
        let last = seen.last().expect("a request");
        assert_eq!(seen.len(), 3, "{:#?}", server.log());
        assert_eq!(last.authorization().is_some(), same, "{:#?}", server.log());
        if !same {
            assert_eq!(head.expect_err("not let in").kind(), Kind::Auth);
        }
    }
}
