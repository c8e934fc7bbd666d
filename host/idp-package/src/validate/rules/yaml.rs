//! YAML and JSON that cannot be read, or that is read otherwise than it looks.

use crate::kube::{ProblemKind, Role};
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};

const SYNTAX: Rule =
    Rule::new("yaml-syntax", Severity::Error, "The file is not YAML or JSON; no consumer can read it.");
const TAB: Rule =
    Rule::new("yaml-tab", Severity::Error, "A tab in the indentation; YAML takes only spaces there.");
const DUPLICATE: Rule = Rule::new(
    "yaml-duplicate-key",
    Severity::Error,
    "A mapping has a key twice: kustomize and strict readers refuse it, others silently take the last.",
);
const KEY: Rule = Rule::new(
    "yaml-key",
    Severity::Error,
    "A key is a list or a mapping; mostly a template in braces that is not in quotes.",
);
const LIMIT: Rule = Rule::new(
    "yaml-limit",
    Severity::Error,
    "The file is deeper or larger than what is read, with its aliases followed; other tools have such limits, too.",
);
const UNREAD: Rule = Rule::new(
    "yaml-unread",
    Severity::Error,
    "The file could not be read: too large, or not UTF-8. Nothing in it is checked.",
);
const SKIPPED: Rule = Rule::new(
    "yaml-skipped",
    Severity::Info,
    "The file tells Argo CD to leave it out (`+argocd:skip-file-rendering`); Flux deploys it all the same.",
);

pub(super) const RULES: &[Rule] = &[SYNTAX, TAB, DUPLICATE, KEY, LIMIT, UNREAD, SKIPPED];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    let scan = context.scan;
    for (path, why) in &scan.unread {
        findings.add(&UNREAD, Place::file(path), format!("not read: {why}"), None);
    }
    for (path, scanned) in &scan.scanned {
        if scanned.skipped && scanned.role == Role::Manifest {
            findings.add(&SKIPPED, Place::file(path), "Argo CD leaves this file out", None);
        }
        // The manifest has a rule of its own, which says the same.
        if scanned.role == Role::Package || scanned.problems.is_empty() {
            continue;
        }
        // Nobody deploys it; some of these formats only look like JSON.
        let lighter = scanned.role == Role::Data;
        let bytes = scan.files.get(path).and_then(|file| file.read(crate::kube::LARGEST_TEXT).ok());
        let text = bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        // A template out of its chart has something wrong at every brace; once is enough.
        let template = is_template(text);
        let most = if template { 1 } else { scanned.problems.len() };
        for problem in scanned.problems.iter().take(most) {
            if template {
                let message = format!("a template, and no YAML until it is rendered: {}", problem.message);
                let place = Place::line(path, problem.line, problem.column);
                let severity = if lighter { Severity::Warning } else { SYNTAX.severity };
                let fix = Some("render it, or make a chart of it, or take it out of the package".to_owned());
                findings.add_as(&SYNTAX, severity, place, message, fix);
                continue;
            }
            let (rule, fix) = match problem.kind {
                ProblemKind::Syntax if has_tab(text, problem.line) => (&TAB, Some("use spaces")),
                ProblemKind::Syntax => (&SYNTAX, None),
                ProblemKind::Duplicate => (&DUPLICATE, Some("take one of them out")),
                ProblemKind::Key => (&KEY, Some("put the value in quotes")),
                ProblemKind::Limit => (&LIMIT, None),
            };
            let severity = if lighter { Severity::Warning } else { rule.severity };
            let place = Place::line(path, problem.line, problem.column);
            findings.add_as(rule, severity, place, problem.message.clone(), fix.map(str::to_owned));
        }
    }
}

/// Whether lines of it are actions of a template.
fn is_template(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("{{-") || line.starts_with("{{ ") || line.starts_with("{%")
    })
}

/// Whether the line, or the one before it, is indented with a tab.
fn has_tab(text: &str, line: u32) -> bool {
    let skip = (line as usize).saturating_sub(2);
    text.lines().skip(skip).take(2).any(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        indent.contains('\t')
    })
}
