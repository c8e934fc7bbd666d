//! How often the binary tries, and how it exits: every number is counted at the server.

use idp_test_support::faults::{Fault, Registry, Reply, on};

use super::{World, blobs, image};

/// Passes, and need not be waited for.
fn busy(status: u16) -> Fault {
    Fault::Reply(Reply::status(status).header("retry-after", "0"))
}

#[test]
fn failures_that_pass_are_not_seen() {
    for status in [429, 500, 502, 503, 504] {
        for (method, part, whole) in [
            // A probe that fails is followed by a plain POST, which is tried again as often as it takes.
            ("POST", "/uploads/", 4),
            ("PUT", "/uploads/", 4),
            ("PUT", "/manifests/", 3),
        ] {
            let world = World::new(Registry::default()).rule(on(method, part, busy(status)).times(2));
            let output = world.push(&image(), &[]).exits(0);
            let seen = world.server.count(method, part);
            assert_eq!(seen, whole, "{status} {method} {part}: {:#?}\n{output}", world.server.log());
            world.server.verify();
        }
    }
}

#[test]
fn failures_that_stay_are_given_up() {
    for status in [429, 503] {
        for tries in [1, 2, 5] {
            let world = World::new(Registry::default())
                .tries(tries)
                .rule(on("PUT", "/manifests/", busy(status)).always());
            let output = world.push(&image(), &[]).exits(4);
            assert_eq!(world.server.count("PUT", "/manifests/"), tries, "{output}");
            assert_eq!(output.stdout, "");
            assert_eq!(output.stderr.contains(&format!("{tries} tries")), tries > 1, "{output}");
            assert_eq!(output.stderr.matches("trying again now").count(), tries - 1, "{output}");
        }
    }
}

/// Uploads count for themselves; the policy is the same.
#[test]
fn uploads_are_given_up() {
    let image = image();
    let world = World::new(Registry::default()).tries(3).rule(on("PUT", "/uploads/", busy(503)).always());
    let output = world.push(&image, &[]).exits(4);
    let seen = world.server.count("PUT", "/uploads/");
    // The other blob is given up with the first, wherever it stands.
    assert!((3..=3 * blobs(&image).len()).contains(&seen), "{:#?}\n{output}", world.server.log());
    assert_eq!(world.server.count("PUT", "/manifests/"), 0);
}

#[test]
fn pulls_are_given_up() {
    let world = World::new(Registry::default()).tries(4).rule(on("GET", "/manifests/", busy(503)).always());
    let output = world.pull("oci:out").exits(4);
    assert_eq!(world.server.count("GET", "/manifests/"), 4, "{output}");
    assert!(!world.sandbox.path("work/out").exists());
}

/// The whole policy, when nothing else is said.
#[test]
fn ten_tries() {
    let world = World::new(Registry::default()).rule(on("GET", "/manifests/", busy(503)).always());
    let output = world.pull("oci:out").exits(4);
    assert_eq!(world.server.count("GET", "/manifests/"), 10, "{output}");
}

/// A date that is over is no wait.
#[test]
fn retry_after_as_a_date() {
    let over = Reply::status(429).header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT");
    let world = World::new(Registry::default()).rule(on("PUT", "/manifests/", Fault::Reply(over)).times(3));
    let _ = world.push(&image(), &[]).exits(0);
    assert_eq!(world.server.count("PUT", "/manifests/"), 4);
    world.server.verify();
}

#[test]
fn what_stays_is_not_tried_again() {
    let error = |status, code| Fault::Reply(Reply::error(status, code, &serde_json::Value::Null));
    for (status, code, exit) in [
        (400, "MANIFEST_INVALID", 1),
        (403, "DENIED", 3),
        (404, "NAME_UNKNOWN", 2),
        (405, "UNSUPPORTED", 1),
        (413, "SIZE_INVALID", 1),
    ] {
        let world =
            World::new(Registry::default()).rule(on("PUT", "/manifests/", error(status, code)).always());
        let output = world.push(&image(), &[]).exits(exit);
        assert_eq!(world.server.count("PUT", "/manifests/"), 1, "{:#?}\n{output}", world.server.log());
        assert_eq!(output.stdout, "");
        assert!(output.stderr.contains(&status.to_string()) && output.stderr.contains(code), "{output}");
        assert!(!output.stderr.contains("tries"), "{output}");
    }
}

/// Whoever may not write is told so before any byte is sent, once for each blob at most.
#[test]
fn a_denied_write_sends_no_bytes() {
    let image = image();
    let denied = Fault::Reply(Reply::error(403, "DENIED", &serde_json::Value::Null));
    let world = World::new(Registry::default()).rule(on("POST", "/uploads/", denied).always());
    let output = world.push(&image, &[]).exits(3);
    assert!(world.server.count("POST", "/uploads/") <= blobs(&image).len(), "{output}");
    assert_eq!(world.server.count("PUT", ""), 0, "{output}");
}

#[test]
fn what_is_not_there() {
    let world = World::new(Registry::default());
    let output = world.pull("oci:out").exits(2);
    assert_eq!((world.server.count("GET", "/manifests/"), output.stdout.as_str()), (1, ""), "{output}");
    assert!(output.stderr.contains("MANIFEST_UNKNOWN"), "{output}");
}

/// A page that wants people to log in to a network answers everything.
#[test]
fn a_captive_portal_is_no_registry() {
    let page =
        Reply::status(200).header("content-type", "text/html").body("<!doctype html><title>Welcome</title>");
    let world = World::script(vec![on("*", "/", Fault::Reply(page)).always()]);
    for output in [world.push(&image(), &[]).exits(1), world.pull("oci:out").exits(1)] {
        assert!(output.stderr.contains("web page"), "{output}");
        assert!(!output.stderr.contains("<title>"), "{output}");
    }
}

/// Whoever misspells the command line asks nobody.
#[test]
fn usage_errors_ask_nobody() {
    let world = World::new(Registry::default());
    let reference = world.reference();
    for arguments in [&["push", "--nonsense", "x", &reference][..], &["push", "x", "UPPER/case"], &["pull"]] {
        let _ = world.sandbox.idp(arguments).exits(64);
    }
    assert_eq!(world.server.requests().len(), 0);
}
