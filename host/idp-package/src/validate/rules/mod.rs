//! The rules, one file a family.

mod archive;
mod argo;
mod flux;
mod helm;
mod images;
mod kubernetes;
mod kustomize;
mod manifest;
mod secrets;
mod units;
mod yaml;

use super::Context;
use super::rule::{Findings, Place, Rule, Severity, rule};

pub(super) use kubernetes::unchecked;

/// Rules that are checked together.
pub(super) struct Family {
    pub(super) rules: &'static [Rule],
    pub(super) check: fn(&Context<'_>, &mut Findings<'_>),
}

pub(super) static FAMILIES: &[Family] = &[
    Family { rules: manifest::RULES, check: manifest::check },
    Family { rules: archive::RULES, check: archive::check },
    Family { rules: yaml::RULES, check: yaml::check },
    Family { rules: kubernetes::RULES, check: kubernetes::check },
    Family { rules: argo::RULES, check: argo::check },
    Family { rules: flux::RULES, check: flux::check },
    Family { rules: helm::RULES, check: helm::check },
    Family { rules: kustomize::RULES, check: kustomize::check },
    Family { rules: images::RULES, check: images::check },
    Family { rules: secrets::RULES, check: secrets::check },
    Family { rules: &[UNKNOWN], check: ignores },
];

const UNKNOWN: Rule = Rule::new(
    "ignore-unknown",
    Severity::Warning,
    "A comment `idp:ignore` names a rule that there is not, so it ignores nothing.",
);

fn ignores(context: &Context<'_>, findings: &mut Findings<'_>) {
    for (file, rules) in &context.scan.ignores {
        for (id, line) in rules.iter().filter(|(id, _)| rule(id).is_none()) {
            let id: String = id.chars().take(60).collect();
            findings.add(&UNKNOWN, Place::line(file, *line, 1), format!("there is no rule `{id}`"), None);
        }
    }
}
