//! Scopes of tokens: what a challenge asks for, what a token service grants, what a token holds (distribution, "Token Scope
//! Documentation"). No I/O; what is no scope is nothing, and no error.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::server::access::{Action, Need};

const REPOSITORY: &str = "repository";
const REGISTRY: &str = "registry";
const CATALOGUE: &str = "catalog";
const EVERYTHING: &str = "*";

/// `type:name:actions`; as it stands in the `access` claim of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// `repository`, or `registry` for the catalogue.
    #[serde(rename = "type")]
    pub kind: String,
    /// The repository, or `catalog`.
    pub name: String,
    /// `pull`, `push`, `delete`, `*`.
    #[serde(default)]
    pub actions: Vec<String>,
}

impl Scope {
    /// Reads one. A name may hold a colon (a port): the type ends at the first, the actions begin at the last. A class
    /// (`repository(plugin)`) is dropped, as it means nothing here.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let kind = kind.split_once('(').map_or(kind, |(kind, _)| kind);
        if kind.is_empty() || name.is_empty() {
            return None;
        }
        let mut actions: Vec<String> =
            actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
        actions.sort();
        actions.dedup();
        Some(Self { kind: kind.to_owned(), name: name.to_owned(), actions })
    }

    /// What a token has to be for so that its bearer may do this; `None` where any token will do, or none can.
    pub(crate) fn of(need: Need<'_>) -> Option<Self> {
        let (kind, name, actions): (_, _, &[&str]) = match need {
            Need::Registry | Need::AnyRepository(_) => return None,
            Need::Catalogue => (REGISTRY, CATALOGUE, &[EVERYTHING]),
            Need::Repository(repository, action) => {
                let actions: &[&str] = match action {
                    Action::Pull => &["pull"],
                    Action::Push => &["pull", "push"],
                    Action::Delete => &["delete"],
                };
                (REPOSITORY, repository.as_str(), actions)
            }
        };
        Some(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        })
    }

    /// The repository's name, of a scope that is about one.
    pub(crate) fn repository(&self) -> Option<&str> {
        (self.kind == REPOSITORY).then_some(self.name.as_str())
    }

    /// Whether it is about the catalogue.
    pub(crate) fn is_catalogue(&self) -> bool {
        self.kind == REGISTRY && self.name == CATALOGUE
    }

    /// Whether it names this action, or all.
    pub(crate) fn has(&self, action: &str) -> bool {
        self.actions.iter().any(|own| own == action || own == EVERYTHING)
    }

    /// Whether its bearer may do this.
    pub(crate) fn covers(&self, need: Need<'_>) -> bool {
        match need {
            // Whoever has a token at all is let in; none is for whichever repository it be.
            Need::Registry => true,
            Need::AnyRepository(_) => false,
            Need::Catalogue => self.is_catalogue() && self.has(EVERYTHING),
            Need::Repository(repository, action) => {
                self.repository() == Some(repository.as_str()) && self.has(name_of(action))
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

/// An action as it is called in scopes.
pub(crate) fn name_of(action: Action) -> &'static str {
    match action {
        Action::Pull => "pull",
        Action::Push => "push",
        Action::Delete => "delete",
    }
}

#[cfg(test)]
mod tests {
    use super::Scope;
    use crate::name::Repository;
    use crate::server::access::{Action, Need};

    #[test]
    fn scopes_are_read_and_written() {
        for (text, expect) in [
            ("repository:a/b:push,pull", Some("repository:a/b:pull,push")),
            ("repository:h:5000/a:pull,pull,", Some("repository:h:5000/a:pull")),
            ("repository(plugin):a:pull", Some("repository:a:pull")),
            ("registry:catalog:*", Some("registry:catalog:*")),
            ("repository:a:", Some("repository:a:")),
            ("repository::pull", None),
            ("(x):a:pull", None),
            ("repository:a", None),
            ("", None),
            (":::", None),
        ] {
            let parsed = Scope::parse(text).map(|scope| scope.to_string());
            assert_eq!(parsed.as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn what_a_scope_is_for() {
        let (own, other): (Repository, Repository) =
            ("a/b".parse().expect("a name"), "a".parse().expect("a name"));
        let covers = |text: &str, need| Scope::parse(text).expect("a scope").covers(need);
        for (scope, action, expect) in [
            ("repository:a/b:pull", Action::Pull, true),
            ("repository:a/b:pull", Action::Push, false),
            ("repository:a/b:push", Action::Pull, false),
            ("repository:a/b:*", Action::Delete, true),
            ("registry:a/b:*", Action::Pull, false),
        ] {
            assert_eq!(covers(scope, Need::Repository(&own, action)), expect, "{scope} {action:?}");
            assert!(!covers(scope, Need::Repository(&other, action)), "{scope} {action:?}");
        }
        assert!(covers("registry:catalog:*", Need::Catalogue));
        assert!(!covers("registry:catalog:pull", Need::Catalogue));
        assert!(!covers("repository:catalog:*", Need::Catalogue));
        assert!(!covers("repository:*:*", Need::AnyRepository(Action::Pull)));
        assert_eq!(
            Scope::of(Need::Repository(&own, Action::Push)).expect("a scope").to_string(),
            "repository:a/b:pull,push"
        );
    }
}
