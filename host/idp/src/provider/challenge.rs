//! Challenges of an answer, as far as fingerprints and realms need them (RFC 9110, 11.2 and 11.6.1).

use idp_oci::client::dialect::Challenge;
use url::Url;

use super::pattern::Origin;

/// The challenges in `WWW-Authenticate` values: quoted and bare parameters; what does not parse is left out.
pub(crate) fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let one = |raw: &str| {
        let (scheme, rest) = raw.split_once(' ').unwrap_or((raw, ""));
        let mut params = Vec::new();
        let mut rest = rest.trim();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            params.push((name.trim().to_ascii_lowercase(), value.to_owned()));
            rest = after.trim_start_matches([',', ' ']);
        }
        Some(Challenge { scheme: scheme.to_ascii_lowercase(), params, raw: raw.to_owned() })
    };
    values.into_iter().filter_map(one).collect()
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
