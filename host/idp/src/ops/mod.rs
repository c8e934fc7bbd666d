//! The work behind each command: takes a request, returns a value or a typed error. Never prints, never exits, reads no argv.
//! Uses `idp_oci`, [`crate::config`] and [`crate::provider`]; knows no terminal and no wasmtime.
//!
//! | module | does |
//! |---|---|
//! | [`context`] | what every operation is given: configuration, credentials, progress, cancellation |
//! | [`choose`] | the provider of a registry |
//! | [`session`] | a client for one registry, with its provider and credentials |
//! | [`slots`] | the credentials of a provider, from the sources that it may use |
//! | [`push`], [`pull`], [`copy`] | move images and artifacts |
//! | [`images`] | what has a tag in the embedded registry |
//! | [`package`] | packages: built, pushed, looked into |
//! | [`cache`] | the content cache: how much is in it, and making room |
//! | [`login`] | verify and keep credentials; forget them |
//! | [`list`], [`search`], [`pages`], [`entry`] | repositories and tags, of one registry or several, page by page |
//! | [`delete`], `removal` | delete what was named and nothing else; the same by the specification |
//! | [`inspect`] | what lies behind a reference |
//! | [`show`], [`doctor`] | how a registry is set up here; how it does |
//! | [`detect`], [`providers`] | which provider serves a registry, and why; which there are |
//! | [`serve`], [`embedded`] | the embedded registry; the one of this user, found, started and stopped |
//! | [`transport`] | the providers' requests, over the pipeline's connections |
//! | [`error`] | how all of these fail |

pub mod cache;
pub mod choose;
pub mod context;
pub mod copy;
pub mod delete;
pub mod detect;
pub mod doctor;
pub mod embedded;
pub mod entry;
pub mod error;
pub mod images;
pub mod inspect;
pub mod list;
pub mod login;
pub mod package;
pub mod pages;
pub mod providers;
pub mod pull;
pub mod push;
mod removal;
mod room;
pub mod search;
pub mod serve;
pub mod session;
pub mod show;
mod slots;
pub mod transport;

pub use context::{Context, Options};
pub use error::Error;
