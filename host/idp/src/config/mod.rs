//! What a person or an administrator has decided: environment, files, credentials. May depend on `idp_oci::{name, secret}` and the cache's limits;
//! reaches no network but for [`cloud`] (credential helpers are processes, run by [`helper`]).
//!
//! | module | holds |
//! |---|---|
//! | [`env`] | every environment variable, and the only reads of them |
//! | [`paths`] | where our own files are |
//! | [`registries`], [`size`] | `registries.yaml`; the sizes in it |
//! | [`server`] | `registry.yaml`: how the embedded registry is served |
//! | [`docker`] | Docker's and podman's credential files |
//! | [`helper`] | the credential helper protocol |
//! | [`credentials`] | which credential is used, and where it came from |
//! | [`sources`] | what a provider's manifest may name as a source of credentials |
//! | [`cloud`] | the credentials of AWS, Azure and Google, as their own tools find them |
//! | [`store`] | where `idp login` puts one |
//! | [`known`] | the credential values that must not be printed |

pub mod cloud;
pub mod credentials;
pub mod docker;
pub mod env;
pub mod helper;
pub mod known;
pub mod paths;
pub mod registries;
pub mod server;
pub mod size;
pub mod sources;
pub mod store;
