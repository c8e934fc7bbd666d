//! Removal. A tag goes by the registry's own API, or by GitLab's where the token for the registry may not; a digest when no other tag is
//! there; a repository by GitLab's API, which does it later.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, link};

use crate::api::Api;
use crate::list::locate;
use crate::{login, tags};

/// Removes a tag, a digest, or a repository.
pub(crate) fn remove(repository: &str, target: &Target, options: &Pairs) -> Result<Removal> {
    let client = login::client();
    match target {
        Target::Tag(tag) => match distribution::remove(&client, repository, target, options) {
            Err(error)
                if matches!(error.kind, ErrorKind::Unauthenticated | ErrorKind::Denied)
                    && !invocation::dry_run() =>
            {
                tag_by_api(repository, tag, error)
            }
            other => other,
        },
        Target::Digest(digest) => {
            let others = tags::of_digest(repository, digest)?;
            distribution::remove_digest(&client, repository, digest, digest, others, options)
                .map_err(|error| why(error, repository))
        }
        Target::Everything => everything(repository),
    }
}

fn removal(removed: &str) -> Removal {
    Removal {
        removed: vec![removed.to_owned()],
        also_removed: Vec::new(),
        asynchronous: false,
        extra: Vec::new(),
    }
}

/// What a refused deletion can mean; the registry says no more than that it is refused.
fn why(error: Error, what: &str) -> Error {
    if !matches!(error.kind, ErrorKind::Unauthenticated | ErrorKind::Denied) || error.code == "not-logged-in"
    {
        return error;
    }
    Error::denied(format!(
        "could not delete {what}: a protection rule stands against it, the account lacks the role Developer in the project (Maintainer for \
         protected tags), or the access token lacks write_registry or api; tokens of deploys delete nothing ({})",
        error.message
    ))
    .code("denied")
}

/// The registry let the token not delete; GitLab's API may take it.
fn tag_by_api(repository: &str, tag: &str, refused: Error) -> Result<Removal> {
    let what = format!("{repository}:{tag}");
    let place = Api::new().and_then(|api| Ok((locate(&api, repository)?, api)));
    // What the API says of a token that it does not know would hide what the registry said.
    let Ok(((project, Some(found)), api)) = place else { return Err(why(refused, &what)) };
    let path = format!("/projects/{project}/registry/repositories/{}/tags/{}", found.id, link::percent(tag));
    let answer = api.send("DELETE", &path)?;
    match answer.status() {
        200..=299 => Ok(removal(tag)),
        401 | 403 => Err(why(api.refused(&answer, &format!("delete {what}")), &what)),
        404 => Err(Error::not_found(format!("{repository} has no tag `{tag}`"))
            .code("MANIFEST_UNKNOWN")
            .status(404)),
        _ => Err(api.refused(&answer, &format!("delete {what}"))),
    }
}

/// GitLab marks the repository and deletes it in the background.
fn everything(repository: &str) -> Result<Removal> {
    let api = Api::new()?;
    let (project, found) = locate(&api, repository)?;
    let Some(found) = found else {
        return Err(Error::not_found(format!("the project of {repository} has no such repository"))
            .code("NAME_UNKNOWN"));
    };
    if invocation::dry_run() {
        return Ok(removal(repository));
    }
    let answer = api.send("DELETE", &format!("/projects/{project}/registry/repositories/{}", found.id))?;
    if !answer.is_success() {
        let error = api.refused(&answer, &format!("delete {repository}"));
        return Err(why(error, repository));
    }
    Ok(Removal {
        asynchronous: true,
        extra: pairs([(
            "note",
            "GitLab deletes the repository in the background; its tags may be seen for a while",
        )]),
        ..removal(repository)
    })
}
