//! What the tests share. Knows the binary only as a program, never as a library.
//!
//! | module | holds |
//! |---|---|
//! | [`faults`] | a registry that fails on command, and counts |
//! | [`images`] | images of every shape |
//! | [`net`] | names with TLS behind a proxy: where `ghcr.io` is what a test says |
//! | [`peers`] | registries of others, started on loopback |
//! | [`products`] | registries that cannot be started here, rebuilt |
//! | [`sandbox`] | the binary, run with an empty home and nothing inherited |

pub mod faults;
pub mod images;
pub mod net;
pub mod openapi;
pub mod peers;
pub mod products;
pub mod sandbox;
