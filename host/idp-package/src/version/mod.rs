//! Versions of packages, constraints over them, and the tags that carry them.
//!
//! The language is that of Masterminds semver v3, which Helm, Argo CD and Flux read; the rules are its own tests and what its code
//! answered (`oracle.tsv`). Text in, values out; no I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`Version`] | a strict SemVer version without build metadata |
//! | [`loose`] | what other tools make of a tag that is no strict version |
//! | [`Constraint`] | `^1.2`, `>=1.2 <2`, `1.x \|\| 2.x` |
//! | [`tags`] | what the tags of a repository mean, and which of them do harm |
//! | [`picks`] | which tag Argo CD, Flux, Helm and idp take for a constraint |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod comparator;
mod constraint;
pub mod loose;
pub mod picks;
pub mod tags;

pub use constraint::{Constraint, ConstraintError};

/// `MAJOR.MINOR.PATCH[-prerelease]`, ordered as SemVer says. There is no build metadata: it does not take part in the order, and a
/// tag cannot say `+`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It is not of the form.
    #[error("`{text}` is no version; write MAJOR.MINOR.PATCH, for example 1.4.0 or 1.4.0-rc.1{hint}")]
    NotSemver {
        /// What was given, shortened.
        text: String,
        /// What may have been meant.
        hint: String,
    },
    /// It has a part after `+`.
    #[error(
        "`{0}` has build metadata, which a tag cannot say and which does not order versions; leave the part after + away"
    )]
    Build(String),
}

impl Version {
    /// A release.
    pub fn new(major: u64, minor: u64, patch: u64) -> Self {
        Self(semver::Version::new(major, minor, patch))
    }

    /// With a pre-release; `None` where SemVer does not allow it.
    pub(crate) fn with_pre(major: u64, minor: u64, patch: u64, pre: &str) -> Option<Self> {
        let pre = semver::Prerelease::new(pre).ok()?;
        Some(Self(semver::Version { pre, ..semver::Version::new(major, minor, patch) }))
    }

    /// The least version that says these three numbers: their first pre-release.
    pub(crate) fn first_of(major: u64, minor: u64, patch: u64) -> Self {
        Self::with_pre(major, minor, patch, "0").expect("0 is a pre-release")
    }

    /// The first number.
    pub fn major(&self) -> u64 {
        self.0.major
    }

    /// The second number.
    pub fn minor(&self) -> u64 {
        self.0.minor
    }

    /// The third number.
    pub fn patch(&self) -> u64 {
        self.0.patch
    }

    /// What stands after `-`; empty for a release.
    pub fn pre(&self) -> &str {
        self.0.pre.as_str()
    }

    /// True where something stands after `-`.
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty()
    }

    /// The same three numbers as a release.
    #[must_use]
    pub fn release(&self) -> Self {
        Self::new(self.0.major, self.0.minor, self.0.patch)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let short = || text.chars().take(150).collect::<String>();
        match semver::Version::parse(text) {
            Ok(version) if version.build.is_empty() => Ok(Self(version)),
            Ok(_) => Err(VersionError::Build(short())),
            Err(_) => {
                let hint = match loose::parse(text) {
                    Ok(loose) if text.len() < 150 => format!("; {} may be meant", loose.version),
                    _ => String::new(),
                };
                Err(VersionError::NotSemver { text: short(), hint })
            }
        }
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Version, VersionError};

    #[test]
    fn versions_are_strict() {
        for good in ["1.4.0", "0.0.0", "1.4.0-rc.1", "1.0.0-alpha-2.x", "18446744073709551615.0.0"] {
            assert_eq!(good.parse::<Version>().expect(good).to_string(), good);
        }
        for bad in [
            "",
            "1",
            "1.4",
            "v1.4.0",
            "01.4.0",
            "1.4.0-01",
            "1.4.0-",
            "1.4.0.1",
            " 1.4.0",
            "18446744073709551616.0.0",
        ] {
            assert!(matches!(bad.parse::<Version>(), Err(VersionError::NotSemver { .. })), "{bad}");
        }
        assert!(matches!("1.4.0+b".parse::<Version>(), Err(VersionError::Build(_))));
        let hint = "v1.4".parse::<Version>().expect_err("a v").to_string();
        assert!(hint.ends_with("1.4.0 may be meant"), "{hint}");
    }

    #[test]
    fn order_is_that_of_the_specification() {
        let sorted = [
            "1.0.0-0",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1-0",
            "1.0.1",
        ];
        let versions: Vec<Version> = sorted.iter().map(|text| text.parse().expect(text)).collect();
        assert!(versions.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
