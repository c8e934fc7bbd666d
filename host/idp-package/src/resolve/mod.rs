//! From dependencies with ranges to one exact version a name.
//!
//! Everything here is a function of values, but for the [`Catalogue`]: who implements it asks registries. What comes out is a
//! [`Lock`], or sentences that say why there is none.
//!
//! | module | holds |
//! |---|---|
//! | [`Location`] | where a package is: `oci://registry/repository`; relative references and rewrites |
//! | [`Catalogue`] | what is asked of registries: tags, and what one version says about itself |
//! | [`solve`] | asks, lazily and each thing once, and solves |
//! | `provider` | the dependencies as the solver (PubGrub) asks for them |
//! | `explain` | why there is no solution, in sentences |
//! | [`Lock`] | `idp.lock`: read, written, checked |
//! | `graph` | order of installation, cycles, trees, who asked for what |
//! | [`MemoryCatalogue`] | a catalogue for tests |

mod catalogue;
mod choice;
mod explain;
mod graph;
mod known;
mod location;
mod lock;
mod memory;
mod options;
mod provider;
mod solve;
#[cfg(test)]
mod tests;

pub use catalogue::{Catalogue, CatalogueError, Image, Metadata};
pub use graph::{Chain, Step, Tree};
pub use location::{Location, LocationError, Rewrite};
pub use lock::{Lock, LockError, LockedImage, LockedPackage, LockedRoot, RequestedBy, manifest_hash};
pub use memory::MemoryCatalogue;
pub use options::{Facts, Limits, Options, Root};
pub use solve::{Change, Resolution, ResolveError, solve};
