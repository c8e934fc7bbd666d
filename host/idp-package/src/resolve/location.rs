//! Where a package is. References are written absolute, or relative to the package that says them; a mirror is asked by rewriting.

use std::fmt;
use std::str::FromStr;

use idp_oci::name::{NameError, Reference, Registry, Repository};
use serde::{Deserialize, Serialize};

/// `oci://registry/repository`: the canonical name, whichever mirror is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Location {
    /// Which registry.
    pub registry: Registry,
    /// Which repository in it.
    pub repository: Repository,
}

/// Why a text is no place of a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A tag or a digest is written where versions are chosen.
    #[error(
        "`{0}` names one version; write the repository alone, and what versions are wanted as the version"
    )]
    Versioned(String),
    /// A relative reference where nothing says relative to what.
    #[error(
        "`{0}` is relative, and nothing says where the package itself is; give its repository, or write oci://registry/repository"
    )]
    NoBase(String),
    /// It leaves the registry.
    #[error("`{reference}` from {base} leaves the registry")]
    Outside {
        /// What was written.
        reference: String,
        /// By whom.
        base: Box<Location>,
    },
}

impl Location {
    /// What a reference means that a package at `base` says: absolute with `oci://`, or beside it with `./` and `../`.
    ///
    /// # Errors
    /// What is wrong with the reference.
    pub fn resolve(reference: &str, base: Option<&Self>) -> Result<Self, LocationError> {
        let short = || reference.chars().take(300).collect::<String>();
        if !(reference.starts_with("./") || reference.starts_with("../")) {
            return reference.parse();
        }
        let Some(base) = base else { return Err(LocationError::NoBase(short())) };
        // `./x` is beside the package, so its own last part is left first.
        let mut parts: Vec<&str> = base.repository.as_str().split('/').collect();
        parts.pop();
        for part in reference.split('/') {
            match part {
                "." => {}
                ".." if parts.pop().is_some() => {}
                ".." => {
                    return Err(LocationError::Outside { reference: short(), base: Box::new(base.clone()) });
                }
                part => parts.push(part),
            }
        }
        Ok(Self { registry: base.registry.clone(), repository: parts.join("/").parse()? })
    }

    /// What is asked instead of it: the longest prefix that matches is replaced.
    #[must_use]
    pub fn rewritten(&self, rewrites: &[Rewrite]) -> Self {
        let whole = self.without_scheme();
        let matching = rewrites.iter().filter_map(|rewrite| {
            let from = bare(&rewrite.from);
            let rest = whole.strip_prefix(from)?;
            (!from.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some((
                from.len(),
                rest,
                rewrite,
            ))
        });
        let Some((_, rest, rewrite)) = matching.max_by_key(|(length, ..)| *length) else {
            return self.clone();
        };
        format!("{}{rest}", bare(&rewrite.to)).parse().unwrap_or_else(|_| self.clone())
    }

    fn without_scheme(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

fn bare(text: &str) -> &str {
    text.strip_prefix("oci://").unwrap_or(text).trim_end_matches('/')
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let reference = Reference::parse(text, None)?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(LocationError::Versioned(text.chars().take(300).collect()));
        }
        Ok(Self { registry: reference.registry, repository: reference.repository })
    }
}

impl TryFrom<String> for Location {
    type Error = LocationError;

    fn try_from(text: String) -> Result<Self, LocationError> {
        text.parse()
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        location.to_string()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.registry, self.repository)
    }
}

/// What is asked at one place is asked at another: `{from: ghcr.io/x, to: registry.local:5000/mirror/x}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rewrite {
    /// The beginning of canonical names; whole parts are compared.
    pub from: String,
    /// What stands there instead.
    pub to: String,
}

#[cfg(test)]
mod tests {
    use super::{Location, LocationError, Rewrite};

    #[test]
    fn references_are_resolved() {
        let base: Location = "oci://r.example/team/pkgs/argo".parse().expect("a location");
        for (reference, expect) in [
            ("./nginx", "oci://r.example/team/pkgs/nginx"),
            ("../nginx", "oci://r.example/team/nginx"),
            ("./x/y", "oci://r.example/team/pkgs/x/y"),
            ("../../nginx", "oci://r.example/nginx"),
            ("oci://other.example:5000/x", "oci://other.example:5000/x"),
        ] {
            assert_eq!(Location::resolve(reference, Some(&base)).expect(reference).to_string(), expect);
        }
        let wrong = |reference: &str, base: Option<&Location>| {
            Location::resolve(reference, base).expect_err(reference)
        };
        assert!(matches!(wrong("../../../../x", Some(&base)), LocationError::Outside { .. }));
        assert!(matches!(wrong("./x", None), LocationError::NoBase(_)));
        assert!(matches!(wrong("oci://r.example/x:1.0.0", None), LocationError::Versioned(_)));
        assert!(matches!(wrong("./", Some(&base)), LocationError::Name(_)));
        assert!(matches!(wrong("./Nginx", Some(&base)), LocationError::Name(_)));
        assert!(matches!(wrong("oci://x", None), LocationError::Name(_)));
    }

    #[test]
    fn the_longest_rewrite_wins_and_parts_are_whole() {
        let rewrite = |from: &str, to: &str| Rewrite { from: from.to_owned(), to: to.to_owned() };
        let rewrites = [
            rewrite("ghcr.io/x", "local.example:5000/mirror/x"),
            rewrite("oci://ghcr.io/x/special/", "oci://special.example/s"),
            rewrite("quay.io", "local.example:5000/quay"),
            rewrite("", "nowhere.example"),
        ];
        for (from, to) in [
            ("ghcr.io/x/cert-manager", "oci://local.example:5000/mirror/x/cert-manager"),
            ("ghcr.io/x/special/a", "oci://special.example/s/a"),
            ("ghcr.io/xy/a", "oci://ghcr.io/xy/a"),
            ("quay.io/a/b", "oci://local.example:5000/quay/a/b"),
            ("r.example/a", "oci://r.example/a"),
        ] {
            let location: Location = from.parse().expect(from);
            assert_eq!(location.rewritten(&rewrites).to_string(), to);
        }
    }
}
