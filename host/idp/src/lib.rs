//! `idp`: OCI registries for Internal Developer Platforms.
//!
//! | module | does |
//! |---|---|
//! | [`cli`] | talks to people; the only module that prints |
//! | [`ops`] | does the work; returns values |
//! | [`config`] | environment, files, credentials |

pub mod config;
