//! stub
pub mod provider;
