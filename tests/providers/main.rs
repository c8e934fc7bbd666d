//! The provider host from outside: real components, real HTTP on loopback.

mod compiled;
mod contract;
mod files;
mod generic;
mod kept;
mod memory;
mod sandbox;
mod selection;
mod support;
