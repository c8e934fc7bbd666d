//! Images and where they live. What a push needs is the repository of Artifact Registry, which holds many images; the image comes with the
//! push.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, log, pairs as list};
use serde::Deserialize;

use crate::api::{self, Api, Operation};
use crate::place::{self, Place};
use crate::{artifacts, extras, login};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Repositories {
    repositories: Vec<api::Repository>,
    next_page_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Packages {
    packages: Vec<Package>,
    next_page_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Package {
    name: String,
    create_time: String,
    update_time: String,
}

fn repository(name: &str, state: &str) -> Repository {
    Repository { name: name.to_owned(), extra: pairs([("state", state)]) }
}

/// The repository must be there, and be for images; with `create-parent` it is made, private as they all are.
pub(crate) fn ensure(name: &str, options: &Pairs) -> Result<Repository> {
    let place = place::image(name)?;
    let parent = place.prefix();
    let Some(api) = Api::new(&place)? else {
        if invocation::credential("registry").is_none() {
            return Err(login::not_logged_in());
        }
        return Err(Error::unsupported(format!(
            "the API that makes repositories for {} is not known",
            invocation::registry()
        )));
    };
    let looking = format!("look for the repository `{parent}`");
    let answer = api.get(&place.resource(), &[])?;
    match answer.status() {
        200 => return usable(name, &place, &answer.json()?),
        404 => {}
        _ => return Err(api::error(&answer, &looking, &place)),
    }
    if !list::flag(options, "create-parent") {
        return Err(Error::not_found(format!(
            "project {} has no repository `{}` in {}; make it with `idp push --create parent`, or with `gcloud artifacts repositories \
             create {} --repository-format=docker --location={} --project={}`",
            place.project, place.repository, place.location, place.repository, place.location, place.project
        ))
        .code("repository-missing")
        .extra("missing", "repository")
        .extra("name", parent));
    }
    if list::get(options, "visibility") == Some("public") {
        log::warn(&format!(
            "repositories are private at first; to make `{parent}` public: `gcloud artifacts repositories add-iam-policy-binding {} \
             --location={} --project={} --member=allUsers --role=roles/artifactregistry.reader`",
            place.repository, place.location, place.project
        ));
    }
    let mut made = repository(name, "created");
    made.extra.extend(pairs([
        ("created", "repository"),
        ("created-name", parent.as_str()),
        ("visibility", "private"),
    ]));
    if invocation::dry_run() {
        return Ok(made);
    }
    let doing = format!("create the repository `{parent}`");
    let answer = api.create(&place, list::get(options, "description").unwrap_or_default())?;
    match answer.status() {
        200..=299 => {}
        // Somebody was faster.
        409 => return Ok(repository(name, "implicit")),
        _ => return Err(api::error(&answer, &doing, &place)),
    }
    let operation = api.follow(answer.json::<Operation>()?)?;
    if let Some(error) = &operation.error {
        return Err(api::failed(error, &doing, &place));
    }
    if !operation.done {
        return Err(Error::unavailable(format!(
            "the repository `{parent}` is still being made; push again in a moment"
        ))
        .code("still-being-made")
        .retry_after_s(5));
    }
    Ok(made)
}

/// Whether images can be pushed there.
fn usable(name: &str, place: &Place, found: &api::Repository) -> Result<Repository> {
    let parent = place.prefix();
    if !found.format.is_empty() && found.format != "DOCKER" {
        return Err(Error::conflict(format!(
            "the repository `{parent}` is for {} and takes no images; choose another name",
            found.format.to_ascii_lowercase()
        ))
        .code("wrong-format"));
    }
    if matches!(found.mode.as_str(), "REMOTE_REPOSITORY" | "VIRTUAL_REPOSITORY") {
        let kind = if found.mode == "REMOTE_REPOSITORY" {
            "a cache of another registry"
        } else {
            "a view of other repositories"
        };
        return Err(Error::conflict(format!(
            "the repository `{parent}` is {kind}: it can be pulled from and not pushed to"
        ))
        .code("read-only"));
    }
    Ok(repository(name, "implicit"))
}

/// What is known of an image and of the repository that it is in.
pub(crate) fn info(name: &str) -> Result<Repository> {
    let place = place::image(name)?;
    let mut found = repository(name, "exists");
    let package = match Api::new(&place)? {
        None => None,
        Some(api) => {
            let answer = api.get(&place.package(), &[])?;
            if answer.status() == 404 {
                return Err(Error::not_found(format!("nothing was pushed to {name} yet"))
                    .code("NAME_UNKNOWN")
                    .status(404));
            }
            let package = if answer.is_success() { answer.json::<Package>().ok() } else { None };
            if package.is_some() {
                let answer = api.get(&place.resource(), &[])?;
                let holder: api::Repository =
                    if answer.is_success() { answer.json()? } else { Default::default() };
                found.extra.push(("description".to_owned(), holder.description));
                if holder.docker_config.immutable_tags {
                    found.extra.push(("immutable".to_owned(), "true".to_owned()));
                }
            }
            package
        }
    };
    match package {
        Some(package) => found.extra.extend(pairs([
            ("created-at", package.create_time),
            ("updated-at", package.update_time),
            (
                "url",
                format!(
                    "https://console.cloud.google.com/artifacts/docker/{}/{}/{}/{}",
                    place.project,
                    place.location,
                    place.repository,
                    link::percent(&place.image)
                ),
            ),
        ])),
        // Without the API: whether it can be listed tells whether it is there.
        None => {
            extras::page(name, 1, None)?;
        }
    }
    if let Some(tags) = artifacts::count(&place) {
        found.extra.push(("tags".to_owned(), tags.to_string()));
    }
    found.extra.retain(|(_, value)| !value.is_empty());
    Ok(found)
}

/// The images of a project or of one repository in it: there is no list of everything.
pub(crate) fn list_page(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    let registry = invocation::registry();
    let namespace =
        list::get(filter, "namespace").map(str::to_owned).or_else(|| invocation::setting("project"));
    let namespace =
        namespace.map(|it| it.trim_matches('/').replacen(':', "/", 1)).filter(|it| !it.is_empty());
    let Some(place) = namespace.as_deref().and_then(Place::of) else {
        return Err(Error::invalid(format!(
            "{registry} lists by project: `idp list {registry} --namespace PROJECT`, or PROJECT/REPOSITORY; the setting `project` of the \
             registry (CLOUDSDK_CORE_PROJECT) is taken when none is given"
        ))
        .code("project-missing"));
    };
    let wanted = |name: &str| {
        let below =
            place.image.is_empty() || name.starts_with(&format!("{}/{}/", place.prefix(), place.image));
        below && list::get(filter, "query").is_none_or(|query| name.contains(query))
    };
    let listing = match Api::new(&place)? {
        Some(api) => by_api(&api, &place, limit, cursor)?,
        None => None,
    };
    let (items, next) = match listing {
        Some(found) => found,
        None if place::is_gcr() => (children(&place)?, None),
        None if invocation::credential("registry").is_none() => return Err(login::not_logged_in()),
        None => {
            return Err(Error::unsupported(format!("{registry} cannot be listed: its API is not known"))
                .code("no-api"));
        }
    };
    let items = items.into_iter().filter(|item| wanted(&item.name)).collect();
    Ok(RepositoryPage { items, next, extra: Vec::new() })
}

/// A page of images. Over a whole project the cursor says which page of repositories, which of them, and which page of its images:
/// `REPOSITORIES&NUMBER&IMAGES`. None when gcr.io has no repository at the API, or hides it.
#[allow(clippy::type_complexity, reason = "a page in two parts, used once")]
fn by_api(
    api: &Api,
    place: &Place,
    limit: u32,
    cursor: Option<&str>,
) -> Result<Option<(Vec<Repository>, Option<String>)>> {
    let parts: Vec<&str> = cursor.unwrap_or("&0&").split('&').collect();
    let [pages, number, images] = parts.as_slice() else {
        return Err(Error::invalid("that is not a cursor of this provider").code("cursor"));
    };
    let number: usize =
        number.parse().map_err(|_| Error::invalid("that is not a cursor of this provider").code("cursor"))?;
    if !place.repository.is_empty() {
        let Some((items, token)) = packages(api, place, limit, images)? else { return Ok(None) };
        return Ok(Some((items, (!token.is_empty()).then(|| format!("&0&{token}")))));
    }
    let doing = format!("list the repositories of project {}", place.project);
    let answer =
        api.get(&format!("{}/repositories", place.parent()), &[("pageSize", "100"), ("pageToken", pages)])?;
    if !answer.is_success() {
        return Err(api::error(&answer, &doing, place));
    }
    let found: Repositories = answer.json()?;
    let holders: Vec<&api::Repository> =
        found.repositories.iter().filter(|it| it.format == "DOCKER").collect();
    let items = match holders.get(number) {
        None => Some((Vec::new(), String::new())),
        Some(holder) => {
            let name = holder.name.rsplit('/').next().unwrap_or_default();
            packages(api, &Place { repository: name.to_owned(), ..place.clone() }, limit, images)?
        }
    };
    let (items, token) = items.unwrap_or_default();
    let next = if !token.is_empty() {
        Some(format!("{pages}&{number}&{token}"))
    } else if number + 1 < holders.len() {
        Some(format!("{pages}&{}&", number + 1))
    } else {
        (!found.next_page_token.is_empty()).then(|| format!("{}&0&", found.next_page_token))
    };
    Ok(Some((items, next)))
}

/// The images of one repository and the token of the next page. None where gcr.io is not asked through the API.
fn packages(api: &Api, place: &Place, limit: u32, token: &str) -> Result<Option<(Vec<Repository>, String)>> {
    let size = limit.clamp(1, 1000).to_string();
    let answer =
        api.get(&format!("{}/packages", place.resource()), &[("pageSize", &size), ("pageToken", token)])?;
    if !answer.is_success() {
        if place::is_gcr() && matches!(answer.status(), 403 | 404) {
            return Ok(None);
        }
        return Err(api::error(&answer, &format!("list the images of {}", place.prefix()), place));
    }
    let found: Packages = answer.json()?;
    let item = |package: Package| {
        let image = unescape(package.name.rsplit('/').next().unwrap_or_default());
        let mut extra = pairs([("created-at", package.create_time), ("updated-at", package.update_time)]);
        extra.retain(|(_, value)| !value.is_empty());
        Repository { name: format!("{}/{image}", place.prefix()), extra }
    };
    Ok(Some((found.packages.into_iter().map(item).collect(), found.next_page_token)))
}

/// The API writes the `/` of an image as `%2F`.
fn unescape(name: &str) -> String {
    name.replace("%2F", "/").replace("%2f", "/")
}

/// What gcr.io says lies below a project, one level deep.
fn children(place: &Place) -> Result<Vec<Repository>> {
    let above = match place.image.as_str() {
        "" => place.prefix(),
        image => format!("{}/{image}", place.prefix()),
    };
    let (extras, _) = extras::page(&above, 10_000, None)?;
    let item = |child: String| Repository { name: format!("{above}/{child}"), extra: Vec::new() };
    Ok(extras.child.unwrap_or_default().into_iter().map(item).collect())
}
