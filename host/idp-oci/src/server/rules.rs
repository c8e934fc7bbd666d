//! Access rules: who may do what with which repositories.
//!
//! Rules grant and never forbid: somebody may do a thing if any rule says so, and the order of rules means nothing. So a
//! rule can be read alone. Without any rule, everybody who is logged in may do everything.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::server::access::{Action, Need};
use crate::server::pattern::{Pattern, PatternError};

/// The subject that is everybody, logged in or not.
pub(crate) const ANONYMOUS: &str = "anonymous";
/// The subject that is everybody who is logged in.
pub(crate) const AUTHENTICATED: &str = "authenticated";
const GROUP: &str = "group:";

/// One rule, as it is configured.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleSettings {
    /// Patterns of repositories: `*` within a component, `**` across components, `{user}` for the user who asks. None: all.
    pub repositories: Vec<String>,
    /// Names of users, `group:NAME`, `authenticated` (whoever is logged in) and `anonymous` (everybody). At least one.
    pub subjects: Vec<String>,
    /// What they may do: `pull`, `push`, `delete`; `catalogue`: ask which repositories there are, of which those are shown
    /// that they may pull. At least one.
    pub actions: Vec<RuleAction>,
}

/// An action in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleAction {
    /// Read.
    Pull,
    /// Upload and tag.
    Push,
    /// Take content away.
    Delete,
    /// Ask for the catalogue.
    #[serde(alias = "catalog")]
    Catalogue,
}

/// Why rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A pattern.
    #[error("rule {rule}: {error}")]
    Pattern {
        /// Which, from 1.
        rule: usize,
        /// What is wrong.
        error: PatternError,
    },
    /// A rule that is for nobody or for nothing.
    #[error("rule {rule} has no {what}: name at least one, or take the rule out")]
    Empty {
        /// Which, from 1.
        rule: usize,
        /// `subjects` or `actions`.
        what: &'static str,
    },
    /// A group that is not there: a slip that would lock people out.
    #[error("rule {rule} names the group `{group}`, which is not among the groups")]
    UnknownGroup {
        /// Which, from 1.
        rule: usize,
        /// The group.
        group: String,
    },
}

/// Rules, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    anonymous_pull: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    repositories: Vec<Pattern>,
    anonymous: bool,
    authenticated: bool,
    users: BTreeSet<String>,
    actions: Vec<RuleAction>,
}

impl Rules {
    /// `anonymous_pull` lets everybody read everything, whatever the rules.
    pub fn new(
        settings: &[RuleSettings],
        groups: &BTreeMap<String, Vec<String>>,
        anonymous_pull: bool,
    ) -> Result<Self, RuleError> {
        let rules = settings.iter().zip(1..).map(|(settings, rule)| Rule::new(settings, rule, groups));
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, anonymous_pull })
    }

    /// Whether this user (or somebody who did not log in) may do this.
    pub fn permit(&self, user: Option<&str>, need: Need<'_>) -> bool {
        let reads = matches!(
            need,
            Need::Catalogue | Need::Repository(_, Action::Pull) | Need::AnyRepository(Action::Pull)
        );
        if self.anonymous_pull && reads {
            return true;
        }
        if self.rules.is_empty() {
            return user.is_some();
        }
        let (action, repository) = match need {
            Need::Registry => return user.is_some(),
            Need::Catalogue => (RuleAction::Catalogue, None),
            Need::Repository(repository, action) => (RuleAction::from(action), Some(repository)),
            Need::AnyRepository(action) => (RuleAction::from(action), None),
        };
        self.rules.iter().filter(|rule| rule.is_for(user) && rule.actions.contains(&action)).any(
            |rule| match (need, repository) {
                (Need::Catalogue, _) => true,
                (_, Some(repository)) => rule.matches(repository.as_str(), user),
                (_, None) => rule.repositories.iter().any(Pattern::is_everything),
            },
        )
    }

    /// Whether somebody who did not log in may do anything.
    pub fn has_anonymous(&self) -> bool {
        self.anonymous_pull || self.rules.iter().any(|rule| rule.anonymous)
    }
}

impl Rule {
    fn new(
        settings: &RuleSettings,
        rule: usize,
        groups: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, RuleError> {
        let RuleSettings { repositories, subjects, actions } = settings;
        for (what, none) in [("subjects", subjects.is_empty()), ("actions", actions.is_empty())] {
            if none {
                return Err(RuleError::Empty { rule, what });
            }
        }
        let all = ["**".to_owned()];
        let patterns = if repositories.is_empty() { all.as_slice() } else { repositories };
        let repositories = patterns.iter().map(|pattern| pattern.parse()).collect::<Result<_, _>>();
        let repositories = repositories.map_err(|error| RuleError::Pattern { rule, error })?;
        let mut users = BTreeSet::new();
        for subject in subjects {
            if let Some(group) = subject.strip_prefix(GROUP) {
                let members = groups.get(group);
                let members =
                    members.ok_or_else(|| RuleError::UnknownGroup { rule, group: group.to_owned() })?;
                users.extend(members.iter().cloned());
            } else {
                users.insert(subject.clone());
            }
        }
        Ok(Self {
            repositories,
            anonymous: users.remove(ANONYMOUS),
            authenticated: users.remove(AUTHENTICATED),
            users,
            actions: actions.clone(),
        })
    }

    fn is_for(&self, user: Option<&str>) -> bool {
        self.anonymous || user.is_some_and(|user| self.authenticated || self.users.contains(user))
    }

    fn matches(&self, repository: &str, user: Option<&str>) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(repository, user))
    }
}

impl From<Action> for RuleAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Pull => Self::Pull,
            Action::Push => Self::Push,
            Action::Delete => Self::Delete,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{RuleAction, RuleError, RuleSettings, Rules};
    use crate::name::Repository;
    use crate::server::access::{Action, Need};

    fn rule(repositories: &[&str], subjects: &[&str], actions: &[RuleAction]) -> RuleSettings {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        RuleSettings {
            repositories: texts(repositories),
            subjects: texts(subjects),
            actions: actions.to_vec(),
        }
    }

    fn groups() -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([("team".to_owned(), vec!["alice".to_owned(), "bob".to_owned()])])
    }

    fn permits(rules: &Rules, user: Option<&str>, repository: &str, action: Action) -> bool {
        let repository: Repository = repository.parse().expect("a name");
        rules.permit(user, Need::Repository(&repository, action))
    }

    #[test]
    fn whoever_is_logged_in_may_do_everything_without_rules() {
        for anonymous_pull in [false, true] {
            let rules = Rules::new(&[], &BTreeMap::new(), anonymous_pull).expect("rules");
            for action in [Action::Pull, Action::Push, Action::Delete] {
                assert!(permits(&rules, Some("alice"), "a/b", action));
                let pulls = anonymous_pull && action == Action::Pull;
                assert_eq!(permits(&rules, None, "a/b", action), pulls, "{action:?}");
                assert_eq!(rules.permit(None, Need::AnyRepository(action)), pulls);
            }
            assert!(rules.permit(Some("alice"), Need::Catalogue));
            assert_eq!(rules.permit(None, Need::Catalogue), anonymous_pull);
            assert_eq!(rules.has_anonymous(), anonymous_pull);
        }
    }

    #[test]
    fn every_rule_that_grants_counts() {
        use RuleAction::{Catalogue, Delete, Pull, Push};
        let settings = [
            rule(&["public/**"], &["anonymous"], &[Pull]),
            rule(&["team/**", "shared/*"], &["group:team"], &[Pull, Push]),
            rule(&["home/{user}/**"], &["authenticated"], &[Pull, Push, Delete]),
            rule(&[], &["root"], &[Pull, Push, Delete, Catalogue]),
        ];
        let rules = Rules::new(&settings, &groups(), false).expect("rules");
        for (user, repository, may) in [
            (None, "public/a", "pull"),
            (None, "team/a", ""),
            (Some("carol"), "public/a", "pull"),
            (Some("carol"), "team/a", ""),
            (Some("alice"), "team/a/b", "pull push"),
            (Some("bob"), "shared/x", "pull push"),
            (Some("bob"), "shared/x/y", ""),
            (Some("bob"), "home/bob/x", "pull push delete"),
            (Some("bob"), "home/alice/x", ""),
            (Some("root"), "any/thing", "pull push delete"),
            (Some("team"), "team/a", ""),
            // A user cannot get what a subject has by taking its name.
            (Some("group:team"), "team/a", ""),
            (Some("authenticated"), "home/authenticated/x", "pull push delete"),
        ] {
            for (action, name) in [(Action::Pull, "pull"), (Action::Push, "push"), (Action::Delete, "delete")]
            {
                let expect = may.split(' ').any(|granted| granted == name);
                assert_eq!(permits(&rules, user, repository, action), expect, "{user:?} {repository} {name}");
            }
        }
        assert!(rules.permit(Some("root"), Need::Catalogue));
        assert!(!rules.permit(Some("alice"), Need::Catalogue));
        assert!(rules.permit(Some("root"), Need::AnyRepository(Action::Pull)));
        assert!(!rules.permit(Some("alice"), Need::AnyRepository(Action::Pull)));
        assert!(rules.permit(Some("carol"), Need::Registry));
        assert!(rules.has_anonymous());
    }

    #[test]
    fn slips_are_refused_with_their_rule() {
        let error =
            |rule| Rules::new(&[RuleSettings::clone(&rule)], &groups(), false).map(drop).expect_err("a slip");
        let pull = [RuleAction::Pull];
        assert_eq!(error(rule(&["a"], &[], &pull)), RuleError::Empty { rule: 1, what: "subjects" });
        assert_eq!(error(rule(&["a"], &["x"], &[])), RuleError::Empty { rule: 1, what: "actions" });
        assert!(matches!(
            error(rule(&["a"], &["group:none"], &pull)),
            RuleError::UnknownGroup { rule: 1, .. }
        ));
        assert!(matches!(error(rule(&["A"], &["x"], &pull)), RuleError::Pattern { rule: 1, .. }));
        let parsed: RuleSettings =
            serde_json::from_str(r#"{"subjects":["a"],"actions":["pull","catalog","catalogue"]}"#)
                .expect("settings");
        assert_eq!(parsed.actions.len(), 3);
        assert!(serde_json::from_str::<RuleSettings>(r#"{"subject":["a"]}"#).is_err());
    }
}
