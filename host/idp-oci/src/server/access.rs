//! Who may do what: the seam that kinds of authentication plug into. [`Open`] lets everybody do everything.
//!
//! Two questions, kept apart: who sends a request, which is asked once and may cost the check of a password; and whether
//! that one may do a thing, which costs nothing and is asked for each thing, as for every repository of a catalogue.
//! In: the `Authorization` header and an address. Out: an [`Identity`], yes or no, and what to log in with.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

use crate::name::Repository;
use crate::server::scope::Scope;
use crate::server::token::TokenIssuer;

/// What somebody wants to do with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Where a request comes from, and what it says of its sender.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller<'a> {
    /// The value of `Authorization`; the empty string where it is no text.
    pub authorization: Option<&'a str>,
    /// The client's address, where it is known.
    pub address: Option<IpAddr>,
    /// How the client reaches this registry, `https://host:port`; empty where it does not say.
    pub origin: &'a str,
}

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user's name; `None` of somebody who did not log in.
    pub user: Option<String>,
    /// What the token at hand is for; `None` where no token limits anything.
    pub scopes: Option<Vec<Scope>>,
}

impl Identity {
    /// A user who showed a password.
    pub fn user(name: impl Into<String>) -> Self {
        Self { user: Some(name.into()), scopes: None }
    }
}

/// Why nobody can say who sends a request: what it brought to show that is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// An unknown user, a wrong password, or a kind of credential that is not known here (401).
    #[error("user or password is wrong")]
    Credential,
    /// A token that is none, has expired, or was made by or for somebody else (401).
    #[error("the token is not accepted: {0}")]
    Token(String),
    /// So many wrong passwords came from this address that no more are checked for a while (429).
    #[error("too many failed logins came from this address; try again in {} seconds", .0.as_secs().max(1))]
    TooMany(Duration),
}

/// Why somebody is asked to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing was shown.
    Anonymous,
    /// What was shown is no good.
    Refused,
    /// What was shown is good, and not for this.
    Insufficient,
}

/// Decides about requests.
#[async_trait]
pub trait Access: std::fmt::Debug + Send + Sync + 'static {
    /// Who sends the request. Nothing shown is an anonymous sender, and no error.
    async fn identify(&self, caller: &Caller<'_>) -> Result<Identity, Unidentified>;

    /// Whether that one may do this.
    fn permits(&self, identity: &Identity, need: Need<'_>) -> bool;

    /// Whether this repository is shown to whoever may see the catalogue.
    fn shows(&self, identity: &Identity, repository: &Repository) -> bool {
        self.permits(identity, Need::Repository(repository, Action::Pull))
    }

    /// What to log in with to be allowed all of this: values of `WWW-Authenticate`. None where no login would help.
    fn challenges(&self, caller: &Caller<'_>, needs: &[Need<'_>], why: Why) -> Vec<String>;

    /// Who makes tokens, where this registry makes its own.
    fn token_issuer(&self) -> Option<&dyn TokenIssuer> {
        None
    }
}

/// Everybody may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

#[async_trait]
impl Access for Open {
    async fn identify(&self, _caller: &Caller<'_>) -> Result<Identity, Unidentified> {
        Ok(Identity::default())
    }

    fn permits(&self, _identity: &Identity, _need: Need<'_>) -> bool {
        true
    }

    fn challenges(&self, _caller: &Caller<'_>, _needs: &[Need<'_>], _why: Why) -> Vec<String> {
        Vec::new()
    }
}
