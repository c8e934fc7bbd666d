//! The contract grows only in ways that old components survive.

use wit_component::semver_check;
use wit_parser::Resolve;

use crate::support::root;

/// The contract of this tree, with its version raised, as a later host would have it.
fn later(change: impl Fn(&str) -> String) -> Result<(), String> {
    let home = tempfile::tempdir().expect("a directory");
    let (old, new) = (home.path().join("old"), home.path().join("new"));
    std::fs::create_dir_all(&old).and_then(|()| std::fs::create_dir_all(&new)).expect("directories");
    for name in ["types.wit", "host.wit", "provider.wit", "world.wit"] {
        let text = std::fs::read_to_string(root().join("wit/v0.1").join(name)).expect(name);
        std::fs::write(old.join(name), &text).expect(name);
        std::fs::write(new.join(name), change(&text.replace("@0.1.0", "@0.1.1"))).expect(name);
    }
    let mut resolve = Resolve::default();
    let (before, _) = resolve.push_path(&old).map_err(|error| format!("{error:#}"))?;
    let (after, _) = resolve.push_path(&new).map_err(|error| format!("{error:#}"))?;
    let world =
        |package| resolve.select_world(&[package], Some("minimal")).map_err(|error| format!("{error:#}"));
    let (before, after) = (world(before)?, world(after)?);
    semver_check(resolve.clone(), before, after).map_err(|error| format!("{error:#}"))
}

#[test]
fn functions_of_imports_may_be_added() {
    later(str::to_owned).expect("no change is no break");
    later(|text| {
        text.replace("dry-run: func() -> bool;", "dry-run: func() -> bool;\n  now-too: func() -> bool;")
    })
    .expect("a function on an imported interface");
    later(|text| {
        text.replace(
            "duplicate: func() -> secret;",
            "duplicate: func() -> secret;\n    fingerprint: func() -> option<string>;",
        )
    })
    .expect("a method on an imported resource");
}

#[test]
fn everything_else_is_noticed() {
    for (what, from, to) in [
        ("a field", "sent: bool,", "sent: bool, more: option<string>,"),
        ("a case", "egress-denied,\n", "egress-denied,\n    teapot,\n"),
        ("a parameter", "random: func(len: u32)", "random: func(len: u32, strong: bool)"),
        ("a removed function", "dry-run: func() -> bool;", ""),
        (
            "a function that the component must export",
            "describe: func()",
            "more: func();\n  describe: func()",
        ),
    ] {
        assert!(later(|text| text.replace(from, to)).is_err(), "{what}");
    }
}
