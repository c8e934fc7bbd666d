//! What the solver chooses between, and sets of it.

use std::fmt;

use pubgrub::Ranges;

use crate::version::{Constraint, Version};

/// A set of choices.
pub(super) type Choices = Ranges<Choice>;

/// What is decided about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Unit {
    /// What is being resolved.
    Root,
    /// Which version of Kubernetes the cluster has.
    Kubernetes,
    /// Which version of a package, taken from one of the places where packages of the name are.
    Package {
        /// Its name.
        name: String,
        /// Which place, an index.
        source: u32,
    },
    /// Which place a package is taken from: a cluster has one package a name. Only where more than one is named.
    Source(String),
    /// Whether a package is there, and which of the conflicts that others have with it would hold. Only where there are conflicts.
    Presence(String),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Kubernetes => f.write_str("Kubernetes"),
            Self::Package { name, source } => write!(f, "{name}@{source}"),
            Self::Source(name) => write!(f, "source of {name}"),
            Self::Presence(name) => write!(f, "presence of {name}"),
        }
    }
}

/// One of the things that can be chosen. Releases and pre-releases are two lines, one after the other: a constraint lets through a
/// range of each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Choice {
    /// Not there.
    Absent,
    /// One of a list.
    Of(u32),
    /// A release.
    Release(Version),
    /// A pre-release.
    Prerelease(Version),
}

impl Choice {
    pub(super) fn version(version: Version) -> Self {
        if version.is_prerelease() { Self::Prerelease(version) } else { Self::Release(version) }
    }

    pub(super) fn as_version(&self) -> Option<&Version> {
        match self {
            Self::Release(version) | Self::Prerelease(version) => Some(version),
            Self::Absent | Self::Of(_) => None,
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Of(index) => write!(f, "#{index}"),
            Self::Release(version) | Self::Prerelease(version) => version.fmt(f),
        }
    }
}

/// The choices of versions that a constraint lets through.
pub(super) fn allowed(constraint: &Constraint) -> Choices {
    // The lines begin with the least version of all. The upper one ends with the order.
    let least = || Version::first_of(0, 0, 0);
    let releases = Ranges::between(Choice::Release(least()), Choice::Prerelease(least()));
    let prereleases = Ranges::higher_than(Choice::Prerelease(least()));
    let releases = line(&constraint.versions(false), Choice::Release).intersection(&releases);
    releases.union(&line(&constraint.versions(true), Choice::Prerelease).intersection(&prereleases))
}

fn line(versions: &Ranges<Version>, choice: fn(Version) -> Choice) -> Choices {
    versions.iter().fold(Ranges::empty(), |all, (from, to)| {
        let bounds = (from.clone().map(choice), to.clone().map(choice));
        all.union(&Ranges::from_range_bounds::<_, Choice>(bounds))
    })
}

#[cfg(test)]
mod tests {
    use pubgrub::Ranges;

    use super::{Choice, allowed};
    use crate::version::{Constraint, Version};

    #[test]
    fn a_constraint_as_choices_is_the_constraint() {
        let versions: Vec<Version> =
            ["0.0.0-0", "0.0.0", "1.0.0-rc.1", "1.0.0", "1.5.0-a", "1.5.0", "2.0.0-a", "2.0.0"]
                .map(|text| text.parse().expect(text))
                .to_vec();
        for text in [
            "*",
            "*-0",
            "^1",
            "^1.0.0-0",
            ">1",
            "<1.5 || >=2.0.0-0",
            "!=1.5.0",
            "<0",
            "<0-z",
            "=1.5.0-a",
            "1 - 2",
        ] {
            let constraint: Constraint = text.parse().expect(text);
            let choices = allowed(&constraint);
            for version in &versions {
                let got = choices.contains(&Choice::version(version.clone()));
                assert_eq!(got, constraint.matches(version), "{text} {version}");
            }
            assert!(!choices.contains(&Choice::Absent) && !choices.contains(&Choice::Of(u32::MAX)), "{text}");
        }
        // Everything is everything but what is no version.
        let all = allowed(&"*-0".parse().expect("a constraint"));
        assert_eq!(
            all,
            Ranges::strictly_lower_than(Choice::Release(Version::first_of(0, 0, 0))).complement()
        );
    }
}
