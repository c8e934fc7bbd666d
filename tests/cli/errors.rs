//! Failures: the sentence, the causes, the hint, the exit code.

use insta::assert_snapshot;

use super::sandbox;

#[test]
fn usage() {
    let sandbox = sandbox();
    for arguments in [
        &["push"][..],
        &["frobnicate"],
        &["push", "--no-such-flag", "x"],
        &["push", "--output", "xml", "x"],
        &["push", "x", "UPPER/case"],
        &["pull", "r.example/app:bad tag"],
        &["push", "--platform", "linux", "x", "r.example/x"],
        &["push", "--password", "a", "--password-stdin", "x"],
        &["registry", "serve", "--memory", "--root", "x"],
        &["list", "https://"],
    ] {
        let output = sandbox.idp(arguments).exits(64);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output}");
    }
}

#[test]
fn no_registry_is_named() {
    assert_snapshot!(sandbox().idp(["pull", "app:1", "oci:out"]), @r#"
    exit: 64
    --- stdout
    --- stderr
    error: Failed to pull `app:1` to `oci:out`
      caused by: no registry is named

    hint: write host/repository, give --registry, set IDPBUILDER_REGISTRY_URL, or set `default:` in ~/.idpbuilder/registries.yaml
    "#);
}

#[test]
fn a_directory_that_is_not_there() {
    assert_snapshot!(sandbox().idp(["push", "./missing", "127.0.0.1:9/app"]), @r#"
    exit: 2
    --- stdout
    --- stderr
    error: Failed to push `./missing` to `127.0.0.1:[PORT]/app`
      caused by: there is no file or directory [ROOT]/work/./missing
    "#);
}

#[test]
fn a_docker_daemon_that_is_not_there() {
    let sandbox = sandbox().with_env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    assert_snapshot!(sandbox.idp(["push", "app:1", "127.0.0.1:9/app"]), @r#"
    exit: 2
    --- stdout
    --- stderr
    error: Failed to push `app:1` to `127.0.0.1:[PORT]/app`
      caused by: image app:1 of the Docker daemon at unix:///nonexistent/docker.sock: cannot reach the Docker daemon at unix:///nonexistent/docker.sock: No such file or directory (os error 2); is it running? DOCKER_HOST says where, if elsewhere; and there is no file or directory of this name
    "#);
}

#[test]
fn an_image_that_is_not_there() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    let reference = format!("{}/none:1", registry.address);
    assert_snapshot!(sandbox.idp(["pull", &reference, "oci:out"]), @r#"
    exit: 2
    --- stdout
    --- stderr
    error: Failed to pull `127.0.0.1:[PORT]/none:1` to `oci:out`
      caused by: manifest 127.0.0.1:[PORT]/none:1: the registry answered 404 Not Found; MANIFEST_UNKNOWN: `none` has no manifest 1 (GET http://127.0.0.1:[PORT]/v2/none/manifests/1)
      caused by: There is no such tag or digest in none: it was never pushed, was deleted, or is spelled differently

    hint: list what is there with `idp list`
    "#);
    assert!(!sandbox.path("work/out").exists());
}

#[test]
fn a_registry_that_is_not_there() {
    let sandbox = sandbox().with_env("IDPBUILDER_OCI_RETRY_COUNT", "0");
    sandbox.write("work/app/a", "a");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let output = sandbox.idp(["push", "./app", &format!("127.0.0.1:{port}/app:1")]).exits(4);
    assert!(output.stdout.is_empty() && output.stderr.starts_with("error: Failed to push"), "{output}");
}

#[test]
fn as_json() {
    let output = sandbox().idp(["pull", "app:1", "oci:out", "--output", "json"]).exits(64);
    let event: serde_json::Value = serde_json::from_str(output.stderr.trim()).expect("one JSON object");
    assert_eq!((event["event"].as_str(), event["exit"].as_u64()), (Some("error"), Some(64)));
    assert_eq!(output.stdout, "");
}
