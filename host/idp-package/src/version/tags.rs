//! What the tags of a repository mean: which are versions of a package, and which make other tools choose wrongly or fail.

use std::collections::BTreeMap;

use serde::Serialize;

use super::loose::{self, LooseError};
use super::{Version, VersionError};

/// A version that a repository has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The version.
    pub version: Version,
    /// The tags that say it: `1.0.0`, `v1.0.0`, or both with the bare one first.
    pub tags: Vec<String>,
}

/// The versions among tags, lowest first: strict SemVer without build metadata, a `v` in front allowed.
pub fn candidates(tags: &[String]) -> Vec<Candidate> {
    let mut found: BTreeMap<Version, Vec<String>> = BTreeMap::new();
    for tag in tags {
        if let Some(version) = canonical(tag) {
            found.entry(version).or_default().push(tag.clone());
        }
    }
    let sorted = |mut tags: Vec<String>| {
        tags.sort();
        tags.dedup();
        tags
    };
    found.into_iter().map(|(version, tags)| Candidate { version, tags: sorted(tags) }).collect()
}

fn canonical(tag: &str) -> Option<Version> {
    tag.strip_prefix('v').unwrap_or(tag).parse().ok()
}

/// How much a tag matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    /// Something fails while it is there.
    Breaks,
    /// Somebody chooses it who should not.
    Misleads,
    /// Worth knowing, no more.
    None,
}

/// What kind of tag it is, beyond a canonical version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TagKind {
    /// Argo CD fails on every constraint while it is there.
    Poison,
    /// `1.2.0_build.5`: build metadata in a tag.
    BuildMetadata,
    /// `v1.0.0` beside `1.0.0`.
    Duplicate,
    /// `1`, `1.2`: fewer than three numbers, so it is moved from version to version.
    Floating,
    /// A date or a long number that is read as a huge version.
    DateLike,
    /// Capitals in a version: some registries lower them.
    Capitals,
    /// A number beyond what all tools hold.
    LargeNumber,
    /// `01.2.3`: a version only to who reads loosely.
    Loose,
    /// `v1.0.0`, which Helm does not see.
    Prefixed,
    /// `latest`, `stable`: a name that is moved.
    Moving,
    /// `sha256-…`: signatures and other referrers.
    Referrers,
}

/// What is to be said about a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TagFinding {
    /// The tag.
    pub tag: String,
    /// What it is.
    pub kind: TagKind,
    /// How much it matters.
    pub harm: Harm,
    /// What it does.
    pub explanation: String,
    /// What to do about it.
    pub advice: String,
}

/// What is to be said about the tags of a repository, the worst first. Canonical versions get no finding.
pub fn diagnose(tags: &[String]) -> Vec<TagFinding> {
    let mut found: Vec<TagFinding> = tags.iter().filter_map(|tag| finding(tag, tags)).collect();
    found.sort_by(|a, b| (a.harm, a.kind, &a.tag).cmp(&(b.harm, b.kind, &b.tag)));
    found.dedup();
    found
}

fn finding(tag: &str, tags: &[String]) -> Option<TagFinding> {
    let (kind, harm, explanation, advice) = judge(tag, tags)?;
    Some(TagFinding { tag: tag.to_owned(), kind, harm, explanation, advice })
}

type Judged = (TagKind, Harm, String, String);

fn judge(tag: &str, tags: &[String]) -> Option<Judged> {
    let said = |kind, harm, explanation: &str, advice: &str| {
        Some((kind, harm, explanation.to_owned(), advice.to_owned()))
    };
    if is_referrers(tag) {
        return said(
            TagKind::Referrers,
            Harm::None,
            "holds signatures or other referrers of a manifest; no tool takes it for a version",
            "leave it; deleting it deletes what refers to the manifest",
        );
    }
    // Argo CD reads every tag with `_` for `+`.
    let loose = match loose::parse(&tag.replace('_', "+")) {
        Ok(loose) => loose,
        Err(LooseError::NotAVersion) => {
            let moving =
                ["latest", "stable", "edge", "nightly", "main", "master", "dev", "beta", "alpha", "canary"];
            if !moving.contains(&tag.to_ascii_lowercase().as_str()) {
                return None;
            }
            return said(
                TagKind::Moving,
                Harm::None,
                "names whatever was pushed last; no constraint chooses it, and Flux takes `latest` where nothing is asked for",
                "deploy versions or digests, not this tag",
            );
        }
        Err(error) => {
            let why = match error {
                LooseError::LeadingZero => "a number of its pre-release is written with a 0 in front",
                _ => "one of its numbers has no room in 64 bits",
            };
            let explanation = format!(
                "{why}: Argo CD fails on every version constraint in this repository while the tag is there ({error})"
            );
            return Some((
                TagKind::Poison,
                Harm::Breaks,
                explanation,
                "delete the tag, and push the content again under MAJOR.MINOR.PATCH if it is needed"
                    .to_owned(),
            ));
        }
    };
    let version = &loose.version;
    if !loose.build.is_empty() {
        return said(
            TagKind::BuildMetadata,
            Harm::Breaks,
            "stands for build metadata: where it is the highest match, Argo CD asks for it with `+` and fails; Flux and idp do not see it",
            "push the same content as a version of its own, without build metadata, and delete this tag",
        );
    }
    if looks_like_a_date(version, &loose) {
        let explanation = format!(
            "is read as version {version}, higher than real versions: Argo CD takes it for `*` and `>=…`"
        );
        return Some((
            TagKind::DateLike,
            Harm::Misleads,
            explanation,
            "keep dates and revisions out of this repository's tags, or put letters in front: build-20250101"
                .to_owned(),
        ));
    }
    if loose.numbers < 3 {
        let explanation = format!(
            "is moved from version to version and read as {version}: Argo CD takes it for `~{version}`, Flux and Helm do not see it"
        );
        return Some((
            TagKind::Floating,
            Harm::Misleads,
            explanation,
            "delete it and let consumers write constraints, or let them ask for exactly this tag".to_owned(),
        ));
    }
    let largest = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
    if [version.major(), version.minor(), version.patch()].iter().any(|number| *number > largest) {
        return said(
            TagKind::LargeNumber,
            Harm::Misleads,
            "has a number that does not fit into 63 bits, which not all tools hold",
            "delete the tag, and push the content under an ordinary version",
        );
    }
    let bare = tag.strip_prefix('v').unwrap_or(tag);
    match bare.parse::<Version>() {
        Err(VersionError::NotSemver { .. } | VersionError::Build(_)) => {
            let explanation =
                format!("is read as {version} by Argo CD alone, because its numbers have zeros in front");
            Some((
                TagKind::Loose,
                Harm::Misleads,
                explanation,
                format!("push the content as {version} and delete this tag"),
            ))
        }
        Ok(_) if loose.prefixed && tags.iter().any(|other| other == bare) => {
            let explanation = format!(
                "says the same version as `{bare}`: which of the two is taken differs from tool to tool, and idp refuses the version if their content differs"
            );
            Some((
                TagKind::Duplicate,
                Harm::Misleads,
                explanation,
                format!("delete one of `{bare}` and `{tag}`"),
            ))
        }
        Ok(_) if bare.bytes().any(|byte| byte.is_ascii_uppercase()) => said(
            TagKind::Capitals,
            Harm::Misleads,
            "has capitals: some registries lower them, and then it is another version",
            "push pre-releases in lower case: 1.0.0-rc.1",
        ),
        Ok(_) if loose.prefixed => said(
            TagKind::Prefixed,
            Harm::None,
            "has a v in front: Helm does not see it, the others do",
            "push versions without a v",
        ),
        Ok(_) => None,
    }
}

/// `sha256-<hex>`, with cosign's `.sig`, `.att` and `.sbom` or without.
fn is_referrers(tag: &str) -> bool {
    let hex = |text: &str, length: usize| {
        text.get(..length).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            && matches!(text.get(length..), Some("" | ".sig" | ".att" | ".sbom"))
    };
    tag.strip_prefix("sha256-").is_some_and(|rest| hex(rest, 64))
        || tag.strip_prefix("sha512-").is_some_and(|rest| hex(rest, 64) || hex(rest, 128))
}

/// `20250101`, `2025-01-02`, `2025.1`: what begins with a year of our time, or with a number as long as a date.
///
/// `2025.1.0` may be a real version of who counts by years, and is not meant.
fn looks_like_a_date(version: &Version, loose: &loose::Loose) -> bool {
    let long = version.major() >= 1_000_000;
    let year = (1990..2100).contains(&version.major());
    long || (year && loose.numbers < 3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Harm, TagKind, candidates, diagnose};
    use crate::version::picks::{Pick, picks};

    fn owned(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    #[test]
    fn every_kind_is_told() {
        let hex = "a".repeat(64);
        let signature = format!("sha256-{hex}.sig");
        let referrers = format!("sha256-{hex}");
        let all = [
            ("1.0.0-01", Some((TagKind::Poison, Harm::Breaks))),
            ("2025-01", Some((TagKind::Poison, Harm::Breaks))),
            ("99999999999999999999.0.0", Some((TagKind::Poison, Harm::Breaks))),
            ("1.2.0_build.5", Some((TagKind::BuildMetadata, Harm::Breaks))),
            ("v1.0.0", Some((TagKind::Duplicate, Harm::Misleads))),
            ("1", Some((TagKind::Floating, Harm::Misleads))),
            ("v1.2", Some((TagKind::Floating, Harm::Misleads))),
            ("20250101", Some((TagKind::DateLike, Harm::Misleads))),
            ("2025-10-12", Some((TagKind::DateLike, Harm::Misleads))),
            ("2025.10", Some((TagKind::DateLike, Harm::Misleads))),
            ("1.0.0-RC.1", Some((TagKind::Capitals, Harm::Misleads))),
            ("9223372036854775808.0.0", Some((TagKind::DateLike, Harm::Misleads))),
            ("1.9223372036854775808.0", Some((TagKind::LargeNumber, Harm::Misleads))),
            ("01.2.3", Some((TagKind::Loose, Harm::Misleads))),
            ("v3.0.0", Some((TagKind::Prefixed, Harm::None))),
            ("latest", Some((TagKind::Moving, Harm::None))),
            (&referrers, Some((TagKind::Referrers, Harm::None))),
            (&signature, Some((TagKind::Referrers, Harm::None))),
            ("1.0.0", None),
            ("1.0.0-rc.1", None),
            ("2025.1.0", None),
            ("feature-x", None),
            ("channel-stable", None),
            ("sha256-abc", None),
        ];
        let tags = owned(&all.map(|(tag, _)| tag));
        let found = diagnose(&tags);
        for (tag, expect) in all {
            let got: Vec<_> = found
                .iter()
                .filter(|finding| finding.tag == tag)
                .map(|finding| (finding.kind, finding.harm))
                .collect();
            assert_eq!(got, Vec::from_iter(expect), "{tag}");
        }
        assert!(found.windows(2).all(|pair| pair[0].harm <= pair[1].harm));
        assert!(found.iter().all(|finding| !finding.explanation.is_empty() && !finding.advice.is_empty()));
    }

    #[test]
    fn candidates_are_canonical_and_sorted() {
        let tags = owned(&[
            "v1.0.0",
            "1.10.0",
            "1.9.0",
            "1.0.0",
            "latest",
            "1.2",
            "1.0.0_b",
            "1.10.0-rc.1",
            "1.0.0-01",
        ]);
        let found = candidates(&tags);
        let versions: Vec<_> = found.iter().map(|candidate| candidate.version.to_string()).collect();
        assert_eq!(versions, ["1.0.0", "1.9.0", "1.10.0-rc.1", "1.10.0"]);
        assert_eq!(found[0].tags, ["1.0.0", "v1.0.0"]);
    }

    fn tag() -> impl Strategy<Value = String> {
        prop_oneof![
            "v?[0-9]{1,2}(\\.[0-9]{1,2}){0,3}(-(rc\\.)?[0-9a-zA-Z]{1,3})?(_[a-z0-9]{1,2})?",
            "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}",
            "[0-9]{1,25}",
        ]
    }

    proptest! {
        /// Whatever breaks Argo CD is told, and nothing else is said to.
        #[test]
        fn poison_is_what_breaks_argocd(tags in prop::collection::vec(tag(), 1..6)) {
            let told = diagnose(&tags).iter().any(|finding| finding.kind == TagKind::Poison);
            let broken = matches!(picks(&tags, ">=0.0.0-0, *").argocd, Pick::Fails(why) if why.contains("no constraint works"));
            prop_assert_eq!(told, broken);
        }

        /// Where nothing is told, all tools see the same versions.
        #[test]
        fn without_findings_all_agree(tags in prop::collection::vec(tag(), 1..6)) {
            let harmless: Vec<String> = diagnose(&tags).iter().map(|finding| finding.tag.clone()).collect();
            let clean: Vec<String> = tags.into_iter().filter(|tag| !harmless.contains(tag)).collect();
            let picks = picks(&clean, "*");
            prop_assert_eq!(picks.argocd.tag(), picks.flux.tag());
            prop_assert_eq!(picks.flux.tag(), picks.helm.tag());
            prop_assert_eq!(picks.helm.tag(), picks.idp.tag());
        }
    }
}
