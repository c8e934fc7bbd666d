//! Challenges of an answer, as far as fingerprints and realms need them (RFC 9110, 11.2 and 11.6.1).

use idp_oci::client::challenge;
use idp_oci::client::dialect::Challenge;
use url::Url;

use super::pattern::Origin;

/// The challenges in `WWW-Authenticate` values, read as the client reads them.
pub(crate) fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    values.into_iter().flat_map(challenge::parse).collect()
}

/// Where the realms of challenges are: origin and path. A realm without a host is the registry's.
pub(crate) fn realms(challenges: &[Challenge], registry: &Origin) -> Vec<(Origin, String)> {
    let one = |challenge: &Challenge| {
        let realm = challenge.param("realm")?;
        let base = Url::parse(&format!("{registry}/")).ok()?;
        let url = if realm.starts_with('/') { base.join(realm) } else { Url::parse(realm) }.ok()?;
        Some((Origin::of(&url)?, url.path().to_owned()))
    };
    challenges.iter().filter_map(one).take(4).collect()
}
