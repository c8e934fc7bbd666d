//! Clients for artifacts push to the registry and pull from it: oras, regctl, Helm, cosign.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use idp_oci::server::htpasswd::Htpasswd;

use crate::interop::{layout, run};
use crate::registry::{Kind, TestRegistry, program};

/// A client with a home of its own: it finds no settings and no logins but those that the test makes.
#[derive(Debug)]
struct Client {
    program: std::path::PathBuf,
    home: tempfile::TempDir,
}

impl Client {
    fn new(name: &str) -> Option<Self> {
        Some(Self { program: program(name)?, home: tempfile::tempdir().expect("a directory") })
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOME", self.path()).current_dir(self.path()).args(arguments);
        command
    }

    /// What it printed on stdout; it must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it runs")
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, content).expect("written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).expect("it is there")
    }
}

/// A registry for `alice`, whose password is `correct`; everybody may read.
fn with_login(directory: &Path) -> TestRegistry {
    let users = directory.join("users");
    let hash = bcrypt::hash("correct", 4).expect("hashed");
    std::fs::write(&users, format!("alice:{hash}\n")).expect("written");
    let access = Htpasswd::read(&users).expect("users");
    TestRegistry::with_access(Kind::Memory, Arc::new(access))
}

#[test]
fn oras_pushes_attaches_discovers_copies_and_pulls() {
    let Some(oras) = Client::new("oras") else { return };
    for kind in [Kind::Memory, Kind::Fs] {
        let registry = TestRegistry::start(kind);
        let reference = format!("{}/team/pkg:1.0.0", registry.address);
        let mirror = format!("{}/mirror/pkg:1.0.0", registry.address);
        oras.write("in/manifests/cm.yaml", "kind: ConfigMap\n");
        oras.write("sbom.json", "{}");
        let mut push =
            oras.command(&["push", "--plain-http", "--artifact-type", "application/vnd.example.v1"]);
        run(push.arg(&reference).arg("./").current_dir(oras.path().join("in")));
        oras.run(&[
            "attach",
            "--plain-http",
            "--artifact-type",
            "application/spdx+json",
            &reference,
            "sbom.json:application/spdx+json",
        ]);
        oras.run(&["copy", "-r", "--from-plain-http", "--to-plain-http", &reference, &mirror]);
        for reference in [&reference, &mirror] {
            let found = oras.run(&["discover", "--plain-http", "--format", "json", reference]);
            let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
            let types: Vec<_> = found["referrers"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|referrer| referrer["artifactType"].as_str())
                .collect();
            assert_eq!(types, [Some("application/spdx+json")], "{found}");
        }
        let out = tempfile::tempdir_in(oras.path()).expect("a directory");
        run(oras.command(&["pull", "--plain-http", &mirror, "-o"]).arg(out.path()));
        let pulled = std::fs::read_to_string(out.path().join("manifests/cm.yaml")).expect("pulled");
        assert_eq!(pulled, "kind: ConfigMap\n");
        assert_eq!(oras.run(&["repo", "ls", "--plain-http", &registry.address]), "mirror/pkg\nteam/pkg\n");
        oras.run(&["manifest", "delete", "--plain-http", "-f", &mirror]);
        assert!(!oras.output(&["resolve", "--plain-http", &mirror]).status.success());
    }
}

#[test]
fn regctl_copies_lists_and_puts_artifacts() {
    let Some(regctl) = Client::new("regctl") else { return };
    for kind in [Kind::Memory, Kind::Fs] {
        let registry = TestRegistry::start(kind);
        regctl.run(&["registry", "set", "--tls", "disabled", &registry.address]);
        let digest = layout(&regctl.path().join("in"));
        let (one, two) =
            (format!("{}/team/app:v1", registry.address), format!("{}/other/app:v2", registry.address));
        regctl.run(&["image", "copy", "ocidir://in:v1", &one]);
        regctl.write("sbom.json", "an SBOM");
        let spdx = "application/spdx+json";
        regctl.run(&[
            "artifact",
            "put",
            "--artifact-type",
            spdx,
            "-m",
            spdx,
            "-f",
            "sbom.json",
            "--subject",
            &one,
        ]);
        // From one repository to the other: regctl mounts, and takes along what refers to it.
        regctl.run(&["image", "copy", "--referrers", &one, &two]);
        for reference in [&one, &two] {
            assert_eq!(regctl.run(&["manifest", "head", reference]).trim(), digest);
            let got =
                regctl.run(&["artifact", "get", "--subject", reference, "--filter-artifact-type", spdx]);
            assert_eq!(got, "an SBOM");
        }
        assert_eq!(regctl.run(&["tag", "ls", &format!("{}/other/app", registry.address)]), "v2\n");
        assert_eq!(regctl.run(&["repo", "ls", &registry.address]), "other/app\nteam/app\n");
        regctl.run(&["tag", "rm", &two]);
        assert_eq!(regctl.run(&["tag", "ls", &format!("{}/other/app", registry.address)]).trim(), "");
        assert_eq!(regctl.run(&["manifest", "head", &one]).trim(), digest);
    }
}

const TEMPLATE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {greeting: {{ .Values.greeting }}}\n";

/// A packaged chart in the client's home.
fn chart(helm: &Client, version: &str) -> String {
    helm.write("mychart/Chart.yaml", &format!("apiVersion: v2\nname: mychart\nversion: {version}\n"));
    helm.write("mychart/values.yaml", "greeting: hello\n");
    helm.write("mychart/templates/cm.yaml", TEMPLATE);
    helm.run(&["package", "mychart"]);
    format!("mychart-{version}.tgz")
}

#[test]
fn helm_pushes_pulls_by_range_and_renders() {
    let Some(helm) = Client::new("helm") else { return };
    for kind in [Kind::Memory, Kind::Fs] {
        let registry = TestRegistry::start(kind);
        let charts = format!("oci://{}/charts", registry.address);
        let mychart = format!("{charts}/mychart");
        for version in ["1.2.3", "1.3.0+build.7", "2.0.0"] {
            helm.run(&["push", &chart(&helm, version), &charts, "--plain-http"]);
        }
        for (range, version) in [("1.2.x", "1.2.3"), ("1.x", "1.3.0+build.7"), (">=1", "2.0.0")] {
            let shown = helm.run(&["show", "chart", &mychart, "--version", range, "--plain-http"]);
            assert!(shown.contains(&format!("version: {version}\n")), "{range}: {shown}");
        }
        helm.run(&["pull", &mychart, "--version", "1.x", "--plain-http", "--untar", "--untardir", "out"]);
        assert_eq!(helm.read("out/mychart/templates/cm.yaml"), TEMPLATE);
        std::fs::remove_dir_all(helm.path().join("out")).expect("removed");
        let set = "greeting=good day";
        let rendered =
            helm.run(&["template", "r", &mychart, "--version", "2.0.0", "--plain-http", "--set", set]);
        assert!(rendered.contains("data: {greeting: good day}"), "{rendered}");
        let missing = helm.output(&["template", "r", &mychart, "--version", "9.x", "--plain-http"]);
        assert!(!missing.status.success(), "{missing:?}");
    }
}

#[test]
fn helm_logs_in_and_out() {
    let Some(helm) = Client::new("helm") else { return };
    let registry = with_login(helm.path());
    let charts = format!("oci://{}/charts", registry.address);
    let packaged = chart(&helm, "1.0.0");
    let push = || helm.output(&["push", &packaged, &charts, "--plain-http"]);
    let login = |password: &str| {
        helm.output(&["registry", "login", &registry.address, "-u", "alice", "-p", password, "--plain-http"])
    };
    assert!(!push().status.success());
    assert!(!login("wrong").status.success());
    assert!(login("correct").status.success());
    let pushed = push();
    assert!(pushed.status.success(), "{pushed:?}");
    helm.run(&["registry", "logout", &registry.address]);
    assert!(!push().status.success());
}

#[test]
fn cosign_signs_and_verifies_with_a_key() {
    let Some(cosign) = Client::new("cosign") else { return };
    let Some(crane) = program("crane") else { return };
    for kind in [Kind::Memory, Kind::Fs] {
        let registry = TestRegistry::start(kind);
        let digest = layout(&cosign.path().join("in"));
        let image = format!("{}/team/app", registry.address);
        let mut push = Command::new(&crane);
        run(push.current_dir(cosign.path()).args(["push", "--insecure", "in", &format!("{image}:v1")]));
        let signed = format!("{image}@{digest}");
        let cosign_run = |arguments: &[&str]| {
            cosign.command(arguments).env("COSIGN_PASSWORD", "a passphrase").output().expect("it runs")
        };
        for name in ["ours", "theirs"] {
            std::fs::remove_file(cosign.path().join(format!("{name}.key"))).ok();
            std::fs::remove_file(cosign.path().join(format!("{name}.pub"))).ok();
            let made = cosign_run(&["generate-key-pair", "--output-key-prefix", name]);
            assert!(made.status.success(), "{made:?}");
        }
        let sign = cosign_run(&[
            "sign",
            "--yes",
            "--key",
            "ours.key",
            "--tlog-upload=false",
            "--use-signing-config=false",
            "--allow-http-registry",
            &signed,
        ]);
        assert!(sign.status.success(), "{sign:?}");
        let verify = |key: &str| {
            cosign_run(&["verify", "--key", key, "--insecure-ignore-tlog", "--allow-http-registry", &signed])
        };
        let verified = verify("ours.pub");
        assert!(verified.status.success(), "{verified:?}");
        assert!(String::from_utf8_lossy(&verified.stdout).contains(&digest), "{verified:?}");
        let foreign = verify("theirs.pub");
        assert!(!foreign.status.success(), "{foreign:?}");
    }
}
