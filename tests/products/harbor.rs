//! Harbor: a project that must be there, a token service that knows no wrong password, robots, and what is done by API.

use std::sync::{Arc, Mutex, PoisonError};

use idp_test_support::net::Net;
use idp_test_support::products::harbor::{Account, Harbor, Kind, Project};
use idp_test_support::sandbox::Sandbox;

const HOST: &str = "hub.example";

/// Harbor in a net.
fn harbor() -> (Net, Arc<Mutex<Harbor>>) {
    let net = Net::start();
    let site = net.site(&[HOST], Harbor::new());
    (net, site)
}

/// A home whose Docker file has a login, as without a check.
fn home(net: &Net, user: &str, password: &str) -> Sandbox {
    use base64::Engine as _;
    let sandbox = super::sandbox(net);
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let file = format!(r#"{{"auths":{{"{HOST}":{{"auth":"{auth}"}}}}}}"#);
    let _ = sandbox.write_private("home/.docker/config.json", &file);
    sandbox
}

fn change<T>(site: &Mutex<Harbor>, with: impl FnOnce(&mut Harbor) -> T) -> T {
    with(&mut site.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn a_robot_pushes_and_pulls_with_one_token() {
    let (net, _site) = harbor();
    let sandbox = home(&net, "robot$team+ci", "secret");
    let pushed = sandbox.idp(["push", "./app", "hub.example/team/app:1"]).exits(0);
    assert!(pushed.stdout.starts_with("hub.example/team/app@sha256:"), "{pushed}");
    // All rights on the name, whatever was asked for.
    assert_eq!(net.count("GET", HOST, "scope=repository"), 1, "{:#?}", net.log());
    let _ = sandbox.idp(["pull", "hub.example/team/app:1", "./again"]).exits(0);
    // A session cookie was offered with every answer and never sent back.
    assert!(net.requests().iter().all(|seen| seen.request.header("cookie").is_none()));
    // It may pull and not look with the API; tags/list it may.
    let tags = sandbox.idp(["list", "hub.example/team/app"]).exits(0);
    assert!(tags.stdout.contains('1'), "{tags}");
}

#[test]
fn the_first_push_to_a_missing_project_says_the_way_out() {
    let (net, site) = harbor();
    let sandbox = home(&net, "alice", "pw");
    let refused = sandbox.idp(["push", "./app", "hub.example/new/app:1"]).exits(2);
    for told in ["hub.example has no project `new`", "`idp push --create`"] {
        assert!(refused.stderr.contains(told), "{told}: {refused}");
    }
    assert_eq!(net.count("POST", HOST, "/api/v2.0/projects"), 0);
    let plain = home(&net, "alice", "pw");
    change(&site, |it| it.habits.admin_only = true);
    let restricted = plain.idp(["push", "./app", "hub.example/new/app:1"]).exits(2);
    assert!(restricted.stderr.contains("only its administrators"), "{restricted}");
}

#[test]
fn a_project_is_made_when_it_is_asked_for() {
    let (net, site) = harbor();
    let sandbox = home(&net, "alice", "pw");
    let rehearsed = sandbox.idp(["push", "./app", "hub.example/new/app:1", "--create", "--dry-run"]).exits(0);
    assert_eq!(net.count("POST", HOST, "/api/v2.0/projects"), 0, "{rehearsed}");
    assert!(change(&site, |it| !it.projects.contains_key("new")));

    let made = sandbox.idp(["push", "./app", "hub.example/new/app:1", "--create"]).exits(0);
    assert!(made.stderr.contains("Created project new (private) at hub.example"), "{made}");
    assert!(change(&site, |it| !it.projects["new"].public));
    assert_eq!(net.count("POST", HOST, "/api/v2.0/projects"), 1, "{:#?}", net.log());
    let _ = sandbox
        .idp(["push", "./app", "hub.example/open/app:1", "--create", "--visibility", "public"])
        .exits(0);
    assert!(change(&site, |it| it.projects["open"].public));
}

#[test]
fn who_may_not_make_projects_is_told_why() {
    let (net, site) = harbor();
    let push = |user: &str, password: &str| {
        home(&net, user, password).idp(["push", "./app", "hub.example/new/app:1", "--create"])
    };
    let robot = push("robot$team+ci", "secret").exits(3);
    assert!(robot.stderr.contains("robot account of a project cannot make projects"), "{robot}");
    change(&site, |it| it.habits.admin_only = true);
    let user = push("alice", "pw").exits(3);
    assert!(user.stderr.contains("project_creation_restriction is adminonly"), "{user}");
    // Some releases say 403 of what is not there.
    change(&site, |it| (it.habits.hides, it.habits.admin_only) = (true, false));
    let _ = push("alice", "pw").exits(0);
}

#[test]
fn wrong_credentials_and_missing_rights_are_told_apart() {
    let (net, site) = harbor();
    change(&site, |it| {
        let cli = Account { password: "cli-secret".to_owned(), kind: Kind::Cli };
        it.accounts.insert("carol".to_owned(), cli);
    });
    for (user, password, told) in [
        ("robot$team+reader", "secret", "needs the permission Push Repository on the project `team`"),
        ("bob", "pw", "needs the role Developer"),
        ("alice", "wrong", "does not know the credentials of `alice`"),
        ("robot$team+ci", "wrong", "expired (30 days"),
        ("robot", "secret", "single quotes"),
    ] {
        let refused = home(&net, user, password).idp(["push", "./app", "hub.example/team/app:1"]).exits(3);
        assert!(refused.stderr.contains(told), "{told}: {refused}");
    }
    change(&site, |it| it.habits.oidc = true);
    let sso =
        home(&net, "carol", "my-sso-password").idp(["push", "./app", "hub.example/team/app:1"]).exits(3);
    assert!(sso.stderr.contains("CLI secret"), "{sso}");
    let nobody = super::sandbox(&net).idp(["push", "./app", "hub.example/team/app:1"]).exits(3);
    assert!(nobody.stderr.contains("idp login hub.example"), "{nobody}");
}

#[test]
fn a_login_is_checked_where_the_token_service_does_not_lie() {
    let (net, site) = harbor();
    let login = |user: &str, password: &str| {
        let sandbox = super::sandbox(&net);
        sandbox.idp_with_stdin(["login", HOST, "--username", user, "--password-stdin"], password.as_bytes())
    };
    let _ = login("robot$team+ci", "secret").exits(0);
    let _ = login("alice", "pw").exits(0);
    let wrong = login("alice", "wrong").exits(3);
    assert!(wrong.stderr.contains("does not accept the credentials of `alice`"), "{wrong}");
    let shell = login("robot", "secret").exits(3);
    assert!(shell.stderr.contains("single quotes"), "{shell}");
    change(&site, |it| it.habits.external_url = Some("http://hub.example".to_owned()));
    let scheme = login("alice", "pw").exits(0);
    assert!(scheme.stderr.contains("external_url in harbor.yml"), "{scheme}");
    // The same service was asked, over https, so that the work goes on.
    let pushed = home(&net, "alice", "pw").idp(["push", "./app", "hub.example/team/app:1"]).exits(0);
    assert!(pushed.stderr.contains("external_url in harbor.yml"), "{pushed}");
}

#[test]
fn rules_of_projects_are_explained() {
    let (net, site) = harbor();
    let sandbox = home(&net, "alice", "pw");
    let push = |tag: &str, code: i32| {
        sandbox.idp(["push", "./app", &format!("hub.example/team/app:{tag}")]).exits(code)
    };
    let project = |with: &dyn Fn(&mut Project)| {
        change(&site, |it| with(it.projects.get_mut("team").expect("there")));
    };
    let _ = push("v1", 0);
    project(&|it| it.immutable = ["v".to_owned()].into());
    sandbox.write("work/app/a", "another");
    assert!(push("v1", 1).stderr.contains("push under a new tag"));
    project(&|it| it.quota = Some(1));
    let quota = push("v2", 1);
    assert!(
        quota.stderr.contains("quota of the project `team`") && quota.stderr.contains("upper limit"),
        "{quota}"
    );
    project(&|it| (it.quota, it.proxy) = (None, true));
    sandbox.write("work/app/a", "a third");
    assert!(push("v2", 3).stderr.contains("proxy cache"));
    project(&|it| it.proxy = false);
    change(&site, |it| it.habits.read_only = true);
    assert!(push("v2", 3).stderr.contains("read-only mode"));
    change(&site, |it| (it.habits.read_only, it.habits.ingress) = (false, Some(10)));
    assert!(push("v2", 1).stderr.contains("proxy-body-size"));
    change(&site, |it| it.habits.ingress = None);
    let pull = |tag: &str, code: i32| {
        sandbox.idp(["pull", &format!("hub.example/team/app:{tag}"), "./out"]).exits(code)
    };
    project(&|it| it.policy = Some("The image is not signed by cosign.".to_owned()));
    assert!(pull("v1", 3).stderr.contains("only signed artifacts"));
    project(&|it| it.policy = None);
    assert!(pull("v9", 2).stderr.contains("no such tag"));
}

#[test]
fn a_proxy_cache_may_be_throttled() {
    let (net, site) = harbor();
    change(&site, |it| {
        it.image("library/app", "1", "x");
        it.projects.get_mut("library").expect("there").proxy = true;
        it.habits.throttled = true;
    });
    let mut sandbox = super::sandbox(&net);
    sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    let refused = sandbox.idp(["pull", "hub.example/library/app:1", "./out"]).exits(4);
    assert!(refused.stderr.contains("behind the proxy cache"), "{refused}");
}

#[test]
fn anybody_pulls_from_a_public_project() {
    let (net, site) = harbor();
    let _ = home(&net, "admin", "Harbor12345").idp(["push", "./app", "hub.example/library/app:1"]).exits(0);
    let nobody = super::sandbox(&net);
    let _ = nobody.idp(["pull", "hub.example/library/app:1", "./out"]).exits(0);
    // Everybody sees it, and nothing else.
    change(&site, |it| it.image("team/app", "1", "x"));
    let all = nobody.idp(["list", HOST]).exits(0);
    assert!(all.stdout.contains("library/app") && !all.stdout.contains("team/app"), "{all}");
}

#[test]
fn lists_come_from_the_api() {
    let (net, site) = harbor();
    change(&site, |it| {
        for name in ["team/app", "team/group/web", "library/tool"] {
            it.image(name, "v1", name);
        }
        it.image("team/group/web", "v2", "other");
        it.projects.get_mut("team").expect("there").immutable = ["v2".to_owned()].into();
    });
    let sandbox = home(&net, "alice", "pw");
    let all = sandbox.idp(["list", HOST]).exits(0);
    for name in ["team/app", "team/group/web", "library/tool"] {
        assert!(all.stdout.contains(name), "{all}");
    }
    let team = sandbox.idp(["list", HOST, "--namespace", "team", "--query", "web"]).exits(0);
    assert!(team.stdout.contains("team/group/web") && !team.stdout.contains("team/app"), "{team}");
    let tags = sandbox.idp(["list", "hub.example/team/group/web", "--output", "json"]).exits(0);
    for told in ["\"v1\"", "\"v2\"", "sha256:", "2026-11-02T08:00:00"] {
        assert!(tags.stdout.contains(told), "{told}: {tags}");
    }
    // Never pulled is no time, and the slash of the name went through encoded twice.
    assert!(!tags.stdout.contains("0001-01-01"), "{tags}");
    assert!(net.count("GET", HOST, "/repositories/group%252Fweb/artifacts") == 1, "{:#?}", net.log());

    // Wrong credentials would be shown what everybody may see.
    let wrong = home(&net, "alice", "wrong").idp(["list", HOST]).exits(3);
    assert!(wrong.stderr.contains("does not accept the credentials"), "{wrong}");
    // So would a CLI secret; it is shown its projects one by one.
    change(&site, |it| {
        it.accounts.get_mut("alice").expect("there").kind = Kind::Cli;
        it.habits.oidc = true;
    });
    let projects = home(&net, "alice", "pw").idp(["list", HOST]).exits(0);
    assert!(projects.stdout.contains("team/app") && projects.stdout.contains("library/tool"), "{projects}");
}

#[test]
fn deletion_takes_what_was_named() {
    let (net, site) = harbor();
    let digest = change(&site, |it| {
        it.image("team/app", "v1", "same");
        it.image("team/app", "v2", "same")
    });
    let sandbox = home(&net, "alice", "pw");
    let delete = |arguments: &[&str]| sandbox.idp([&["delete", "--yes"], arguments].concat());
    let by_digest = format!("hub.example/team/app@{digest}");
    let siblings = delete(&[&by_digest]).exits(1);
    assert!(siblings.stderr.contains("v1, v2"), "{siblings}");
    let _ = delete(&["--dry-run", "hub.example/team/app:v1"]).exits(0);
    assert_eq!(net.count("DELETE", HOST, ""), 0, "{:#?}", net.log());
    let _ = delete(&["hub.example/team/app:v1"]).exits(0);
    let left = change(&site, |it| it.registry.tags.keys().map(|(_, tag)| tag.clone()).collect::<Vec<_>>());
    assert_eq!(left, ["v2"]);
    change(&site, |it| it.projects.get_mut("team").expect("there").immutable = ["v2".to_owned()].into());
    let kept = delete(&["hub.example/team/app:v2"]).exits(1);
    assert!(kept.stderr.contains("immutable"), "{kept}");
    change(&site, |it| it.projects.get_mut("team").expect("there").immutable.clear());
    let _ = delete(&["--allow-siblings", &by_digest]).exits(0);
    assert!(change(&site, |it| it.registry.manifests.is_empty()));
    assert!(delete(&["hub.example/team/app:v1"]).exits(2).stderr.contains("not found"));

    change(&site, |it| it.image("team/app", "v1", "again"));
    let robot = home(&net, "robot$team+ci", "secret");
    let refused = robot.idp(["delete", "--yes", "hub.example/team/app:v1"]).exits(3);
    assert!(refused.stderr.contains("Delete Tag"), "{refused}");
    change(&site, |it| {
        it.accounts.get_mut("alice").expect("there").kind = Kind::Cli;
        it.habits.oidc = true;
    });
    let sso = home(&net, "alice", "pw");
    let secret = sso.idp(["delete", "--yes", "--repository", "hub.example/team/app"]).exits(3);
    assert!(secret.stderr.contains("robot account"), "{secret}");
    change(&site, |it| it.accounts.get_mut("alice").expect("there").kind = Kind::User);
    let _ = delete(&["--repository", "hub.example/team/app"]).exits(0);
    assert!(change(&site, |it| it.registry.manifests.is_empty()));
    // Nothing of this went through the registry's own deletion.
    assert_eq!(net.count("DELETE", HOST, "/v2/"), 0, "{:#?}", net.log());
}

#[test]
fn names_are_checked_before_anything_is_sent() {
    let (net, _site) = harbor();
    let sandbox = home(&net, "alice", "pw");
    let _ = sandbox.idp(["registry", "detect", HOST]).exits(0);
    net.forget();
    let single = sandbox.idp(["push", "./app", "hub.example/app:1"]).exits(1);
    assert!(single.stderr.contains("hub.example/PROJECT/app"), "{single}");
    let double = sandbox.idp(["push", "./app", "hub.example/my__project/app:1"]).exits(1);
    assert!(double.stderr.contains("can have no project `my__project`"), "{double}");
    assert_eq!(net.count("*", HOST, "/v2/my__project"), 0);
}

#[test]
fn a_harbor_whose_api_is_hidden_is_one_still() {
    let (net, site) = harbor();
    change(&site, |it| it.habits.no_api = true);
    let sandbox = super::sandbox(&net);
    let found = sandbox.idp(["registry", "detect", HOST]).exits(0);
    assert!(found.stdout.lines().any(|line| line.starts_with("provider    harbor ")), "{found}");
}

#[test]
fn a_blob_is_noted_with_its_whole_size() {
    let (net, site) = harbor();
    let sandbox = home(&net, "alice", "pw");
    sandbox.write("work/app/big", &"0123456789".repeat(300_000));
    let _ = sandbox.idp(["push", "./app", "hub.example/team/app:1"]).exits(0);
    change(&site, |it| {
        assert!(!it.sizes.is_empty());
        for (digest, size) in &it.sizes {
            let stored = it.registry.blobs.iter().find(|((_, one), _)| one == digest);
            assert_eq!(stored.map(|(_, bytes)| bytes.len()), Some(*size), "{digest}");
        }
    });
}
