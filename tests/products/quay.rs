//! Quay: the token endpoint's three verbs and its side effect, robots and OAuth tokens, an organisation that is not there.

use std::sync::{Arc, Mutex, PoisonError};

use idp_test_support::net::Net;
use idp_test_support::products::{base, quay::Quay};
use idp_test_support::sandbox::Sandbox;

/// quay.io in a net, and a home that is logged in as `user`.
fn quay(user: &str, password: &str) -> (Net, Arc<Mutex<Quay>>, Sandbox) {
    let net = Net::start();
    let site = net.site(&["quay.io"], Quay::new());
    let sandbox = super::sandbox(&net);
    let login = ["login", "quay.io", "--username", user, "--password-stdin"];
    let _ = sandbox.idp_with_stdin(login, password.as_bytes()).exits(0);
    (net, site, sandbox)
}

fn change<T>(site: &Mutex<Quay>, with: impl FnOnce(&mut Quay) -> T) -> T {
    with(&mut site.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn a_robot_pushes_lists_and_pulls() {
    let (net, site, sandbox) = quay("org+ci", "robot-token");
    let pushed = sandbox.idp(["push", "./app", "quay.io/org/app:1"]).exits(0);
    assert!(pushed.stdout.starts_with("quay.io/org/app@sha256:"), "{pushed}");
    // It came into being by the token request, private.
    assert_eq!(change(&site, |quay| quay.repositories.get("org/app").copied()), Some(false));
    let tags = sandbox.idp(["list", "quay.io/org/app"]).exits(0);
    assert!(tags.stdout.contains('1'), "{tags}");
    let catalog = sandbox.idp(["list", "quay.io"]).exits(0);
    assert!(catalog.stdout.contains("org/app"), "{catalog}");
    let _ = sandbox.idp(["pull", "quay.io/org/app:1", "./again"]).exits(0);
    assert_eq!(net.count("GET", "quay.io", "delete"), 0, "{:#?}", net.log());
}

#[test]
fn what_may_not_be_pushed_is_told_apart() {
    let (_net, site, sandbox) = quay("org+ci", "robot-token");
    let push = |to: &str| sandbox.idp(["push", "./app", to]);
    let missing = push("quay.io/nowhere/app:1").exits(2);
    assert!(missing.stderr.contains("neither an organisation nor a user `nowhere`"), "{missing}");
    assert!(missing.stderr.contains("--create"), "{missing}");
    change(&site, |quay| quay.organisations.insert("acme".to_owned()));
    let foreign = push("quay.io/acme/app:1").exits(3);
    assert!(foreign.stderr.contains("`org+ci`"), "{foreign}");
    let alone = push("quay.io/app:1").exits(1);
    assert!(alone.stderr.contains("names no organisation"), "{alone}");
    change(&site, |quay| quay.habits.over_quota = true);
    let quota = push("quay.io/org/app:1").exits(1);
    assert!(quota.stderr.contains("quota of `org`"), "{quota}");
    change(&site, |quay| quay.habits.over_quota = false);
    change(&site, |quay| quay.habits.immutable.insert("1".to_owned()));
    let locked = push("quay.io/org/app:1").exits(1);
    assert!(locked.stderr.contains("immutable"), "{locked}");
    change(&site, |quay| quay.habits.read_only = true);
    let read_only = push("quay.io/org/app:2").exits(3);
    assert!(read_only.stderr.contains("read-only mode"), "{read_only}");
}

#[test]
fn a_wrong_login_says_what_this_kind_of_account_needs() {
    let net = Net::start();
    net.site(&["quay.io"], Quay::new());
    let sandbox = super::sandbox(&net);
    for (user, told) in [("org+ci", "a robot's password is its token"), ("someone", "encrypted one")] {
        let login = ["login", "quay.io", "--username", user, "--password-stdin"];
        let refused = sandbox.idp_with_stdin(login, b"wrong").exits(3);
        assert!(refused.stderr.contains(told), "{refused}");
    }
}

#[test]
fn anybody_pulls_what_is_public() {
    let net = Net::start();
    let site = net.site(&["quay.io"], Quay::new());
    change(&site, |quay| {
        quay.repositories.insert("org/open".to_owned(), true);
        base::image(&mut quay.registry, "org/open", "1", "hello");
    });
    let sandbox = super::sandbox(&net);
    let _ = sandbox.idp(["pull", "quay.io/org/open:1", "oci:./open"]).exits(0);
    let tags = sandbox.idp(["list", "quay.io/org/open", "--output", "json"]).exits(0);
    assert!(tags.stdout.contains("2026-11-21T09:00:00Z"), "{tags}");
}

#[test]
fn it_is_recognised_under_another_name() {
    let net = Net::start();
    net.site(&["registry.corp.example"], Quay { host: "registry.corp.example".to_owned(), ..Quay::new() });
    let detected = super::sandbox(&net).idp(["registry", "detect", "registry.corp.example"]).exits(0);
    assert!(detected.stdout.contains("quay"), "{detected}");
}
