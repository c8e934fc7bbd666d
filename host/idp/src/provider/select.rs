//! Which provider speaks for a registry. Pure: manifests, names and one answer in, a choice with its evidence out.
//! Order: the command line, the registry's configuration, host patterns, an earlier detection, fingerprints and `identify`, generic.

use std::fmt;
use std::sync::Arc;

use idp_oci::client::dialect::{Answer, Challenge};
use idp_oci::name::Registry;
use url::Url;

use super::builtin::GENERIC;
use super::challenge;
use super::manifest::{Fingerprint, Manifest};
use super::pattern::Captures;

/// From here on a provider is taken for the registry's.
pub const CERTAIN_ENOUGH: u8 = 50;

/// Why a provider was chosen, or passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// `--provider`.
    Flag(String),
    /// `registries.yaml`.
    Configured(String),
    /// A host pattern of its manifest.
    Host {
        /// Name of the provider.
        provider: String,
        /// The pattern.
        pattern: String,
    },
    /// A third party's pattern that matched a host of a built-in provider, or was not to be looked at.
    Overruled {
        /// Name of the provider.
        provider: String,
        /// The pattern.
        pattern: String,
    },
    /// An earlier detection.
    Detected {
        /// Name of the provider.
        provider: String,
        /// Seconds ago.
        age: u64,
    },
    /// No answer to `GET /v2/`.
    NoAnswer,
    /// The answer to `GET /v2/` looks like it.
    Fingerprint {
        /// Name of the provider.
        provider: String,
        /// What matched.
        matched: String,
        /// 0 to 100.
        certainty: u8,
    },
    /// What `identify` said.
    Identified {
        /// Name of the provider.
        provider: String,
        /// 0 to 100.
        certainty: u8,
        /// Product and version.
        product: String,
    },
    /// `identify` could not say.
    IdentifyFailed {
        /// Name of the provider.
        provider: String,
        /// Why.
        why: String,
    },
    /// Nothing else fits.
    Generic,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(provider) => write!(f, "--provider says {provider}"),
            Self::Configured(provider) => write!(f, "the registry's configuration says {provider}"),
            Self::Host { provider, pattern } => write!(f, "the host matches {pattern} of {provider}"),
            Self::Overruled { provider, pattern } => write!(
                f,
                "{pattern} of {provider} matches too, and needs a rule in registries.yaml to win over a built-in provider"
            ),
            Self::Detected { provider, age } => write!(f, "detected as {provider} {} min ago", age / 60),
            Self::NoAnswer => f.write_str("GET /v2/ had no answer to go by"),
            Self::Fingerprint { provider, matched, certainty } => {
                write!(f, "the answer to GET /v2/ looks like {provider} ({matched}; {certainty} %)")
            }
            Self::Identified { provider, certainty, product } => {
                write!(f, "{provider} says: {product} ({certainty} %)")
            }
            Self::IdentifyFailed { provider, why } => write!(f, "{provider} could not say: {why}"),
            Self::Generic => f.write_str("nothing else fits: the generic provider"),
        }
    }
}

/// A provider that may be chosen.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) built_in: bool,
}

/// The captured parts of a registry's name, by the first pattern of a manifest that matches.
pub(crate) fn captures(manifest: &Manifest, registry: &Registry) -> Option<(String, Captures)> {
    manifest.host.iter().find_map(|rule| {
        let captures = rule.pattern.matches(registry.as_str())?;
        Some((rule.pattern.to_string(), captures))
    })
}

/// The candidate whose host pattern matches. A built-in provider's host is taken over by no pattern of a third party.
pub(crate) fn by_host(candidates: &[Candidate], registry: &Registry) -> (Option<usize>, Vec<Evidence>) {
    let mut chosen: Option<usize> = None;
    let mut evidence = Vec::new();
    let ours_first = [true, false].into_iter().flat_map(|built_in| {
        candidates.iter().enumerate().filter(move |(_, candidate)| candidate.built_in == built_in)
    });
    for (index, candidate) in ours_first {
        let Some((pattern, _)) = captures(&candidate.manifest, registry) else { continue };
        let provider = candidate.manifest.name.clone();
        if chosen.is_none() {
            chosen = Some(index);
            evidence.push(Evidence::Host { provider, pattern });
        } else if !candidate.built_in {
            evidence.push(Evidence::Overruled { provider, pattern });
        }
    }
    (chosen, evidence)
}

/// The candidates whose fingerprints match an answer, the most certain first. Built-in ones come before all others: how certain a
/// third party calls itself must not bring it the credentials of a registry that idp knows.
pub(crate) fn by_answer(candidates: &[Candidate], answer: &Answer) -> Vec<(usize, Evidence, u8)> {
    let values = answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
    let challenges = challenge::parse(values.map(|(_, value)| value.as_str()));
    let mut found: Vec<(usize, Evidence, u8)> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.manifest.name != GENERIC || !candidate.built_in)
        .filter_map(|(index, candidate)| {
            let best = candidate
                .manifest
                .fingerprint
                .iter()
                .filter_map(|fingerprint| {
                    Some((matched(fingerprint, answer, &challenges)?, fingerprint.certainty))
                })
                .max_by_key(|(_, certainty)| *certainty)?;
            let (matched, certainty) = best;
            let provider = candidate.manifest.name.clone();
            Some((index, Evidence::Fingerprint { provider, matched, certainty }, certainty))
        })
        .collect();
    found.sort_by_key(|(index, _, certainty)| {
        (!candidates[*index].built_in, std::cmp::Reverse(*certainty), *index)
    });
    found
}

/// What of a fingerprint matched; `None` unless all of it does.
fn matched(fingerprint: &Fingerprint, answer: &Answer, challenges: &[Challenge]) -> Option<String> {
    let mut matched = Vec::new();
    if let Some(header) = &fingerprint.header {
        answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(header))?;
        matched.push(format!("header {header}"));
    }
    let wants_challenge =
        fingerprint.scheme.is_some() || fingerprint.service.is_some() || fingerprint.realm_path.is_some();
    if wants_challenge {
        // All keys must fit the same challenge.
        let challenge =
            challenges.iter().find(|challenge| {
                let scheme = fingerprint
                    .scheme
                    .as_deref()
                    .is_none_or(|scheme| scheme.eq_ignore_ascii_case(&challenge.scheme));
                let service = fingerprint.service.as_deref().is_none_or(|service| {
                    challenge.param("service").is_some_and(|value| glob(service, value))
                });
                let realm = fingerprint.realm_path.as_deref().is_none_or(|path| {
                    challenge.param("realm").is_some_and(|realm| glob(path, &path_of(realm)))
                });
                scheme && service && realm
            })?;
        matched.push(format!("{} challenge", challenge.scheme));
        if let Some(service) = &fingerprint.service {
            matched.push(format!("service {service}"));
        }
        if let Some(path) = &fingerprint.realm_path {
            matched.push(format!("realm {path}"));
        }
    }
    (!matched.is_empty()).then(|| matched.join(", "))
}

fn path_of(realm: &str) -> String {
    Url::parse(realm).map_or_else(|_| realm.to_owned(), |url| url.path().to_owned())
}

/// Exact, or with one `*` at an end.
fn glob(pattern: &str, text: &str) -> bool {
    if let Some(prefix) = pattern.strip_suffix('*') {
        text.starts_with(prefix)
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        text.ends_with(suffix)
    } else {
        pattern == text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use idp_oci::client::dialect::Answer;

    use super::{Candidate, Evidence, by_answer, by_host};
    use crate::provider::manifest::Manifest;

    fn candidate(name: &str, built_in: bool, rest: &str) -> Candidate {
        let text = format!("schema = 1\ncontract = \"0.1\"\nname = \"{name}\"\nversion = \"1\"\n{rest}");
        Candidate { manifest: Arc::new(Manifest::parse(&text).expect(name)), built_in }
    }

    fn answer(headers: &[(&str, &str)]) -> Answer {
        Answer {
            method: "GET".to_owned(),
            url: "https://r.example/v2/".to_owned(),
            status: 401,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: String::new(),
        }
    }

    fn candidates() -> Vec<Candidate> {
        vec![
            candidate(
                "theirs",
                false,
                "[[host]]\npattern = \"*.dkr.example.com\"\n[[host]]\npattern = \"*.corp.example\"\n",
            ),
            candidate("generic", true, ""),
            candidate("ecr", true, "[[host]]\npattern = \"{account}.dkr.example.com\"\n"),
            candidate(
                "gitea",
                true,
                "[[fingerprint]]\nscheme = \"bearer\"\nservice = \"container_registry\"\nrealm-path = \"*/v2/token\"\ncertainty = 60\n",
            ),
            candidate(
                "noisy",
                false,
                "[[fingerprint]]\nscheme = \"bearer\"\ncertainty = 60\n[[fingerprint]]\nheader = \"x-noisy\"\ncertainty = 90\n",
            ),
        ]
    }

    #[test]
    fn hosts_decide_and_third_parties_take_none_over() {
        let candidates = candidates();
        for (registry, expect, overruled) in [
            ("1.dkr.example.com", Some(2), true),
            ("a.corp.example", Some(0), false),
            ("r.example", None, false),
        ] {
            let (chosen, evidence) = by_host(&candidates, &registry.parse().expect(registry));
            assert_eq!(chosen, expect, "{registry}");
            assert_eq!(
                evidence.iter().any(|e| matches!(e, Evidence::Overruled { .. })),
                overruled,
                "{registry}"
            );
        }
    }

    #[test]
    fn fingerprints() {
        let candidates = candidates();
        let gitea = "Bearer realm=\"https://r.example/v2/token\",service=\"container_registry\",scope=\"*\"";
        let both = format!("Basic realm=\"x\", {gitea}");
        for (headers, expect) in [
            (vec![("www-authenticate", gitea)], vec![3, 4]),
            (vec![("WWW-Authenticate", gitea), ("X-Noisy", "")], vec![3, 4]),
            (vec![("www-authenticate", "Basic realm=\"x\"")], vec![]),
            (
                vec![(
                    "www-authenticate",
                    "Bearer realm=\"https://r.example/other\",service=\"container_registry\"",
                )],
                vec![4],
            ),
            (vec![("www-authenticate", "Basic realm=x"), ("www-authenticate", gitea)], vec![3, 4]),
            (vec![("www-authenticate", both.as_str())], vec![3, 4]),
            (vec![("www-authenticate", "Bearer realm=\"unclosed")], vec![4]),
            (vec![], vec![]),
        ] {
            let found: Vec<usize> =
                by_answer(&candidates, &answer(&headers)).into_iter().map(|found| found.0).collect();
            assert_eq!(found, expect, "{headers:?}");
        }
    }
}
