//! Tags. A registry with a database tells a page of them with all that is known in one request; without it GitLab's API does, one
//! request a tag, which is done for the first page alone; deploy tokens and the public get the names.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, link, pairs as list, refusal};
use serde::Deserialize;

use crate::api::{self, Api};
use crate::list::locate;
use crate::login;

/// Tags that are asked about one by one.
const DETAILS: u32 = 20;

/// Pages of a thousand tags that are looked through for the tags of a digest.
const PAGES: usize = 20;

/// As the registry's own API has it.
#[derive(Debug, Deserialize)]
struct Detailed {
    name: String,
    digest: String,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    size_bytes: Option<u64>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    updated_at: Option<String>,
    #[serde(default)]
    published_at: Option<String>,
}

impl Detailed {
    fn tag(self) -> Tag {
        let mut extra = pairs([("source", "registry")]);
        let pushed = self.published_at.or_else(|| self.updated_at.clone()).or(self.created_at);
        extra.extend(self.size_bytes.map(|bytes| ("size".to_owned(), bytes.to_string())));
        extra.extend(self.media_type.map(|name| ("media-type".to_owned(), name)));
        extra.extend(pushed.map(|at| ("pushed-at".to_owned(), at)));
        extra.extend(self.updated_at.map(|at| ("updated-at".to_owned(), at)));
        Tag { name: self.name, digest: Some(self.digest), extra }
    }
}

/// As GitLab's API has it: the name in a list, the rest one by one.
#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    total_size: Option<u64>,
}

impl Named {
    fn tag(self) -> Tag {
        let mut extra = pairs([("source", "api")]);
        extra.extend(self.total_size.map(|bytes| ("size".to_owned(), bytes.to_string())));
        extra.extend(self.created_at.map(|at| ("pushed-at".to_owned(), at)));
        Tag { name: self.name, digest: self.digest, extra }
    }
}

/// A page of tags.
pub(crate) fn tags_page(
    repository: &str,
    filter: &Pairs,
    limit: u32,
    cursor: Option<&str>,
) -> Result<TagPage> {
    let limit = limit.clamp(1, 100);
    let query = list::get(filter, "query");
    match cursor {
        Some(cursor) if cursor.starts_with("/gitlab/v1/") => {
            return detailed(repository, query, cursor)?.ok_or_else(|| gone(repository));
        }
        Some(cursor) if cursor.starts_with("/v2/") => return plain(repository, filter, limit, Some(cursor)),
        Some(cursor) if api::is_cursor(cursor) => return named(&Api::new()?, query, cursor, None),
        Some(cursor) => {
            return Err(Error::invalid(format!("`{cursor}` is not a cursor of this provider")).code("cursor"));
        }
        None => {}
    }
    if let Some(page) = detailed(repository, query, &first(repository, limit))? {
        return Ok(page);
    }
    match by_api(repository, query, limit) {
        Ok(page) => Ok(page),
        // The registry has the last word: it lists for deploy tokens and the public too, and says what there is not.
        Err(error) if !matches!(error.kind, ErrorKind::RateLimited | ErrorKind::EgressDenied) => {
            log::debug(&format!("listing by the registry: {}", error.message));
            plain(repository, filter, limit, None)
        }
        Err(error) => Err(error),
    }
}

fn first(repository: &str, limit: u32) -> String {
    format!("/gitlab/v1/repositories/{repository}/tags/list/?n={limit}")
}

fn gone(repository: &str) -> Error {
    Error::not_found(format!("{repository} is not there any more")).code("NAME_UNKNOWN")
}

fn plain(repository: &str, filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<TagPage> {
    distribution::tags_page(&login::client(), repository, filter, limit, cursor)
}

/// The registry's own list; `None` when it has no database, or no such repository.
fn detailed(repository: &str, query: Option<&str>, path: &str) -> Result<Option<TagPage>> {
    let url = Client::url(path);
    let answer = login::client().send(&[Scope::repository(repository, ["pull"])], || Request::get(&*url))?;
    if matches!(answer.status(), 404 | 405) {
        return Ok(None);
    }
    if !answer.is_success() {
        return Err(refusal::error(&answer, &format!("list the tags of {repository}")));
    }
    let headers = answer.headers("link");
    let next = link::next(headers.iter().map(String::as_str)).map(|next| link::resolve(&url, &next));
    let next = next.map(|next| next[link::origin(&next).len()..].to_owned());
    let next = next.filter(|next| next != path && next.starts_with("/gitlab/v1/"));
    let items = answer.json::<Vec<Detailed>>()?.into_iter().map(Detailed::tag);
    let items = items.filter(|tag| query.is_none_or(|query| tag.name.contains(query)));
    Ok(Some(TagPage { items: items.collect(), next, extra: Vec::new() }))
}

/// The first page by GitLab's API, with what is known of each tag.
fn by_api(repository: &str, query: Option<&str>, limit: u32) -> Result<TagPage> {
    let api = Api::new()?;
    let (project, found) = locate(&api, repository)?;
    let Some(found) = found else { return Err(gone(repository)) };
    let tags = format!("/projects/{project}/registry/repositories/{}/tags", found.id);
    let path = format!("{tags}?per_page={}&pagination=keyset", limit.min(DETAILS));
    named(&api, query, &path, Some(&tags))
}

/// A page of names; below `details` each is asked about.
fn named(api: &Api, query: Option<&str>, path: &str, details: Option<&str>) -> Result<TagPage> {
    let answer = api.get(path)?;
    if !answer.is_success() {
        return Err(api.refused(&answer, "list the tags"));
    }
    let mut items = Vec::new();
    for named in answer.json::<Vec<Named>>()? {
        if query.is_some_and(|query| !named.name.contains(query)) {
            continue;
        }
        let one = match details {
            Some(tags) => Some(api.get(&format!("{tags}/{}", link::percent(&named.name)))?),
            None => None,
        };
        // Deleted in between, or a manifest that GitLab cannot read: the name is still there.
        let one = one.filter(Response::is_success).and_then(|answer| answer.json::<Named>().ok());
        items.push(one.unwrap_or(named).tag());
    }
    let next = api.next(&answer).map(|next| larger(&next)).filter(|next| next != path);
    Ok(TagPage { items, next, extra: Vec::new() })
}

/// The pages after the first have names only, so they are as large as they may be. A page by number stays as it is: another size
/// would start it elsewhere.
fn larger(next: &str) -> String {
    let keyset = next.contains("last=") && !next.contains("page=1&") && !next.contains("&page=");
    if keyset { next.replace(&format!("per_page={DETAILS}"), "per_page=100") } else { next.to_owned() }
}

/// The tags of a digest, where the registry tells them together.
pub(crate) fn of_digest(repository: &str, digest: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut path = first(repository, 1000);
    for _ in 0..PAGES {
        let Some(page) = detailed(repository, None, &path)? else {
            return distribution::siblings(&login::client(), repository, digest);
        };
        let same = page.items.into_iter().filter(|tag| tag.digest.as_deref() == Some(digest));
        found.extend(same.map(|tag| tag.name));
        match page.next {
            Some(next) => path = next,
            None => return Ok(found),
        }
    }
    Err(Error::other(format!(
        "{repository} has too many tags to find out which of them share a digest; delete by tag"
    ))
    .code("too-many-tags"))
}
