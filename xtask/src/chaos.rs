//! `cargo xtask chaos`: an hour, or a minute, of random faults over the binary (`tests/chaos`).

use anyhow::Result;

use crate::providers;
use crate::tools::{cargo, root, run, target};

/// Builds the binary and the harness, and runs it with the arguments as they are.
pub(crate) fn chaos(arguments: &[String]) -> Result<()> {
    let binary = match std::env::var_os("IDP_BINARY") {
        Some(binary) => binary,
        None => {
            providers::build(false)?;
            target().join("debug/idp").into()
        }
    };
    run(cargo(&root())
        .args(["run", "--quiet", "--package", "idp-chaos", "--"])
        .args(arguments)
        .env("IDP_BINARY", binary))
}
