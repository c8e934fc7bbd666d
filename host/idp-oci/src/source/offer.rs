//! What a source hands out while it is read.

use tokio::sync::{mpsc, oneshot};

use crate::blob::{Blob, Part};
use crate::manifest::{Descriptor, Manifest};

/// One thing that a source has.
#[derive(Debug)]
pub enum Offer {
    /// The manifests, children first, before any blob: what is missing of what they name can be asked for at once. Only sources that
    /// know them that early send this.
    Manifests(Vec<Manifest>),
    /// Content that can be read as often as need be.
    Blob(Box<Blob>),
    /// Content that is made while it goes by.
    Live(Live),
    /// Content that need not be made if it is there already.
    Question(Box<Question>),
}

impl From<Blob> for Offer {
    fn from(blob: Blob) -> Self {
        Self::Blob(Box::new(blob))
    }
}

/// Content whose digest and size are known when it has gone by, and which goes by once. What could not be brought where it belongs
/// for a reason that passes is offered again, under the same label.
#[derive(Debug)]
pub struct Live {
    /// What it is, for messages, and to know it when it comes again: `layer ab12…/layer.tar`.
    pub label: String,
    /// Its bytes.
    pub parts: mpsc::Receiver<Part>,
    /// To be told whether it is where it belongs.
    pub taken: oneshot::Sender<bool>,
}

/// Whether something is there already.
#[derive(Debug)]
pub struct Question {
    /// The label under which it would come as [`Live`].
    pub label: String,
    /// What it would be.
    pub descriptor: Descriptor,
    /// Where the answer goes. No answer is a no.
    pub answer: oneshot::Sender<bool>,
}
