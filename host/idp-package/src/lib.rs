//! What a platform is made of, as OCI artifacts: the package format, and everything that is decided from a package alone.
//!
//! Knows registries only as [`idp_oci`] speaks to them; knows no provider, no cluster and no terminal.
//!
//! | module | holds |
//! |---|---|
//! | [`manifest`] | `idp-package.yaml`: what an author writes, its schema and its errors with line and column |
//! | [`content`] | which files of a directory are the content |
//! | [`build`] | from a directory to an artifact |
//! | [`describe`] | what an artifact is, ours or not, told from manifest and config |
//! | [`config`] | the config blob: all there is to know without the content |
//! | [`chart`], [`canonical`] | what of Helm charts is needed; JSON of one spelling |
//! | [`kube`] | the files of a package, the YAML and the Kubernetes objects in them, the images they name |
//! | [`diff`] | what differs between two packages: files, objects, images, metadata |
//! | [`idpbuilder`] | from packages of idpbuilder, and to them |
//! | [`version`] | versions, constraints with the semantics of Masterminds semver, and what tags of a repository mean |
//! | [`resolve`] | dependencies to exact versions: the solver, its explanations, `idp.lock` |
//! | [`trust`] | signatures, SBOMs and provenance as referrers; the policy that asks for them |
//! | [`validate`] | rules over a package's files, and what they find |

pub mod build;
#[cfg(test)]
mod build_tests;
pub mod canonical;
pub mod chart;
pub mod config;
pub mod content;
pub mod describe;
pub mod diff;
pub mod idpbuilder;
pub mod kube;
pub mod manifest;
pub mod resolve;
pub mod trust;
pub mod validate;
pub mod version;
