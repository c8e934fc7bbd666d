//! Where a pull goes to. A sink is told what will come, takes blobs (several at once if it can), and shows nothing of the
//! result before [`Sink::finish`]. It knows nothing of registries.

mod archive;
mod awaited;
mod check;
mod directory;
mod docker;
mod layout;
mod open;

use async_trait::async_trait;

use crate::blob::Chunks;
use crate::manifest::{Descriptor, Manifest};
use crate::name::Reference;
use crate::partial::Partial;

pub use archive::ArchiveSink;
pub use directory::{DirectorySink, Limits};
pub use docker::DockerSink;
pub use layout::LayoutSink;
pub use open::open;

/// What will come: the manifests, children before parents, the root last; and the blobs they need, each once.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Children first, the root last; never empty.
    pub manifests: Vec<Manifest>,
    /// Each once, in the order of the manifests: config first, then layers.
    pub blobs: Vec<Descriptor>,
    /// What was asked for, as the sink should name it.
    pub reference: Option<Reference>,
}

impl Plan {
    /// What gets the name.
    pub fn root(&self) -> &Manifest {
        self.manifests.last().expect("a plan is never empty")
    }
}

/// Why a sink could not take something.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The daemon does not answer, or the parent directory is not there.
    #[error("{0}")]
    NotFound(String),
    /// It cannot hold this.
    #[error("{0}")]
    Unsupported(String),
    /// The content is not what its descriptor says.
    #[error("{0}")]
    Corrupt(String),
    /// Writing failed: disk full, read-only, no permission.
    #[error("{what}: {error}")]
    Io {
        /// What was written.
        what: String,
        /// Why not.
        error: std::io::Error,
    },
}

/// What a sink has of a blob.
#[derive(Debug)]
pub enum Have {
    /// Nothing, and what comes must come from its start.
    Nothing,
    /// Its start, maybe of no bytes yet: [`Sink::rest`] takes what follows.
    Part(Partial),
    /// All of it, checked.
    All,
}

/// Something that can be pulled to.
#[async_trait]
pub trait Sink: Send + Sync {
    /// What it is, for messages: `OCI layout ./out`.
    fn describe(&self) -> String;

    /// How many blobs it takes at once; 1 means in the order of the plan.
    fn concurrency(&self) -> usize {
        usize::MAX
    }

    /// True when it holds one image, not an index of several.
    fn wants_one_platform(&self) -> bool {
        false
    }

    /// Success is to mean that the disk has everything, and not only that it has been written: for machines that lose power. Sinks
    /// that always see to that, and those without a disk, have nothing to do.
    fn be_durable(&mut self) {}

    /// Told once, before any blob.
    async fn begin(&mut self, plan: &Plan) -> Result<(), SinkError>;

    /// True when it has this content already and has checked it.
    async fn has(&self, _descriptor: &Descriptor) -> bool {
        false
    }

    /// What it has of this content. A sink that keeps what a broken pull left says more than [`Sink::has`] can.
    async fn have(&self, descriptor: &Descriptor) -> Have {
        if self.has(descriptor).await { Have::All } else { Have::Nothing }
    }

    /// True when a blob that was found to be damaged may be given again. What was passed on cannot be taken back.
    fn takes_again(&self) -> bool {
        false
    }

    /// Takes what follows a part, verifying the whole. On an error of the stream the part stays for the next pull.
    async fn rest(&self, descriptor: &Descriptor, _part: Partial, _rest: Chunks) -> Result<(), SinkError> {
        Err(SinkError::Unsupported(format!("parts are not kept, and {} came as one", descriptor.digest)))
    }

    /// Takes one blob, verifying size and digest while it streams. On an error nothing of it stays.
    async fn blob(&self, descriptor: &Descriptor, chunks: Chunks) -> Result<(), SinkError>;

    /// Makes the result visible, all at once.
    async fn finish(self: Box<Self>) -> Result<(), SinkError>;

    /// Gives up: nothing stays that looks like a result.
    async fn abort(self: Box<Self>);
}
