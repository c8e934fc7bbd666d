//! What the tests share. Knows the binary only as a program, never as a library.

pub mod peers;
