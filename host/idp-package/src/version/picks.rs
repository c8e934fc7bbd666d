//! Which tag of a repository each consumer takes for a constraint, or why it takes none.
//!
//! The rules are those of their code (Argo CD 3.1.7 and 3.5.1 `util/versions`, Flux source-controller 1.9 `getTagBySemver`, Helm 4.2
//! `pkg/registry`), the answers those that they were seen to give.

use serde::Serialize;

use super::loose::{self, LooseError};
use super::tags::Candidate;
use super::{Constraint, Version, tags};

/// What everybody takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Picks {
    /// An Application with this `targetRevision` and an `oci://` source.
    pub argocd: Pick,
    /// An OCIRepository with this `ref.semver`.
    pub flux: Pick,
    /// `helm pull oci://… --version`.
    pub helm: Pick,
    /// A dependency with this constraint.
    pub idp: Pick,
}

/// What one of them takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pick {
    /// This tag.
    Tag(String),
    /// None, and why.
    Fails(String),
}

impl Pick {
    /// The tag, where one is taken.
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Tag(tag) => Some(tag),
            Self::Fails(_) => None,
        }
    }
}

/// What everybody takes of these tags, in the order in which the registry lists them.
pub fn picks(tags: &[String], constraint: &str) -> Picks {
    Picks {
        argocd: or_fails(argocd(tags, constraint)),
        flux: or_fails(flux(tags, constraint)),
        helm: or_fails(helm(tags, constraint)),
        idp: or_fails(idp(tags, constraint)),
    }
}

fn or_fails(pick: Result<String, String>) -> Pick {
    pick.map_or_else(Pick::Fails, Pick::Tag)
}

/// The literal tag first. Then, for a constraint that is no version, every tag with `_` for `+` and read loosely.
fn argocd(tags: &[String], revision: &str) -> Result<String, String> {
    if tags.iter().any(|tag| tag == revision) {
        return Ok(revision.to_owned());
    }
    let constraint: Constraint = revision.parse().map_err(|_| format!("there is no tag `{revision}`"))?;
    if loose::parse(revision).is_ok() {
        return Err(format!(
            "`{revision}` is a version to Argo CD, so the tag of that name is asked for, and there is none"
        ));
    }
    let mut best: Option<(Version, String)> = None;
    for tag in tags {
        let text = tag.replace('_', "+");
        let found = match loose::parse(&text) {
            Ok(found) => found,
            Err(LooseError::NotAVersion) => continue,
            Err(error) => {
                return Err(format!(
                    "{error} (the tag `{tag}`): no constraint works in this repository while it is there"
                ));
            }
        };
        // The first of equals stays.
        if constraint.matches(&found.version) && best.as_ref().is_none_or(|(best, _)| found.version > *best) {
            best = Some((found.version, text));
        }
    }
    match best {
        None => Err(format!("version matching constraint not found in {} tags", tags.len())),
        Some((_, text)) if text.contains('+') => Err(format!(
            "the tag `{}` wins and is then asked for as `{text}`, which is no tag",
            text.replace('+', "_")
        )),
        Some((_, text)) => Ok(text),
    }
}

/// Strict versions, a `v` in front allowed.
fn flux(tags: &[String], expression: &str) -> Result<String, String> {
    let constraint: Constraint =
        expression.parse().map_err(|error| format!("semver parse error: {error}"))?;
    let strict = tags.iter().filter_map(|tag| {
        let version: Version = tag.strip_prefix('v').unwrap_or(tag).parse().ok()?;
        constraint.matches(&version).then_some((version, tag))
    });
    first_highest(strict).cloned().ok_or_else(|| format!("no match found for semver: {expression}"))
}

/// A version is the tag of that name. Otherwise strict versions without a `v`, with `_` for `+`.
fn helm(tags: &[String], text: &str) -> Result<String, String> {
    if loose::parse(text).is_ok() {
        let tag = text.replace('+', "_");
        return if tags.contains(&tag) {
            Ok(tag)
        } else {
            Err(format!(
                "`{text}` is a version to Helm, so the tag of that name is asked for, and there is none"
            ))
        };
    }
    let strict: Vec<(Version, &String)> = tags
        .iter()
        .filter_map(|tag| {
            let strict = semver::Version::parse(&tag.replace('_', "+")).ok()?;
            Some((semver::Version { build: semver::BuildMetadata::EMPTY, ..strict }, tag))
        })
        .filter_map(|(version, tag)| Some((version.to_string().parse().ok()?, tag)))
        .collect();
    if strict.is_empty() {
        return Err("unable to locate any tags in provided repository".to_owned());
    }
    let text = if text.is_empty() { "*" } else { text };
    let constraint: Constraint = text.parse().map_err(|error| format!("{error}"))?;
    let matching = strict.into_iter().filter(|(version, _)| constraint.matches(version));
    first_highest(matching)
        .cloned()
        .ok_or_else(|| format!("could not locate a version matching provided version string {text}"))
}

/// Canonical versions, releases before pre-releases.
fn idp(tags: &[String], text: &str) -> Result<String, String> {
    let constraint: Constraint = text.parse().map_err(|error| format!("{error}"))?;
    let candidates = tags::candidates(tags);
    let matching: Vec<&Candidate> =
        candidates.iter().filter(|candidate| constraint.matches(&candidate.version)).collect();
    let best = matching.iter().rev().find(|candidate| !candidate.version.is_prerelease()).or(matching.last());
    match best {
        Some(best) => Ok(best.tags[0].clone()),
        None => Err(format!("none of {} versions matches {constraint}", candidates.len())),
    }
}

fn first_highest<'a>(found: impl Iterator<Item = (Version, &'a String)>) -> Option<&'a String> {
    let mut best: Option<(Version, &String)> = None;
    for (version, tag) in found {
        if best.as_ref().is_none_or(|(best, _)| version > *best) {
            best = Some((version, tag));
        }
    }
    best.map(|(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::{Pick, picks};

    fn all(tags: &[&str], constraint: &str) -> [Pick; 4] {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let picks = picks(&tags, constraint);
        [picks.argocd, picks.flux, picks.helm, picks.idp]
    }

    fn tags(tags: &[&str], constraint: &str) -> [Option<String>; 4] {
        all(tags, constraint).map(|pick| pick.tag().map(str::to_owned))
    }

    fn some(tags: [&str; 4]) -> [Option<String>; 4] {
        tags.map(|tag| (!tag.is_empty()).then(|| tag.to_owned()))
    }

    /// The table of what Argo CD 3.1.7 and 3.5.1 were seen to do.
    #[test]
    fn argocd_as_it_was_seen() {
        let build = ["1.1.0", "1.2.0-rc.1", "1.2.0_build.5", "2.0.0", "v1.1.5"];
        assert_eq!(tags(&build, "1.x"), some(["", "v1.1.5", "1.2.0_build.5", "v1.1.5"]));
        let [argocd, ..] = all(&build, "1.x");
        assert!(matches!(&argocd, Pick::Fails(why) if why.contains("`1.2.0+build.5`")), "{argocd:?}");

        let poison = ["1.0.0", "1.0.0-01", "1.1.0"];
        for constraint in ["1.x", "*", ">=7"] {
            let [argocd, ..] = all(&poison, constraint);
            assert!(
                matches!(&argocd, Pick::Fails(why) if why.starts_with("version segment starts with 0")),
                "{argocd:?}"
            );
        }
        assert_eq!(tags(&poison, "1.x"), some(["", "1.1.0", "1.1.0", "1.1.0"]));
        let [argocd, ..] = all(&["1.0.0", "99999999999999999999.0.0"], "1.x");
        assert!(matches!(&argocd, Pick::Fails(why) if why.starts_with("value out of range")), "{argocd:?}");

        let mixed = ["1.0.0", "1.1.0", "1.2", "20250101", "latest", "v1.3.0"];
        assert_eq!(tags(&mixed, "*"), some(["20250101", "v1.3.0", "1.1.0", "v1.3.0"]));
        assert_eq!(tags(&mixed, ">=1.0.0"), some(["20250101", "v1.3.0", "1.1.0", "v1.3.0"]));
        assert_eq!(tags(&mixed, "1.x"), some(["v1.3.0", "v1.3.0", "1.1.0", "v1.3.0"]));
        assert_eq!(tags(&mixed, "~1.2.0"), some(["1.2", "", "", ""]));

        let hex = format!("sha256-{}", "a".repeat(64));
        assert_eq!(tags(&["1.0.0", &hex], "*"), some(["1.0.0"; 4]));
    }

    #[test]
    fn what_reads_as_a_version_is_a_tag_to_some() {
        assert_eq!(tags(&["1.2.0", "1.2.7"], "1.2"), some(["", "1.2.7", "", "1.2.7"]));
        assert_eq!(tags(&["1.2", "1.2.7"], "1.2"), some(["1.2", "1.2.7", "1.2", "1.2.7"]));
        assert_eq!(tags(&["latest", "1.2.7"], "latest"), some(["latest", "", "", ""]));
        assert_eq!(tags(&["1.2.0_b"], "1.2.0+b"), some(["", "", "1.2.0_b", ""]));
        assert_eq!(tags(&[], "*"), some([""; 4]));
        assert_eq!(tags(&["1.0.0"], "nonsense"), some([""; 4]));
    }

    #[test]
    fn releases_come_before_prereleases_for_idp_only() {
        let both = ["1.0.0", "1.1.0-rc.1"];
        assert_eq!(tags(&both, ">=1.0.0-0"), some(["1.1.0-rc.1", "1.1.0-rc.1", "1.1.0-rc.1", "1.0.0"]));
        assert_eq!(tags(&["1.1.0-rc.1"], ">=1.0.0-0"), some(["1.1.0-rc.1"; 4]));
    }
}
