//! Names and sizes that one consumer or another takes amiss (`design/package-format.md`, 4.10).

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization as _;

use crate::kube::base;
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};

const NAME: Rule = Rule::new(
    "archive-name",
    Severity::Error,
    "A name has a backslash, a control character, or a part that ends in `..`: Flux refuses the whole archive, or tools disagree about where the file goes.",
);
const TWINS: Rule = Rule::new(
    "archive-twins",
    Severity::Error,
    "Two names differ only by case or by how accents are encoded: on some file systems one file replaces the other.",
);
const RESERVED: Rule =
    Rule::new("archive-reserved-name", Severity::Warning, "A name cannot be written on Windows.");
const SIZE: Rule = Rule::new(
    "archive-size",
    Severity::Warning,
    "The package is larger than 1 GB unpacked, which Argo CD cuts off unless it is configured otherwise.",
);
const FLUX_DROPS: Rule = Rule::new(
    "archive-flux-drops",
    Severity::Warning,
    "Flux leaves out pictures, films and archives without a word; what needs them finds them missing.",
);
const SOURCEIGNORE: Rule = Rule::new(
    "archive-sourceignore",
    Severity::Warning,
    "A .sourceignore in an artifact makes Flux leave out files that Argo CD deploys.",
);
const ARGOCD_SOURCE: Rule = Rule::new(
    "archive-argocd-source",
    Severity::Warning,
    "A .argocd-source.yaml in an artifact overrides what the Application says, for Argo CD only.",
);

pub(super) const RULES: &[Rule] = &[NAME, TWINS, RESERVED, SIZE, FLUX_DROPS, SOURCEIGNORE, ARGOCD_SOURCE];

/// Argo CD's `1G`.
const LARGEST: u64 = 1_000_000_000;

/// Flux's defaults (`fluxcd/pkg`, `sourceignore.go`).
const DROPPED_ENDS: [&str; 8] = [".jpg", ".jpeg", ".gif", ".png", ".wmv", ".flv", ".tar.gz", ".zip"];
const DROPPED_NAMES: [&str; 2] = [".sops.yaml", ".flux.yaml"];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    let files = context.scan.files;
    let mut folded: BTreeMap<String, &str> = BTreeMap::new();
    let mut total = 0_u64;
    for (path, file) in files.iter() {
        total = total.saturating_add(file.size);
        name(path, findings);
        twins(path, &mut folded, findings);
        flux_drops(context, path, findings);
        if base(path) == ".sourceignore" {
            let fix = Some("leave the files out of the package instead: `spec.content.exclude`".to_owned());
            findings.add(&SOURCEIGNORE, Place::file(path), "Flux leaves out what this file names", fix);
        }
        if base(path) == ".argocd-source.yaml" || base(path).starts_with(".argocd-source-") {
            let message = "Argo CD takes parameters from this file over those of the Application";
            findings.add(&ARGOCD_SOURCE, Place::file(path), message, None);
        }
    }
    if total > LARGEST {
        let fix = Some("split it into packages that depend on each other".to_owned());
        findings.add(&SIZE, Place::PACKAGE, format!("{total} bytes of files; Argo CD takes {LARGEST}"), fix);
    }
}

fn name(path: &str, findings: &mut Findings<'_>) {
    let shown: String = path.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    let mut wrong = |why: &str| {
        findings.add(&NAME, Place::file(&shown), format!("the name {why}"), Some("rename it".to_owned()));
    };
    if path.contains('\\') {
        wrong("has a backslash");
    }
    if path.chars().any(char::is_control) {
        wrong("has a control character");
    }
    if path.starts_with('/') || path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        wrong("is no plain path inside the package");
    } else if path.split('/').any(|part| part.ends_with("..")) {
        wrong("has a part that ends in `..`, and Flux refuses every archive with one");
    }
    if path.split('/').any(|part| part.len() > 255) {
        wrong("has a part longer than 255 bytes");
    }
    for part in path.split('/') {
        let stem = part.split('.').next().unwrap_or_default().to_ascii_uppercase();
        let numbered = |start: &str| {
            stem.strip_prefix(start).is_some_and(|rest| matches!(rest.as_bytes(), [b'1'..=b'9']))
        };
        let device =
            matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT");
        if device
            || part.contains(['<', '>', ':', '"', '|', '?', '*'])
            || part.ends_with(' ')
            || part.ends_with('.') && !part.ends_with("..")
        {
            let part: String = part.chars().filter(|char| !char.is_control()).collect();
            let message = format!("`{part}` cannot be a name on Windows");
            findings.add(&RESERVED, Place::file(&shown), message, Some("rename it".to_owned()));
            break;
        }
    }
}

fn twins<'a>(path: &'a str, folded: &mut BTreeMap<String, &'a str>, findings: &mut Findings<'_>) {
    // Directories, too: `A/x` and `a/y` are one directory on such a file system.
    let mut end = 0;
    for part in path.split('/') {
        end += part.len() + usize::from(end > 0);
        let prefix = &path[..end];
        let fold = prefix.nfc().flat_map(char::to_lowercase).collect::<String>();
        match folded.get(&fold) {
            Some(known) if *known != prefix => {
                let message = format!("on some file systems this is the same as `{known}`");
                findings.add(&TWINS, Place::file(path), message, Some("rename one of them".to_owned()));
                return;
            }
            Some(_) => {}
            None => {
                folded.insert(fold, prefix);
            }
        }
    }
}

fn flux_drops(context: &Context<'_>, path: &str, findings: &mut Findings<'_>) {
    let manifest = context.scan.manifest;
    // What is never in the layer is nothing to lose.
    let icon = manifest.and_then(|manifest| manifest.metadata.icon.as_deref());
    if icon.is_some_and(|icon| crate::kube::clean(icon) == path) {
        return;
    }
    let name = base(path);
    let dropped = DROPPED_ENDS.iter().any(|end| name.ends_with(end)) || DROPPED_NAMES.contains(&name);
    if dropped {
        let message = "Flux leaves this file out; where Flux deploys the package it is missing";
        let fix =
            Some("if nothing deployed needs it, take it out of the package or ignore this rule".to_owned());
        findings.add(&FLUX_DROPS, Place::file(path), message, fix);
    }
}
