//! The net itself: the binary and its providers go through the proxy, to names that exist nowhere else.

use idp_test_support::faults::{Auth, Registry};
use idp_test_support::net::{Net, Request};
use idp_test_support::products::base;

/// A registry whose token service is a name of its own.
#[test]
fn providers_reach_token_services_through_the_proxy() {
    let net = Net::start();
    let mut registry = Registry::with_auth(Auth::Bearer);
    net.site(&["registry.example", "auth.example"], move |request: &Request| {
        let base = "https://auth.example";
        let request = Request { target: request.target.replace("/v2/token", "/token"), ..request.clone() };
        registry.serve(base, &request.method, &request.target, &request.headers, &request.body)
    });
    let sandbox = super::sandbox(&net);
    let login = ["login", "registry.example", "--username", "user", "--password-stdin"];
    let _ = sandbox.idp_with_stdin(login, b"right\n").exits(0);
    let pushed = sandbox.idp(["push", "./app", "registry.example/team/app:1"]).exits(0);
    assert!(pushed.stdout.starts_with("registry.example/team/app@sha256:"), "{pushed}");
    assert!(net.count("GET", "auth.example", "/token") >= 1, "{:#?}", net.log());
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn a_name_that_no_site_has_is_not_there() {
    let net = Net::start();
    let mut sandbox = super::sandbox(&net);
    sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    let _ = sandbox.idp(["pull", "nowhere.example/team/app:1", "./x"]).exits(4);
    assert_eq!(net.strangers().first().map(String::as_str), Some("nowhere.example"));
}

#[test]
fn routes() {
    for (path, expect) in [
        ("/v2/", Some(("", base::Verb::Base))),
        ("/v2/a/b/manifests/1", Some(("a/b", base::Verb::Manifest("1".to_owned())))),
        ("/v2/a/blobs/uploads/x", Some(("a", base::Verb::Upload))),
        ("/v2/a/blobs/sha256:1", Some(("a", base::Verb::Blob("sha256:1".to_owned())))),
        ("/api", None),
    ] {
        let expect = expect.map(|(name, verb)| (name.to_owned(), verb));
        assert_eq!(base::route(path), expect, "{path}");
    }
}
