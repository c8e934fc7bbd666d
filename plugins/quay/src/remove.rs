//! Deleting. A tag goes alone, a digest takes all of its tags along, a repository goes by the API. Old data can be had back for some days
//! ("time machine").

use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, refusal};

use crate::api::{self, Caller};
use crate::{list as listing, login};

/// Deletes what is named and nothing else.
pub(crate) fn remove(repository: &str, target: &Target, options: &Pairs) -> Result<Removal> {
    match target {
        Target::Tag(_) => distribution::remove(&login::client(), repository, target, options),
        Target::Digest(digest) => by_digest(repository, digest, target, options),
        Target::Everything => everything(repository),
    }
}

/// The API knows the tags of a digest; without it they are asked for one by one.
fn by_digest(repository: &str, digest: &str, target: &Target, options: &Pairs) -> Result<Removal> {
    match listing::tags_of(repository, digest)? {
        Some(tags) => {
            distribution::remove_digest(&login::client(), repository, digest, digest, tags, options)
        }
        None => distribution::remove(&login::client(), repository, target, options),
    }
}

fn everything(repository: &str) -> Result<Removal> {
    let caller = Caller::find();
    if !caller.has_token() {
        return Err(api::no_token("delete a repository"));
    }
    let url = api::url(&format!("/repository/{repository}"));
    if invocation::dry_run() {
        let answer = caller.send(Request::get(url).query("includeTags", "false"))?;
        if !answer.is_success() {
            return Err(refusal::error(&answer, &format!("find {repository}")));
        }
    } else {
        let answer = caller.send(Request::delete(url))?;
        if !answer.is_success() {
            return Err(refusal::error(&answer, &format!("delete {repository}")));
        }
    }
    Ok(Removal {
        removed: vec![repository.to_owned()],
        also_removed: Vec::new(),
        asynchronous: false,
        extra: pairs([(
            "note",
            "Quay deletes a repository for good: its time machine does not bring it back",
        )]),
    })
}
