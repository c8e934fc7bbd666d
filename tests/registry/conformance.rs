//! The conformance suite of the OCI distribution specification: every result of it a pass, in memory, on disk and over an object
//! store, with and without TLS and a login. Its program is `conformance`, of the Go module
//! `github.com/opencontainers/distribution-spec/conformance` after version 1.1.1 of the specification.

use std::path::Path;
use std::process::Command;

use idp_test_support::peers::{self, VersityGw};
use idp_test_support::sandbox::Sandbox;

use crate::registry::{Kind, TestRegistry, program};

/// How the suite reaches a registry.
struct At<'a> {
    address: &'a str,
    tls: &'a str,
    user: Option<(&'a str, &'a str)>,
    /// What the suite trusts.
    ca: Option<&'a Path>,
    /// Results that may be skipped: the suite's token is for one repository, so that it is given a session (202) where it would
    /// mount from another, as the specification lets a registry do.
    skipped: u64,
}

/// Runs the suite; `least` keeps a suite that tested nothing from passing.
fn run(suite: &Path, at: &At<'_>, version: &str, least: u64) {
    let results = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(suite);
    command
        .env_clear()
        .current_dir(results.path())
        .env("OCI_REGISTRY", at.address)
        .env("OCI_TLS", at.tls)
        .env("OCI_VERSION", version)
        .env("OCI_RESULTS_DIR", results.path());
    if let Some((user, password)) = at.user {
        command.env("OCI_USERNAME", user).env("OCI_PASSWORD", password);
    }
    if let Some(ca) = at.ca {
        command.env("SSL_CERT_FILE", ca);
    }
    let output = command.output().expect("the suite runs");
    let report = String::from_utf8_lossy(&output.stdout);
    let counts = report.split_once("OCI Conformance Result:").map_or("", |(_, rest)| rest);
    let counts: String = counts.lines().skip(1).take(7).map(|line| format!("{line}\n")).collect();
    let failures: Vec<&str> = report
        .lines()
        .take_while(|line| !line.starts_with("Configuration"))
        .filter(|line| !line.ends_with(": Pass"))
        .collect();
    assert!(output.status.success(), "{}\n{counts}", failures.join("\n"));
    assert!(
        count(&counts, "Pass") + at.skipped * 3 >= least,
        "{version}:\n{}\n{counts}",
        failures.join("\n")
    );
    assert_eq!(count(&counts, "FAIL") + count(&counts, "Error"), 0, "{counts}");
    assert_eq!(count(&counts, "Skip"), at.skipped, "{}\n{counts}", failures.join("\n"));
}

/// The number in `  Pass......:   12`; a line that is not there counts nothing.
fn count(counts: &str, label: &str) -> u64 {
    let line =
        counts.lines().find(|line| line.trim_start().to_lowercase().starts_with(&label.to_lowercase()));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

fn both_versions(suite: &Path, at: &At<'_>) {
    run(suite, at, "1.1", 860);
    run(suite, at, "dev", 986);
}

fn in_this_process(kind: Kind) {
    let Some(suite) = program("conformance") else { return };
    let registry = TestRegistry::start(kind);
    both_versions(
        &suite,
        &At { address: &registry.address, tls: "disabled", user: None, ca: None, skipped: 0 },
    );
}

#[test]
fn in_memory() {
    in_this_process(Kind::Memory);
}

#[test]
fn on_disk() {
    in_this_process(Kind::Fs);
}

/// The binary with settings, as somebody would run it.
#[test]
fn with_tls_and_users_and_tokens() {
    let Some(suite) = program("conformance") else { return };
    for kind in ["htpasswd", "token"] {
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_idp"));
        let settings = format!("auth: {{kind: {kind}}}\ntls: {{enabled: true}}\n");
        let settings = sandbox.write("work/registry.yaml", &settings).display().to_string();
        let add = ["registry", "user", "add", "alice", "--password-stdin", "--file", "registry/users"];
        let _ = sandbox.idp_with_stdin(add, b"correct horse").exits(0);
        let serving = sandbox.serve(&["--root", "registry", "--config", &settings]);
        let user = Some(("alice", "correct horse"));
        let ca = sandbox.path("work/registry/tls/ca.crt");
        let skipped = if kind == "token" { 4 } else { 0 };
        both_versions(
            &suite,
            &At { address: &serving.address, tls: "enabled", user, ca: Some(&ca), skipped },
        );
    }
}

#[tokio::test]
async fn over_an_object_store() {
    let Some(suite) = program("conformance") else { return };
    let Some(bucket) = peers::require(VersityGw::start(&["registry"]).await, "versitygw") else { return };
    let mut sandbox = Sandbox::new(env!("CARGO_BIN_EXE_idp"));
    for (name, value) in bucket.variables() {
        sandbox.set_env(&name, &value);
    }
    let settings =
        format!("bucket: {{url: 's3://registry/here', endpoint: '{}'}}\nroot: own\n", bucket.endpoint());
    let settings = sandbox.write("work/registry.yaml", &settings).display().to_string();
    let serving = sandbox.serve(&["--config", &settings]);
    both_versions(
        &suite,
        &At { address: &serving.address, tls: "disabled", user: None, ca: None, skipped: 0 },
    );
}
