//! The provider against a scripted Hub.

use idp_provider_sdk::testing::{Exchange, Host, cases};

use super::*;

const PAT: &str = "dckr_pat_x";

fn host() -> Host {
    Host::new("registry-1.docker.io").manifest(DockerHub::MANIFEST).basic("me", PAT)
}

#[test]
fn recorded_conversations() {
    cases::run::<DockerHub>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
}

#[test]
fn the_registry_never_gets_the_password() {
    let error = host().run(|| {
        let credential = invocation::credential("registry").expect("the host has one");
        let password = credential.secret("password").expect("it is basic");
        Request::get("https://index.docker.io/v1/search").basic("me", password).send().expect_err("refused")
    });
    assert_eq!(error.code, "audience");
}

#[test]
fn what_the_login_of_the_api_answers_stays_closed() {
    let login = Exchange::new("POST", "https://hub.docker.com/v2/auth/token")
        .body("{}")
        .reply(200, r#"{"access_token":"jwt"}"#);
    let body = host().exchange(login).run(|| {
        let answer =
            Request::post("https://hub.docker.com/v2/auth/token").body("{}").send().expect("granted");
        assert_eq!(answer.json_scalar("/access_token"), None);
        answer.body().expect_err("sealed")
    });
    assert_eq!(body.code, "sealed");
}

#[test]
fn a_password_with_quotes_stays_one_string() {
    let login = Exchange::new("POST", "https://hub.docker.com/v2/auth/token")
        .body(r#"{"identifier":"m\"e","secret":"a\"b\\c"}"#)
        .reply(200, r#"{"access_token":"jwt"}"#);
    let tags = Exchange::get("https://hub.docker.com/v2/namespaces/x").bearer("jwt");
    let host = Host::new("registry-1.docker.io")
        .manifest(DockerHub::MANIFEST)
        .basic("m\"e", "a\"b\\c")
        .exchange(login)
        .exchange(tags);
    let answer = host.run(|| hub::send(|| Request::get(hub::url("/v2/namespaces/x"))));
    assert_eq!(answer.expect("sent").status(), 200);
}

#[test]
fn one_login_serves_all_pages() {
    let first = "https://hub.docker.com/v2/namespaces/me/repositories?page=1&page_size=1&ordering=name";
    let second = "https://hub.docker.com/v2/namespaces/me/repositories?page=2&page_size=1&ordering=name";
    let more =
        r#"{"count":2,"next":"https://hub.docker.com/next","results":[{"name":"a","namespace":"me"}]}"#;
    let login = Exchange::new("POST", "https://hub.docker.com/v2/auth/token")
        .body(r#"{"identifier":"me","secret":"dckr_pat_x"}"#)
        .reply(200, r#"{"access_token":"jwt"}"#);
    let host = host()
        .exchange(login)
        .exchange(Exchange::get(first).bearer("jwt").reply(200, more))
        .exchange(Exchange::get(second).bearer("jwt").reply(200, r#"{"count":2,"next":null,"results":[]}"#));
    let page = |cursor| <DockerHub as Repositories>::list_page(Vec::new(), 1, cursor).expect("answered");
    let (one, two) = host.run(|| {
        let one = page(None);
        let two = page(one.next.clone());
        (one, two)
    });
    assert_eq!((one.items.len(), one.next.as_deref()), (1, Some("2/1")));
    assert_eq!((two.items.len(), two.next), (0, None));
}
