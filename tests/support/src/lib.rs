//! What the tests share. Knows the binary only as a program, never as a library.
//!
//! | module | holds |
//! |---|---|
//! | [`faults`] | a registry that fails on command, and counts |
//! | [`images`] | images made by the tests |
//! | [`peers`] | other programs, started on loopback |
//! | [`sandbox`] | the binary, run with an empty home and nothing inherited |

pub mod faults;
pub mod images;
pub mod peers;
pub mod sandbox;
