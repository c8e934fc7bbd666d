//! Whole packages through all rules: each package is a text of files, and what is found is compared as text.

use std::collections::BTreeSet;

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
    insta::assert_snapshot!(told(&text), @"");
    assert_eq!(found(&MANIFEST.replace("type: manifests", "type: x")), ["manifest-invalid"]);
}

#[test]
fn names_of_files() {
    let text = "== a\\b\n== c../d\n== A/x\n== a/y\n== nul.txt\n== e\u{301}\n== \u{e9}\n== p.png\n== .sourceignore\n== x/.argocd-source.yaml\na: 1\n";
    insta::assert_snapshot!(told(text), @"");
}

#[test]
fn yaml_that_is_wrong() {
    let text = "== a.yaml\na: 1\na: 2\n== b.yaml\na:\n\t- b\n== c.yaml\na: b: c\n== d.yaml\na: {{ .x }}\n== e.json\n{\"a\": }\n";
    insta::assert_snapshot!(told(text), @"");
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
    insta::assert_snapshot!(told(text), @"");
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
    insta::assert_snapshot!(told(text), @"");
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
    insta::assert_snapshot!(told(text), @"");
}

#[test]
fn what_flux_would_fail_on() {
    let text = format!(
        "{MANIFEST}== manifests/a.yaml\n{POD}== manifests/values.yaml\na: 1\n== manifests/k/kustomization.yaml\nresources: []\n== manifests/k/x.yaml\na: 1\n"
    );
    insta::assert_snapshot!(told(&text), @"");
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
    insta::assert_snapshot!(told(text), @"");
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
    insta::assert_snapshot!(told(text), @"");
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
    insta::assert_snapshot!(told, @"");
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
            ("kube-duplicate", Some("b.yaml")),
            ("ignore-unknown", Some("b.yaml"))
        ]
        .map(|found| found)
        .iter()
        .copied()
        .collect::<Vec<_>>()
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

/// Runs over a directory of the environment and prints what is found: how false positives are looked for.
#[test]
#[ignore = "needs IDP_VALIDATE, a directory"]
fn over_a_directory() {
    let Ok(directory) = std::env::var("IDP_VALIDATE") else { return };
    let files = Files::from_directory(std::path::Path::new(&directory)).expect("a directory");
    let report = validate(&files, None, &Settings::new());
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(&format!("{finding}\n"));
    }
    fs_err::write(format!("{}.txt", std::env::var("IDP_VALIDATE_OUT").expect("a name")), text)
        .expect("a file");
    let sarif = super::sarif::render(&report, "0.1.0");
    fs_err::write(format!("{}.sarif", std::env::var("IDP_VALIDATE_OUT").expect("a name")), sarif)
        .expect("a file");
}
