//! `idp`: OCI registries for Internal Developer Platforms.
//!
//! | module | does |
//! |---|---|
//! | [`cli`] | talks to people; the only module that prints |
//! | [`ops`] | does the work; returns values |
//! | [`config`] | environment, files, credentials |
//! | [`provider`] | runs providers; the only module that names wasmtime |

pub mod cli;
pub mod config;
pub mod ops;
pub mod provider;
