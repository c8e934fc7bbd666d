//! Referrers: what names a manifest as its subject (distribution-spec, "Listing Referrers"). Always an index, never a 404.

use axum::response::Response;
use http::header::{HeaderName, HeaderValue};
use serde::Serialize;

use crate::digest::Digest;
use crate::media;
use crate::name::Repository;
use crate::server::Registry;
use crate::server::error::Error;
use crate::server::page::{self, Query};
use crate::store::Referrer;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Referrer>,
}

pub(crate) async fn list(
    registry: &Registry,
    repository: &Repository,
    subject: &Digest,
    query: &Query,
) -> Result<Response, Error> {
    let mut manifests =
        registry.measured("ListReferrers", registry.store.referrers(repository, subject)).await?;
    let filter = query.get("artifactType").filter(|wanted| !wanted.is_empty());
    if let Some(wanted) = filter {
        manifests.retain(|referrer| referrer.artifact_type.as_deref() == Some(wanted));
    }
    let index = Index { schema_version: 2, media_type: media::OCI_INDEX, manifests };
    let mut response = page::json(&index, media::OCI_INDEX);
    if filter.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}
