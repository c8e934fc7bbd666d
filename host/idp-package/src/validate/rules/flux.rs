//! Flux's kustomize-controller: what it makes of a directory that has no kustomization.

use std::collections::BTreeSet;

use crate::kube::{Object, Role, is_below, parent};
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};

use super::units;

const NOT_AN_OBJECT: Rule = Rule::new(
    "flux-not-an-object",
    Severity::Warning,
    "In a deployed directory without a kustomization.yaml Flux takes every YAML file for objects and fails on one that is none; Argo CD passes over it.",
);

pub(super) const RULES: &[Rule] = &[NOT_AN_OBJECT];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    let scan = context.scan;
    let deployed: BTreeSet<String> =
        units::directories(scan).into_iter().map(|unit| unit.directory).collect();
    for (path, scanned) in &scan.scanned {
        let yaml = path.ends_with(".yaml") || path.ends_with(".yml");
        if !yaml || !deployed.iter().any(|directory| is_below(path, directory)) {
            continue;
        }
        // What is there only for tools is not in a layer, or is a template that a chart brings along.
        if matches!(scanned.role, Role::Package | Role::Kustomization) || has_own_renderer(context, path) {
            continue;
        }
        let other = scanned.documents.iter().find(|node| Object::of(path, node).is_none());
        if let Some(node) = other {
            let message = "Flux takes this for a Kubernetes object, and it has no apiVersion and kind";
            let fix = Some("move it out of the deployed directory, or add a kustomization.yaml".to_owned());
            findings.add(&NOT_AN_OBJECT, Place::of(path, node), message, fix);
        }
    }
}

/// Whether a kustomization stands between the file and what is deployed: Flux takes such a directory as a whole.
fn has_own_renderer(context: &Context<'_>, path: &str) -> bool {
    let mut directory = parent(path);
    loop {
        if context.scan.kustomization_of(directory).is_some() {
            return true;
        }
        if directory.is_empty() {
            return false;
        }
        directory = parent(directory);
    }
}
