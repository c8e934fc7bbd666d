//! The embedded registry against programs of others, over real sockets. Each is found where `tests/peers/build` puts it; one
//! that is not there is skipped with a line that says so, and is an error under `IDP_PEERS_STRICT=1`.

#![allow(clippy::print_stderr, reason = "a skipped test says so on the terminal")]

mod conformance;
mod interop;
mod registry;
