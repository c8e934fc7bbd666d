//! Lists of repositories: of one project, or of everything the account may see.
//!
//! A cursor is the number of a page; where a CLI secret is not good for the list of everything, it is `PROJECT.PAGE`, both numbers.

use idp_provider_sdk::link;
use idp_provider_sdk::pairs as list;
use idp_provider_sdk::prelude::*;

use crate::projects::{self, Listed, Project};
use crate::{api, login};

/// One page. A namespace is a project, perhaps with a part of a repository's name after it.
pub(crate) fn page(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    if cursor.is_none() {
        projects::refuse_wrong_credentials()?;
    }
    let namespace = list::get(filter, "namespace").map(|namespace| namespace.trim_matches('/'));
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        let project = namespace.split('/').next().unwrap_or_default();
        let (items, next) = of_project(project, filter, limit, api::page_number(cursor)?)?;
        return Ok(shown(items, namespace, filter, next.then(|| following(cursor))));
    }
    let credential = invocation::credential("registry");
    if credential.is_some_and(|credential| !login::is_robot(credential.username())) && api::is_oidc() {
        return by_project(filter, limit, cursor);
    }
    let request = Request::get(api::url("/repositories"));
    let (items, next) =
        repositories(request, filter, limit, api::page_number(cursor)?, "list the repositories")?;
    Ok(shown(items, "", filter, next.then(|| following(cursor))))
}

fn following(cursor: Option<&str>) -> String {
    let number: u32 = cursor.and_then(|text| text.parse().ok()).unwrap_or(1);
    (number + 1).to_string()
}

fn of_project(project: &str, filter: &Pairs, limit: u32, page: u32) -> Result<(Vec<Listed>, bool)> {
    let request = Request::get(api::url(&format!("/projects/{}/repositories", link::percent(project))));
    repositories(request, filter, limit, page, &format!("list the repositories of the project `{project}`"))
}

fn repositories(
    request: Request<'_>,
    filter: &Pairs,
    limit: u32,
    page: u32,
    doing: &str,
) -> Result<(Vec<Listed>, bool)> {
    let answer = api::ask(paged(request, limit, page, list::get(filter, "query")))?;
    if !answer.is_success() {
        return Err(api::refused(&answer, doing, "List Repository"));
    }
    let next = api::has_next(&answer);
    Ok((answer.json::<Vec<Listed>>()?, next))
}

/// Sorted by name, so that a push between two pages moves nothing to another.
fn paged<'a>(request: Request<'a>, limit: u32, page: u32, query: Option<&str>) -> Request<'a> {
    let request = request
        .query("page", &page.to_string())
        .query("page_size", &limit.clamp(1, 100).to_string())
        .query("sort", "name");
    api::fuzzy(request, "name", query)
}

/// The list of everything shows a CLI secret what everybody may see. So project by project: these lists it may read.
fn by_project(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    let (index, page) = cursor.unwrap_or("1.1").split_once('.').unwrap_or_default();
    let (index, page) = (api::page_number(Some(index))?, api::page_number(Some(page))?);
    let request = Request::get(api::url("/projects")).query("with_detail", "false");
    let answer = api::ask(paged(request, 1, index, None))?;
    if !answer.is_success() {
        return Err(api::refused(&answer, "list the projects", "List Project"));
    }
    let more = api::has_next(&answer).then(|| format!("{}.1", index + 1));
    let Some(project) = answer.json::<Vec<Project>>()?.into_iter().next() else {
        return Ok(RepositoryPage { items: Vec::new(), next: None, extra: Vec::new() });
    };
    let (items, next) = of_project(&project.name, filter, limit, page)?;
    let next = if next { Some(format!("{index}.{}", page + 1)) } else { more };
    Ok(shown(items, "", filter, next))
}

/// The items that the filter wants, in the words of the contract. The API may not have understood the query.
fn shown(items: Vec<Listed>, namespace: &str, filter: &Pairs, next: Option<String>) -> RepositoryPage {
    let wanted = |item: &Listed| {
        let below = item
            .name
            .strip_prefix(namespace)
            .is_some_and(|rest| namespace.is_empty() || rest.starts_with('/'));
        below && list::get(filter, "query").is_none_or(|query| item.name.contains(query))
    };
    let items = items.into_iter().filter(wanted).map(Listed::into_repository).collect();
    RepositoryPage { items, next, extra: Vec::new() }
}
