//! Shapes of Kubernetes objects: which fields a kind has, of what type, and which it must have.
//!
//! Three sources give the same [`Shape`]s: the bundled table of one Kubernetes release, CustomResourceDefinitions, and
//! JSON Schemas of a directory in kubeconform's layout. [`check`] holds a value against one.

mod bundled;
mod check;
mod crd;
mod schemas;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use bundled::{release, scope_of};
pub use check::{Mismatch, MismatchKind, check};
pub use schemas::{SchemaError, Schemas};

/// What a value may be.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Anything.
    Any,
    /// A text; of these, where there are any.
    String(Vec<String>),
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A whole number or a text.
    IntOrString,
    /// A quantity: a number or a text.
    Quantity,
    /// A list of values of one shape.
    List(Arc<Self>),
    /// Any keys, with values of one shape.
    Map(Arc<Self>),
    /// Named fields.
    Object(Arc<Fields>),
    /// A type of the bundled table, which may be inside itself.
    Bundled(usize),
}

/// The fields of an object.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// What the type is called; empty where it has no name.
    pub name: String,
    /// By name.
    pub fields: BTreeMap<String, Shape>,
    /// The ones that have to be there.
    pub required: Vec<String>,
    /// Whether other fields are kept, too.
    pub open: bool,
}

/// A kind of objects, as a cluster tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionKind {
    /// Empty for the core.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `Deployment`.
    pub kind: String,
}

impl GroupVersionKind {
    /// Of its three parts.
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }
}
