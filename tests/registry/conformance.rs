//! The conformance suite of the OCI distribution specification: every result of it a pass. Its program is `conformance`, of
//! the Go module `github.com/opencontainers/distribution-spec/conformance` after version 1.1.1 of the specification.

use std::process::Command;

use crate::registry::{Kind, TestRegistry, program};

/// Runs the suite; `least` keeps a suite that tested nothing from passing.
fn run(kind: Kind, version: &str, least: u64) {
    let Some(suite) = program("conformance") else { return };
    let registry = TestRegistry::start(kind);
    let results = tempfile::tempdir().expect("a directory");
    let output = Command::new(suite)
        .env_clear()
        .current_dir(results.path())
        .env("OCI_REGISTRY", &registry.address)
        .env("OCI_TLS", "disabled")
        .env("OCI_VERSION", version)
        .env("OCI_RESULTS_DIR", results.path())
        .output()
        .expect("the suite runs");
    let report = String::from_utf8_lossy(&output.stdout);
    let counts = report.split_once("OCI Conformance Result:").map_or("", |(_, rest)| rest);
    let counts: String = counts.lines().skip(1).take(7).map(|line| format!("{line}\n")).collect();
    let failures: Vec<&str> = report.lines().take_while(|line| !line.starts_with("Configuration")).collect();
    assert!(output.status.success(), "{}\n{counts}", failures.join("\n"));
    assert!(count(&counts, "Pass") >= least, "{kind:?}, {version}:\n{counts}");
    assert_eq!(count(&counts, "FAIL") + count(&counts, "Error") + count(&counts, "Skip"), 0, "{counts}");
}

/// The number in `  Pass......:   12`; a line that is not there counts nothing.
fn count(counts: &str, label: &str) -> u64 {
    let line =
        counts.lines().find(|line| line.trim_start().to_lowercase().starts_with(&label.to_lowercase()));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn version_1_1_in_memory() {
    run(Kind::Memory, "1.1", 860);
}

#[test]
fn version_1_1_on_disk() {
    run(Kind::Fs, "1.1", 860);
}

#[test]
fn the_coming_version_in_memory() {
    run(Kind::Memory, "dev", 986);
}

#[test]
fn the_coming_version_on_disk() {
    run(Kind::Fs, "dev", 986);
}
