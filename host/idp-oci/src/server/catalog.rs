//! The catalogue: which repositories there are (Docker's `_catalog`; the specification has no word on it).

use axum::response::Response;
use serde::Serialize;

use crate::server::Registry;
use crate::server::error::Error;
use crate::server::page::{self, Query};

#[derive(Serialize)]
struct Catalogue<'a> {
    repositories: &'a [String],
}

pub(crate) async fn list(registry: &Registry, query: &Query) -> Result<Response, Error> {
    let page = query.page()?;
    let listing = registry.store.repositories(&page).await?;
    Ok(page::answer("/v2/_catalog", &page, &listing, &Catalogue { repositories: &listing.entries }))
}
