use super::{Options, Side, diff};
use crate::kube::{File, Files};
use crate::manifest;

fn files(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(path, text)| ((*path).to_owned(), File::bytes((*text).to_owned(), false))).collect()
}

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, labels: {app.kubernetes.io/name: a}}
spec:
  replicas: 1
  template:
    spec:
      containers:
      - {name: side, image: 'r.example/side:1'}
      - {name: app, image: 'r.example/app:1'}
";

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter-one, same: x}\n";

#[test]
fn packages_are_compared_in_four_ways() {
    let manifest = |version: &str, dependency: &str| {
        manifest::parse(&format!("apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata: {{name: a, version: {version}}}\nspec:\n  type: manifests\n  dependencies: [{{name: b, version: '{dependency}'}}]\n")).expect("a manifest")
    };
    let (old_manifest, new_manifest) = (manifest("1.0.0", "^1"), manifest("1.1.0", "^2"));
    let old = files(&[
        ("a.yaml", DEPLOYMENT),
        ("s.yaml", SECRET),
        ("gone.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n"),
        ("b.bin", "\0a"),
        ("run.sh", "x"),
        ("same", "x"),
    ]);
    let changed = DEPLOYMENT
        .replace("app:1", "app:2")
        .replace("replicas: 1", "paused: yes")
        .replace("- {name: side, image: 'r.example/side:1'}\n      ", "");
    let mut new = files(&[
        ("moved/a.yaml", &changed),
        ("s.yaml", &SECRET.replace("hunter-one", "hunter-two")),
        ("b.bin", "\0b"),
        ("c.yaml", "a: 1\n"),
        ("same", "x"),
    ]);
    new.insert("run.sh", File::bytes("x", true));
    let old = Side { files: &old, manifest: Some(&old_manifest) };
    let new = Side { files: &new, manifest: Some(&new_manifest) };
    let found = diff(old, new, Options::default());
    let text = found.to_string();
    assert!(!text.contains("hunter"));
    insta::assert_snapshot!(text, @r#"
    metadata (2)
      ~ metadata.version: 1.0.0 -> 1.1.0
      ~ spec.dependencies[name=b].version: ^1 -> ^2

    objects (3)
      - Namespace n
      ~ Secret s
          ~ stringData.password: (not shown) -> (not shown)
      ~ Deployment.apps a
          + spec.paused: true
          - spec.replicas: 1
          ~ spec.template.spec.containers[name=app].image: r.example/app:1 -> r.example/app:2
          - spec.template.spec.containers[name=side]: {"image":"r.example/side:1","name":"side"}

    images (2)
      ~ r.example/app:1 -> r.example/app:2
      - r.example/side:1

    files (7)
      - a.yaml
      ~ b.bin, lines not shown: it is no text
      + c.yaml
      - gone.yaml
      + moved/a.yaml
      ~ run.sh, executable now
      ~ s.yaml, lines not shown: it holds a Secret
    "#);
    let json = serde_json::to_string(&found).expect("JSON");
    assert!(!json.contains("hunter") && json.contains("\"change\":\"changed\""));
    let same = diff(new, new, Options::default());
    assert!(same.is_empty());
    assert_eq!(same.to_string(), "no differences\n");
}

#[test]
fn lines_are_bounded() {
    let many = |start: usize| (0..3000).map(|at| format!("{}\n", at + start)).collect::<String>();
    let old = files(&[("a", &many(0)), ("b", "x\ny\n")]);
    let new = files(&[("a", &many(10_000)), ("b", "x\nz\n")]);
    let side = |files| Side { files, manifest: None };
    let found = diff(side(&old), side(&new), Options::default());
    assert_eq!(found.files[0].not_shown, Some("too many lines changed"));
    let text = found.files[1].text.as_deref().expect("lines");
    assert_eq!(text, "--- a/b\n+++ b/b\n@@ -1,2 +1,2 @@\n x\n-y\n+z\n");
}
