//! What the consumers of packages make of artifacts: Argo CD, Flux, oras and Helm, each with its own code, against the
//! embedded registry. The artifacts are made by hand here, so that what is shown holds of the consumers and not of us.

mod artifact;
mod consumers;
#[path = "../registry/registry.rs"]
#[expect(dead_code, reason = "the tests of the registry need more of it than these")]
mod registry;
mod tags;
