//! The provider host from outside: real components, real HTTP on loopback.

mod cases;
mod compiled;
mod contract;
mod files;
mod generic;
mod kept;
mod matrix;
mod memory;
mod sandbox;
mod scan;
mod script;
mod selection;
mod support;
