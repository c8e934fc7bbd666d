//! Ctrl-C and SIGTERM.

use std::time::{Duration, Instant};

use idp_test_support::faults::{Auth, Fault, Registry, Server, on};

use super::sandbox;

fn signal(child: &std::process::Child, name: &str) {
    let status =
        std::process::Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

/// Waits until the server has seen a request; the test's own patience ends it.
async fn seen(server: &Server, method: &str, part: &str) {
    let started = Instant::now();
    while server.count(method, part) == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "never asked: {:#?}", server.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn interrupted(name: &str, code: i32) {
    let server = Server::start(Registry::with_auth(Auth::Open)).await;
    server.rule(on("PUT", "/blobs/uploads/", Fault::Hang).always());
    let sandbox = sandbox();
    sandbox.write("work/app/a", "a");
    let child =
        sandbox.command(["push", "./app", &format!("{}/app:1", server.address())]).spawn().expect("starts");
    seen(&server, "PUT", "/blobs/uploads/").await;
    signal(&child, name);
    let output = tokio::task::spawn_blocking(move || sandbox.wait(child)).await.expect("ended").exits(code);
    assert_eq!(output.stdout, "");
    assert_eq!(server.count("PUT", "/manifests/"), 0, "{:#?}", server.log());
    assert!(server.count("DELETE", "/blobs/uploads/") > 0, "{:#?}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_push_ends_its_sessions() {
    interrupted("-INT", 130).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_push_ends_its_sessions() {
    interrupted("-TERM", 143).await;
}
