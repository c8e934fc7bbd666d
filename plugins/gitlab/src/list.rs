//! Repositories. The registry's catalogue is for administrators; GitLab lists those of one project or one group.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, pairs as list};
use serde::Deserialize;

use crate::api::{self, Api};
use crate::naming;

/// Pages of a hundred repositories of one project that are looked through for one of them.
const PAGES: usize = 20;

/// As the API describes a repository.
#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    pub(crate) id: u64,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) created_at: Option<String>,
    #[serde(default)]
    pub(crate) tags_count: Option<u64>,
    #[serde(default)]
    pub(crate) size: Option<u64>,
    /// `delete_scheduled`, `delete_failed`, …
    #[serde(default)]
    pub(crate) status: Option<String>,
}

impl Listed {
    fn repository(self) -> Repository {
        let mut extra = Vec::new();
        extra.extend(self.created_at.map(|at| ("created-at".to_owned(), at)));
        extra.extend(self.tags_count.map(|count| ("tags".to_owned(), count.to_string())));
        extra.extend(self.size.map(|bytes| ("size".to_owned(), bytes.to_string())));
        extra.extend(self.status.map(|status| ("description".to_owned(), status)));
        Repository { name: self.path, extra }
    }
}

/// A page of repositories of a project or group.
pub(crate) fn list_page(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    let named = list::get(filter, "namespace").map(|named| named.trim_matches('/').to_ascii_lowercase());
    let Some(namespace) = named.clone().filter(|named| !named.is_empty()).or_else(naming::own_project) else {
        let registry = invocation::registry();
        return Err(Error::invalid(format!(
            "GitLab lists the repositories of one project or one group: `idp list {registry} --namespace GROUP` or `--namespace GROUP/PROJECT` \
             (the catalogue of all is for administrators)"
        ))
        .code("namespace-missing"));
    };
    let api = Api::new()?;
    let doing = format!("list the repositories of `{namespace}`");
    let answer = match cursor {
        Some(cursor) if api::is_cursor(cursor) => api.get(cursor)?,
        Some(cursor) => {
            return Err(Error::invalid(format!("`{cursor}` is not a cursor of this provider")).code("cursor"));
        }
        None => first(&api, &namespace, limit.clamp(1, 100))?,
    };
    if !answer.is_success() {
        let error = api.refused(&answer, &doing);
        if answer.status() == 404 && error.kind == ErrorKind::NotFound {
            let message = format!(
                "{doing}: there is neither a project nor a group of this path, or it is not to be seen with these credentials"
            );
            return Err(Error { message: format!("could not {message}"), ..error.code("namespace-unknown") });
        }
        return Err(error);
    }
    let query = list::get(filter, "query").map(str::to_ascii_lowercase);
    let items = answer.json::<Vec<Listed>>()?.into_iter();
    let items =
        items.filter(|listed| query.as_ref().is_none_or(|query| listed.path.contains(query.as_str())));
    Ok(RepositoryPage {
        items: items.map(Listed::repository).collect(),
        next: api.next(&answer).filter(|next| Some(next.as_str()) != cursor),
        extra: Vec::new(),
    })
}

/// A path with a `/` is a project more often than a group; one without is a group.
fn first(api: &Api, namespace: &str, limit: u32) -> Result<Response> {
    let encoded = link::percent(namespace);
    let project = format!("/projects/{encoded}/registry/repositories?tags_count=true&per_page={limit}");
    let group = format!("/groups/{encoded}/registry/repositories?per_page={limit}");
    if namespace.contains('/') {
        let answer = api.get(&project)?;
        if answer.status() != 404 {
            return Ok(answer);
        }
    }
    api.get(&group)
}

/// Where the API has a repository: the path of its project, encoded, and what is told of it. `None`: the project has no such one.
pub(crate) fn locate(api: &Api, repository: &str) -> Result<(String, Option<Listed>)> {
    let doing = format!("look for {repository}");
    let mut refused = None;
    for project in naming::projects(repository) {
        let project = link::percent(project);
        let mut answer = api.get(&format!("/projects/{project}/registry/repositories?per_page=100"))?;
        // Not the end of the project's path, or not to be seen.
        if answer.status() == 404 {
            refused = Some(api.refused(&answer, &doing));
            continue;
        }
        for _ in 0..PAGES {
            if !answer.is_success() {
                return Err(api.refused(&answer, &doing));
            }
            let found = answer.json::<Vec<Listed>>()?.into_iter().find(|listed| listed.path == repository);
            match (found, api.next(&answer)) {
                (Some(found), _) => return Ok((project, Some(found))),
                (None, Some(next)) => answer = api.get(&next)?,
                (None, None) => break,
            }
        }
        return Ok((project, None));
    }
    let unknown = || {
        Error::not_found(format!(
            "{repository} lies in no project that is there or that these credentials may see: its path starts with that of a project"
        ))
        .code("project-unknown")
        .extra("missing", "project")
        .extra("name", repository)
    };
    Err(refused.filter(|error| error.kind != ErrorKind::NotFound).unwrap_or_else(unknown))
}
