//! Google Artifact Registry and gcr.io, end to end.

use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use idp_test_support::net::{Net, Request};
use idp_test_support::products::base;
use idp_test_support::products::gar::{ACCESS_TOKEN, API, Gar, Repository, key};
use idp_test_support::sandbox::{Output, Sandbox};

const US: &str = "us-docker.pkg.dev";
const APP: &str = "us-docker.pkg.dev/proj/repo/app";

fn start(net: &Net, gar: Gar) -> Arc<Mutex<Gar>> {
    net.site(&[US, "gcr.io", API], gar)
}

fn with(site: &Arc<Mutex<Gar>>) -> MutexGuard<'_, Gar> {
    site.lock().expect("a site")
}

fn sandbox(net: &Net) -> Sandbox {
    let mut sandbox = super::sandbox(net);
    sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    sandbox
}

fn as_user(net: &Net, user: &str, password: &str) -> Sandbox {
    let sandbox = sandbox(net);
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let config = serde_json::json!({"auths": {US: {"auth": auth}, "gcr.io": {"auth": auth}}});
    sandbox.write_private("home/.docker/config.json", &config.to_string());
    sandbox
}

fn logged_in(net: &Net) -> Sandbox {
    as_user(net, "oauth2accesstoken", ACCESS_TOKEN)
}

/// What `--create parent` says, for good.
fn creating(sandbox: &Sandbox) {
    sandbox.write(
        "home/.idpbuilder/registries.yaml",
        "registries:\n  us-docker.pkg.dev:\n    settings:\n      create-parent: \"true\"\n",
    );
}

fn says(output: &Output, words: &[&str]) {
    for word in words {
        assert!(output.stderr.contains(word), "`{word}` is missing: {output}");
    }
}

fn tag(name: &str) -> String {
    format!("{APP}:{name}")
}

#[test]
fn an_access_token_logs_in_pushes_pulls_and_lists() {
    let net = Net::start();
    start(&net, Gar::new().with("proj", "us", "repo"));
    let sandbox = sandbox(&net);
    let login = ["login", US, "--username", "oauth2accesstoken", "--password-stdin"];
    let wrong = sandbox.idp_with_stdin(login, b"ended-token\n").exits(3);
    says(&wrong, &["does not accept the access token", "gcloud auth print-access-token"]);
    let _ = sandbox.idp_with_stdin(login, ACCESS_TOKEN.as_bytes()).exits(0);
    let pushed = sandbox.idp(["push", "./app", &tag("1")]).exits(0);
    assert!(pushed.stdout.starts_with("us-docker.pkg.dev/proj/repo/app@sha256:"), "{pushed}");
    // In one piece always.
    assert_eq!(net.count("PATCH", US, "/"), 0, "{:#?}", net.log());
    let _ = sandbox.idp(["pull", &tag("1"), "./out"]).exits(0);
    let tags = sandbox.idp(["list", APP, "--output", "json"]).exits(0);
    for word in [r#""1""#, "2026-02-01T00:00:00", "sha256:", "size"] {
        assert!(tags.stdout.contains(word), "{word}: {tags}");
    }
    assert!(net.strangers().is_empty(), "{:?}", net.strangers());
}

#[test]
fn the_key_of_a_service_account_signs_for_the_api() {
    let wrapped = base64::engine::general_purpose::STANDARD.encode(key());
    for (user, password) in [("_json_key", key()), ("_json_key_base64", wrapped)] {
        let net = Net::start();
        let site = start(&net, Gar::new());
        let sandbox = as_user(&net, user, &password);
        creating(&sandbox);
        // The fake verifies the signature, its key, its audience and its lifetime.
        let made = sandbox.idp(["push", "./app", &tag("1"), "--log-level", "debug"]).exits(0);
        for secret in ["PRIVATE KEY", "eyJ"] {
            assert!(!made.stderr.contains(secret), "{made}");
        }
        assert_eq!(with(&site).repositories.len(), 1);
        let _ = sandbox.idp(["list", APP]).exits(0);
        assert_eq!(net.count("POST", "oauth2.googleapis.com", "/"), 0, "{:#?}", net.log());
    }
}

#[test]
fn a_path_is_no_key() {
    let net = Net::start();
    start(&net, Gar::new().with("proj", "us", "repo"));
    let refused = as_user(&net, "_json_key", "key.json").idp(["push", "./app", &tag("1")]).exits(3);
    says(&refused, &["not the key of a service account"]);
    assert_eq!(net.count("GET", US, "/v2/token"), 0, "{:#?}", net.log());
}

#[test]
fn a_token_of_the_command_line_goes_as_it_is() {
    let net = Net::start();
    start(&net, Gar::new().with("proj", "us", "repo"));
    let sandbox = sandbox(&net);
    let _ = sandbox.idp(["push", "./app", &tag("1"), "--token", ACCESS_TOKEN]).exits(0);
    assert_eq!(net.count("GET", US, "/v2/token"), 0, "{:#?}", net.log());
    let ended = sandbox.idp(["push", "./app", &tag("2"), "--token", "ended-token"]).exits(3);
    says(&ended, &["does not accept the access token"]);
}

#[test]
fn the_repository_is_made_when_it_is_asked_for() {
    let net = Net::start();
    let mut gar = Gar::new();
    gar.looks = 3;
    let site = start(&net, gar);
    let sandbox = logged_in(&net);
    let missing = sandbox.idp(["push", "./app", &tag("1")]).exits(2);
    says(&missing, &["no repository `repo` in us", "--create parent"]);
    assert_eq!(net.count("POST", API, "/"), 0, "{:#?}", net.log());
    creating(&sandbox);
    let _ = sandbox.idp(["push", "./app", &tag("1"), "--dry-run"]);
    assert_eq!(net.count("POST", API, "/"), 0, "{:#?}", net.log());
    assert!(with(&site).repositories.is_empty());
    let _ = sandbox.idp(["push", "./app", &tag("1")]).exits(0);
    assert_eq!(net.count("POST", API, "/v1/projects/proj/locations/us/repositories?repositoryId=repo"), 1);
    assert_eq!(with(&site).repositories.len(), 1);
    // A second push asks for nothing.
    net.forget();
    let _ = sandbox.idp(["push", "./app", &tag("2")]).exits(0);
    assert_eq!(net.count("*", API, "/"), 0, "{:#?}", net.log());
}

#[test]
fn why_it_cannot_be_made_and_a_domain_before_the_project() {
    let net = Net::start();
    let site = start(&net, Gar::new());
    let sandbox = logged_in(&net);
    creating(&sandbox);
    let push = || sandbox.idp(["push", "./app", &tag("1")]);
    with(&site).switched_off = true;
    says(&push().exits(3), &["gcloud services enable artifactregistry.googleapis.com --project proj"]);
    with(&site).switched_off = false;
    with(&site).rights.remove("create");
    says(&push().exits(3), &["roles/artifactregistry.admin"]);
    with(&site).rights.insert("create");
    let name = format!("{US}/example.com/proj/repo/app:1");
    let _ = sandbox.idp(["push", "./app", &name]).exits(0);
    let key = ("example.com:proj".to_owned(), "us".to_owned(), "repo".to_owned());
    assert!(with(&site).repositories.contains_key(&key), "the domain is joined by a colon");
}

#[test]
fn names_have_three_parts() {
    let net = Net::start();
    start(&net, Gar::new());
    let sandbox = logged_in(&net);
    let refused = sandbox.idp(["push", "./app", "us-docker.pkg.dev/proj/app:1"]);
    says(&refused, &["us-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE"]);
    assert_ne!(refused.code, 0);
    assert_eq!(net.count("*", US, "/"), 0, "{:#?}", net.log());
}

#[test]
fn a_missing_permission_is_named_with_its_role() {
    let net = Net::start();
    let site = start(&net, Gar::new().with("proj", "us", "repo"));
    with(&site).rights = ["pull", "api"].into();
    let refused = logged_in(&net).idp(["push", "./app", &tag("1")]).exits(3);
    says(&refused, &["uploadArtifacts", "roles/artifactregistry.writer", "or the repository does not exist"]);
    let anonymous = sandbox(&net).idp(["pull", &tag("1"), "./out"]).exits(3);
    says(&anonymous, &["gcloud auth configure-docker us-docker.pkg.dev"]);
}

#[test]
fn public_repositories_need_nobody() {
    let net = Net::start();
    let mut gar = Gar::new().with("proj", "us", "repo");
    gar.public = true;
    base::image(&mut gar.registry, "proj/repo/app", "1", "content");
    start(&net, gar);
    let sandbox = sandbox(&net);
    let _ = sandbox.idp(["pull", &tag("1"), "oci:./out"]).exits(0);
    // The API knows nobody; the registry lists its tags to everybody.
    let tags = sandbox.idp(["list", APP]).exits(0);
    assert!(tags.stdout.contains("2026-11-21"), "{tags}");
    assert_eq!(net.count("*", API, "/"), 0, "{:#?}", net.log());
}

#[test]
fn a_project_is_listed_over_its_repositories() {
    let net = Net::start();
    let mut gar =
        Gar::new().with("proj", "us", "base").with("proj", "us", "repo").with("other", "us", "repo");
    gar.page = 1;
    let maven = Repository { format: "MAVEN".to_owned(), ..Repository::default() };
    gar.repositories.insert(("proj".to_owned(), "us".to_owned(), "maven".to_owned()), maven);
    for name in ["proj/base/debian", "proj/repo/team/app", "proj/repo/web", "other/repo/x"] {
        base::image(&mut gar.registry, name, "1", name);
    }
    start(&net, gar);
    let sandbox = logged_in(&net);
    let nothing = sandbox.idp(["list", US]);
    says(&nothing, &["--namespace PROJECT"]);
    assert_ne!(nothing.code, 0);
    let names = |output: &Output| -> Vec<String> {
        let found = output.stdout.lines().filter_map(|line| line.split_whitespace().next());
        found.filter(|name| *name != "NAME").map(str::to_owned).collect()
    };
    let all = sandbox.idp(["list", US, "--namespace", "proj"]).exits(0);
    assert_eq!(names(&all), ["proj/base/debian", "proj/repo/team/app", "proj/repo/web"]);
    let one = sandbox.idp(["list", US, "--namespace", "proj/repo"]).exits(0);
    assert_eq!(names(&one), ["proj/repo/team/app", "proj/repo/web"]);
    let sandbox = sandbox.with_env("CLOUDSDK_CORE_PROJECT", "proj");
    let found = sandbox.idp(["search", "app", "-r", US]).exits(0);
    assert!(found.stdout.contains("proj/repo/team/app") && !found.stdout.contains("debian"), "{found}");
}

#[test]
fn tags_of_one_image_among_many() {
    let net = Net::start();
    let mut gar = Gar::new().with("proj", "us", "repo");
    gar.page = 2;
    for name in ["a", "app", "b", "c"] {
        for tag in ["1", "2"] {
            base::image(&mut gar.registry, &format!("proj/repo/{name}"), tag, &format!("{name}{tag}"));
        }
    }
    let site = start(&net, gar);
    let sandbox = logged_in(&net);
    let list = |sandbox: &Sandbox| {
        let tags = sandbox.idp(["list", APP]).exits(0);
        let names = tags.stdout.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(list(&sandbox), ["1", "2"]);
    // Not let into the API: the registry tells them, with sizes or without.
    with(&site).rights.remove("api");
    assert_eq!(list(&sandbox), ["1", "2"]);
    with(&site).plain_tags = true;
    let plain = sandbox.idp(["list", APP]).exits(0);
    assert_eq!(
        plain.stdout.split_whitespace().filter(|word| *word != "NAME").collect::<Vec<_>>(),
        ["1", "2"]
    );
}

#[test]
fn gcr_io_has_no_repositories_in_its_names() {
    let net = Net::start();
    let site = start(&net, Gar::new().with("proj", "us", "gcr.io"));
    let sandbox = logged_in(&net);
    let _ = sandbox.idp(["push", "./app", "gcr.io/proj/app:1"]).exits(0);
    let tags = sandbox.idp(["list", "gcr.io/proj/app"]).exits(0);
    assert!(tags.stdout.contains("2026-11-21"), "{tags}");
    let images = sandbox.idp(["list", "gcr.io", "--namespace", "proj"]).exits(0);
    assert!(images.stdout.contains("proj/app"), "{images}");
    // Without the API it tells what lies below a project.
    with(&site).rights.remove("api");
    let images = sandbox.idp(["list", "gcr.io", "--namespace", "proj"]).exits(0);
    assert!(images.stdout.contains("proj/app"), "{images}");
}

#[test]
fn a_digest_goes_after_its_tags_and_only_with_leave() {
    for plain_tags in [false, true] {
        let net = Net::start();
        let mut gar = Gar::new().with("proj", "us", "repo");
        gar.plain_tags = plain_tags;
        let digest = base::image(&mut gar.registry, "proj/repo/app", "1", "content");
        base::image(&mut gar.registry, "proj/repo/app", "2", "content");
        base::image(&mut gar.registry, "proj/repo/app", "3", "content");
        let site = start(&net, gar);
        let sandbox = logged_in(&net);
        let tags = || with(&site).registry.tags.len();
        let _ = sandbox.idp(["delete", &tag("1"), "--dry-run"]).exits(0);
        assert_eq!(tags(), 3);
        let _ = sandbox.idp(["delete", &tag("1")]).exits(0);
        assert_eq!(tags(), 2);
        let by_digest = format!("{APP}@{digest}");
        let refused = sandbox.idp(["delete", &by_digest]).exits(1);
        says(&refused, &["2, 3", "--allow-siblings"]);
        let _ = sandbox.idp(["delete", &by_digest, "--allow-siblings"]).exits(0);
        assert_eq!(tags(), 0);
        assert!(with(&site).registry.manifests.is_empty());
        let _ = sandbox.idp(["delete", &tag("9")]).exits(2);
    }
}

#[test]
fn an_image_goes_in_one_piece_or_piece_by_piece() {
    for api in [true, false] {
        let net = Net::start();
        let mut gar = Gar::new().with("proj", "us", "repo");
        if !api {
            gar.rights.remove("api");
        }
        let child = base::image(&mut gar.registry, "proj/repo/app", "", "child");
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": child, "size": 1}]});
        let kind = "application/vnd.oci.image.index.v1+json";
        gar.registry.add_manifest("proj/repo/app", "1", kind, index.to_string());
        let site = start(&net, gar);
        let sandbox = logged_in(&net);
        let _ = sandbox.idp(["delete", APP, "--repository", "--dry-run"]).exits(0);
        assert_eq!(with(&site).registry.manifests.len(), 2);
        let _ = sandbox.idp(["delete", APP, "--repository", "--yes"]).exits(0);
        assert!(with(&site).registry.manifests.is_empty() && with(&site).registry.tags.is_empty());
        assert_eq!(net.count("DELETE", US, "/v2/") == 0, api, "{:#?}", net.log());
    }
}

#[test]
fn immutable_tags_stay() {
    let net = Net::start();
    let mut gar = Gar::new();
    let immutable = Repository { immutable_tags: true, ..Repository::default() };
    gar.repositories.insert(("proj".to_owned(), "us".to_owned(), "repo".to_owned()), immutable);
    base::image(&mut gar.registry, "proj/repo/app", "1", "content");
    start(&net, gar);
    let sandbox = logged_in(&net);
    let refused = sandbox.idp(["push", "./app", &tag("1")]).exits(1);
    says(&refused, &["immutable", "--no-immutable-tags", "under another tag"]);
    let refused = sandbox.idp(["delete", &tag("1")]).exits(1);
    says(&refused, &["immutable"]);
    let _ = sandbox.idp(["push", "./app", &tag("2")]).exits(0);
}

#[test]
fn the_quota_is_waited_for() {
    let net = Net::start();
    let site = start(&net, Gar::new().with("proj", "us", "repo"));
    let sandbox = logged_in(&net).with_env("IDPBUILDER_OCI_RETRY_COUNT", "3");
    with(&site).over_quota = 1;
    let _ = sandbox.idp(["push", "./app", &tag("1")]).exits(0);
    with(&site).over_quota = 1000;
    let over = sandbox.idp(["push", "./app", &tag("2")]).exits(4);
    says(&over, &["quota", "console.cloud.google.com/iam-admin/quotas?project=proj"]);
}

#[test]
fn application_default_credentials_are_found_by_themselves() {
    let net = Net::start();
    let site = start(&net, Gar::new());
    net.site(&["oauth2.googleapis.com"], |request: &Request| {
        let signed = request.form("assertion").is_some_and(|token| token.split('.').count() == 3);
        if request.path() != "/token" || !signed {
            return base::document(400, &serde_json::json!({"error": "invalid_grant"}));
        }
        let token =
            serde_json::json!({"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 3599});
        base::document(200, &token)
    });
    let mut sandbox = sandbox(&net);
    creating(&sandbox);
    let file = sandbox.write_private("home/key.json", &key());
    sandbox.set_env("GOOGLE_APPLICATION_CREDENTIALS", &file.display().to_string());
    let pushed = sandbox.idp(["push", "./app", &tag("1"), "--log-level", "debug"]).exits(0);
    for secret in [ACCESS_TOKEN, "PRIVATE KEY"] {
        assert!(!pushed.stderr.contains(secret), "{secret} in {pushed}");
    }
    // The registry by its token endpoint, the API with the token itself.
    assert_eq!(with(&site).repositories.len(), 1);
    assert!(net.count("GET", US, "/v2/token") >= 1, "{:#?}", net.log());
    let tags = sandbox.idp(["list", APP]).exits(0);
    assert!(tags.stdout.contains("2026-02-01"), "{tags}");
}
