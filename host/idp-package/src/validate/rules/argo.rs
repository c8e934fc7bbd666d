//! Argo CD: Applications, the `cnoe://` addresses of idpbuilder, and what a directory must be for Argo CD to deploy it.

use std::collections::{BTreeMap, BTreeSet};

use crate::kube::{Node, Object, base, is_below, is_placeholder, join, parent};
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};

use super::units::{self, application_sources, cnoe_directory};

const APPLICATION: Rule = Rule::new(
    "argo-application",
    Severity::Error,
    "An Application lacks what Argo CD needs of it: a destination, a project, a source.",
);
const PATH: Rule = Rule::new(
    "argo-no-path",
    Severity::Error,
    "A source has neither `path`, nor `chart`, nor `ref`; Argo CD does not know what to deploy. `.` is the whole of it.",
);
const CNOE: Rule = Rule::new(
    "argo-cnoe-missing",
    Severity::Error,
    "A `cnoe://` address, seen from the file it is in, or the path in it, names a directory that is not in the package.",
);
const OUTSIDE: Rule = Rule::new(
    "argo-cnoe-outside",
    Severity::Warning,
    "A `cnoe://` address leads out of the package; it works in a checkout and not from an artifact.",
);
const COLLISION: Rule = Rule::new(
    "argo-cnoe-collision",
    Severity::Error,
    "Two `cnoe://` addresses of one Application end in the same name; idpbuilder pushes both to one repository.",
);
const VALUES: Rule = Rule::new(
    "argo-values",
    Severity::Error,
    "A values file of `$name/…` refers to a source that is not there, or to a file that its directory does not have.",
);
const RECURSE: Rule = Rule::new(
    "argo-recurse",
    Severity::Warning,
    "Objects lie in directories below a deployed directory, and Argo CD looks there only with `recurse`.",
);
const LARGE: Rule = Rule::new(
    "argo-directory-size",
    Severity::Warning,
    "A deployed directory holds more than 10 MB of manifests, which Argo CD refuses unless it is configured otherwise.",
);

pub(super) const RULES: &[Rule] = &[APPLICATION, PATH, CNOE, OUTSIDE, COLLISION, VALUES, RECURSE, LARGE];

const LARGEST: u64 = 10_000_000;

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    for object in context.scan.objects() {
        if object.is("argoproj.io", "Application") || object.is("argoproj.io", "ApplicationSet") {
            application(&object, findings);
            sources(context, &object, findings);
        }
    }
    directories(context, findings);
}

fn application(object: &Object<'_>, findings: &mut Findings<'_>) {
    let spec = match object.kind() {
        "Application" => object.at(&["spec"]),
        _ => object.at(&["spec", "template", "spec"]),
    };
    let Some(spec) = spec else {
        let message = format!("this {} has no spec to deploy", object.kind());
        findings.add(&APPLICATION, Place::of(object.file, object.node), message, None);
        return;
    };
    let mut lacks = |what: &str, fix: &str| {
        let fix = Some(fix.to_owned());
        findings.add(
            &APPLICATION,
            Place::of(object.file, spec),
            format!("the Application has no {what}"),
            fix,
        );
    };
    let text = |path: &[&str]| spec.text_at(path).is_some_and(|text| !text.is_empty());
    if !(text(&["destination", "server"]) || text(&["destination", "name"])) {
        lacks("destination", "add `destination: {server: \"https://kubernetes.default.svc\"}`");
    }
    if !text(&["project"]) {
        lacks("project", "add `project: default`");
    }
    // A template's patch may bring it.
    if application_sources(object).is_empty() && object.at(&["spec", "templatePatch"]).is_none() {
        lacks("source", "add `source`, or `sources`");
    }
}

fn sources(context: &Context<'_>, object: &Object<'_>, findings: &mut Findings<'_>) {
    let scan = context.scan;
    let sources = application_sources(object);
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for source in &sources {
        let place = Place::of(object.file, source.get("repoURL").unwrap_or(source));
        let has = |key: &str| source.text_at(&[key]).is_some_and(|text| !text.is_empty());
        if !(has("path") || has("chart") || has("ref")) && has("repoURL") {
            let fix = Some("add `path: .`, or the directory that is meant".to_owned());
            findings.add(&PATH, place, "this source has no `path`, no `chart` and no `ref`", fix);
        }
        let Some(address) = source.text_at(&["repoURL"]).and_then(|url| url.strip_prefix("cnoe://")) else {
            continue;
        };
        if is_placeholder(address) {
            continue;
        }
        let Some(directory) = cnoe_directory(object, source) else {
            let fix = Some("build the package from the directory that holds both".to_owned());
            findings.add(&OUTSIDE, place, format!("`cnoe://{address}` leads out of the package"), fix);
            continue;
        };
        if !scan.files.has_directory(&directory) {
            let message =
                format!("`cnoe://{address}` is `{directory}`, and that is no directory of the package");
            findings.add(&CNOE, place, message, None);
            continue;
        }
        if let Some(node) = source.get("path")
            && let Some(path) = node.text().filter(|path| !is_placeholder(path) && !has("chart"))
        {
            let inside = join(&directory, path).filter(|inside| scan.files.has_directory(inside));
            if inside.is_none() {
                let message = format!("there is no directory `{path}` in `{directory}`");
                findings.add(&CNOE, Place::of(object.file, node), message, None);
            }
        }
        let name = base(&directory).to_owned();
        match names.get(&name) {
            Some(other) if *other != directory => {
                let message = format!("`{other}` and `{directory}` both become the repository …-{name}");
                findings.add(&COLLISION, place, message, Some("rename one of the directories".to_owned()));
            }
            _ => {
                names.insert(name, directory);
            }
        }
    }
    values(context, object, &sources, findings);
}

fn values(context: &Context<'_>, object: &Object<'_>, sources: &[&Node], findings: &mut Findings<'_>) {
    let files =
        sources.iter().filter_map(|source| source.at(&["helm", "valueFiles"])).flat_map(|node| node.items());
    for node in files {
        let Some((name, path)) =
            node.text().and_then(|text| text.strip_prefix('$')).and_then(|text| text.split_once('/'))
        else {
            continue;
        };
        if is_placeholder(path) || is_placeholder(node.text().unwrap_or_default()) || name.starts_with('{') {
            continue;
        }
        let place = Place::of(object.file, node);
        let Some(source) = sources.iter().find(|source| source.text_at(&["ref"]) == Some(name)) else {
            findings.add(&VALUES, place, format!("no source has `ref: {name}`"), None);
            continue;
        };
        let Some(directory) = cnoe_directory(object, source) else { continue };
        let file = join(&directory, path);
        if file.is_none_or(|file| context.scan.files.get(&file).is_none()) {
            findings.add(&VALUES, place, format!("there is no file `{path}` in `{directory}`"), None);
        }
    }
}

fn directories(context: &Context<'_>, findings: &mut Findings<'_>) {
    let scan = context.scan;
    let objects = scan.objects();
    let with_objects: BTreeSet<&str> = objects.iter().map(|object| object.file).collect();
    for unit in units::directories(scan) {
        let place = Place::line(&unit.file, unit.line, unit.column);
        let direct = |file: &str| parent(file) == unit.directory;
        if !unit.recurse {
            let deeper = with_objects.iter().find(|file| {
                is_below(file, &unit.directory)
                    && !direct(file)
                    // What has a renderer of its own is meant for something else.
                    && scan.chart_of(file).is_none()
                    && scan.kustomization_of(parent(file)).is_none()
            });
            // One that deploys nothing at all is a mistake; one beside other files may be meant.
            if let Some(deeper) = deeper
                && !with_objects.iter().any(|file| direct(file))
            {
                let shown = if unit.directory.is_empty() { "." } else { &unit.directory };
                let message = format!(
                    "{} deploys `{shown}`, whose objects are all in directories below it, as {deeper}",
                    unit.name
                );
                let fix = Some("add `recurse: true` (in an Application, below `directory`)".to_owned());
                findings.add(&RECURSE, place, message, fix);
            }
        }
        let manifest = |path: &str| [".yaml", ".yml", ".json"].iter().any(|end| path.ends_with(end));
        let size: u64 = scan
            .files
            .below(&unit.directory)
            .filter(|(path, _)| manifest(path) && (unit.recurse || direct(path)))
            .map(|(_, file)| file.size)
            .sum();
        if size > LARGEST {
            let message = format!("{} deploys {size} bytes of manifests; Argo CD takes {LARGEST}", unit.name);
            findings.add(&LARGE, place, message, Some("split the directory".to_owned()));
        }
    }
}
