//! The one place that turns compiled code into something that runs. Holds the host's only `unsafe`.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Compiled code whose origin is known: only [`super::cache`] and [`super::builtin`] make one.
pub(crate) struct Trusted<'a>(&'a [u8]);

impl<'a> Trusted<'a> {
    /// Code that came out of the authenticated cache, or out of the compiler a moment ago, by the given witness.
    pub(super) fn verified(code: &'a [u8]) -> Self {
        Self(code)
    }
}

/// Loads compiled code. A version, a setting or a target that does not fit is an error, not a crash.
#[allow(unsafe_code, reason = "loading compiled code is running it; see SAFETY")]
pub(crate) fn component(engine: &Engine, code: &Trusted<'_>) -> wasmtime::Result<Component> {
    // SAFETY: wasmtime checks version, target and settings but not integrity, and asks that the bytes are its own compiler's
    // output, unchanged. A `Trusted` holds bytes that are part of this executable, that a child process of this executable
    // has just compiled, or that an authentication code under a key of this user's has been checked for. They are copied.
    unsafe { Component::deserialize(engine, code.0) }
}
