//! Push and pull: sources and sinks joined to the client. Blobs flow in parallel and are never held; manifests follow when all they
//! name is there. Depends on [`crate::client`], [`crate::source`] and [`crate::sink`], and on no product.

mod ahead;
mod copy;
mod error;
mod lane;
mod live;
#[cfg(test)]
mod live_tests;
mod plan;
mod platform;
mod pull;
mod push;
mod rehearse;
mod save;
mod split;
#[cfg(test)]
mod tests;

pub use copy::{CopyOptions, From, copy, survey};
pub use error::PipelineError;
pub use platform::matches as platform_matches;
pub use pull::{PullOptions, Pulled, pull};
pub use push::{Destination, PushOptions, Pushed, push, push_all};
pub use rehearse::{Plan as PushPlan, Planned, Survey};
pub use save::Gathered;

use crate::client::SMALL;
