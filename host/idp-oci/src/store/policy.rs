//! What may be kept, for how long, and how much of it: the rules of a registry's configuration.
//!
//! Knows names and sizes; asks nobody and changes nothing. In: settings. Out: answers for a repository, a tag, a usage.
//!
//! Patterns are globs over names: `*` stands for anything within a component, `**` for any number of components, `?` for a
//! character, `[a-z]` for one of several, `{a,b}` for alternatives. `team/*` is `team/app`; `team/**` is everything below.

use std::time::Duration;

use serde::Deserialize;

use crate::store::StoreError;
use crate::store::rows::table::Usage;

/// All that governs a store on disk: `storage`, `collection`, `retention` and `quotas` of the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StoreSettings {
    /// How the directory is kept.
    pub storage: super::StorageSettings,
    /// When what nobody needs goes.
    pub collection: CollectionSettings,
    /// What is kept of tags and manifests; the first rule that fits a repository counts.
    pub retention: Vec<RetentionSettings>,
    /// How much may be kept; every rule that fits counts.
    pub quotas: Vec<QuotaSettings>,
}

impl From<super::StorageSettings> for StoreSettings {
    fn from(storage: super::StorageSettings) -> Self {
        Self { storage, ..Self::default() }
    }
}

/// Garbage collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CollectionSettings {
    /// Seconds from one collection to the next; 3600 unless given, and 0 for none.
    pub interval_seconds: Option<u64>,
    /// Seconds after which a manifest goes that no tag, index or subject keeps; never unless given.
    pub delete_untagged_seconds: Option<u64>,
    /// Seconds for which a deleted tag or manifest can be brought back; 0, the default, for none.
    pub undo_seconds: u64,
}

impl CollectionSettings {
    /// From one collection to the next; none for no collection.
    pub fn interval(&self) -> Option<Duration> {
        let seconds = self.interval_seconds.unwrap_or(3600);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }
}

/// A rule on what is kept of some repositories. Without `keepLast` and `keepYoungerSeconds` no tag ever goes by itself; with
/// either a tag goes that nothing keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// Which repositories: a pattern; `**` for all.
    pub repositories: String,
    /// Keeps so many tags, those that were put last. Tags that `keepTags` keeps do not count.
    pub keep_last: Option<usize>,
    /// Keeps tags that were put within so many seconds.
    pub keep_younger_seconds: Option<u64>,
    /// Keeps tags of these patterns.
    pub keep_tags: Vec<String>,
    /// Seconds after which a manifest goes that no tag, index or subject keeps, instead of what `collection` says.
    pub delete_untagged_seconds: Option<u64>,
    /// Tags of these patterns are never moved to another manifest, and never go by themselves.
    pub immutable_tags: Vec<String>,
}

/// A limit. One of `repositories` and `namespace` says on what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QuotaSettings {
    /// On each repository of this pattern by itself.
    pub repositories: Option<String>,
    /// On all repositories whose names begin with these components, together; empty for the whole registry.
    pub namespace: Option<String>,
    /// Of blobs and manifests, each repository's counted without duplicates, in bytes.
    pub max_bytes: Option<u64>,
    /// Tags.
    pub max_tags: Option<u64>,
}

/// Settings that were looked through.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) settings: StoreSettings,
}

/// Whether a tag is what cosign and the referrers' fallback write beside a manifest: it is not counted among images.
pub(crate) fn is_attachment(tag: &str) -> bool {
    tag.strip_prefix("sha256-")
        .is_some_and(|rest| rest.len() >= 64 && rest.as_bytes()[..64].iter().all(u8::is_ascii_hexdigit))
}

fn fits(pattern: &str, name: &str) -> bool {
    fast_glob::glob_match(pattern, name)
}

impl Policy {
    pub(crate) fn new(settings: StoreSettings) -> Result<Self, StoreError> {
        let refuse = |what: String| Err(StoreError::Settings { what });
        for rule in &settings.retention {
            if rule.repositories.is_empty() {
                return refuse(
                    "a rule of `retention` has no `repositories`: write a pattern, `**` for all".into(),
                );
            }
        }
        for quota in &settings.quotas {
            match (&quota.repositories, &quota.namespace) {
                (Some(_), None) => {}
                (None, Some(namespace)) => {
                    let good = namespace.is_empty() || namespace.parse::<crate::name::Repository>().is_ok();
                    if !good {
                        return refuse(format!(
                            "`{namespace}` in `quotas` is no namespace: write components of names"
                        ));
                    }
                }
                _ => {
                    return refuse(
                        "a rule of `quotas` has `repositories` or `namespace`, and one of them".into(),
                    );
                }
            }
        }
        Ok(Self { settings })
    }

    pub(crate) fn undo(&self) -> Option<Duration> {
        let seconds = self.settings.collection.undo_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    fn rule(&self, repository: &str) -> Option<&RetentionSettings> {
        self.settings.retention.iter().find(|rule| fits(&rule.repositories, repository))
    }

    pub(crate) fn is_immutable(&self, repository: &str, tag: &str) -> bool {
        self.rule(repository).is_some_and(|rule| rule.immutable_tags.iter().any(|pattern| fits(pattern, tag)))
    }

    pub(crate) fn delete_untagged(&self, repository: &str) -> Option<Duration> {
        let of_rule = self.rule(repository).and_then(|rule| rule.delete_untagged_seconds);
        of_rule.or(self.settings.collection.delete_untagged_seconds).map(Duration::from_secs)
    }

    /// Which of these tags, with the milliseconds since each was put, nothing keeps.
    pub(crate) fn superfluous<'t>(&self, repository: &str, tags: &'t [(String, u64)]) -> Vec<&'t str> {
        let Some(rule) = self.rule(repository) else { return Vec::new() };
        if rule.keep_last.is_none() && rule.keep_younger_seconds.is_none() {
            return Vec::new();
        }
        let mut left: Vec<&(String, u64)> = tags
            .iter()
            .filter(|(tag, _)| {
                let mut keeping = rule.keep_tags.iter().chain(&rule.immutable_tags);
                !is_attachment(tag) && !keeping.any(|pattern| fits(pattern, tag))
            })
            .collect();
        left.sort_by(|(a, a_age), (b, b_age)| a_age.cmp(b_age).then_with(|| b.cmp(a)));
        let younger = Duration::from_secs(rule.keep_younger_seconds.unwrap_or(0));
        left.into_iter()
            .skip(rule.keep_last.unwrap_or(0))
            .filter(|(_, age)| Duration::from_millis(*age) >= younger)
            .map(|(tag, _)| tag.as_str())
            .collect()
    }

    /// Whether so much more fits into a repository. `usage` answers for a namespace, or for the repository itself.
    pub(crate) fn admit<E: From<StoreError>>(
        &self,
        repository: &str,
        more: Usage,
        usage: impl Fn(Scope<'_>) -> Result<Usage, E>,
    ) -> Result<(), E> {
        for quota in &self.settings.quotas {
            let scope = match (&quota.repositories, &quota.namespace) {
                (Some(pattern), _) if fits(pattern, repository) => Scope::Repository(repository),
                (_, Some(namespace)) if is_within(repository, namespace) => Scope::Namespace(namespace),
                _ => continue,
            };
            let used = usage(scope)?;
            let limits = [
                ("bytes", quota.max_bytes, used.bytes, more.bytes),
                ("tags", quota.max_tags, used.tags, more.tags),
            ];
            for (of, limit, used, more) in limits {
                if let Some(limit) = limit
                    && more > 0
                    && used.saturating_add(more) > limit
                {
                    let scope = scope.to_string();
                    return Err(StoreError::Quota { scope, of, used, more, limit }.into());
                }
            }
        }
        Ok(())
    }
}

/// What a quota is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    Repository(&'a str),
    Namespace(&'a str),
}

impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Repository(name) => write!(f, "repository `{name}`"),
            Self::Namespace("") => f.write_str("this registry"),
            Self::Namespace(name) => write!(f, "namespace `{name}`"),
        }
    }
}

fn is_within(repository: &str, namespace: &str) -> bool {
    namespace.is_empty()
        || repository == namespace
        || repository.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::{Policy, QuotaSettings, RetentionSettings, Scope, StoreSettings, is_within};
    use crate::store::StoreError;
    use crate::store::rows::table::Usage;

    fn policy(rule: RetentionSettings) -> Policy {
        Policy::new(StoreSettings { retention: vec![rule], ..StoreSettings::default() })
            .expect("good settings")
    }

    #[test]
    fn tags_that_nothing_keeps_go() {
        let attached = format!("sha256-{}.sig", "a".repeat(64));
        let tags: Vec<(String, u64)> =
            [("v1", 9000), ("v2", 5000), ("v3", 3000), ("main", 9000), (&attached, 9000)]
                .map(|(tag, age)| (tag.to_owned(), age))
                .into();
        let keep_main = vec!["main".to_owned()];
        for (last, younger, expect) in [
            (None, None, &[][..]),
            (Some(1), None, &["v2", "v1"]),
            (Some(3), None, &[]),
            (Some(0), None, &["v3", "v2", "v1"]),
            (None, Some(4), &["v2", "v1"]),
            (None, Some(60), &[]),
            (Some(2), Some(4), &["v1"]),
            (Some(1), Some(6), &["v1"]),
        ] {
            let rule = RetentionSettings {
                repositories: "team/**".to_owned(),
                keep_last: last,
                keep_younger_seconds: younger,
                keep_tags: keep_main.clone(),
                ..RetentionSettings::default()
            };
            let policy = policy(rule);
            assert_eq!(policy.superfluous("team/a/b", &tags), expect, "{last:?} {younger:?}");
            assert_eq!(policy.superfluous("other", &tags), Vec::<&str>::new());
        }
    }

    #[test]
    fn immutable_tags_by_pattern() {
        let rule = RetentionSettings {
            repositories: "{team,other}/*".to_owned(),
            immutable_tags: vec!["v*".to_owned()],
            ..RetentionSettings::default()
        };
        let policy = policy(rule);
        assert!(policy.is_immutable("team/app", "v1.2"));
        assert!(!policy.is_immutable("team/app", "latest"));
        assert!(!policy.is_immutable("team/app/sub", "v1.2"));
    }

    #[test]
    fn quotas_on_repositories_and_namespaces() {
        let quotas = vec![
            QuotaSettings {
                repositories: Some("team/*".to_owned()),
                max_bytes: Some(100),
                ..QuotaSettings::default()
            },
            QuotaSettings {
                namespace: Some("team".to_owned()),
                max_tags: Some(5),
                ..QuotaSettings::default()
            },
        ];
        let policy =
            Policy::new(StoreSettings { quotas, ..StoreSettings::default() }).expect("good settings");
        let admit = |repository: &str, bytes, tags| {
            policy.admit(repository, Usage { bytes, tags, ..Usage::default() }, |scope| {
                Ok::<_, StoreError>(match scope {
                    Scope::Repository(_) => Usage { bytes: 90, ..Usage::default() },
                    Scope::Namespace(_) => Usage { tags: 5, ..Usage::default() },
                })
            })
        };
        assert!(admit("team/app", 10, 0).is_ok());
        let error = admit("team/app", 11, 0).expect_err("too much").to_string();
        for part in ["team/app", "90", "11", "100", "bytes"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(admit("team/app/sub", 11, 0).is_ok());
        assert!(admit("team", 0, 1).is_err());
        assert!(admit("teammate", 0, 1).is_ok());
        assert!(is_within("a", "") && is_within("a/b", "a") && !is_within("ab", "a"));
    }

    #[test]
    fn settings_are_read_and_what_means_nothing_is_refused() {
        let text = r#"{"storage":{"durability":"relaxed"},"collection":{"undoSeconds":60},
            "retention":[{"repositories":"**","keepLast":3,"immutableTags":["v*"]}],
            "quotas":[{"namespace":"team","maxBytes":5}]}"#;
        let settings: StoreSettings = serde_json::from_str(text).expect("read");
        assert!(Policy::new(settings).is_ok());
        for bad in [
            r#"{"retention":[{"keepLast":3}]}"#,
            r#"{"quotas":[{"maxBytes":3}]}"#,
            r#"{"quotas":[{"maxBytes":3,"namespace":"a","repositories":"b"}]}"#,
            r#"{"quotas":[{"maxBytes":3,"namespace":"A//b"}]}"#,
        ] {
            let settings: StoreSettings = serde_json::from_str(bad).expect("read");
            assert!(matches!(Policy::new(settings), Err(StoreError::Settings { .. })), "{bad}");
        }
        assert!(serde_json::from_str::<StoreSettings>(r#"{"quota":[]}"#).is_err());
    }
}
