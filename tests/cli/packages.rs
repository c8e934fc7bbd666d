//! Packages as people use them: from a directory to a registry and back, taken by the real consumers, locked, signed, carried elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idp_test_support::images::TestImage;
use idp_test_support::peers::{self as programs, Consumer, Distribution, Gitea, Login, Olareg, Options};
use idp_test_support::sandbox::{Output, Sandbox};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::sandbox;

const EXAMPLES: [&str; 5] = ["guestbook", "web", "hello", "apps", "platform"];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/packages").join(name)
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("read") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).expect("copied");
        }
    }
}

/// The files below a directory, by path, with the digests of their content.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    fn add(base: &Path, directory: &Path, all: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(directory).expect("read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                add(base, &path, all);
            } else {
                let name = path.strip_prefix(base).expect("below").display().to_string();
                let digest = Sha256::digest(std::fs::read(&path).expect("read"));
                all.insert(name, digest.iter().map(|byte| format!("{byte:02x}")).collect());
            }
        }
    }
    let mut all = BTreeMap::new();
    add(directory, directory, &mut all);
    all
}

/// What every example goes through at a registry whose repositories begin with `prefix`.
fn there_and_back(sandbox: &Sandbox, prefix: &str, consumers: &[Consumer]) {
    for name in EXAMPLES {
        let directory = example(name);
        let directory = directory.to_str().expect("text");
        let place = format!("{prefix}/");
        let pushed = json(&sandbox.idp(["package", "push", directory, &place, "--output", "json"]).exits(0));
        let (version, digest) = (pushed["version"].as_str().expect("a version"), &pushed["digest"]);
        let reference = format!("{prefix}/{name}:{version}");
        let again = json(&sandbox.idp(["package", "push", directory, &place, "--output", "json"]).exits(0));
        assert_eq!(
            (&again["digest"], &again["unchanged"], &again["bytes-sent"]),
            (digest, &true.into(), &0.into())
        );
        let shown = json(&sandbox.idp(["package", "show", &reference, "--output", "json"]).exits(0));
        assert_eq!((&shown["digest"], &shown["name"]), (digest, &name.into()), "{shown}");
        let out = format!("out-{name}");
        let _ = sandbox.idp(["package", "pull", &reference, &out]).exits(0);
        let pulled = tree(&sandbox.path("work").join(&out));
        assert_eq!(pulled.len() as u64, shown["files"].as_u64().expect("a number"), "{name}");
        let is_chart = shown["type"] == "helm";
        for consumer in consumers {
            let fetched = consumer.fetch(&format!("{prefix}/{name}"), version);
            let who = &fetched.consumer;
            if is_chart && who.contains("oras") {
                // It writes nothing that has no file name.
                assert!(fetched.tree.is_empty(), "{who} {name}: {fetched:?}");
                continue;
            }
            assert!(fetched.error.is_none(), "{who} {name}: {fetched:?}");
            let files: BTreeMap<String, String> = fetched
                .tree
                .iter()
                .filter(|entry| entry.kind == "file")
                .map(|entry| (entry.path.clone(), entry.sha256.clone()))
                .collect();
            // Argo CD takes the chart's directory away.
            let expect: BTreeMap<String, String> = if is_chart && who.to_lowercase().contains("argo") {
                pulled
                    .iter()
                    .map(|(path, digest)| (path.trim_start_matches("hello/").to_owned(), digest.clone()))
                    .collect()
            } else {
                pulled.clone()
            };
            assert_eq!(files, expect, "{who} {name}");
        }
    }
    // A version stays what it is.
    copy(&example("guestbook"), &sandbox.path("work/guestbook"));
    sandbox.write(
        "work/guestbook/manifests/extra.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
    );
    let place = format!("{prefix}/");
    let refused = sandbox.idp(["package", "push", "./guestbook", &place]).exits(1);
    assert!(
        refused.stderr.contains("a version stays what it is") && refused.stderr.contains("--force"),
        "{refused}"
    );
    // Nor does the plain push move it.
    let other = format!("{prefix}/guestbook");
    assert!(
        sandbox.idp(["push", "./guestbook", &other]).exits(1).stderr.contains("a version stays what it is")
    );
    let _ = sandbox.idp(["package", "version", "minor", "./guestbook"]).exits(0);
    let _ = sandbox.idp(["package", "push", "./guestbook", &place, "--also", "stable"]).exits(0);
    let shown = json(
        &sandbox.idp(["package", "show", &format!("{prefix}/guestbook:stable"), "--output", "json"]).exits(0),
    );
    assert_eq!(shown["version"], "1.3.0");
    let diff = sandbox.idp([
        "package",
        "diff",
        &format!("{prefix}/guestbook:1.2.0"),
        &format!("{prefix}/guestbook:1.3.0"),
        "--exit-code",
    ]);
    assert!(diff.exits(1).stdout.contains("+ ConfigMap x"));
}

/// The consumers that can be had; each that cannot is told of.
fn consumers() -> Vec<Consumer> {
    let all = [
        (Consumer::argo_cd(), "argocd-oci"),
        (Consumer::argo_cd_3_1(), "argocd-oci-3.1"),
        (Consumer::flux(), "flux-fetch"),
        (Consumer::oras(), "oras"),
    ];
    all.into_iter().filter_map(|(consumer, name)| programs::require(consumer, name)).collect()
}

#[test]
fn the_embedded_registry_and_every_consumer() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    there_and_back(&sandbox, &format!("{}/team", registry.address), &consumers());
    if let Some(helm) = programs::require(programs::tool("helm"), "helm") {
        let chart = format!("oci://{}/team/hello", registry.address);
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new(&helm);
            command.env_clear().env("HOME", sandbox.path("home")).args(arguments).arg("--plain-http");
            let output = command.current_dir(sandbox.path("work")).output().expect("helm runs");
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(run(&["template", "greeting", &chart, "--version", "0.3.0"]).contains("http-echo:1.0"));
        let _ = run(&["pull", &chart, "--version", "0.x"]);
        assert!(sandbox.path("work/hello-0.3.0.tgz").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn distribution() {
    let Some(server) = programs::require(Distribution::v3(Options::default()).await, "distribution") else {
        return;
    };
    there_and_back(&sandbox(), &format!("{}/team", server.address()), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn olareg() {
    let Some(server) = programs::require(Olareg::start(Login::Open).await, "olareg") else { return };
    there_and_back(&sandbox(), &format!("{}/team", server.address()), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gitea() {
    let Some(gitea) = programs::require(Gitea::start().await, "gitea") else { return };
    let sandbox = sandbox();
    let (user, password) = gitea.admin();
    let login = ["login", "-u", user, "--password-stdin", gitea.address()];
    let _ = sandbox.idp_with_stdin(login, password.as_bytes()).exits(0);
    there_and_back(&sandbox, &format!("{}/{user}", gitea.address()), &[]);
}

/// The same files, by another user, under other masks, locales and times, give the same bytes.
#[test]
fn who_builds_where_does_not_matter() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = sandbox();
    let mut digests = Vec::new();
    for (index, (mask, locale, zone)) in [
        ("022", "C", "UTC"),
        ("077", "tr_TR.UTF-8", "Asia/Kathmandu"),
        ("000", "ja_JP.UTF-8", "America/St_Johns"),
    ]
    .iter()
    .enumerate()
    {
        let mut command = std::process::Command::new("sh");
        let inner = sandbox.command([
            "package",
            "build",
            example("web").to_str().expect("text"),
            &format!("web-{index}.tar"),
        ]);
        let script = format!("umask {mask}; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("LC_ALL", locale).env("LANG", locale).env("TZ", zone).current_dir(sandbox.path("work"));
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{output:?}");
        digests.push(String::from_utf8(output.stdout).expect("text"));
    }
    // Another user, where this one may become another.
    if std::process::Command::new("setpriv")
        .args(["--reuid=65534", "true"])
        .output()
        .is_ok_and(|run| run.status.success())
    {
        copy(&example("web"), &sandbox.path("other/web"));
        for directory in ["", "other", "other/web"] {
            std::fs::set_permissions(sandbox.path(directory), std::fs::Permissions::from_mode(0o777))
                .expect("set");
        }
        let inner = sandbox.command(["package", "build", "web", "web.tar"]);
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups"]).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().env("HOME", sandbox.path("other")).current_dir(sandbox.path("other"));
        let output = command.output().expect("runs");
        // A binary that lies where others may not look cannot be tried.
        if output.status.success() {
            digests.push(String::from_utf8(output.stdout).expect("text"));
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
    let one = std::fs::read(sandbox.path("work/web-0.tar")).expect("read");
    assert!(one == std::fs::read(sandbox.path("work/web-1.tar")).expect("read"), "the archives, too");
}

#[test]
fn dependencies_are_locked_checked_and_explained() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    let place = format!("{}/team/", registry.address);
    for name in &EXAMPLES[..4] {
        let _ = sandbox.idp(["package", "push", example(name).to_str().expect("text"), &place]).exits(0);
    }
    copy(&example("platform"), &sandbox.path("work/platform"));
    let lock = ["package", "lock", "./platform", "--repository", &place, "--no-images"];
    let stale = sandbox.idp(["package", "lock", "./platform", "--check"]).exits(1);
    assert!(stale.stdout.contains("there is no idp.lock"), "{stale}");
    let locked = sandbox.idp(lock).exits(0);
    let names: Vec<&str> = locked.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["guestbook", "hello", "web"], "an optional one is not switched on");
    let text = std::fs::read_to_string(sandbox.path("work/platform/idp.lock")).expect("written");
    let _ = sandbox.idp(lock).exits(0);
    assert_eq!(std::fs::read_to_string(sandbox.path("work/platform/idp.lock")).expect("there"), text);
    let _ = sandbox.idp(["package", "lock", "./platform", "--check"]).exits(0);
    let tree = sandbox.idp(["package", "deps", "./platform"]).exits(0);
    insta::assert_snapshot!(tree.stdout, @r"
    platform 1.0.0
    ├── guestbook 1.2.0 (^1.0)
    ├── hello 0.3.0 (~0.3.0)
    └── web 2.0.1 (2.x)
    ");
    // A newer one is there, and the lock holds until it is told not to.
    copy(&example("web"), &sandbox.path("work/web"));
    let _ = sandbox.idp(["package", "version", "2.1.0", "./web"]).exits(0);
    let _ = sandbox.idp(["package", "push", "./web", &place]).exits(0);
    assert!(sandbox.idp(lock).exits(0).stdout.contains("web 2.0.1 "));
    let updated = sandbox.idp([
        "package",
        "update",
        "web",
        "--dir",
        "./platform",
        "--repository",
        &place,
        "--no-images",
    ]);
    let updated = updated.exits(0);
    assert!(
        updated.stdout.contains("web 2.1.0 ") && updated.stderr.contains("web 2.0.1 -> 2.1.0"),
        "{updated}"
    );
    let unknown =
        sandbox.idp(["package", "update", "nothing", "--dir", "./platform", "--repository", &place]).exits(1);
    assert!(unknown.stderr.contains("nothing is not in the lock"), "{unknown}");
    let manifest = std::fs::read_to_string(sandbox.path("work/platform/idp-package.yaml")).expect("read");
    sandbox.write("work/platform/idp-package.yaml", &manifest.replace("2.x", "^3.0"));
    let stale = sandbox.idp(["package", "lock", "./platform", "--check"]).exits(1);
    assert!(stale.stdout.contains("web is locked at 2.1.0, which is not ^3.0"), "{stale}");
    let conflict = sandbox.idp(lock).exits(1);
    let shown = conflict.stderr.replace(&registry.address, "REGISTRY");
    insta::assert_snapshot!(shown);
}

#[test]
fn signed_verified_and_held_to_a_policy() {
    let mut sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    let place = format!("{}/team/", registry.address);
    let web = format!("{}/team/web:2.0.1", registry.address);
    let _ = sandbox.idp(["package", "push", example("web").to_str().expect("text"), &place]).exits(0);
    sandbox.set_env("COSIGN_PASSWORD", "correct horse");
    let _ = sandbox.idp(["package", "keygen", "team"]).exits(0);
    let key = std::fs::read_to_string(sandbox.path("work/team.key")).expect("written");
    assert!(key.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----"), "{key}");
    let _ = sandbox.idp(["package", "keygen", "team"]).exits(1);
    let _ = sandbox.idp(["package", "keygen", "other"]).exits(0);
    let unsigned = sandbox.idp(["package", "verify", &web, "--key", "team.pub"]).exits(3);
    assert!(unsigned.stderr.contains("0 of those who were named signed it"), "{unsigned}");
    let _ = sandbox.idp(["package", "verify", &web]).exits(64);
    sandbox.write(
        "home/.idpbuilder/team.pub",
        &std::fs::read_to_string(sandbox.path("work/team.pub")).expect("read"),
    );
    let policy = |mode: &str| {
        format!(
            "verification:\n  rules:\n  - matchRepository: \"*/team/**\"\n    mode: {mode}\n    keys: [team.pub]\n"
        )
    };
    sandbox.write("home/.idpbuilder/registries.yaml", &policy("require"));
    let refused = sandbox.idp(["package", "pull", &web, "./no"]).exits(3);
    assert!(refused.stderr.contains("is not to be used"), "{refused}");
    assert!(!sandbox.path("work/no").exists());
    // Not by the other command either.
    let refused = sandbox.idp(["pull", &web, "oci:no"]).exits(3);
    assert!(refused.stderr.contains("is not to be used"), "{refused}");
    assert!(!sandbox.path("work/no").exists());
    sandbox.write("home/.idpbuilder/registries.yaml", &policy("warn"));
    assert!(sandbox.idp(["package", "pull", &web, "./warned"]).exits(0).stderr.contains("warning:"));
    sandbox.write("home/.idpbuilder/registries.yaml", &policy("require"));
    let _ = sandbox.idp(["package", "sign", &web, "--key", "team.key"]).exits(0);
    let _ = sandbox.idp(["package", "pull", &web, "./yes"]).exits(0);
    let _ = sandbox.idp(["pull", &web, "oci:layout"]).exits(0);
    let index = std::fs::read_to_string(sandbox.path("work/layout/index.json")).expect("written");
    assert!(index.contains(r#""org.opencontainers.image.ref.name":"2.0.1""#), "it keeps its name: {index}");
    let verified = sandbox.idp(["package", "verify", &web]).exits(0);
    assert!(verified.stdout.contains("/team/web@sha256:"), "{verified}");
    let _ = sandbox.idp(["package", "verify", &web, "--key", "other.pub"]).exits(3);
    let two = ["package", "verify", &web, "--key", "team.pub", "--key", "other.pub", "--min-signatures", "2"];
    let _ = sandbox.idp(two).exits(3);
    let _ = sandbox.idp(["package", "sign", &web, "--key", "other.key", "--legacy"]).exits(0);
    let _ = sandbox.idp(two).exits(0);
    sandbox.set_env("COSIGN_PASSWORD", "wrong");
    let wrong = sandbox.idp(["package", "sign", &web, "--key", "team.key"]).exits(1);
    assert!(wrong.stderr.contains("password") && !wrong.stderr.contains("wrong\n"), "{wrong}");
    sandbox.set_env("COSIGN_PASSWORD", "correct horse");
    let _ = sandbox.idp(["package", "sbom", &web, "--attach", "--key", "team.key"]).exits(0);
    let _ = sandbox
        .idp(["package", "provenance", &web, "--builder", "https://ci.example/1", "--attach"])
        .exits(0);
    let inspected = json(&sandbox.idp(["inspect", &web, "--referrers", "--output", "json"]).exits(0));
    assert_eq!(inspected["referrers"].as_array().map(Vec::len), Some(3), "{inspected}");
}

#[test]
fn a_package_and_all_it_needs_goes_to_a_place_without_a_network() {
    let mut sandbox = sandbox();
    let (here, there) = (sandbox.serve(&["--memory"]), sandbox.serve(&["--memory"]));
    let image = TestImage::layers(2).expect("an image");
    image.write_layout(&sandbox.path("work/image"), Some("1")).expect("written");
    let app = format!("{}/apps/app:1", here.address);
    let _ = sandbox.idp(["push", "oci:image:1", &app]).exits(0);
    sandbox.write(
        "work/needed/idp-package.yaml",
        "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata: {name: needed, version: 1.0.0}\nspec: {type: manifests}\n",
    );
    sandbox.write("work/needed/pod.yaml", &format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: app\n    image: {app}\n"));
    sandbox.write(
        "work/root/idp-package.yaml",
        "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata: {name: root, version: 1.0.0}\nspec:\n  type: bundle\n  dependencies:\n  - {name: needed, version: ^1.0, repository: ./needed}\n",
    );
    let place = format!("{}/team/", here.address);
    let _ = sandbox.idp(["package", "push", "./needed", &place]).exits(0);
    let _ = sandbox.idp(["package", "push", "./root", &place]).exits(0);
    let root = format!("{}/team/root:1.0.0", here.address);
    let open = sandbox.idp(["package", "export", &root]).exits(1);
    assert!(open.stderr.contains("no lock in it"), "{open}");
    let _ = sandbox.idp(["package", "lock", "./root", "--repository", &place]).exits(0);
    let lock = std::fs::read_to_string(sandbox.path("work/root/idp.lock")).expect("written");
    assert!(lock.contains(&format!("ref: {app}")) && lock.contains("digest: sha256:"), "{lock}");
    let _ = sandbox.idp(["package", "push", "./root", &place, "--force"]).exits(0);
    sandbox.set_env("COSIGN_PASSWORD", "x");
    let _ = sandbox.idp(["package", "keygen", "team"]).exits(0);
    let _ = sandbox.idp(["package", "sign", &root, "--key", "team.key"]).exits(0);
    let exported = json(&sandbox.idp(["package", "export", &root, "all.tar", "--output", "json"]).exits(0));
    let counts = [&exported["packages"], &exported["images"], &exported["referrers"]].map(Value::as_u64);
    assert_eq!(counts, [Some(2), Some(1), Some(1)], "{exported}");
    let left: Vec<String> = std::fs::read_dir(sandbox.path("work"))
        .expect("read")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".idp"))
        .collect();
    assert_eq!(left, [""; 0]);
    let (old, root_there) = (here.address.clone(), format!("{}/mirror/team/root:1.0.0", there.address));
    drop(here);
    let mirror = format!("{}/mirror", there.address);
    let imported = sandbox.idp(["package", "import", "all.tar", &mirror]).exits(0);
    assert!(imported.stdout.contains(&format!("from: {old}/apps/app, to: {mirror}/apps/app")), "{imported}");
    let _ = sandbox.idp(["package", "verify", &root_there, "--key", "team.pub"]).exits(0);
    let _ = sandbox.idp(["inspect", &format!("{mirror}/apps/app:1")]).exits(0);
    // What it says about its places is enough to go on from there.
    sandbox.write("home/.idpbuilder/registries.yaml", &imported.stdout);
    let _ = sandbox.idp(["package", "export", &root_there, "again.tar"]).exits(0);
    // And with the new names in it.
    let rewritten = format!("{}/rewritten", there.address);
    let imported = sandbox.idp(["package", "import", "all.tar", &rewritten, "--rewrite"]).exits(0);
    assert!(imported.stderr.contains("it is about a package that was built again"), "{imported}");
    let _ = sandbox.idp(["package", "pull", &format!("{rewritten}/team/needed:1.0.0"), "./now"]).exits(0);
    let pod = std::fs::read_to_string(sandbox.path("work/now/pod.yaml")).expect("pulled");
    assert!(pod.contains(&format!("image: {rewritten}/apps/app:1")) && !pod.contains(&old), "{pod}");
    let shown = sandbox
        .idp(["package", "show", &format!("{rewritten}/team/root:1.0.0"), "--output", "json"])
        .exits(0);
    assert!(!shown.stdout.contains(&old), "{shown}");
}

#[test]
fn findings_have_places_and_exit_codes() {
    let sandbox = sandbox();
    for name in EXAMPLES {
        let output = sandbox.idp(["package", "validate", example(name).to_str().expect("text"), "--strict"]);
        let _ = output.exits(0);
    }
    sandbox.write(
        "work/bad/idp-package.yaml",
        "apiVersion: packages.cnoe.io/v1alpha1\nkind: Package\nmetadata: {name: bad, version: 1.0.0}\nspec: {type: manifests}\n",
    );
    sandbox.write("work/bad/deployment.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec:\n  replicas: two\n  template:\n    spec:\n      containers:\n      - {name: a, image: nginx, imagePulPolicy: Always}\n");
    let found = sandbox.idp(["package", "validate", "./bad"]).exits(1);
    insta::assert_snapshot!(found.stdout);
    let sarif = json(&sandbox.idp(["package", "validate", "./bad", "--format", "sarif"]).exits(1));
    assert_eq!(sarif["version"], "2.1.0");
    let unknown = sandbox.idp(["package", "validate", "./bad", "--set", "no-such-rule=off"]).exits(64);
    assert!(unknown.stderr.contains("no-such-rule"), "{unknown}");
    let _ = sandbox.idp(["package", "rules", "image-latest"]);
}

/// A name that nobody vouched for is refused whatever else is right; a root that is none is told.
#[test]
fn who_signed_without_a_key_is_asked_of_a_given_root() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    let web = format!("{}/team/web:2.0.1", registry.address);
    let place = format!("{}/team/", registry.address);
    let _ = sandbox.idp(["package", "push", example("web").to_str().expect("text"), &place]).exits(0);
    let asked = |root: &str| {
        sandbox.idp([
            "package",
            "verify",
            &web,
            "--trusted-root",
            root,
            "--certificate-identity",
            "somebody@example.invalid",
            "--certificate-oidc-issuer",
            "https://issuer.example",
        ])
    };
    let _ = asked("absent.json").exits(1);
    sandbox.write("work/root.json", "{}");
    let _ = asked("root.json").exits(1);
    let incomplete = sandbox.idp(["package", "verify", &web, "--trusted-root", "root.json"]);
    assert!(incomplete.exits(64).stderr.contains("--certificate-identity"));
}

/// What idpbuilder takes is a package as it is, and every package becomes what idpbuilder takes.
#[test]
fn directories_of_idpbuilder_there_and_back() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    let place = format!("{}/team/", registry.address);
    copy(&example("apps"), &sandbox.path("work/ref-implementation"));
    std::fs::remove_file(sandbox.path("work/ref-implementation/idp-package.yaml")).expect("there");
    let pushed =
        sandbox.idp(["package", "push", "./ref-implementation", &place, "--set-version", "1.2.3"]).exits(0);
    assert!(pushed.stdout.contains("/team/ref-implementation@sha256:"), "{pushed}");
    let reference = format!("{place}ref-implementation:1.2.3");
    let exported =
        sandbox.idp(["package", "export", &reference, "./again", "--format", "idpbuilder"]).exits(0);
    assert_eq!(exported.stdout, "./again\n");
    assert_eq!(tree(&sandbox.path("work/again")), tree(&sandbox.path("work/ref-implementation")));
    // All of the examples through one bundle, with what idpbuilder cannot be told.
    for name in &EXAMPLES[..4] {
        let _ = sandbox.idp(["package", "push", example(name).to_str().expect("text"), &place]).exits(0);
    }
    copy(&example("platform"), &sandbox.path("work/platform"));
    let _ = sandbox
        .idp(["package", "lock", "./platform", "--repository", &place, "--feature", "apps", "--no-images"])
        .exits(0);
    let exported = sandbox.idp([
        "package",
        "export",
        "./platform",
        "./all",
        "--format",
        "idpbuilder",
        "--output",
        "json",
    ]);
    let exported = json(&exported.exits(0));
    let applications: Vec<&str> =
        exported["applications"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(applications.len() >= 6 && applications.contains(&"cache"), "{exported}");
    assert!(exported["unconverted"].as_array().is_some_and(|lost| !lost.is_empty()), "{exported}");
    let escaping = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a}\nspec:\n  source: {repoURL: cnoe://../elsewhere, path: .}\n";
    sandbox.write("work/escapes/app.yaml", escaping);
    sandbox.write("work/elsewhere/x.yaml", "kind: X\n");
    let refused = sandbox.idp(["package", "build", "./escapes"]).exits(1);
    assert!(
        refused.stderr.contains("cnoe://../elsewhere") && refused.stderr.contains("app.yaml"),
        "{refused}"
    );
    sandbox.write("work/nothing/readme.md", "no package");
    assert!(
        sandbox.idp(["package", "build", "./nothing"]).exits(2).stderr.contains("has no idp-package.yaml")
    );
}
