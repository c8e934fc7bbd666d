//! Providers: WebAssembly components that know a registry product, in their sandbox. The only module that names wasmtime.
//!
//! Manifests are read without running anything ([`manifest`]); [`select`] picks; [`Providers::load`] compiles or fetches compiled code
//! ([`compile`], [`cache`]), links and hands out a [`ProviderDialect`], which is what the client asks. Whatever a component
//! does reaches the world through [`egress`] alone.
//!
//! | module | holds |
//! |---|---|
//! | [`pattern`] [`address`] [`grants`] [`egress`] [`answer`] | what may go out, and what may come back |
//! | [`secrets`] [`scrub`] | values that a guest may use and not see |
//! | [`engine`] [`compile`] [`cache`] [`load`] | from component to code |
//! | [`memory`] [`private`] | what a provider asked to keep, and files that are this user's alone |
//! | [`call`] [`clock`] [`state`] [`wasi`] [`v0_1`] | one question in one fresh store |
//! | [`dialect`] [`product`] | what the host asks |
//! | [`by_name`] | the same questions as recorded conversations ask them |

mod address;
mod answer;
mod builtin;
mod by_name;
mod cache;
mod call;
mod challenge;
mod clock;
pub mod compile;
mod context;
mod convert;
mod detected;
mod dialect;
mod egress;
mod engine;
mod error;
mod grants;
mod holdings;
mod host_http;
mod host_secrets;
mod load;
mod manifest;
#[cfg(test)]
mod measure;
mod memory;
mod pattern;
mod private;
mod product;
mod registry;
mod scrub;
mod secrets;
mod select;
mod state;
mod transport;
mod v0_1;
mod wasi;

pub use address::Class;
pub use by_name::{ByName, Told};
pub use context::{CallContext, Create, CredentialSet, Deferred, Find, Now};
pub use detected::{Detected, Detections};
pub use dialect::{NOT_EXPORTED, ProviderDialect};
pub use engine::Backend;
pub use error::{Failure, Limit, ProviderError};
pub use grants::{Allowance, Allowed, Denied, GrantError, Grants, UserGrant};
pub use manifest::{
    CredentialSlot, EgressRule, Ensure, EnsureWhen, Fingerprint, HostRule, Limits, Manifest, ManifestError,
    PublicPointers, Setting, TokenEndpoint,
};
pub use pattern::{Captures, HostPattern, Origin, OriginPattern, PatternError, Symbols};
pub use product::{Cursor, Description, Entry, Identification, Page, Removable, Removal, WireName};
pub use registry::{ProviderInfo, Providers, ProvidersConfig, SelectRequest, Selection, Source};
pub(crate) use scrub::printable;
pub use select::{CERTAIN_ENOUGH, Evidence};
pub use transport::{Direct, Exchange, RawAnswer, Transport, TransportError};
