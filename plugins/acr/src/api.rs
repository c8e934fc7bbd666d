//! The registry's own API, `/acr/v1/`: what it knows of repositories, tags and manifests, and its refusals.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, refusal};
use serde::Deserialize;

use crate::login::client;
use crate::naming;

/// What may be done to a repository, a tag or a manifest; everything that is not said is allowed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Allowed {
    pub(crate) delete_enabled: bool,
    pub(crate) write_enabled: bool,
}

impl Default for Allowed {
    fn default() -> Self {
        Self { delete_enabled: true, write_enabled: true }
    }
}

/// `/acr/v1/REPOSITORY`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Repository {
    #[serde(default)]
    pub(crate) created_time: String,
    #[serde(default)]
    pub(crate) last_update_time: String,
    pub(crate) manifest_count: Option<u64>,
    pub(crate) tag_count: Option<u64>,
    #[serde(default)]
    pub(crate) changeable_attributes: Allowed,
}

/// An entry of `/acr/v1/REPOSITORY/_tags`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) digest: Option<String>,
    #[serde(default)]
    pub(crate) created_time: String,
    #[serde(default)]
    pub(crate) last_update_time: String,
    #[serde(default)]
    pub(crate) changeable_attributes: Allowed,
}

/// An entry of `/acr/v1/REPOSITORY/_manifests`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default)]
    pub(crate) digest: String,
    pub(crate) image_size: Option<u64>,
    pub(crate) media_type: Option<String>,
    pub(crate) config_media_type: Option<String>,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) changeable_attributes: Allowed,
}

/// `{"tags":[…]}`
#[derive(Debug, Deserialize)]
pub(crate) struct Tags {
    #[serde(default)]
    pub(crate) tags: Vec<Tag>,
}

/// `{"manifests":[…]}`; null for a repository that has none.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifests {
    #[serde(default)]
    pub(crate) manifests: Option<Vec<Manifest>>,
}

/// The right to see what is known of a repository, where nothing is pulled.
pub(crate) fn metadata(repository: &str) -> Scope {
    Scope::repository(repository, ["metadata_read"])
}

/// Reads a path below `/acr/v1/`, answering a challenge.
pub(crate) fn get(repository: &str, path: &str) -> Result<Response> {
    let url = Client::url(path);
    client().send(&[metadata(repository)], || Request::get(&*url))
}

/// Deletes, with the right to.
pub(crate) fn delete(repository: &str, path: &str) -> Result<Response> {
    let url = Client::url(path);
    client().send(&[Scope::repository(repository, ["delete"])], || Request::delete(&*url))
}

/// Where the next page is, as the registry wrote it (`orderby` and all): path and query of its link, unless it leads back here.
pub(crate) fn next(answer: &Response, current: &str) -> Option<String> {
    let headers = answer.headers("link");
    let target = link::next(headers.iter().map(String::as_str))?;
    let target = link::resolve(&Client::url(current), &target);
    let path = target[link::origin(&target).len()..].to_owned();
    (path != current && path.starts_with("/acr/v1/")).then_some(path)
}

/// A refusal, with what the registry means by it. Locked is neither a missing right nor a missing ability.
pub(crate) fn error(answer: &Response, doing: &str, repository: &str) -> Error {
    if matches!(answer.status(), 403 | 405) && is_locked(&answer.text()) {
        return locked(doing, repository).status(answer.status());
    }
    refusal::error(answer, doing)
}

/// Whether a refusal says that something is locked.
pub(crate) fn is_locked(body: &str) -> bool {
    body.contains("operation is disallowed on this registry, repository or image")
}

/// The error for what is locked; `image` is `REPOSITORY`, `REPOSITORY:TAG` or `REPOSITORY@DIGEST`.
pub(crate) fn locked(doing: &str, image: &str) -> Error {
    Error::conflict(format!(
        "could not {doing}: it is locked at {}; {}",
        invocation::registry(),
        unlock(image)
    ))
    .code("locked")
}

/// How something is unlocked.
pub(crate) fn unlock(image: &str) -> String {
    let what = if image.contains([':', '@']) { "--image" } else { "--repository" };
    format!(
        "unlock it with `az acr repository update --name {} {what} {image} --delete-enabled true --write-enabled true`",
        naming::short(&invocation::registry())
    )
}

/// What the registry says of its limits with an answer, which is not much: calls that are left in this second.
pub(crate) fn limits() -> Result<Vec<Pairs>> {
    let url = Client::url("/v2/");
    let answer = client().send(&[], || Request::get(&*url))?;
    if answer.status() == 429 {
        return Err(refusal::error(&answer, "ask for the limits"));
    }
    let Some(remaining) = answer.header("x-ms-ratelimit-remaining-calls-per-second") else {
        return Ok(Vec::new());
    };
    let remaining = remaining.split('.').next().unwrap_or_default().to_owned();
    Ok(vec![pairs([
        ("name", "calls per second".to_owned()),
        ("remaining", remaining),
        ("source", "registry".to_owned()),
    ])])
}
