//! What is deployed together: the directories a package says are deployed, and who renders each.

use crate::kube::{Object, Scan, clean, join, parent};
use crate::manifest::Renderer;

/// A directory that is deployed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unit {
    /// The root is empty.
    pub(super) directory: String,
    pub(super) recurse: bool,
    /// Where that is said.
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) column: u32,
    /// The target or the Application.
    pub(super) name: String,
}

/// The directories that targets and Applications with `cnoe://` deploy as plain manifests.
pub(super) fn directories(scan: &Scan<'_>) -> Vec<Unit> {
    let mut units = Vec::new();
    if let Some(manifest) = scan.manifest {
        let document = scan.document(crate::manifest::FILE);
        let targets = document.and_then(|node| node.at(&["spec", "targets"]));
        for (index, target) in manifest.spec.targets.iter().enumerate() {
            let Some(directory) = target_directory(scan, &target.path) else { continue };
            if matches!(target.renderer, Some(Renderer::Kustomize | Renderer::Helm))
                || is_rendered(scan, &directory)
            {
                continue;
            }
            let node = targets.and_then(|node| node.items().get(index));
            units.push(Unit {
                directory,
                recurse: target.recurse,
                file: crate::manifest::FILE.to_owned(),
                line: node.map_or(1, |node| node.line),
                column: node.map_or(1, |node| node.column),
                name: format!("the target `{}`", target.name),
            });
        }
    }
    for object in scan.objects() {
        for source in application_sources(&object) {
            let Some(directory) = cnoe_directory(&object, source) else { continue };
            let Some(path) = source.text_at(&["path"]).filter(|path| !crate::kube::is_placeholder(path))
            else {
                continue;
            };
            let Some(directory) = join(&directory, path) else { continue };
            if is_rendered(scan, &directory)
                || source.get("helm").is_some()
                || source.get("kustomize").is_some()
            {
                continue;
            }
            units.push(Unit {
                directory,
                recurse: source.at(&["directory", "recurse"]).is_some_and(crate::kube::Node::is_true),
                file: object.file.to_owned(),
                line: source.line,
                column: source.column,
                name: format!("the {} `{}`", object.kind(), object.name().unwrap_or_default()),
            });
        }
    }
    units
}

/// Whether kustomize or Helm makes the objects of a directory.
fn is_rendered(scan: &Scan<'_>, directory: &str) -> bool {
    scan.kustomization_of(directory).is_some() || scan.charts.iter().any(|chart| chart.directory == directory)
}

/// A target's path seen from the files' root.
pub(super) fn target_directory(scan: &Scan<'_>, path: &str) -> Option<String> {
    let root = scan.manifest.map_or(".", |manifest| manifest.spec.content.root.as_str());
    let below = join(&clean(root), path)?;
    if scan.files.has_directory(&below) {
        return Some(below);
    }
    // Where the files are the content already.
    let path = clean(path);
    scan.files.has_directory(&path).then_some(path)
}

/// `spec.source` and `spec.sources` of an Application, or of an ApplicationSet's template.
pub(super) fn application_sources<'a>(object: &Object<'a>) -> Vec<&'a crate::kube::Node> {
    let spec = match (object.group(), object.kind()) {
        ("argoproj.io", "Application") => object.at(&["spec"]),
        ("argoproj.io", "ApplicationSet") => object.at(&["spec", "template", "spec"]),
        _ => None,
    };
    let Some(spec) = spec else { return Vec::new() };
    let sources = spec.get("sources").map_or(&[][..], crate::kube::Node::items);
    spec.get("source").into_iter().chain(sources).collect()
}

/// The directory that a `cnoe://` address names, seen from the file, as idpbuilder does; none where it leads out.
pub(super) fn cnoe_directory(object: &Object<'_>, source: &crate::kube::Node) -> Option<String> {
    let address = source.text_at(&["repoURL"])?.strip_prefix("cnoe://")?;
    join(parent(object.file), address)
}
