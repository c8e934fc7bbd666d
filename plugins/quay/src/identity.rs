//! Is it Quay: the path of the realm says so, the health of the instance confirms.

use idp_provider_sdk::link;
use idp_provider_sdk::prelude::*;
use serde_json::Value;

/// Realm `https://HOST/v2/auth` for service `HOST`.
fn is_ours(challenge: &Challenge) -> bool {
    let realm = challenge.realm_url(&invocation::origin()).unwrap_or_default();
    challenge.is("bearer") && link::path(&realm) == "/v2/auth"
}

/// One probe. A server that hides its health is told by its challenge alone.
pub(crate) fn identify() -> Result<Identification> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is no answer to identify"))?;
    let found = |certainty, product: &str| Identification {
        certainty,
        product: product.to_owned(),
        ..Identification::default()
    };
    if !subject.challenges().iter().any(is_ours) {
        return Ok(found(0, "unknown"));
    }
    let health = Request::get(Client::url("/health/instance")).send()?;
    // 503 with the same document where a part of it is ill.
    let services = health.json::<Value>().ok().and_then(|health| health.pointer("/data/services").cloned());
    Ok(found(if services.is_some_and(|services| services.is_object()) { 100 } else { 70 }, "quay"))
}
