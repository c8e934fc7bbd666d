//! Images of a real Docker daemon.

use std::process::Command;

use idp_test_support::images::TestImage;
use idp_test_support::peers::{self, Dockerd};

use super::{digest, registries, sandbox};

#[tokio::test]
async fn from_a_daemon_and_back() {
    let Some(daemon) = peers::require(Dockerd::start().await, "dockerd") else { return };
    let home = sandbox();
    let registry = registries::own(&home, true, false);
    let sandbox = sandbox().with_env("DOCKER_HOST", &daemon.host());
    let made = TestImage::layers(3).expect("an image");
    made.write_docker_classic(&sandbox.path("work/image.tar"), &["app:1"]).expect("written");
    let docker = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", "--unix-socket"]).arg(daemon.socket()).args(arguments);
        let output = command.current_dir(sandbox.path("work")).output().expect("curl runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let layers = |name: &str| {
        let image: serde_json::Value =
            serde_json::from_str(&docker(&[&format!("http://docker/images/{name}/json")])).expect("JSON");
        (image["RootFS"].clone(), image["Id"].clone())
    };
    docker(&[
        "-X",
        "POST",
        "-H",
        "Content-Type: application/x-tar",
        "-T",
        "image.tar",
        "http://docker/images/load",
    ]);

    let reference = format!("{}:1", registry.reference("app"));
    let pushed = sandbox.idp(["push", "app:1", &reference]).exits(0);
    let again = sandbox.idp(["push", "docker-daemon:app:1", &reference]).exits(0);
    assert_eq!(digest(&pushed), digest(&again), "the same image makes the same manifest");

    let before = layers("app:1");
    let pulled = sandbox.idp(["pull", &reference]).exits(0);
    assert_eq!(digest(&pulled), digest(&pushed));
    assert_eq!(layers(&reference), before);

    let missing = sandbox.idp(["push", "nothing:1", &reference]).exits(2);
    assert!(missing.stderr.contains("nothing:1"), "{missing}");
}

#[test]
fn no_daemon() {
    let home = sandbox();
    let registry = registries::own(&home, true, false);
    let socket = home.path("work/none.sock");
    let sandbox = sandbox().with_env("DOCKER_HOST", &format!("unix://{}", socket.display()));
    let output = sandbox.idp(["push", "app:1", &registry.reference("app:1")]).exits(2);
    assert!(output.stderr.contains("none.sock"), "{output}");
}
