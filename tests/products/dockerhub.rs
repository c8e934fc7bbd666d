//! Docker Hub: one registry under four names, tokens that end on the way, namespaces of others, official images, two kinds of 429.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use idp_test_support::net::Net;
use idp_test_support::products::dockerhub::{Deletion, DockerHub};
use idp_test_support::sandbox::Sandbox;

/// A Hub in a net, and an empty home.
fn hub() -> (Net, Arc<Mutex<DockerHub>>, Sandbox) {
    let net = Net::start();
    let site = net.site(&DockerHub::HOSTS, DockerHub::new());
    let mut sandbox = super::sandbox(&net);
    // What is refused for now is asked for once.
    sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    (net, site, sandbox)
}

/// … with what `docker login` leaves behind.
fn hub_as(user: &str, secret: &str) -> (Net, Arc<Mutex<DockerHub>>, Sandbox) {
    let (net, site, sandbox) = hub();
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}"));
    let config = serde_json::json!({"auths": {"https://index.docker.io/v1/": {"auth": auth}}});
    sandbox.write_private("home/.docker/config.json", &config.to_string());
    (net, site, sandbox)
}

fn change<T>(site: &Mutex<DockerHub>, with: impl FnOnce(&mut DockerHub) -> T) -> T {
    with(&mut site.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn what_docker_login_keeps_pushes_lists_and_pulls() {
    let (net, site, sandbox) = hub_as("me", "dckr_pat_write");
    let pushed = sandbox.idp(["push", "./app", "docker.io/me/app:1"]).exits(0);
    assert!(pushed.stdout.starts_with("docker.io/me/app@sha256:"), "{pushed}");
    // An ordinary push asks the API nothing.
    assert_eq!(net.count("*", "hub.docker.com", ""), 0, "{:#?}", net.log());
    // The registry sees tokens only, and one token serves the whole push.
    let basic = |request: &idp_test_support::net::Request| request.basic().is_some();
    let registry = net.requests().into_iter().filter(|seen| seen.request.host == "registry-1.docker.io");
    assert_eq!(registry.filter(|seen| basic(&seen.request)).count(), 0);
    assert_eq!(net.count("GET", "auth.docker.io", "/token"), 1, "{:#?}", net.log());

    let tags = sandbox.idp(["list", "docker.io/me/app"]).exits(0);
    assert!(tags.stdout.contains("sha256:") && tags.stdout.contains("2026-11-20T10:00Z"), "{tags}");
    change(&site, |hub| hub.image("me/web", "1", "web"));
    let own = sandbox.idp(["list", "docker.io"]).exits(0);
    let names: Vec<&str> =
        own.stdout.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["me/app", "me/web"]);
    let _ = sandbox.idp(["pull", "docker.io/me/app:1", "./again"]).exits(0);
    assert_eq!(std::fs::read(sandbox.path("work/again/a")).expect("read"), b"a");
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn a_login_is_checked_and_kept_where_docker_looks() {
    let (net, _site, sandbox) = hub();
    let login = ["login", "docker.io", "--username", "me", "--password-stdin"];
    let refused = sandbox.idp_with_stdin(login, b"wrong").exits(3);
    assert!(refused.stderr.contains("app.docker.com/settings/personal-access-tokens"), "{refused}");
    let _ = sandbox.idp_with_stdin(login, b"dckr_pat_write").exits(0);
    let kept = String::from_utf8(std::fs::read(sandbox.path("home/.docker/config.json")).expect("read"))
        .expect("text");
    assert!(kept.contains("https://index.docker.io/v1/"), "{kept}");
    let _ = sandbox.idp(["push", "./app", "docker.io/me/app:1"]).exits(0);
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());

    // An organisation's access token has the organisation as its user.
    let organisation = ["push", "./app", "docker.io/acme/app:1", "--username", "acme", "--password-stdin"];
    let _ = sandbox.idp_with_stdin(organisation, b"dckr_oat_acme").exits(0);
    // A token alone is accepted by nothing, and sent nowhere.
    let (net, _site, mut alone) = hub();
    alone.set_env("IDPBUILDER_REGISTRY_TOKEN", "dckr_pat_write");
    let refused = alone.idp(["push", "./app", "docker.io/me/app:1"]).exits(3);
    assert!(refused.stderr.contains("--username"), "{refused}");
    assert_eq!(net.count("*", "auth.docker.io", ""), 0, "{:#?}", net.log());
}

#[test]
fn its_names_are_one_registry() {
    let (net, site, sandbox) = hub_as("me", "dckr_pat_write");
    for (name, tag) in
        [("index.docker.io", "1"), ("registry-1.docker.io", "2"), ("registry.hub.docker.com", "3")]
    {
        let _ = sandbox.idp(["push", "./app", &format!("{name}/me/app:{tag}")]).exits(0);
        let _ = sandbox.idp(["list", name]).exits(0);
    }
    assert_eq!(change(&site, |hub| hub.registry.tags.len()), 3 + 2);
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn official_images_are_pulled_by_one_word_and_pushed_by_nobody() {
    let (net, _site, sandbox) = hub_as("me", "dckr_pat_write");
    let _ = sandbox.idp(["pull", "docker.io/nginx:1.27", "oci:./nginx"]).exits(0);
    assert!(
        net.count("GET", "registry-1.docker.io", "/v2/library/nginx/manifests/1.27") >= 1,
        "{:#?}",
        net.log()
    );
    net.forget();
    let refused = sandbox.idp(["push", "./app", "docker.io/app:1"]).exits(3);
    assert!(refused.stderr.contains("push to docker.io/me/app"), "{refused}");
    assert!(net.log().is_empty(), "{:#?}", net.log());
    let refused = sandbox.idp(["push", "./app", "docker.io/library/app:1"]).exits(3);
    assert!(refused.stderr.contains("official images, which only Docker publishes"), "{refused}");
}

#[test]
fn who_may_not_push_is_told_why() {
    for (user, secret, repository, told) in [
        ("me", "dckr_pat_write", "other/app", "`me` may not push to docker.io/other/app"),
        ("me", "dckr_pat_write", "other/app", "push to docker.io/me/app"),
        ("reader", "dckr_pat_read", "reader/app", "Read & Write"),
        ("me", "dckr_pat_write", "me/team/app", "NAMESPACE/REPOSITORY"),
    ] {
        let (net, _site, sandbox) = hub_as(user, secret);
        let refused = sandbox.idp(["push", "./app", &format!("docker.io/{repository}:1")]).exits(3);
        assert!(refused.stderr.contains(told), "{told} is not said: {refused}");
        assert!(refused.stdout.is_empty() && !refused.stderr.contains(secret), "{refused}");
        // A fresh token that is refused is final: one for the first request, one for each of the two blobs.
        assert!(net.count("GET", "auth.docker.io", "/token") <= 3, "{:#?}", net.log());
    }
    let (_net, site, sandbox) = hub_as("reader", "dckr_pat_read");
    change(&site, |hub| hub.habits.says_scopes = true);
    let refused = sandbox.idp(["push", "./app", "docker.io/reader/app:1"]).exits(3);
    assert!(refused.stderr.contains("create an access token with Read & Write"), "{refused}");
    let (_net, _site, nobody) = hub();
    let refused = nobody.idp(["push", "./app", "docker.io/me/app:1"]).exits(3);
    assert!(refused.stderr.contains("idp login docker.io"), "{refused}");
}

#[test]
fn tokens_end_on_the_way_and_are_replaced() {
    let (net, site, sandbox) = hub_as("me", "dckr_pat_write");
    change(&site, |hub| hub.habits.token_requests = Some(3));
    let _ = sandbox.idp(["push", "./app", "docker.io/me/app:1"]).exits(0);
    let tokens = net.count("GET", "auth.docker.io", "/token");
    assert!(tokens >= 3, "{tokens}: {:#?}", net.log());
    // A token that does not say how long it lives is as good.
    net.forget();
    change(&site, |hub| {
        hub.habits.token_requests = None;
        hub.habits.expires_in = None;
    });
    let _ = sandbox.idp(["push", "./app", "docker.io/me/app:2"]).exits(0);
    assert_eq!(net.count("GET", "auth.docker.io", "/token"), 1, "{:#?}", net.log());
}

#[test]
fn anybody_pulls_until_the_limit() {
    let (net, site, sandbox) = hub();
    change(&site, |hub| hub.habits.pulls = Some((100, 1)));
    let _ = sandbox.idp(["pull", "docker.io/nginx:1.27", "oci:./one"]).exits(0);
    // Six hours are not waited for, however patient one is.
    let mut patient = super::sandbox(&net);
    patient.set_env("IDPBUILDER_OCI_RETRY_COUNT", "10");
    net.forget();
    let _ = patient.idp(["pull", "docker.io/nginx:1.27", "oci:./patient"]).exits(4);
    let tries = net.count("GET", "registry-1.docker.io", "/manifests/1.27");
    assert!(tries <= 2, "{:#?}", net.log());
    for (json_limit, headers_on_limit) in [(false, true), (true, true), (false, false)] {
        net.forget();
        change(&site, |hub| {
            hub.habits.json_limit = json_limit;
            hub.habits.headers_on_limit = headers_on_limit;
        });
        let over = sandbox.idp(["pull", "docker.io/nginx:1.27", "oci:./two"]).exits(4);
        assert!(over.stderr.contains("0 of 100 pulls in 6 hours are left, counted for 192.0.2.1"), "{over}");
        assert!(over.stderr.contains("idp login docker.io"), "{over}");
        // Where the refusal has no numbers, a HEAD asks for them, which is free.
        let asked = net.count("HEAD", "registry-1.docker.io", "ratelimitpreview/test");
        assert_eq!(asked, usize::from(!headers_on_limit), "{:#?}", net.log());
    }
    change(&site, |hub| hub.habits.abuse = true);
    let over = sandbox.idp(["pull", "docker.io/nginx:1.27", "oci:./three"]).exits(4);
    assert!(over.stderr.contains("against abuse"), "{over}");
}

#[test]
fn what_is_not_there_or_not_ours_is_said_as_far_as_it_is_known() {
    let (_net, site, sandbox) = hub();
    let refused = sandbox.idp(["pull", "docker.io/me/secret:1", "oci:./x"]).exits(3);
    assert!(refused.stderr.contains("does not exist, or it is private"), "{refused}");
    let missing = sandbox.idp(["pull", "docker.io/nginx:1.26", "oci:./x"]).exits(2);
    assert!(missing.stderr.contains("tags like it: 1.27"), "{missing}");
    let nobody = sandbox.idp(["list", "docker.io"]).exits(1);
    assert!(nobody.stderr.contains("--namespace"), "{nobody}");
    // Tags without the API.
    change(&site, |hub| hub.habits.api_without_tags = true);
    let tags = sandbox.idp(["list", "docker.io/nginx"]).exits(0);
    assert_eq!(tags.stdout.trim(), "1.27");
    change(&site, |hub| hub.habits.api_limit = Some(1_795_251_660));
    let tags = sandbox.idp(["list", "docker.io/nginx"]).exits(0);
    assert_eq!(tags.stdout.trim(), "1.27");
}

#[test]
fn refusals_of_manifests_are_explained() {
    let (_net, site, sandbox) = hub_as("me", "dckr_pat_write");
    change(&site, |hub| hub.habits.immutable.insert("1".to_owned()));
    let refused = sandbox.idp(["push", "./app", "docker.io/me/app:1"]).exits(1);
    assert!(refused.stderr.contains("push under another tag"), "{refused}");
}

#[test]
fn blobs_are_mounted_within_the_hub() {
    let (net, _site, sandbox) = hub_as("me", "dckr_pat_write");
    let _ = sandbox.idp(["push", "./app", "docker.io/me/base:1"]).exits(0);
    net.forget();
    let _ = sandbox.idp(["push", "./app", "docker.io/me/app:1", "--mount-from", "me/base"]).exits(0);
    assert!(
        net.count("POST", "registry-1.docker.io", "from=me%2Fbase")
            + net.count("POST", "registry-1.docker.io", "from=me/base")
            >= 1,
        "{:#?}",
        net.log()
    );
    assert_eq!(net.count("PUT", "registry-1.docker.io", "/v2/me/app/blobs/"), 0, "{:#?}", net.log());
}

/// Passwords of an account with two-factor are not good for the API; the registry's own list of tags is there all the same.
#[test]
fn a_password_without_its_second_factor_lists_tags_by_the_registry() {
    let (net, site, sandbox) = hub_as("me", "password");
    change(&site, |hub| {
        hub.habits.second_factor = true;
        hub.accounts.get_mut("me").expect("there").secret = "password".to_owned();
    });
    let _ = sandbox.idp(["push", "./app", "docker.io/me/app:1"]).exits(0);
    let tags = sandbox.idp(["list", "docker.io/me/app"]).exits(0);
    assert_eq!(tags.stdout.trim(), "1");
    let own = sandbox.idp(["list", "docker.io"]).exits(3);
    assert!(own.stderr.contains("two-factor"), "{own}");
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn namespaces_are_listed_by_pages_and_the_public_is_searched() {
    let (net, site, sandbox) = hub();
    change(&site, |hub| {
        for number in 0..150 {
            hub.image(&format!("acme/app{number:03}"), "1", "x");
        }
        hub.repositories.insert("acme/secret".to_owned(), true);
    });
    let all = sandbox.idp(["list", "docker.io", "--namespace", "acme"]).exits(0);
    assert_eq!(all.stdout.lines().filter(|line| line.starts_with("acme/app")).count(), 150, "{all}");
    assert_eq!(net.count("GET", "hub.docker.com", "/v2/namespaces/acme/repositories"), 2, "{:#?}", net.log());
    let one = sandbox.idp(["list", "docker.io", "--namespace", "acme", "--query", "app149"]).exits(0);
    assert!(one.stdout.contains("\nacme/app149") && !one.stdout.contains("acme/app148"), "{one}");
    let unknown = sandbox.idp(["list", "docker.io", "--namespace", "nobody"]).exits(2);
    assert!(unknown.stderr.contains("neither a user nor an organisation `nobody`"), "{unknown}");
    net.forget();
    let found = sandbox.idp(["search", "nginx", "-r", "docker.io"]).exits(0);
    assert!(found.stdout.starts_with("docker.io/library/nginx"), "{found}");
    assert_eq!(net.count("GET", "index.docker.io", "/v1/search"), 1, "{:#?}", net.log());
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn tags_go_by_the_api_and_digests_by_the_registry() {
    let (net, site, sandbox) = hub_as("me", "dckr_pat_write");
    let digest = change(&site, |hub| {
        hub.image("me/app", "2", "same");
        hub.image("me/app", "1", "same")
    });
    let tags = |site: &Mutex<DockerHub>| {
        change(site, |hub| hub.registry.tags.keys().filter(|(name, _)| name == "me/app").count())
    };
    let would = sandbox.idp(["delete", "docker.io/me/app:1", "--dry-run"]).exits(0);
    assert_eq!((would.stdout.trim(), tags(&site)), ("docker.io/me/app:1", 2), "{would}");
    // A digest that tags have does not go by accident, and neither do they.
    let pinned = format!("docker.io/me/app@{digest}");
    let refused = sandbox.idp(["delete", &pinned]).exits(1);
    assert!(refused.stderr.contains("--allow-siblings"), "{refused}");
    let _ = sandbox.idp(["delete", "docker.io/me/app:1"]).exits(0);
    assert_eq!(tags(&site), 1, "{:#?}", net.log());
    assert_eq!(net.count("DELETE", "registry-1.docker.io", ""), 0, "{:#?}", net.log());
    let missing = sandbox.idp(["delete", "docker.io/me/app:1"]).exits(2);
    assert!(missing.stderr.contains("docker.io/me/app:1"), "{missing}");
    let gone = sandbox.idp(["delete", &pinned, "--allow-siblings"]).exits(0);
    assert_eq!((gone.stdout.lines().count(), tags(&site)), (2, 0), "{gone}");
    // Challenged, then with a token for the deletion.
    assert_eq!(
        net.count("DELETE", "registry-1.docker.io", "/v2/me/app/manifests/sha256:"),
        2,
        "{:#?}",
        net.log()
    );
    assert!(change(&site, |hub| hub.registry.manifests.keys().all(|(name, _)| name != "me/app")));

    change(&site, |hub| hub.image("me/app", "3", "else"));
    let _ = sandbox.idp(["delete", "docker.io/me/app", "--repository", "--yes"]).exits(0);
    assert!(change(&site, |hub| !hub.repositories.contains_key("me/app")));
}

#[test]
fn each_refusal_of_a_deletion_is_understood() {
    for (deletion, code, told) in [
        (Deletion::Unreferenced, 1, "a tag or an index still needs it"),
        (Deletion::Off, 1, "(405)"),
        (Deletion::Tagged, 0, ""),
    ] {
        let (_net, site, sandbox) = hub_as("me", "dckr_pat_write");
        let digest = change(&site, |hub| {
            hub.habits.deletion = deletion;
            let digest = hub.image("me/app", "1", "child");
            // An index that the API does not tell of: it has no tag.
            let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}"}}]}}"#);
            hub.registry.add_manifest(
                "me/app",
                "",
                "application/vnd.oci.image.index.v1+json",
                index.into_bytes(),
            );
            hub.registry.tags.remove(&("me/app".to_owned(), "1".to_owned()));
            digest
        });
        let done = sandbox.idp(["delete", &format!("docker.io/me/app@{digest}")]).exits(code);
        assert!(done.stderr.contains(told), "{told} is not said: {done}");
    }
    let (_net, site, sandbox) = hub_as("reader", "dckr_pat_read");
    change(&site, |hub| hub.image("reader/app", "1", "x"));
    let refused = sandbox.idp(["delete", "docker.io/reader/app:1"]).exits(3);
    assert!(refused.stderr.contains("Read, Write & Delete"), "{refused}");
    let (_net, _site, nobody) = hub();
    let refused = nobody.idp(["delete", "docker.io/library/nginx:1.27"]).exits(3);
    assert!(refused.stderr.contains("idp login docker.io"), "{refused}");
}

#[test]
fn what_is_left_of_the_pulls_is_told() {
    let (_net, site, sandbox) = hub();
    change(&site, |hub| hub.image("library/tool", "1", "tool"));
    let pulled = sandbox.idp(["pull", "docker.io/library/tool:1", "oci:./tool", "--output", "json"]).exits(0);
    let pulled: serde_json::Value = serde_json::from_str(&pulled.stdout).expect("JSON");
    assert_eq!(pulled["rate-limit"]["limit"], 100, "{pulled}");
    let looked = sandbox.idp(["inspect", "docker.io/library/tool:1"]).exits(0);
    assert!(looked.stdout.contains("rate limit"), "{looked}");
    let doctor = sandbox.idp(["registry", "doctor", "docker.io", "--output", "json"]).exits(0);
    let doctor: serde_json::Value = serde_json::from_str(&doctor.stdout).expect("JSON");
    let checks = doctor["checks"].as_array().expect("checks");
    let limit = checks.iter().find(|check| check["name"] == "rate-limit");
    assert_eq!(limit.map(|check| &check["status"]), Some(&"ok".into()), "{doctor}");
}

#[test]
fn a_visibility_makes_the_repository_first() {
    let (net, _site, sandbox) = hub_as("me", "dckr_pat_write");
    let rehearsed =
        sandbox.idp(["push", "./app", "docker.io/me/new:1", "--visibility", "private", "--dry-run"]).exits(0);
    assert!(rehearsed.stderr.contains("Would create repository"), "{rehearsed}");
    assert_eq!(net.count("POST", "hub.docker.com", "/repositories"), 0, "{:#?}", net.log());
    let made = sandbox.idp(["push", "./app", "docker.io/me/new:1", "--visibility", "private"]).exits(0);
    assert!(made.stderr.contains("Created repository me/new (private)"), "{made}");
    let shown = sandbox.idp(["registry", "show", "docker.io/me/new"]).exits(0);
    assert!(shown.stdout.contains("visibility  private"), "{shown}");
}
