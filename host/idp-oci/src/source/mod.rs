//! Where a push comes from. A source hands out blobs as soon as they can be read and the manifests at the end; it knows
//! nothing of registries.

mod archive;
mod artifact;
mod blocks;
mod classic;
mod directory;
mod docker;
mod format;
mod layout;
mod memo;
mod offer;
mod open;
pub(crate) mod outlet;
mod pack;
mod stream;
mod tree;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::manifest::{Manifest, ManifestError, Platform};

pub use archive::{ArchiveKind, ArchiveSource};
pub use artifact::{Artifact, Layer, Made, ReadySource, TITLE, TreeSource, UNPACK, UNPACK_DIGEST};
pub use directory::{DIRECTORY_TYPE, DirectorySource};
pub use docker::DockerSource;
pub use layout::LayoutSource;
pub use memo::Memo;
pub use offer::{Live, Offer, Question};
pub use open::open;
pub use pack::Compression;
pub(crate) use tree::check_component;
pub use tree::{Content, Entry, FileEntry, PackedFile, Tree};

/// What of a source is wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Which image, where a source holds several: a tag or name as the source writes it.
    pub name: Option<String>,
    /// Only this platform of an index.
    pub platform: Option<Platform>,
    /// What becomes of layers that are plain tars.
    pub compression: Compression,
    /// What plain layers became before.
    pub memo: Option<Arc<Memo>>,
}

/// What a source holds: manifests, children before parents; the last one is what gets the tag.
#[derive(Debug, Clone)]
pub struct Image {
    /// Children first, the root last; never empty.
    pub manifests: Vec<Manifest>,
    /// The name the source itself has for it, e.g. `app:1.0`; a destination without a repository takes it.
    pub name: Option<String>,
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What was written names no source.
    #[error("{0}")]
    Malformed(String),
    /// The image, file or directory is not there, or the daemon does not answer.
    #[error("{0}")]
    NotFound(String),
    /// It is there and not what it should be.
    #[error("{0}")]
    Invalid(String),
    /// A manifest in it.
    #[error("{what}: {error}")]
    Manifest {
        /// Where it stands.
        what: String,
        /// What is wrong.
        error: ManifestError,
    },
    /// Reading failed.
    #[error("{what}: {error}")]
    Io {
        /// What was read.
        what: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The receiver of the blobs is gone: the push was given up.
    #[error("the push was given up")]
    Closed,
}

/// Something that can be pushed.
#[async_trait]
pub trait Source: Send {
    /// What it is, for messages: `docker daemon image app:1.0`.
    fn describe(&self) -> String;

    /// Offers every blob that the manifests need, each once, as soon as it can be read, and returns the manifests.
    /// Foreign layers are not sent. Memory stays bounded: the channel's capacity is the window.
    async fn read(
        self: Box<Self>,
        selection: &Selection,
        offers: mpsc::Sender<Offer>,
    ) -> Result<Image, SourceError>;
}
