//! What is in a package's files: YAML with places, Kubernetes objects, charts, kustomizations, images.
//!
//! [`Files`] comes in, from a directory or from an unpacked layer; [`Scan::new`] reads all of it once, within bounds.
//! [`crate::validate`] and [`crate::diff`] work on what it found. Nothing here writes, asks a network or runs a template.

mod files;
mod images;
mod kustomize;
mod node;
mod object;
mod reference;
mod scan;
mod yaml;

pub use files::{File, Files, LARGEST_TEXT, ReadError};
pub(crate) use files::{base, clean, join, parent};
pub use images::{Image, Source, images};
pub use kustomize::{ImageOverride, Kustomization, Named, NamedAs};
pub(crate) use node::is_placeholder;
pub use node::{Entry, Kind, Node, Value};
pub use object::{Object, ObjectKey};
pub use reference::{BadImage, normalise};
pub(crate) use scan::is_below;
pub use scan::{Chart, Role, Scan, ScannedFile};
pub use yaml::{Limits, Parsed, Problem, ProblemKind, parse};
