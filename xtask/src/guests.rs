//! Components from outside the workspace: the hostile ones of `tests/guests` and the template, built for `wasm32-wasip2` as a
//! stranger builds theirs, into `target/guests-out`.

use std::fs;

use anyhow::{Context, Result};

use crate::tools::{cargo, root, run, target, wasm_target};

const TARGET: &str = "wasm32-wasip2";

/// Directory of the workspace, name of the artifact, name of the component.
const GUESTS: [(&str, &str, &str); 2] = [
    ("tests/guests/chaos", "chaos.wasm", "chaos.wasm"),
    ("sdk/template", "idp_provider_odd.wasm", "odd.wasm"),
];

/// Builds what is stale.
pub(crate) fn build() -> Result<()> {
    wasm_target(TARGET)?;
    let out = root().join("target/guests-out");
    fs::create_dir_all(&out).with_context(|| format!("could not make {}", out.display()))?;
    let strangers = target().join("strangers");
    for (directory, artifact, name) in GUESTS {
        let mut build = cargo(&root().join(directory));
        // Their own profile and lock file, one build directory: what they share is compiled once.
        build.args(["build", "--quiet", "--release", "--target", TARGET, "--target-dir"]).arg(&strangers);
        run(&mut build)?;
        let built = strangers.join(TARGET).join("release").join(artifact);
        let bytes = fs::read(&built).with_context(|| format!("could not read {}", built.display()))?;
        let component = out.join(name);
        if fs::read(&component).is_ok_and(|old| old == bytes) {
            continue;
        }
        fs::write(&component, bytes).with_context(|| format!("could not write {}", component.display()))?;
    }
    Ok(())
}
