//! Tags and their removal. To GitHub a package has versions, one a manifest, with any number of tags. Deleting is deleting a version,
//! which takes all of its tags, so it is done only when no other tag is there. Moving the tag away first, by pushing something
//! else to it, is never done: it would stop half way with the tag on the wrong image.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, pairs as list};
use serde::Deserialize;

use crate::{api, login, naming, packages};

/// Pages of a hundred versions that one deletion may look through; the host allows 64 requests.
const PAGES: usize = 48;

/// Deleted versions and packages can be had back.
const RESTORE: &str =
    "GitHub keeps what was deleted for 30 days; it can be restored in the settings of the package's owner";

#[derive(Debug, Deserialize)]
struct Version {
    id: u64,
    /// The digest.
    name: String,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    updated_at: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    container: Container,
}

#[derive(Debug, Default, Deserialize)]
struct Container {
    #[serde(default)]
    tags: Vec<String>,
}

impl Version {
    fn tags(self, query: Option<&str>) -> Vec<Tag> {
        let mut extra = pairs([("pushed-at", self.created_at), ("updated-at", self.updated_at)]);
        extra.retain(|(_, value)| !value.is_empty());
        extra.push(("source".to_owned(), "api".to_owned()));
        let tags = self.metadata.container.tags.into_iter();
        tags.filter(|name| query.is_none_or(|query| name.contains(query)))
            .map(|name| Tag { name, digest: Some(self.name.clone()), extra: extra.clone() })
            .collect()
    }
}

fn rest(image: &str, limit: u32) -> String {
    format!("{}/versions?state=active&per_page={limit}", packages::path(image))
}

/// A page of tags: by the API with digests and times, else what the registry lists.
pub(crate) fn tags_page(
    repository: &str,
    filter: &Pairs,
    limit: u32,
    cursor: Option<&str>,
) -> Result<TagPage> {
    let (owner, image) = naming::parts(repository)?;
    let limit = limit.clamp(1, 100);
    let client = Client::new(login::flow());
    let plain = |cursor| distribution::tags_page(&client, repository, filter, limit, cursor);
    let answer = match cursor {
        Some(cursor) if cursor.starts_with("/v2/") => return plain(Some(cursor)),
        Some(cursor) if api::is_cursor(cursor) => api::ask("GET", cursor)?,
        Some(cursor) => {
            return Err(Error::invalid(format!("`{cursor}` is not a cursor of this provider")).code("cursor"));
        }
        None if api::credential().is_none() || api::base().is_err() => return plain(None),
        None => match api::of_owner(owner, &rest(image, limit)) {
            Ok((_, answer)) => answer,
            Err(error) if error.kind == ErrorKind::Unavailable => return plain(None),
            Err(error) => return Err(error),
        },
    };
    if cursor.is_none() && matches!(answer.status(), 401 | 403 | 404) {
        // A token may pull and not see the API; what the registry says is then the last word.
        return plain(None);
    }
    if !answer.is_success() {
        return Err(api::refused(&answer, &format!("list the tags of {repository}"), "read:packages"));
    }
    let query = list::get(filter, "query");
    let versions = answer.json::<Vec<Version>>()?;
    let items = versions.into_iter().flat_map(|version| version.tags(query)).collect();
    Ok(TagPage {
        items,
        next: api::next(&answer).filter(|next| Some(next.as_str()) != cursor),
        extra: Vec::new(),
    })
}

/// Removes a tag or a digest when that takes nothing else along, or a package.
pub(crate) fn remove(repository: &str, target: &Target, options: &Pairs) -> Result<Removal> {
    let (owner, image) = naming::parts(repository)?;
    let named = match target {
        Target::Tag(tag) => tag.as_str(),
        Target::Digest(digest) => digest.as_str(),
        Target::Everything => return everything(repository, owner, image),
    };
    let (path, version) = find(repository, owner, image, target)?;
    let mut others = version.metadata.container.tags;
    others.retain(|tag| tag != named);
    distribution::spare_siblings(repository, named, &others, options)?;
    if !invocation::dry_run() {
        let answer = api::ask("DELETE", &format!("{path}/{}", version.id))?;
        if !answer.is_success() {
            return Err(deletion_refused(&answer, repository, named));
        }
    }
    Ok(Removal {
        removed: vec![named.to_owned()],
        also_removed: others,
        asynchronous: false,
        extra: pairs([("note", RESTORE)]),
    })
}

/// The version with a tag or digest, and the path of the package's versions.
fn find(repository: &str, owner: &str, image: &str, target: &Target) -> Result<(String, Version)> {
    let doing = format!("look for it in {repository}");
    let (first, mut answer) = api::of_owner(owner, &rest(image, 100))?;
    let path = first.split('?').next().unwrap_or_default().to_owned();
    for _ in 0..PAGES {
        if !answer.is_success() {
            return Err(api::refused(&answer, &doing, "read:packages"));
        }
        let found = answer.json::<Vec<Version>>()?.into_iter().find(|version| match target {
            Target::Tag(tag) => version.metadata.container.tags.contains(tag),
            Target::Digest(digest) => version.name == *digest,
            Target::Everything => false,
        });
        if let Some(version) = found {
            return Ok((path, version));
        }
        match api::next(&answer) {
            Some(next) => answer = api::ask("GET", &next)?,
            None => {
                let what = match target {
                    Target::Tag(tag) => format!("tag `{tag}`"),
                    Target::Digest(digest) => digest.clone(),
                    Target::Everything => "version".to_owned(),
                };
                return Err(Error::not_found(format!("{repository} has no {what}")).code("MANIFEST_UNKNOWN"));
            }
        }
    }
    Err(Error::other(format!(
        "{repository} has more than {} versions, and the newest are looked through; delete it in the package's settings on GitHub",
        PAGES * 100
    ))
    .code("too-many-versions"))
}

fn everything(repository: &str, owner: &str, image: &str) -> Result<Removal> {
    let (path, answer) = api::of_owner(owner, &packages::path(image))?;
    if !answer.is_success() {
        return Err(api::refused(&answer, &format!("look at {repository}"), "read:packages"));
    }
    if !invocation::dry_run() {
        let answer = api::ask("DELETE", &path)?;
        if !answer.is_success() {
            return Err(deletion_refused(&answer, repository, "the package"));
        }
    }
    Ok(Removal {
        removed: vec![repository.to_owned()],
        also_removed: Vec::new(),
        asynchronous: false,
        extra: pairs([("note", RESTORE)]),
    })
}

fn deletion_refused(answer: &Response, repository: &str, what: &str) -> Error {
    let said = answer.json_scalar("/message").unwrap_or_default().to_ascii_lowercase();
    let status = answer.status();
    if said.contains("last tagged version") || said.contains("last version") {
        return Error::conflict(format!(
            "could not delete {what} from {repository}: it is the last version with a tag, which GitHub deletes with the whole package only: \
             `idp delete --repository {}/{repository}`",
            invocation::registry()
        ))
        .code("last-version")
        .status(status);
    }
    if said.contains("5000 downloads") || said.contains("5,000 downloads") {
        return Error::denied(format!(
            "could not delete {what} from {repository}: it is public and was downloaded more than 5000 times, and GitHub keeps such versions; \
             ask GitHub's support, or make the package private"
        ))
        .code("too-many-downloads")
        .status(status);
    }
    api::refused(answer, &format!("delete {what} from {repository}"), "delete:packages")
}
