//! Constraints: text in, a [`Constraint`] out that says which versions it lets through.

use std::fmt;
use std::str::FromStr;

use pubgrub::Ranges;
use serde::{Deserialize, Serialize};

use super::comparator::{Comparator, OPERATORS, Operator, Precision};
use super::{Version, loose};

/// No longer constraint is read, here and upstream.
const LONGEST: usize = 512;
/// Groups between `||`, here and upstream.
const MOST_GROUPS: usize = 32;

/// Why a text is no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// Nothing is written.
    #[error("an empty constraint; write * for any version")]
    Empty,
    /// Longer than anybody reads.
    #[error("the constraint is longer than {LONGEST} characters")]
    TooLong,
    /// More alternatives than anybody reads.
    #[error("the constraint has more than {MOST_GROUPS} alternatives with || between them")]
    TooManyGroups,
    /// It is not of the language.
    #[error("`{text}` is no constraint: {why}; write for example ^1.2, ~1.2.3, >=1.2 <2 or 1.x || 2.x")]
    Improper {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Which versions will do. With the semantics of Masterminds semver v3: comparisons with a space or comma between them all have to
/// hold, `||` stands between alternatives, and pre-releases are let through only where an alternative names one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    comparators: Vec<Comparator>,
    /// One of them names a pre-release, so all look at pre-releases.
    prereleases: bool,
}

impl Constraint {
    /// `*`
    pub fn any() -> Self {
        "*".parse().expect("a constraint")
    }

    /// Whether a version will do.
    pub fn matches(&self, version: &Version) -> bool {
        self.groups.iter().any(|group| {
            (group.prereleases || !version.is_prerelease())
                && group.comparators.iter().all(|comparator| comparator.matches(version))
        })
    }

    /// The versions that will do: among releases, and among pre-releases. What is in them always matches; see
    /// [`Comparator::versions`] for what is not in them and matches nevertheless.
    pub(crate) fn versions(&self, prereleases: bool) -> Ranges<Version> {
        let groups = self.groups.iter().filter(|group| group.prereleases || !prereleases);
        groups.fold(Ranges::empty(), |all, group| {
            let group = group
                .comparators
                .iter()
                .fold(Ranges::full(), |all, comparator| all.intersection(&comparator.versions(prereleases)));
            all.union(&group)
        })
    }
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        if text.len() > LONGEST {
            return Err(ConstraintError::TooLong);
        }
        if text.trim().is_empty() {
            return Err(ConstraintError::Empty);
        }
        let plain = without_hyphens(text);
        if plain.split("||").count() > MOST_GROUPS {
            return Err(ConstraintError::TooManyGroups);
        }
        let groups = plain
            .split("||")
            .map(|part| group(part).map_err(|why| ConstraintError::Improper { text: text.to_owned(), why }));
        Ok(Self { groups: groups.collect::<Result<_, _>>()? })
    }
}

impl TryFrom<String> for Constraint {
    type Error = ConstraintError;

    fn try_from(text: String) -> Result<Self, ConstraintError> {
        text.parse()
    }
}

impl From<Constraint> for String {
    fn from(constraint: Constraint) -> Self {
        constraint.to_string()
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                f.write_str(" || ")?;
            }
            for (index, comparator) in group.comparators.iter().enumerate() {
                if index > 0 {
                    f.write_str(" ")?;
                }
                comparator.fmt(f)?;
            }
        }
        Ok(())
    }
}

/// A version as constraints write it: any of its numbers may be a wildcard or missing.
struct Written<'a> {
    text: &'a str,
    numbers: [Option<&'a str>; 3],
    /// With its dash.
    pre: &'a str,
}

fn group(text: &str) -> Result<Group, String> {
    let mut rest = skip_space(text);
    let mut comparators = Vec::new();
    loop {
        let part: String = rest.chars().take(40).collect();
        if part.is_empty() {
            return Err("a comparison is missing beside a comma or ||".to_owned());
        }
        let (sign, operator) =
            OPERATORS.into_iter().find(|(sign, _)| rest.starts_with(sign)).expect("the last one is empty");
        rest = skip_space(&rest[sign.len()..]);
        if rest.is_empty() {
            return Err(format!("a version is missing after `{part}`"));
        }
        let written = written(rest).ok_or_else(|| format!("`{part}` does not begin with a version"))?;
        rest = &rest[written.text.len()..];
        comparators.push(comparator(sign, operator, &written)?);
        let after = skip_space(rest);
        if after.is_empty() {
            break;
        }
        match after.strip_prefix(',') {
            Some(after) => rest = skip_space(after),
            None if after.len() < rest.len() => rest = after,
            None => return Err(format!("after `{}` neither a space nor a comma follows", written.text)),
        }
    }
    let prereleases = comparators.iter().any(|comparator| comparator.version.is_prerelease());
    Ok(Group { comparators, prereleases })
}

fn comparator(sign: &str, operator: Operator, written: &Written<'_>) -> Result<Comparator, String> {
    let wild = |number: Option<&str>| matches!(number, None | Some("x" | "X" | "*"));
    let precision = match written.numbers {
        [major, ..] if wild(major) => Precision::Nothing,
        [_, minor, _] if wild(minor) => Precision::Major,
        [_, _, patch] if wild(patch) => Precision::Minor,
        _ => Precision::Patch,
    };
    // Whatever stands behind a wildcard is not looked at.
    let number = |index: usize| written.numbers[index].unwrap_or_default();
    let plain = match precision {
        Precision::Nothing => format!("0.0.0{}", written.pre),
        Precision::Major => format!("{}.0.0{}", number(0), written.pre),
        Precision::Minor => format!("{}.{}.0{}", number(0), number(1), written.pre),
        Precision::Patch => format!("{}.{}.{}{}", number(0), number(1), number(2), written.pre),
    };
    let version = match loose::parse(&plain) {
        Ok(loose) => loose.version,
        Err(loose::LooseError::LeadingZero) => {
            return Err(format!("in `{}` a number of the pre-release begins with 0", written.text));
        }
        Err(loose::LooseError::OutOfRange) => {
            return Err(format!("a number of `{}` is too large", written.text));
        }
        Err(loose::LooseError::NotAVersion) => return Err(format!("`{}` is no version", written.text)),
    };
    Ok(Comparator { operator, version, precision, text: format!("{sign}{}", written.text) })
}

/// `1.2 - 3` is `>= 1.2, <= 3`. The spaces around are taken with it, so what stands in front needs a comma or `||`: that is what
/// other tools do, and a constraint that they refuse is not to pass here.
fn without_hyphens(text: &str) -> String {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match hyphen(&text[at..]) {
            Some((length, low, high)) => {
                found.push((&text[at..at + length], format!(">= {low}, <= {high} ")));
                at += length;
            }
            None => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    found.into_iter().fold(text.to_owned(), |all, (from, to)| all.replacen(from, &to, 1))
}

/// A hyphen range at the very beginning: how long it is, and its two ends.
fn hyphen(text: &str) -> Option<(usize, &str, &str)> {
    let low = written(skip_space(text))?.text;
    let after = &skip_space(text)[low.len()..];
    let dash = skip_space(after);
    let high = dash.strip_prefix('-')?;
    let rest = skip_space(high);
    if dash.len() == after.len() || rest.len() == high.len() {
        return None;
    }
    let high = written(rest)?.text;
    let rest = skip_space(&rest[high.len()..]);
    Some((text.len() - rest.len(), low, high))
}

/// The longest version at the very beginning.
fn written(text: &str) -> Option<Written<'_>> {
    let number = |text: &str| {
        let class = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'x' | b'X' | b'*' | b'|');
        text.bytes().position(|byte| !class(byte)).unwrap_or(text.len())
    };
    let mut at = usize::from(text.starts_with('v'));
    let length = number(&text[at..]);
    if length == 0 {
        return None;
    }
    let mut numbers = [Some(&text[at..at + length]), None, None];
    at += length;
    for slot in &mut numbers[1..] {
        let Some(after) = text[at..].strip_prefix('.') else { break };
        let length = number(after);
        if length == 0 {
            break;
        }
        *slot = Some(&after[..length]);
        at += 1 + length;
    }
    let pre = tail(&text[at..], '-');
    at += pre.len();
    at += tail(&text[at..], '+').len();
    Some(Written { text: &text[..at], numbers, pre })
}

/// A sign and the identifiers behind it, or nothing.
fn tail(text: &str, sign: char) -> &str {
    let Some(after) = text.strip_prefix(sign) else { return "" };
    let mut length = 0;
    loop {
        let part = &after[length..];
        let end = part
            .bytes()
            .position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'-'))
            .unwrap_or(part.len());
        if end == 0 {
            // A dot without an identifier behind it is not of it.
            break &text[..length];
        }
        length += end;
        if !after[length..].starts_with('.') {
            break &text[..1 + length];
        }
        length += 1;
    }
}

/// What Go's `\s` is.
fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r', '\x0c'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Constraint, ConstraintError};
    use crate::version::{Version, loose};

    /// Rows of constraint, version and answer; how many there were, and which differ.
    fn compare(table: &str) -> (usize, Vec<String>) {
        let mut rows = 0;
        let mut wrong = Vec::new();
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<_> = line.split('\t').collect();
            let [constraint, version, expect] = columns[..] else { panic!("three columns: {line:?}") };
            let got = match constraint.parse::<Constraint>() {
                Ok(parsed) if expect == "error" => format!("{parsed}"),
                Ok(parsed) => {
                    let version = loose::parse(version).expect(version).version;
                    let answer = parsed.matches(&version);
                    let ranges = parsed.versions(version.is_prerelease()).contains(&version);
                    // What the solver takes always matches; the other way there is one exception.
                    if ranges != answer && (ranges || !constraint.contains("!=")) {
                        wrong.push(format!("{line}: {answer}, and in ranges {ranges}"));
                    }
                    answer.to_string()
                }
                Err(_) => "error".to_owned(),
            };
            rows += 1;
            if got != expect {
                wrong.push(format!("{line}: {got}"));
            }
        }
        (rows, wrong)
    }

    #[test]
    fn upstreams_cases() {
        let table = include_str!("upstream.tsv");
        // Three of them are of the empty constraint, which only an inner function of theirs takes.
        let table: Vec<_> = table.lines().filter(|line| !line.starts_with('\t')).collect();
        let (rows, wrong) = compare(&table.join("\n"));
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(rows, 237);
    }

    #[test]
    fn what_upstream_answers_at_random() {
        let (rows, wrong) = compare(include_str!("oracle.tsv"));
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(rows, 700);
    }

    #[test]
    fn upstreams_cases_of_parsing() {
        // Groups, and comparisons in the first.
        for (text, groups, first) in [
            (">= 1.1", 1, 1),
            (">40.50.60, < 50.70", 1, 2),
            ("2.0", 1, 1),
            ("v2.3.5-20161202202307-sha.e8fc5e5", 1, 1),
            ("v1.2.3-0abc", 1, 1),
            (">= 1.2.3 < 2.0", 1, 2),
            (">= 1.2.3 < 2.0 || => 3.0 < 4", 2, 2),
            (">= 1.2.3, < 2.0", 1, 2),
            (">= 1.2.3, < 2.0 || => 3.0, < 4", 2, 2),
            ("3 - 4 || => 3.0, < 4", 2, 2),
            ("12.3.34 ~1.2.3", 1, 2),
            ("1.0.0 - 2.0.0, <=2.0.0", 1, 3),
        ] {
            let parsed = text.parse::<Constraint>().expect(text);
            assert_eq!((parsed.groups.len(), parsed.groups[0].comparators.len()), (groups, first), "{text}");
        }
        for bad in [
            "v1.2.3-beta.01",
            ">= bar",
            "BAR >= 1.2.3",
            "12.3.4.1234",
            "12.23.4.1234",
            "12.3.34.1234",
            "12.3.34~ 1.2.3",
            "foo",
            ">1 2 - 3",
            "1||",
            "||1",
            "1,",
            ",1",
            "1,,2",
            "= >1",
            "1|2",
            "18446744073709551616",
        ] {
            assert!(matches!(bad.parse::<Constraint>(), Err(ConstraintError::Improper { .. })), "{bad}");
        }
        assert_eq!("".parse::<Constraint>(), Err(ConstraintError::Empty));
        assert_eq!(" \t".parse::<Constraint>(), Err(ConstraintError::Empty));
        assert_eq!(">= 1.0.0 || ".repeat(100).parse::<Constraint>(), Err(ConstraintError::TooLong));
        let many = vec![">= 1.0.0"; 33].join(" || ");
        assert_eq!(many.parse::<Constraint>(), Err(ConstraintError::TooManyGroups));
    }

    #[test]
    fn upstreams_cases_of_display() {
        for (text, shown) in [
            ("*", "*"),
            (">= 1.2.3", ">=1.2.3"),
            ("2.x,   >=1.2.3 || >4.5.6, < 5.7", "2.x >=1.2.3 || >4.5.6 <5.7"),
            (
                "2.x,   >=1.2.3 || >4.5.6, < 5.7 || >40.50.60, < 50.70",
                "2.x >=1.2.3 || >4.5.6 <5.7 || >40.50.60 <50.70",
            ),
            ("1.2", "1.2"),
            ("> 1 , <=1.2.3", ">1 <=1.2.3"),
            ("1, <=1.2.3", "1 <=1.2.3"),
            ("2 - 3, 4.0.0 - 5.1", ">=2 <=3 >=4.0.0 <=5.1"),
            ("2 - 3 4.0.0 - 5.1", ">=2 <=3 >=4.0.0 <=5.1"),
        ] {
            let parsed = text.parse::<Constraint>().expect(text);
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(shown.parse::<Constraint>().expect(shown), parsed);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let all = ["", "foo", ">=1.2 <", "1.2.3.4", "1,", "^1.0.0-01", "99999999999999999999"]
            .map(|text| text.parse::<Constraint>().expect_err(text).to_string());
        insta::assert_snapshot!(all.join("\n"), @r"
        an empty constraint; write * for any version
        `foo` is no constraint: `foo` does not begin with a version; write for example ^1.2, ~1.2.3, >=1.2 <2 or 1.x || 2.x
        `>=1.2 <` is no constraint: a version is missing after `<`; write for example ^1.2, ~1.2.3, >=1.2 <2 or 1.x || 2.x
        `1.2.3.4` is no constraint: after `1.2.3` neither a space nor a comma follows; write for example ^1.2, ~1.2.3, >=1.2 <2 or 1.x || 2.x
        `1,` is no constraint: a comparison is missing beside a comma or ||; write for example ^1.2, ~1.2.3, >=1.2 <2 or 1.x || 2.x
        `^1.0.0-01` is no constraint: in `1.0.0-01` a number of the pre-release begins with 0; write for example ^1.2, ~1.2.3, >=1.2 <2 or 1.x || 2.x
        `99999999999999999999` is no constraint: a number of `99999999999999999999` is too large; write for example ^1.2, ~1.2.3, >=1.2 <2 or 1.x || 2.x
        ");
    }

    #[test]
    fn the_exception_in_ranges_is_on_the_safe_side() {
        let odd: Constraint = "!=4.1-alpha".parse().expect("a constraint");
        let version = |text: &str| text.parse::<Version>().expect(text);
        assert!(!odd.matches(&version("4.1.7-alpha")) && odd.matches(&version("4.1.7-beta")));
        assert!(!odd.versions(true).contains(&version("4.1.7-alpha")));
        assert!(!odd.versions(true).contains(&version("4.1.7-beta")));
        assert!(odd.versions(false).contains(&version("4.1.7")));
    }

    fn near() -> impl Strategy<Value = String> {
        let number = prop_oneof![Just("0"), Just("1"), Just("2"), Just("x"), Just("*")];
        let version = (
            number.clone(),
            number.clone(),
            number,
            prop_oneof![Just(""), Just("-alpha"), Just("-1.x"), Just("+b")],
            0..4,
        )
            .prop_map(|(major, minor, patch, tail, parts)| match parts {
                0 => format!("{major}{tail}"),
                1 => format!("{major}.{minor}{tail}"),
                2 => format!("v{major}.{minor}.{patch}{tail}"),
                _ => format!("{major}.{minor}.{patch}{tail}"),
            });
        let sign = prop::sample::select(vec![
            "", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^", " - ", "|", "&", " ",
        ]);
        let between = prop::sample::select(vec![" ", ",", " , ", "||", " || ", ""]);
        prop::collection::vec((sign, version, between), 1..5).prop_map(|parts| {
            parts.into_iter().map(|(sign, version, between)| format!("{sign}{version}{between}")).collect()
        })
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<Constraint>();
        }

        #[test]
        fn what_parses_prints_and_parses_again(text in near(), numbers in [0u64..4, 0..4, 0..4], pre in prop::sample::select(vec!["", "alpha", "0", "1.x"])) {
            if let Ok(parsed) = text.parse::<Constraint>() {
                let again: Constraint = parsed.to_string().parse().expect("its own text");
                prop_assert_eq!(&again, &parsed);
                let [major, minor, patch] = numbers;
                let version = Version::with_pre(major, minor, patch, pre).expect("a version");
                // Ranges and matching are the same thing, with the one exception.
                let ranges = parsed.versions(version.is_prerelease()).contains(&version);
                prop_assert!(ranges == parsed.matches(&version) || (!ranges && text.contains("!=")), "{} {}", text, version);
                if !text.contains("alpha") && !text.contains("-1.x") {
                    prop_assert!(!(version.is_prerelease() && ranges));
                }
            }
        }
    }
}
