//! Packages by Gitea's own API: every tag and every untagged manifest is a version of a package, newest first. It is for accounts only,
//! so that whoever is not logged in, or whose token may not read packages, is served by the registry's own lists.

use idp_provider_sdk::pairs as list;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, link, refusal};
use serde::Deserialize;

use crate::login::client;
use crate::naming;
use crate::repositories::{api, ask};

/// The server allows no larger pages unless configured (MAX_RESPONSE_ITEMS).
const PAGE: usize = 50;

/// Pages of versions that are read to group them; more than these are listed by the catalogue.
const PAGES: u32 = 20;

/// Tags of a page that are asked for their files one by one, which takes a request each.
const WITH_FILES: usize = 30;

/// A version of a package.
#[derive(Debug, Deserialize)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) html_url: String,
    #[serde(default)]
    pub(crate) created_at: String,
}

impl Version {
    /// Whether it is a tag, and not a manifest that has none.
    pub(crate) fn is_tag(&self) -> bool {
        !self.version.starts_with("sha256:")
    }
}

#[derive(Debug, Deserialize)]
struct File {
    name: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    sha256: String,
}

/// One page of versions, those whose package's name contains a text, and whether there are more. Nothing where the API is not for us.
pub(crate) fn versions(owner: &str, part: Option<&str>, page: u32) -> Result<Option<(Vec<Version>, bool)>> {
    if invocation::credential("registry").is_none() {
        return Ok(None);
    }
    let mut request =
        Request::get(api(&format!("/packages/{}", link::percent(owner)))).query("type", "container");
    if let Some(part) = part {
        request = request.query("q", part);
    }
    let answer = ask(request.query("page", &page.to_string()).query("limit", &PAGE.to_string()))?;
    match answer.status() {
        200..=299 => {
            let next = link::next(answer.headers("link").iter().map(String::as_str)).is_some();
            Ok(Some((answer.json::<Vec<Version>>()?, next)))
        }
        // A token without read:package, an owner that is hidden, an API under a path that is not set.
        401 | 403 | 404 => Ok(None),
        _ => Err(refusal::error(&answer, &format!("list the packages of {owner}"))),
    }
}

/// All versions, or nothing when they are too many or not for us.
pub(crate) fn all_versions(owner: &str, part: Option<&str>) -> Result<Option<Vec<Version>>> {
    let mut all = Vec::new();
    for page in 1..=PAGES {
        let Some((items, more)) = versions(owner, part, page)? else { return Ok(None) };
        all.extend(items);
        if !more {
            return Ok(Some(all));
        }
    }
    Ok(None)
}

/// The repositories: of an owner grouped from their versions, else from the catalogue. There a full page carries a link even when it is
/// the last; the empty page after it ends the list.
pub(crate) fn list_page(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    let namespace = list::get(filter, "namespace").map(|text| text.trim_matches('/').to_ascii_lowercase());
    let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else {
        return distribution::catalog_page(&client(), filter, limit.min(100), cursor);
    };
    let query = list::get(filter, "query");
    let wanted = |name: &str| query.is_none_or(|query| name.contains(query));
    let owner = namespace.split('/').next().unwrap_or_default();
    if cursor.is_none()
        && let Some(all) = all_versions(owner, None)?
    {
        let mut items = grouped(owner, &all);
        items.retain(|item| item.name.starts_with(&format!("{namespace}/")) && wanted(&item.name));
        return Ok(RepositoryPage { items, next: None, extra: Vec::new() });
    }
    // The catalogue is sorted, so that it is read from the owner's first name to their last.
    let start = format!("/v2/_catalog?n={}&last={}", limit.clamp(1, 100), link::percent(&namespace));
    let within = pairs([("namespace", namespace.as_str())]);
    let mut page = distribution::catalog_page(&client(), &within, limit, Some(cursor.unwrap_or(&start)))?;
    if page.items.is_empty() {
        page.next = None;
    }
    page.items.retain(|item| wanted(&item.name));
    Ok(page)
}

/// The packages of versions, by name; versions come newest first.
fn grouped(owner: &str, versions: &[Version]) -> Vec<Repository> {
    let mut names: Vec<&str> = versions.iter().map(|version| version.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let one = |name: &str| {
        let of: Vec<&Version> = versions.iter().filter(|version| version.name == name).collect();
        about(&format!("{owner}/{name}"), &of)
    };
    names.into_iter().filter_map(one).collect()
}

/// What all versions of a package tell about it: how many tags, the newest push, where to look at it.
pub(crate) fn about(repository: &str, versions: &[&Version]) -> Option<Repository> {
    let newest = versions.iter().max_by(|one, other| one.created_at.cmp(&other.created_at))?;
    let tags = versions.iter().filter(|version| version.is_tag()).count();
    let mut extra = pairs([
        ("state", "exists".to_owned()),
        ("updated-at", newest.created_at.clone()),
        ("url", newest.html_url.clone()),
        ("tags", tags.to_string()),
    ]);
    extra.retain(|(_, value)| !value.is_empty());
    Some(Repository { name: repository.to_owned(), extra })
}

/// The tags with their times, and with digest and size as long as they are few; else what the registry's own list says, in lower
/// case. There every page with a tag carries a link, so that an empty page or no progress ends the list.
pub(crate) fn tags_page(
    repository: &str,
    filter: &Pairs,
    limit: u32,
    cursor: Option<&str>,
) -> Result<TagPage> {
    let plain = || distribution::tags_page(&client(), repository, filter, limit, cursor);
    let number = match cursor {
        None => 1,
        Some(text) => match text.parse::<u32>() {
            Ok(number) => number,
            Err(_) => return plain(),
        },
    };
    let Some((owner, image)) = naming::split(repository) else { return plain() };
    let Some((versions, more)) = versions(&owner, Some(image), number)? else { return plain() };
    let query = list::get(filter, "query");
    // The query finds other packages too.
    let mine = |version: &Version| {
        version.name == image && version.is_tag() && query.is_none_or(|query| version.version.contains(query))
    };
    if number == 1 && !more && !versions.iter().any(|version| version.name == image) {
        // Nothing there: the registry says so in its own words.
        return plain();
    }
    let tags: Vec<Version> = versions.into_iter().filter(mine).collect();
    let few = tags.len() <= WITH_FILES;
    let items = tags.into_iter().map(|version| tag(&owner, image, version, few)).collect::<Result<_>>()?;
    Ok(TagPage { items, next: more.then(|| (number + 1).to_string()), extra: Vec::new() })
}

fn tag(owner: &str, image: &str, version: Version, with_files: bool) -> Result<Tag> {
    let mut extra = pairs([("pushed-at", version.created_at.as_str()), ("source", "api")]);
    extra.retain(|(_, value)| !value.is_empty());
    let mut digest = None;
    if with_files {
        let answer =
            ask(Request::get(api(&format!("{}/files", version_path(owner, image, &version.version)))))?;
        let files = if answer.is_success() { answer.json::<Vec<File>>()? } else { Vec::new() };
        let manifest = files.iter().find(|file| file.name == "manifest.json" && !file.sha256.is_empty());
        digest = manifest.map(|file| format!("sha256:{}", file.sha256));
        // Of an index there is only itself.
        if files.len() > 1 {
            let size: u64 = files.iter().map(|file| file.size).sum();
            extra.push(("size".to_owned(), size.to_string()));
        }
    }
    Ok(Tag { name: version.version, digest, extra })
}

/// The path of a package in the API. Slashes of its name are encoded.
pub(crate) fn package_path(owner: &str, image: &str) -> String {
    format!("/packages/{}/container/{}", link::percent(owner), link::percent(image))
}

/// The path of a version of a package.
pub(crate) fn version_path(owner: &str, image: &str, version: &str) -> String {
    format!("{}/{}", package_path(owner, image), link::percent(version))
}
