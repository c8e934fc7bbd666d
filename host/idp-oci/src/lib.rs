//! Everything about OCI registries that would be true without plug-ins, clusters or terminals: names, content, the client, the server.
//!
//! | module | holds |
//! |---|---|
//! | [`name`] | registries, repositories, tags, references: parse and display |
//! | [`digest`] | digests and the hasher that content streams through |
//! | `note` | small private files that may be lost |
//! | [`secret`] | values that must not be printed |
//! | [`media`] | media types, and which of them are manifests |
//! | [`manifest`] | manifests, indexes and descriptors; bytes are kept as they came |
//! | [`blob`] | content on its way: where its bytes can be read, again if need be |
//! | [`partial`] | blobs of which not all has come, kept for a later pull |
//! | [`cache`] | content that has been pulled before |
//! | [`client`] | how registries are spoken to |
//! | [`source`] | where a push comes from |
//! | [`sink`] | where a pull goes to |
//! | [`pipeline`] | push and pull: sources and sinks joined to the client |
//! | `layout` | OCI image layouts: which manifests and blobs an image of one needs |
//! | `tarball` | tar, read without belief and written by fixed rules |
//! | `daemon` | the Docker daemon's API socket |
//! | [`store`] | where the embedded registry keeps its content |
//! | [`server`] | the embedded registry |

pub mod blob;
pub mod cache;
pub mod client;
mod daemon;
pub mod digest;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod layout;
pub mod manifest;
pub mod media;
pub mod name;
mod note;
pub mod partial;
pub mod pipeline;
pub mod secret;
pub mod server;
pub mod sink;
pub mod source;
pub mod store;
mod tarball;
