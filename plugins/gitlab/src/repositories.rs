//! One repository. It appears with its first push; the project must be there, and is made in GitLab.

use idp_provider_sdk::link;
use idp_provider_sdk::prelude::*;
use serde::Deserialize;

use crate::api::Api;
use crate::{list, login, naming};

#[derive(Debug, Deserialize)]
struct Project {
    #[serde(default)]
    visibility: Option<String>,
    #[serde(default)]
    web_url: Option<String>,
    #[serde(default)]
    container_registry_access_level: Option<String>,
}

/// As the registry's own API has it.
#[derive(Debug, Deserialize)]
struct Detailed {
    #[serde(default)]
    size_bytes: Option<u64>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    last_published_at: Option<String>,
    #[serde(default)]
    updated_at: Option<String>,
}

/// The project at the start of a repository's path.
fn project(api: &Api, repository: &str) -> Result<Project> {
    for path in naming::projects(repository) {
        let answer = api.get(&format!("/projects/{}", link::percent(path)))?;
        match answer.status() {
            200 => return answer.json(),
            404 => {}
            _ => return Err(api.refused(&answer, &format!("look for the project of {repository}"))),
        }
    }
    let registry = invocation::registry();
    Err(Error::not_found(format!(
        "no project that is there, or that these credentials may see, is at the start of `{repository}`; a project is more than its images, so it is \
         made in GitLab and not by a push to {registry}"
    ))
    .code("project-unknown")
    .extra("missing", "project")
    .extra("name", repository))
}

/// Whether a push can work: the project is there and its registry is on. Nothing is ever made.
pub(crate) fn ensure(name: &str, _: &Pairs) -> Result<Repository> {
    let found = project(&Api::new()?, name)?;
    if found.container_registry_access_level.as_deref() == Some("disabled") {
        return Err(Error::denied(format!(
            "the project of {name} has its container registry switched off: Settings, General, Visibility, Container registry"
        ))
        .code("registry-disabled"));
    }
    let mut extra = pairs([("state", "implicit")]);
    extra.extend(found.visibility.map(|visibility| ("visibility".to_owned(), visibility)));
    Ok(Repository { name: name.to_owned(), extra })
}

/// What the registry and GitLab know of a repository; whichever answers.
pub(crate) fn info(name: &str) -> Result<Repository> {
    let url = Client::url(&format!("/gitlab/v1/repositories/{name}/?size=self"));
    let answer = login::client().send(&[Scope::repository(name, ["pull"])], || Request::get(&*url))?;
    let mut extra = pairs([("state", "exists")]);
    let told = answer.is_success();
    if told {
        let found: Detailed = answer.json()?;
        extra.extend(found.size_bytes.map(|bytes| ("size".to_owned(), bytes.to_string())));
        extra.extend(found.created_at.map(|at| ("created-at".to_owned(), at)));
        let updated = found.last_published_at.or(found.updated_at);
        extra.extend(updated.map(|at| ("updated-at".to_owned(), at)));
    }
    let api = Api::new()?;
    if !told {
        let (_, found) = list::locate(&api, name)?;
        let found = found.ok_or_else(|| {
            Error::not_found(format!("nothing was pushed to {name} yet")).code("NAME_UNKNOWN")
        })?;
        // Size and number of tags are told of one repository when they are asked for.
        let answer = api.get(&format!("/registry/repositories/{}?tags_count=true&size=true", found.id))?;
        let found = if answer.is_success() { answer.json::<list::Listed>()? } else { found };
        extra.extend(found.size.map(|bytes| ("size".to_owned(), bytes.to_string())));
        extra.extend(found.tags_count.map(|count| ("tags".to_owned(), count.to_string())));
        extra.extend(found.created_at.map(|at| ("created-at".to_owned(), at)));
    }
    match project(&api, name) {
        Ok(project) => {
            extra.extend(project.visibility.map(|visibility| ("visibility".to_owned(), visibility)));
            extra.extend(project.web_url.map(|url| ("url".to_owned(), format!("{url}/container_registry"))));
        }
        // A deploy token sees the registry alone.
        Err(error) => log::debug(&error.message),
    }
    Ok(Repository { name: name.to_owned(), extra })
}
