//! Delete a tag, a manifest or a repository: by the provider, else by the specification. What was not named stays, unless it was said
//! that it may go.

use idp_oci::client::dialect::ErrorKind;
use idp_oci::name::{Reference, Repository};
use serde::Serialize;

use super::context::To;
use super::list::place_of;
use super::session::{self, Session, Subject};
use super::{Context, Error, removal};
use crate::provider::{NOT_EXPORTED, Removable, Removal};

/// What is to go.
#[derive(Debug, Clone)]
pub struct Request {
    /// A reference with a tag or a digest; a repository with `repository`.
    pub reference: String,
    /// All of the repository.
    pub repository: bool,
    /// Whatever the product protects it with, where it can be told to do it all the same.
    pub force: bool,
    /// Tags of the same manifest may go too.
    pub allow_siblings: bool,
}

/// What went, or would.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Deleted {
    /// What was asked for.
    pub reference: String,
    /// Which registry.
    pub registry: String,
    /// Which repository.
    pub repository: String,
    /// Tags, digests, or the repository itself.
    pub removed: Vec<String>,
    /// Tags that went with it.
    pub also_removed: Vec<String>,
    /// The registry finishes later.
    pub asynchronous: bool,
    /// What else there is to say about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The provider's name and version.
    pub provider: String,
    /// Nothing was deleted.
    pub dry_run: bool,
}

impl Deleted {
    /// The full names of what went: `registry/repository:tag`, `…@digest`, or the repository's.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.removed.iter().chain(&self.also_removed).map(|name| self.name(name))
    }

    fn name(&self, name: &str) -> String {
        let place = format!("{}/{}", self.registry, self.repository);
        if name == self.repository || name == place {
            place
        } else if name.contains(':') {
            format!("{place}@{name}")
        } else {
            format!("{place}:{name}")
        }
    }
}

/// Deletes. With `dry_run` the registry is asked, and nothing changed.
pub async fn delete(context: &Context, request: Request) -> Result<Deleted, Error> {
    context.find_registry(&[&request.reference], To::Read).await?;
    let (reference, what) = target(context, &request)?;
    let session = session::open(context, Subject::from(&reference)).await?;
    let repository = session.on_wire(&reference.repository).clone();
    let removal = remove(context, &session, &repository, &what, &request).await?;
    Ok(Deleted {
        reference: reference.to_string(),
        registry: reference.registry.to_string(),
        repository: reference.repository.to_string(),
        removed: removal.removed,
        also_removed: removal.also_removed,
        asynchronous: removal.asynchronous,
        note: removal.note,
        provider: session.provider,
        dry_run: context.options.dry_run,
    })
}

/// What the words mean; nothing is guessed.
fn target(context: &Context, request: &Request) -> Result<(Reference, Removable), Error> {
    let text = &request.reference;
    if request.repository {
        let (registry, repository) = place_of(context, Some(text)).map_err(|error| match error {
            Error::Name(_) => {
                Error::Usage(format!("`{text}` is no repository; --repository takes one without a tag"))
            }
            other => other,
        })?;
        let repository = repository
            .ok_or_else(|| Error::Usage(format!("`{text}` names a registry and no repository in it")))?;
        return Ok((Reference { registry, repository, tag: None, digest: None }, Removable::Everything));
    }
    let reference = context.reference(text)?;
    let what = match (&reference.tag, &reference.digest) {
        (Some(tag), None) => Removable::Tag(tag.clone()),
        (None, Some(digest)) => Removable::Digest(digest.clone()),
        (Some(_), Some(_)) => {
            return Err(Error::Usage(format!("`{text}` names a tag and a digest; name what is to go")));
        }
        (None, None) => {
            return Err(Error::Usage(format!(
                "`{text}` names a repository and nothing in it: write REPOSITORY:TAG or REPOSITORY@DIGEST, or give --repository \
                 to delete all of it"
            )));
        }
    };
    Ok((reference, what))
}

async fn remove(
    context: &Context,
    session: &Session,
    repository: &Repository,
    what: &Removable,
    request: &Request,
) -> Result<Removal, Error> {
    if let Some(dialect) = &session.dialect {
        let flag = |name: &str, value: bool| value.then(|| (name.to_owned(), "true".to_owned()));
        let options = [flag("force", request.force), flag("allow-siblings", request.allow_siblings)];
        let options: Vec<_> = options.into_iter().flatten().collect();
        match dialect.remove(repository, what, &options).await {
            Ok(removal) => return Ok(removal),
            // What the provider refuses for a reason is not tried in another way: the reason may be that it takes too much along.
            Err(error) if error.kind == ErrorKind::Unsupported && error.code == NOT_EXPORTED => {}
            Err(error) => return Err(session.refused(format!("deleting {}", request.reference), error)),
        }
    }
    let rules = removal::Rules { allow_siblings: request.allow_siblings, dry_run: context.options.dry_run };
    removal::remove(&session.client, repository, what, rules).await.map_err(|error| session.failed(error))
}
