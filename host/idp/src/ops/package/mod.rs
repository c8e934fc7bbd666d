//! Packages: built from directories, pushed by the rules of their versions, looked into wherever they are.
//!
//! | file | holds |
//! |---|---|
//! | [`subject`] | what a command line names: a directory, a built package, or one in a registry |
//! | [`build`] | a directory to a file, a layout or a registry |
//! | [`push`] | to a registry: versions are immutable, other tags are asked for |
//! | [`show`], [`pull`] | what is in one; its files |
//! | [`validate`], [`diff`] | rules over its files; what differs between two |
//! | [`lock`], [`catalogue`], [`images`] | dependencies and images to exact ones, asked of registries |
//! | [`trust`] | signatures, SBOMs, provenance |
//! | [`carry`] | everything that belongs to one, to where there is no network |
//! | [`tags`] | what the tags of a repository are to those who read versions |
//! | [`idpbuilder`] | directories of idpbuilder as packages, and the other way round |
//! | [`scaffold`], [`bump`] | a new one to start from; its version, raised |

pub mod build;
pub mod bump;
pub mod carry;
pub mod catalogue;
pub mod diff;
pub mod idpbuilder;
pub mod images;
pub mod lock;
pub mod pull;
pub mod push;
pub mod scaffold;
pub mod show;
pub mod subject;
pub mod tags;
pub mod trust;
pub mod validate;

pub use subject::Subject;
