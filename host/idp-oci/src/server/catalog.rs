//! The catalogue: which repositories there are (Docker's `_catalog`; the specification has no word on it).

use axum::response::Response;
use serde::Serialize;

use crate::server::Registry;
use crate::server::error::Error;
use crate::server::gate::Requester;
use crate::server::page::{self, Query};
use crate::store::{Listing, Page};

#[derive(Serialize)]
struct Catalogue<'a> {
    repositories: &'a [String],
}

/// A page of what the requester may pull. What others have is neither shown nor counted, so a page is as long as it would be
/// if nothing else were there.
pub(crate) async fn list(
    registry: &Registry,
    requester: &Requester,
    query: &Query,
) -> Result<Response, Error> {
    let page = query.page(&registry.limits)?;
    // One more than is wanted says whether anything follows.
    let mut next = Page { after: page.after.clone(), limit: page.limit + 1 };
    let mut entries: Vec<String> = Vec::new();
    loop {
        let listing = registry.measured("ListRepositories", registry.store.repositories(&next)).await?;
        next.after = listing.entries.last().cloned();
        let shown = listing.entries.into_iter().filter(|name| {
            name.parse().is_ok_and(|repository| registry.access.shows(&requester.identity, &repository))
        });
        entries.extend(shown);
        if entries.len() > page.limit || !listing.more || next.after.is_none() {
            break;
        }
    }
    let more = entries.len() > page.limit;
    entries.truncate(page.limit);
    let listing = Listing { entries, more };
    Ok(page::answer("/v2/_catalog", &page, &listing, &Catalogue { repositories: &listing.entries }))
}
