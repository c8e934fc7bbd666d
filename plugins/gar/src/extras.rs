//! `tags/list` as Google answers it: besides the tags every manifest with its size, times and tags, and the images below. gcr.io always
//! says so, Artifact Registry in part.

use std::collections::BTreeMap;

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, refusal, time};
use serde::Deserialize;

use crate::login::client;

/// The answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Extras {
    pub(crate) tags: Option<Vec<String>>,
    /// By digest.
    pub(crate) manifest: Option<BTreeMap<String, Entry>>,
    /// Images one level below.
    pub(crate) child: Option<Vec<String>>,
}

/// A manifest; numbers are strings.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Entry {
    pub(crate) image_size_bytes: String,
    pub(crate) media_type: String,
    pub(crate) tag: Vec<String>,
    pub(crate) time_uploaded_ms: String,
}

impl Extras {
    /// The tags of a digest; none when the registry did not say.
    pub(crate) fn tags_of(&self, digest: &str) -> Option<Vec<String>> {
        let manifests = self.manifest.as_ref().filter(|manifests| !manifests.is_empty())?;
        Some(manifests.get(digest).map(|entry| entry.tag.clone()).unwrap_or_default())
    }

    /// A tag with what is known of its manifest.
    pub(crate) fn item(&self, name: String) -> Tag {
        let mut extra = pairs([("source", "registry")]);
        let manifests = self.manifest.iter().flatten();
        let Some((digest, entry)) = manifests.into_iter().find(|(_, entry)| entry.tag.contains(&name)) else {
            return Tag { name, digest: None, extra };
        };
        let uploaded = entry.time_uploaded_ms.parse::<i64>().ok().filter(|ms| *ms > 0);
        let uploaded = uploaded.map(|ms| time::to_rfc3339(ms / 1000)).unwrap_or_default();
        extra.extend(pairs([
            ("size", entry.image_size_bytes.clone()),
            ("media-type", entry.media_type.clone()),
            ("pushed-at", uploaded),
        ]));
        extra.retain(|(_, value)| !value.is_empty());
        Tag { name, digest: Some(digest.clone()), extra }
    }
}

/// A page, and the path of the next.
pub(crate) fn page(name: &str, limit: u32, cursor: Option<&str>) -> Result<(Extras, Option<String>)> {
    let first = format!("/v2/{name}/tags/list?n={}", limit.max(1));
    let current = cursor.unwrap_or(&first);
    let url = Client::url(current);
    let answer = client().send(&[Scope::repository(name, ["pull"])], || Request::get(&*url))?;
    if !answer.is_success() {
        return Err(refusal::error(&answer, &format!("list the tags of {name}")));
    }
    let headers = answer.headers("link");
    let next = link::next(headers.iter().map(String::as_str)).map(|target| link::resolve(&url, &target));
    let next = next.map(|target| target[link::origin(&target).len()..].to_owned());
    let next = next.filter(|next| next != current && next.starts_with("/v2/"));
    let extras: Extras = answer.json()?;
    let empty = extras.tags.as_ref().is_none_or(Vec::is_empty);
    Ok((extras, next.filter(|_| !empty)))
}

/// Everything of one image; the registry gives ten thousand at a time.
pub(crate) fn all(name: &str) -> Result<Extras> {
    let (extras, next) = page(name, 10_000, None)?;
    match next {
        None => Ok(extras),
        Some(_) => {
            Err(Error::other(format!("{name} has too many tags to go by one page of them"))
                .code("too-many-tags"))
        }
    }
}
