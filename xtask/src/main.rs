//! Everything about this repository that is more than one cargo command: `cargo xtask <command>`.
//!
//! Depends on no crate of the workspace, so that it builds in seconds before anything else does. Providers are built here and
//! never inside a `build.rs`.

use std::process::ExitCode;

use anyhow::{Result, bail};

mod chaos;
mod fuzz;
mod guests;
mod new_provider;
mod providers;
mod tools;
mod tour;

const HELP: &str = "\
cargo xtask <command>

  providers [--release]     build plugins/ into target/providers (NAME.wasm, and NAME.cwasm for the binary)
  build [--release]         providers, and the binary with them in it
  test [FILTER...]          providers, then the tests of the workspace; arguments go to `cargo test`
  bless                     test, writing snapshots and docs/reference anew
  tour [--dev]              build, start a registry, push examples/hello to it, pull it back, compare
  bench [TABLE...]          release build, then the tables of tests/bench: idp beside crane, skopeo, oras and docker;
                            start, small, push, pull, again, daemon, registry, package, memory
  fuzz [--seconds N] [TARGET...]
                            every parser of outside bytes under libFuzzer; `fuzz TARGET FILE` runs one input again,
                            `fuzz --minimise` keeps what was found
  chaos [--minutes M] [--seed N] [--registry A,B] [--episode KIND:SEED]
                            pushes and pulls before real registries, over a network that fails at random
  guests                    build the hostile components of tests/guests into target/guests-out
  new-provider NAME         start plugins/NAME from sdk/template
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tools::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let release = arguments.iter().any(|argument| argument == "--release");
    let rest = arguments.get(1..).unwrap_or_default();
    match arguments.first().map(String::as_str) {
        Some("providers") => providers::ensure(release),
        Some("build") => providers::build(release),
        Some("test") => providers::test(rest, &[]),
        Some("bless") => providers::test(rest, &[("INSTA_UPDATE", "always"), ("IDP_BLESS", "1")]),
        Some("tour") => tour::run(!rest.iter().any(|argument| argument == "--dev")),
        Some("bench") => providers::bench(rest),
        Some("chaos") => chaos::chaos(rest),
        Some("fuzz") => fuzz::fuzz(rest),
        Some("guests") => guests::build(),
        Some("new-provider") => match rest {
            [name] => new_provider::create(name),
            _ => bail!("new-provider wants one name"),
        },
        Some("help" | "--help" | "-h") | None => {
            tools::say(HELP);
            Ok(())
        }
        Some(other) => bail!("there is no command `{other}`\n\n{HELP}"),
    }
}
