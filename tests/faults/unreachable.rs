//! Registries that are not there.

use idp_test_support::images::TestImage;

use super::sandbox;

/// A port that was free a moment ago.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}

fn events(stderr: &str) -> Vec<serde_json::Value> {
    stderr.lines().map(|line| serde_json::from_str(line).expect("ndjson")).collect()
}

/// A host that never answered is tried three times, by everybody together, and spoken of once a try.
#[test]
fn a_closed_port_is_given_up_soon() {
    let (sandbox, nobody) = (sandbox(), nobody());
    let image = TestImage::layers(12).expect("made by rule");
    image.write_layout(&sandbox.path("work/image"), Some("1")).expect("written");
    let output = sandbox.idp(["push", "oci:image:1", &format!("{nobody}/app:1")]).exits(4);
    assert_eq!(output.stdout, "");
    let lines: Vec<&str> = output.stderr.lines().filter(|line| line.contains("trying again")).collect();
    assert_eq!(lines.len(), 2, "{output}");
    for (index, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("{nobody}: connection refused; trying again in ")), "{output}");
        assert!(line.ends_with(&format!(" s (try {} of 3)", index + 2)), "{output}");
    }
    assert!(output.stderr.contains("cannot be reached: connection refused (HEAD "), "{output}");
    assert!(output.stderr.contains(", 3 tries\n"), "{output}");
    let hint = format!("hint: check that `{nobody}` is spelled right and running");
    assert!(output.stderr.contains(&hint) && output.stderr.contains("--insecure"), "{output}");
    // What a library says to itself is nothing to people, and nothing is said twice.
    assert!(!output.stderr.contains("client error") && !output.stderr.contains("os error"), "{output}");
    assert_eq!(output.stderr.matches("cannot be reached").count(), 1, "{output}");
}

/// The same for programs.
#[test]
fn events_of_an_outage() {
    let (sandbox, nobody) = (sandbox().with_env("IDPBUILDER_OCI_RETRY_COUNT", "2"), nobody());
    let output = sandbox.idp(["pull", &format!("{nobody}/app:1"), "oci:out", "--output", "json"]).exits(4);
    let events = events(&output.stderr);
    let retries: Vec<_> = events.iter().filter(|event| event["event"] == "retrying").collect();
    assert_eq!(retries.len(), 1, "{output}");
    let (what, cause) = (retries[0]["what"].as_str(), retries[0]["cause"].as_str());
    assert_eq!((what, cause), (Some(nobody.as_str()), Some("connection refused")));
    assert_eq!((retries[0]["attempt"].as_u64(), retries[0]["attempts"].as_u64()), (Some(2), Some(2)));
    let last = events.last().expect("an event");
    assert_eq!((last["event"].as_str(), last["exit"].as_u64()), (Some("error"), Some(4)));
}

#[test]
fn a_name_that_nobody_knows() {
    let sandbox = sandbox().with_env("IDPBUILDER_OCI_RETRY_COUNT", "1");
    let output = sandbox.idp(["pull", "registry.invalid/app:1", "oci:out"]).exits(4);
    assert!(output.stderr.contains("registry.invalid cannot be reached: there is no such name"), "{output}");
}

/// Who accepts connections and closes them is there: the whole policy holds.
#[test]
fn connections_that_are_closed() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, over) = (listener.local_addr().expect("bound"), Arc::new(AtomicBool::new(false)));
    let closing = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut accepted = 0_usize;
            for stream in listener.incoming() {
                drop(stream);
                if over.load(Ordering::SeqCst) {
                    break;
                }
                accepted += 1;
            }
            accepted
        }
    });
    let sandbox = sandbox().with_env("IDPBUILDER_OCI_RETRY_COUNT", "4");
    let output = sandbox.idp(["pull", &format!("{address}/app:1"), "oci:out"]);
    over.store(true, Ordering::SeqCst);
    let _ = std::net::TcpStream::connect(address).expect("it still listens");
    let accepted = closing.join().expect("counted");
    let output = output.exits(4);
    assert_eq!(output.stderr.matches("trying again in ").count(), 3, "{output}");
    assert!(output.stderr.contains(", 4 tries"), "{output}");
    // The look for TLS, the look for the product, and the tries.
    assert_eq!(accepted, 1 + 1 + 4, "{output}");
}
