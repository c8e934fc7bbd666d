//! skopeo and podman, of containers/image: without a login they answer a Basic challenge with no name and no password.

use std::path::Path;
use std::process::{Command, Output};

use idp_test_support::images::TestImage;
use idp_test_support::peers::{require, tool};
use serde_json::json;

use crate::Registry;

fn run(program: &Path, home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env("HOME", home).env("XDG_RUNTIME_DIR", home).current_dir(home);
    command.env_remove("REGISTRY_AUTH_FILE").env_remove("DOCKER_CONFIG").output().expect("it runs")
}

fn good(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// It is told to log in, and that is all that is wrong.
fn refused(output: &Output) {
    let told = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(!output.status.success(), "{output:?}");
    assert!(told.contains("unauthorized") || told.contains("denied"), "{told}");
}

/// What may be read without a login, in both ways to say so.
fn readable() -> [serde_json::Value; 4] {
    let rules = json!([
        {"repositories": ["public/**"], "subjects": ["anonymous"], "actions": ["pull"]},
        {"subjects": ["alice"], "actions": ["pull", "push", "delete", "catalogue"]},
    ]);
    [
        json!({"kind": "htpasswd", "anonymousPull": true}),
        json!({"kind": "htpasswd", "rules": rules}),
        json!({"kind": "token", "anonymousPull": true}),
        json!({"kind": "token", "rules": rules}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_and_does_not_write() {
    let Some(skopeo) = require(tool("skopeo"), "skopeo") else { return };
    let podman = require(tool("podman"), "podman");
    for settings in readable() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = directory.path();
        let has_rules = settings.get("rules").is_some();
        let registry = Registry::start(home, settings).await;
        let image = TestImage::one_layer().expect("an image");
        image.write_layout(&home.join("in"), Some("v1")).expect("written");
        let copy = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
        let skopeo = |arguments: &[&str]| run(&skopeo, home, arguments);
        let skopeo_copy = |arguments: &[&str]| skopeo(&[&copy, arguments].concat());
        let at = |name: &str| format!("docker://{}/{name}", registry.address);
        for name in ["public/app:v1", "team/app:v1"] {
            good(&skopeo_copy(&["--dest-creds", "alice:ecila", "oci:in:v1", &at(name)]));
        }
        good(&skopeo_copy(&[&at("public/app:v1"), "oci:out:v1"]));
        good(&skopeo_copy(&["--src-no-creds", &at("public/app:v1"), "oci:out:v2"]));
        good(&skopeo(&["list-tags", "--tls-verify=false", &at("public/app")]));
        refused(&skopeo_copy(&["oci:in:v1", &at("public/app:v2")]));
        refused(&skopeo_copy(&["--src-creds", "alice:wrong", &at("public/app:v1"), "oci:out:v3"]));
        if has_rules {
            refused(&skopeo_copy(&[&at("team/app:v1"), "oci:out:v4"]));
        }
        let Some(podman) = &podman else { continue };
        let (root, runroot) = (home.join("storage"), home.join("run"));
        let (root, runroot) = (root.to_str().expect("UTF-8"), runroot.to_str().expect("UTF-8"));
        let storage = ["--root", root, "--runroot", runroot, "--storage-driver", "vfs"];
        let podman = |arguments: &[&str]| run(podman, home, &[&storage, arguments].concat());
        let (public, team) =
            (format!("{}/public/app", registry.address), format!("{}/team/app:v1", registry.address));
        let (v1, v3) = (format!("{public}:v1"), format!("{public}:v3"));
        good(&podman(&["pull", "--tls-verify=false", &v1]));
        refused(&podman(&["push", "--tls-verify=false", &v1, &v3]));
        if has_rules {
            refused(&podman(&["pull", "--tls-verify=false", &team]));
        }
        let authfile = home.join("auth.json");
        let authfile = authfile.to_str().expect("UTF-8");
        let login = ["login", "--tls-verify=false", "--authfile", authfile, "-u", "alice", "-p", "ecila"];
        good(&podman(&[&login, [registry.address.as_str()].as_slice()].concat()));
        good(&podman(&["push", "--tls-verify=false", "--authfile", authfile, &v1, &v3]));
    }
}
