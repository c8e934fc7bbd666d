//! Whose repositories there can be, and what is known of one. A repository appears with its first push, private; what must be there before
//! is its organisation.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, pairs as list, refusal};
use serde::Deserialize;
use serde_json::json;

use crate::api::{self, Caller};
use crate::naming;

/// A repository with the state that the contract wants.
fn repository(name: &str, state: &str) -> Repository {
    Repository { name: name.to_owned(), extra: pairs([("state", state)]) }
}

/// The organisation must exist; with `create-parent` it is made. The repository comes with the push, unless a visibility is asked
/// for: then it is made now.
pub(crate) fn ensure(name: &str, options: &Pairs) -> Result<Repository> {
    let Some((namespace, image)) = naming::split(name) else {
        return Err(Error::invalid(format!("`{name}` names no organisation")).code("namespace-missing"));
    };
    let caller = Caller::find();
    let mut made = repository(name, "implicit");
    if !exists(&caller, namespace)? {
        if !list::flag(options, "create-parent") {
            return Err(missing(namespace));
        }
        create_organisation(&caller, namespace)?;
        made = repository(name, "created");
        made.extra.extend(pairs([("created", "organisation"), ("created-name", namespace)]));
    }
    let Some(visibility) = list::get(options, "visibility") else { return Ok(made) };
    if !caller.has_token() {
        return Err(api::no_token("choose the visibility of a repository"));
    }
    if invocation::dry_run() {
        return Ok(repository(name, "created"));
    }
    let body = json!({
        "namespace": namespace, "repository": image, "visibility": visibility, "repo_kind": "image",
        "description": list::get(options, "description").unwrap_or_default(),
    });
    let answer = caller.send(Request::post(api::url("/repository")).json(&body))?;
    match answer.status() {
        200 | 201 => {
            let mut made = repository(name, "created");
            made.extra.extend(pairs([("visibility", visibility)]));
            Ok(made)
        }
        // "Repository already exists": its visibility is not ours to change on the way.
        400 | 409 if answer.text().contains("exist") => Ok(repository(name, "exists")),
        _ => Err(refusal::error(&answer, &format!("create {name}"))),
    }
}

/// Whether a namespace is there, as an organisation or as a user.
fn exists(caller: &Caller, namespace: &str) -> Result<bool> {
    for path in ["organization", "users"] {
        let url = api::url(&format!("/{path}/{}", link::percent(namespace)));
        let answer = caller.send(Request::get(url))?;
        match answer.status() {
            404 => {}
            // Whoever may not look is not told that there is nothing.
            200..=299 | 401 | 403 => return Ok(true),
            _ => return Err(refusal::error(&answer, &format!("look for the organisation `{namespace}`"))),
        }
    }
    Ok(false)
}

fn missing(namespace: &str) -> Error {
    let registry = invocation::registry();
    Error::not_found(format!(
        "{registry} has neither an organisation nor a user `{namespace}`; make it there, or let `idp push --create` do it"
    ))
    .code("organisation-missing")
    .extra("missing", "organisation")
    .extra("name", namespace)
}

fn create_organisation(caller: &Caller, namespace: &str) -> Result<()> {
    if !caller.has_token() {
        return Err(api::no_token(&format!("create the organisation `{namespace}`")));
    }
    if invocation::dry_run() {
        return Ok(());
    }
    let answer =
        caller.send(Request::post(api::url("/organization/")).json(&json!({ "name": namespace })))?;
    match answer.status() {
        200 | 201 => Ok(()),
        401 | 403 => Err(Error::denied(format!(
            "the access token may not create the organisation `{namespace}`: it needs the scope org:create"
        ))
        .code("may-not-create-organisation")
        .status(answer.status())),
        _ => Err(refusal::error(&answer, &format!("create the organisation `{namespace}`"))),
    }
}

#[derive(Debug, Deserialize)]
struct Details {
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    is_public: bool,
    #[serde(default)]
    state: Option<String>,
}

/// Visibility, description and state. Without a token only public repositories can be seen.
pub(crate) fn info(name: &str) -> Result<Repository> {
    let caller = Caller::find();
    let answer =
        caller.send(Request::get(api::url(&format!("/repository/{name}"))).query("includeTags", "false"))?;
    match answer.status() {
        200 => {}
        401 | 403 if !caller.has_token() => {
            return Err(Error::unsupported(format!(
                "{name} is private or does not exist, and Quay's API tells only with an OAuth access token"
            )));
        }
        404 => {
            return Err(Error::not_found(format!("{} has no repository {name}", invocation::registry()))
                .code("NAME_UNKNOWN")
                .extra("missing", "repository")
                .status(404));
        }
        _ => return Err(refusal::error(&answer, &format!("look at {name}"))),
    }
    let details: Details = answer.json()?;
    let mut found = repository(name, "exists");
    found.extra.extend(pairs([
        ("visibility", if details.is_public { "public" } else { "private" }.to_owned()),
        ("description", details.description.unwrap_or_default()),
        ("mode", details.state.unwrap_or_default()),
        ("url", Client::url(&format!("/repository/{name}"))),
    ]));
    found.extra.retain(|(_, value)| !value.is_empty());
    Ok(found)
}
