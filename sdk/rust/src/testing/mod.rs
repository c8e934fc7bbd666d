//! The host of the tests: the imports of the contract on this thread, with scripted answers instead of a network.
//!
//! ```ignore
//! let grant = Host::new("registry.example")
//!     .manifest(Example::MANIFEST)
//!     .basic("alice", "s3cret")
//!     .challenge(r#"Bearer realm="https://registry.example/token""#)
//!     .exchange(Exchange::get("https://registry.example/token?client_id=idp").reply(200, r#"{"token":"T"}"#))
//!     .run(|| Example::authorize(vec![]))?;
//! ```
//!
//! The rules about secrets that change what a provider can do hold here too: audiences, captures, sealed answers with the
//! manifest's public pointers, forbidden headers, grants. Limits and address checks are the real host's alone. An unexpected
//! request, or a scripted exchange that is never asked for, fails the test.
//!
//! Recorded conversations live in files, see [`case`] and [`cases`].

pub mod ask;
pub mod case;
pub mod cases;
mod exchange;
mod host;
mod manifest;
mod send;
pub(crate) mod sys;
mod value;

pub use ask::{Answers, Arguments};
pub use case::Case;
pub use exchange::Exchange;
pub use host::Host;
pub use serde_json::Value;

#[cfg(test)]
mod tests;
