//! Being let in, or not: how often a credential is sent, and to whom.

use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};

use super::{World, image};

fn with_credentials(world: &World) -> usize {
    world.server.requests().iter().filter(|seen| seen.authorization().is_some()).count()
}

/// Accounts are locked after a few wrong passwords: one push sends it once.
#[test]
fn a_wrong_password_is_sent_once() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let world = World::new(Registry::with_auth(auth)).password("wrong");
        let output = world.push(&image(), &[]).exits(3);
        assert_eq!(with_credentials(&world), 1, "{auth:?}: {:#?}\n{output}", world.server.log());
        assert_eq!(output.stdout, "");
        assert!(output.stderr.contains("from the environment"), "where it came from: {output}");
    }
}

#[test]
fn without_a_password() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let world = World::new(Registry::with_auth(auth));
        let output = world.push(&image(), &[]).exits(3);
        assert_eq!((with_credentials(&world), world.server.count("PUT", "")), (0, 0), "{output}");
        assert!(output.stderr.contains("idp login"), "{output}");
    }
}

#[test]
fn the_right_password() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let world = World::new(Registry::with_auth(auth)).password("right");
        let _ = world.push(&image(), &[]).exits(0);
        let _ = world.pull("oci:out").exits(0);
    }
}

/// What token services answer; `true` where it is enough.
#[test]
fn token_services() {
    let token = "repository:app:pull,push";
    for (body, works) in [
        (format!(r#"{{"token":"{token}"}}"#), true),
        (format!(r#"{{"access_token":"{token}"}}"#), true),
        (format!(r#"{{"token":"","access_token":"{token}"}}"#), true),
        (format!(r#"{{"token":"{token}","expires_in":0}}"#), true),
        (format!(r#"{{"token":"{token}","expires_in":300,"issued_at":"tomorrow"}}"#), true),
        (r#"{"expires_in":300}"#.to_owned(), false),
        (r#"{"token":null}"#.to_owned(), false),
        ("<!doctype html><title>Log in</title>".to_owned(), false),
        (String::new(), false),
    ] {
        let world = World::new(Registry::with_auth(Auth::Bearer))
            .password("right")
            .rule(on("GET", "/token", Fault::Reply(Reply::status(200).body(body.clone()))).always());
        let output = world.push(&image(), &[]);
        let asked = world.server.count("GET", "/token");
        if works {
            let _ = output.exits(0);
        } else {
            let output = output.exits(1);
            assert_eq!(asked, 1, "{body}: {output}");
            assert!(output.stderr.contains("token") && !output.stderr.contains("<title>"), "{output}");
        }
        assert!(asked >= 1, "{body}");
    }
}

/// A token service that fails in a way that passes.
#[test]
fn a_token_service_that_is_busy() {
    let busy = Fault::Reply(Reply::status(503).header("retry-after", "0"));
    let world = World::new(Registry::with_auth(Auth::Bearer))
        .password("right")
        .rule(on("GET", "/token", busy.clone()).times(2));
    let _ = world.push(&image(), &[]).exits(0);
    world.server.verify();

    let world = World::new(Registry::with_auth(Auth::Bearer))
        .password("right")
        .tries(3)
        .rule(on("GET", "/token", busy).always());
    let output = world.pull("oci:out").exits(4);
    assert_eq!(world.server.count("GET", "/token"), 3, "{output}");
}

/// Storage elsewhere gets the bytes and no credential.
#[test]
fn uploads_elsewhere_carry_no_credential() {
    let world = World::new(Registry::with_auth(Auth::Basic)).password("right");
    let created = Fault::Reply(Reply::status(201));
    let storage = world.runtime.block_on(Server::script(vec![on("PUT", "/storage", created).always()]));
    let location = format!("http://{}/storage", storage.address());
    let opened = Reply::status(202).header("location", &location);
    let world = world.rule(on("POST", "/uploads/", Fault::Reply(opened)).always());
    // The registry itself never sees the blobs, so it has to be told that the manifest is fine.
    let world = world.rule(on("PUT", "/manifests/", Fault::Reply(Reply::status(201))).always());
    let _ = world.push(&image(), &[]).exits(0);
    let seen = storage.requests();
    assert_eq!(seen.len(), 2, "{:#?}", storage.log());
    assert!(seen.iter().all(|seen| seen.authorization().is_none() && !seen.body.is_empty()));
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("cookie")));
}

/// Redirected downloads likewise.
#[test]
fn downloads_elsewhere_carry_no_credential() {
    let image = super::image();
    let world = World::new(Registry::with_auth(Auth::Basic)).password("right").holds(&image);
    let storage = world.runtime.block_on(Server::start(Registry::default()));
    world.server.registry(|here| storage.registry(|there| there.blobs = here.blobs.clone()));
    for digest in super::blobs(&image) {
        let there = format!("http://{}/v2/app/blobs/{digest}", storage.address());
        let moved = Fault::Reply(Reply::status(307).header("location", &there));
        world.server.rule(on("GET", &digest, moved));
    }
    let _ = world.pull("oci:out").exits(0);
    world.server.verify();
    assert_eq!(storage.requests().len(), 2, "{:#?}", storage.log());
    assert!(storage.requests().iter().all(|seen| seen.authorization().is_none()));
}
