//! crane, of go-containerregistry.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use idp_test_support::peers::{require, tool};
use serde_json::json;

use crate::Registry;

struct Crane {
    program: PathBuf,
    home: PathBuf,
}

impl Crane {
    /// With a home of its own, logged in as this user.
    fn new(program: &Path, home: &Path, user: Option<(&str, &str)>, registry: &Registry) -> Self {
        let home = home.join(user.map_or("nobody", |(name, _)| name));
        std::fs::create_dir_all(&home).expect("made");
        let crane = Self { program: program.to_owned(), home };
        if let Some((name, password)) = user {
            crane.good(&["auth", "login", "-u", name, "-p", password, &registry.address]);
        }
        crane
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .arg("--insecure")
            .env("DOCKER_CONFIG", &self.home)
            .env("HOME", &self.home)
            .current_dir(&self.home)
            .output()
            .expect("it runs")
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn bad(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} is let through");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// A layer of one file, as `crane append` takes it.
fn layer(home: &Path) -> String {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    archive.append_data(&mut header, "hello", b"hello".as_slice()).expect("written");
    let path = home.join("layer.tar");
    std::fs::write(&path, archive.into_inner().expect("written")).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_pulls_mounts_and_is_refused() {
    let Some(program) = require(tool("crane"), "crane") else { return };
    for kind in ["htpasswd", "token"] {
        let home = tempfile::tempdir().expect("a directory");
        let settings = json!({"kind": kind, "rules": [
            {"repositories": ["public/**"], "subjects": ["anonymous"], "actions": ["pull"]},
            {"repositories": ["team/**"], "subjects": ["bob"], "actions": ["pull"]},
            {"subjects": ["alice"], "actions": ["pull", "push", "delete", "catalogue"]},
        ]});
        let registry = Registry::start(home.path(), settings).await;
        let at = |name: &str| format!("{}/{name}", registry.address);
        let (home, layer) = (home.path(), layer(home.path()));
        let alice = Crane::new(&program, home, Some(("alice", "ecila")), &registry);
        alice.good(&["append", "--oci-empty-base", "-f", &layer, "-t", &at("team/app:v1")]);
        let digest = alice.good(&["digest", &at("team/app:v1")]);
        // From one repository to the other: it mounts.
        alice.good(&["copy", &at("team/app:v1"), &at("public/app:v1")]);
        assert_eq!(alice.good(&["catalog", &registry.address]), "public/app\nteam/app\n");
        let image = home.join("image.tar");
        let image = image.to_str().expect("UTF-8");
        let bob = Crane::new(&program, home, Some(("bob", "bob")), &registry);
        bob.good(&["pull", &at("team/app:v1"), image]);
        assert_eq!(bob.good(&["digest", &at("team/app:v1")]), digest);
        let nobody = Crane::new(&program, home, None, &registry);
        nobody.good(&["pull", &at("public/app:v1"), image]);
        for (crane, arguments) in [
            (&bob, ["append", "--oci-empty-base", "-f", &layer, "-t", &at("team/app:v2")].as_slice()),
            (&bob, ["delete", &at("team/app:v1")].as_slice()),
            (&bob, ["catalog", &registry.address].as_slice()),
            (&nobody, ["pull", &at("team/app:v1"), image].as_slice()),
            (&nobody, ["copy", &at("public/app:v1"), &at("public/app:v2")].as_slice()),
        ] {
            let told = crane.bad(arguments);
            assert!(
                ["UNAUTHORIZED", "DENIED", "401", "403"].iter().any(|word| told.contains(word)),
                "{kind} {arguments:?}: {told}"
            );
        }
        assert_eq!(alice.good(&["ls", &at("team/app")]), "v1\n");
        alice.good(&["delete", &at("team/app:v1")]);
        // crane logs in without asking; the first use shows that the password is wrong.
        let eve = Crane::new(&program, &home.join("eve"), Some(("alice", "wrong")), &registry);
        let told = eve.bad(&["ls", &at("team/app")]);
        assert!(told.contains("UNAUTHORIZED"), "{kind}: {told}");
        assert_eq!(registry.count("GET /token 200") > 0, kind == "token", "{:?}", registry.requests());
        assert!(
            !registry.requests().iter().any(|request| request.contains(" 5")),
            "{:?}",
            registry.requests()
        );
    }
}
