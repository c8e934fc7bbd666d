//! Owners, which must exist before a push, and what is known of an image, which appears with its first one.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{link, pairs as list, refusal};
use serde_json::json;

use crate::{naming, packages};

/// The URL of an API path. A server under a sub-path is told by the setting `api`.
pub(crate) fn api(path: &str) -> String {
    match invocation::setting("api") {
        Some(base) => format!("{}/api/v1{path}", base.trim_end_matches('/')),
        None => Client::url(&format!("/api/v1{path}")),
    }
}

/// Sends a request to the API with the credentials, which it takes as Basic; a token of the registry it takes not everywhere.
pub(crate) fn ask(request: Request<'_>) -> Result<Response> {
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
            "{registry} has neither a user nor an organisation `{owner}`; `idp push --create` makes an organisation, private, or make one \
             there first"
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

/// The versions of an image tell how many tags it has, when it was pushed last and where to look at it.
pub(crate) fn info(name: &str) -> Result<Repository> {
    let Some((owner, image)) = naming::split(name) else {
        return Err(Error::invalid(format!("`{name}` names no owner")).code("owner-missing"));
    };
    let registry = invocation::registry();
    let Some((versions, more)) = packages::versions(&owner, Some(image), 1)? else {
        return Err(Error::unsupported(format!(
            "{registry} tells about packages only to accounts, with an access token that has read:package"
        ))
        .code("no-api"));
    };
    // The query finds other images too.
    let mine: Vec<_> = versions.iter().filter(|version| version.name == image).collect();
    let Some(mut found) = packages::about(name, &mine) else {
        return Err(Error::not_found(format!("nothing was pushed to {registry}/{name} yet"))
            .code("NAME_UNKNOWN")
            .extra("missing", "repository")
            .extra("name", name));
    };
    // Of a first page the number would be wrong.
    if more {
        found.extra.retain(|(key, _)| key != "tags");
    }
    Ok(found)
}
