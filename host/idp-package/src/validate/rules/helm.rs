//! Helm charts: their own files. Templates are text until Helm renders them.

use crate::kube::{Chart, Node, Role, is_below};
use crate::manifest::Type;
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};

const CHART: Rule = Rule::new(
    "helm-chart",
    Severity::Error,
    "Chart.yaml lacks a name, a version or an apiVersion, or its version is no semantic version; Helm refuses the chart, or cannot push it.",
);
const API_VERSION: Rule = Rule::new(
    "helm-api-version",
    Severity::Warning,
    "Chart.yaml says `apiVersion: v1`, which is Helm 2's; dependencies in it are not looked at.",
);
const IDENTITY: Rule = Rule::new(
    "helm-identity",
    Severity::Error,
    "The chart's name or version is not the package's; `helm push` takes the repository's name and the tag from the chart.",
);
const SCHEMA: Rule = Rule::new(
    "helm-schema",
    Severity::Error,
    "values.schema.json is not a JSON object, and Helm refuses the chart.",
);
const DEPENDENCY: Rule = Rule::new(
    "helm-dependency",
    Severity::Warning,
    "A dependency of the chart is not in its `charts/`; who deploys it has to reach its repository.",
);
const RENDER: Rule = Rule::new(
    "helm-not-rendered",
    Severity::Info,
    "Templates of a chart are not rendered here; what they make is not checked, and images they put together are not found.",
);

pub(super) const RULES: &[Rule] = &[CHART, API_VERSION, IDENTITY, SCHEMA, DEPENDENCY, RENDER];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    for chart in &context.scan.charts {
        // Somebody else's chart, taken along as it is.
        if chart.vendored {
            continue;
        }
        if let Some(node) = context.scan.document(&chart.file) {
            chart_file(context, chart, node, findings);
            dependencies(context, chart, node, findings);
        }
        schema(context, chart, findings);
        let templates = context
            .scan
            .scanned
            .iter()
            .filter(|(path, scanned)| scanned.role == Role::Template && is_below(path, &chart.directory));
        let templates = templates.count();
        if templates > 0 {
            let message = format!("{templates} templates are not rendered and not checked");
            findings.add(&RENDER, Place::file(&chart.file), message, None);
        }
    }
}

fn chart_file(context: &Context<'_>, chart: &Chart, node: &Node, findings: &mut Findings<'_>) {
    for key in ["apiVersion", "name", "version"] {
        if node.text_at(&[key]).is_none_or(str::is_empty) {
            findings.add(&CHART, Place::of(&chart.file, node), format!("`{key}` is missing"), None);
        }
    }
    let place = |key: &str| Place::of(&chart.file, node.get(key).unwrap_or(node));
    match node.text_at(&["apiVersion"]) {
        Some("v1") => {
            let fix = Some("write `apiVersion: v2`".to_owned());
            findings.add(&API_VERSION, place("apiVersion"), "a chart of Helm 2", fix);
        }
        Some("v2") | None => {}
        Some(_) => findings.add(&CHART, place("apiVersion"), "`apiVersion` is neither v1 nor v2", None),
    }
    let version = node.text_at(&["version"]);
    if let Some(version) = version
        && semver::Version::parse(version).is_err()
    {
        let version: String = version.chars().take(60).collect();
        // Helm reads `2.0` in quotes as 2.0.0, but takes only three parts for a tag; a bare number it refuses.
        let number = node.get("version").is_some_and(|node| node.string().is_none());
        let severity = if number { CHART.severity } else { Severity::Warning };
        let message = format!("`{version}` is no semantic version of three parts");
        let fix = Some("write MAJOR.MINOR.PATCH, for example 1.4.0".to_owned());
        findings.add_as(&CHART, severity, place("version"), message, fix);
    }
    let Some(manifest) = context.scan.manifest.filter(|manifest| manifest.spec.r#type == Type::Helm) else {
        return;
    };
    // The chart that is the package; others are inside it.
    let outermost = context.scan.charts.iter().filter(|other| !other.vendored).count() == 1;
    if !outermost {
        return;
    }
    for (key, own, package) in [
        ("name", node.text_at(&["name"]), &manifest.metadata.name),
        ("version", version, &manifest.metadata.version),
    ] {
        if let Some(own) = own
            && own != package
        {
            let message = format!("the chart's {key} is `{own}`, and the package's is `{package}`");
            findings.add(&IDENTITY, place(key), message, Some("make them the same".to_owned()));
        }
    }
}

fn dependencies(context: &Context<'_>, chart: &Chart, node: &Node, findings: &mut Findings<'_>) {
    let prefix = if chart.directory.is_empty() { String::new() } else { format!("{}/", chart.directory) };
    for dependency in node.get("dependencies").map_or(&[][..], Node::items) {
        let Some(name) = dependency.text_at(&["name"]) else {
            findings.add(&CHART, Place::of(&chart.file, dependency), "a dependency has no name", None);
            continue;
        };
        // `file://` names a directory beside it.
        if dependency.text_at(&["repository"]).is_some_and(|repository| repository.starts_with("file://")) {
            continue;
        }
        let vendored = context.scan.files.below(&format!("{prefix}charts")).any(|(path, _)| {
            let inside = path.strip_prefix(&format!("{prefix}charts/")).unwrap_or_default();
            inside.strip_prefix(name).is_some_and(|rest| rest.starts_with('/') || rest.starts_with('-'))
        });
        if !vendored {
            let fix = Some("run `helm dependency build`, and keep its `charts/` in the package".to_owned());
            let message = format!("the dependency `{name}` is not in charts/");
            findings.add(&DEPENDENCY, Place::of(&chart.file, dependency), message, fix);
        }
    }
}

fn schema(context: &Context<'_>, chart: &Chart, findings: &mut Findings<'_>) {
    let path = match chart.directory.as_str() {
        "" => "values.schema.json".to_owned(),
        directory => format!("{directory}/values.schema.json"),
    };
    let Some(file) = context.scan.files.get(&path) else { return };
    let Ok(bytes) = file.read(crate::kube::LARGEST_TEXT) else { return };
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(value) if value.is_object() => {}
        Ok(_) => findings.add(&SCHEMA, Place::file(&path), "the schema is not a JSON object", None),
        Err(error) => {
            let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX).max(1);
            let place = Place::line(&path, number(error.line()), number(error.column()));
            findings.add(&SCHEMA, place, format!("the schema is no JSON: {error}"), None);
        }
    }
}
