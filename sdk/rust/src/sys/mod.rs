//! The seam between a component and a test: the same functions over the imports of the contract, or over
//! [`testing::Host`](crate::testing::Host).

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(target_arch = "wasm32")]
pub(crate) use component::*;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::sys::*;
