//! GitHub Enterprise Server is told by its answer: the header that every service of GitHub sends, and where tokens come from.

use idp_provider_sdk::link;
use idp_provider_sdk::prelude::*;

/// No probe: both are in the answer at hand.
pub(crate) fn identify() -> Result<Identification> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is no answer to identify"))?;
    let ours = |challenge: &Challenge| {
        let realm = challenge.realm_url(&invocation::origin()).unwrap_or_default();
        challenge.is("bearer") && link::path(&realm) == "/token"
    };
    let github = subject.header("x-github-request-id").is_some();
    let certainty = if github && subject.challenges().iter().any(ours) { 95 } else { 0 };
    let product = if certainty > 0 { "GitHub Container Registry" } else { "unknown" };
    Ok(Identification { certainty, product: product.to_owned(), ..Identification::default() })
}
