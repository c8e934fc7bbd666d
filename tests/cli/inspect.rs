//! `idp inspect`, `idp registry show`, and the keys of every JSON document beside their description.

use std::collections::BTreeSet;

use idp_test_support::faults::digest_of;
use idp_test_support::sandbox::Sandbox;
use serde_json::Value;

use super::sandbox;

/// A registry with `team/app:1`, a directory.
fn pushed() -> (Sandbox, idp_test_support::sandbox::Serving, String) {
    let sandbox = sandbox();
    let registry = sandbox.serve(&["--memory"]);
    sandbox.write("work/app/a", "a");
    let reference = format!("{}/team/app:1", registry.address);
    let _ = sandbox.idp(["push", "./app", &reference]).exits(0);
    (sandbox, registry, reference)
}

fn json(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let output = sandbox.idp([arguments, &["--output", "json"]].concat()).exits(0);
    serde_json::from_str(&output.stdout).expect("one document")
}

#[test]
fn what_a_reference_names() {
    let (sandbox, _registry, reference) = pushed();
    let found = json(&sandbox, &["inspect", &reference, "--referrers"]);
    assert_eq!(found["media-type"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(found["layers"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found["referrers"], Value::Array(Vec::new()), "{found}");
    let raw = sandbox.idp(["inspect", &reference, "--raw"]).exits(0);
    assert_eq!(found["digest"], digest_of(raw.stdout.as_bytes()).as_str());
    let text = sandbox.idp(["inspect", &reference]).exits(0);
    assert!(text.stdout.contains("\nlayer "), "{text}");
}

#[test]
fn what_is_not_there() {
    let (sandbox, registry, _) = pushed();
    let missing = sandbox.idp(["inspect", &format!("{}/team/app:2", registry.address)]).exits(2);
    assert!(missing.stderr.contains("team/app"), "{missing}");
    let _ = sandbox.idp(["inspect", "127.0.0.1:9/app:1"]).exits(4);
    let _ = sandbox.idp(["inspect"]).exits(64);
}

#[test]
fn how_a_registry_is_set_up() {
    let (sandbox, registry, _) = pushed();
    sandbox.write(
        "home/.idpbuilder/registries.yaml",
        &format!("registries:\n  {}: {{create: never, visibility: public}}\n", registry.address),
    );
    let shown = json(&sandbox, &["registry", "show", &registry.address]);
    assert_eq!((&shown["create"], &shown["visibility"]), (&Value::from("never"), &Value::from("public")));
    let of = json(&sandbox, &["registry", "show", &format!("{}/team/app", registry.address)]);
    assert_eq!(of["repository"]["name"], "team/app", "{of}");
}

/// The keys that a section of the reference names, at any level.
fn documented(command: &str) -> BTreeSet<String> {
    let text = include_str!("../../docs/reference/json.md");
    let section = text.split("\n## ").find(|section| {
        section.lines().next().unwrap_or_default().split(", ").any(|title| title == format!("`{command}`"))
    });
    let section = section.unwrap_or_else(|| panic!("docs/reference/json.md has no section on `{command}`"));
    section.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every key of an object and of the objects in it, but for those whose keys are somebody else's.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                found.insert(key.clone());
                if !matches!(key.as_str(), "annotations" | "labels" | "details" | "settings") {
                    keys(value, found);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_is_documented() {
    let (sandbox, registry, reference) = pushed();
    let address = registry.address.as_str();
    let repository = format!("{address}/team/app");
    let entry = documented("idp list");
    for (command, arguments) in [
        ("idp push", vec!["push", "./app", &reference]),
        ("idp push", vec!["push", "./app", &reference, "--dry-run"]),
        ("idp pull", vec!["pull", &reference, "./out"]),
        ("idp list", vec!["list", &repository]),
        ("idp list", vec!["list", address]),
        ("idp search", vec!["search", "app", "-r", address]),
        ("idp inspect", vec!["inspect", &reference, "--referrers"]),
        ("idp registry show", vec!["registry", "show", &repository]),
        ("idp registry detect", vec!["registry", "detect", address]),
        ("idp delete", vec!["delete", &reference, "--dry-run"]),
        ("idp registry doctor", vec!["registry", "doctor", address]),
    ] {
        let mut told = documented(command);
        // They refer to these.
        told.extend(entry.iter().cloned());
        told.extend(documented("idp push"));
        told.extend(documented("idp registry show"));
        let mut found = BTreeSet::new();
        keys(&json(&sandbox, &arguments), &mut found);
        let unknown: Vec<_> = found.difference(&told).collect();
        assert!(
            unknown.is_empty(),
            "{arguments:?} prints keys that the reference does not name: {unknown:?}"
        );
    }
}
