//! ghcr.io and GitHub's API, under their names.

use std::sync::{Arc, Mutex, PoisonError};

use idp_test_support::net::Net;
use idp_test_support::products::ghcr::{Ghcr, Package};
use idp_test_support::sandbox::Sandbox;

type Site = Arc<Mutex<Ghcr>>;

fn start() -> (Net, Site) {
    let net = Net::start();
    let site = net.site(&["ghcr.io", "api.github.com"], Ghcr::default());
    (net, site)
}

fn with<T>(site: &Site, change: impl FnOnce(&mut Ghcr) -> T) -> T {
    change(&mut site.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A home that is logged in with a token.
fn home(net: &Net, token: &str) -> Sandbox {
    let mut sandbox = super::sandbox(net);
    sandbox.set_env("IDPBUILDER_REGISTRY_USERNAME", "alice");
    sandbox.set_env("IDPBUILDER_REGISTRY_PASSWORD", token);
    sandbox.set_env("IDPBUILDER_REGISTRY_URL", "ghcr.io");
    sandbox
}

fn names(list: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(list).expect("JSON");
    let entries = list["entries"].as_array().expect("entries");
    let mut names: Vec<_> =
        entries.iter().map(|entry| entry["name"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn login_push_pull_list() {
    let (net, site) = start();
    let sandbox = super::sandbox(&net);
    let login = ["login", "ghcr.io", "--username", "whoever", "--password-stdin"];
    let login = sandbox.idp_with_stdin(login, b"ghp_all\n").exits(0);
    // The user name is anybody's; the API knows whose the token is.
    assert!(login.stdout.contains("as alice"), "{login}");
    assert!(!login.stderr.contains("scope"), "{login}");
    let pushed = sandbox.idp(["push", "./app", "ghcr.io/acme/app:1"]).exits(0);
    assert!(pushed.stdout.starts_with("ghcr.io/acme/app@sha256:"), "{pushed}");
    let _ = sandbox.idp(["pull", "ghcr.io/acme/app:1", "./out"]).exits(0);
    let tags = sandbox.idp(["list", "ghcr.io/acme/app", "--output", "json"]).exits(0);
    assert_eq!(names(&tags.stdout), ["1"], "{tags}");
    let list: serde_json::Value = serde_json::from_str(&tags.stdout).expect("JSON");
    assert!(
        list["entries"][0]["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")),
        "{tags}"
    );
    with(&site, |site| {
        site.image("alice/tool", "x", "x");
    });
    let own = sandbox.idp(["list", "ghcr.io", "--output", "json"]).exits(0);
    assert_eq!(names(&own.stdout), ["alice/tool"], "{own}");
    assert!(!with(&site, |site| site.placeholder_asked), "{:#?}", net.log());
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn a_new_package_is_private_and_a_public_one_needs_no_login() {
    let (net, site) = start();
    let _ = home(&net, "ghp_write").idp(["push", "./app", "ghcr.io/acme/app:1"]).exits(0);
    let anonymous = super::sandbox(&net);
    let refused = anonymous.idp(["pull", "ghcr.io/acme/app:1", "./out"]).exits(3);
    assert!(refused.stderr.contains("private") && refused.stderr.contains("idp login ghcr.io"), "{refused}");
    with(&site, |site| {
        site.packages.insert("acme/app".to_owned(), Package { public: true, ..Package::default() })
    });
    let _ = anonymous.idp(["pull", "ghcr.io/acme/app:1", "./out"]).exits(0);
    // Its tags too: by the registry, as the API shows them to nobody.
    let tags = anonymous.idp(["list", "ghcr.io/acme/app", "--output", "json"]).exits(0);
    assert_eq!(names(&tags.stdout), ["1"]);
    let own = anonymous.idp(["list", "ghcr.io"]).exits(3);
    assert!(own.stderr.contains("read:packages"), "{own}");
}

#[test]
fn credentials_that_do_not_do() {
    let (net, site) = start();
    let login = ["login", "ghcr.io", "--username", "alice", "--password-stdin"];
    for (token, code, said) in [
        ("wrong", 3, "personal access token (classic)"),
        ("github_pat_fine", 3, "fine-grained tokens do not work"),
        // These are known, and what they cannot do is said before it fails.
        ("ghp_read", 0, "can pull and not push"),
        ("ghp_none", 0, "no scope for packages"),
    ] {
        let sandbox = super::sandbox(&net);
        let output = sandbox.idp_with_stdin(login, format!("{token}\n").as_bytes()).exits(code);
        assert!(output.stderr.contains(said), "{token}: {output}");
    }
    let refused = home(&net, "ghp_read").idp(["push", "./app", "ghcr.io/acme/app:1"]).exits(3);
    assert!(refused.stderr.contains("write:packages"), "{refused}");
    let refused = home(&net, "ghp_write").idp(["push", "./app", "ghcr.io/bob/app:1"]).exits(3);
    assert!(refused.stderr.contains("No write access to bob/app"), "{refused}");
    with(&site, |site| site.sso.insert("acme"));
    let refused = home(&net, "ghp_write").idp(["push", "./app", "ghcr.io/acme/app:1"]).exits(3);
    assert!(refused.stderr.contains("Configure SSO"), "{refused}");
    assert!(refused.stderr.lines().all(|line| !line.contains("ghp_write")), "{refused}");
}

#[test]
fn workflows() {
    let (net, site) = start();
    let workflow = || home(&net, "ghs_workflow");
    let _ = workflow().idp(["push", "./app", "ghcr.io/acme/own:1"]).exits(0);
    let _ = workflow().idp(["push", "./app", "ghcr.io/acme/own:2"]).exits(0);
    // A person's first push locks workflows out.
    let _ = home(&net, "ghp_write").idp(["push", "./app", "ghcr.io/acme/app:1"]).exits(0);
    let refused = workflow().idp(["push", "./app", "ghcr.io/acme/app:2"]).exits(3);
    assert!(refused.stderr.contains("Manage Actions access"), "{refused}");
    with(&site, |site| site.no_creation.insert("acme"));
    let refused = workflow().idp(["push", "./app", "ghcr.io/acme/new:1"]).exits(3);
    assert!(refused.stderr.contains("may not create a package of `acme`"), "{refused}");
    // Its token has no packages of its own.
    let refused = workflow().idp(["list", "ghcr.io"]).exits(3);
    assert!(refused.stderr.contains("--namespace"), "{refused}");
}

#[test]
fn the_api_is_read_page_by_page() {
    let (net, site) = start();
    with(&site, |site| {
        site.page = 2;
        for tag in ["1", "2", "3", "4", "5"] {
            site.image("acme/app", tag, tag);
        }
        for name in ["alice/a", "alice/b", "alice/c"] {
            site.image(name, "1", "x");
        }
    });
    let sandbox = home(&net, "ghp_read");
    let tags = sandbox.idp(["list", "ghcr.io/acme/app", "--output", "json"]).exits(0);
    assert_eq!(names(&tags.stdout), ["1", "2", "3", "4", "5"]);
    // Links name the organisation by its number.
    assert_eq!(net.count("GET", "api.github.com", "/organizations/9919/"), 2, "{:#?}", net.log());
    let own = sandbox.idp(["list", "ghcr.io", "--output", "json"]).exits(0);
    assert_eq!(names(&own.stdout), ["alice/a", "alice/b", "alice/c"]);
}

#[test]
fn deletion_takes_nothing_along() {
    let (net, site) = start();
    with(&site, |site| {
        let digest = site.image("acme/app", "1", "x");
        site.content.tags.insert(("acme/app".to_owned(), "latest".to_owned()), digest);
        site.image("acme/app", "2", "y");
    });
    let sandbox = home(&net, "ghp_all");
    let siblings = sandbox.idp(["delete", "ghcr.io/acme/app:1"]).exits(1);
    assert!(siblings.stderr.contains("latest") && siblings.stderr.contains("--allow-siblings"), "{siblings}");
    let rehearsed = sandbox.idp(["delete", "ghcr.io/acme/app:2", "--dry-run"]).exits(0);
    assert!(rehearsed.stdout.contains("ghcr.io/acme/app:2"), "{rehearsed}");
    assert_eq!(net.count("DELETE", "api.github.com", ""), 0, "{:#?}", net.log());
    // Neither is anything pushed to make room.
    assert_eq!(net.count("PUT", "ghcr.io", ""), 0, "{:#?}", net.log());
    let no_scope = home(&net, "ghp_write").idp(["delete", "ghcr.io/acme/app:2"]).exits(3);
    assert!(no_scope.stderr.contains("delete:packages"), "{no_scope}");
    let gone = sandbox.idp(["delete", "ghcr.io/acme/app:2"]).exits(0);
    assert!(gone.stdout.contains("ghcr.io/acme/app:2"), "{gone}");
    let missing = sandbox.idp(["delete", "ghcr.io/acme/app:2"]).exits(2);
    assert!(missing.stderr.contains("`2`"), "{missing}");
    // The last tagged version stays, as does what is pulled a lot.
    let last = sandbox.idp(["delete", "ghcr.io/acme/app:1", "--allow-siblings"]).exits(1);
    assert!(last.stderr.contains("idp delete --repository"), "{last}");
    with(&site, |site| {
        site.image("acme/app", "3", "z");
        site.packages
            .insert("acme/app".to_owned(), Package { public: true, downloads: 6000, ..Package::default() });
    });
    let popular = sandbox.idp(["delete", "ghcr.io/acme/app:3"]).exits(3);
    assert!(popular.stderr.contains("5000"), "{popular}");
    // The registry's own API deletes nothing, and is not asked to.
    assert_eq!(net.count("DELETE", "ghcr.io", ""), 0, "{:#?}", net.log());
    let _ = sandbox.idp(["delete", "ghcr.io/acme/app", "--repository", "--yes"]).exits(0);
    let _ = sandbox.idp(["list", "ghcr.io/acme/app"]).exits(2);
}

#[test]
fn owners_and_terms() {
    let (net, site) = start();
    with(&site, |site| {
        for name in ["acme/web", "acme/api", "alice/web"] {
            site.image(name, "1", "x");
        }
    });
    let sandbox = home(&net, "ghp_read");
    let list = sandbox.idp(["list", "ghcr.io", "--namespace", "Acme", "--output", "json"]).exits(0);
    assert_eq!(names(&list.stdout), ["acme/api", "acme/web"], "{list}");
    let list = sandbox.idp(["list", "ghcr.io", "--namespace", "alice", "--output", "json"]).exits(0);
    assert_eq!(names(&list.stdout), ["alice/web"], "{list}");
    let nobody = sandbox.idp(["list", "ghcr.io", "--namespace", "nobody"]).exits(2);
    assert!(nobody.stderr.contains("`nobody`"), "{nobody}");
    let found = sandbox.idp(["search", "web", "-r", "ghcr.io"]).exits(0);
    assert!(found.stdout.contains("alice/web") && !found.stdout.contains("api"), "{found}");
}

#[test]
fn what_the_registry_says_about_uploads_names_and_the_api() {
    let (net, site) = start();
    with(&site, |site| site.slow = true);
    let mut sandbox = home(&net, "ghp_write");
    sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    let slow = sandbox.idp(["push", "./app", "ghcr.io/acme/app:1"]).exits(4);
    assert!(slow.stderr.contains("10 minutes"), "{slow}");
    with(&site, |site| {
        site.slow = false;
        site.rate_limited = true;
    });
    let limited = sandbox.idp(["list", "ghcr.io"]).exits(4);
    assert!(limited.stderr.contains("rate limit"), "{limited}");
    let no_owner = sandbox.idp(["push", "./app", "ghcr.io/app:1"]).exits(1);
    assert!(no_owner.stderr.contains("OWNER/app"), "{no_owner}");
    // A big layer goes up in one piece: no PATCH at all.
    with(&site, |site| site.rate_limited = false);
    sandbox.write("work/app/big", &"0123456789abcdef".repeat(400_000));
    let _ = sandbox.idp(["push", "./app", "ghcr.io/acme/app:big"]).exits(0);
    assert_eq!(net.count("PATCH", "ghcr.io", ""), 0, "{:#?}", net.log());
}

#[test]
fn an_enterprise_server_is_told_by_its_answer() {
    let net = Net::start();
    let enterprise = Ghcr::at("containers.github.example", "https://github.example/api/v3");
    let site = net.site(&["containers.github.example", "github.example"], enterprise);
    with(&site, |site| {
        site.image("alice/tool", "1", "x");
    });
    let mut sandbox = home(&net, "ghp_all");
    sandbox.set_env("IDPBUILDER_REGISTRY_URL", "containers.github.example");
    let why = sandbox.idp(["provider", "why", "containers.github.example"]).exits(0);
    assert!(why.stdout.contains("ghcr"), "{why}");
    let _ = sandbox.idp(["push", "./app", "containers.github.example/acme/app:1"]).exits(0);
    let unknown = sandbox.idp(["list", "containers.github.example"]).exits(1);
    assert!(unknown.stderr.contains("https://github.example/api/v3"), "{unknown}");
    sandbox.write_private(
        "home/.idpbuilder/registries.yaml",
        "registries:\n  containers.github.example:\n    settings:\n      api: https://github.example/api/v3\n",
    );
    let own = sandbox.idp(["list", "containers.github.example", "--output", "json"]).exits(0);
    assert_eq!(names(&own.stdout), ["alice/tool"], "{own}");
    // Nothing of it goes to github.com.
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}
