//! GitLab and its registry, under their names.

use std::sync::{Arc, Mutex, PoisonError};

use idp_test_support::net::Net;
use idp_test_support::products::gitlab::{Gitlab, Project};
use idp_test_support::sandbox::Sandbox;

const REGISTRY: &str = "registry.gitlab.com";

type Site = Arc<Mutex<Gitlab>>;

fn start() -> (Net, Site) {
    let net = Net::start();
    let site = net.site(&[REGISTRY, "gitlab.com"], Gitlab::default());
    (net, site)
}

fn with<T>(site: &Site, change: impl FnOnce(&mut Gitlab) -> T) -> T {
    change(&mut site.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A home with credentials.
fn home(net: &Net, user: &str, token: &str) -> Sandbox {
    let mut sandbox = super::sandbox(net);
    sandbox.set_env("IDPBUILDER_REGISTRY_USERNAME", user);
    sandbox.set_env("IDPBUILDER_REGISTRY_PASSWORD", token);
    sandbox.set_env("IDPBUILDER_REGISTRY_URL", REGISTRY);
    sandbox
}

fn entries(list: &str) -> Vec<serde_json::Value> {
    let list: serde_json::Value = serde_json::from_str(list).expect("JSON");
    list["entries"].as_array().expect("entries").clone()
}

fn names(list: &str) -> Vec<String> {
    let mut names: Vec<_> =
        entries(list).iter().map(|entry| entry["name"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn login_push_pull_list() {
    let (net, _site) = start();
    let sandbox = super::sandbox(&net);
    let login = ["login", REGISTRY, "--username", "whoever", "--password-stdin"];
    let login = sandbox.idp_with_stdin(login, b"glpat-all\n").exits(0);
    assert!(login.stdout.contains("as alice"), "{login}");
    let pushed = sandbox.idp(["push", "./app", "registry.gitlab.com/g/p/app:1"]).exits(0);
    assert!(pushed.stdout.starts_with("registry.gitlab.com/g/p/app@sha256:"), "{pushed}");
    let _ = sandbox.idp(["pull", "registry.gitlab.com/g/p/app:1", "./out"]).exits(0);
    let tags = sandbox.idp(["list", "registry.gitlab.com/g/p/app", "--output", "json"]).exits(0);
    let tag = entries(&tags.stdout).remove(0);
    assert_eq!((tag["name"].as_str(), tag["size"].as_u64()), (Some("1"), Some(286)), "{tags}");
    assert!(tag["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{tags}");
    // What is listed has to be named: the catalogue is for administrators.
    let nowhere = sandbox.idp(["list", REGISTRY]).exits(1);
    assert!(nowhere.stderr.contains("--namespace GROUP"), "{nowhere}");
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn jobs_know_their_project_and_push_to_no_other() {
    let (net, site) = start();
    let mut sandbox = home(&net, "gitlab-ci-token", "job-1");
    sandbox.set_env("CI_PROJECT_PATH", "g/p");
    sandbox.set_env("CI_REGISTRY", REGISTRY);
    with(&site, |site| site.image("g/other/app", "1", "x"));
    let _ = sandbox.idp(["push", "./app", "registry.gitlab.com/g/p:1"]).exits(0);
    let list = sandbox.idp(["list", REGISTRY, "--output", "json"]).exits(0);
    assert_eq!(names(&list.stdout), ["g/p"], "{list}");
    let refused = sandbox.idp(["push", "./app", "registry.gitlab.com/g/other/app:1"]).exits(3);
    assert!(refused.stderr.contains("its own project only"), "{refused}");
}

#[test]
fn tokens_that_do_not_do() {
    let (net, site) = start();
    let login = ["login", REGISTRY, "--username", "alice", "--password-stdin"];
    for (token, code, said) in [
        ("wrong", 3, "read_registry or write_registry"),
        ("glpat-none", 3, "access forbidden"),
        ("glpat-read", 0, "can pull and not push"),
        ("hunter2hunter2", 0, ""),
    ] {
        let output = super::sandbox(&net).idp_with_stdin(login, format!("{token}\n").as_bytes()).exits(code);
        assert!(output.stderr.contains(said), "{token}: {output}");
        assert!(!output.stderr.contains(token) || token == "wrong", "{output}");
    }
    // A token is given, and lacks the right: 401 of the registry.
    for (token, place) in [("glpat-read", "g/p/app"), ("glpat-push", "g/nothing/app")] {
        let output =
            home(&net, "alice", token).idp(["push", "./app", &format!("{REGISTRY}/{place}:1")]).exits(3);
        assert!(
            output.stderr.contains("registry switched on") && output.stderr.contains("write_registry"),
            "{output}"
        );
    }
    with(&site, |site| site.projects.insert("g/off", Project { disabled: true, ..Project::default() }));
    let _ = home(&net, "alice", "glpat-push").idp(["push", "./app", "registry.gitlab.com/g/off:1"]).exits(3);
    with(&site, |site| site.off = true);
    let off = home(&net, "alice", "glpat-push").idp(["push", "./app", "registry.gitlab.com/g/p:1"]).exits(1);
    assert!(off.stderr.contains("registry not enabled"), "{off}");
}

#[test]
fn the_public_pulls_public_projects() {
    let (net, site) = start();
    with(&site, |site| site.image("g/p/app", "1", "x"));
    let anonymous = super::sandbox(&net);
    let refused = anonymous.idp(["pull", "registry.gitlab.com/g/p/app:1", "./a"]).exits(3);
    assert!(refused.stderr.contains("idp login registry.gitlab.com"), "{refused}");
    with(&site, |site| site.projects.insert("g/p", Project { public: true, ..Project::default() }));
    let _ = anonymous.idp(["list", "registry.gitlab.com/g/p/app"]).exits(0);
}

#[test]
fn tags_with_and_without_a_database() {
    let (net, site) = start();
    with(&site, |site| {
        for number in 10..55 {
            site.image("g/p/app", &format!("v{number}"), &number.to_string());
        }
        site.page = 10;
    });
    let all: Vec<String> = (10..55).map(|number| format!("v{number}")).collect();
    let list = |user: &str, token: &str| {
        net.forget();
        let output =
            home(&net, user, token).idp(["list", "registry.gitlab.com/g/p/app", "--output", "json"]).exits(0);
        assert_eq!(names(&output.stdout), all, "{output}");
        entries(&output.stdout).iter().filter(|entry| entry["digest"].is_string()).count()
    };
    // The registry tells all of it, to deploy tokens too, and GitLab's API is not asked.
    assert_eq!(list("gitlab+deploy-token-7", "gldt-1"), 45);
    assert_eq!(net.count("*", "gitlab.com", "/api/"), 0);
    with(&site, |site| site.database = false);
    // One page of details, whatever there is besides.
    assert_eq!(list("alice", "glpat-read"), 10);
    assert_eq!(net.count("GET", "gitlab.com", "/tags/v"), 10, "{:#?}", net.log());
    with(&site, |site| site.page = 100);
    assert_eq!(list("alice", "glpat-read"), 20);
    assert_eq!(net.count("GET", "gitlab.com", "/tags?"), 2, "{:#?}", net.log());
    // The API does not know them.
    assert_eq!(list("gitlab+deploy-token-7", "gldt-1"), 0);
}

#[test]
fn projects_and_groups_are_listed() {
    let (net, site) = start();
    with(&site, |site| {
        for name in ["g/p", "g/p/app", "g/s/deep/x", "g/other/y"] {
            site.image(name, "1", "x");
        }
        site.page = 2;
    });
    let list = |namespace: &str| {
        let sandbox = home(&net, "alice", "glpat-read");
        sandbox.idp(["list", REGISTRY, "--namespace", namespace, "--output", "json"])
    };
    assert_eq!(names(&list("g/p").exits(0).stdout), ["g/p", "g/p/app"]);
    assert_eq!(names(&list("g").exits(0).stdout), ["g/other/y", "g/p", "g/p/app", "g/s/deep/x"]);
    assert_eq!(names(&list("g/s").exits(0).stdout), ["g/s/deep/x"]);
    let unknown = list("h").exits(2);
    assert!(unknown.stderr.contains("neither a project nor a group"), "{unknown}");
    let deploy =
        home(&net, "gitlab+deploy-token-7", "gldt-1").idp(["list", REGISTRY, "--namespace", "g"]).exits(3);
    assert!(deploy.stderr.contains("deploy tokens"), "{deploy}");
    let scope = home(&net, "alice", "glpat-push").idp(["list", REGISTRY, "--namespace", "g"]).exits(3);
    assert!(scope.stderr.contains("read_api"), "{scope}");
    let password = home(&net, "alice", "hunter2hunter2").idp(["list", REGISTRY, "--namespace", "g"]).exits(3);
    assert!(password.stderr.contains("no passwords"), "{password}");
    let mut slots = home(&net, "gitlab+deploy-token-7", "gldt-1");
    slots.set_env("OTHER_TOKEN", "glpat-read");
    slots.write_private(
        "home/.idpbuilder/registries.yaml",
        "registries:\n  registry.gitlab.com:\n    slots:\n      management:\n        tokenEnv: OTHER_TOKEN\n",
    );
    let _ = slots.idp(["list", REGISTRY, "--namespace", "g"]).exits(0);
}

#[test]
fn deletion() {
    let (net, site) = start();
    with(&site, |site| {
        for tag in ["1", "2", "3", "keep"] {
            site.image("g/p/app", tag, tag);
        }
        let digest = site.image("g/p/app", "same", "same");
        site.content.tags.insert(("g/p/app".to_owned(), "same2".to_owned()), digest);
        site.projects.insert("g/p", Project { protected: ["keep"].into(), ..Project::default() });
    });
    let app = "registry.gitlab.com/g/p/app";
    let sandbox = home(&net, "alice", "glpat-all");
    let _ = sandbox.idp(["delete", &format!("{app}:1")]).exits(0);
    let protected = sandbox.idp(["delete", &format!("{app}:keep")]).exits(3);
    assert!(protected.stderr.contains("protection rule"), "{protected}");
    // One of two tags goes alone, their digest does not.
    let _ = sandbox.idp(["delete", &format!("{app}:same")]).exits(0);
    let digest = with(&site, |site| site.content.tags[&("g/p/app".to_owned(), "same2".to_owned())].clone());
    let siblings = sandbox.idp(["delete", &format!("{app}@{digest}")]).exits(1);
    assert!(siblings.stderr.contains("same2"), "{siblings}");
    let _ = sandbox.idp(["delete", &format!("{app}@{digest}"), "--allow-siblings"]).exits(0);
    // The token service gives no right to delete; the API takes the same token.
    with(&site, |site| site.no_delete = true);
    let _ = sandbox.idp(["delete", &format!("{app}:2")]).exits(0);
    assert_eq!(net.count("DELETE", "gitlab.com", "/tags/2"), 1, "{:#?}", net.log());
    let deploy = home(&net, "gitlab+deploy-token-7", "gldt-1");
    let refused = deploy.idp(["delete", &format!("{app}:3")]).exits(3);
    assert!(refused.stderr.contains("role"), "{refused}");
    let refused = deploy.idp(["delete", app, "--repository", "--yes"]).exits(3);
    assert!(refused.stderr.contains("deploy tokens"), "{refused}");
    let rehearsed = sandbox.idp(["delete", app, "--repository", "--dry-run"]).exits(0);
    assert!(rehearsed.stdout.contains(app) && with(&site, |site| site.scheduled.is_empty()), "{rehearsed}");
    let later = sandbox.idp(["delete", app, "--repository", "--yes"]).exits(0);
    assert!(later.stderr.contains("background"), "{later}");
    assert!(with(&site, |site| site.scheduled.contains("g/p/app")));
}

#[test]
fn a_token_that_ends_is_replaced() {
    let (net, site) = start();
    with(&site, |site| site.token_uses = Some(3));
    let _ = home(&net, "alice", "glpat-push").idp(["push", "./app", "registry.gitlab.com/g/p:1"]).exits(0);
    let tokens = net.count("GET", "gitlab.com", "/jwt/auth");
    assert!(tokens >= 2, "{:#?}", net.log());
    // Nothing but what is needed was asked for.
    let asked = with(&site, |site| site.asked.clone());
    assert!(asked.iter().all(|scope| scope.starts_with("repository:g/p:")), "{asked:?}");
}

#[test]
fn read_only_for_a_while() {
    let (net, site) = start();
    with(&site, |site| site.read_only = true);
    let refused =
        home(&net, "alice", "glpat-push").idp(["push", "./app", "registry.gitlab.com/g/p:1"]).exits(3);
    assert!(refused.stderr.contains("read-only at the moment"), "{refused}");
    let no_project =
        home(&net, "alice", "glpat-push").idp(["push", "./app", "registry.gitlab.com/app:1"]).exits(1);
    assert!(no_project.stderr.contains("GROUP/PROJECT"), "{no_project}");
}

#[test]
fn ones_own_is_told_by_its_realm() {
    let net = Net::start();
    let own = Gitlab::at("registry.example:5050", "https://git.example/sub");
    let site = net.site(&["registry.example:5050", "git.example"], own);
    let mut sandbox = home(&net, "alice", "glpat-all");
    sandbox.set_env("IDPBUILDER_REGISTRY_URL", "registry.example:5050");
    let why = sandbox.idp(["provider", "why", "registry.example:5050"]).exits(0);
    assert!(why.stdout.contains("gitlab"), "{why}");
    let _ = sandbox.idp(["push", "./app", "registry.example:5050/g/p/app:1"]).exits(0);
    with(&site, |site| site.database = false);
    // GitLab under a path: its API has to be named, and the registry lists meanwhile.
    let list = sandbox.idp(["list", "registry.example:5050/g/p/app", "--output", "json"]).exits(0);
    assert!(entries(&list.stdout)[0]["digest"].is_null(), "{list}");
    sandbox.write_private(
        "home/.idpbuilder/registries.yaml",
        "registries:\n  registry.example:5050:\n    settings:\n      api: https://git.example/sub/api/v4\n      project: g/p\n",
    );
    let list = sandbox.idp(["list", "registry.example:5050/g/p/app", "--output", "json"]).exits(0);
    assert!(entries(&list.stdout)[0]["digest"].is_string(), "{list}");
    let repositories = sandbox.idp(["list", "registry.example:5050", "--output", "json"]).exits(0);
    assert_eq!(names(&repositories.stdout), ["g/p/app"], "{repositories}");
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}
