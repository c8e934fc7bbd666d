//! Typed bindings of contract line 0.1 (`wit/v0.1`). Generated; converts types and holds no policy.
//!
//! One world with every export is generated, and none of it is demanded: each interface has its own `GuestIndices`, which are
//! made only for what [`super::call`] found by probing.

#![allow(missing_docs, reason = "generated from the documented WIT")]

wasmtime::component::bindgen!({
    path: "../../wit/v0.1",
    world: "idp:registry-provider/registry-provider",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "idp:registry-provider/secrets.secret": crate::provider::secrets::Held,
        "idp:registry-provider/http.response": crate::provider::answer::Answered,
    },
});
