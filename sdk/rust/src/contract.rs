//! The questions a provider may be asked, one trait an exported interface, and the types of their answers.
//!
//! The records without secrets are the generated ones; [`Grant`] and [`Authorization`] are the SDK's, because a [`Secret`] is a
//! handle of the host in a component and a value in a test.

pub use crate::__bindings::artifacts::exports::idp::registry_provider::artifacts::{
    Page as TagPage, Removal, Tag, Target,
};
pub use crate::__bindings::auth::exports::idp::registry_provider::auth::Reuse;
pub use crate::__bindings::explanations::exports::idp::registry_provider::explanations::Explanation;
pub use crate::__bindings::host::idp::registry_provider::types::{Error, ErrorKind, Pairs, Scope};
pub use crate::__bindings::identity::exports::idp::registry_provider::identity::Identification;
pub use crate::__bindings::naming::exports::idp::registry_provider::naming::WireName;
pub use crate::__bindings::provider::exports::idp::registry_provider::provider::Description;
pub use crate::__bindings::repositories::exports::idp::registry_provider::repositories::{
    Page as RepositoryPage, Repository,
};
use crate::Secret;

/// What every question comes back with.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who the provider is. [`export!`](crate::export) writes this implementation from the manifest.
pub trait Provider {
    /// The text of `provider.toml`.
    const MANIFEST: &'static str;
    /// The optional interfaces that are exported.
    const INTERFACES: &'static [&'static str];

    /// Name, version and abilities, as the manifest has them.
    ///
    /// # Errors
    /// `invalid` when the manifest has no name or version.
    fn describe() -> Result<Description> {
        let field = |key: &str| {
            crate::export::manifest_field(Self::MANIFEST, key)
                .ok_or_else(|| Error::invalid(format!("the manifest has no `{key}`")))
        };
        let id = field("name")?;
        Ok(Description {
            version: field("version")?,
            display_name: field("display-name").unwrap_or_else(|_| id.clone()),
            id,
            features: Self::INTERFACES.iter().map(|name| (*name).to_owned()).collect(),
            extra: Vec::new(),
        })
    }
}

/// Is this registry mine?
pub trait Identity {
    /// Judges [`invocation::subject`](crate::invocation::subject), the answer to an unauthenticated `GET /v2/`. At most one
    /// request may be sent.
    ///
    /// # Errors
    /// Any; the host then counts it as certainty 0.
    fn identify() -> Result<Identification>;
}

/// From what the user wrote to what goes on the wire.
pub trait Naming {
    /// The wire name of a repository, with warnings about what the registry will make of it.
    ///
    /// # Errors
    /// `invalid` when the registry would refuse the name.
    fn normalize(repository: String, tag: Option<String>) -> Result<WireName>;
}

/// How to be let in.
pub trait Auth {
    /// A grant that covers the scopes. [`invocation::challenges`](crate::invocation::challenges) and
    /// [`invocation::attempt`](crate::invocation::attempt) say what led here.
    ///
    /// # Errors
    /// `unauthenticated` without usable credentials, `denied` when a fresh grant was refused.
    fn authorize(scopes: Vec<Scope>) -> Result<Grant>;

    /// Who the credentials speak for: `account`, `kind`, `expires-at`, `scopes`, `warning`.
    ///
    /// # Errors
    /// `unauthenticated` when the registry does not accept them.
    fn verify() -> Result<Pairs>;
}

/// How bytes are best moved.
pub trait Transport {
    /// Hints of `wit/README.md`; a missing key has its default.
    ///
    /// # Errors
    /// Any; the host then uses the defaults.
    fn hints(repository: Option<String>) -> Result<Pairs>;

    /// Limits that are known: `name`, `limit`, `remaining`, `reset-s`, `source`; none by default.
    ///
    /// # Errors
    /// Any; the host then shows none.
    fn limits() -> Result<Vec<Pairs>> {
        Ok(Vec::new())
    }
}

/// The repositories of a registry.
pub trait Repositories {
    /// Makes sure that a push to `name` can work: `extra` has `state` = `created`, `exists` or `implicit`.
    ///
    /// # Errors
    /// `not-found` with `missing` and `name` in `extra` when something must be made first.
    fn ensure(name: String, options: Pairs) -> Result<Repository>;

    /// What the registry tells about a repository.
    ///
    /// # Errors
    /// `not-found` when there is none.
    fn info(name: String) -> Result<Repository>;

    /// One page of repositories. `limit` is a wish, the cursor is what the previous page returned as `next`.
    ///
    /// # Errors
    /// What the registry refused.
    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage>;
}

/// The tags of a repository.
pub trait Artifacts {
    /// One page of tags. `limit` is a wish, the cursor is what the previous page returned as `next`.
    ///
    /// # Errors
    /// What the registry refused.
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage>;

    /// Removes a tag, a digest or everything; `force` and `allow-siblings` are the options.
    ///
    /// # Errors
    /// `conflict` when tags that were not named would go too.
    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal>;
}

/// What a refusal means and what to do about it.
pub trait Explanations {
    /// Explains [`invocation::subject`](crate::invocation::subject).
    ///
    /// # Errors
    /// `unsupported` when there is no more to say than the registry's own text.
    fn explain() -> Result<Explanation>;
}

/// What a request to the registry is let in with.
#[derive(Debug)]
pub enum Authorization {
    /// Nothing is sent.
    Anonymous,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …` of a user name and a password.
    Basic(String, Secret),
    /// Headers of the registry's own.
    Headers(Vec<(String, Secret)>),
}

/// The answer of [`Auth::authorize`].
#[derive(Debug)]
pub struct Grant {
    /// What is sent.
    pub authorization: Authorization,
    /// What it covers, as far as known.
    pub scopes: Vec<Scope>,
    /// Lifetime in seconds.
    pub expires_in_s: Option<u32>,
    /// For which later requests the host may use it again.
    pub reuse: Reuse,
    /// `account`, `source`.
    pub extra: Pairs,
}

impl Grant {
    /// A grant with this authorization, to be used again for the same scopes.
    pub fn new(authorization: Authorization) -> Self {
        Self { authorization, scopes: Vec::new(), expires_in_s: None, reuse: Reuse::Scope, extra: Vec::new() }
    }

    /// A Bearer token.
    pub fn bearer(token: Secret) -> Self {
        Self::new(Authorization::Bearer(token))
    }

    /// A user name and a password, good for the whole registry.
    pub fn basic(username: impl Into<String>, password: Secret) -> Self {
        Self::new(Authorization::Basic(username.into(), password)).reuse(Reuse::Registry)
    }

    /// No credentials; asked for again at the next challenge.
    pub fn anonymous() -> Self {
        Self::new(Authorization::Anonymous)
    }

    /// What the grant covers.
    #[must_use]
    pub fn scopes(mut self, scopes: &[Scope]) -> Self {
        self.scopes = scopes.to_vec();
        self
    }

    /// Lifetime in seconds.
    #[must_use]
    pub fn expires_in_s(mut self, seconds: u32) -> Self {
        self.expires_in_s = Some(seconds);
        self
    }

    /// For which later requests the host may use it again.
    #[must_use]
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.reuse = reuse;
        self
    }

    /// One more pair of `extra`.
    #[must_use]
    pub fn extra(mut self, key: &str, value: impl Into<String>) -> Self {
        self.extra.push((key.to_owned(), value.into()));
        self
    }
}
