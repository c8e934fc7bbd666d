//! Packages of idpbuilder: a directory whose top-level files are Argo CD Applications, whose sources may be `cnoe://` directories beside
//! them. [`infer`] makes a manifest of such a directory, [`export`] such a directory of any package. Both know of idpbuilder (v0.10)
//! only what `tests/peers/idpbuilder-package` shows of its own code; neither asks a network, and only [`Exported::write`] writes.
//!
//! | module | holds |
//! |---|---|
//! | `applications` | which Applications idpbuilder finds in a tree, and what it makes of their sources |
//! | `names` | which names Kubernetes and Gitea take |
//! | `sources` | where `cnoe://` stands and leads |
//! | `infer` | from a directory to a manifest |
//! | `export` | from packages to a directory: `part` is one of them, `assemble` puts them together, `render` writes an Application, `losses` says what is lost |

mod applications;
mod assemble;
mod export;
mod infer;
mod losses;
mod names;
mod part;
#[cfg(test)]
mod peer_tests;
mod render;
mod sources;
#[cfg(test)]
mod tests;

pub use applications::{Application, LocalSource, Note, Problem};
pub use export::{ExportError, Exported, Options, export};
pub use infer::{InferError, Inferred, infer};
pub use losses::Unconverted;
pub use part::Part;
