//! The binary as people and scripts see it: what it prints where, and how it exits. Snapshots are the promise; whoever changes one
//! changes what somebody relies on.

mod completions;
mod config;
mod doctor;
mod embedded;
mod errors;
mod help;
mod inspect;
mod login;
mod mistakes;
mod packages;
mod peers;
mod push;
mod reference;
mod secrets;
mod signals;

use idp_test_support::sandbox::Sandbox;

/// A home for the binary under test.
fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_idp"))
}
