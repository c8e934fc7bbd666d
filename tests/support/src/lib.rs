//! What the tests share. Knows the binary only as a program, never as a library.
//!
//! | module | holds |
//! |---|---|
//! | [`faults`] | a registry that fails on command, and counts |
//! | [`peers`] | registries of others, started on loopback |
//! | [`sandbox`] | the binary, run with an empty home and nothing inherited |

pub mod faults;
pub mod peers;
pub mod sandbox;
