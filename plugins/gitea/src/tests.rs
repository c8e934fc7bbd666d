//! The provider against a scripted server.

use idp_provider_sdk::ErrorKind;
use idp_provider_sdk::testing::{Exchange, Host, cases};

use super::*;

const BEARER: &str = r#"Bearer realm="https://git.example/v2/token",service="container_registry",scope="*""#;

fn host() -> Host {
    Host::new("git.example").manifest(Gitea::MANIFEST)
}

#[test]
fn recorded_conversations() {
    cases::run::<Gitea>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
}

#[test]
fn the_body_of_the_token_endpoint_stays_closed() {
    let token =
        Exchange::get("https://git.example/v2/token").basic("alice", "pat").reply(200, r#"{"token":"T"}"#);
    let body = host().challenge(BEARER).basic("alice", "pat").exchange(token).run(|| {
        let credential = invocation::credential("registry").expect("the host has one");
        let password = credential.secret("password").expect("it is basic");
        let answer =
            Request::get("https://git.example/v2/token").basic("alice", password).send().expect("granted");
        assert_eq!(answer.json_scalar("/token"), None);
        answer.body().expect_err("sealed")
    });
    assert_eq!(body.code, "sealed");
}

#[test]
fn releases() {
    for (version, expected) in [
        ("1.26.4", Some((1, 26))),
        ("v1.27.0+dev-3", Some((1, 27))),
        ("9.0.1+gitea-1.22.0", Some((1, 22))),
        ("x", None),
    ] {
        assert_eq!(identity::release(version), expected, "{version}");
    }
}

#[test]
fn old_servers_are_warned_about() {
    for (product, version, warned) in [
        ("gitea", "1.26.1", true),
        ("gitea", "1.26.2", false),
        ("gitea", "1.27.0", false),
        ("forgejo", "9.0.1+gitea-1.22.0", false),
    ] {
        let warning = host().setting("product", product).setting("version", version).run(login::leak_warning);
        assert_eq!(warning.is_some(), warned, "{product} {version}");
    }
}

#[test]
fn a_page_of_tags_ends_at_an_empty_one() {
    let first = "https://git.example/v2/alice/app/tags/list?n=2";
    let next = "https://git.example/v2/alice/app/tags/list?last=v2&n=2";
    let page = |cursor: Option<String>, exchange: Exchange| {
        host()
            .exchange(exchange)
            .run(|| <Gitea as Artifacts>::list_page("alice/app".to_owned(), Vec::new(), 2, cursor))
    };
    let link = r#"</v2/alice/app/tags/list?last=v2&n=2>; rel="next""#;
    let full = Exchange::get(first)
        .reply(200, r#"{"name":"alice/app","tags":["v1","v2"]}"#)
        .reply_header("link", link);
    let one = page(None, full).expect("answered");
    assert_eq!(one.items.len(), 2);
    assert_eq!(one.next.as_deref(), Some("/v2/alice/app/tags/list?last=v2&n=2"));
    // The server sends the same link with the empty page, and would for ever.
    let empty =
        Exchange::get(next).reply(200, r#"{"name":"alice/app","tags":[]}"#).reply_header("link", link);
    let two = page(one.next, empty).expect("answered");
    assert_eq!((two.items.len(), two.next), (0, None));
}

#[test]
fn a_cursor_of_somebody_else_is_refused() {
    let error =
        host().run(|| packages::list_page(&Vec::new(), 10, Some("https://evil/"))).expect_err("no cursor");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Invalid, "cursor"));
}
