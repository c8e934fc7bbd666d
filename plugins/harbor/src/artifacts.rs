//! Tags with what Harbor knows of them: digest, size, when they were pushed and last pulled, whether they may move.

use idp_provider_sdk::pairs as list;
use idp_provider_sdk::prelude::*;
use serde::Deserialize;

use crate::{api, naming};

/// What has a digest, and its tags.
#[derive(Debug, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) digest: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    manifest_media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    /// Null where there is none.
    #[serde(default)]
    pub(crate) tags: Option<Vec<Named>>,
}

/// A tag of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    #[serde(default)]
    push_time: Option<String>,
    #[serde(default)]
    pull_time: Option<String>,
    #[serde(default)]
    pub(crate) immutable: bool,
}

impl Artifact {
    /// Its tags, by name.
    pub(crate) fn tag_names(&self) -> Vec<String> {
        self.tags.iter().flatten().map(|tag| tag.name.clone()).collect()
    }

    fn into_tags(self) -> impl Iterator<Item = Tag> {
        let about = [
            ("size", self.size.map(|size| size.to_string())),
            ("media-type", self.manifest_media_type),
            ("artifact-type", self.artifact_type),
        ];
        let about: Pairs =
            about.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        let digest = self.digest;
        self.tags.into_iter().flatten().map(move |tag| {
            let mut extra = about.clone();
            extra.retain(|(_, value)| !value.is_empty());
            extra.extend(api::time(tag.push_time).map(|time| ("pushed-at".to_owned(), time)));
            extra.extend(api::time(tag.pull_time).map(|time| ("pulled-at".to_owned(), time)));
            extra.extend(pairs([
                ("immutable", if tag.immutable { "true" } else { "false" }),
                ("source", "api"),
            ]));
            Tag { name: tag.name, digest: Some(digest.clone()), extra }
        })
    }
}

/// The questions that have tags and their immutability answered.
pub(crate) fn with_tags(request: Request<'_>) -> Request<'_> {
    request.query("with_tag", "true").query("with_immutable_status", "true")
}

/// One page of tags: those of one page of artifacts that have any.
pub(crate) fn page(name: &str, filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<TagPage> {
    let (project, rest) = naming::parts(name)?;
    let number = api::page_number(cursor)?;
    let request = Request::get(api::url(&format!("{}/artifacts", api::repository(project, rest))))
        .query("page", &number.to_string())
        .query("page_size", &limit.clamp(1, 100).to_string());
    let query = list::get(filter, "query");
    let request = match query {
        Some(text) => api::fuzzy(with_tags(request), "tags", Some(text)),
        None => with_tags(request).query("q", "tags=*"),
    };
    let answer = api::ask(request)?;
    match answer.status() {
        200..=299 => {}
        // A robot account that may pull and not list; tags/list needs no more than pulling.
        403 if number == 1 => {
            return Err(
                Error::unsupported("the account may not list artifacts with the API").code("may-not-list")
            );
        }
        404 => {
            let error = idp_provider_sdk::refusal::error(&answer, &format!("list the tags of {name}"));
            let missing = if error.message.contains("project ") { "project" } else { "repository" };
            return Err(error.extra("missing", missing).extra("name", name));
        }
        _ => return Err(api::refused(&answer, &format!("list the tags of {name}"), "List Artifact")),
    }
    let next = api::has_next(&answer).then(|| (number + 1).to_string());
    let tags = answer.json::<Vec<Artifact>>()?.into_iter().flat_map(Artifact::into_tags);
    let items = tags.filter(|tag| query.is_none_or(|query| tag.name.contains(query))).collect();
    Ok(TagPage { items, next, extra: Vec::new() })
}
