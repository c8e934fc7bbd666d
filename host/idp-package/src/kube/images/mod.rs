//! The image references of a package, with their places: what runs in pods, what kustomizations put in its place,
//! what values of charts say.
//!
//! Templates are not rendered: what stands in one without braces is found, what it puts together is not.

mod kustomized;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::files::LARGEST_TEXT;
use super::node::{Entry, Node, is_placeholder};
use super::object::Object;
use super::reference::normalise;
use super::scan::{Role, Scan};
use super::yaml;

use kustomized::Built;
use values::of_values;

/// Where an image reference was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A container or an image volume of an object.
    Pod,
    /// A field called `image`, or an operator's `RELATED_IMAGE_…`, of an object.
    Field,
    /// `images` of a kustomization.
    Kustomize,
    /// Values of a chart in the package.
    Values,
    /// A line of a chart's template that has no braces.
    Template,
    /// Values for a chart in an Application, ApplicationSet or HelmRelease.
    AppValues,
}

/// An image reference and its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// The file that says it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// As it is written, or as its parts are put together.
    pub text: String,
    /// With its registry, as a runtime reads it; none where no runtime would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why it is no reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
    /// Where it was found.
    pub source: Source,
}

impl Image {
    fn new(file: &str, (line, column): (u32, u32), text: String, source: Source) -> Self {
        let (reference, wrong) = match normalise(&text) {
            Ok(reference) => (Some(reference), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let tag = reference.as_ref().and_then(|reference| reference.tag.as_ref()).map(ToString::to_string);
        let digest =
            reference.as_ref().and_then(|reference| reference.digest.as_ref()).map(ToString::to_string);
        let reference = reference.map(|reference| reference.to_string());
        Self { file: file.to_owned(), line, column, text, reference, tag, digest, wrong, source }
    }
}

/// Every image the package names, by file and line.
pub fn images(scan: &Scan<'_>) -> Vec<Image> {
    let mut found = BTreeSet::new();
    let mut by_file: BTreeMap<&str, Vec<Image>> = BTreeMap::new();
    for object in scan.objects().into_iter().chain(scan.patches()) {
        for image in of_object(&object) {
            match image.source {
                Source::Pod | Source::Field => by_file.entry(object.file).or_default().push(image),
                _ => {
                    found.insert(image);
                }
            }
        }
    }
    let built = Built::new(scan, &by_file);
    for (file, images) in by_file {
        if !built.reached.contains(file) {
            found.extend(images);
        }
    }
    found.extend(built.images);
    for (path, scanned) in scan.scanned.iter().filter(|(_, scanned)| scanned.role == Role::Values) {
        let app_version = scan.chart_of(path).and_then(|chart| chart.app_version.as_deref());
        for document in &scanned.documents {
            of_values(path, document, Source::Values, app_version, None, &mut found);
        }
    }
    for (path, _) in scan.scanned.iter().filter(|(_, scanned)| scanned.role == Role::Template) {
        of_template(scan, path, &mut found);
    }
    found.into_iter().collect()
}

/// Lines like `image: quay.io/a/b:1` of a template, which is no YAML.
fn of_template(scan: &Scan<'_>, path: &str, images: &mut BTreeSet<Image>) {
    let Some(bytes) = scan.files.get(path).and_then(|file| file.read(LARGEST_TEXT).ok()) else { return };
    let Ok(text) = std::str::from_utf8(&bytes) else { return };
    for (line, at) in text.lines().zip(1_u32..) {
        let key = line.trim_start_matches([' ', '-']);
        let Some(value) = key.strip_prefix("image:") else { continue };
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        if looks_like_image(value) && !is_placeholder(value) {
            let column = u32::try_from(line.len() - key.len() + 1).unwrap_or(u32::MAX);
            images.insert(Image::new(path, (at, column), value.to_owned(), Source::Template));
        }
    }
}

/// The images of a whole object.
fn of_object(object: &Object<'_>) -> Vec<Image> {
    let mut images = BTreeSet::new();
    let helm = |node: &Node, images: &mut BTreeSet<Image>| argo_source(object.file, node, images);
    match (object.group(), object.kind()) {
        // A schema may have a field called image.
        ("apiextensions.k8s.io", _) | ("", "ConfigMap" | "Secret") => {}
        ("argoproj.io", "Application") => {
            if let Some(spec) = object.at(&["spec"]) {
                helm(spec, &mut images);
            }
        }
        ("argoproj.io", "ApplicationSet") => {
            if let Some(spec) = object.at(&["spec", "template", "spec"]) {
                helm(spec, &mut images);
            }
        }
        ("helm.toolkit.fluxcd.io", "HelmRelease") => {
            if let Some(values) = object.at(&["spec", "values"]) {
                of_values(object.file, values, Source::AppValues, None, None, &mut images);
            }
        }
        _ => of_pods(object.file, object.node, &mut images),
    }
    images.into_iter().collect()
}

/// `spec.source` and `spec.sources` of an Application.
fn argo_source(file: &str, spec: &Node, images: &mut BTreeSet<Image>) {
    let sources = spec.get("source").into_iter().chain(spec.get("sources").map_or(&[][..], Node::items));
    for helm in sources.filter_map(|source| source.get("helm")) {
        if let Some(values) = helm.get("valuesObject") {
            of_values(file, values, Source::AppValues, None, None, images);
        }
        if let Some(values) = helm.get("values")
            && let Some(text) = values.string()
        {
            for document in yaml::parse(text, yaml::Limits::default()).documents {
                of_values(file, &document, Source::AppValues, None, Some(values), images);
            }
        }
    }
}

/// Containers, image volumes and fields called `image`, at any depth.
fn of_pods(file: &str, node: &Node, images: &mut BTreeSet<Image>) {
    let mut add = |node: &Node, source| {
        if let Some(text) = node.text()
            && !text.is_empty()
            && !is_placeholder(text)
        {
            images.insert(Image::new(file, (node.line, node.column), text.to_owned(), source));
        }
    };
    for entry in node.entries() {
        match entry.key.as_str() {
            "containers" | "initContainers" | "ephemeralContainers" => {
                for container in entry.value.items() {
                    if let Some(image) = container.get("image") {
                        add(image, Source::Pod);
                    }
                }
            }
            "volumes" => {
                for volume in entry.value.items() {
                    if let Some(image) = volume.at(&["image", "reference"]) {
                        add(image, Source::Pod);
                    }
                }
            }
            // A resource of its own kind; a bare word there may be anything.
            "image" if entry.value.text().is_some_and(looks_like_image) => add(&entry.value, Source::Field),
            "env" => {
                for variable in entry.value.items() {
                    if variable.text_at(&["name"]).is_some_and(|name| name.starts_with("RELATED_IMAGE_"))
                        && let Some(value) = variable.get("value")
                    {
                        add(value, Source::Field);
                    }
                }
            }
            _ => {}
        }
    }
    for entry in node.entries() {
        if matches!(entry.key.as_str(), "containers" | "initContainers" | "ephemeralContainers") {
            for container in entry.value.items() {
                // Its own image is found already.
                for inner in container.entries().iter().filter(|inner| inner.key != "image") {
                    of_entry(file, inner, images);
                }
            }
        } else {
            of_pods(file, &entry.value, images);
        }
    }
    for item in node.items() {
        of_pods(file, item, images);
    }
}

fn of_entry(file: &str, entry: &Entry, images: &mut BTreeSet<Image>) {
    if entry.key != "env" {
        return of_pods(file, &entry.value, images);
    }
    for variable in entry.value.items() {
        if variable.text_at(&["name"]).is_some_and(|name| name.starts_with("RELATED_IMAGE_"))
            && let Some(value) = variable.get("value")
            && let Some(text) = value.text().filter(|text| !text.is_empty() && !is_placeholder(text))
        {
            images.insert(Image::new(file, (value.line, value.column), text.to_owned(), Source::Field));
        }
    }
}

/// A text where an image might stand: it has a repository with a path or a tag, and would be taken for one.
fn looks_like_image(text: &str) -> bool {
    (text.contains('/') || text.contains(':'))
        && !text.starts_with(['/', '.'])
        && !text.contains("://")
        && !is_picture(text)
        && normalise(text).is_ok()
}

fn is_picture(text: &str) -> bool {
    [".png", ".svg", ".jpg", ".jpeg", ".gif", ".ico", ".webp"].iter().any(|end| text.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::{Image, images};
    use crate::kube::{File, Files, Scan};

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), File::bytes((*text).to_owned(), false)))
            .collect();
        let show = |image: Image| {
            let what = image.reference.or(image.wrong).unwrap_or_default();
            format!("{}:{} {what}", image.file, image.line)
        };
        images(&Scan::new(&files, None)).into_iter().map(show).collect()
    }

    const CRONJOB: &str = "\
apiVersion: batch/v1
kind: CronJob
spec:
  jobTemplate:
    spec:
      template:
        spec:
          initContainers:
          - image: busybox
          containers:
          - name: a
            image: quay.io/a/b:1
            env: [{name: RELATED_IMAGE_X, value: 'x/y:2'}, {name: OTHER, value: 'x/z:2'}]
          volumes:
          - image: {reference: 'ghcr.io/v/w:3'}
";

    #[test]
    fn of_objects() {
        assert_eq!(
            found(&[("a.yaml", CRONJOB)]),
            [
                "a.yaml:9 docker.io/library/busybox",
                "a.yaml:12 quay.io/a/b:1",
                "a.yaml:13 docker.io/x/y:2",
                "a.yaml:15 ghcr.io/v/w:3",
            ]
        );
        let workflow = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec:\n  templates:\n  - container: {image: 'a/b:1'}\n  - script: {image: '{{inputs.image}}'}\n  - ui: {image: a/b.png}\n";
        assert_eq!(found(&[("w.yaml", workflow)]), ["w.yaml:5 docker.io/a/b:1"]);
        let crd =
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {image: 'a/b:1'}\n";
        assert_eq!(found(&[("c.yaml", crd)]), [""; 0]);
    }

    #[test]
    fn what_kustomizations_put_in_place() {
        let deployment = "apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{image: 'r.example:5000/app:1'}, {image: side}]}}}\n";
        let all = [
            ("base/kustomization.yaml", "resources: [d.yaml]\n"),
            ("base/d.yaml", deployment),
            (
                "dev/kustomization.yaml",
                "resources: [../base]\nimages:\n- {name: 'r.example:5000/app', newTag: '2'}\n- {name: side, newName: q.example/side, digest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}\n",
            ),
        ];
        let digest = "a".repeat(64);
        assert_eq!(
            found(&all),
            [
                "dev/kustomization.yaml:3 r.example:5000/app:2".to_owned(),
                format!("dev/kustomization.yaml:4 q.example/side@sha256:{digest}"),
            ]
        );
        let circle = [
            ("a/kustomization.yaml", "resources: [../b]\n"),
            ("b/kustomization.yaml", "resources: [../a]\n"),
        ];
        assert_eq!(found(&circle), [""; 0]);
    }

    #[test]
    fn of_lines_of_templates() {
        let template = "{{- if .a }}\n  - image: quay.io/a/b:1 # why\n    image: \"{{ .b }}:1\"\n    image: 'x/y'\n    image: word\n{{- end }}\n";
        assert_eq!(
            found(&[("c/Chart.yaml", "name: c\n"), ("c/templates/t.yaml", template)]),
            ["c/templates/t.yaml:2 quay.io/a/b:1", "c/templates/t.yaml:4 docker.io/x/y"]
        );
    }

    #[test]
    fn of_values() {
        let values = "\
image:
  repository: app/server
  tag: ''
sidecar:
  image: {registry: quay.io, repository: x/y, tag: v1, digest: ''}
git: {repository: 'https://git.example/x'}
helperImage: busybox:1.36
image2: {repository: none}
logo: {image: a/b.png}
";
        assert_eq!(
            found(&[("c/Chart.yaml", "name: c\nappVersion: 1.2.3\n"), ("c/values.yaml", values)]),
            [
                "c/values.yaml:3 docker.io/app/server:1.2.3",
                "c/values.yaml:5 quay.io/x/y:v1",
                "c/values.yaml:7 docker.io/library/busybox:1.36",
            ]
        );
        let application = "\
apiVersion: argoproj.io/v1alpha1
kind: Application
spec:
  sources:
  - helm:
      valuesObject: {image: {repository: a/b, tag: 1}}
  - helm:
      values: |
        image:
          repository: c/d
          tag: x
";
        assert_eq!(
            found(&[("app.yaml", application)]),
            ["app.yaml:6 docker.io/a/b:1", "app.yaml:11 docker.io/c/d:x"]
        );
    }
}
