//! stdout carries one result and nothing else; stderr is ndjson for programs; a registry that is told to end, ends.

use std::io::{BufRead as _, BufReader};

use idp_test_support::faults::{Fault, Registry, Reply, on};

use super::{World, image, sandbox};

/// Every line of stderr is an event with a name.
fn events(stderr: &str) -> Vec<serde_json::Value> {
    let events: Vec<serde_json::Value> =
        stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(events.iter().all(|event| event["event"].is_string()), "{stderr}");
    events
}

#[test]
fn one_line_on_success() {
    let image = image();
    let world = World::new(Registry::default());
    let pinned = format!("{}/app@{}\n", world.server.address(), image.digest());
    assert_eq!(world.push(&image, &[]).exits(0).stdout, pinned);
    assert_eq!(world.pull("oci:out").exits(0).stdout, pinned);
    let output = world.push(&image, &["--output", "json"]).exits(0);
    let result: serde_json::Value = serde_json::from_str(&output.stdout).expect("one document");
    assert_eq!(result["pinned"].as_str(), Some(pinned.trim()));
    events(&output.stderr);
}

/// Retries, warnings and the failure itself are events; stdout stays empty.
#[test]
fn nothing_on_failure() {
    let busy = Reply::status(503).header("retry-after", "0").header("warning", "299 - \"moves on Friday\"");
    for format in ["json", "text"] {
        for level in ["error", "info", "trace"] {
            let world = World::new(Registry::default())
                .tries(3)
                .rule(on("PUT", "/manifests/", Fault::Reply(busy.clone())).always());
            let output = world.push(&image(), &["--output", format, "--log-level", level]).exits(4);
            assert_eq!(output.stdout, "");
            if format == "text" {
                continue;
            }
            let events = events(&output.stderr);
            let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
            assert_eq!((count("retrying"), count("warning"), count("error")), (2, 1, 1), "{output}");
            assert_eq!(events.last().map(|event| event["exit"].clone()), Some(4.into()), "{output}");
        }
    }
}

fn ended(name: &str, code: i32) {
    let sandbox = sandbox();
    let mut child = sandbox
        .command(["registry", "serve", "--listen", "127.0.0.1:0", "--memory"])
        .spawn()
        .expect("the binary starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("the address");
    let address = line.trim().to_owned();
    // An open connection does not keep it.
    let _open = std::net::TcpStream::connect(&address).expect("it listens");
    let kill = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let output = sandbox.wait(child).exits(code);
    let mut rest = String::new();
    let _ = std::io::Read::read_to_string(&mut stdout, &mut rest);
    assert_eq!(rest, "", "the address, and nothing after it");
    assert!(!output.stderr.contains("panicked") && !output.stderr.contains("error:"), "{output}");
    assert!(std::net::TcpStream::connect(&address).is_err(), "nobody listens any more");
}

#[test]
fn an_interrupted_registry_ends() {
    ended("-INT", 130);
}

#[test]
fn a_terminated_registry_ends() {
    ended("-TERM", 143);
}
