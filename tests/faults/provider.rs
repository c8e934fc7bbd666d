//! Providers from outside the workspace, through the binary: one for a registry with an odd token endpoint, and a hostile one.
//! `cargo xtask guests` builds both.

use base64::Engine as _;
use idp_test_support::faults::{Fault, Registry, Reply, on};
use idp_test_support::sandbox::Output;

use super::World;

const TOKEN: &str = "odd-token-of-the-registry";

fn guest(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guests-out");
    let path = std::path::Path::new(path).join(name);
    assert!(path.is_file(), "{} is missing: run `cargo xtask guests`", path.display());
    path.display().to_string()
}

/// A registry that wants a token of `/oddauth`: the first request of a run is refused, all others are served.
fn odd() -> World {
    let challenge = Reply::status(401).header("www-authenticate", "Odd realm=\"/oddauth\"");
    let answer = Reply::status(200)
        .header("content-type", "application/json")
        .body(serde_json::json!({"data": {"jwt": TOKEN, "ttl": 300}}).to_string());
    let world = World::new(Registry::default())
        .password("right")
        .rule(on("GET", "/oddauth", Fault::Reply(answer)).always())
        .rule(on("POST", "/uploads/", Fault::Reply(challenge)));
    world.sandbox.write("work/app/a", "a");
    world
}

fn let_in(world: &World, output: Output) {
    let output = output.exits(0);
    let requests = world.server.requests();
    let asked: Vec<_> = requests.iter().filter(|seen| seen.target.starts_with("/oddauth")).collect();
    assert_eq!(asked.len(), 1, "{:#?}\n{output}", world.server.log());
    let basic = base64::engine::general_purpose::STANDARD.encode("user:right");
    assert_eq!(asked[0].authorization(), Some(format!("Basic {basic}").as_str()));
    assert!(asked[0].target.contains("want=repository"), "{}", asked[0].target);
    let bearer = format!("Bearer {TOKEN}");
    let manifest = requests.iter().find(|seen| seen.method == "PUT" && seen.target.contains("/manifests/"));
    assert_eq!(manifest.and_then(|seen| seen.authorization()), Some(bearer.as_str()));
    assert!(!output.stderr.contains(TOKEN) && !output.stdout.contains(TOKEN), "{output}");
}

fn push(world: &World, more: &[&str]) -> Output {
    let reference = world.reference();
    let mut arguments = vec!["push", "./app", &reference];
    arguments.extend(more);
    world.sandbox.idp(arguments)
}

/// Its own registry a provider may ask without more: by flag, and by registries.yaml.
#[test]
fn an_odd_token_endpoint() {
    let odd_wasm = guest("odd.wasm");
    let world = odd();
    let output = push(&world, &["--provider", &odd_wasm]);
    let_in(&world, output);

    let world = odd();
    let config = serde_json::json!({"registries": {world.server.address(): {"provider": odd_wasm}}});
    // JSON is YAML.
    world.sandbox.write("home/.idpbuilder/registries.yaml", &config.to_string());
    let output = push(&world, &[]);
    let_in(&world, output);

    // The standard provider does not know the endpoint.
    let world = odd();
    let output = push(&world, &["--provider", "generic"]).exits(3);
    assert_eq!(world.server.count("*", "/oddauth"), 0, "{output}");
}

/// The line that a refusal says to add, in quotes.
fn line_to_add(output: &Output) -> String {
    let text = output.stderr.split_once("--grant '").map(|(_, rest)| rest).unwrap_or_default();
    text.split('\'').next().unwrap_or_default().to_owned()
}

/// Elsewhere it may go when the user says so. The refusal holds the line to add, for the flag and for registries.yaml.
#[test]
fn an_origin_that_was_not_granted() {
    let run = |grants: &[&str], more: &[&str]| {
        let world = odd();
        let config = serde_json::json!({"registries": {world.server.address(): {
            "provider": guest("chaos.wasm"), "grants": grants, "settings": {"chaos": "request-localhost"},
        }}});
        world.sandbox.write("home/.idpbuilder/registries.yaml", &config.to_string());
        // The provider reports it as an error of its own, so that it is one that stays.
        push(&world, more).exits(1)
    };
    let refused = run(&[], &[]);
    let line = line_to_add(&refused);
    assert!(line.starts_with("egress=http://localhost:9"), "{refused}");
    for output in [run(&[&line], &[]), run(&[], &["--grant", &line])] {
        assert_eq!(line_to_add(&output), "", "{output}");
        assert!(!output.stderr.contains("not granted"), "{output}");
    }
}

/// Whatever a provider does, it ends as an error with its name.
#[test]
fn a_hostile_provider() {
    for (mode, exit) in [
        ("trap", 1),
        ("panic", 1),
        ("exit", 1),
        ("memory", 1),
        ("recursion", 1),
        ("answer-big", 1),
        // What it may not do is a matter of permission.
        ("grant-newline", 3),
    ] {
        let world = odd();
        let settings = serde_json::json!({"chaos": mode});
        let config = serde_json::json!({"registries": {world.server.address(): {
            "provider": guest("chaos.wasm"), "settings": settings,
        }}});
        world.sandbox.write("home/.idpbuilder/registries.yaml", &config.to_string());
        let output = push(&world, &[]).exits(exit);
        assert!(output.stderr.contains("chaos"), "{mode}: {output}");
        assert!(!output.stderr.contains('\u{1b}'), "{mode}: {output}");
        assert_eq!((output.stdout.as_str(), world.server.count("PUT", "")), ("", 0), "{mode}: {output}");
    }
}

/// A provider that does not come back is stopped, and a hint of its own does not matter.
#[test]
fn a_provider_without_end() {
    let world = odd();
    let config = serde_json::json!({"registries": {world.server.address(): {
        "provider": guest("chaos.wasm"), "settings": {"chaos": "loop"},
    }}});
    world.sandbox.write("home/.idpbuilder/registries.yaml", &config.to_string());
    let output = push(&world, &[]).exits(1);
    assert!(output.stderr.contains("chaos") && output.stderr.contains("endless loop"), "{output}");
}
