//! Is it ECR behind a name of the user's own: its challenge names the real registry, or ECR Public.

use idp_provider_sdk::link;
use idp_provider_sdk::prelude::*;

use crate::place::Place;

/// No probe: the challenge says all there is.
pub(crate) fn identify() -> Result<Identification> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is no answer to identify"))?;
    let nobody = Identification { product: "unknown".to_owned(), ..Identification::default() };
    for challenge in subject.challenges() {
        match challenge.param("service") {
            Some("ecr.amazonaws.com") if challenge.is("basic") => {
                let realm = challenge.param("realm").unwrap_or_default();
                let host = link::origin(realm).split("://").nth(1).unwrap_or_default();
                // Without a realm that names it, which account and region it is has to be told.
                let Some(place) = Place::of(host).filter(|place| !place.is_public()) else {
                    return Ok(found(80, "private", &[]));
                };
                let derived = [("account", place.account.as_str()), ("region", place.region.as_str())];
                return Ok(found(95, "private", &derived));
            }
            Some("public.ecr.aws") if challenge.is("bearer") => return Ok(found(95, "public", &[])),
            _ => {}
        }
    }
    Ok(nobody)
}

fn found(certainty: u8, product: &str, derived: &[(&str, &str)]) -> Identification {
    let mut settings = pairs([("product", product)]);
    settings.extend(pairs(derived.iter().copied()));
    let product = if product == "public" { "ecr-public" } else { "ecr" };
    Identification { certainty, product: product.to_owned(), version: None, settings, extra: Vec::new() }
}
