//! Clients of others push to the registry and pull from it, with and without a login.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use idp_oci::server::htpasswd::Htpasswd;

use crate::registry::{Kind, TestRegistry, program};

/// Runs to the end; what it printed on stdout.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// An OCI layout with one image: written by hand, so that no client has a say in it.
pub(crate) fn layout(root: &Path) -> String {
    use idp_oci::digest::Digest;
    let blobs = root.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("made");
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).expect("written");
        (digest, bytes.len())
    };
    let (layer, layer_size) = put(&[0; 1024]);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
    );
    let (config, config_size) = put(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{layer_size}}}]}}"#
    );
    let (manifest, manifest_size) = put(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{manifest_size},"annotations":{{"org.opencontainers.image.ref.name":"v1"}}}}]}}"#
    );
    std::fs::write(root.join("index.json"), index).expect("written");
    std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    manifest.to_string()
}

#[test]
fn skopeo_pushes_and_pulls() {
    let Some(skopeo) = program("skopeo") else { return };
    for kind in [Kind::Memory, Kind::Fs] {
        let registry = TestRegistry::start(kind);
        let directory = tempfile::tempdir().expect("a directory");
        let digest = layout(&directory.path().join("in"));
        let remote = format!("docker://{}/team/app:v1", registry.address);
        let copy = |from: &str, to: &str| {
            run(Command::new(&skopeo).current_dir(directory.path()).args([
                "--insecure-policy",
                "copy",
                "--preserve-digests",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                from,
                to,
            ]))
        };
        copy("oci:in:v1", &remote);
        copy(&remote, "oci:out:v1");
        let index = std::fs::read_to_string(directory.path().join("out/index.json")).expect("an index");
        assert!(index.contains(&digest), "{index}");
        let tags = format!("docker://{}/team/app", registry.address);
        let tags = run(Command::new(&skopeo).args(["list-tags", "--tls-verify=false", &tags]));
        assert!(tags.contains("\"v1\""), "{tags}");
        run(Command::new(&skopeo).args(["delete", "--tls-verify=false", &remote]));
    }
}

#[test]
fn crane_pushes_pulls_copies_and_lists() {
    let Some(crane) = program("crane") else { return };
    for kind in [Kind::Memory, Kind::Fs] {
        let registry = TestRegistry::start(kind);
        let directory = tempfile::tempdir().expect("a directory");
        let digest = layout(&directory.path().join("in"));
        let crane =
            |arguments: &[&str]| run(Command::new(&crane).current_dir(directory.path()).args(arguments));
        let (one, two) =
            (format!("{}/team/app", registry.address), format!("{}/other/app", registry.address));
        crane(&["push", "--insecure", "in", &format!("{one}:v1")]);
        // From one repository to the other: crane mounts.
        crane(&["copy", "--insecure", &format!("{one}:v1"), &format!("{two}:v2")]);
        assert_eq!(crane(&["digest", "--insecure", &format!("{two}:v2")]).trim(), digest);
        assert_eq!(crane(&["catalog", "--insecure", &registry.address]), "other/app\nteam/app\n");
        assert_eq!(crane(&["ls", "--insecure", &two]), "v2\n");
        crane(&["pull", "--insecure", "--format=oci", &format!("{two}:v2"), "out"]);
        let index = std::fs::read_to_string(directory.path().join("out/index.json")).expect("an index");
        assert!(index.contains(&digest), "{index}");
    }
}

#[test]
fn a_login_is_asked_for_and_remembered() {
    let Some(crane) = program("crane") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let users = directory.path().join("users");
    let hash = bcrypt::hash("correct", 4).expect("hashed");
    std::fs::write(&users, format!("alice:{hash}\n")).expect("written");
    let access = Htpasswd::read(&users).expect("users");
    let registry = TestRegistry::with_access(Kind::Memory, Arc::new(access));
    layout(&directory.path().join("in"));
    let command = |password: Option<&str>, arguments: &[&str]| {
        let home = directory.path().join(password.unwrap_or("nobody"));
        std::fs::create_dir_all(&home).expect("made");
        if let Some(password) = password {
            let mut login = Command::new(&crane);
            login.env("DOCKER_CONFIG", &home).args([
                "auth",
                "login",
                "-u",
                "alice",
                "-p",
                password,
                &registry.address,
            ]);
            run(&mut login);
        }
        let mut command = Command::new(&crane);
        command.env("DOCKER_CONFIG", &home).current_dir(directory.path()).args(arguments);
        command.output().expect("it runs")
    };
    let reference = format!("{}/team/app:v1", registry.address);
    for password in [None, Some("wrong")] {
        let output = command(password, &["push", "--insecure", "in", &reference]);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("401 Unauthorized"), "{output:?}");
    }
    let output = command(Some("correct"), &["push", "--insecure", "in", &reference]);
    assert!(output.status.success(), "{output:?}");
}
