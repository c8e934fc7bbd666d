//! libFuzzer around one target of `idp_oci::fuzzing`, named by `IDP_FUZZ_TARGET`. One program for all: linking is the slow part.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn named() -> fn(&[u8]) {
    let name = std::env::var("IDP_FUZZ_TARGET").unwrap_or_default();
    idp_oci::fuzzing::target(&name).unwrap_or_else(|| {
        let known: Vec<_> = idp_oci::fuzzing::TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("IDP_FUZZ_TARGET is `{name}`; it is one of {}", known.join(", "))
    })
}

fuzz_target!(|input: &[u8]| TARGET.get_or_init(named)(input));
