//! What a rule is, what it finds, and the user's word on both.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::kube::{Node, Scan};

use super::rules::FAMILIES;
use super::shapes::Schemas;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// It works somewhere and not elsewhere, or not for long.
    Warning,
    /// A consumer refuses it, or does something else than what is written.
    Error,
}

impl Severity {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What the user makes of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It is not looked at.
    Off,
    /// It informs.
    Info,
    /// It warns.
    Warning,
    /// It fails the validation.
    Error,
}

/// A rule over the files of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rule {
    /// `image-latest`.
    pub id: &'static str,
    /// What its findings weigh unless the user says otherwise.
    pub severity: Severity,
    /// What it looks for and why that matters.
    pub explanation: &'static str,
}

impl Rule {
    pub(crate) const fn new(id: &'static str, severity: Severity, explanation: &'static str) -> Self {
        Self { id, severity, explanation }
    }
}

/// Every rule, by family.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().flat_map(|family| family.rules)
}

/// The rule of this name.
pub fn rule(id: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.id == id)
}

/// Something a rule found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The rule.
    pub rule: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// The file; none where it is about the whole package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl std::fmt::Display for Finding {
    /// `file:line:column: severity: message (rule)`, and what to do on a line of its own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
                if let Some(column) = self.column {
                    write!(f, "{column}:")?;
                }
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: {} ({})", self.severity.as_str(), self.message, self.rule)?;
        match &self.fix {
            Some(fix) => write!(f, "\n  {fix}"),
            None => Ok(()),
        }
    }
}

/// The user's word on rules, and more schemas.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    levels: BTreeMap<&'static str, Level>,
    /// Schemas besides the bundled ones and those of the package.
    pub schemas: Schemas,
}

/// No rule is called that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no rule `{0}`; `idp package rules` lists them")]
pub struct UnknownRule(pub String);

impl Settings {
    /// Every rule as it is, the bundled schemas.
    pub fn new() -> Self {
        Self::default()
    }

    /// Switches a rule off, or gives it another weight.
    ///
    /// # Errors
    /// There is no such rule.
    pub fn set(&mut self, id: &str, level: Level) -> Result<(), UnknownRule> {
        let rule = rule(id).ok_or_else(|| UnknownRule(id.to_owned()))?;
        self.levels.insert(rule.id, level);
        Ok(())
    }

    fn severity(&self, rule: &Rule, unless_set: Severity) -> Option<Severity> {
        match self.levels.get(rule.id) {
            None => Some(unless_set),
            Some(Level::Off) => None,
            Some(Level::Info) => Some(Severity::Info),
            Some(Level::Warning) => Some(Severity::Warning),
            Some(Level::Error) => Some(Severity::Error),
        }
    }
}

/// Where a finding is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
}

impl<'a> Place<'a> {
    pub(crate) const PACKAGE: Self = Self { file: None, line: None, column: None };

    pub(crate) fn file(file: &'a str) -> Self {
        Self { file: Some(file), line: None, column: None }
    }

    pub(crate) fn line(file: &'a str, line: u32, column: u32) -> Self {
        Self { file: Some(file), line: Some(line), column: Some(column) }
    }

    pub(crate) fn of(file: &'a str, node: &Node) -> Self {
        Self::line(file, node.line, node.column)
    }
}

/// No package is told more of one rule: the rest says the same.
const MOST_OF_A_RULE: usize = 1000;

/// What rules write to: it knows the user's word and the comments of files.
pub(crate) struct Findings<'a> {
    settings: &'a Settings,
    ignores: BTreeMap<&'a str, BTreeSet<&'a str>>,
    counts: BTreeMap<&'static str, usize>,
    found: Vec<Finding>,
    ignored: usize,
    left_out: usize,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(settings: &'a Settings, scan: &'a Scan<'_>) -> Self {
        let ignores = scan.ignores.iter();
        let ignores = ignores
            .map(|(file, rules)| (*file, rules.iter().map(|(rule, _)| rule.as_str()).collect()))
            .collect();
        Self { settings, ignores, counts: BTreeMap::new(), found: Vec::new(), ignored: 0, left_out: 0 }
    }

    pub(crate) fn add(
        &mut self,
        rule: &Rule,
        place: Place<'_>,
        message: impl Into<String>,
        fix: Option<String>,
    ) {
        self.add_as(rule, rule.severity, place, message, fix);
    }

    /// With another weight than the rule's, unless the user gave it one.
    pub(crate) fn add_as(
        &mut self,
        rule: &Rule,
        severity: Severity,
        place: Place<'_>,
        message: impl Into<String>,
        fix: Option<String>,
    ) {
        let Some(severity) = self.settings.severity(rule, severity) else { return };
        if place.file.is_some_and(|file| self.ignores.get(file).is_some_and(|rules| rules.contains(rule.id)))
        {
            self.ignored += 1;
            return;
        }
        let count = self.counts.entry(rule.id).or_default();
        *count += 1;
        if *count > MOST_OF_A_RULE {
            self.left_out += 1;
            return;
        }
        self.found.push(Finding {
            rule: rule.id,
            severity,
            file: place.file.map(str::to_owned),
            line: place.line,
            column: place.column,
            message: message.into(),
            fix,
        });
    }

    /// By file and place; how many comments ignored; how many are left out.
    pub(crate) fn into_parts(mut self) -> (Vec<Finding>, usize, usize) {
        self.found.sort_by(|one, other| {
            (&one.file, one.line, one.column, one.rule, &one.message).cmp(&(
                &other.file,
                other.line,
                other.column,
                other.rule,
                &other.message,
            ))
        });
        self.found.dedup();
        (self.found, self.ignored, self.left_out)
    }
}
