//! What the tests share. Knows the binary only as a program, never as a library.
//!
//! | module | holds |
//! |---|---|
//! | [`faults`] | a registry that fails on command, and counts |

pub mod faults;
