//! `idp registry doctor` at a product that makes things when it is asked: Quay, where a token to push is enough for a repository.

use std::sync::{Mutex, PoisonError};

use idp_test_support::net::Net;
use idp_test_support::products::quay::Quay;
use serde_json::Value;

fn repositories(site: &Mutex<Quay>) -> Vec<String> {
    site.lock().unwrap_or_else(PoisonError::into_inner).repositories.keys().cloned().collect()
}

#[test]
fn nothing_comes_into_being() {
    let net = Net::start();
    let site = net.site(&["quay.io"], Quay::new());
    let sandbox = super::sandbox(&net);
    let login = ["login", "quay.io", "--username", "org+ci", "--password-stdin"];
    let _ = sandbox.idp_with_stdin(login, b"robot-token").exits(0);

    let doctor = ["registry", "doctor", "quay.io/org/new", "--output", "json"];
    for arguments in [&doctor[..], &[&doctor[..], &["--write"]].concat()] {
        let output = sandbox.idp(arguments);
        let found: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output}"));
        let checks = found["checks"].as_array().expect("a list");
        let account = checks.iter().find(|check| check["name"] == "account").expect("an account");
        assert_eq!(account["status"], "ok", "{output}");
        assert_eq!(repositories(&site), Vec::<String>::new(), "{output}\n{:#?}", net.log());
    }

    let _ = sandbox.idp(["push", "./app", "quay.io/org/app:1"]).exits(0);
    assert_eq!(repositories(&site), ["org/app"]);
    let output = sandbox.idp(["registry", "doctor", "quay.io/org/app", "--write"]).exits(0);
    assert!(output.stdout.contains("ok    push"), "{output}");
    assert!(output.stdout.contains("TLS 1.3"), "{output}");
    assert_eq!(repositories(&site), ["org/app"], "{output}");
}
