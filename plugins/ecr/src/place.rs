//! Which registry this is: account, region and the URL of its API, from its name alone. The environment's region never counts:
//! it is about something else.

use idp_provider_sdk::prelude::*;

/// Registry names by partition: what ends a registry's name, whether that is the dual-stack form, and what ends the API's.
const SUFFIXES: [(&str, bool, &str); 9] = [
    ("amazonaws.com", false, "amazonaws.com"),
    ("on.aws", true, "api.aws"),
    ("amazonaws.com.cn", false, "amazonaws.com.cn"),
    ("on.amazonwebservices.com.cn", true, "api.amazonwebservices.com.cn"),
    ("amazonaws.eu", false, "amazonaws.eu"),
    ("c2s.ic.gov", false, "c2s.ic.gov"),
    ("sc2s.sgov.gov", false, "sc2s.sgov.gov"),
    ("cloud.adc-e.uk", false, "cloud.adc-e.uk"),
    ("csp.hci.ic.gov", false, "csp.hci.ic.gov"),
];

/// The names of ECR Public.
const PUBLIC: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];

/// A registry of ECR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its account; empty for ECR Public, which is one registry for all.
    pub(crate) account: String,
    /// What requests to its API are signed for.
    pub(crate) region: String,
    /// `ecr` or `ecr-public`, in signatures and in names of permissions.
    pub(crate) service: &'static str,
    /// The API; empty when a registry behind a name of the user's own has no setting for it.
    pub(crate) api: String,
    /// Where to ask whose keys these are.
    pub(crate) sts: Option<String>,
}

impl Place {
    /// The registry of this call.
    pub(crate) fn here() -> Result<Self> {
        let registry = invocation::registry();
        let mut place = match Self::of(&registry) {
            Some(place) => place,
            None => Self::by_settings(&registry)?,
        };
        let setting = if place.is_public() { "endpoint-public" } else { "endpoint" };
        if let Some(endpoint) = invocation::setting(setting) {
            place.api = endpoint.trim_end_matches('/').to_owned();
            // A stand-in for one service answers no other.
            place.sts = None;
        }
        Ok(place)
    }

    /// A registry behind a name of the user's own.
    fn by_settings(registry: &str) -> Result<Self> {
        if invocation::setting("product").as_deref() == Some("public") {
            return Ok(Self::public("https://api.ecr-public.us-east-1.amazonaws.com"));
        }
        let missing = |what: &str| {
            Error::invalid(format!(
                "`{registry}` is no name of ECR (ACCOUNT.dkr.ecr.REGION.amazonaws.com, public.ecr.aws), and registries.yaml does not \
                 say its {what}: set `{what}` under `settings` of {registry}"
            ))
            .code("unknown-registry")
        };
        Ok(Self {
            account: invocation::setting("account").ok_or_else(|| missing("account"))?,
            region: invocation::setting("region").ok_or_else(|| missing("region"))?,
            service: "ecr",
            api: String::new(),
            sts: None,
        })
    }

    fn public(api: &str) -> Self {
        Self {
            account: String::new(),
            region: "us-east-1".to_owned(),
            service: "ecr-public",
            api: api.to_owned(),
            sts: Some("https://sts.us-east-1.amazonaws.com".to_owned()),
        }
    }

    /// What a registry's name says: `ACCOUNT.dkr.ecr[-fips].REGION.SUFFIX`, also with `dkr-ecr`.
    pub(crate) fn of(registry: &str) -> Option<Self> {
        if let Some(at) = PUBLIC.iter().position(|name| *name == registry) {
            return Some(Self::public(
                ["https://api.ecr-public.us-east-1.amazonaws.com", "https://ecr-public.us-east-1.api.aws"]
                    [at],
            ));
        }
        let (account, rest) = registry.split_once('.')?;
        let rest = rest.strip_prefix("dkr.ecr").or_else(|| rest.strip_prefix("dkr-ecr"))?;
        let (fips, rest) = match rest.strip_prefix("-fips") {
            Some(rest) => ("-fips", rest),
            None => ("", rest),
        };
        let (region, suffix) = rest.strip_prefix('.')?.split_once('.')?;
        let (_, dual, api) = SUFFIXES.iter().find(|(name, ..)| *name == suffix)?;
        let good =
            account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()) && !region.is_empty();
        let first = if *dual { "ecr" } else { "api.ecr" };
        good.then(|| Self {
            account: account.to_owned(),
            region: region.to_owned(),
            service: "ecr",
            api: format!("https://{first}{fips}.{region}.{api}"),
            sts: Some(format!("https://sts{fips}.{region}.{api}")),
        })
    }

    /// Whether it is ECR Public.
    pub(crate) fn is_public(&self) -> bool {
        self.service == "ecr-public"
    }

    /// In words: `account 123456789012 in eu-west-1`.
    pub(crate) fn words(&self) -> String {
        if self.is_public() {
            "ECR Public".to_owned()
        } else {
            format!("account {} in {}", self.account, self.region)
        }
    }

    /// Permissions of its service: `ecr:PutImage, ecr:BatchGetImage`.
    pub(crate) fn actions(&self, names: &[&str]) -> String {
        // Whoever may read at all may read images of ECR Public.
        let names = names.iter().filter(|name| !self.is_public() || **name != "BatchGetImage");
        names.map(|name| format!("{}:{name}", self.service)).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn names_of_every_partition() {
        for (registry, region, api) in [
            (
                "123456789012.dkr.ecr.us-west-2.amazonaws.com",
                "us-west-2",
                "https://api.ecr.us-west-2.amazonaws.com",
            ),
            ("123456789012.dkr-ecr.us-west-2.on.aws", "us-west-2", "https://ecr.us-west-2.api.aws"),
            ("123456789012.dkr-ecr-fips.us-west-2.on.aws", "us-west-2", "https://ecr-fips.us-west-2.api.aws"),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "us-gov-west-1",
                "https://api.ecr-fips.us-gov-west-1.amazonaws.com",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
                "https://api.ecr.cn-north-1.amazonaws.com.cn",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.on.amazonwebservices.com.cn",
                "cn-north-1",
                "https://ecr.cn-north-1.api.amazonwebservices.com.cn",
            ),
            (
                "123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov",
                "us-iso-east-1",
                "https://api.ecr.us-iso-east-1.c2s.ic.gov",
            ),
            (
                "123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
                "us-isob-east-1",
                "https://api.ecr.us-isob-east-1.sc2s.sgov.gov",
            ),
            (
                "123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk",
                "eu-isoe-west-1",
                "https://api.ecr.eu-isoe-west-1.cloud.adc-e.uk",
            ),
            (
                "123456789012.dkr.ecr.us-isof-east-1.csp.hci.ic.gov",
                "us-isof-east-1",
                "https://api.ecr.us-isof-east-1.csp.hci.ic.gov",
            ),
            (
                "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
                "eusc-de-east-1",
                "https://api.ecr.eusc-de-east-1.amazonaws.eu",
            ),
            ("public.ecr.aws", "us-east-1", "https://api.ecr-public.us-east-1.amazonaws.com"),
            ("ecr-public.aws.com", "us-east-1", "https://ecr-public.us-east-1.api.aws"),
        ] {
            let place = Place::of(registry).expect(registry);
            assert_eq!((place.region.as_str(), place.api.as_str()), (region, api), "{registry}");
            assert_eq!(place.account == "123456789012", !place.is_public(), "{registry}");
        }
    }

    #[test]
    fn names_of_nobody() {
        for registry in [
            "ecr.aws",
            "12345.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901x.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.org",
            "123456789012.dkr.ecr.amazonaws.com",
            "123456789012.ecr.eu-west-1.amazonaws.com",
            "evil.123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        ] {
            assert_eq!(Place::of(registry), None, "{registry}");
        }
    }
}
