//! Registries that cannot run here, rebuilt from `docs/registries.md`: each a [`Site`](crate::net::Site) with the product's token
//! service, API and refusals before the small registry of [`crate::faults`], and a switch for every quirk. A fake proves our reading of
//! what the product was seen to do, not that it still does it; where each fact is from stands beside it.
//!
//! One file a product; what they share (content, tokens that name their scopes) is in [`base`].

pub mod acr;
pub mod base;
pub mod cloud;
pub mod dockerhub;
pub mod ecr;
pub mod ecr_public;
pub mod forward;
pub mod gar;
pub mod ghcr;
pub mod gitlab;
pub mod harbor;
pub mod quay;
