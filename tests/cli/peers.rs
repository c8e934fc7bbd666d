//! The binary against real registries: the provider is found out, credentials come in each way, what is pushed comes back.

use idp_test_support::images::TestImage;
use idp_test_support::peers::{self as programs, Distribution, Dockerd, Gitea, Login, Olareg, Options};
use idp_test_support::sandbox::Sandbox;

use super::sandbox;

/// Pushes a directory as `user` and pulls it back; the provider that did it must be `provider`.
fn there_and_back(sandbox: &Sandbox, registry: &str, repository: &str, user: (&str, &str), provider: &str) {
    sandbox.write("work/app/a", "a");
    let reference = format!("{registry}/{repository}:1");
    let refused = sandbox.idp(["push", "./app", &reference]).exits(3);
    assert!(refused.stderr.contains("idp login"), "{refused}");
    let wrong =
        sandbox.idp_with_stdin(["login", "-u", user.0, "--password-stdin", registry], b"not-the-password");
    let _ = wrong.exits(3);
    let login =
        sandbox.idp_with_stdin(["login", "-u", user.0, "--password-stdin", registry], user.1.as_bytes());
    assert!(login.exits(0).stdout.contains(&format!("as {}", user.0)));
    let pushed = sandbox.idp(["push", "./app", &reference]).exits(0);
    assert!(pushed.stderr.contains(&format!("through provider {provider}")), "{pushed}");
    let pulled = sandbox.idp(["pull", &reference, "./out"]).exits(0);
    assert_eq!(pushed.stdout, pulled.stdout);
    assert_eq!(std::fs::read(sandbox.path("work/out/a")).expect("there"), b"a");
    let tags = sandbox.idp(["list", &format!("{registry}/{repository}")]).exits(0);
    assert!(tags.stdout.lines().any(|line| line.starts_with('1')), "{tags}");
    let _ = sandbox.idp(["logout", registry]).exits(0);
    let _ = sandbox.idp(["push", "./app", &reference]).exits(3);
    // The same without a login: the environment.
    let mut push = sandbox.command(["push", "./app", &reference]);
    push.env("IDPBUILDER_REGISTRY_USERNAME", user.0).env("IDPBUILDER_REGISTRY_PASSWORD", user.1);
    let _ = sandbox.wait(push.spawn().expect("starts")).exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn distribution() {
    let user = ("user".to_owned(), "a-password".to_owned());
    let started = Distribution::v3(Options { auth: Some(user.clone()), ..Options::default() }).await;
    let Some(server) = programs::require(started, "distribution") else { return };
    there_and_back(&sandbox(), server.address(), "team/app", (&user.0, &user.1), "generic");
}

#[tokio::test(flavor = "multi_thread")]
async fn olareg_with_tokens() {
    let login = Login::Token("user".to_owned(), "a-password".to_owned());
    let Some(server) = programs::require(Olareg::start(login).await, "olareg") else { return };
    there_and_back(&sandbox(), server.address(), "team/app", ("user", "a-password"), "generic");
}

#[tokio::test(flavor = "multi_thread")]
async fn gitea() {
    let Some(gitea) = programs::require(Gitea::start().await, "gitea") else { return };
    let sandbox = sandbox();
    let (user, password) = gitea.admin();
    there_and_back(&sandbox, gitea.address(), &format!("{user}/app"), (user, password), "gitea");
    let detected = sandbox.idp(["registry", "detect", gitea.address()]).exits(0);
    assert!(detected.stdout.contains("gitea says: gitea"), "{detected}");
}

/// A classic `docker save` tar goes up, into the daemon, up again from the daemon, and down to a layout.
#[tokio::test(flavor = "multi_thread")]
async fn the_docker_daemon() {
    let Some(daemon) = programs::require(Dockerd::start().await, "dockerd") else { return };
    let sandbox = sandbox().with_env("DOCKER_HOST", &daemon.host());
    let registry = sandbox.serve(&["--memory"]);
    let image = TestImage::one_layer().expect("an image");
    image.write_docker_classic(&sandbox.path("work/app.tar"), &["app:1"]).expect("written");
    let reference = format!("{}/team/app:1", registry.address);
    let _ = sandbox.idp(["push", "docker-archive:app.tar", &reference]).exits(0);
    let pulled = sandbox.idp(["pull", &reference]).exits(0);
    assert!(pulled.stderr.contains("Docker daemon"), "{pulled}");
    // The daemon has it under its full name, which is also where it goes.
    let pushed = sandbox.idp(["push", &reference]).exits(0);
    let copy = format!("{}/team/copy:1", registry.address);
    let copied = sandbox.idp(["push", &format!("docker-daemon:{reference}"), &copy]).exits(0);
    assert_eq!(pushed.stdout.split('@').nth(1), copied.stdout.split('@').nth(1));
    let layout = sandbox.idp(["pull", &copy, "oci:layout:1"]).exits(0);
    assert_eq!(layout.stdout, copied.stdout);
    let _ = sandbox.idp(["push", "no-such-image:1", &copy]).exits(2);
}
