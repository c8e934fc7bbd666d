//! The part of the distribution specification that providers speak themselves: the catalogue, the tags of a repository,
//! and deletion that never takes along what was not named.

use serde::Deserialize;

use crate::client::Client;
use crate::contract::{Error, Removal, Repository, RepositoryPage, Result, Scope, Tag, TagPage, Target};
use crate::http::{Request, Response};
use crate::{invocation, link, pairs, refusal};

/// Everything a manifest can be, so that a registry answers with what it has instead of converting or refusing.
pub const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Requests that one deletion may spend on finding sibling tags; the host allows 64 a call, and some are needed besides.
const SIBLING_REQUESTS: usize = 48;

#[derive(Debug, Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// One page of `GET /v2/_catalog`. The filter keeps names that start with `namespace/` and contain `query`.
///
/// # Errors
/// What the registry refused.
pub fn catalog_page(
    client: &Client,
    filter: &[(String, String)],
    limit: u32,
    cursor: Option<&str>,
) -> Result<RepositoryPage> {
    let first = format!("/v2/_catalog?n={}", limit.max(1));
    let (answer, next) = page(client, &[Scope::catalog()], &first, cursor, "list the repositories")?;
    let names = answer.json::<Catalog>()?.repositories.unwrap_or_default();
    let next = if names.is_empty() { None } else { next };
    let namespace =
        pairs::get(filter, "namespace").map(|namespace| format!("{}/", namespace.trim_end_matches('/')));
    let wanted = |name: &String| {
        namespace.as_ref().is_none_or(|prefix| name.starts_with(prefix.as_str()))
            && pairs::get(filter, "query").is_none_or(|query| name.contains(query))
    };
    let items = names.into_iter().filter(wanted).map(|name| Repository { name, extra: Vec::new() }).collect();
    Ok(RepositoryPage { items, next, extra: Vec::new() })
}

/// One page of `GET /v2/…/tags/list`. The filter keeps names that contain `query`.
///
/// # Errors
/// What the registry refused.
pub fn tags_page(
    client: &Client,
    repository: &str,
    filter: &[(String, String)],
    limit: u32,
    cursor: Option<&str>,
) -> Result<TagPage> {
    let first = format!("/v2/{repository}/tags/list?n={}", limit.max(1));
    let scopes = [Scope::repository(repository, ["pull"])];
    let (answer, next) = page(client, &scopes, &first, cursor, &format!("list the tags of {repository}"))?;
    let names = answer.json::<Tags>()?.tags.unwrap_or_default();
    let next = if names.is_empty() { None } else { next };
    let wanted = |name: &String| pairs::get(filter, "query").is_none_or(|query| name.contains(query));
    let tag = |name| Tag { name, digest: None, extra: pairs::pairs([("source", "registry")]) };
    Ok(TagPage { items: names.into_iter().filter(wanted).map(tag).collect(), next, extra: Vec::new() })
}

/// The answer to a page, and the cursor of the next: path and query of the `Link`. A link that leads elsewhere or back to
/// this very page is no progress and ends the list.
fn page(
    client: &Client,
    scopes: &[Scope],
    first: &str,
    cursor: Option<&str>,
    doing: &str,
) -> Result<(Response, Option<String>)> {
    let current = cursor.unwrap_or(first);
    if !current.starts_with("/v2/") {
        return Err(Error::invalid(format!("`{current}` is not a cursor of this provider")).code("cursor"));
    }
    let url = Client::url(current);
    let answer = client.send(scopes, || Request::get(&*url).max_redirects(2))?;
    if !answer.is_success() {
        return Err(refusal::error(&answer, doing));
    }
    let headers = answer.headers("link");
    let next = link::next(headers.iter().map(String::as_str)).map(|target| link::resolve(&url, &target));
    // Behind a proxy the link may carry another scheme or host; the path is what counts.
    let next = next.map(|target| target[link::origin(&target).len()..].to_owned());
    let next = next.filter(|next| next != current && next.starts_with("/v2/"));
    Ok((answer, next))
}

/// All tags of a repository, up to a number of requests.
///
/// # Errors
/// What the registry refused; `other` when there are more pages than that.
fn all_tags(client: &Client, repository: &str, mut requests: usize) -> Result<Vec<String>> {
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let page = tags_page(client, repository, &[], 1000, cursor.as_deref())?;
        names.extend(page.items.into_iter().map(|tag| tag.name));
        requests = requests.saturating_sub(1);
        match page.next {
            None => return Ok(names),
            Some(_) if requests == 0 => return Err(too_many(repository)),
            next => cursor = next,
        }
    }
}

fn too_many(repository: &str) -> Error {
    Error::other(format!(
        "{repository} has too many tags to find out which of them share a digest; delete by tag on a registry that can, or use \
         its own interface"
    ))
    .code("too-many-tags")
}

/// The digest a reference points to.
///
/// # Errors
/// `not-found` when there is none, and what the registry refused.
pub fn digest_of(client: &Client, repository: &str, reference: &str) -> Result<String> {
    let url = Client::url(&format!("/v2/{repository}/manifests/{reference}"));
    let answer = client.send(&[Scope::repository(repository, ["pull"])], || {
        Request::head(&*url).header("accept", MANIFESTS)
    })?;
    if !answer.is_success() {
        return Err(refusal::error(&answer, &format!("find {repository}:{reference}")));
    }
    answer.header("docker-content-digest").ok_or_else(|| {
        Error::unavailable(format!(
            "{} did not say the digest of {repository}:{reference}",
            invocation::registry()
        ))
        .code("no-digest")
    })
}

/// The tags that point to a digest.
///
/// # Errors
/// What the registry refused; `other` when there are more tags than can be asked about.
pub fn siblings(client: &Client, repository: &str, digest: &str) -> Result<Vec<String>> {
    let tags = all_tags(client, repository, 4)?;
    if tags.len() > SIBLING_REQUESTS {
        return Err(too_many(repository));
    }
    let mut found = Vec::new();
    for tag in tags {
        match digest_of(client, repository, &tag) {
            Ok(other) if other == digest => found.push(tag),
            Ok(_) => {}
            // Deleted in between, or listed although it is gone.
            Err(error) if error.kind == crate::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Deletes by the specification. A tag is deleted as a tag; where the registry cannot, the digest goes only when no other
/// tag points to it, or with the option `allow-siblings`. Deleting a digest takes its tags along, so they are looked for
/// first.
///
/// # Errors
/// `conflict` with code `siblings` when other tags would go too, and what the registry refused.
pub fn remove(
    client: &Client,
    repository: &str,
    target: &Target,
    options: &[(String, String)],
) -> Result<Removal> {
    match target {
        Target::Tag(tag) => {
            if invocation::dry_run() {
                digest_of(client, repository, tag)?;
                return Ok(removal(vec![tag.clone()], Vec::new()));
            }
            let answer = delete(client, repository, tag)?;
            match answer.status() {
                200..=299 => Ok(removal(vec![tag.clone()], Vec::new())),
                // Distribution 2.8 takes what is no digest for a malformed one; others say 405.
                400 | 405 => {
                    let digest = digest_of(client, repository, tag)?;
                    let mut others = siblings(client, repository, &digest)?;
                    others.retain(|other| other != tag);
                    remove_digest(client, repository, &digest, tag, others, options)
                }
                _ => Err(refusal::error(&answer, &format!("delete {repository}:{tag}"))),
            }
        }
        Target::Digest(digest) => {
            let tags = siblings(client, repository, digest)?;
            remove_digest(client, repository, digest, digest, tags, options)
        }
        Target::Everything => everything(client, repository),
    }
}

/// Deletes a digest whose tags are known, where they may go with it. `named` is what was asked to be removed.
///
/// # Errors
/// As [`remove`].
pub fn remove_digest(
    client: &Client,
    repository: &str,
    digest: &str,
    named: &str,
    others: Vec<String>,
    options: &[(String, String)],
) -> Result<Removal> {
    spare_siblings(repository, digest, &others, options)?;
    if !invocation::dry_run() {
        let answer = delete(client, repository, digest)?;
        if !answer.is_success() {
            return Err(deletion_refused(&answer, repository, digest));
        }
    }
    Ok(removal(vec![named.to_owned()], others))
}

/// The rule of every deletion: tags that were not named go only where it was said that they may (`allow-siblings`). `named` is what is
/// deleted, `others` what would go with it.
///
/// # Errors
/// `conflict` with code `siblings`, which names them.
pub fn spare_siblings(
    repository: &str,
    named: &str,
    others: &[String],
    options: &[(String, String)],
) -> Result<()> {
    if others.is_empty() || pairs::flag(options, "allow-siblings") {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "deleting {named} from {repository} would also delete the tags {}; say so with --allow-siblings",
        others.join(", ")
    ))
    .code("siblings")
    .extra("name", others.join(",")))
}

/// Every tag of a repository, by tag where that works. The repository's name may stay, the specification cannot delete it.
fn everything(client: &Client, repository: &str) -> Result<Removal> {
    let tags = all_tags(client, repository, 4)?;
    if tags.len() > SIBLING_REQUESTS {
        return Err(too_many(repository));
    }
    let mut removed = Vec::new();
    for tag in tags {
        if invocation::dry_run() {
            removed.push(tag);
            continue;
        }
        let answer = delete(client, repository, &tag)?;
        match answer.status() {
            // A tag of a digest that has just gone is gone as well.
            200..=299 | 404 => removed.push(tag),
            400 | 405 => {
                let digest = match digest_of(client, repository, &tag) {
                    Ok(digest) => digest,
                    Err(error) if error.kind == crate::ErrorKind::NotFound => {
                        removed.push(tag);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let answer = delete(client, repository, &digest)?;
                if !answer.is_success() {
                    return Err(deletion_refused(&answer, repository, &digest));
                }
                removed.push(tag);
            }
            _ => return Err(refusal::error(&answer, &format!("delete {repository}:{tag}"))),
        }
    }
    Ok(removal(removed, Vec::new()))
}

fn delete(client: &Client, repository: &str, reference: &str) -> Result<Response> {
    let url = Client::url(&format!("/v2/{repository}/manifests/{reference}"));
    client.send(&[Scope::repository(repository, ["delete"])], || Request::delete(&*url))
}

fn deletion_refused(answer: &Response, repository: &str, reference: &str) -> Error {
    let error = refusal::error(answer, &format!("delete {repository}@{reference}"));
    if answer.status() != 405 {
        return error;
    }
    Error { message: format!("{}; deletion is switched off on this registry", error.message), ..error }
}

fn removal(removed: Vec<String>, also_removed: Vec<String>) -> Removal {
    Removal { removed, also_removed, asynchronous: false, extra: Vec::new() }
}
