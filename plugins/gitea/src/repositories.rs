//! Repositories and tags. An image appears with its first push; what must be there before is its owner.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, link, pairs as list, refusal};
use serde::Deserialize;
use serde_json::json;

use crate::login::client;
use crate::naming;

#[derive(Debug, Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    html_url: String,
    #[serde(default)]
    created_at: String,
}

/// The URL of an API path. A server under a sub-path is told by the setting `api`.
fn api(path: &str) -> String {
    match invocation::setting("api") {
        Some(base) => format!("{}/api/v1{path}", base.trim_end_matches('/')),
        None => Client::url(&format!("/api/v1{path}")),
    }
}

/// Sends a request to the API with the credentials, which it takes as Basic; a token of the registry it takes not everywhere.
fn ask(request: Request<'_>) -> Result<Response> {
    match invocation::credential("registry") {
        Some(credential) => match credential.secret("password") {
            Some(password) => request.basic(credential.username(), password).send(),
            None => request.send(),
        },
        None => request.send(),
    }
}

/// The owner must exist; with `create-parent` an organisation is made. The image itself comes with the push.
pub(crate) fn ensure(name: &str, options: &Pairs) -> Result<Repository> {
    let Some((owner, _)) = naming::split(name) else {
        return Err(Error::invalid(format!("`{name}` names no owner")).code("owner-missing"));
    };
    let answer = ask(Request::get(api(&format!("/users/{}", link::percent(&owner)))))?;
    match answer.status() {
        200 => return Ok(repository(name, "implicit")),
        // A token that may not look people up changes nothing: it was the push that was told of no such owner.
        401 | 403 | 404 => {}
        _ => return Err(refusal::error(&answer, &format!("look for the owner `{owner}`"))),
    }
    let registry = invocation::registry();
    if !list::flag(options, "create-parent") {
        return Err(Error::not_found(format!(
            "{registry} has neither a user nor an organisation `{owner}`; make one there first, or let `idp push --create` make the \
             organisation"
        ))
        .code("owner-missing")
        .extra("missing", "organisation")
        .extra("name", owner));
    }
    let visibility = list::get(options, "visibility").unwrap_or("private");
    let mut made = repository(name, "created");
    made.extra.extend(pairs([
        ("created", "organisation"),
        ("created-name", owner.as_str()),
        ("visibility", visibility),
    ]));
    if invocation::dry_run() {
        return Ok(made);
    }
    let body = json!({ "username": owner, "visibility": visibility, "description": list::get(options, "description") });
    let answer = ask(Request::post(api("/orgs")).json(&body))?;
    match answer.status() {
        201 => Ok(made),
        // Somebody was faster.
        409 | 422 if ask(Request::get(api(&format!("/users/{}", link::percent(&owner)))))?.is_success() => {
            Ok(repository(name, "implicit"))
        }
        403 => Err(Error::denied(format!(
            "the account may not create the organisation `{owner}` at {registry}: the access token needs the scope \
             write:organization, and the server may reserve this to administrators"
        ))
        .code("may-not-create-organisation")
        .status(403)),
        _ => Err(refusal::error(&answer, &format!("create the organisation `{owner}`"))),
    }
}

fn repository(name: &str, state: &str) -> Repository {
    Repository { name: name.to_owned(), extra: pairs([("state", state)]) }
}

/// The newest version of an image tells when it was pushed and where to look at it.
pub(crate) fn info(name: &str) -> Result<Repository> {
    let Some((owner, image)) = naming::split(name) else {
        return Err(Error::invalid(format!("`{name}` names no owner")).code("owner-missing"));
    };
    let path =
        format!("/packages/{}?type=container&q={}&limit=50", link::percent(&owner), link::percent(image));
    let answer = ask(Request::get(api(&path)))?;
    if !answer.is_success() {
        return Err(refusal::error(&answer, &format!("look at {name}")));
    }
    #[derive(Debug, Deserialize)]
    struct Named {
        name: String,
        #[serde(flatten)]
        version: Version,
    }
    // The query is a substring, and every tag and untagged manifest is an entry of its own.
    let mut versions: Vec<Version> =
        answer.json::<Vec<Named>>()?.into_iter().filter(|it| it.name == image).map(|it| it.version).collect();
    versions.sort_by(|one, other| other.created_at.cmp(&one.created_at));
    let Some(newest) = versions.first() else {
        return Err(Error::not_found(format!("nothing was pushed to {name} yet")).code("NAME_UNKNOWN"));
    };
    let tags = versions.iter().filter(|version| !version.version.starts_with("sha256:")).count();
    let mut found = repository(name, "exists");
    found.extra.extend(pairs([("updated-at", newest.created_at.clone()), ("url", newest.html_url.clone())]));
    // A full page may not be all of them, and then the number would be wrong.
    if versions.len() < 50 {
        found.extra.push(("tags".to_owned(), tags.to_string()));
    }
    found.extra.retain(|(_, value)| !value.is_empty());
    Ok(found)
}

/// The catalogue. A full page carries a link even when it is the last; the empty page after it ends the list.
pub(crate) fn list_page(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    distribution::catalog_page(&client(), filter, limit.min(100), cursor)
}

/// The tags, in lower case. Every page with a tag carries a link, so that an empty page or no progress ends the list.
pub(crate) fn tags_page(
    repository: &str,
    filter: &Pairs,
    limit: u32,
    cursor: Option<&str>,
) -> Result<TagPage> {
    distribution::tags_page(&client(), repository, filter, limit, cursor)
}

/// Deleting a digest deletes every tag of it, so they are found first. Deleting a tag leaves the others.
pub(crate) fn remove(repository: &str, target: Target, options: &Pairs) -> Result<Removal> {
    // Tags are compared in lower case.
    let target = match target {
        Target::Tag(tag) => Target::Tag(tag.to_ascii_lowercase()),
        other => other,
    };
    let mut removal = distribution::remove(&client(), repository, &target, options)?;
    if matches!(target, Target::Digest(_)) {
        removal.extra.push((
            "note".to_owned(),
            "Gitea does not keep what an index refers to; check indexes of it".to_owned(),
        ));
    }
    Ok(removal)
}
