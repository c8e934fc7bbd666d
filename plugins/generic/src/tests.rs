//! The provider against a scripted registry.

use idp_provider_sdk::testing::{Exchange, Host, cases};

use super::*;

fn host() -> Host {
    Host::new("r:5000").manifest(Generic::MANIFEST)
}

#[test]
fn recorded_conversations() {
    cases::run::<Generic>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
}

#[test]
fn the_next_page_does_not_ask_for_a_token_again() {
    let challenge = r#"Bearer realm="https://auth.r/token",service="s""#;
    let token = "https://auth.r/token?service=s&scope=repository%3Aa%2Fb%3Apull&client_id=idp";
    let list = Exchange::get("https://r:5000/v2/a/b/tags/list?n=1");
    let next = Exchange::get("https://r:5000/v2/a/b/tags/list?last=1&n=1");
    let link = r#"<?last=1&n=1>; rel="next""#;
    let host = host()
        .exchange(list.clone().reply(401, "").reply_header("www-authenticate", challenge))
        .exchange(Exchange::get(token).reply(200, r#"{"token":"T"}"#))
        .exchange(list.bearer("T").reply(200, r#"{"tags":["1"]}"#).reply_header("link", link))
        .exchange(next.bearer("T").reply(200, r#"{"tags":["2"]}"#));
    let names = host.run(|| {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page =
                <Generic as Artifacts>::list_page("a/b".to_owned(), Vec::new(), 1, cursor).expect("answered");
            names.extend(page.items.into_iter().map(|tag| tag.name));
            cursor = page.next;
            if cursor.is_none() {
                return names;
            }
        }
    });
    assert_eq!(names, ["1", "2"]);
}

#[test]
fn a_page_larger_than_distribution_allows_is_not_asked_for() {
    let page = Exchange::get("https://r:5000/v2/_catalog?n=1000").reply(200, r#"{"repositories":[]}"#);
    let page = host().exchange(page).run(|| <Generic as Repositories>::list_page(Vec::new(), 5000, None));
    assert_eq!(page.expect("answered").next, None);
}
