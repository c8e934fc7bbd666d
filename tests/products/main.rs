//! The binary against registries that cannot run here (`idp_test_support::products`), under their real names
//! (`idp_test_support::net`): chosen by name, let in their own way, explained in their own words. One file a product.

mod acr;
mod cloud;
mod dockerhub;
mod doctor;
mod ecr;
mod ecr_keys;
mod gar;
mod ghcr;
mod gitlab;
mod harbor;
mod harbor_api;
mod net;
mod quay;

use std::path::Path;

use idp_test_support::net::Net;
use idp_test_support::sandbox::Sandbox;

/// A home for the binary in a net, with something to push in `./app`.
fn sandbox(net: &Net) -> Sandbox {
    let sandbox = net.sandbox(Path::new(env!("CARGO_BIN_EXE_idp")));
    sandbox.write("work/app/a", "a");
    sandbox
}
