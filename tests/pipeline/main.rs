//! Push and pull as people use them: the binary against real registries, real clients of others and a real Docker daemon, all on
//! loopback. Every test names the peer it needs and skips loudly without it (`tests/peers/README.md`).

mod atomic;
mod big;
mod copy;
mod daemon;
mod docker_auth;
mod gitea;
mod gitea_api;
mod image;
mod matrix;
mod opinions;
mod platforms;
mod registries;
mod sources;

use idp_test_support::sandbox::{Output, Sandbox};

/// A home for the binary under test.
fn sandbox() -> Sandbox {
    // A peer that keeps failing is to be seen in seconds.
    Sandbox::new(env!("CARGO_BIN_EXE_idp")).with_env("IDPBUILDER_OCI_RETRY_COUNT", "2")
}

/// The digest in the one line that a push or a pull prints.
#[track_caller]
fn digest(output: &Output) -> &str {
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    output.stdout.trim().split_once('@').unwrap_or_else(|| panic!("no digest in {output}")).1
}

/// The document of `--output json`.
#[track_caller]
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output}"))
}
