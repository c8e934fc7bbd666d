//! A real Gitea, of two lines: what is listed, deleted and refused, by its API and by the registry.

use idp_test_support::faults::digest_of;
use idp_test_support::peers::{self, Gitea, GiteaOptions};
use idp_test_support::sandbox::Sandbox;

use super::registries::log_in;
use super::sandbox;

const OTHER: (&str, &str) = ("someone", "other-password-1");

async fn gitea(options: &GiteaOptions) -> Option<Gitea> {
    let name = if options.old { "gitea-1.23" } else { "gitea" };
    peers::require(Gitea::with(options).await, name)
}

fn as_user(gitea: &Gitea, (user, password): (&str, &str)) -> Sandbox {
    let sandbox = sandbox();
    log_in(&sandbox, gitea.address(), user, password);
    sandbox.write("work/app/a", "a");
    sandbox
}

/// Both lines do the same; what the older lacks is made up for.
async fn listed_and_deleted(options: GiteaOptions) {
    let Some(gitea) = gitea(&options).await else { return };
    let sandbox = as_user(&gitea, gitea.admin());
    let at = |name: &str| format!("{}/idp-admin/{name}", gitea.address());
    for name in ["app:1", "app:2", "group/app:1"] {
        sandbox.write("work/app/a", name);
        let _ = sandbox.idp(["push", "./app", &at(name)]).exits(0);
    }
    let owner =
        sandbox.idp(["list", gitea.address(), "--namespace", "idp-admin", "--output", "json"]).exits(0);
    let found: serde_json::Value = serde_json::from_str(&owner.stdout).expect("JSON");
    let names: Vec<_> = found["entries"].as_array().expect("a list").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["idp-admin/app", "idp-admin/group/app"], "{owner}");
    assert!(owner.stdout.contains("\"updated-at\""), "{owner}");

    // Two names of one content, and what the API knows about both.
    let _ = sandbox.idp(["push", "./app", &at("group/app:2")]).exits(0);
    let tags = sandbox.idp(["list", &at("group/app"), "--output", "json"]).exits(0);
    let found: serde_json::Value = serde_json::from_str(&tags.stdout).expect("JSON");
    let entries = found["entries"].as_array().expect("a list");
    assert_eq!(entries.len(), 2, "{tags}");
    assert!(entries.iter().all(|entry| entry["digest"] == entries[0]["digest"]), "{tags}");
    let digest = entries[0]["digest"].as_str().expect("a digest").to_owned();

    let delete = |arguments: &[&str]| sandbox.idp([&["delete", "--yes"], arguments].concat());
    let siblings = delete(&[&format!("{}@{digest}", at("group/app"))]).exits(1);
    assert!(siblings.stderr.contains('1') && siblings.stderr.contains('2'), "{siblings}");
    let _ = delete(&[&at("group/app:1")]).exits(0);
    let left = sandbox.idp(["list", &at("group/app")]).exits(0);
    assert!(left.stdout.contains('2'), "{left}");
    let _ = delete(&["--repository", &at("group/app")]).exits(0);
    // Before 1.26 an image without versions is still a name.
    let gone = sandbox.idp(["list", &at("group/app")]);
    assert!(gone.code == 2 || (gone.code == 0 && gone.stdout.trim().is_empty()), "{gone}");
    // The other package is untouched.
    let other = sandbox.idp(["list", &at("app")]).exits(0);
    assert!(other.stdout.contains('1') && other.stdout.contains('2'), "{other}");
    let _ = delete(&[&at("app:9")]).exits(2);

    // Who may not, and who is nobody.
    gitea.create_user(OTHER.0, OTHER.1).await.expect("a user");
    let foreign = as_user(&gitea, OTHER);
    let refused = foreign.idp(["delete", "--yes", "--repository", &at("app")]).exits(3);
    assert!(refused.stderr.contains("write:package"), "{refused}");
    let nobody = super::sandbox();
    let seen = nobody.idp(["list", &at("app")]).exits(0);
    assert!(seen.stdout.contains('1'), "{seen}");
    let seen = nobody.idp(["list", gitea.address(), "--namespace", "idp-admin"]).exits(0);
    assert!(seen.stdout.contains("idp-admin/app"), "{seen}");
}

#[tokio::test]
async fn packages_of_the_newest() {
    listed_and_deleted(GiteaOptions::default()).await;
}

#[tokio::test]
async fn packages_of_an_older_line() {
    listed_and_deleted(GiteaOptions { old: true, ..GiteaOptions::default() }).await;
}

#[tokio::test]
async fn limits_are_explained() {
    for packages in ["LIMIT_SIZE_CONTAINER = 1 KiB", "LIMIT_TOTAL_OWNER_SIZE = 1 KiB"] {
        let Some(gitea) = gitea(&GiteaOptions { packages, ..GiteaOptions::default() }).await else { return };
        // Administrators have no limits.
        gitea.create_user(OTHER.0, OTHER.1).await.expect("a user");
        let sandbox = as_user(&gitea, OTHER);
        let noise: String = (0..20_000u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
        sandbox.write("work/app/a", &noise);
        let refused = sandbox.idp(["push", "./app", &format!("{}/someone/app:1", gitea.address())]).exits(1);
        for told in ["quota", "LIMIT_SIZE_CONTAINER", "LIMIT_TOTAL_OWNER_SIZE"] {
            assert!(refused.stderr.contains(told), "{told}: {refused}");
        }
    }
}

/// An image layout whose config is no JSON.
fn odd_layout(sandbox: &Sandbox) {
    let blob = |text: &str| {
        let digest = digest_of(text.as_bytes());
        sandbox.write(&format!("work/odd/blobs/sha256/{}", digest.trim_start_matches("sha256:")), text);
        (digest, text.len())
    };
    let (config, layer) = (blob("not JSON"), blob("content"));
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.example.config", "digest": config.0, "size": config.1},
        "layers": [{"mediaType": "application/vnd.example.content", "digest": layer.0, "size": layer.1}],
    });
    let (digest, size) = blob(&manifest.to_string());
    let entry = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size});
    sandbox.write(
        "work/odd/index.json",
        &serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string(),
    );
    sandbox.write("work/odd/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[tokio::test]
async fn a_config_that_is_no_json_is_taken_by_newer_ones_only() {
    for (old, code) in [(false, 0), (true, 4)] {
        let Some(gitea) = gitea(&GiteaOptions { old, ..GiteaOptions::default() }).await else { return };
        let mut sandbox = as_user(&gitea, gitea.admin());
        sandbox.set_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
        odd_layout(&sandbox);
        let pushed =
            sandbox.idp(["push", "./odd", &format!("{}/idp-admin/odd:1", gitea.address())]).exits(code);
        assert_eq!(pushed.stderr.contains("push with a JSON config"), old, "{pushed}");
    }
}

#[tokio::test]
async fn a_wrong_root_url_is_worked_around_and_said() {
    let root_url = Some("http://127.0.0.1:9/");
    let Some(gitea) = gitea(&GiteaOptions { old: true, root_url, ..GiteaOptions::default() }).await else {
        return;
    };
    let sandbox = as_user(&gitea, gitea.admin());
    let pushed = sandbox.idp(["push", "./app", &format!("{}/idp-admin/app:1", gitea.address())]).exits(0);
    assert!(pushed.stderr.contains("ROOT_URL"), "{pushed}");
}

#[tokio::test]
async fn a_gitea_under_a_path_has_its_api_there() {
    let options = GiteaOptions {
        root_url: Some("http://127.0.0.1:{port}/git/"),
        under_path: true,
        ..GiteaOptions::default()
    };
    let Some(gitea) = gitea(&options).await else { return };
    let sandbox = as_user(&gitea, gitea.admin());
    let address = gitea.address();
    let settings = format!("registries:\n  \"{address}\":\n    settings:\n      api: http://{address}/git\n");
    sandbox.write("home/.idpbuilder/registries.yaml", &settings);
    let _ = sandbox.idp(["push", "./app", &format!("{address}/idp-admin/app:1")]).exits(0);
    let tags = sandbox.idp(["list", &format!("{address}/idp-admin/app"), "--output", "json"]).exits(0);
    assert!(tags.stdout.contains("sha256:") && tags.stdout.contains("\"pushed-at\""), "{tags}");
    let asked = gitea.requests().await.expect("an access log");
    assert!(asked.iter().any(|one| one.target.contains("/packages/idp-admin")), "{asked:#?}");
}
