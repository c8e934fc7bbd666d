//! What the tests share. Knows the binary only as a program, never as a library.
//!
//! | module | holds |
//! |---|---|
//! | [`faults`] | a registry that fails on command, and counts |
//! | [`images`] | images of every shape |
//! | [`peers`] | registries of others, started on loopback |
//! | [`sandbox`] | the binary, run with an empty home and nothing inherited |

pub mod faults;
pub mod images;
pub mod peers;
pub mod sandbox;
