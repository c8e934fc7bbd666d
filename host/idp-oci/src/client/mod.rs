//! How registries are spoken to.

pub mod dialect;
