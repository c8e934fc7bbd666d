//! Tags: the list (distribution-spec, "Listing Tags").

use axum::response::Response;
use serde::Serialize;

use crate::name::Repository;
use crate::server::Registry;
use crate::server::error::Error;
use crate::server::page::{self, Query};

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: &'a [String],
}

pub(crate) async fn list(
    registry: &Registry,
    repository: &Repository,
    query: &Query,
) -> Result<Response, Error> {
    let page = query.page(&registry.limits)?;
    let Some(listing) = registry.measured("ListTags", registry.store.tags(repository, &page)).await? else {
        return Err(unknown_repository(repository));
    };
    let body = TagList { name: repository.as_str(), tags: &listing.entries };
    Ok(page::answer(&format!("/v2/{repository}/tags/list"), &page, &listing, &body))
}

pub(crate) fn unknown_repository(repository: &Repository) -> Error {
    Error::not_found("NAME_UNKNOWN", format!("nothing was ever pushed to `{repository}` here"))
}
