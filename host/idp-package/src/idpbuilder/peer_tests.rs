//! What idpbuilder's own code makes of directories, beside what we say of them (`tests/peers/idpbuilder-package`).
//! Where `IDP_STACKS` names a checkout of github.com/cnoe-io/stacks, its packages are compared, too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use idp_test_support::peers;
use serde::Deserialize;

use super::tests::{application, directory, example, options, part};
use super::{Application, Exported, InferError, Options, export, infer};
use crate::build::Package;

/// What the program prints.
#[derive(Debug, Deserialize)]
struct Told {
    packages: Vec<CustomPackage>,
    repositories: Vec<Repository>,
    applications: Vec<Deployed>,
    errors: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct CustomPackage {
    file: String,
    kind: String,
    application: String,
    synced: bool,
    #[serde(default)]
    error: String,
}

#[derive(Debug, Deserialize)]
struct Repository {
    name: String,
    path: String,
}

#[derive(Debug, Deserialize)]
struct Deployed {
    name: String,
    spec: serde_json::Value,
}

struct Idpbuilder(PathBuf);

impl Idpbuilder {
    fn get() -> Option<Self> {
        peers::require(peers::tool("idpbuilder-package"), "idpbuilder-package").map(Self)
    }

    fn takes(&self, directory: &Path) -> Told {
        let output = Command::new(&self.0).arg(directory).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// Which files became which Applications.
fn applications(of: &[Application]) -> BTreeSet<(String, String, String)> {
    of.iter().map(|found| (found.file.clone(), found.kind.clone(), found.name.clone())).collect()
}

/// Which directories are pushed to which repositories.
fn repositories(of: &[Application]) -> BTreeMap<String, String> {
    let sources = of.iter().flat_map(|found| &found.sources);
    sources.filter_map(|source| Some((source.repository.clone()?, source.directory.clone()))).collect()
}

/// The program names paths from above the directory.
fn without(own: &str, path: &str) -> String {
    let rest = path.strip_prefix(own).unwrap_or(path).trim_start_matches('/');
    if rest.is_empty() { ".".to_owned() } else { rest.to_owned() }
}

/// What we say of a directory is what idpbuilder does with it: the same Applications, the same repositories, no error, and no `cnoe://`
/// left where it is deployed.
fn agree(told: &Told, own: &str, ours: &[Application]) {
    let theirs =
        told.packages.iter().map(|one| (without(own, &one.file), one.kind.clone(), one.application.clone()));
    assert_eq!(theirs.collect::<BTreeSet<_>>(), applications(ours), "{own}");
    for one in &told.packages {
        assert!(one.error.is_empty() && one.synced, "{own}: {one:?}");
    }
    let theirs = told.repositories.iter().map(|one| (one.name.clone(), without(own, &one.path)));
    assert_eq!(theirs.collect::<BTreeMap<_, _>>(), repositories(ours), "{own}");
    assert_eq!(told.applications.len(), ours.len(), "{own}");
    for one in &told.applications {
        assert!(!one.spec.to_string().contains("cnoe://"), "{own}: {} {}", one.name, one.spec);
    }
}

fn run(idpbuilder: &Idpbuilder, exported: &Exported) -> Told {
    let above = tempfile::tempdir().expect("a directory");
    let out = above.path().join("out");
    exported.write(&out).expect("written");
    let told = idpbuilder.takes(&out);
    agree(&told, "out", &exported.applications);
    assert_eq!(told.errors, Vec::<String>::new());
    told
}

#[test]
fn idpbuilder_takes_what_is_exported_of_the_examples() {
    let Some(idpbuilder) = Idpbuilder::get() else { return };
    let [platform, guestbook, web, hello, apps] =
        ["platform", "guestbook", "web", "hello", "apps"].map(example);
    let mut deployed = 0;
    for package in [&guestbook, &web, &hello, &apps] {
        let told = run(&idpbuilder, &export(&part(package), &[], &options()).expect("exported"));
        deployed += told.applications.len();
    }
    assert_eq!(deployed, 1 + 2 + 1 + 2);
    let given = [&guestbook, &web, &hello, &apps].map(part);
    let told = run(&idpbuilder, &export(&part(&platform), &given, &options()).expect("exported"));
    assert_eq!(told.applications.len(), 6);
    // What was generated is read into Argo CD's own types, and says what the targets say.
    let prod = told.applications.iter().find(|one| one.name == "web-prod").expect("it is there");
    let internal =
        "http://my-gitea-http.gitea.svc.cluster.local:3000/giteaAdmin/idpbuilder-localdev-web-prod-web.git";
    assert_eq!(
        prod.spec,
        serde_json::json!({
            "project": "default",
            "source": {"repoURL": internal, "targetRevision": "HEAD", "path": "overlays/prod"},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "web"},
            "syncPolicy": {"automated": {"selfHeal": true}, "syncOptions": ["CreateNamespace=true"]},
        })
    );
    let dev = Options { variant: Some("dev".to_owned()), ..options() };
    assert_eq!(run(&idpbuilder, &export(&part(&web), &[], &dev).expect("exported")).applications.len(), 1);
}

/// What notes and problems say of idpbuilder is so.
#[test]
fn what_we_say_of_idpbuilder_is_so() {
    let Some(idpbuilder) = Idpbuilder::get() else { return };
    let takes = |files: &[(&str, &str)]| {
        let (_above, own) = directory(files);
        idpbuilder.takes(&own)
    };
    let plain = "  source: {repoURL: 'https://x.example', path: .}";
    let one = |told: &Told| told.packages.first().map(|one| one.error.clone()).unwrap_or_default();

    let commented = takes(&[("a.yaml", &format!("# first\n---\n{}", application("a", plain)))]);
    assert!(one(&commented).contains("Kind"), "{commented:?}");
    let marked = takes(&[("a.yaml", &format!("---\n# first\n{}", application("a", plain)))]);
    assert_eq!((one(&marked), marked.applications.len()), (String::new(), 1));
    let second = format!("{}---\napiVersion: v1\nkind: ConfigMap\n", application("a", plain));
    let second = takes(&[("a.yaml", &second)]);
    assert_eq!((one(&second), second.applications.len()), (String::new(), 1));
    let foreign = format!("{}---\napiVersion: x.io/v1\nkind: X\n", application("a", plain));
    let foreign = takes(&[("a.yaml", &foreign)]);
    assert!(one(&foreign).contains("no kind \"X\""), "{foreign:?}");

    let bare = takes(&[("a.yaml", &application("a", "  project: default"))]);
    assert!(one(&bare).starts_with("panic: "), "{bare:?}");
    let missing = takes(&[("a.yaml", &application("a", "  source: {repoURL: cnoe://nowhere}"))]);
    assert!(one(&missing).contains("no such file"), "{missing:?}");
    let file = takes(&[("a.yaml", &application("a", "  source: {repoURL: cnoe://b}")), ("b", "")]);
    assert!(one(&file).contains("not a directory"), "{file:?}");
    let others = takes(&[
        ("c.yaml", "apiVersion: v1\nkind: ConfigMap\n"),
        ("v.yaml", "a: 1\n"),
        ("d/a.yaml", &application("a", plain)),
    ]);
    assert_eq!((others.packages.len(), others.applications.len()), (0, 0));

    // Two directories of one name are one repository, and the second wins or is lost.
    let sources = "  sources:\n  - {repoURL: cnoe://a/m, path: .}\n  - {repoURL: cnoe://b/m, path: .}";
    let twice = takes(&[("a.yaml", &application("a", sources)), ("a/m/x", ""), ("b/m/x", "")]);
    assert_eq!(twice.repositories.len(), 1);

    let set = "apiVersion: argoproj.io/v1alpha1\nkind: ApplicationSet\nmetadata: {name: s}\nspec:\n  generators:\n  - git: {repoURL: cnoe://m, revision: HEAD}\n  - matrix: {generators: [{git: {repoURL: cnoe://m, revision: HEAD}}]}\n  - merge: {mergeKeys: [a], generators: [{git: {repoURL: cnoe://m, revision: HEAD}}]}\n  template:\n    metadata: {name: t}\n    spec:\n      project: default\n      destination: {}\n      source: {repoURL: cnoe://m, helm: {values: 'x: cnoe://m', valuesObject: {deep: [cnoe://m]}}}\n";
    let set = takes(&[("s.yaml", set), ("m/x", "")]);
    let spec = &set.applications[0].spec;
    let at = |pointer: &str| {
        spec.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    for replaced in [
        "/generators/0/git/repoURL",
        "/generators/1/matrix/generators/0/git/repoURL",
        "/template/spec/source/repoURL",
        "/template/spec/source/helm/valuesObject/deep/0",
    ] {
        assert!(at(replaced).ends_with("/idpbuilder-localdev-s-m.git"), "{replaced}: {spec}");
    }
    assert_eq!(at("/generators/2/merge/generators/0/git/repoURL"), "cnoe://m");
    assert_eq!(at("/template/spec/source/helm/values"), "x: cnoe://m");
}

/// Every directory of the stacks that holds an Application is inferred, exported again, and read alike; or it is refused for a source
/// above it, and only then.
#[test]
fn stacks_are_read_as_idpbuilder_reads_them() {
    let Some(stacks) = std::env::var_os("IDP_STACKS").map(PathBuf::from) else { return };
    let Some(idpbuilder) = Idpbuilder::get() else { return };
    let (mut agreed, mut escaping, mut none) = (Vec::new(), Vec::new(), 0);
    let mut open = vec![stacks.clone()];
    while let Some(directory) = open.pop() {
        let entries = std::fs::read_dir(&directory).expect("read").map(|entry| entry.expect("read").path());
        open.extend(entries.filter(|path| path.is_dir() && !path.ends_with(".git")));
        let own = directory.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
        let shown = directory.strip_prefix(&stacks).expect("inside").display().to_string();
        match infer(&directory, None, None) {
            Ok(inferred) => {
                agree(&idpbuilder.takes(&directory), &own, &inferred.applications);
                let package = Package::with(&directory, inferred.manifest).expect("a package");
                let named = Options { variant: None, directory: own.clone() };
                let exported = export(&part(&package), &[], &named).expect("exported");
                let above = tempfile::tempdir().expect("a directory");
                let out = above.path().join(&own);
                exported.write(&out).expect("written");
                agree(&idpbuilder.takes(&out), &own, &inferred.applications);
                agreed.push(shown);
            }
            Err(InferError::Problems { problems, .. }) => {
                let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
                // Files of other tools, in which templates are no YAML, lie in directories that nobody gives to idpbuilder.
                if idpbuilder.takes(&directory).packages.is_empty() {
                    none += 1;
                    continue;
                }
                assert!(all.iter().all(|one| one.contains("leads out of the package")), "{shown}: {all:?}");
                escaping.push(shown);
            }
            Err(InferError::NoApplication { .. } | InferError::Content(_)) => {
                let told = idpbuilder.takes(&directory);
                assert_eq!(told.packages.len(), 0, "{shown}: {told:?}");
                none += 1;
            }
            Err(other) => panic!("{shown}: {other}"),
        }
    }
    agreed.sort();
    escaping.sort();
    tell(&agreed, &escaping, none);
    assert!(agreed.len() > 10 && none > 0, "{agreed:?} {none}");
}

/// Told to whoever runs it with `--nocapture`.
fn tell(agreed: &[String], escaping: &[String], none: usize) {
    use std::io::Write as _;
    let _ = writeln!(
        std::io::stderr(),
        "read alike: {}\nrefused for a source above: {}\nno package: {none} directories",
        agreed.join(" "),
        escaping.join(" ")
    );
}
