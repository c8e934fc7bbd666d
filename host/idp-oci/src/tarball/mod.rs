//! Tar as it travels: a reader that believes nothing and a writer whose bytes depend on nothing but the content.
//!
//! Used by the sources and sinks that read or write archives. Depends on the `tar` crate for the header's fields only;
//! the walk is ours because every length a header claims must be bounded before memory is given to it, and because
//! members of archives are read in place by their offsets.

mod read;
mod write;

pub(crate) use read::{FileInput, Kind, Member, Reader, StreamInput, TarError};
pub(crate) use write::{END, directory, file, padding};

/// Tar's unit.
pub(crate) const BLOCK: u64 = 512;
