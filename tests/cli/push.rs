//! Push and pull through a provider, against the registry of the same binary.

use insta::assert_snapshot;

use super::sandbox;

#[test]
fn there_and_back() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    sandbox.write("work/app/deploy.yaml", "kind: Deployment\n");
    sandbox.write("work/app/sub/service.yaml", "kind: Service\n");
    let reference = format!("{}/team/app:1.0", registry.address);
    let pushed = sandbox.idp(["push", "./app", &reference]).exits(0);
    let pinned = pushed.stdout.trim().to_owned();
    assert!(pinned.starts_with(&format!("{}/team/app@sha256:", registry.address)), "{pushed}");
    assert_eq!(pushed.stdout.lines().count(), 1, "{pushed}");
    assert!(pushed.stderr.contains("through provider generic"), "{pushed}");

    // A second push sends nothing.
    let again = sandbox.idp(["push", "./app", &reference, "--output", "json"]).exits(0);
    let result: serde_json::Value = serde_json::from_str(&again.stdout).expect("one JSON document");
    assert_eq!((result["blobs-sent"].as_u64(), result["pinned"].as_str()), (Some(0), Some(pinned.as_str())));
    for line in again.stderr.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("ndjson");
        assert!(event["event"].is_string(), "{line}");
    }

    let pulled = sandbox.idp(["pull", &pinned, "./out"]).exits(0);
    assert_eq!(pulled.stdout.trim(), pinned);
    for file in ["deploy.yaml", "sub/service.yaml"] {
        let read = |directory: &str| {
            std::fs::read(sandbox.path(&format!("work/{directory}/{file}"))).expect("there")
        };
        assert_eq!(read("app"), read("out"));
    }
    let layout = sandbox.idp(["pull", &reference, "oci:layout:1.0"]).exits(0);
    assert_eq!(layout.stdout.trim(), pinned);
    let copy =
        sandbox.idp(["push", "oci:layout:1.0", &format!("{}/team/copy:1.0", registry.address)]).exits(0);
    assert_eq!(copy.stdout.trim().split('@').nth(1), pinned.split('@').nth(1));

    let tags = sandbox.idp(["list", &format!("{}/team/app", registry.address)]).exits(0);
    assert_eq!(tags.stdout, "1.0\n");
    let repositories = sandbox.idp(["list", "--registry", &registry.address]).exits(0);
    assert_eq!(repositories.stdout, "team/app\nteam/copy\n");
}

#[test]
fn blobs_of_another_repository_are_mounted() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    sandbox.write("work/app/a", "a");
    let _ = sandbox.idp(["push", "./app", &format!("{}/team/app:1", registry.address)]).exits(0);
    let mounted = format!("{}/team/mounted:1", registry.address);
    let from = ["--mount-from", "team/other", "--mount-from", "team/app"];
    let pushed =
        sandbox.idp([["push", "./app", &mounted, "--output", "json"].as_slice(), &from].concat()).exits(0);
    let result: serde_json::Value = serde_json::from_str(&pushed.stdout).expect("one JSON document");
    let counts =
        (result["blobs-sent"].as_u64(), result["bytes-sent"].as_u64(), result["blobs-reused"].as_u64());
    assert_eq!(counts, (Some(0), Some(0), Some(2)), "{pushed}");
}

#[test]
fn a_rehearsal_writes_nothing() {
    let sandbox = sandbox();
    sandbox.write("work/app/a", "a");
    // Port 9 is nobody's: a rehearsal does not ask.
    assert_snapshot!(sandbox.idp(["push", "--dry-run", "./app", "127.0.0.1:9/app:1"]), @r#"
    exit: 0
    --- stdout
    127.0.0.1:[PORT]/app@sha256:a6384d584d5602475b0b5363609a4274ace497e82e3b3c79dd8298a48d2844d8
    --- stderr
    What a push would find at 127.0.0.1:[PORT] is not known: 127.0.0.1:[PORT] cannot be reached: connection refused
    Would push directory [ROOT]/work/./app to 127.0.0.1:[PORT]/app:1: 2 blobs (86 B); nothing was written
    "#);
}

#[test]
fn the_name_of_the_source_serves_where_none_is_given() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    sandbox.write("work/app/a", "a");
    let pushed = sandbox.idp(["push", "./app", "-r", &registry.address, "--quiet"]).exits(0);
    assert!(pushed.stdout.starts_with(&format!("{}/app@sha256:", registry.address)), "{pushed}");
    assert_eq!(pushed.stderr, "");
    let tags = sandbox.idp(["list", "app", "-r", &registry.address]).exits(0);
    assert_eq!(tags.stdout, "latest\n");
}

#[test]
fn what_is_known_about_a_registry() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    assert_snapshot!(sandbox.idp(["registry", "detect", &registry.address]), @r#"
    exit: 0
    --- stdout
    registry    127.0.0.1:[PORT] (http)
    provider    generic 0.1.0 (built in)
    evidence    nothing else fits: the generic provider
    granted     egress=registry GET,DELETE /v2/
    granted     egress=realm GET,POST
    credentials none: anonymous
    --- stderr
    "#);
    assert_snapshot!(sandbox.idp(["provider", "why", &format!("{}/team/app", registry.address), "--provider", "generic"]), @r#"
    exit: 0
    --- stdout
    registry    127.0.0.1:[PORT] (http)
    provider    generic 0.1.0 (built in)
    evidence    --provider says generic
    granted     egress=registry GET,DELETE /v2/
    granted     egress=realm GET,POST
    credentials none: anonymous
    --- stderr
    "#);
    assert_snapshot!(sandbox.idp(["provider", "show", "nobody"]), @r#"
    exit: 1
    --- stdout
    --- stderr
    error: Failed to show provider `nobody`
      caused by: provider nobody: provider-unusable: there is no provider of this name; there are acr, dockerhub, ecr, gar, generic, ghcr, gitea, gitlab, harbor, quay, or give a path
    "#);
}

/// What CI with a private registry does: a component of its own, by its path.
#[test]
fn a_component_by_its_path() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    sandbox.write("work/app/a", "a");
    let built = std::env::var_os("IDP_PROVIDER_DIR").expect("cargo sets it (.cargo/config.toml)");
    let component = std::path::Path::new(&built).join("generic.wasm");
    std::fs::copy(&component, sandbox.path("work/mine.wasm")).expect("`cargo xtask providers` has built it");
    let reference = format!("{}/app:1", registry.address);
    let why = sandbox.idp(["provider", "why", &reference, "--provider", "./mine.wasm"]).exits(0);
    assert!(why.stdout.contains("(./mine.wasm)") && why.stdout.contains("--provider says"), "{why}");
    let pushed = sandbox.idp(["push", "./app", &reference, "--provider", "./mine.wasm"]).exits(0);
    // The same by configuration; a relative path starts at the file.
    std::fs::rename(sandbox.path("work/mine.wasm"), sandbox.path("home/.idpbuilder/mine.wasm"))
        .expect("moved");
    let entry = format!("registries:\n  {}: {{provider: ./mine.wasm}}\n", registry.address);
    sandbox.write("home/.idpbuilder/registries.yaml", &entry);
    let why = sandbox.idp(["provider", "why", &reference]).exits(0);
    assert!(why.stdout.contains("the registry's configuration says"), "{why}");
    let again = sandbox.idp(["push", "./app", &reference]).exits(0);
    assert_eq!(pushed.stdout, again.stdout);
}
