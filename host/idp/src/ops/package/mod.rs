//! Packages: built from directories, pushed by the rules of their versions, looked into wherever they are.
//!
//! | file | holds |
//! |---|---|
//! | [`subject`] | what a command line names: a directory, a built package, or one in a registry |
//! | [`build`] | a directory to a file, a layout or a registry |
//! | [`push`] | to a registry: versions are immutable, other tags are asked for |
//! | [`show`], [`pull`] | what is in one; its files |
//! | [`scaffold`], [`bump`] | a new one to start from; its version, raised |

pub mod build;
pub mod bump;
pub mod pull;
pub mod push;
pub mod scaffold;
pub mod show;
pub mod subject;

pub use subject::Subject;
