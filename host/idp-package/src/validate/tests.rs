//! Whole packages through all rules: each package is a text of files, and what is found is compared as text.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Level, Report, Settings, Severity, rule, rules, validate};
use crate::kube::{File, Files};

/// `== path` starts a file.
fn files(text: &str) -> Files {
    let mut files = Files::new();
    for part in text.split("== ").skip(1) {
        let (path, content) = part.split_once('\n').expect("a path and a content");
        files.insert(path, File::bytes(content.to_owned(), false));
    }
    files
}

fn report(text: &str) -> Report {
    validate(&files(text), None, &Settings::new())
}

fn told(text: &str) -> String {
    report(text).findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The rules that found something, by name.
fn found(text: &str) -> Vec<&'static str> {
    report(text).findings.iter().map(|finding| finding.rule).collect::<BTreeSet<_>>().into_iter().collect()
}

const MANIFEST: &str = "\
== idp-package.yaml
apiVersion: packages.cnoe.io/v1alpha1
kind: Package
metadata: {name: a, version: 1.0.0, description: d, licenses: MIT}
spec:
  type: manifests
  targets:
  - {name: default, path: manifests}
== README.md
# a
";

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: 'r.example/a@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}]}\n";

#[test]
fn every_rule_has_a_name_of_its_own_and_a_sentence() {
    let mut seen = BTreeSet::new();
    for rule in rules() {
        assert!(seen.insert(rule.id), "{}", rule.id);
        assert!(rule.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", rule.id);
        assert!(rule.explanation.ends_with('.') && rule.explanation.len() > 20, "{}", rule.id);
    }
    assert!(seen.len() > 55, "{}", seen.len());
}

#[test]
fn a_good_package_has_no_findings() {
    assert_eq!(told(&format!("{MANIFEST}== manifests/a.yaml\n{POD}")), "");
}

#[test]
fn the_manifest_and_its_files() {
    let text = MANIFEST
        .replace("licenses: MIT", "icon: icon.svg")
        .replace("description: d", "description: ''")
        .replace("path: manifests", "path: nowhere, renderer: helm")
        .replace("== README.md", "== other.md");
    insta::assert_snapshot!(told(&text), @r#"
    idp-package.yaml: info: there is no description (manifest-description)
    idp-package.yaml: info: nothing says under which licence the package is (manifest-licence)
      write `licenses: Apache-2.0`, or another SPDX expression, below `metadata`
    idp-package.yaml: info: there is no README.md (manifest-readme)
    idp-package.yaml:3:60: error: metadata.icon: there is no file `icon.svg` in the package (manifest-file-missing)
      add the file, or take the line out
    idp-package.yaml:7:27: error: `nowhere` is not in the package (manifest-target)
    "#);
    assert_eq!(found(&MANIFEST.replace("type: manifests", "type: x")), ["manifest-invalid"]);
}

#[test]
fn names_of_files() {
    let text = "== a\\b\n== c../d\n== A/x\n== a/y\n== nul.txt\n== e\u{301}\n== \u{e9}\n== p.png\n== .sourceignore\n== x/.argocd-source.yaml\na: 1\n";
    insta::assert_snapshot!(told(text), @r#"
    .sourceignore: warning: Flux leaves out what this file names (archive-sourceignore)
      leave the files out of the package instead: `spec.content.exclude`
    a/y: error: on some file systems this is the same as `A` (archive-twins)
      rename one of them
    a\b: error: the name has a backslash (archive-name)
      rename it
    c../d: error: the name has a part that ends in `..`, and Flux refuses every archive with one (archive-name)
      rename it
    nul.txt: warning: `nul.txt` cannot be a name on Windows (archive-reserved-name)
      rename it
    p.png: warning: Flux leaves this file out; where Flux deploys the package it is missing (archive-flux-drops)
      if nothing deployed needs it, take it out of the package or ignore this rule
    x/.argocd-source.yaml: warning: Argo CD takes parameters from this file over those of the Application (archive-argocd-source)
    é: error: on some file systems this is the same as `é` (archive-twins)
      rename one of them
    "#);
}

#[test]
fn yaml_that_is_wrong() {
    let text = "== a.yaml\na: 1\na: 2\n== b.yaml\na:\n\t- b\n== c.yaml\na: b: c\n== d.yaml\na: {{ .x }}\n== e.json\n{\"a\": }\n";
    insta::assert_snapshot!(told(text), @r#"
    a.yaml:2:1: error: the key `a` is there twice, first on line 1 (yaml-duplicate-key)
      take one of them out
    b.yaml:2:2: error: tabs disallowed within this context (block indentation) (yaml-tab)
      use spaces
    c.yaml:1:5: error: mapping values are not allowed in this context (yaml-syntax)
    d.yaml:1:5: error: a key that is a list or a mapping; is it a template in braces that wants quotes? (yaml-key)
      put the value in quotes
    e.json:1:7: warning: expected value (yaml-syntax)
    "#);
}

#[test]
fn objects_that_are_wrong() {
    let text = "\
== a.yaml
apiVersion: apps/v1
kind: Deployment
metadata: {name: Bad_Name, namespace: x}
spec:
  replicas: '3'
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers: [{name: a, image: 'a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', imagePulPolicy: Always}]
---
apiVersion: batch/v1beta1
kind: CronJob
metadata: {name: a}
---
apiVersion: apps/v1
kind: Deploymet
metadata: {name: a}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {a: 1}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: 'system:a', namespace: x}
---
kind: Service
metadata: {name: a}
---
apiVersion: v1
kind: Service
metadata: {generateName: a}
---
apiVersion: v1
kind: Service
spec: {ports: [{name: x}]}
";
    insta::assert_snapshot!(told(text), @r#"
    a.yaml:3:18: error: `Bad_Name` cannot name a Deployment: at most 253 lower-case letters, digits, dashes and dots; letters or digits beside dots (kube-name)
    a.yaml:5:13: error: spec.replicas: a whole number belongs here, and this is a text (kube-type)
      write it without quotes
    a.yaml:10:116: error: spec.template.spec.containers[0].imagePulPolicy: `imagePulPolicy` is no field of Container (kube-unknown-field)
      `imagePullPolicy` is meant?
    a.yaml:12:13: error: Kubernetes 1.25 dropped CronJob of batch/v1beta1 (kube-removed-api)
      write `apiVersion: batch/v1` and what its fields want
    a.yaml:16:13: warning: Kubernetes v1.36.2 has no Deploymet in apps/v1 (kube-unknown-kind)
    a.yaml:23:11: error: data.a: a text belongs here, and this is a number (`1`) (kube-type)
      put it in quotes: "1"
    a.yaml:25:1: error: ConfigMap a is also in a.yaml on line 20 (kube-duplicate)
      rename one of them, or take it out
    a.yaml:31:41: warning: a ClusterRole has no namespace (kube-namespace)
      take the line out
    a.yaml:33:1: error: `apiVersion` is missing; without it this is no Kubernetes object (kube-no-kind)
    a.yaml:40:1: error: this Service has no `metadata.name` (kube-no-name)
    a.yaml:42:16: error: spec.ports[0]: `port` of ServicePort is missing (kube-required)
    "#);
}

#[test]
fn duplicates_are_certain_only_where_they_are_deployed_together() {
    let severities = |text: &str| {
        report(text).findings.iter().map(|finding| (finding.rule, finding.severity)).collect::<Vec<_>>()
    };
    let duplicate = |severity| vec![("kube-duplicate", severity)];
    assert_eq!(severities(&format!("== x/a.yaml\n{POD}---\n{POD}")), duplicate(Severity::Error));
    assert_eq!(severities(&format!("== x/a.yaml\n{POD}== x/b.yaml\n{POD}")), duplicate(Severity::Warning));
    assert_eq!(severities(&format!("== x/a.yaml\n{POD}== y/b.yaml\n{POD}")), []);
    let deployed = format!("{MANIFEST}== manifests/a.yaml\n{POD}== manifests/b.yaml\n{POD}");
    assert_eq!(severities(&deployed), duplicate(Severity::Error));
}

/// Found in packages of others: each of these was told once and is nothing wrong.
#[test]
fn what_is_right_is_left_alone() {
    let text = "\
== list.yaml
apiVersion: v1
kind: ConfigMapList
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
== secret.yaml
apiVersion: v1
kind: Secret
metadata: {name: a}
stringData: {admin.passwordMtime: '2018-09-26T01:47:01Z', tokenUrl: 'https://login.example/oauth'}
";
    assert_eq!(told(text), "");
    let template = "== t.yaml\n{{- if .a }}\nspec: {{ .b }}\n{{- end }}\n{{- range .c }}\n";
    assert_eq!(found(template), ["yaml-syntax"]);
    assert_eq!(report(template).findings.len(), 1);
    let braces = "== b.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: {{ b }}\n";
    assert_eq!(found(braces), ["yaml-key"]);
}

#[test]
fn custom_resources_are_held_against_the_definitions_beside_them() {
    let text = "\
== crd.yaml
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.x.example}
spec:
  group: x.example
  scope: Namespaced
  names: {kind: Thing, plural: things}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, required: [size], properties: {size: {type: integer}}}}}}
== thing.yaml
apiVersion: x.example/v1
kind: Thing
metadata: {name: a}
spec: {sise: 1}
---
apiVersion: x.example/v2
kind: Thing
metadata: {name: b}
---
apiVersion: y.example/v1
kind: Other
metadata: {name: c}
";
    insta::assert_snapshot!(told(text), @r#"
    thing.yaml:4:7: error: spec: `size` is missing (kube-required)
    thing.yaml:4:8: error: spec.sise: `sise` is no field (kube-unknown-field)
      `size` is meant?
    thing.yaml:6:13: warning: Thing has no served version `v2` (kube-unknown-kind)
      there is: v1
    "#);
    assert_eq!(
        report(text).unchecked.into_iter().collect::<Vec<_>>(),
        ["x.example/v2 Thing", "y.example/v1 Other"]
    );
}

#[test]
fn applications() {
    let text = "\
== app.yaml
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: a}
spec:
  sources:
  - {repoURL: 'cnoe://x/manifests', path: .}
  - {repoURL: 'cnoe://y/manifests', path: nowhere}
  - {repoURL: 'cnoe://z'}
  - {repoURL: 'cnoe://../out', path: .}
  - {repoURL: 'oci://r.example/a'}
  - {repoURL: 'https://charts.example', chart: c, helm: {valueFiles: ['$v/a.yaml', '$w/a.yaml']}}
  - {repoURL: 'cnoe://y', ref: v}
== x/manifests/deep/pod.yaml
apiVersion: v1
kind: Namespace
metadata: {name: a}
== y/manifests/values.yaml
a: 1
";
    insta::assert_snapshot!(told(text), @r#"
    app.yaml:5:3: error: the Application has no destination (argo-application)
      add `destination: {server: "https://kubernetes.default.svc"}`
    app.yaml:5:3: error: the Application has no project (argo-application)
      add `project: default`
    app.yaml:6:5: warning: the Application `a` deploys `x/manifests`, whose objects are all in directories below it, as x/manifests/deep/pod.yaml (argo-recurse)
      add `recurse: true` (in an Application, below `directory`)
    app.yaml:7:15: error: `x/manifests` and `y/manifests` both become the repository …-manifests (argo-cnoe-collision)
      rename one of the directories
    app.yaml:7:43: error: there is no directory `nowhere` in `y/manifests` (argo-cnoe-missing)
    app.yaml:8:15: error: `cnoe://z` is `z`, and that is no directory of the package (argo-cnoe-missing)
    app.yaml:8:15: error: this source has no `path`, no `chart` and no `ref` (argo-no-path)
      add `path: .`, or the directory that is meant
    app.yaml:9:15: warning: `cnoe://../out` leads out of the package (argo-cnoe-outside)
      build the package from the directory that holds both
    app.yaml:10:15: error: this source has no `path`, no `chart` and no `ref` (argo-no-path)
      add `path: .`, or the directory that is meant
    app.yaml:11:71: error: there is no file `a.yaml` in `y` (argo-values)
    app.yaml:11:84: error: no source has `ref: w` (argo-values)
    "#);
}

#[test]
fn what_flux_would_fail_on() {
    let text = format!(
        "{MANIFEST}== manifests/a.yaml\n{POD}== manifests/values.yaml\na: 1\n== manifests/k/kustomization.yaml\nresources: []\n== manifests/k/x.yaml\na: 1\n"
    );
    insta::assert_snapshot!(told(&text), @r#"
    manifests/values.yaml:1:1: warning: Flux takes this for a Kubernetes object, and it has no apiVersion and kind (flux-not-an-object)
      move it out of the deployed directory, or add a kustomization.yaml
    "#);
}

#[test]
fn charts() {
    let text = "\
== idp-package.yaml
apiVersion: packages.cnoe.io/v1alpha1
kind: Package
metadata: {name: a, version: 1.0.0, description: d, licenses: MIT}
spec: {type: helm, content: {root: chart}, targets: [{name: default, path: .}]}
== README.md
== chart/Chart.yaml
apiVersion: v1
name: b
version: 1.0
dependencies:
- {name: redis, repository: 'oci://r.example/redis'}
- {name: there, repository: 'oci://r.example/there'}
== chart/charts/there-1.0.0.tgz
== chart/values.schema.json
[]
== chart/templates/a.yaml
a: {{ b }}
";
    insta::assert_snapshot!(told(text), @r#"
    chart/Chart.yaml: info: 1 templates are not rendered and not checked (helm-not-rendered)
    chart/Chart.yaml:1:13: warning: a chart of Helm 2 (helm-api-version)
      write `apiVersion: v2`
    chart/Chart.yaml:2:7: error: the chart's name is `b`, and the package's is `a` (helm-identity)
      make them the same
    chart/Chart.yaml:3:10: error: `1.0` is no semantic version of three parts (helm-chart)
      write MAJOR.MINOR.PATCH, for example 1.4.0
    chart/Chart.yaml:3:10: error: the chart's version is `1.0`, and the package's is `1.0.0` (helm-identity)
      make them the same
    chart/Chart.yaml:5:3: warning: the dependency `redis` is not in charts/ (helm-dependency)
      run `helm dependency build`, and keep its `charts/` in the package
    chart/values.schema.json: error: the schema is not a JSON object (helm-schema)
    "#);
}

#[test]
fn kustomizations() {
    let text = "\
== a/kustomization.yaml
resources: [x.yaml, ../b, ../c, ../../out, 'https://example/x.yaml', there.yaml]
bases: [../d]
patches: [{path: p.yaml}]
configMapGenerator: [{name: c, files: [k=data.txt]}]
== a/there.yaml
apiVersion: v1
kind: Namespace
metadata: {name: a}
== b/file.yaml
a: 1
== d/kustomization.yaml
resources: [../a]
";
    insta::assert_snapshot!(told(text), @r#"
    a/kustomization.yaml:1:13: error: there is no `a/x.yaml` (kustomize-missing)
    a/kustomization.yaml:1:21: error: there is no kustomization in `b` (kustomize-directory)
      name its files, or give it a kustomization.yaml
    a/kustomization.yaml:1:27: error: there is no `c` (kustomize-missing)
    a/kustomization.yaml:1:33: error: `../../out` is outside the package (kustomize-outside)
      build the package from a directory that holds both
    a/kustomization.yaml:1:44: warning: `https://example/x.yaml` is fetched when it is deployed (kustomize-remote)
      keep a copy in the package
    a/kustomization.yaml:2:1: info: `bases` is replaced by `resources` (kustomize-old-field)
      `kustomize edit fix` writes `resources`
    a/kustomization.yaml:2:9: error: `../d` builds on this kustomization, too (kustomize-circle)
    a/kustomization.yaml:3:18: error: there is no `a/p.yaml` (kustomize-missing)
    a/kustomization.yaml:4:40: error: there is no `a/data.txt` (kustomize-missing)
    d/kustomization.yaml:1:13: error: `../a` builds on this kustomization, too (kustomize-circle)
    "#);
}

#[test]
fn secrets_are_told_and_never_shown() {
    let key: String = (0..6)
        .map(|at| format!("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us{at}cKB\n"))
        .collect();
    // Put together here, so that nobody takes this file for a leak.
    let github = ["gh", "p_", "A8sK2mQ9xZ4vB7nL1cR5tY3uW6pE0oIjHgFd"].concat();
    let aws = ["AK", "IA", "Q3EGR7ZK2MXN5PVT"].concat();
    let password = "hK3x9QzLm2vT";
    let begin = "-----BEGIN ";
    let text = format!(
        "== k.pem\n{begin}PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n== doc.md\n{begin}PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\nAKIAIOSFODNN7EXAMPLE\n== t.sh\ntoken={github}\nkey={aws}\n== .env\nDB_PASSWORD={password}\nURL=x\n== .env.example\nDB_PASSWORD={password}\n== s.yaml\napiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData:\n  password: {password}\n  url: {password}\n  token: ${{TOKEN}}\n== c.yaml\napiVersion: v1\nkind: Config\nusers: [{{name: a, user: {{token: {password}}}}}]\n"
    );
    let told = told(&text);
    for secret in [&github, &aws, password, "MIIEvQ"] {
        assert!(!told.contains(secret));
    }
    insta::assert_snapshot!(told, @r#"
    .env:1:1: warning: `DB_PASSWORD` has a value (secret-dotenv)
      take it out, and replace it where it is used: it is known now
    c.yaml:3:33: error: a kubeconfig with a user's token (secret-kubeconfig)
      take it out, and replace it where it is used: it is known now
    k.pem:1:1: error: a private key (secret-private-key)
      take it out, and replace it where it is used: it is known now
    s.yaml:5:13: warning: `stringData.password` of a Secret has a value that looks real (secret-object)
      let the cluster generate it, or bring it from a secret store (External Secrets, SOPS)
    t.sh:1:7: error: a GitHub token (secret-token)
      take it out, and replace it where it is used: it is known now
    t.sh:2:5: error: an AWS access key (secret-token)
      take it out, and replace it where it is used: it is known now
    "#);
}

#[test]
fn the_user_has_the_last_word() {
    let pod = POD.replace("@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "");
    let text = format!("== a.yaml\n{pod}== b.yaml\n# idp:ignore image-latest nothing-such\n{pod}");
    let report = report(&text);
    let shown: Vec<_> =
        report.findings.iter().map(|finding| (finding.rule, finding.file.as_deref())).collect();
    assert_eq!(
        shown,
        [
            ("image-latest", Some("a.yaml")),
            ("ignore-unknown", Some("b.yaml")),
            ("kube-duplicate", Some("b.yaml")),
        ]
    );
    assert_eq!(report.ignored, 1);

    let mut settings = Settings::new();
    settings.set("image-latest", Level::Error).expect("a rule");
    settings.set("ignore-unknown", Level::Off).expect("a rule");
    assert!(settings.set("nothing-such", Level::Off).is_err());
    let report = validate(&files(&text), None, &settings);
    assert_eq!(report.worst(), Some(Severity::Error));
    assert!(report.findings.iter().all(|finding| finding.rule != "ignore-unknown"));
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.rule == "image-latest" && finding.severity == Severity::Error)
    );
    assert!(rule("image-latest").is_some());
}

#[test]
fn findings_are_bounded() {
    let many: String =
        (0..3000).map(|at| format!("---\napiVersion: v1\nkind: Service\nspec: {{a{at}: 1}}\n")).collect();
    let report = report(&format!("== a.yaml\n{many}"));
    assert!(
        report.findings.len() <= 2000 && report.left_out > 3000,
        "{} {}",
        report.findings.len(),
        report.left_out
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_panics(
        parts in proptest::collection::vec((0..PATHS.len(), proptest::collection::vec(0..LINES.len(), 0..8)), 0..6),
        noise in "\\PC{0,30}",
    ) {
        let mut files = Files::new();
        for (path, lines) in parts {
            let text: String = lines.iter().map(|line| format!("{}\n", LINES[*line].replace("NOISE", &noise))).collect();
            files.insert(PATHS[path].replace("NOISE", &noise), File::bytes(text, false));
        }
        let report = validate(&files, None, &Settings::new());
        let _ = super::sarif::render(&report, "0");
        let nothing = Files::new();
        let side = |files| crate::diff::Side { files, manifest: None };
        let _ = crate::diff::diff(side(&nothing), side(&files), crate::diff::Options::default()).to_string();
    }
}

const PATHS: [&str; 10] = [
    "idp-package.yaml",
    "Chart.yaml",
    "values.yaml",
    "a/kustomization.yaml",
    "kustomization.yaml",
    "a/NOISE",
    "a/x.yaml",
    "x.yaml",
    ".env",
    "c/templates/x.yaml",
];

/// Lines that follow one another into something or into nothing.
const LINES: [&str; 24] = [
    "apiVersion: v1",
    "apiVersion: argoproj.io/v1alpha1",
    "apiVersion: apiextensions.k8s.io/v1",
    "kind: Application",
    "kind: Secret",
    "kind: NOISE",
    "kind: Pod",
    "kind: CustomResourceDefinition",
    "metadata: {name: NOISE, namespace: é}",
    "spec: {containers: [{image: NOISE}], source: {repoURL: 'cnoe://NOISE', path: NOISE, helm: {values: 'image: NOISE'}}}",
    "spec: {group: x, names: {kind: NOISE}, versions: [{name: v1, schema: {openAPIV3Schema: {$ref: '#', required: [NOISE]}}}]}",
    "stringData: {password: NOISE}",
    "data: {password: NOISE}",
    "image: {repository: NOISE, tag: NOISE, digest: é}",
    "resources: [., .., ../a, NOISE, x.yaml]",
    "images: [{name: NOISE, newTag: NOISE}, {name: x, newName: é}]",
    "dependencies: [{name: NOISE}, NOISE]",
    "PASSWORD=NOISE",
    "-----BEGIN PRIVATE KEY-----NOISE",
    "ghp_NOISE",
    "---",
    "# idp:ignore NOISE",
    "{{ NOISE }}",
    "NOISE",
];
