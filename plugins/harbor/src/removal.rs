//! Deletion, by the API: the registry's own takes digests only, and takes all of their tags along.

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, link};

use crate::artifacts::{self, Artifact};
use crate::{api, naming};

/// Deletes a tag and nothing else, an artifact with the tags that were agreed to, or a repository.
pub(crate) fn remove(name: &str, target: &Target, options: &Pairs) -> Result<Removal> {
    let (project, rest) = naming::parts(name)?;
    let base = api::repository(project, rest);
    match target {
        Target::Tag(tag) => remove_tag(name, &base, tag),
        Target::Digest(digest) => remove_digest(name, &base, digest, options),
        Target::Everything => remove_everything(name, &base),
    }
}

fn artifact(base: &str, reference: &str) -> Result<Response> {
    let url = api::url(&format!("{base}/artifacts/{}", link::percent(reference)));
    api::ask(artifacts::with_tags(Request::get(url)))
}

fn delete(path: &str, doing: &str, right: &str) -> Result<()> {
    let answer = api::ask(Request::delete(api::url(path)))?;
    if answer.is_success() { Ok(()) } else { Err(api::refused(&answer, doing, right)) }
}

fn remove_tag(name: &str, base: &str, tag: &str) -> Result<Removal> {
    let doing = format!("delete {name}:{tag}");
    let answer = artifact(base, tag)?;
    // Whoever may delete tags need not be allowed to look at artifacts, as a CLI secret is not.
    let known = match answer.status() {
        200..=299 => Some(answer.json::<Artifact>()?),
        401 | 403 if !invocation::dry_run() => None,
        _ => return Err(api::refused(&answer, &doing, "Read Artifact")),
    };
    let stays =
        known.as_ref().is_some_and(|it| it.tags.iter().flatten().any(|one| one.name == tag && one.immutable));
    if stays {
        return Err(Error::conflict(format!(
            "could not {doing}: a rule of the project makes the tag immutable, its administrator can change it"
        ))
        .code("immutable"));
    }
    if !invocation::dry_run() {
        let tag = link::percent(tag);
        delete(&format!("{base}/artifacts/{tag}/tags/{tag}"), &doing, "Delete Tag")?;
    }
    let mut removal = removal(vec![tag.to_owned()], Vec::new());
    if let Some(it) = known.filter(|it| it.tag_names().len() == 1) {
        removal.extra.extend(pairs([(
            "note",
            format!("{} has no tag any more and stays until it is deleted by digest", it.digest),
        )]));
    }
    Ok(removal)
}

fn remove_digest(name: &str, base: &str, digest: &str, options: &Pairs) -> Result<Removal> {
    let doing = format!("delete {name}@{digest}");
    let answer = artifact(base, digest)?;
    if !answer.is_success() {
        return Err(api::refused(&answer, &doing, "Read Artifact"));
    }
    let tags = answer.json::<Artifact>()?.tag_names();
    distribution::spare_siblings(name, digest, &tags, options)?;
    if !invocation::dry_run() {
        delete(&format!("{base}/artifacts/{}", link::percent(digest)), &doing, "Delete Artifact")?;
    }
    Ok(removal(vec![digest.to_owned()], tags))
}

fn remove_everything(name: &str, base: &str) -> Result<Removal> {
    let doing = format!("delete {name}");
    if invocation::dry_run() {
        let answer = api::ask(Request::get(api::url(base)))?;
        if !answer.is_success() {
            return Err(api::refused(&answer, &doing, "Read Repository"));
        }
    } else {
        delete(base, &doing, "Delete Repository")?;
    }
    Ok(removal(vec![name.to_owned()], Vec::new()))
}

fn removal(removed: Vec<String>, also_removed: Vec<String>) -> Removal {
    Removal { removed, also_removed, asynchronous: false, extra: Vec::new() }
}
