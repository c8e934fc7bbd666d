//! What a source hands out while it is read.

use crate::blob::Blob;
use crate::manifest::Manifest;

/// One thing that a source has.
#[derive(Debug, Clone)]
pub enum Offer {
    /// The manifests, children first, before any blob: what is missing of what they name can be asked for at once. Only sources that
    /// know them that early send this.
    Manifests(Vec<Manifest>),
    /// Content that can be read as often as need be.
    Blob(Box<Blob>),
}

impl From<Blob> for Offer {
    fn from(blob: Blob) -> Self {
        Self::Blob(Box::new(blob))
    }
}
