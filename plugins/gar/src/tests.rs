//! The provider against a scripted server.

use idp_provider_sdk::testing::cases;

use super::*;

#[test]
fn recorded_conversations() {
    cases::run::<Gar>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
}
