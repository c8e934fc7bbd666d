//! The provider against a scripted registry.

use idp_provider_sdk::testing::{Exchange, Host, cases};

use super::*;

fn host() -> Host {
    Host::new("r:5000").manifest(Generic::MANIFEST)
}

#[test]
fn recorded_conversations() {
    cases::run::<Generic>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
}
