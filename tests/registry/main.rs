//! The embedded registry against programs of others, over real sockets. Each is looked for in `bin/` of `$IDP_PEERS_DIR`
//! (default: `target/peers`), then on the PATH. One that is not there is skipped with a line that says so; under
//! `IDP_REQUIRE_PEERS=1` that is an error, but for the names in `IDP_PEERS_EXCUSED`.

mod artifacts;
mod conformance;
mod crash;
mod interop;
mod registry;
