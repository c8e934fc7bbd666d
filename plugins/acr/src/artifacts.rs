//! Tags with times and sizes, and removal: a tag is taken off, a digest goes with its tags, a repository in one piece.

use std::collections::HashMap;

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, pairs as list};
use serde::Deserialize;

use crate::api::{self, Allowed, Manifest, Manifests, Tags};
use crate::login::client;

/// A page of tags, the newest first. Who may pull but not see the API gets the plain list.
pub(crate) fn list_page(
    repository: &str,
    filter: &Pairs,
    limit: u32,
    cursor: Option<&str>,
) -> Result<TagPage> {
    if cursor.is_some_and(|cursor| cursor.starts_with("/v2/")) {
        return distribution::tags_page(&client(), repository, filter, limit, cursor);
    }
    let first = format!("/acr/v1/{repository}/_tags?n={}&orderby=timedesc", limit.clamp(1, 100));
    let current = cursor.unwrap_or(&first);
    if !current.starts_with("/acr/v1/") {
        return Err(Error::invalid(format!("`{current}` is not a cursor of this provider")).code("cursor"));
    }
    let answer = match api::get(repository, current) {
        Ok(answer) if matches!(answer.status(), 401 | 403) && cursor.is_none() => {
            return distribution::tags_page(&client(), repository, filter, limit, None);
        }
        answer => answer?,
    };
    if !answer.is_success() {
        return Err(api::error(&answer, &format!("list the tags of {repository}"), repository));
    }
    let tags = answer.json::<Tags>()?.tags;
    let next = if tags.is_empty() { None } else { api::next(&answer, current) };
    // Sizes are the manifests'; one more request finds those of the first page, as both lists start with the newest.
    let manifests =
        if cursor.is_none() && !tags.is_empty() { newest(repository, limit) } else { HashMap::new() };
    let wanted = |tag: &api::Tag| list::get(filter, "query").is_none_or(|query| tag.name.contains(query));
    let items = tags.into_iter().filter(wanted).map(|tag| item(tag, &manifests)).collect();
    Ok(TagPage { items, next, extra: Vec::new() })
}

fn newest(repository: &str, limit: u32) -> HashMap<String, Manifest> {
    let path = format!("/acr/v1/{repository}/_manifests?n={}&orderby=timedesc", limit.clamp(1, 100));
    // A list without sizes is a list.
    let found = api::get(repository, &path).and_then(|answer| answer.json::<Manifests>());
    let manifests = found.ok().and_then(|found| found.manifests).unwrap_or_default();
    manifests.into_iter().map(|manifest| (manifest.digest.clone(), manifest)).collect()
}

fn item(tag: api::Tag, manifests: &HashMap<String, Manifest>) -> Tag {
    let updated = if tag.last_update_time.is_empty() { tag.created_time } else { tag.last_update_time };
    let mut extra = pairs([("source", "api".to_owned()), ("pushed-at", updated)]);
    if !tag.changeable_attributes.write_enabled {
        extra.push(("immutable".to_owned(), "true".to_owned()));
    }
    if let Some(manifest) = tag.digest.as_ref().and_then(|digest| manifests.get(digest)) {
        extra.extend(manifest.image_size.map(|size| ("size".to_owned(), size.to_string())));
        extra.extend(manifest.media_type.iter().map(|kind| ("media-type".to_owned(), kind.clone())));
        extra
            .extend(manifest.config_media_type.iter().map(|kind| ("artifact-type".to_owned(), kind.clone())));
    }
    extra.retain(|(_, value)| !value.is_empty());
    Tag { name: tag.name, digest: tag.digest, extra }
}

/// Removes without taking along what was not named.
pub(crate) fn remove(repository: &str, target: &Target, options: &Pairs) -> Result<Removal> {
    match target {
        Target::Tag(tag) => untag(repository, tag),
        Target::Digest(digest) => remove_digest(repository, digest, options),
        Target::Everything => everything(repository),
    }
}

fn untag(repository: &str, tag: &str) -> Result<Removal> {
    let path = format!("/acr/v1/{repository}/_tags/{tag}");
    let doing = format!("delete {repository}:{tag}");
    if invocation::dry_run() {
        #[derive(Debug, Deserialize)]
        struct One {
            tag: api::Tag,
        }
        let answer = api::get(repository, &path)?;
        if !answer.is_success() {
            return Err(api::error(&answer, &doing, repository));
        }
        check(answer.json::<One>()?.tag.changeable_attributes, &doing, &format!("{repository}:{tag}"))?;
    } else {
        let answer = api::delete(repository, &path)?;
        if !answer.is_success() {
            return Err(api::error(&answer, &doing, &format!("{repository}:{tag}")));
        }
    }
    Ok(removal(vec![tag.to_owned()], Vec::new()))
}

fn check(allowed: Allowed, doing: &str, image: &str) -> Result<()> {
    if allowed.delete_enabled { Ok(()) } else { Err(api::locked(doing, image)) }
}

/// The tags of a digest are known by one request.
fn remove_digest(repository: &str, digest: &str, options: &Pairs) -> Result<Removal> {
    #[derive(Debug, Deserialize)]
    struct One {
        manifest: Manifest,
    }
    let image = format!("{repository}@{digest}");
    let doing = format!("delete {image}");
    let answer = api::get(repository, &format!("/acr/v1/{repository}/_manifests/{digest}"))?;
    if !answer.is_success() {
        return Err(api::error(&answer, &doing, &image));
    }
    let manifest = answer.json::<One>()?.manifest;
    distribution::spare_siblings(repository, digest, &manifest.tags, options)?;
    check(manifest.changeable_attributes, &doing, &image)?;
    if !invocation::dry_run() {
        let answer = api::delete(repository, &format!("/v2/{repository}/manifests/{digest}"))?;
        if !answer.is_success() {
            return Err(api::error(&answer, &doing, &image));
        }
    }
    Ok(removal(vec![digest.to_owned()], manifest.tags))
}

/// The whole repository, which the registry finishes by itself.
fn everything(repository: &str) -> Result<Removal> {
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Deleted {
        tags_deleted: Option<Vec<String>>,
    }
    let path = format!("/acr/v1/{repository}");
    let doing = format!("delete {repository}");
    if invocation::dry_run() {
        let answer = api::get(repository, &path)?;
        if !answer.is_success() {
            return Err(api::error(&answer, &doing, repository));
        }
        check(answer.json::<api::Repository>()?.changeable_attributes, &doing, repository)?;
        let (mut names, mut cursor) = (Vec::new(), None);
        // So many pages of tags tell enough.
        for _ in 0..10 {
            let page = list_page(repository, &Vec::new(), 100, cursor.as_deref())?;
            names.extend(page.items.into_iter().map(|tag| tag.name));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        return Ok(removal(names, Vec::new()));
    }
    let answer = api::delete(repository, &path)?;
    if !answer.is_success() {
        return Err(api::error(&answer, &doing, repository));
    }
    let names = answer.json::<Deleted>().unwrap_or_default().tags_deleted.unwrap_or_default();
    Ok(Removal { asynchronous: answer.status() == 202, ..removal(names, Vec::new()) })
}

fn removal(removed: Vec<String>, also_removed: Vec<String>) -> Removal {
    Removal { removed, also_removed, asynchronous: false, extra: Vec::new() }
}
