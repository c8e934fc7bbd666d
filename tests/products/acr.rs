//! Azure Container Registry, end to end.

use idp_test_support::net::Net;
use idp_test_support::products::acr::Acr;
use idp_test_support::products::base;
use idp_test_support::products::cloud::Entra;
use idp_test_support::sandbox::{Output, Sandbox};

const SERVER: &str = "team.azurecr.io";
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

fn sandbox(net: &Net) -> Sandbox {
    let mut sandbox = super::sandbox(net);
    sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    sandbox
}

fn docker(sandbox: &Sandbox, registry: &str, entry: &serde_json::Value) {
    let config = serde_json::json!({"auths": {registry: entry}});
    sandbox.write_private("home/.docker/config.json", &config.to_string());
}

/// As the admin user.
fn logged_in(net: &Net) -> Sandbox {
    let sandbox = sandbox(net);
    // `team:admin-password`
    docker(&sandbox, SERVER, &serde_json::json!({"auth": "dGVhbTphZG1pbi1wYXNzd29yZA=="}));
    sandbox
}

fn says(output: &Output, words: &[&str]) {
    for word in words {
        assert!(output.stderr.contains(word), "`{word}` is missing: {output}");
    }
}

#[test]
fn the_admin_user_logs_in_pushes_pulls_and_lists() {
    let net = Net::start();
    net.site(&[SERVER], Acr::new(SERVER));
    let sandbox = sandbox(&net);
    let login = ["login", SERVER, "--username", "team", "--password-stdin"];
    let wrong = sandbox.idp_with_stdin(login, b"wrong-password\n").exits(3);
    says(&wrong, &["does not accept the credentials of `team`", "admin user"]);
    let _ = sandbox.idp_with_stdin(login, b"admin-password\n").exits(0);
    let pushed = sandbox.idp(["push", "./app", "team.azurecr.io/team/app:1"]).exits(0);
    assert!(pushed.stdout.starts_with("team.azurecr.io/team/app@sha256:"), "{pushed}");
    let _ = sandbox.idp(["pull", "team.azurecr.io/team/app:1", "./out"]).exits(0);
    let list = sandbox.idp(["list", SERVER]).exits(0);
    assert_eq!(list.stdout.trim(), "team/app");
    let tags = sandbox.idp(["list", "team.azurecr.io/team/app", "--output", "json"]).exits(0);
    for word in [r#""1""#, "2026-10-12T12:13:14", "sha256:", "size"] {
        assert!(tags.stdout.contains(word), "{word}: {tags}");
    }
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn a_refresh_token_as_password_and_as_docker_keeps_it() {
    let net = Net::start();
    let site = net.site(&[SERVER], Acr::new(SERVER));
    site.lock().expect("a site").refresh_tokens.insert("refresh-token-of-az".to_owned());
    // `az acr login --expose-token`
    let sandbox = sandbox(&net);
    let login = ["login", SERVER, "--username", NOBODY, "--password-stdin"];
    let _ = sandbox.idp_with_stdin(login, b"refresh-token-of-az\n").exits(0);
    let _ = sandbox.idp(["push", "./app", "team.azurecr.io/app:1"]).exits(0);
    assert_eq!(net.count("POST", SERVER, "/oauth2/"), 0, "{:#?}", net.log());
    // `az acr login`
    docker(
        &sandbox,
        SERVER,
        &serde_json::json!({"auth": "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOg==", "identitytoken": "refresh-token-of-az"}),
    );
    net.forget();
    let _ = sandbox.idp(["push", "./app", "team.azurecr.io/app:2"]).exits(0);
    assert!(net.count("POST", SERVER, "/oauth2/token") >= 1, "{:#?}", net.log());
    assert_eq!(net.count("GET", SERVER, "/oauth2/token"), 0, "{:#?}", net.log());
    // A few hours later.
    site.lock().expect("a site").refresh_tokens.clear();
    let ended = sandbox.idp(["push", "./app", "team.azurecr.io/app:3"]).exits(3);
    says(&ended, &["az acr login --name team"]);
}

#[test]
fn a_refresh_token_is_sent_with_a_scope() {
    let net = Net::start();
    let mut site = Acr::new(SERVER);
    site.scope_wanted = true;
    site.refresh_tokens.insert("refresh-token-of-az".to_owned());
    net.site(&[SERVER], site);
    let sandbox = sandbox(&net);
    docker(&sandbox, SERVER, &serde_json::json!({"identitytoken": "refresh-token-of-az"}));
    let _ = sandbox.idp(["push", "./app", "team.azurecr.io/app:1"]).exits(0);
}

#[test]
fn anonymous_pulls_where_they_are_switched_on() {
    let net = Net::start();
    let site = net.site(&[SERVER], Acr::new(SERVER));
    base::image(&mut site.lock().expect("a site").registry, "app", "1", "content");
    let sandbox = sandbox(&net);
    let off = sandbox.idp(["pull", "team.azurecr.io/app:1", "./out"]).exits(3);
    says(&off, &["anonymous pulls", "az acr login --name team"]);
    site.lock().expect("a site").anonymous_pull = true;
    let _ = sandbox.idp(["pull", "team.azurecr.io/app:1", "oci:./out"]).exits(0);
}

#[test]
fn a_missing_role_is_not_a_login_again() {
    let net = Net::start();
    let site = net.site(&[SERVER], Acr::new(SERVER));
    site.lock().expect("a site").rights = ["pull", "metadata_read"].into();
    let sandbox = logged_in(&net);
    let refused = sandbox.idp(["push", "./app", "team.azurecr.io/app:1"]).exits(3);
    says(&refused, &["AcrPush", "Container Registry Repository Writer", "az role assignment create"]);
    assert!(!refused.stderr.contains("run `idp login"), "{refused}");
}

#[test]
fn the_network_is_closed() {
    let net = Net::start();
    let site = net.site(&[SERVER], Acr::new(SERVER));
    site.lock().expect("a site").blocked = Some("203.0.113.7".to_owned());
    let refused = logged_in(&net).idp(["push", "./app", "team.azurecr.io/app:1"]).exits(3);
    says(&refused, &["203.0.113.7", "az acr network-rule add --name team --ip-address 203.0.113.7"]);
}

#[test]
fn what_is_locked_is_not_overwritten() {
    for locked_is_403 in [false, true] {
        let net = Net::start();
        let mut site = Acr::new(SERVER);
        site.locked.insert("app:1".to_owned());
        site.locked_is_403 = locked_is_403;
        net.site(&[SERVER], site);
        let refused = logged_in(&net).idp(["push", "./app", "team.azurecr.io/app:1"]).exits(1);
        says(&refused, &["locked", "az acr repository update --name team", "--write-enabled true"]);
    }
}

#[test]
fn throttling_is_waited_out() {
    let net = Net::start();
    let site = net.site(&[SERVER], Acr::new(SERVER));
    let sandbox = logged_in(&net).with_env("IDPBUILDER_OCI_RETRY_COUNT", "3");
    site.lock().expect("a site").throttled = 1;
    let _ = sandbox.idp(["push", "./app", "team.azurecr.io/app:1"]).exits(0);
    site.lock().expect("a site").throttled = 1000;
    let over = sandbox.idp(["push", "./app", "team.azurecr.io/app:2"]).exits(4);
    says(&over, &["--sku Premium"]);
}

#[test]
fn the_catalogue_is_followed_to_the_letter() {
    let net = Net::start();
    let mut site = Acr::new(SERVER);
    site.page = 2;
    for name in ["a", "b", "c", "d", "e"] {
        base::image(&mut site.registry, name, "1", name);
    }
    for tag in ["2", "3"] {
        base::image(&mut site.registry, "a", tag, tag);
    }
    let site = net.site(&[SERVER], site);
    let sandbox = logged_in(&net);
    let list = sandbox.idp(["list", SERVER]).exits(0);
    assert_eq!(list.stdout.lines().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    assert_eq!(net.count("GET", SERVER, "orderby="), 2, "{:#?}", net.log());
    let tags = sandbox.idp(["list", "team.azurecr.io/a"]).exits(0);
    let names = tags.stdout.lines().filter_map(|line| line.split_whitespace().next());
    // Below the heads of the columns.
    assert_eq!(names.skip(1).collect::<Vec<_>>(), ["3", "2", "1"]);
    // Where permissions are by repository.
    site.lock().expect("a site").by_repository = true;
    // Another home: a token of the first list may be remembered.
    let refused = logged_in(&net).idp(["list", SERVER]).exits(3);
    says(&refused, &["Catalog Lister"]);
}

#[test]
fn who_may_only_pull_gets_the_plain_tags() {
    let net = Net::start();
    let mut site = Acr::new(SERVER);
    site.rights = ["pull"].into();
    base::image(&mut site.registry, "app", "1", "content");
    net.site(&[SERVER], site);
    let tags = logged_in(&net).idp(["list", "team.azurecr.io/app"]).exits(0);
    assert_eq!(tags.stdout.trim(), "1");
}

#[test]
fn a_custom_domain_is_told_by_its_challenge() {
    let net = Net::start();
    net.site(&[SERVER, "images.example"], Acr::new(SERVER));
    let sandbox = sandbox(&net);
    docker(&sandbox, "images.example", &serde_json::json!({"auth": "dGVhbTphZG1pbi1wYXNzd29yZA=="}));
    let _ = sandbox.idp(["push", "./app", "images.example/app:1"]).exits(0);
    let tags = sandbox.idp(["list", "images.example/app"]).exits(0);
    assert!(tags.stdout.contains("2026-10-12"), "the API was asked: {tags}");
    let why = sandbox.idp(["provider", "why", "images.example/app"]).exits(0);
    assert!(why.stdout.contains("acr"), "{why}");
}

#[test]
fn the_host_of_the_blobs_is_no_registry() {
    let net = Net::start();
    let refused = sandbox(&net).idp(["pull", "team.westeurope.data.azurecr.io/app:1", "./out"]);
    says(&refused, &["team.azurecr.io/app"]);
    assert_ne!(refused.code, 0);
}

#[test]
fn search_goes_over_the_catalogue() {
    let net = Net::start();
    let mut site = Acr::new(SERVER);
    for name in ["team/app", "team/base", "web"] {
        base::image(&mut site.registry, name, "1", name);
    }
    net.site(&[SERVER], site);
    let found = logged_in(&net).idp(["search", "app", "-r", SERVER]).exits(0);
    assert!(found.stdout.contains("team/app") && !found.stdout.contains("team/base"), "{found}");
}

#[test]
fn a_tag_goes_alone_and_a_digest_only_with_leave() {
    let net = Net::start();
    let mut site = Acr::new(SERVER);
    let digest = base::image(&mut site.registry, "app", "1", "content");
    base::image(&mut site.registry, "app", "2", "content");
    base::image(&mut site.registry, "app", "3", "content");
    let site = net.site(&[SERVER], site);
    let sandbox = logged_in(&net);
    let tags = || site.lock().expect("a site").registry.tags.len();
    let _ = sandbox.idp(["delete", "team.azurecr.io/app:1", "--dry-run"]).exits(0);
    assert_eq!((tags(), net.count("DELETE", SERVER, "/")), (3, 0));
    let gone = sandbox.idp(["delete", "team.azurecr.io/app:1"]).exits(0);
    assert!(gone.stdout.contains('1'), "{gone}");
    assert_eq!(tags(), 2);
    let by_digest = format!("team.azurecr.io/app@{digest}");
    let refused = sandbox.idp(["delete", &by_digest]).exits(1);
    says(&refused, &["2, 3", "--allow-siblings"]);
    assert_eq!(tags(), 2);
    let _ = sandbox.idp(["delete", &by_digest, "--allow-siblings"]).exits(0);
    assert_eq!(tags(), 0);
    let _ = sandbox.idp(["delete", "team.azurecr.io/app:9"]).exits(2);
}

#[test]
fn a_repository_goes_in_one_piece() {
    let net = Net::start();
    let mut site = Acr::new(SERVER);
    for tag in ["1", "2"] {
        base::image(&mut site.registry, "app", tag, tag);
    }
    let site = net.site(&[SERVER], site);
    let sandbox = logged_in(&net);
    let _ = sandbox.idp(["delete", "team.azurecr.io/app", "--repository", "--dry-run"]).exits(0);
    assert_eq!(site.lock().expect("a site").registry.tags.len(), 2);
    let _ = sandbox.idp(["delete", "team.azurecr.io/app", "--repository", "--yes"]).exits(0);
    assert!(site.lock().expect("a site").registry.tags.is_empty());
    // One that was refused without a token, and one with it.
    assert_eq!(net.count("DELETE", SERVER, "/acr/v1/app"), 2, "{:#?}", net.log());
}

#[test]
fn what_is_locked_is_not_deleted() {
    let net = Net::start();
    let mut site = Acr::new(SERVER);
    base::image(&mut site.registry, "app", "1", "content");
    site.locked.insert("app:1".to_owned());
    net.site(&[SERVER], site);
    let sandbox = logged_in(&net);
    for dry in [true, false] {
        let mut arguments = vec!["delete", "team.azurecr.io/app:1"];
        arguments.extend(dry.then_some("--dry-run"));
        let refused = sandbox.idp(arguments).exits(1);
        says(&refused, &["locked", "az acr repository update --name team --image app:1"]);
    }
}

/// With an application of Entra ID in the environment.
fn application(net: &Net) -> Sandbox {
    let entra = Entra { secret: "secret-of-app-1".to_owned(), token: "token-of-entra-1".to_owned() };
    net.site(&["login.microsoftonline.com"], entra);
    sandbox(net)
        .with_env("AZURE_TENANT_ID", "tenant-1")
        .with_env("AZURE_CLIENT_ID", "app-1")
        .with_env("AZURE_CLIENT_SECRET", "secret-of-app-1")
}

#[test]
fn an_application_without_a_role_or_of_another_tenant() {
    let net = Net::start();
    let site = net.site(&[SERVER], Acr::new(SERVER));
    let sandbox = application(&net);
    let stranger = sandbox.idp(["push", "./app", "team.azurecr.io/app:1"]).exits(3);
    says(&stranger, &["AADSTS50020", "tenant"]);
    site.lock().expect("a site").entra_tokens.insert("token-of-entra-1".to_owned());
    site.lock().expect("a site").no_role = true;
    let refused = sandbox.idp(["push", "./app", "team.azurecr.io/app:1"]).exits(3);
    says(&refused, &["it has no role on this registry", "AcrPull or AcrPush"]);
    site.lock().expect("a site").no_role = false;
    let _ = sandbox.idp(["push", "./app", "team.azurecr.io/app:1"]).exits(0);
    let exchange = net.requests().into_iter().rfind(|seen| seen.request.path() == "/oauth2/exchange");
    assert_eq!(exchange.and_then(|seen| seen.request.form("tenant")).as_deref(), Some("tenant-1"));
    let tags = sandbox.idp(["list", "team.azurecr.io/app"]).exits(0);
    assert!(tags.stdout.contains("2026-10-12"), "{tags}");
}

#[test]
fn a_refresh_token_that_ended_is_replaced() {
    let net = Net::start();
    let site = net.site(&[SERVER], Acr::new(SERVER));
    site.lock().expect("a site").entra_tokens.insert("token-of-entra-1".to_owned());
    let sandbox = application(&net);
    let _ = sandbox.idp(["push", "./app", "team.azurecr.io/app:1"]).exits(0);
    site.lock().expect("a site").refresh_tokens.clear();
    let _ = sandbox.idp(["push", "./app", "team.azurecr.io/app:2"]).exits(0);
    assert_eq!(net.count("POST", SERVER, "/oauth2/exchange"), 2, "{:#?}", net.log());
}

#[test]
fn a_custom_domain_gets_no_token_of_entra_by_its_looks() {
    let net = Net::start();
    let site = net.site(&[SERVER, "images.example"], Acr::new(SERVER));
    site.lock().expect("a site").entra_tokens.insert("token-of-entra-1".to_owned());
    let sandbox = application(&net);
    let _ = sandbox.idp(["push", "./app", "images.example/app:1"]).exits(3);
    assert_eq!(net.count("*", "login.microsoftonline.com", "/"), 0, "{:#?}", net.log());
    // Said by name it does; the exchange is beside the realm, which is at the login server.
    let _ = sandbox.idp(["push", "./app", "images.example/app:1", "--provider", "acr"]).exits(0);
    assert_eq!(net.count("POST", SERVER, "/oauth2/exchange"), 1, "{:#?}", net.log());
}
