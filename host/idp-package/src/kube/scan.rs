//! All files of a package, read once: what each is for, its documents with places, charts and kustomizations.
//!
//! Bounded per file and in all; what was not read is noted and told by a rule.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{self, Manifest};

use super::files::{Files, LARGEST_TEXT, base, clean, parent};
use super::kustomize::{Kustomization, NamedAs, is_kustomization};
use super::node::Node;
use super::object::Object;
use super::yaml::{Limits, Parsed, Problem, ProblemKind, parse};

/// Values in all files together.
const MOST_NODES: usize = 2_000_000;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `idp-package.yaml`.
    Package,
    /// Kubernetes objects, or YAML that should be.
    Manifest,
    /// A kustomization.
    Kustomization,
    /// A part of an object that a kustomization puts over another.
    Patch,
    /// `Chart.yaml`.
    Chart,
    /// Values of a chart.
    Values,
    /// A chart's template with `{{ … }}`: text until Helm renders it, and not parsed.
    Template,
    /// YAML or JSON for something else.
    Data,
}

/// A YAML or JSON file of the package.
#[derive(Debug, Clone)]
pub struct ScannedFile {
    /// What it is for.
    pub role: Role,
    /// Its documents that could be read.
    pub documents: Vec<Node>,
    /// What is wrong in it.
    pub problems: Vec<Problem>,
    /// Whether Argo CD is told to leave it out (`+argocd:skip-file-rendering`).
    pub skipped: bool,
}

/// A Helm chart of the package.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Its directory; the root is empty.
    pub directory: String,
    /// Its `Chart.yaml`.
    pub file: String,
    /// Whether it lies in another chart's `charts/`.
    pub vendored: bool,
    /// `appVersion`, which many charts take for the image's tag.
    pub app_version: Option<String>,
}

/// What is in the files of a package.
#[derive(Debug)]
pub struct Scan<'a> {
    /// The files.
    pub files: &'a Files,
    /// What the author wrote; none for a package of another tool.
    pub manifest: Option<&'a Manifest>,
    /// The YAML and JSON files.
    pub scanned: BTreeMap<&'a str, ScannedFile>,
    /// Files that were not read, and why.
    pub unread: BTreeMap<&'a str, String>,
    /// The rules that a file's comments switch off in it.
    pub ignores: BTreeMap<&'a str, Vec<(String, u32)>>,
    /// Its charts, outer ones first.
    pub charts: Vec<Chart>,
    /// Its kustomizations.
    pub kustomizations: Vec<Kustomization>,
}

impl<'a> Scan<'a> {
    /// Reads the files.
    pub fn new(files: &'a Files, manifest: Option<&'a Manifest>) -> Self {
        let mut scan = Self {
            files,
            manifest,
            scanned: BTreeMap::new(),
            unread: BTreeMap::new(),
            ignores: BTreeMap::new(),
            charts: Vec::new(),
            kustomizations: Vec::new(),
        };
        let chart_directories: BTreeSet<&str> = files
            .iter()
            .filter(|(path, _)| base(path) == "Chart.yaml")
            .map(|(path, _)| parent(path))
            .collect();
        let mut nodes = 0;
        for (path, file) in files.iter() {
            let wanted = is_yaml(path) || path.ends_with(".json");
            let bytes = match file.read(LARGEST_TEXT) {
                Ok(bytes) => bytes,
                Err(error) => {
                    if wanted {
                        scan.unread.insert(path, error.to_string());
                    }
                    continue;
                }
            };
            let text = match std::str::from_utf8(&bytes) {
                Ok(text) => text,
                Err(error) => {
                    if wanted {
                        scan.unread.insert(path, format!("not UTF-8 from byte {} on", error.valid_up_to()));
                    }
                    continue;
                }
            };
            let ignores = ignored_rules(text);
            if !ignores.is_empty() {
                scan.ignores.insert(path, ignores);
            }
            if !wanted {
                continue;
            }
            if nodes >= MOST_NODES {
                scan.unread
                    .insert(path, format!("the files before it hold {MOST_NODES} values; no more are read"));
                continue;
            }
            let role = role_of(path, text, &chart_directories, manifest);
            let parsed = read(path, text, role, MOST_NODES - nodes);
            nodes += parsed.nodes;
            scan.scanned.insert(
                path,
                ScannedFile {
                    role,
                    documents: parsed.documents,
                    problems: parsed.problems,
                    skipped: text.contains("+argocd:skip-file-rendering"),
                },
            );
        }
        scan.charts(&chart_directories);
        scan.kustomizations();
        scan
    }

    fn charts(&mut self, directories: &BTreeSet<&str>) {
        for directory in directories {
            let file = if directory.is_empty() {
                "Chart.yaml".to_owned()
            } else {
                format!("{directory}/Chart.yaml")
            };
            let document = self.scanned.get(file.as_str()).and_then(|scanned| scanned.documents.first());
            let app_version = document.and_then(|node| node.text_at(&["appVersion"])).map(str::to_owned);
            let vendored = parent(directory).rsplit('/').next() == Some("charts")
                && directories.contains(parent(parent(directory)));
            self.charts.push(Chart { directory: (*directory).to_owned(), file, vendored, app_version });
        }
    }

    fn kustomizations(&mut self) {
        let mut kustomizations = Vec::new();
        for (path, scanned) in &self.scanned {
            if scanned.role == Role::Kustomization
                && let Some(node) = scanned.documents.first()
            {
                kustomizations.push(Kustomization::read(path, node));
            }
        }
        for named in kustomizations.iter().flat_map(|kustomization| &kustomization.names) {
            let Some(path) = &named.path else { continue };
            let role = match named.named_as {
                NamedAs::Resource => continue,
                NamedAs::Patch => Role::Patch,
                NamedAs::Data => Role::Data,
            };
            if let Some(scanned) = self.scanned.get_mut(path.as_str())
                && matches!(scanned.role, Role::Manifest | Role::Data)
            {
                scanned.role = role;
            }
        }
        self.kustomizations = kustomizations;
    }

    /// The whole objects of the package, with those in a `List` on their own.
    pub fn objects(&self) -> Vec<Object<'_>> {
        self.of_role(|role| role == Role::Manifest)
    }

    /// Parts of objects: what kustomizations put over others.
    pub fn patches(&self) -> Vec<Object<'_>> {
        self.of_role(|role| role == Role::Patch)
    }

    fn of_role(&self, wanted: impl Fn(Role) -> bool) -> Vec<Object<'_>> {
        let mut objects = Vec::new();
        for (path, scanned) in self.scanned.iter().filter(|(_, scanned)| wanted(scanned.role)) {
            for object in scanned.documents.iter().filter_map(|node| Object::of(path, node)) {
                let items = object.at(&["items"]).filter(|items| {
                    object.kind().ends_with("List") && matches!(items.value, super::node::Value::List(_))
                });
                match items {
                    Some(items) => {
                        objects.extend(items.items().iter().filter_map(|node| Object::of(path, node)));
                    }
                    None => objects.push(object),
                }
            }
        }
        objects
    }

    /// The innermost chart a file is part of.
    pub fn chart_of(&self, path: &str) -> Option<&Chart> {
        self.charts
            .iter()
            .filter(|chart| is_below(path, &chart.directory))
            .max_by_key(|chart| chart.directory.len())
    }

    /// The kustomization of a directory.
    pub fn kustomization_of(&self, directory: &str) -> Option<&Kustomization> {
        let directory = clean(directory);
        self.kustomizations.iter().find(|kustomization| kustomization.directory == directory)
    }

    /// A document of a file that may not be there.
    pub fn document(&self, path: &str) -> Option<&Node> {
        self.scanned.get(path)?.documents.first()
    }
}

/// Whether a path lies below a directory.
pub(crate) fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

fn is_yaml(path: &str) -> bool {
    path.ends_with(".yaml") || path.ends_with(".yml") || base(path) == "Kustomization"
}

fn role_of(path: &str, text: &str, charts: &BTreeSet<&str>, manifest: Option<&Manifest>) -> Role {
    let name = base(path);
    if path == manifest::FILE {
        return Role::Package;
    }
    if let Some(values) = manifest.and_then(|manifest| manifest.spec.values.as_ref())
        && [&values.defaults, &values.schema].into_iter().flatten().any(|file| clean(file) == path)
    {
        return Role::Values;
    }
    // Tools keep their settings in dotted files and directories.
    if path.split('/').any(|part| part.starts_with('.') && part != "." && part.len() > 1) {
        return Role::Data;
    }
    if let Some(chart) = charts.iter().filter(|chart| is_below(path, chart)).max_by_key(|chart| chart.len()) {
        let inside = path.get(chart.len()..).unwrap_or_default().trim_start_matches('/');
        return match inside.split('/').next().unwrap_or_default() {
            "Chart.yaml" => Role::Chart,
            // One without braces is what it will be.
            "templates" if !text.contains("{{") => Role::Manifest,
            "templates" => Role::Template,
            "crds" => Role::Manifest,
            _ if is_values(name) => Role::Values,
            _ => Role::Data,
        };
    }
    if is_kustomization(path) {
        return Role::Kustomization;
    }
    if is_values(name) {
        return Role::Values;
    }
    if name.ends_with(".json") && !(text.contains("\"apiVersion\"") && text.contains("\"kind\"")) {
        return Role::Data;
    }
    Role::Manifest
}

fn is_values(name: &str) -> bool {
    let stem = name.trim_end_matches(".yaml").trim_end_matches(".yml").to_ascii_lowercase();
    stem == "values"
        || ["values-", "values.", "values_"].iter().any(|start| stem.starts_with(start))
        || ["-values", ".values", "_values"].iter().any(|end| stem.ends_with(end))
}

fn read(path: &str, text: &str, role: Role, room: usize) -> Parsed {
    if role == Role::Template {
        return Parsed::default();
    }
    let limits = Limits::default();
    let limits = Limits { nodes: limits.nodes.min(room), ..limits };
    if !path.ends_with(".json") {
        return parse(text, limits);
    }
    // What is not JSON is not to be saved by being YAML. Several values in a row are no JSON either.
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX).max(1);
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        let problem = Problem {
            kind: ProblemKind::Syntax,
            line: number(error.line()),
            column: number(error.column()),
            message,
        };
        return Parsed { problems: vec![problem], ..Parsed::default() };
    }
    let parsed = parse(text, limits);
    // Its keys may be longer than YAML lets them be; it is JSON all the same.
    let problems =
        parsed.problems.into_iter().filter(|problem| problem.kind != ProblemKind::Syntax).collect();
    Parsed { problems, ..parsed }
}

/// `# idp:ignore RULE …`, anywhere in a file: the rules, and the lines that name them.
fn ignored_rules(text: &str) -> Vec<(String, u32)> {
    const MARK: &str = "idp:ignore";
    let mut rules = Vec::new();
    if !text.contains(MARK) {
        return rules;
    }
    for (line, at) in text.lines().zip(1_u32..) {
        let Some((before, after)) = line.split_once(MARK) else { continue };
        let before = before.trim_end();
        if !["#", "//", "<!--", ";", "*"].iter().any(|mark| before.ends_with(mark)) {
            continue;
        }
        let after = after.split("-->").next().unwrap_or_default();
        let words = after.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        for word in words.take_while(|word| !matches!(*word, "--" | "#" | "because")) {
            rules.push((word.to_owned(), at));
        }
        if rules.len() > 1000 {
            break;
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::{Role, Scan, ignored_rules};
    use crate::kube::{File, Files};

    pub(crate) fn files(files: &[(&str, &str)]) -> Files {
        files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), File::bytes((*text).to_owned(), false)))
            .collect()
    }

    #[test]
    fn what_files_are_for() {
        let files = files(&[
            ("idp-package.yaml", "x: 1"),
            (".github/workflows/ci.yaml", "on: push"),
            ("chart/Chart.yaml", "name: x\nappVersion: 1.0.0"),
            ("chart/values.yaml", "a: 1"),
            ("chart/templates/a.yaml", "a: {{ .Values.a }}"),
            ("chart/templates/b.yaml", "apiVersion: v1\nkind: X"),
            ("chart/crds/c.yaml", "apiVersion: v1\nkind: X"),
            ("chart/charts/sub/Chart.yaml", "name: sub"),
            (
                "k/kustomization.yaml",
                "resources: [a.yaml]\npatches: [{path: p.yaml}]\nconfigMapGenerator: [{files: [x=d.yaml]}]",
            ),
            (
                "k/a.yaml",
                "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: A}, {apiVersion: v1, kind: B}]",
            ),
            ("k/p.yaml", "apiVersion: v1\nkind: P"),
            ("k/d.yaml", "whatever: 1"),
            ("dashboard.json", "{\"a\": 1}"),
            ("bad.json", "{a: 1}"),
            ("prod-values.yaml", "a: 1"),
        ]);
        let scan = Scan::new(&files, None);
        let roles: Vec<_> = scan.scanned.iter().map(|(path, scanned)| (*path, scanned.role)).collect();
        assert_eq!(
            roles,
            [
                (".github/workflows/ci.yaml", Role::Data),
                ("bad.json", Role::Data),
                ("chart/Chart.yaml", Role::Chart),
                ("chart/charts/sub/Chart.yaml", Role::Chart),
                ("chart/crds/c.yaml", Role::Manifest),
                ("chart/templates/a.yaml", Role::Template),
                ("chart/templates/b.yaml", Role::Manifest),
                ("chart/values.yaml", Role::Values),
                ("dashboard.json", Role::Data),
                ("idp-package.yaml", Role::Package),
                ("k/a.yaml", Role::Manifest),
                ("k/d.yaml", Role::Data),
                ("k/kustomization.yaml", Role::Kustomization),
                ("k/p.yaml", Role::Patch),
                ("prod-values.yaml", Role::Values),
            ]
        );
        let kinds: Vec<_> = scan.objects().iter().map(|object| object.kind()).collect();
        assert_eq!(kinds, ["X", "X", "A", "B"]);
        assert_eq!(scan.patches().len(), 1);
        let charts: Vec<_> =
            scan.charts.iter().map(|chart| (chart.directory.as_str(), chart.vendored)).collect();
        assert_eq!(charts, [("chart", false), ("chart/charts/sub", true)]);
        assert_eq!(
            scan.chart_of("chart/values.yaml").and_then(|chart| chart.app_version.as_deref()),
            Some("1.0.0")
        );
        assert_eq!(scan.scanned["bad.json"].problems.len(), 1);
    }

    #[test]
    fn comments_switch_rules_off() {
        let text = "# idp:ignore image-latest, yaml-tab -- why\nnot idp:ignore x\n<!-- idp:ignore y -->\n";
        let rules: Vec<_> = ignored_rules(text);
        assert_eq!(rules, [("image-latest".to_owned(), 1), ("yaml-tab".to_owned(), 1), ("y".to_owned(), 3)]);
    }
}
