//! What a platform is made of, as OCI artifacts: the package format, and everything that is decided from a package alone.
//!
//! Knows registries only as [`idp_oci`] speaks to them; knows no provider, no cluster and no terminal.
//!
//! | module | holds |
//! |---|---|
//! | [`manifest`] | `idp-package.yaml`: what an author writes, its schema and its errors with line and column |
//! | [`kube`] | the files of a package, the YAML and the Kubernetes objects in them, the images they name |
//! | [`diff`] | what differs between two packages: files, objects, images, metadata |
//! | [`version`] | versions, constraints with the semantics of Masterminds semver, and what tags of a repository mean |
//! | [`resolve`] | dependencies to exact versions: the solver, its explanations, `idp.lock` |
//! | [`trust`] | signatures, SBOMs and provenance as referrers; the policy that asks for them |
//! | [`validate`] | rules over a package's files, and what they find |

pub mod diff;
pub mod kube;
pub mod manifest;
pub mod resolve;
pub mod trust;
pub mod validate;
pub mod version;
