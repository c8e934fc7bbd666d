//! Components from outside the workspace, into `target/guests-out`: the hostile one of `tests/guests`, the template, built for
//! `wasm32-wasip2` as a stranger builds theirs, and files that are no provider.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tools::{cargo, root, run, target, wasm_target};

const TARGET: &str = "wasm32-wasip2";

/// A component: where its workspace is, with which features, what comes out and what it is called here.
struct Guest {
    directory: &'static str,
    features: &'static str,
    artifact: &'static str,
    name: &'static str,
}

const GUESTS: [Guest; 3] = [
    Guest {
        directory: "tests/guests/chaos",
        features: "sockets",
        artifact: "chaos.wasm",
        name: "chaos-sockets.wasm",
    },
    Guest { directory: "tests/guests/chaos", features: "", artifact: "chaos.wasm", name: "chaos.wasm" },
    Guest { directory: "sdk/template", features: "", artifact: "idp_provider_odd.wasm", name: "odd.wasm" },
];

/// Builds what is stale.
pub(crate) fn build() -> Result<()> {
    wasm_target(TARGET)?;
    let out = root().join("target/guests-out");
    fs::create_dir_all(&out).with_context(|| format!("could not make {}", out.display()))?;
    for guest in &GUESTS {
        // Their own profile and lock file; variants of one crate must not take each other's artifact.
        let strangers =
            target().join(if guest.features.is_empty() { "strangers" } else { "strangers-sockets" });
        let mut build = cargo(&root().join(guest.directory));
        build.args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--target",
            TARGET,
            "--features",
            guest.features,
        ]);
        run(build.arg("--target-dir").arg(&strangers))?;
        let built = strangers.join(TARGET).join("release").join(guest.artifact);
        let bytes = fs::read(&built).with_context(|| format!("could not read {}", built.display()))?;
        write(&out.join(guest.name), &bytes)?;
    }
    let chaos = fs::read(out.join("chaos.wasm")).context("chaos was built above")?;
    for (name, bytes) in bad(&chaos) {
        write(&out.join(name), &bytes)?;
    }
    Ok(())
}

/// Files that are refused before anything runs.
fn bad(component: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let manifest = |text: &str| with_section(b"idp:provider", text.as_bytes());
    let head = "schema = 1\ncontract = \"0.1\"\nname = \"bad\"\nversion = \"1.0.0\"\n";
    vec![
        ("bad-empty.wasm", Vec::new()),
        ("bad-text.wasm", b"#!/bin/sh\nexit 0\n".to_vec()),
        ("bad-truncated.wasm", component[..component.len() / 2].to_vec()),
        ("bad-module.wasm", b"\0asm\x01\0\0\0".to_vec()),
        ("bad-no-manifest.wasm", PREAMBLE.to_vec()),
        ("bad-nothing-exported.wasm", manifest(head)),
        ("bad-contract.wasm", manifest(&head.replace("0.1", "9.9"))),
        ("bad-schema.wasm", manifest(&head.replace("schema = 1", "schema = 99"))),
        ("bad-misspelt.wasm", manifest(&format!("{head}[[egres]]\norigin = \"registry\"\n"))),
        ("bad-name.wasm", manifest(&head.replace("\"bad\"", "\"../bad\""))),
        ("bad-toml.wasm", manifest("schema = \n")),
        ("bad-utf8.wasm", with_section(b"idp:provider", &[0xff, 0xfe])),
        ("bad-manifest-large.wasm", manifest(&format!("{head}# {}\n", "x".repeat(70_000)))),
        ("bad-manifest-twice.wasm", [manifest(head), manifest(head)[PREAMBLE.len()..].to_vec()].concat()),
    ]
}

/// What a component starts with.
const PREAMBLE: &[u8] = b"\0asm\x0d\0\x01\0";

/// A component that is one custom section.
fn with_section(name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut content = leb(name.len());
    content.extend_from_slice(name);
    content.extend_from_slice(data);
    [PREAMBLE, &[0], &leb(content.len()), &content].concat()
}

/// An unsigned number as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Writes a file unless it is the same already.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("could not write {}", path.display()))
}
