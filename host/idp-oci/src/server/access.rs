//! Who may do what: the seam that kinds of authentication plug into. [`Open`] lets everybody do everything.

use async_trait::async_trait;

use crate::name::Repository;

/// What somebody wants to do with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read blobs, manifests, tags and referrers.
    Pull,
    /// Upload, tag.
    Push,
    /// Take content away.
    Delete,
}

/// What a request needs to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need<'a> {
    /// To be let in at all: `GET /v2/`.
    Registry,
    /// To see which repositories there are.
    Catalogue,
    /// To do this with this repository.
    Repository(&'a Repository, Action),
    /// To do this with whichever repository it be: mounting a blob without saying from where.
    AnyRepository(Action),
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody is logged in, or with a wrong password (401).
    Unauthenticated {
        /// What to log in with: the value of `WWW-Authenticate`.
        challenge: String,
    },
    /// This user may not do this (403).
    Denied,
}

/// Decides about requests.
#[async_trait]
pub trait Access: std::fmt::Debug + Send + Sync + 'static {
    /// Whether the request may do what it needs; the user's name if one is known. `authorization` is the header's value.
    async fn check(&self, authorization: Option<&str>, need: Need<'_>) -> Result<Option<String>, Refusal>;
}

/// Everybody may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

#[async_trait]
impl Access for Open {
    async fn check(&self, _authorization: Option<&str>, _need: Need<'_>) -> Result<Option<String>, Refusal> {
        Ok(None)
    }
}
