//! Repositories: the catalogue, whose pages are followed to the letter, and what is known of one.

use idp_provider_sdk::distribution;
use idp_provider_sdk::prelude::*;

use crate::api;
use crate::login::client;

/// The catalogue. It wants a right of its own where permissions are by repository.
pub(crate) fn list_page(filter: &Pairs, limit: u32, cursor: Option<&str>) -> Result<RepositoryPage> {
    distribution::catalog_page(&client(), filter, limit.min(1000), cursor).map_err(|error| {
        if !matches!(error.kind, ErrorKind::Denied | ErrorKind::Unauthenticated) || error.code == "not-logged-in" {
            return error;
        }
        let message = format!(
            "{}; listing everything needs AcrPull for the whole registry, or, where it has permissions by repository, Container \
             Registry Repository Catalog Lister; tokens of single repositories cannot",
            error.message
        );
        Error { message, kind: ErrorKind::Denied, ..error }
    })
}

/// What the registry tells of a repository.
pub(crate) fn info(name: &str) -> Result<Repository> {
    let answer = api::get(name, &format!("/acr/v1/{name}"))?;
    if answer.status() == 404 {
        return Err(Error::not_found(format!("nothing was pushed to {name} yet"))
            .code("NAME_UNKNOWN")
            .status(404));
    }
    if !answer.is_success() {
        return Err(api::error(&answer, &format!("look at {name}"), name));
    }
    let found: api::Repository = answer.json()?;
    let mut extra = pairs([
        ("state", "exists".to_owned()),
        ("created-at", found.created_time),
        ("updated-at", found.last_update_time),
    ]);
    extra.extend(found.tag_count.map(|count| ("tags".to_owned(), count.to_string())));
    extra.extend(found.manifest_count.map(|count| ("manifests".to_owned(), count.to_string())));
    let allowed = found.changeable_attributes;
    let locked = match (allowed.write_enabled, allowed.delete_enabled) {
        (true, true) => "",
        (false, true) => "write",
        (true, false) => "delete",
        (false, false) => "write,delete",
    };
    extra.push(("locked".to_owned(), locked.to_owned()));
    extra.retain(|(_, value)| !value.is_empty());
    Ok(Repository { name: name.to_owned(), extra })
}
