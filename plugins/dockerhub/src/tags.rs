//! Tags by the Hub's API, which knows digests, sizes and times, and by `tags/list` where it does not answer; and removal, which is
//! divided between the two: tags and repositories by the API, untagged digests by the registry.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, link, pairs as list, refusal};
use serde::Deserialize;

use crate::hub::{self, At, Page};
use crate::login::{self, client};
use crate::naming;
use crate::repositories::{self, two_parts, who};

/// Pages of tags that finding the siblings of a digest may cost; the host allows 64 requests a call.
const SIBLING_PAGES: u32 = 40;

/// As the API has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Known {
    pub(crate) name: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    full_size: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    last_updated: Option<String>,
    #[serde(default)]
    tag_last_pushed: Option<String>,
    #[serde(default)]
    tag_last_pulled: Option<String>,
    #[serde(default)]
    images: Option<Vec<Image>>,
}

#[derive(Debug, Deserialize)]
struct Image {
    #[serde(default)]
    digest: Option<String>,
}

impl Known {
    /// Its manifest. Old entries have it with their only image.
    fn digest(&self) -> Option<String> {
        let only = match self.images.as_deref() {
            Some([image]) => image.digest.clone(),
            _ => None,
        };
        self.digest.clone().or(only).filter(|digest| digest.contains(':'))
    }

    /// Whether the tag is of this digest, or of an index that has it.
    fn needs(&self, digest: &str) -> bool {
        let images = self.images.iter().flatten();
        self.digest.as_deref() == Some(digest)
            || images.into_iter().any(|image| image.digest.as_deref() == Some(digest))
    }

    fn tag(self) -> Tag {
        let digest = self.digest();
        let extra = [
            ("size", self.full_size.map(|size| size.to_string())),
            ("media-type", self.media_type),
            ("pushed-at", self.tag_last_pushed.or(self.last_updated)),
            ("pulled-at", self.tag_last_pulled),
            ("source", Some("api".to_owned())),
        ];
        let extra =
            extra.into_iter().filter_map(|(key, value)| Some((key, value.filter(|text| !text.is_empty())?)));
        Tag { digest, extra: pairs(extra), name: self.name }
    }
}

/// One page of the API; the answer itself where it refuses.
pub(crate) fn page_of(
    namespace: &str,
    repository: &str,
    at: At,
    query: Option<&str>,
) -> Result<Result<Page<Known>, Response>> {
    let url = format!("{}/tags", hub::repository_url(namespace, repository));
    let answer = hub::send(|| {
        let request =
            Request::get(&*url).query("page", &at.page.to_string()).query("page_size", &at.size.to_string());
        match query {
            Some(query) => request.query("name", query),
            None => request,
        }
    })?;
    match answer.status() {
        404 if at.page > 1 => Ok(Ok(Page::end())),
        200..=299 => answer.json().map(Ok),
        _ => Ok(Err(answer)),
    }
}

/// Tags, newest knowledge first: the API's; the registry's own list where the API does not know the repository or does not know us
/// (it has other credentials rules and other limits).
pub(crate) fn list_page(name: &str, filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<TagPage> {
    let by_registry = |cursor| distribution::tags_page(&client(), name, filter, limit.min(1000), cursor);
    if cursor.is_some_and(|cursor| cursor.starts_with("/v2/")) {
        return by_registry(cursor);
    }
    let Some((namespace, repository)) = naming::split(name) else { return by_registry(None) };
    let at = At::new(cursor, limit)?;
    let query = list::get(filter, "query").filter(|query| !query.is_empty());
    let page = match page_of(namespace, repository, at, query) {
        Ok(Ok(page)) => page,
        Ok(Err(answer)) if cursor.is_some() => {
            return Err(hub::error(&answer, &format!("list the tags of {}", naming::shown(name))));
        }
        Ok(Err(answer)) => {
            log::debug(&format!(
                "the API answers {} for the tags of {name}: asking the registry",
                answer.status()
            ));
            return by_registry(None);
        }
        Err(error) if cursor.is_none() => {
            log::debug(&format!("no tags of {name} from the API ({}): asking the registry", error.message));
            return by_registry(None);
        }
        Err(error) => return Err(error),
    };
    let total = page.count.map(|count| ("total".to_owned(), count.to_string()));
    let next = page.cursor(at);
    // A server that does not know the parameter answers with all of them.
    let wanted = |tag: &Known| query.is_none_or(|query| tag.name.contains(query));
    let items = page.results.into_iter().filter(wanted).map(Known::tag).collect();
    Ok(TagPage { items, next, extra: total.into_iter().collect() })
}

/// A tag or a repository by the API, a digest by the registry.
pub(crate) fn remove(name: &str, target: Target, options: &Pairs) -> Result<Removal> {
    let shown = naming::shown(name);
    if invocation::credential("registry").is_none() {
        return Err(login::not_logged_in(&format!("delete from {shown}")));
    }
    match target {
        Target::Tag(tag) => {
            remove_tag(name, &tag)?;
            Ok(removal(vec![tag]))
        }
        Target::Digest(digest) => remove_digest(name, &digest, options),
        Target::Everything => remove_repository(name),
    }
}

fn removal(removed: Vec<String>) -> Removal {
    Removal { removed, also_removed: Vec::new(), asynchronous: false, extra: Vec::new() }
}

fn remove_tag(name: &str, tag: &str) -> Result<()> {
    let (namespace, repository) = two_parts(name)?;
    let what = format!("{}:{tag}", naming::shown(name));
    let answer = if invocation::dry_run() {
        let url = format!("{}/tags/{}", hub::repository_url(namespace, repository), link::percent(tag));
        hub::send(|| Request::get(&*url))?
    } else {
        let url = hub::old_url(namespace, repository, &format!("tags/{}/", link::percent(tag)));
        hub::send(|| Request::delete(&*url))?
    };
    match answer.status() {
        200..=299 => Ok(()),
        _ => Err(refused(&answer, namespace, &what)),
    }
}

/// A refusal of a deletion by the API.
fn refused(answer: &Response, namespace: &str, what: &str) -> Error {
    let status = answer.status();
    let because = match hub::words(answer) {
        said if said.is_empty() => String::new(),
        said => format!(" (it says: {said})"),
    };
    match status {
        401 | 403 => Error::denied(format!(
            "{} may not delete {what} at Docker Hub{because}: it takes an access token with Read, Write & Delete ({}), of an account \
             that owns `{namespace}` or has admin rights there",
            who(),
            login::TOKENS_PAGE
        ))
        .code("may-not-delete")
        .status(status),
        404 => Error::not_found(format!("there is no {what} at Docker Hub, or these credentials may not see it"))
            .code("MANIFEST_UNKNOWN")
            .status(404),
        _ => hub::error(answer, &format!("delete {what}")),
    }
}

/// The registry takes digests that no tag and no index needs, and refuses others. So tags of it are looked for first, and deleted
/// first where that is wanted.
fn remove_digest(name: &str, digest: &str, options: &Pairs) -> Result<Removal> {
    let (namespace, repository) = two_parts(name)?;
    let (tags, complete) = tags_of(namespace, repository, digest)?;
    let shown = naming::shown(name);
    distribution::spare_siblings(&shown, digest, &tags, options)?;
    if !complete && !list::flag(options, "allow-siblings") {
        return Err(Error::other(format!(
            "{shown} has too many tags to find out which of them need {digest}; delete by tag, or go on with --allow-siblings"
        ))
        .code("too-many-tags"));
    }
    let mut removed = removal(vec![digest.to_owned()]);
    removed.also_removed.clone_from(&tags);
    if invocation::dry_run() {
        return Ok(removed);
    }
    for tag in &tags {
        remove_tag(name, tag)?;
    }
    let url = Client::url(&format!("/v2/{name}/manifests/{digest}"));
    let answer = client().send(&[login::deletion(name)], || Request::delete(&*url))?;
    let status = answer.status();
    match status {
        200..=299 => Ok(removed),
        401 => Err(refused(&answer, namespace, &format!("{shown}@{digest}"))),
        403 => Err(Error::conflict(format!(
            "Docker Hub does not delete {shown}@{digest}: a tag or an index still needs it; delete these first"
        ))
        .code("still-referenced")
        .status(403)),
        405 => Err(Error::invalid(format!(
            "Docker Hub does not let the registry delete {shown}@{digest} (405): delete its tags, and the rest at \
             https://hub.docker.com/repository/docker/{name}/image-management"
        ))
        .code("digest-deletion-off")
        .status(405)),
        _ => Err(refusal::error(&answer, &format!("delete {shown}@{digest}"))),
    }
}

/// The tags that need a digest, and whether all of them were looked at.
fn tags_of(namespace: &str, repository: &str, digest: &str) -> Result<(Vec<String>, bool)> {
    let mut at = At { page: 1, size: hub::LARGEST_PAGE };
    let mut found = Vec::new();
    loop {
        let page = match page_of(namespace, repository, at, None)? {
            Ok(page) => page,
            Err(answer) => {
                let name = naming::shown(&format!("{namespace}/{repository}"));
                return Err(hub::error(&answer, &format!("look for the tags of {digest} in {name}")));
            }
        };
        let more = page.cursor(at).is_some();
        found.extend(page.results.into_iter().filter(|tag| tag.needs(digest)).map(|tag| tag.name));
        if !more {
            return Ok((found, true));
        }
        if at.page >= SIBLING_PAGES {
            return Ok((found, false));
        }
        at.page += 1;
    }
}

fn remove_repository(name: &str) -> Result<Removal> {
    let (namespace, repository) = two_parts(name)?;
    let mut removed = removal(vec![name.to_owned()]);
    if invocation::dry_run() {
        repositories::info(name)?;
        return Ok(removed);
    }
    let url = hub::old_url(namespace, repository, "");
    let answer = hub::send(|| Request::delete(&*url))?;
    match answer.status() {
        202 => {
            removed.asynchronous = true;
            Ok(removed)
        }
        200..=299 => Ok(removed),
        _ => Err(refused(&answer, namespace, &naming::shown(name))),
    }
}
