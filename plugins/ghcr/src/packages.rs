//! Packages, as GitHub's API tells of them. A package comes with its first push and is private then.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, pairs as list};
use serde::Deserialize;

use crate::api;
use crate::naming;

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    visibility: String,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    updated_at: String,
    #[serde(default)]
    html_url: String,
    owner: Option<Owner>,
    repository: Option<Source>,
}

#[derive(Debug, Deserialize)]
struct Owner {
    login: String,
}

#[derive(Debug, Deserialize)]
struct Source {
    full_name: String,
}

impl Package {
    /// Under the name that it is pulled by.
    fn repository(self, owner: &str) -> Repository {
        let owner = self.owner.map_or_else(|| owner.to_owned(), |owner| owner.login);
        let mut extra = pairs([
            ("state", "exists".to_owned()),
            ("visibility", self.visibility),
            ("created-at", self.created_at),
            ("updated-at", self.updated_at),
            ("url", self.html_url),
        ]);
        if let Some(source) = self.repository {
            extra.push(("description".to_owned(), format!("package of the repository {}", source.full_name)));
        }
        extra.retain(|(_, value)| !value.is_empty());
        Repository { name: format!("{owner}/{}", self.name).to_ascii_lowercase(), extra }
    }
}

/// The path of a package below its owner.
pub(crate) fn path(image: &str) -> String {
    format!("/packages/container/{}", link::percent(image))
}

/// Nothing has to be made. A new package is private, and there is no request that makes it public: when that is wanted, it must
/// have been done.
pub(crate) fn ensure(name: &str, options: &Pairs) -> Result<Repository> {
    let (owner, image) = naming::parts(name)?;
    if list::get(options, "visibility") != Some("public") {
        return Ok(Repository {
            name: name.to_owned(),
            extra: pairs([("state", "implicit"), ("visibility", "private")]),
        });
    }
    let found = match info(name) {
        Ok(found) => Some(found),
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match found {
        Some(found) if list::get(&found.extra, "visibility") == Some("public") => Ok(found),
        found => {
            let state =
                if found.is_some() { "is not public" } else { "would be made private by its first push" };
            Err(Error::invalid(format!(
                "{name} {state}, and GitHub lets nobody change that by request: push without --visibility, then choose \"Change \
                 visibility\" in the settings of the package {image} of {owner}"
            ))
            .code("visibility"))
        }
    }
}

/// What the API knows of a package.
pub(crate) fn info(name: &str) -> Result<Repository> {
    let (owner, image) = naming::parts(name)?;
    let (_, answer) = api::of_owner(owner, &path(image))?;
    if !answer.is_success() {
        return Err(api::refused(&answer, &format!("look at {name}"), "read:packages"));
    }
    Ok(answer.json::<Package>()?.repository(owner))
}

/// A page of packages: those of a user or an organisation, else the token's own.
pub(crate) fn list_page(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    let namespace =
        list::get(filter, "namespace").map(|namespace| namespace.trim_matches('/').to_ascii_lowercase());
    let owner = namespace.as_deref().and_then(|namespace| namespace.split('/').next()).unwrap_or_default();
    let packages = format!("/packages?package_type=container&per_page={}", limit.clamp(1, 100));
    let answer = match cursor {
        Some(cursor) if api::is_cursor(cursor) => api::ask("GET", cursor)?,
        Some(cursor) => {
            return Err(Error::invalid(format!("`{cursor}` is not a cursor of this provider")).code("cursor"));
        }
        None if owner.is_empty() => api::ask("GET", &format!("/user{packages}"))?,
        None => api::of_owner(owner, &packages)?.1,
    };
    if !answer.is_success() {
        let error = api::refused(&answer, "list the packages", "read:packages");
        let more = if owner.is_empty() {
            "; name an owner with --namespace, the token may be nobody's own".to_owned()
        } else {
            format!("; is `{owner}` a user or an organisation?")
        };
        let tells = matches!((answer.status(), owner.is_empty()), (403, true) | (404, false));
        return Err(if tells {
            Error { message: format!("{}{more}", error.message), ..error }
        } else {
            error
        });
    }
    let query = list::get(filter, "query").map(str::to_ascii_lowercase);
    let wanted = |name: &str| {
        namespace.as_deref().is_none_or(|prefix| name.starts_with(&format!("{prefix}/")))
            && query.as_ref().is_none_or(|query| name.contains(query.as_str()))
    };
    let items = answer.json::<Vec<Package>>()?.into_iter().map(|package| package.repository(owner));
    let items = items.filter(|item| wanted(&item.name)).map(|mut item| {
        item.extra.retain(|(key, _)| key != "state");
        item
    });
    Ok(RepositoryPage {
        items: items.collect(),
        next: api::next(&answer).filter(|next| Some(next.as_str()) != cursor),
        extra: Vec::new(),
    })
}
