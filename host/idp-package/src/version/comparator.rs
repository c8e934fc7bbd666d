//! One comparison of a constraint, `>=1.2`, as the versions that it lets through.
//!
//! What each operator means where not all three numbers are written is not told by arithmetic: it is what Masterminds semver does.

use std::fmt;

use pubgrub::Ranges;

use super::Version;

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// None, or `=`.
    Same,
    NotSame,
    Above,
    Below,
    AtLeast,
    AtMost,
    Tilde,
    Caret,
}

/// Longest first: the first that stands in front is meant.
pub(super) const OPERATORS: [(&str, Operator); 12] = [
    ("!=", Operator::NotSame),
    (">=", Operator::AtLeast),
    ("=>", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("=<", Operator::AtMost),
    ("~>", Operator::Tilde),
    ("=", Operator::Same),
    (">", Operator::Above),
    ("<", Operator::Below),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
    ("", Operator::Same),
];

/// How many of the three numbers are meant; the others are wildcards or not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// `*`
    Nothing,
    /// `1`, `1.x`
    Major,
    /// `1.2`, `1.2.x`
    Minor,
    /// `1.2.3`
    Patch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comparator {
    pub(super) operator: Operator,
    /// With zeros for what is not written.
    pub(super) version: Version,
    pub(super) precision: Precision,
    /// As it is shown: the operator and the version as written.
    pub(super) text: String,
}

impl Comparator {
    /// Whether it lets a version through; whether pre-releases are looked at is decided by the group.
    pub(super) fn matches(&self, version: &Version) -> bool {
        if let Some(pre) = self.pre_of_a_wildcard() {
            let same = version.major() == self.version.major() && version.minor() == self.version.minor();
            return !(same && version.pre() == pre);
        }
        self.versions(version.is_prerelease()).contains(version)
    }

    /// `!=1.2-alpha` refuses 1.2.0-alpha, 1.2.1-alpha and so on, and nothing else: no range says that.
    fn pre_of_a_wildcard(&self) -> Option<&str> {
        let odd = self.operator == Operator::NotSame
            && self.precision == Precision::Minor
            && self.version.is_prerelease();
        odd.then(|| self.version.pre())
    }

    /// What it lets through, among releases or among pre-releases.
    ///
    /// Exact but for `!=1.2-alpha`, where all pre-releases of 1.2 are left out: what is in the answer always matches.
    pub(super) fn versions(&self, prereleases: bool) -> Ranges<Version> {
        let version = &self.version;
        let from = || Ranges::higher_than(version.clone());
        match (self.operator, self.precision) {
            (Operator::Same, Precision::Patch) => Ranges::singleton(version.clone()),
            (Operator::Same | Operator::Tilde, precision) => {
                let zeros = version.release() == Version::new(0, 0, 0);
                match precision {
                    // Any version for `*`; and `~0.0.0` is meant to be no different.
                    Precision::Nothing => from(),
                    Precision::Patch if zeros => from(),
                    Precision::Major => from().intersection(&before(next_major(version))),
                    Precision::Minor | Precision::Patch => from().intersection(&before(next_minor(version))),
                }
            }
            (Operator::NotSame, Precision::Nothing | Precision::Patch) => {
                Ranges::singleton(version.clone()).complement()
            }
            (Operator::NotSame, Precision::Major) => {
                let first = Ranges::higher_than(Version::first_of(version.major(), 0, 0));
                first.intersection(&before(next_major(version))).complement()
            }
            // Only what has the same pre-release is the same.
            (Operator::NotSame, Precision::Minor) if prereleases != version.is_prerelease() => Ranges::full(),
            (Operator::NotSame, Precision::Minor) => {
                let first = Ranges::higher_than(Version::first_of(version.major(), version.minor(), 0));
                first.intersection(&before(next_minor(version))).complement()
            }
            (Operator::Above, Precision::Nothing | Precision::Patch) => {
                Ranges::strictly_higher_than(version.clone())
            }
            (Operator::Above, Precision::Major) => before(next_major(version)).complement(),
            (Operator::Above, Precision::Minor) => before(next_minor(version)).complement(),
            (Operator::Below, _) => Ranges::strictly_lower_than(version.clone()),
            (Operator::AtLeast, _) => from(),
            (Operator::AtMost, Precision::Patch) => Ranges::lower_than(version.clone()),
            (Operator::AtMost, Precision::Major) => before(next_major(version)),
            // `<=*` is `<=0.0`.
            (Operator::AtMost, Precision::Minor | Precision::Nothing) => before(next_minor(version)),
            (Operator::Caret, precision) => {
                let end = if version.major() > 0 || precision == Precision::Major {
                    next_major(version)
                } else if version.minor() > 0 || precision == Precision::Minor {
                    next_minor(version)
                } else {
                    next_patch(version)
                };
                from().intersection(&before(end))
            }
        }
    }
}

impl fmt::Display for Comparator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Everything below, or everything where there is no such version.
fn before(version: Option<Version>) -> Ranges<Version> {
    version.map_or_else(Ranges::full, Ranges::strictly_lower_than)
}

/// The first version with the next major number; its pre-releases are no longer of this one.
fn next_major(version: &Version) -> Option<Version> {
    Some(Version::first_of(version.major().checked_add(1)?, 0, 0))
}

fn next_minor(version: &Version) -> Option<Version> {
    match version.minor().checked_add(1) {
        Some(minor) => Some(Version::first_of(version.major(), minor, 0)),
        None => next_major(version),
    }
}

fn next_patch(version: &Version) -> Option<Version> {
    match version.patch().checked_add(1) {
        Some(patch) => Some(Version::first_of(version.major(), version.minor(), patch)),
        None => next_minor(version),
    }
}
