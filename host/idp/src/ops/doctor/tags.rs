//! Tags that break who consumes them: resolvers of version constraints (Argo CD, Flux, Helm) read every tag of a repository, and one that they
//! stumble over, or take for the newest version, is enough.

use std::collections::BTreeMap;

use idp_oci::name::Repository;

use super::{Check, Diagnosis, Origin, Status};
use crate::ops::session::Session;

/// Examples in a line.
const SHOWN: usize = 5;

/// What is the matter with some tags.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Poison {
    tags: Vec<String>,
    why: &'static str,
    next: &'static str,
}

/// Looks at all tags of a repository.
pub(super) async fn look(found: &mut Diagnosis, session: &Session, repository: &Repository) {
    const NAME: &str = "tags";
    let tags: Vec<String> = match session.client.tags(repository).await {
        Ok(tags) => tags.iter().map(ToString::to_string).collect(),
        // Said before, as the right to pull.
        Err(_) => return,
    };
    let poison = poison(&tags);
    if poison.is_empty() {
        let said = format!("{}, and none that breaks consumers", plural(tags.len()));
        found.add(Check::ok(NAME, said).value(tags.len().to_string()));
    }
    for Poison { tags, why, next } in poison {
        let mut shown: Vec<&str> = tags.iter().take(SHOWN).map(String::as_str).collect();
        if tags.len() > SHOWN {
            shown.push("…");
        }
        let said = format!("{} ({}): {why}", shown.join(", "), plural(tags.len()));
        found.add(Check::new(NAME, Status::Warn, Origin::Probed, said).next(next));
    }
}

fn plural(number: usize) -> String {
    if number == 1 { "1 tag".to_owned() } else { format!("{number} tags") }
}

/// A version as resolvers read one, with up to two numbers missing.
struct Loose<'a> {
    numbers: Vec<&'a str>,
    prerelease: Option<&'a str>,
}

impl<'a> Loose<'a> {
    fn parse(tag: &'a str) -> Option<Self> {
        let rest = tag.strip_prefix('v').unwrap_or(tag);
        let (core, prerelease) = match rest.split_once('-') {
            Some((core, prerelease)) => (core, Some(prerelease)),
            None => (rest, None),
        };
        let numbers: Vec<&str> = core.split('.').collect();
        let number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (numbers.len() <= 3 && numbers.iter().all(number)).then_some(Self { numbers, prerelease })
    }

    /// Numbers that strict parsers refuse although it looks like a version.
    fn breaks(&self) -> bool {
        let leading_zero = |text: &str| text.len() > 1 && text.starts_with('0');
        let in_prerelease = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && leading_zero(text);
        self.numbers.iter().any(|number| leading_zero(number) || number.parse::<i64>().is_err())
            || self.prerelease.is_some_and(|text| text.split('.').any(in_prerelease))
    }
}

/// Tags that a registry or a tool keeps for itself: fallbacks of the referrers API, signatures.
fn is_hidden(tag: &str) -> bool {
    let digest = tag.split_once('-').filter(|(algorithm, _)| matches!(*algorithm, "sha256" | "sha512"));
    digest.is_some_and(|(_, rest)| {
        let hex = rest.split('.').next().unwrap_or_default();
        hex.len() >= 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn poison(tags: &[String]) -> Vec<Poison> {
    let mut found = Vec::new();
    let mut add = |tags: Vec<String>, why: &'static str, next: &'static str| {
        if !tags.is_empty() {
            found.push(Poison { tags, why, next });
        }
    };
    let people: Vec<&String> = tags.iter().filter(|tag| !is_hidden(tag)).collect();
    let which = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        people.iter().filter(|tag| wanted(tag)).map(|tag| (*tag).clone()).collect()
    };
    let date = |tag: &str| tag.len() >= 8 && tag.bytes().all(|byte| byte.is_ascii_digit());
    add(
        which(&|tag| !date(tag) && Loose::parse(tag).is_some_and(|version| version.breaks())),
        "they look like versions and are none (a leading zero, or a number that is too large): one of them makes every version \
         constraint on this repository fail",
        "delete them, and push under a strict version: 1.2.3 or 1.2.3-rc.1",
    );
    add(
        which(&|tag| tag.split_once('_').is_some_and(|(version, _)| is_strict(version))),
        "a `+` of a version became `_`: constraints choose 1.2.3+build, and then there is no such tag",
        "leave build metadata out of tags",
    );
    add(
        which(&date),
        "a date is taken for the highest version of all: `*` and `>=1.0.0` choose it",
        "write dates as a suffix, or not as a tag of this repository",
    );
    add(
        which(&|tag| {
            Loose::parse(tag).is_some_and(|version| version.numbers.len() == 2 && !version.breaks())
        }),
        "a version that moves is chosen by constraints as if it were one: `~1.2.0` takes `1.2`",
        "let constraints see full versions only, or deploy by digest",
    );
    add(
        which(&|tag| tag.bytes().any(|byte| byte.is_ascii_uppercase())),
        "capital letters: some registries (Gitea) make small ones of them, so the tag is elsewhere another one",
        "use small letters",
    );
    let mut same_letters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut same_version: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for tag in &people {
        same_letters.entry(tag.to_lowercase()).or_default().push((*tag).clone());
        let bare = tag.strip_prefix('v').unwrap_or(tag);
        if is_strict(bare) {
            same_version.entry(bare).or_default().push((*tag).clone());
        }
    }
    let several = |groups: &mut dyn Iterator<Item = Vec<String>>| -> Vec<String> {
        groups.filter(|group| group.len() > 1).flatten().collect()
    };
    add(
        several(&mut same_letters.into_values()),
        "they differ in capital letters alone",
        "keep one of them: where letters do not count, they overwrite each other",
    );
    add(
        several(&mut same_version.into_values()),
        "the same version with and without `v`: which of them a constraint chooses is left to chance",
        "keep one way of writing versions",
    );
    found
}

/// `MAJOR.MINOR.PATCH[-PRERELEASE]` without leading zeros.
fn is_strict(tag: &str) -> bool {
    !tag.starts_with('v')
        && Loose::parse(tag).is_some_and(|version| version.numbers.len() == 3 && !version.breaks())
}

#[cfg(test)]
mod tests {
    use super::poison;

    fn found(tags: &[&str]) -> Vec<(Vec<String>, &'static str)> {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        poison(&tags).into_iter().map(|poison| (poison.tags, poison.why)).collect()
    }

    #[test]
    fn good_tags() {
        let fallback = format!("sha256-{}", "ab".repeat(32));
        let signature = format!("{fallback}.sig");
        let tags =
            ["1.0.0", "1.1.0-rc.1", "v2.0.0", "latest", "main", "3", "0.0.1-alpha.10", &fallback, &signature];
        assert_eq!(found(&tags), []);
    }

    #[test]
    fn each_kind_is_found_alone() {
        for (tags, bad, word) in [
            (&["1.0.0", "1.0.0-01"][..], &["1.0.0-01"][..], "leading zero"),
            (&["1.0.0", "99999999999999999999.0.0"], &["99999999999999999999.0.0"], "too large"),
            (&["01.2.3"], &["01.2.3"], "leading zero"),
            (&["1.2.0_build.5"], &["1.2.0_build.5"], "became `_`"),
            (&["20250101", "1.0.0"], &["20250101"], "a date"),
            (&["1.2", "1.2.0"], &["1.2"], "moves"),
            (&["Main"], &["Main"], "capital"),
            (&["1.0.0", "v1.0.0"], &["1.0.0", "v1.0.0"], "without `v`"),
        ] {
            let found = found(tags);
            assert_eq!(found.len(), 1, "{tags:?}: {found:?}");
            assert_eq!(found[0].0, bad, "{tags:?}");
            assert!(found[0].1.contains(word), "{tags:?}: {}", found[0].1);
        }
    }

    #[test]
    fn letters_that_do_not_count() {
        let found = found(&["Main", "main"]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1].0, ["Main", "main"]);
    }
}
