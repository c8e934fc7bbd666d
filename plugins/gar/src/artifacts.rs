//! Tags with sizes and times: from the API, which lists the images of a whole repository, and where it cannot be asked from the registry.

use idp_provider_sdk::pairs as list;
use idp_provider_sdk::prelude::*;
use serde::Deserialize;

use crate::api::{self, Api};
use crate::extras;
use crate::place::{self, Place};

/// Pages of the API that one question may pass over before one of them has this image.
const PASSED: usize = 20;
/// Before a cursor of the API.
const OF_API: &str = "api:";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Images {
    docker_images: Vec<Image>,
    next_page_token: String,
}

/// An image by digest, with every tag of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    uri: String,
    tags: Vec<String>,
    image_size_bytes: String,
    upload_time: String,
    media_type: String,
    artifact_type: String,
}

/// A page of tags.
pub(crate) fn list_page(name: &str, filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<TagPage> {
    let place = place::image(name)?;
    let wanted = |tag: &Tag| list::get(filter, "query").is_none_or(|query| tag.name.contains(query));
    match cursor {
        Some(cursor) if cursor.starts_with(OF_API) => {}
        Some(cursor) if cursor.starts_with("/v2/") => return plain(name, limit, Some(cursor), wanted),
        Some(cursor) => {
            return Err(Error::invalid(format!("`{cursor}` is not a cursor of this provider")).code("cursor"));
        }
        // The names of gcr.io tell everything in one answer of the registry.
        None if place::is_gcr() => return plain(name, limit, None, wanted),
        None => {}
    }
    let Some(api) = Api::new(&place)? else { return plain(name, limit, None, wanted) };
    let mut token = cursor.map(|cursor| cursor[OF_API.len()..].to_owned()).unwrap_or_default();
    let size = limit.clamp(1, 1000).to_string();
    let ours = format!("{}/{name}@", invocation::registry());
    for passed in 0..PASSED {
        let path = format!("{}/dockerImages", place.resource());
        let answer = api.get(&path, &[("pageSize", &size), ("pageToken", &token)])?;
        // Who may pull is not always let into the API; it may be switched off besides.
        if !answer.is_success() && cursor.is_none() && passed == 0 {
            return plain(name, limit, None, wanted);
        }
        if !answer.is_success() {
            return Err(api::error(&answer, &format!("list the tags of {name}"), &place));
        }
        let images: Images = answer.json()?;
        let items: Vec<Tag> =
            images.docker_images.into_iter().flat_map(|image| items(image, &ours)).collect();
        let last = images.next_page_token.is_empty() || images.next_page_token == token;
        token = images.next_page_token;
        if last || !items.is_empty() || passed + 1 == PASSED {
            let next = (!last).then(|| format!("{OF_API}{token}"));
            return Ok(TagPage {
                items: items.into_iter().filter(wanted).collect(),
                next,
                extra: Vec::new(),
            });
        }
    }
    Ok(TagPage { items: Vec::new(), next: None, extra: Vec::new() })
}

/// The tags of an image, if it is of this name: `HOST/NAME@DIGEST`.
fn items(image: Image, ours: &str) -> Vec<Tag> {
    let Some(digest) = image.uri.strip_prefix(ours).map(str::to_owned) else { return Vec::new() };
    let mut extra = pairs([
        ("source", "api".to_owned()),
        ("size", image.image_size_bytes),
        ("pushed-at", image.upload_time),
        ("media-type", image.media_type),
        ("artifact-type", image.artifact_type),
    ]);
    extra.retain(|(_, value)| !value.is_empty());
    let tag = |name| Tag { name, digest: Some(digest.clone()), extra: extra.clone() };
    image.tags.into_iter().map(tag).collect()
}

fn plain(name: &str, limit: u32, cursor: Option<&str>, wanted: impl Fn(&Tag) -> bool) -> Result<TagPage> {
    let (mut extras, next) = extras::page(name, limit, cursor)?;
    let tags = extras.tags.take().unwrap_or_default();
    let items = tags.into_iter().map(|tag| extras.item(tag)).filter(wanted).collect();
    Ok(TagPage { items, next, extra: Vec::new() })
}

/// How many tags an image has, as far as one answer of the registry tells.
pub(crate) fn count(place: &Place) -> Option<usize> {
    let name = format!("{}/{}", place.prefix(), place.image);
    let (extras, next) = extras::page(&name, 10_000, None).ok()?;
    next.is_none().then(|| extras.tags.map_or(0, |tags| tags.len()))
}
