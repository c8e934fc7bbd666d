//! Docker's command line, without a daemon: it logs in itself then, keeps a refresh token in the place of the password, and
//! reads manifests.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::Registry;
use crate::own::{client, push, user};

/// Docker with a home and without a daemon; the last argument goes to its standard input.
fn docker(home: &std::path::Path, arguments: &[&str], input: &str) -> Option<Output> {
    let child = Command::new("docker")
        .args(arguments)
        .env("DOCKER_CONFIG", home)
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return skipped("there is no docker on PATH") };
    // One that ends before it reads says why.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it runs");
    if String::from_utf8_lossy(&output.stderr).contains("Cannot connect to the Docker daemon") {
        return skipped("this docker is too old to log in without a daemon");
    }
    Some(output)
}

fn skipped(why: &str) -> Option<Output> {
    let _ = writeln!(std::io::stderr(), "SKIPPED: docker::logs_in_and_reads: {why}");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_in_and_reads() {
    for kind in ["htpasswd", "token"] {
        let home = tempfile::tempdir().expect("a directory");
        let settings = json!({"kind": kind, "rules": [
            {"repositories": ["team/**"], "subjects": ["alice"], "actions": ["pull", "push"]},
            {"repositories": ["public/**"], "subjects": ["anonymous"], "actions": ["pull"]},
            {"repositories": ["public/**"], "subjects": ["alice"], "actions": ["push"]},
        ]});
        let registry = Registry::start(home.path(), settings).await;
        let alice = client(&registry, user("alice", "ecila"));
        push(&alice, "team/app", &[]).await.expect("pushed");
        push(&alice, "public/app", &[]).await.expect("pushed");
        let login = |name: &str, password: &str| {
            let home = home.path().join(name);
            docker(&home, &["login", "-u", "alice", "--password-stdin", &registry.address], password)
        };
        let inspect = |name: &str, repository: &str| {
            let reference = format!("{}/{repository}:v1", registry.address);
            docker(&home.path().join(name), &["manifest", "inspect", "--insecure", &reference], "")
        };
        let Some(wrong) = login("eve", "wrong") else { return };
        assert!(!wrong.status.success());
        let told = String::from_utf8_lossy(&wrong.stderr);
        assert!(told.to_lowercase().contains("unauthorized"), "{kind}: {told}");
        let good = login("alice", "ecila").expect("it runs");
        assert!(good.status.success(), "{kind}: {}", String::from_utf8_lossy(&good.stderr));
        let kept = std::fs::read_to_string(home.path().join("alice/config.json")).expect("a login");
        assert_eq!(kept.contains("identitytoken"), kind == "token", "{kept}");
        let read = inspect("alice", "team/app").expect("it runs");
        assert!(read.status.success(), "{kind}: {}", String::from_utf8_lossy(&read.stderr));
        assert_eq!(registry.count("POST /token 200") > 0, kind == "token", "{:?}", registry.requests());
        assert!(!inspect("nobody", "team/app").expect("it runs").status.success());
        // Docker gives up at a Basic challenge without a login, which is why there are tokens.
        let public = inspect("nobody", "public/app").expect("it runs");
        assert_eq!(public.status.success(), kind == "token", "{}", String::from_utf8_lossy(&public.stderr));
    }
}
