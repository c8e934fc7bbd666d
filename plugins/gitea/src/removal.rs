//! Deletion: tags and digests by the registry, which leaves other tags; a whole package by the API.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, refusal};

use crate::login::client;
use crate::repositories::{api, ask};
use crate::{naming, packages};

/// Requests that one call may spend on versions of a package; the host allows 64.
const DELETIONS: usize = 40;

/// Deleting a digest deletes every tag of it, so they are found first. Deleting a tag leaves the others.
pub(crate) fn remove(repository: &str, target: Target, options: &Pairs) -> Result<Removal> {
    // Tags are compared in lower case.
    let target = match target {
        Target::Tag(tag) => Target::Tag(tag.to_ascii_lowercase()),
        Target::Everything => return everything(repository, options),
        digest @ Target::Digest(_) => digest,
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

/// The package in one request; before 1.26 version by version. The registry's own deletion would leave manifests without a tag.
fn everything(repository: &str, options: &Pairs) -> Result<Removal> {
    let plain = || distribution::remove(&client(), repository, &Target::Everything, options);
    let Some((owner, image)) = naming::split(repository) else { return plain() };
    let Some(all) = packages::all_versions(&owner, Some(image))? else { return plain() };
    let mine: Vec<_> = all.into_iter().filter(|version| version.name == image).collect();
    if mine.is_empty() {
        return Err(Error::not_found(format!("nothing was pushed to {repository}"))
            .code("NAME_UNKNOWN")
            .extra("missing", "repository")
            .extra("name", repository));
    }
    if !invocation::dry_run() {
        let answer = ask(Request::delete(api(&packages::package_path(&owner, image))))?;
        match answer.status() {
            200..=299 => {}
            // The server knows no such address.
            404 | 405 => one_by_one(&owner, image, &mine)?,
            _ => return Err(refused(&answer, repository, &owner)),
        }
    }
    let tags = mine.into_iter().filter(packages::Version::is_tag).map(|version| version.version).collect();
    Ok(Removal { removed: tags, also_removed: Vec::new(), asynchronous: false, extra: Vec::new() })
}

fn one_by_one(owner: &str, image: &str, versions: &[packages::Version]) -> Result<()> {
    if versions.len() > DELETIONS {
        return Err(Error::other(format!(
            "{owner}/{image} has {} versions, and this Gitea deletes them one by one: delete the package on its page, {}",
            versions.len(),
            versions.first().map_or("", |version| version.html_url.as_str())
        ))
        .code("too-many-versions"));
    }
    for version in versions {
        let answer = ask(Request::delete(api(&packages::version_path(owner, image, &version.version))))?;
        // A digest may have gone with a tag of it.
        if !answer.is_success() && answer.status() != 404 {
            return Err(refused(&answer, &format!("{owner}/{image}"), owner));
        }
    }
    Ok(())
}

fn refused(answer: &Response, repository: &str, owner: &str) -> Error {
    let error = refusal::error(answer, &format!("delete {repository}"));
    if !matches!(answer.status(), 401 | 403) {
        return error;
    }
    Error::denied(format!(
        "{}; the access token needs the scope write:package, and in an organisation the account a team of `{owner}` with Packages=write",
        error.message
    ))
    .code("reqPackageAccess")
    .status(answer.status())
}
