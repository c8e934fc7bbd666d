//! What people type and meet by mistake: the message names it, and says what to do next.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::sandbox;

/// A web server that is no registry: every answer is one page.
fn web_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            // A TLS greeting is no request: whoever tries https is sent away.
            match stream.read(&mut request) {
                Ok(count) if count > 0 && request[0] != 0x16 => {}
                _ => continue,
            }
            let page = "<html><h1>Welcome</h1></html>";
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                page.len()
            );
        }
    });
    address
}

#[test]
fn a_registry_without_a_repository() {
    let sandbox = sandbox();
    sandbox.write("work/app/a", "a");
    for place in ["127.0.0.1:9", "localhost:9", "registry.example", "127.0.0.1:9/"] {
        let output = sandbox.idp(["push", "app", place]).exits(64);
        let expected =
            format!("`{place}` names a registry and no repository in it: write registry/repository[:tag]");
        assert!(output.stderr.contains(&expected), "{output}");
    }
    // What may be meant as a repository is one, in the registry that is simply there.
    let output = sandbox.idp(["push", "app", "app:1"]).exits(0);
    assert!(output.stderr.contains("No registry is configured: using the embedded registry"), "{output}");
}

#[test]
fn a_repository_in_capitals() {
    let output = sandbox().idp(["pull", "127.0.0.1:9/Team/App:1", "out"]).exits(64);
    assert!(output.stderr.contains("; `team/app` is one"), "{output}");
    let output = sandbox().idp(["pull", "127.0.0.1:9/Team//App:1", "out"]).exits(64);
    assert!(!output.stderr.contains("is one"), "{output}");
}

#[test]
fn a_source_that_is_not_written_out() {
    let sandbox = sandbox();
    for source in ["oci:", "oci-archive:", "docker-archive:", "docker-daemon:", ""] {
        let output = sandbox.idp(["push", source, "127.0.0.1:9/app:1"]).exits(64);
        assert!(output.stdout.is_empty(), "{output}");
    }
}

#[test]
fn a_directory_with_a_typing_mistake_is_not_only_looked_for_in_the_daemon() {
    let sandbox = sandbox().with_env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let output = sandbox.idp(["push", "examples/helo", "127.0.0.1:9/app:1"]).exits(2);
    assert!(output.stderr.contains("; and there is no file or directory of this name"), "{output}");
    // Who asks for the daemon is told about the daemon.
    let output = sandbox.idp(["push", "docker-daemon:app:1", "127.0.0.1:9/app:1"]).exits(2);
    assert!(!output.stderr.contains("no file or directory of"), "{output}");
}

#[test]
fn a_file_that_is_no_archive() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    sandbox.write("work/short", "hello");
    sandbox.write("work/long", &"hello ".repeat(1000));
    for source in ["short", "long", "docker-archive:short", "oci-archive:long"] {
        let output = sandbox.idp(["push", source, &format!("{}/app:1", registry.address)]).exits(1);
        assert!(output.stderr.contains("it is no tar archive"), "{output}");
        assert_eq!(output.stderr.matches("work/").count(), 1, "the file is named once: {output}");
    }
}

#[test]
fn a_usage_error_is_an_object_for_whoever_asked_for_objects() {
    for arguments in [&["push", "--output", "json"][..], &["--output=json", "frobnicate"]] {
        let output = sandbox().idp(arguments).exits(64);
        let event: serde_json::Value = serde_json::from_str(output.stderr.trim()).expect("one JSON object");
        assert_eq!((event["event"].as_str(), event["class"].as_str()), (Some("error"), Some("usage")));
        assert!(event["hints"].to_string().contains("Usage: idp"), "{event}");
        assert_eq!(output.stdout, "");
    }
}

#[test]
fn what_does_not_answer_is_not_detected() {
    let sandbox = sandbox();
    // Bound and never listened to by anybody else; the connection is refused once it is dropped.
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").to_string();
    let output = sandbox.idp(["registry", "detect", &address]).exits(4);
    assert!(output.stdout.is_empty() && output.stderr.contains("reaching registry 127.0.0.1:"), "{output}");
}

#[test]
fn a_web_server_is_no_registry() {
    let sandbox = sandbox();
    let address = web_page();
    // Nothing is kept for it, and trying again would not help.
    let output =
        sandbox.idp_with_stdin(["login", "-u", "alice", "--password-stdin", &address], b"s3cret").exits(1);
    assert!(output.stderr.contains("web page") && output.stdout.is_empty(), "{output}");
    assert!(!sandbox.path("home/.docker/config.json").exists());
    for place in [address.clone(), format!("{address}/app")] {
        let output = sandbox.idp(["list", &place]).exits(1);
        assert!(output.stderr.contains("web page"), "{output}");
    }
}

#[test]
fn the_hint_does_not_lead_in_a_circle() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    let output = sandbox.idp(["list", &format!("{}/none", registry.address)]).exits(2);
    assert!(output.stderr.contains(&format!("hint: `idp list {}` shows", registry.address)), "{output}");
}

#[test]
fn a_rehearsal_claims_nothing_about_the_registry() {
    let sandbox = sandbox();
    sandbox.write("work/app/a", "a");
    let output = sandbox.idp(["push", "app", "127.0.0.1:9/app:1", "--dry-run"]).exits(0);
    assert!(
        output.stderr.contains("2 blobs")
            && output.stderr.contains("is not known: 127.0.0.1:9 cannot be reached"),
        "{output}"
    );
    assert!(!output.stderr.contains("provider"), "{output}");
}

#[test]
fn a_port_that_is_taken() {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    let output = sandbox.idp(["registry", "serve", "--memory", "--listen", &registry.address]).exits(1);
    assert!(
        output.stderr.contains("hint: another program listens there; choose another port with --listen"),
        "{output}"
    );
}
