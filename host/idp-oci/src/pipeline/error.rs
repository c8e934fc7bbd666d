//! Why a push or a pull did not come to its end.

use crate::client::{ClientError, Kind};
use crate::sink::SinkError;
use crate::source::SourceError;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The registry, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Where it comes from.
    #[error("{}", about(source_name, error))]
    Source {
        /// What it was.
        source_name: String,
        /// What went wrong.
        error: SourceError,
    },
    /// Where it goes to.
    #[error("{}", about(sink_name, error))]
    Sink {
        /// What it was.
        sink_name: String,
        /// What went wrong.
        error: SinkError,
    },
    /// The index has no such platform.
    #[error("{what} has no image for {wanted}; it has {available}")]
    NoPlatform {
        /// The index.
        what: String,
        /// `os/architecture[/variant]`.
        wanted: String,
        /// The same of what is there.
        available: String,
    },
    /// The image is built in a way that is not followed.
    #[error("{what}: {problem}")]
    Image {
        /// Which.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Sources and sinks that name themselves are not named twice.
fn about(name: &str, error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    if text.contains(name) { text } else { format!("{name}: {text}") }
}

impl PipelineError {
    /// What a caller may want to do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Client(error) => error.kind(),
            Self::Source { error: SourceError::NotFound(_), .. }
            | Self::Sink { error: SinkError::NotFound(_), .. }
            | Self::NoPlatform { .. } => Kind::NotFound,
            Self::Source { .. } | Self::Sink { .. } | Self::Image { .. } => Kind::Other,
        }
    }
}
