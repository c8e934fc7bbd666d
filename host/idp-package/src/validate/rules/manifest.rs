//! What `idp-package.yaml` says about the files beside it.

use crate::kube::{clean, join};
use crate::manifest::{FILE, Manifest, Renderer, Type, parse};
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};

use super::units::target_directory;

const INVALID: Rule = Rule::new(
    "manifest-invalid",
    Severity::Error,
    "idp-package.yaml cannot be read, has an unknown key or a value that means nothing; nothing can be built from it.",
);
const FILE_MISSING: Rule = Rule::new(
    "manifest-file-missing",
    Severity::Error,
    "idp-package.yaml names a file that is not in the package.",
);
const TARGET: Rule = Rule::new(
    "manifest-target",
    Severity::Error,
    "A target names a directory that is not there, or that its renderer can make nothing of.",
);
const ROOT: Rule = Rule::new(
    "manifest-root",
    Severity::Error,
    "`spec.content.root` is not a directory of the package, so the package would be empty.",
);
const README: Rule = Rule::new(
    "manifest-readme",
    Severity::Info,
    "There is no README; catalogues show it to those who look for a package.",
);
const LICENCE: Rule = Rule::new(
    "manifest-licence",
    Severity::Info,
    "Neither `metadata.licenses` nor a LICENSE file says under which terms the package may be used.",
);
const DESCRIPTION: Rule = Rule::new(
    "manifest-description",
    Severity::Info,
    "`metadata.description` is empty; lists and searches have nothing to show.",
);

pub(super) const RULES: &[Rule] = &[INVALID, FILE_MISSING, TARGET, ROOT, README, LICENCE, DESCRIPTION];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    let files = context.scan.files;
    if let Some(file) = files.get(FILE) {
        let text = file.read(1024 * 1024).map_err(|error| error.to_string());
        let parsed = text.and_then(|bytes| {
            let text = std::str::from_utf8(&bytes).map_err(|_| "not UTF-8".to_owned())?;
            match parse(text) {
                Ok(_) => Ok(None),
                Err(error) => Ok(Some((error.line(), error.to_string()))),
            }
        });
        let wrong = match parsed {
            Ok(wrong) => wrong,
            Err(why) => Some((None, why)),
        };
        if let Some((line, why)) = wrong {
            let line = line.and_then(|line| u32::try_from(line).ok());
            let place = line.map_or(Place::file(FILE), |line| Place::line(FILE, line, 1));
            findings.add(&INVALID, place, why, None);
        }
    }
    if let Some(manifest) = context.scan.manifest {
        named_files(context, manifest, findings);
        targets(context, manifest, findings);
        about(context, manifest, findings);
    }
}

fn place<'a>(context: &Context<'_>, path: &[&str]) -> Place<'a> {
    match context.scan.document(FILE).and_then(|node| node.at(path)) {
        Some(node) => Place::of(FILE, node),
        None => Place::file(FILE),
    }
}

fn named_files(context: &Context<'_>, manifest: &Manifest, findings: &mut Findings<'_>) {
    let values = manifest.spec.values.as_ref();
    let mut named = vec![
        (vec!["metadata", "icon"], manifest.metadata.icon.as_ref()),
        (vec!["metadata", "releaseNotes"], manifest.metadata.release_notes.as_ref()),
        (vec!["spec", "values", "schema"], values.and_then(|values| values.schema.as_ref())),
        (vec!["spec", "values", "defaults"], values.and_then(|values| values.defaults.as_ref())),
    ];
    let indexes: Vec<String> = (0..manifest.spec.hooks.len()).map(|index| index.to_string()).collect();
    for (hook, index) in manifest.spec.hooks.iter().zip(&indexes) {
        named.push((vec!["spec", "hooks", index, "path"], Some(&hook.path)));
    }
    let root = clean(&manifest.spec.content.root);
    for (key, path) in named {
        let Some(path) = path else { continue };
        let there = [Some(clean(path)), join(&root, path)].into_iter().flatten();
        if !there.into_iter().any(|path| context.scan.files.get(&path).is_some()) {
            let message = format!("{}: there is no file `{path}` in the package", key.join("."));
            let fix = Some("add the file, or take the line out".to_owned());
            findings.add(&FILE_MISSING, place(context, &key), message, fix);
        }
    }
}

fn targets(context: &Context<'_>, manifest: &Manifest, findings: &mut Findings<'_>) {
    let scan = context.scan;
    let root = clean(&manifest.spec.content.root);
    if !root.is_empty() && !scan.files.has_directory(&root) && manifest.spec.r#type != Type::Bundle {
        // Where the files are the content already, its root is gone.
        if scan.files.get(FILE).is_some() {
            let message = format!("there is no directory `{root}`");
            findings.add(&ROOT, place(context, &["spec", "content", "root"]), message, None);
        }
    }
    for (index, target) in manifest.spec.targets.iter().enumerate() {
        let index = index.to_string();
        let at = place(context, &["spec", "targets", &index, "path"]);
        let Some(directory) = target_directory(scan, &target.path) else {
            let file = scan.files.get(&clean(&target.path)).is_some();
            let what = if file { "a file; a target is a directory" } else { "not in the package" };
            findings.add(&TARGET, at, format!("`{}` is {what}", target.path), None);
            continue;
        };
        let chart = scan.charts.iter().any(|chart| chart.directory == directory);
        let lacks = match target.renderer {
            Some(Renderer::Kustomize) if scan.kustomization_of(&directory).is_none() => "kustomization.yaml",
            Some(Renderer::Helm) if !chart => "Chart.yaml",
            _ => continue,
        };
        findings.add(
            &TARGET,
            at,
            format!("there is no {lacks} in `{}`, which its renderer needs", target.path),
            None,
        );
    }
}

fn about(context: &Context<'_>, manifest: &Manifest, findings: &mut Findings<'_>) {
    let names = |wanted: &[&str]| {
        context.scan.files.iter().any(|(path, _)| {
            let path = path.to_ascii_lowercase();
            wanted.iter().any(|name| path == *name || path.starts_with(&format!("{name}.")))
        })
    };
    // Only the author's directory has them; the content of an artifact does not.
    if context.scan.files.get(FILE).is_none() {
        return;
    }
    if !names(&["readme"]) {
        findings.add(&README, Place::file(FILE), "there is no README.md", None);
    }
    if manifest.metadata.licenses.is_none() && !names(&["license", "licence", "copying"]) {
        let fix =
            Some("write `licenses: Apache-2.0`, or another SPDX expression, below `metadata`".to_owned());
        findings.add(&LICENCE, Place::file(FILE), "nothing says under which licence the package is", fix);
    }
    if manifest.metadata.description.as_deref().unwrap_or_default().trim().is_empty() {
        findings.add(&DESCRIPTION, Place::file(FILE), "there is no description", None);
    }
}
