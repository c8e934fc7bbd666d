//! The provider host from outside: real components, real HTTP on loopback.

mod generic;
mod support;
