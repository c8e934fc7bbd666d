//! Kustomizations: what they name is there, is inside the package, and does not go in circles.

use crate::kube::{Kustomization, Named, NamedAs};
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};

const MISSING: Rule = Rule::new(
    "kustomize-missing",
    Severity::Error,
    "A kustomization names a file or a directory that is not in the package; kustomize fails on it.",
);
const OUTSIDE: Rule = Rule::new(
    "kustomize-outside",
    Severity::Error,
    "A kustomization names something outside the package, which an artifact does not have.",
);
const DIRECTORY: Rule = Rule::new(
    "kustomize-directory",
    Severity::Error,
    "A kustomization names a directory that has no kustomization of its own.",
);
const REMOTE: Rule = Rule::new(
    "kustomize-remote",
    Severity::Warning,
    "A kustomization fetches a part from elsewhere: what is deployed may change, and is not to be had without a network.",
);
const CIRCLE: Rule =
    Rule::new("kustomize-circle", Severity::Error, "Kustomizations build on each other in a circle.");
const OLD: Rule = Rule::new(
    "kustomize-old-field",
    Severity::Info,
    "A field that kustomize still reads and has replaced by another.",
);

pub(super) const RULES: &[Rule] = &[MISSING, OUTSIDE, DIRECTORY, REMOTE, CIRCLE, OLD];

const OLD_FIELDS: [(&str, &str); 6] = [
    ("bases", "resources"),
    ("patchesStrategicMerge", "patches"),
    ("patchesJson6902", "patches"),
    ("commonLabels", "labels"),
    ("vars", "replacements"),
    ("imageTags", "images"),
];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    for kustomization in &context.scan.kustomizations {
        for named in &kustomization.names {
            name(context, kustomization, named, findings);
        }
        if let Some(node) = context.scan.document(&kustomization.file) {
            for (old, new) in OLD_FIELDS {
                if let Some(entry) = node.entry(old) {
                    let place = Place::line(&kustomization.file, entry.line, entry.column);
                    let fix = Some(format!("`kustomize edit fix` writes `{new}`"));
                    findings.add(&OLD, place, format!("`{old}` is replaced by `{new}`"), fix);
                }
            }
        }
        if let Some(named) = leads_back(context, kustomization) {
            let place = Place::line(&kustomization.file, named.line, named.column);
            let message = format!("`{}` builds on this kustomization, too", named.text);
            findings.add(&CIRCLE, place, message, None);
        }
    }
}

fn name(context: &Context<'_>, kustomization: &Kustomization, named: &Named, findings: &mut Findings<'_>) {
    let text: String = named.text.chars().take(200).collect();
    let place = Place::line(&kustomization.file, named.line, named.column);
    if crate::kube::is_placeholder(&text) {
        return;
    }
    if named.remote {
        let fix = Some("keep a copy in the package".to_owned());
        findings.add(&REMOTE, place, format!("`{text}` is fetched when it is deployed"), fix);
        return;
    }
    let Some(path) = &named.path else {
        let fix = Some("build the package from a directory that holds both".to_owned());
        findings.add(&OUTSIDE, place, format!("`{text}` is outside the package"), fix);
        return;
    };
    let files = context.scan.files;
    let (file, directory) = (files.get(path).is_some(), files.has_directory(path));
    if !file && !directory {
        findings.add(&MISSING, place, format!("there is no `{path}`"), None);
    } else if !file && named.named_as == NamedAs::Resource && context.scan.kustomization_of(path).is_none() {
        let fix = Some("name its files, or give it a kustomization.yaml".to_owned());
        findings.add(&DIRECTORY, place, format!("there is no kustomization in `{path}`"), fix);
    } else if !file && named.named_as == NamedAs::Patch {
        findings.add(&MISSING, place, format!("`{path}` is a directory; a patch is a file"), None);
    }
}

/// The name through which a kustomization builds on itself.
fn leads_back<'a>(context: &Context<'_>, kustomization: &'a Kustomization) -> Option<&'a Named> {
    let inner = |named: &Named| {
        let path = named.path.as_deref().filter(|_| named.named_as == NamedAs::Resource)?;
        context.scan.kustomization_of(path)
    };
    kustomization.names.iter().find(|named| {
        let mut open: Vec<&Kustomization> = inner(named).into_iter().collect();
        let mut seen: Vec<&str> = Vec::new();
        while let Some(next) = open.pop() {
            if next.directory == kustomization.directory {
                return true;
            }
            if seen.contains(&next.directory.as_str()) {
                continue;
            }
            seen.push(&next.directory);
            open.extend(next.names.iter().filter_map(inner));
        }
        false
    })
}
