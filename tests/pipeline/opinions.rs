//! Second opinions: other clients read what we pushed, and we pull what they pushed.

use std::path::Path;
use std::process::Command;

use idp_test_support::images::TestImage;
use idp_test_support::peers;

use super::{digest, image, registries, sandbox};

/// Runs a client to its end in `directory`; its stdout.
#[track_caller]
fn run(program: &Path, directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).current_dir(directory).args(arguments).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?}: {told}", program.display());
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn skopeo() {
    let Some(registry) = registries::distribution_3(false).await else { return };
    let Some(skopeo) = peers::require(peers::tool("skopeo"), "skopeo") else { return };
    let sandbox = sandbox();
    let made = TestImage::index().expect("an image");
    let source = image::layout(&sandbox, &made, "in");
    let ours = registry.reference("ours:1");
    let _ = sandbox.idp(["push", &source, &ours]).exits(0);
    let work = sandbox.path("work");
    let inspected = run(&skopeo, &work, &["inspect", "--tls-verify=false", &format!("docker://{ours}")]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    assert_eq!(inspected["Digest"], made.digest());
    let copy = |from: &str, to: &str| {
        let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        run(
            &skopeo,
            &work,
            &[&["--insecure-policy", "copy", "--all", "--preserve-digests"], &tls[..], &[from, to]].concat(),
        )
    };
    copy(&format!("docker://{ours}"), "oci:copied:1");
    image::assert_holds(&work.join("copied"), &made);
    let theirs = registry.reference("theirs:1");
    copy("oci:in:1", &format!("docker://{theirs}"));
    let pulled = sandbox.idp(["pull", &theirs, "oci:out:1"]).exits(0);
    assert_eq!(digest(&pulled), made.digest());
    image::assert_holds(&work.join("out"), &made);
}

#[tokio::test]
async fn crane() {
    let Some(registry) = registries::distribution_3(false).await else { return };
    let Some(crane) = peers::require(peers::tool("crane"), "crane") else { return };
    let sandbox = sandbox();
    let made = TestImage::layers(5).expect("an image");
    let source = image::layout(&sandbox, &made, "in");
    let ours = registry.reference("ours:1");
    let _ = sandbox.idp(["push", &source, &ours]).exits(0);
    let work = sandbox.path("work");
    assert_eq!(run(&crane, &work, &["digest", "--insecure", &ours]).trim(), made.digest());
    let manifest = made.contents[made.digest()].bytes().expect("in memory");
    assert_eq!(run(&crane, &work, &["manifest", "--insecure", &ours]).as_bytes(), manifest);
    run(&crane, &work, &["pull", "--insecure", "--format=oci", &ours, "copied"]);
    image::assert_holds(&work.join("copied"), &made);
    let theirs = registry.reference("theirs:1");
    run(&crane, &work, &["push", "--insecure", "in", &theirs]);
    let pulled = sandbox.idp(["pull", &theirs, "oci:out:1"]).exits(0);
    assert_eq!(digest(&pulled), made.digest());
    image::assert_holds(&work.join("out"), &made);
}

#[tokio::test]
async fn oras() {
    let Some(registry) = registries::distribution_3(false).await else { return };
    let Some(oras) = peers::require(peers::tool("oras"), "oras") else { return };
    let sandbox = sandbox();
    sandbox.write("work/app/deploy.yaml", "kind: Deployment\n");
    sandbox.write("work/app/sub/service.yaml", "kind: Service\n");
    let ours = registry.reference("ours:1");
    let _ = sandbox.idp(["push", "./app", &ours]).exits(0);
    let work = sandbox.path("work");
    let read = |path: &str| std::fs::read_to_string(work.join(path)).unwrap_or_default();
    run(&oras, &work, &["pull", "--plain-http", "-o", "pulled", &ours]);
    let files = [("deploy.yaml", "kind: Deployment\n"), ("sub/service.yaml", "kind: Service\n")];
    for (file, text) in files {
        let found = [read(&format!("pulled/{file}")), read(&format!("pulled/app/{file}"))];
        assert!(found.contains(&text.to_owned()), "{file} is not among what oras pulled");
    }
    let theirs = registry.reference("theirs:1");
    run(&oras, &work.join("app"), &["push", "--plain-http", &theirs, "deploy.yaml", "sub"]);
    let _ = sandbox.idp(["pull", &theirs, "./out"]).exits(0);
    for (file, text) in files {
        assert_eq!(read(&format!("out/{file}")), text, "{file}");
    }
}
