//! Directories as idpbuilder has them, in and out. What idpbuilder itself makes of them is shown by `tests/peers/idpbuilder-package`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use idp_oci::source::{Content, FileEntry, Tree};
use proptest::prelude::*;

use super::{ExportError, Exported, Options, Part, export, infer};
use crate::build::Package;
use crate::manifest::{self, Manifest};

pub(super) fn example(name: &str) -> Package {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/packages");
    Package::open(&examples.join(name)).expect("a package")
}

pub(super) fn part(package: &Package) -> Part<'_> {
    Part { manifest: &package.manifest, files: &package.tree, images: 0, locked: false }
}

pub(super) fn options() -> Options {
    Options { variant: None, directory: "out".to_owned() }
}

/// A directory with these files, below one of a name that does not change.
pub(super) fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let above = tempfile::tempdir().expect("a directory");
    let own = above.path().join("Demo_Stack");
    std::fs::create_dir(&own).expect("made");
    for (name, text) in files {
        let path = own.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    (above, own)
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let entry = |text: &str| FileEntry {
        content: Content::Bytes(Bytes::copy_from_slice(text.as_bytes())),
        size: text.len() as u64,
        executable: false,
    };
    Tree::of_files("a tree", files.iter().map(|(name, text)| ((*name).to_owned(), entry(text))))
        .expect("a tree")
}

fn manifest_of(name: &str, spec: &str) -> Manifest {
    let text = format!(
        "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata: {{name: {name}, version: 1.0.0}}\nspec:\n{spec}"
    );
    manifest::parse(&text).expect("a manifest")
}

pub(super) fn application(name: &str, source: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\nspec:\n{source}\n"
    )
}

/// Everything there is to see: files with the text of what was generated, what is deployed, what is lost.
fn show(exported: &Exported) -> String {
    let mut shown = String::new();
    for (path, file) in exported.files.files() {
        let _ = writeln!(shown, "== {path}");
        if let Content::Bytes(bytes) = &file.content {
            shown.push_str(std::str::from_utf8(bytes).expect("text"));
        }
    }
    let _ = writeln!(shown, "== create -p {}", exported.directories.join(" -p "));
    for application in &exported.applications {
        let _ = writeln!(shown, "{} {} of {}", application.kind, application.name, application.file);
        for source in &application.sources {
            let _ = writeln!(
                shown,
                "    {} -> {}",
                source.directory,
                source.repository.as_deref().unwrap_or("-")
            );
        }
    }
    for lost in &exported.unconverted {
        let _ = writeln!(shown, "lost: {} {}: {}", lost.package, lost.what, lost.why);
    }
    for note in &exported.notes {
        let _ = writeln!(shown, "note: {}: {}", note.file, note.message);
    }
    shown
}

/// What is exported is a package of idpbuilder, read again.
fn again(exported: &Exported) {
    let above = tempfile::tempdir().expect("a directory");
    let out = above.path().join("out");
    exported.write(&out).expect("written");
    let inferred = infer(&out, None, None).expect("a package");
    assert_eq!(inferred.applications, exported.applications);
    assert_eq!(inferred.manifest.metadata.name, "out");
    let package = Package::with(&out, inferred.manifest).expect("a package");
    let files = |tree: &Tree| -> Vec<(String, Vec<u8>, bool)> {
        tree.files()
            .map(|(path, file)| {
                (path.to_owned(), file.bytes(1 << 20).expect("read").to_vec(), file.executable)
            })
            .collect()
    };
    assert_eq!(files(&package.tree), files(&exported.files));
    let once_more = export(&part(&package), &[], &options()).expect("exported");
    assert_eq!(files(&once_more.files), files(&exported.files));
    assert!(exported.write(&out).expect_err("not empty").to_string().contains("is not empty"));
}

#[test]
fn manifests() {
    let exported = export(&part(&example("guestbook")), &[], &options()).expect("exported");
    insta::assert_snapshot!(show(&exported));
    again(&exported);
}

#[test]
fn a_kustomization() {
    let web = example("web");
    let exported = export(&part(&web), &[], &options()).expect("exported");
    insta::assert_snapshot!(show(&exported));
    again(&exported);
    let dev = Options { variant: Some("dev".to_owned()), ..options() };
    let exported = export(&part(&web), &[], &dev).expect("exported");
    let names: Vec<_> = exported.applications.iter().map(|application| &*application.name).collect();
    assert_eq!(names, ["web"]);
    assert!(exported.unconverted.iter().all(|lost| !lost.what.contains("variants")));
    let none = Options { variant: Some("test".to_owned()), ..options() };
    let error = export(&part(&web), &[], &none).expect_err("no such variant").to_string();
    assert_eq!(error, "no package has a variant `test`; there are dev, prod");
}

#[test]
fn a_chart() {
    let exported = export(&part(&example("hello")), &[], &options()).expect("exported");
    insta::assert_snapshot!(show(&exported));
    again(&exported);
}

#[test]
fn applications() {
    let exported = export(&part(&example("apps")), &[], &options()).expect("exported");
    insta::assert_snapshot!(show(&exported));
    again(&exported);
}

#[test]
fn a_bundle() {
    let [platform, guestbook, web, hello, apps] =
        ["platform", "guestbook", "web", "hello", "apps"].map(example);
    let given = [&guestbook, &web, &hello, &apps].map(part);
    let exported = export(&part(&platform), &given, &options()).expect("exported");
    insta::assert_snapshot!(show(&exported));
    again(&exported);
    let alone = export(&part(&platform), &[], &options()).expect_err("nothing").to_string();
    assert_eq!(alone, "platform has no content of its own; give the packages that it depends on");
    let twice = export(&part(&platform), &[part(&web), part(&web)], &options()).expect_err("twice");
    assert!(matches!(twice, ExportError::Twice(name) if name == "web"));
}

/// Each thing that a manifest can say and idpbuilder cannot is told.
#[test]
fn what_is_lost_is_told() {
    let manifest = manifest_of(
        "all",
        "  type: manifests
  dependencies: [{name: a, version: ^1}, {name: b, version: '*', optional: true, when: tls}]
  requires:
    kubernetes: '>=1.29'
    apis: [{group: monitoring.coreos.com, version: v1, kind: ServiceMonitor}]
    providers: [{package: crossplane, version: '>=1.15'}]
  provides: {apis: [{group: x.io, version: v1, kind: X}]}
  conflicts: [{name: c}]
  replaces: [{name: d}]
  values: {schema: s.json, defaults: d.yaml, mapping: placeholders}
  targets:
  - {name: default, path: m, wave: 3, recurse: true, namespace: n}
  - {name: plain, path: k, renderer: directory}
  hooks: [{phase: pre-install, path: m/h.yaml}]
  compatibility: {consumers: [argocd>=3.1]}
",
    );
    let files =
        tree(&[("m/a.yaml", ""), ("m/h.yaml", ""), ("k/kustomization.yaml", ""), ("k/.gitignore", "*")]);
    let whole = Part { manifest: &manifest, files: &files, images: 2, locked: true };
    insta::assert_snapshot!(show(&export(&whole, &[], &options()).expect("exported")));
}

/// Labels take 63 characters, and a package and a target may have as many each.
#[test]
fn long_names_are_cut_and_stay_distinct() {
    let name = "n".repeat(63);
    let manifest =
        manifest_of(&name, "  type: manifests\n  targets: [{name: a, path: .}, {name: b, path: .}]\n");
    let files = tree(&[("a.yaml", "")]);
    let part = Part { manifest: &manifest, files: &files, images: 0, locked: false };
    let exported = export(&part, &[], &options()).expect("exported");
    let names: Vec<_> = exported.applications.iter().map(|found| found.name.len()).collect();
    assert_eq!(names, [63, 63]);
    assert_ne!(exported.applications[0].name, exported.applications[1].name);
    assert!(exported.notes[0].message.contains("longer than 80 characters, and Gitea refuses it"));
}

#[test]
fn values_of_a_chart_that_are_not_its_own_are_given_to_it() {
    let manifest = manifest_of(
        "c",
        "  type: helm\n  content: {root: chart}\n  values: {defaults: chart/prod.yaml, schema: s.json, mapping: helm}\n",
    );
    let files = tree(&[("c/Chart.yaml", ""), ("c/prod.yaml", "")]);
    let part = Part { manifest: &manifest, files: &files, images: 0, locked: false };
    let exported = export(&part, &[], &options()).expect("exported");
    let text = show(&exported);
    assert!(text.contains("    helm:\n      valueFiles:\n      - \"/prod.yaml\"\n"), "{text}");
    let lost: Vec<_> = exported.unconverted.iter().map(|lost| &*lost.what).collect();
    assert_eq!(lost, ["spec.values.schema", "spec.targets.default"]);
}

/// Two packages may want one name: of a file, an Application or a Git repository.
#[test]
fn names_do_not_collide() {
    let (one, other) = (
        manifest_of("web", "  type: manifests\n  targets: [{name: dev, path: .}, {name: prod, path: .}]\n"),
        manifest_of("web-dev", "  type: manifests\n"),
    );
    let apps = manifest_of("apps", "  type: argocd-apps\n");
    let files = tree(&[("a.yaml", "")]);
    let own = tree(&[
        ("web.yaml", &application("web", "  source: {repoURL: cnoe://web}")),
        ("web/a.yaml", ""),
        ("web-prod.yaml", &application("web-dev", "  source: {repoURL: cnoe://.}")),
    ]);
    let part = |manifest, files| Part { manifest, files, images: 0, locked: false };
    let exported = export(&part(&apps, &own), &[part(&one, &files), part(&other, &files)], &options())
        .expect("exported");
    let mut names: Vec<_> = exported.applications.iter().map(|found| found.name.clone()).collect();
    names.sort();
    assert_eq!(names, ["web", "web-dev", "web-dev-2", "web-dev-3", "web-prod"]);
    let repositories: Vec<_> = exported
        .applications
        .iter()
        .flat_map(|found| &found.sources)
        .map(|source| source.repository.clone())
        .collect();
    let distinct: std::collections::BTreeSet<_> = repositories.iter().collect();
    assert_eq!((repositories.len(), distinct.len()), (5, 5), "{repositories:?}");
    again(&exported);
}

/// In a bundle, Applications come to the top, and their sources follow; nothing else in the text changes.
#[test]
fn sources_of_applications_in_a_bundle_are_led() {
    let bundle = manifest_of("all", "  type: bundle\n  dependencies: [{name: apps, version: '*'}]\n");
    let apps = manifest_of("apps", "  type: argocd-apps\n  targets: [{name: default, path: complete}]\n");
    let text = "# kept\napiVersion: argoproj.io/v1alpha1\nkind: ApplicationSet\nmetadata: {name: set}\nspec:\n  generators:\n  - git: {repoURL: \"cnoe://../base/x\"}\n  - merge: {generators: [{git: {repoURL: cnoe://.}}]}\n  template:\n    spec:\n      sources:\n      - repoURL: cnoe://   # all of it\n        helm: {valuesObject: {deep: [cnoe://../base]}}\n";
    let files = tree(&[("complete/set.yaml", text), ("base/x/a.yaml", "")]);
    let part = |manifest, files| Part { manifest, files, images: 0, locked: false };
    let empty = Tree::default();
    let exported = export(&part(&bundle, &empty), &[part(&apps, &files)], &options()).expect("exported");
    insta::assert_snapshot!(show(&exported));
    // Alone it stays as it is, and idpbuilder is told where to look.
    let alone = export(&part(&apps, &files), &[], &options()).expect("exported");
    assert_eq!(alone.directories, ["complete"]);
    let escaped = text.replace("cnoe://../base/x", "cnoe:\\x2f/../base/x");
    let files = tree(&[("complete/set.yaml", &escaped), ("base/x/a.yaml", "")]);
    let error = export(&part(&bundle, &empty), &[part(&apps, &files)], &options()).expect_err("escapes");
    assert!(matches!(error, ExportError::Written { line: 7, .. }), "{error}");
}

#[test]
fn a_directory_becomes_a_package() {
    let chart = "
  sources:
  - {repoURL: 'https://charts.example/x', chart: x, targetRevision: 1.0.0, helm: {valueFiles: [$values/v.yaml]}}
  - {repoURL: cnoe://values, ref: values}";
    let both = format!(
        "{}---\napiVersion: x.io/v1\nkind: X\nmetadata: {{name: x}}\n",
        application("both", "  source: {repoURL: 'cnoe://b/manifests', path: .}")
    );
    let set = "apiVersion: argoproj.io/v1alpha1\nkind: ApplicationSet\nmetadata: {name: set}\nspec:\n  generators:\n  - matrix: {generators: [{git: {repoURL: cnoe://a}}, {list: {}}]}\n  - merge: {generators: [{git: {repoURL: cnoe://a/manifests}}]}\n  templatePatch: |\n    spec: {source: {repoURL: cnoe://a}}\n  template:\n    spec:\n      source: {repoURL: cnoe://, helm: {values: 'x: cnoe://a', valuesObject: {repo: cnoe://a/manifests}}}\n";
    let (_above, own) = directory(&[
        ("README.md", "# read"),
        ("chart.yaml", &application("chart", chart)),
        ("values/v.yaml", "a: 1"),
        ("both.yaml", &both),
        ("Two_B.yml", &application("both", "  source: {repoURL: cnoe://a/manifests, path: .}")),
        (
            "commented.yaml",
            &format!("# first\n---\n{}", application("c", "  source: {repoURL: 'https://x.example'}")),
        ),
        ("set.yaml", set),
        ("config.yaml", "apiVersion: v1\nkind: ConfigMap\n"),
        ("values.yaml", "a: 1\n"),
        ("a/manifests/x.yaml", ""),
        ("b/manifests/x.yaml", ""),
        ("b/manifests/.gitignore", ""),
    ]);
    let inferred = infer(&own, None, None).expect("a package");
    let mut shown = serde_json::to_string(&inferred.manifest).expect("JSON");
    for application in &inferred.applications {
        let _ = write!(shown, "\n{} {} of {}", application.kind, application.name, application.file);
        for source in &application.sources {
            let repository = source.repository.as_deref().unwrap_or("-");
            let _ =
                write!(shown, "\n    {} {} -> {} {repository}", source.line, source.key, source.directory);
        }
    }
    for note in &inferred.notes {
        let line = note.line.map(|line| format!(":{line}")).unwrap_or_default();
        let _ = write!(shown, "\nnote: {}{line}: {}", note.file, note.message);
    }
    insta::assert_snapshot!(shown);
    let named = infer(&own, Some("named"), Some("2.0.0-rc.1")).expect("a package").manifest.metadata;
    assert_eq!((&*named.name, &*named.version), ("named", "2.0.0-rc.1"));
    Package::with(&own, inferred.manifest).expect("a package");
}

#[test]
fn what_is_no_package_says_what_it_lacks() {
    let refuse = |files: &[(&str, &str)], name: Option<&str>, version: Option<&str>| {
        let (above, own) = directory(files);
        let error = infer(&own, name, version).expect_err("refused").to_string();
        let real = above.path().canonicalize().expect("a path").display().to_string();
        error.replace(&real, "ABOVE").replace(&above.path().display().to_string(), "ABOVE")
    };
    let good = application("a", "  source: {repoURL: 'https://x.example'}");
    let to = |url: &str| application("a", &format!("  project: default\n  source:\n    repoURL: {url}"));
    let all = [
        refuse(&[("a.yaml", &good)], Some("Not A Name"), None),
        refuse(&[("a.yaml", &good)], None, Some("1.0")),
        refuse(&[("a.yaml", &good), ("idp-package.yaml", "")], None, None),
        refuse(&[("a.txt", "")], None, None),
        refuse(
            &[("d.yaml", "apiVersion: v1\nkind: Pod\n"), ("v.yml", "a: 1"), ("sub/a.yaml", &good)],
            None,
            None,
        ),
        refuse(&[("a.yaml", "a: [\n")], None, None),
        refuse(&[("a.yaml", &application("a", "  project: default"))], None, None),
        refuse(&[("a.yaml", &good.replace("name: a", "labels: {}"))], None, None),
        refuse(&[("a.yaml", &to("cnoe://../base/x"))], None, None),
        refuse(&[("a.yaml", &to("cnoe://../../../../../../../../../x"))], None, None),
        refuse(&[("a.yaml", &to("cnoe://nowhere"))], None, None),
        refuse(&[("a.yaml", &to("cnoe://file.txt")), ("file.txt", "")], None, None),
        refuse(&[("a.yaml", &to("cnoe://x")), ("b.yaml", &to("cnoe://y"))], None, None),
    ];
    insta::assert_snapshot!(all.join("\n"));
    let (above, _) = directory(&[]);
    let own = above.path().join("日本");
    std::fs::create_dir(&own).expect("made");
    std::fs::write(own.join("a.yaml"), &good).expect("written");
    assert!(infer(&own, None, None).expect_err("no name").to_string().contains("give a name"));
    assert!(infer(&own.join("nowhere"), None, None).is_err());
}

/// Who does what the refusal of a source above says has a package that works.
#[test]
fn a_source_above_is_remedied_as_told() {
    let (above, own) = directory(&[("a.yaml", &application("a", "  source: {repoURL: cnoe://../base/x}"))]);
    std::fs::create_dir_all(above.path().join("base/x")).expect("made");
    std::fs::write(above.path().join("base/x/x.yaml"), "").expect("written");
    std::fs::write(above.path().join("other.yaml"), "").expect("written");
    let told = infer(&own, None, None).expect_err("above").to_string();
    let (_, content) = told.split_once("`content: ").expect("told");
    let (content, rest) = content.split_once('`').expect("told");
    let (_, path) = rest.split_once("whose path is `").expect("told");
    let path = path.trim_end_matches('`');
    let manifest = manifest_of(
        "all",
        &format!("  type: argocd-apps\n  content: {content}\n  targets: [{{name: default, path: {path}}}]\n"),
    );
    let package = Package::with(above.path(), manifest).expect("a package");
    let exported = export(&part(&package), &[], &options()).expect("exported");
    assert_eq!(exported.directories, ["Demo_Stack"]);
    let files: Vec<_> = exported.files.files().map(|(path, _)| path).collect();
    assert_eq!(files, ["Demo_Stack/a.yaml", "base/x/x.yaml"]);
    assert_eq!(exported.applications[0].sources[0].directory, "base/x");
}

/// A manifest may come from a stranger's config blob, in which nothing was checked.
#[test]
fn a_strangers_manifest_is_held_to_names_and_paths() {
    let files = tree(&[("a.yaml", "")]);
    let long = "ü".repeat(100);
    for (name, target) in
        [("../x", "t"), ("a/b", "t"), ("", "t"), (&*long, "t"), ("x", &*long), ("x\n---\n", "y: z")]
    {
        let mut manifest =
            manifest_of("m", "  type: manifests\n  targets: [{name: a, path: .}, {name: b, path: .}]\n");
        name.clone_into(&mut manifest.metadata.name);
        for found in &mut manifest.spec.targets {
            target.clone_into(&mut found.name);
        }
        let part = Part { manifest: &manifest, files: &files, images: 0, locked: false };
        assert!(matches!(export(&part, &[], &options()), Err(ExportError::Name(_))), "{name} {target}");
    }
    let mut manifest = manifest_of("m", "  type: manifests\n  targets: [{name: a, path: nowhere}]\n");
    manifest.spec.targets[0].path = "../..".to_owned();
    let part = Part { manifest: &manifest, files: &files, images: 0, locked: false };
    assert!(matches!(export(&part, &[], &options()), Err(ExportError::Target { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is in an `argocd-apps` package, its files are exported byte for byte.
    #[test]
    fn applications_are_exported_as_they_are(
        texts in proptest::collection::vec("[ -~\\n\u{e9}]{0,60}", 1..6),
        tail in "[a-z #\\n]{0,40}",
    ) {
        let mut files = vec![("app.yaml".to_owned(), application("a", "  source: {repoURL: cnoe://m}") + "# " + &tail.replace('\n', "\n# "))];
        files.extend(texts.into_iter().enumerate().map(|(index, text)| (format!("m/{index}.yaml"), text)));
        let given: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
        let (tree, manifest) = (tree(&given), manifest_of("apps", "  type: argocd-apps\n"));
        let part = Part { manifest: &manifest, files: &tree, images: 0, locked: false };
        let exported = export(&part, &[], &options()).expect("exported");
        let out: Vec<_> = exported.files.files().map(|(path, file)| {
            let bytes = file.bytes(1 << 20).expect("read").to_vec();
            (path.to_owned(), String::from_utf8(bytes).expect("text"))
        }).collect();
        prop_assert_eq!(out, files);
    }

    /// No text of a file makes reading it panic.
    #[test]
    fn nothing_panics(text in "(cnoe://|apiVersion: argoproj.io/v1\\n|kind: Application\\n|spec: |source: |metadata: \\{name: a\\}\\n|[a{}\\[\\]:,&*\" \\n-]|---\\n|repoURL: |\\.\\./){0,30}") {
        let (tree, manifest) = (tree(&[("a.yaml", &text), ("b/c", "")]), manifest_of("apps", "  type: argocd-apps\n"));
        let part = Part { manifest: &manifest, files: &tree, images: 0, locked: false };
        let bundle = manifest_of("all", "  type: bundle\n  dependencies: [{name: apps, version: '*'}]\n");
        let all = Part { manifest: &bundle, files: &Tree::default(), images: 0, locked: false };
        let _ = export(&part, &[], &options());
        let _ = export(&all, &[part], &options());
    }
}
