//! Deletion by the distribution specification, where no provider knows better. A tag is deleted as a tag; where the registry cannot,
//! the manifest goes only when no other tag names it, or when that was allowed.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use idp_oci::client::dialect::{DialectError, ErrorKind};
use idp_oci::client::{Access, Client, ClientError};
use idp_oci::digest::Digest;
use idp_oci::name::{Repository, Tag, Target};

use crate::provider::{Removable, Removal};

/// Questions at once while tags of one manifest are looked for.
const AT_ONCE: usize = 8;

/// How far a deletion may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Tags of the same manifest may go too.
    pub(super) allow_siblings: bool,
    /// Nothing goes.
    pub(super) dry_run: bool,
}

/// Deletes a tag, a manifest, or every tag of a repository.
pub(super) async fn remove(
    client: &Client,
    repository: &Repository,
    what: &Removable,
    rules: Rules,
) -> Result<Removal, ClientError> {
    match what {
        Removable::Tag(tag) => one_tag(client, repository, tag, rules).await,
        Removable::Digest(digest) => {
            let found =
                client.head_manifest(repository, &Target::Digest(digest.clone()), Access::Pull).await?;
            found.ok_or_else(|| nothing(client, &format!("{repository}@{digest}")))?;
            let tags = tags_of(client, repository, digest).await?;
            manifest(client, repository, digest, digest.to_string(), tags, rules).await
        }
        Removable::Everything => everything(client, repository, rules).await,
    }
}

async fn one_tag(
    client: &Client,
    repository: &Repository,
    tag: &Tag,
    rules: Rules,
) -> Result<Removal, ClientError> {
    let target = Target::Tag(tag.clone());
    let found = client.head_manifest(repository, &target, Access::Pull).await?;
    let digest = found.ok_or_else(|| nothing(client, &format!("{repository}:{tag}")))?.digest;
    if rules.dry_run {
        let mut removal = removal(vec![tag.to_string()], Vec::new());
        removal.note =
            Some("whether the registry deletes tags, or manifests only, shows when it is done".to_owned());
        return Ok(removal);
    }
    match client.delete_manifest(repository, &target).await {
        Ok(()) => Ok(removal(vec![tag.to_string()], Vec::new())),
        Err(error) if only_by_digest(&error) => {
            let mut others = tags_of(client, repository, &digest).await?;
            others.retain(|other| other != tag.as_str());
            manifest(client, repository, &digest, tag.to_string(), others, rules).await
        }
        Err(error) => Err(error),
    }
}

/// Distribution 2 takes what is no digest for a malformed one; others say 405.
fn only_by_digest(error: &ClientError) -> bool {
    matches!(error.status(), Some(400 | 405))
}

/// Deletes a manifest, unless tags that nobody named would go with it.
async fn manifest(
    client: &Client,
    repository: &Repository,
    digest: &Digest,
    named: String,
    others: Vec<String>,
    rules: Rules,
) -> Result<Removal, ClientError> {
    if !others.is_empty() && !rules.allow_siblings {
        return Err(siblings(client, repository, digest, &others));
    }
    if !rules.dry_run {
        client.delete_manifest(repository, &Target::Digest(digest.clone())).await?;
    }
    Ok(removal(vec![named], others))
}

/// Every tag. The specification has no word for the repository itself, so its name may stay.
async fn everything(client: &Client, repository: &Repository, rules: Rules) -> Result<Removal, ClientError> {
    let tags = client.tags(repository).await?;
    let mut gone = BTreeSet::new();
    for tag in &tags {
        if rules.dry_run {
            continue;
        }
        let target = Target::Tag(tag.clone());
        match client.delete_manifest(repository, &target).await {
            Ok(()) => {}
            Err(error) if only_by_digest(&error) => {
                // All tags are to go, so it does not matter which go together.
                if let Some(found) = client.head_manifest(repository, &target, Access::Pull).await?
                    && gone.insert(found.digest.to_string())
                {
                    client.delete_manifest(repository, &Target::Digest(found.digest)).await?;
                }
            }
            // A tag of a manifest that has just gone is gone as well.
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error),
        }
    }
    let mut removal = removal(tags.iter().map(ToString::to_string).collect(), Vec::new());
    removal.note =
        Some("all tags; the repository's name may stay, the specification cannot delete it".to_owned());
    Ok(removal)
}

/// The tags that name a manifest.
async fn tags_of(
    client: &Client,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<String>, ClientError> {
    let tags = client.tags(repository).await?;
    let asked = stream::iter(tags).map(async |tag| {
        let target = Target::Tag(tag.clone());
        let found = client.head_manifest(repository, &target, Access::Pull).await?;
        Ok::<_, ClientError>(found.filter(|found| found.digest == *digest).map(|_| tag.to_string()))
    });
    let found: Vec<Option<String>> = asked.buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

fn removal(removed: Vec<String>, also_removed: Vec<String>) -> Removal {
    Removal { removed, also_removed, asynchronous: false, note: None }
}

fn siblings(client: &Client, repository: &Repository, digest: &Digest, others: &[String]) -> ClientError {
    let text = format!(
        "it is {digest}, which also has the tags {}; they would go too: say so with --allow-siblings",
        others.join(", ")
    );
    let mut error =
        DialectError { code: "siblings".to_owned(), ..DialectError::new(ErrorKind::Conflict, text) };
    error.extra.insert("name".to_owned(), others.join(","));
    ClientError::Dialect { what: format!("deleting from {}/{repository}", client.registry()), error }
}

fn nothing(client: &Client, what: &str) -> ClientError {
    let error = DialectError::new(ErrorKind::NotFound, "there is no such tag or digest");
    ClientError::Dialect { what: format!("deleting {}/{what}", client.registry()), error }
}
