//! What is there. The API tells more and sees what an OAuth token sees; the registry's own lists see what a robot sees. Either has a
//! hundred entries a page at most, and says where the next one starts.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, link, pairs as list, refusal, time};
use serde::Deserialize;

use crate::api::{self, Caller};
use crate::login;

/// Entries a page, whatever is asked for.
const PAGE: u32 = 100;

#[derive(Debug, Deserialize)]
struct Repositories {
    #[serde(default)]
    repositories: Vec<Listed>,
    next_page: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    namespace: String,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    is_public: bool,
    #[serde(default)]
    last_modified: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Search {
    #[serde(default)]
    results: Vec<Hit>,
    #[serde(default)]
    has_additional: bool,
}

#[derive(Debug, Deserialize)]
struct Hit {
    #[serde(default)]
    kind: String,
    namespace: Namespace,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    is_public: bool,
    #[serde(default)]
    last_modified: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    name: String,
}

/// A page of repositories. A term without a namespace is searched for; a namespace is listed by the API; with neither, or for a robot,
/// the catalogue has what may be seen.
pub(crate) fn repositories(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    let (namespace, query) = (list::get(filter, "namespace"), list::get(filter, "query"));
    let caller = Caller::find();
    let by_catalog = cursor.is_some_and(|cursor| cursor.starts_with("/v2/"));
    // A robot's repositories are private as a rule, and the API shows it the public ones only.
    let sees_by_api = caller.has_token() || invocation::credential("registry").is_none();
    match (namespace, query) {
        (None, Some(query)) if !by_catalog => search(&caller, query, cursor),
        (Some(namespace), _) if !by_catalog && sees_by_api => of_namespace(&caller, namespace, query, cursor),
        _ => distribution::catalog_page(&login::client(), filter, limit.min(PAGE), cursor).map_err(|error| {
            if matches!(error.kind, ErrorKind::Unauthenticated | ErrorKind::Denied) {
                let message = format!(
                    "{}; without credentials give a namespace, `idp list {} --namespace ORGANISATION`",
                    error.message,
                    invocation::registry()
                );
                return Error { message, ..error };
            }
            error
        }),
    }
}

fn of_namespace(
    caller: &Caller,
    namespace: &str,
    query: Option<&str>,
    cursor: Option<&str>,
) -> Result<RepositoryPage> {
    let namespace = namespace.trim_end_matches('/');
    let mut request = Request::get(api::url("/repository"))
        .query("namespace", namespace)
        .query("public", "true")
        .query("last_modified", "true");
    if let Some(cursor) = cursor {
        request = request.query("next_page", cursor);
    }
    let answer = caller.send(request)?;
    if !answer.is_success() {
        return Err(refusal::error(&answer, &format!("list the repositories of `{namespace}`")));
    }
    let page: Repositories = answer.json()?;
    let wanted = |listed: &Listed| query.is_none_or(|query| listed.name.contains(query));
    let items = page.repositories.into_iter().filter(wanted).map(|listed| {
        entry(&listed.namespace, &listed.name, listed.is_public, listed.description, listed.last_modified)
    });
    Ok(RepositoryPage { items: items.collect(), next: page.next_page, extra: Vec::new() })
}

fn search(caller: &Caller, query: &str, cursor: Option<&str>) -> Result<RepositoryPage> {
    let number = cursor.map_or(Ok(1), str::parse::<u32>).map_err(|_| not_ours(cursor))?;
    let request = Request::get(api::url("/find/repositories"))
        .query("query", query)
        .query("page", &number.to_string())
        .query("includeUsage", "false");
    let answer = caller.send(request)?;
    if !answer.is_success() {
        return Err(refusal::error(&answer, &format!("search for `{query}`")));
    }
    let page: Search = answer.json()?;
    let next = (page.has_additional && !page.results.is_empty()).then(|| (number + 1).to_string());
    let hits = page.results.into_iter().filter(|hit| hit.kind.is_empty() || hit.kind == "repository");
    let items = hits
        .map(|hit| entry(&hit.namespace.name, &hit.name, hit.is_public, hit.description, hit.last_modified))
        .collect();
    Ok(RepositoryPage { items, next, extra: Vec::new() })
}

fn entry(
    namespace: &str,
    name: &str,
    public: bool,
    description: Option<String>,
    modified: Option<i64>,
) -> Repository {
    let mut extra = pairs([
        ("visibility", if public { "public" } else { "private" }.to_owned()),
        ("description", description.unwrap_or_default()),
        ("updated-at", modified.map(time::to_rfc3339).unwrap_or_default()),
    ]);
    extra.retain(|(_, value)| !value.is_empty());
    Repository { name: format!("{namespace}/{name}"), extra }
}

fn not_ours(cursor: Option<&str>) -> Error {
    Error::invalid(format!("`{}` is not a cursor of this provider", cursor.unwrap_or_default()))
        .code("cursor")
}

#[derive(Debug, Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Vec<Listing>,
    #[serde(default)]
    has_additional: bool,
}

#[derive(Debug, Deserialize)]
struct Listing {
    name: String,
    #[serde(default)]
    manifest_digest: Option<String>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    start_ts: Option<i64>,
    #[serde(default)]
    immutable: bool,
}

/// A page of tags: by the API with digest, size and time where it lets us look, else the registry's own list.
pub(crate) fn tags(repository: &str, filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<TagPage> {
    let plain =
        |cursor| distribution::tags_page(&login::client(), repository, filter, limit.min(PAGE), cursor);
    if cursor.is_some_and(|cursor| cursor.starts_with("/v2/")) {
        return plain(cursor);
    }
    let number = cursor.map_or(Ok(1), str::parse::<u32>).map_err(|_| not_ours(cursor))?;
    let mut request = Request::get(api::url(&format!("/repository/{repository}/tag/")))
        .query("limit", &limit.clamp(1, PAGE).to_string())
        .query("page", &number.to_string())
        .query("onlyActiveTags", "true");
    let query = list::get(filter, "query");
    if let Some(query) = query {
        request = request.query("filter_tag_name", &format!("like:{query}"));
    }
    let answer = Caller::find().send(request)?;
    match answer.status() {
        200 => {}
        // Private, and we are no OAuth token; the first page decides for all of them.
        401 | 403 | 404 if number == 1 => return plain(None),
        _ => return Err(refusal::error(&answer, &format!("list the tags of {repository}"))),
    }
    let page: Tags = answer.json()?;
    let next = (page.has_additional && !page.tags.is_empty()).then(|| (number + 1).to_string());
    let wanted = |tag: &Listing| query.is_none_or(|query| tag.name.contains(query));
    let items = page.tags.into_iter().filter(wanted).map(|tag| {
        let mut extra = pairs([
            ("source", "api".to_owned()),
            ("size", tag.size.map(|size| size.to_string()).unwrap_or_default()),
            ("pushed-at", tag.start_ts.map(time::to_rfc3339).unwrap_or_default()),
            ("immutable", if tag.immutable { "true".to_owned() } else { String::new() }),
        ]);
        extra.retain(|(_, value)| !value.is_empty());
        Tag { name: tag.name, digest: tag.manifest_digest, extra }
    });
    Ok(TagPage { items: items.collect(), next, extra: Vec::new() })
}

/// The tags of a digest by the API, in one request.
pub(crate) fn tags_of(repository: &str, digest: &str) -> Result<Option<Vec<String>>> {
    let mut found = Vec::new();
    for number in 1..=20 {
        let request = Request::get(api::url(&format!("/repository/{repository}/tag/")))
            .query("limit", &PAGE.to_string())
            .query("page", &number.to_string())
            .query("onlyActiveTags", "true");
        let answer = Caller::find().send(request)?;
        if !answer.is_success() {
            return Ok(None);
        }
        let page: Tags = answer.json()?;
        let of_digest = page.tags.iter().filter(|tag| tag.manifest_digest.as_deref() == Some(digest));
        found.extend(of_digest.map(|tag| tag.name.clone()));
        if !page.has_additional || page.tags.is_empty() {
            return Ok(Some(found));
        }
    }
    Err(Error::other(format!(
        "{repository} has more than 2000 tags: {} shows which of them share a digest",
        link::origin(&Client::url("/"))
    ))
    .code("too-many-tags"))
}
