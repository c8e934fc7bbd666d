//! From `plugins/` to `target/providers`: core modules for `wasm32-unknown-unknown`, components, precompiled code.
//!
//! Cargo decides whether a module is stale; the two steps after it compare stamps of what they read. A run with nothing to
//! do costs one cargo call.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{
    cargo, is_fresh, mark_fresh, provider_dir, root, run, say, stamp, target, wasm_target, words,
};

const TARGET: &str = "wasm32-unknown-unknown";

/// The providers, by the names of their directories.
pub(crate) fn names() -> Result<Vec<String>> {
    let plugins = root().join("plugins");
    let entries = fs::read_dir(&plugins).with_context(|| format!("could not read {}", plugins.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().join("provider.toml").is_file() {
            names.push(entry.file_name().into_string().ok().context("a provider's directory is not UTF-8")?);
        }
    }
    names.sort();
    Ok(names)
}

/// Builds what is stale.
pub(crate) fn ensure(release: bool) -> Result<()> {
    let names = names()?;
    components(&names)?;
    precompile(&names, release)
}

/// `NAME.wasm`.
fn components(names: &[String]) -> Result<()> {
    wasm_target(TARGET)?;
    let guests = target().join("guests");
    let mut build = cargo(&root());
    build.args(["build", "--quiet", "--profile", "plugin", "--target", TARGET, "--target-dir"]).arg(&guests);
    for name in names {
        build.arg("--package").arg(format!("idp-provider-{name}"));
    }
    run(&mut build)?;
    let out = provider_dir();
    fs::create_dir_all(&out).with_context(|| format!("could not make {}", out.display()))?;
    for name in names {
        let module = guests.join(format!("{TARGET}/plugin/idp_provider_{}.wasm", name.replace('-', "_")));
        let module = fs::read(&module).with_context(|| format!("could not read {}", module.display()))?;
        let component = out.join(format!("{name}.wasm"));
        let made_from = stamp(&[&module]);
        if is_fresh(&component, &made_from) {
            continue;
        }
        let bytes = wit_component::ComponentEncoder::default()
            .validate(true)
            .module(&module)
            .and_then(|encoder| encoder.encode())
            .with_context(|| format!("the provider `{name}` does not make a component"))?;
        replace(&component, &bytes)?;
        mark_fresh(&component, &made_from)?;
        say(&format!("   Component {} ({} KB)", component.display(), bytes.len().div_ceil(1024)));
    }
    Ok(())
}

/// `NAME.cwasm`, made by the binary itself: it alone knows the settings of its engine.
fn precompile(names: &[String], release: bool) -> Result<()> {
    let out = provider_dir();
    let engine = engine_source()?;
    let mut stale = Vec::new();
    for name in names {
        let component = out.join(format!("{name}.wasm"));
        let bytes =
            fs::read(&component).with_context(|| format!("could not read {}", component.display()))?;
        let compiled = out.join(format!("{name}.cwasm"));
        let made_from = stamp(&[&bytes, &engine]);
        if !is_fresh(&compiled, &made_from) {
            stale.push((component, compiled, made_from));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let host = host(release, false)?;
    for (component, compiled, made_from) in stale {
        let new = compiled.with_extension("cwasm.new");
        let mut command = Command::new(&host);
        run(command.args(["__compile", "--builtin"]).arg(&component).arg(&new))?;
        fs::rename(&new, &compiled).with_context(|| format!("could not write {}", compiled.display()))?;
        mark_fresh(&compiled, &made_from)?;
        say(&format!(" Precompiled {}", compiled.display()));
    }
    Ok(())
}

/// What decides about the settings of precompiled code: the version of the engine, and the files that configure it.
fn engine_source() -> Result<Vec<u8>> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("could not read Cargo.lock")?;
    let mut packages = lock.split("[[package]]");
    let Some(wasmtime) = packages.find(|package| package.contains("name = \"wasmtime\"\n")) else {
        bail!("Cargo.lock has no wasmtime");
    };
    let mut all = wasmtime.as_bytes().to_vec();
    let provider = root().join("host/idp/src/provider");
    for name in ["engine.rs", "compile.rs", "compiled.rs"] {
        all.extend(fs::read(provider.join(name)).unwrap_or_default());
    }
    Ok(all)
}

/// Builds the binary and says where it is.
pub(crate) fn host(release: bool, bundled: bool) -> Result<std::path::PathBuf> {
    let mut build = cargo(&root());
    build.args(["build", "--package", "idp", "--bin", "idp"]);
    if release {
        build.arg("--release");
    }
    if bundled {
        build.args(["--features", "bundled"]);
    }
    say(&format!("     Running {}", words(&build)));
    run(&mut build)?;
    Ok(target().join(if release { "release/idp" } else { "debug/idp" }))
}

/// Providers, then the binary with them in it.
pub(crate) fn build(release: bool) -> Result<()> {
    ensure(release)?;
    let host = host(release, true)?;
    say(&format!("       Built {}", host.display()));
    Ok(())
}

/// Providers, hostile guests and the stranger's provider, then the tests.
pub(crate) fn test(arguments: &[String], environment: &[(&str, &str)]) -> Result<()> {
    ensure(false)?;
    crate::guests::build()?;
    let mut test = cargo(&root());
    test.args(["test", "--workspace", "--features", "idp/bundled"]).args(arguments);
    run(test.envs(environment.iter().copied()))
}

/// The release binary beside its peers, as tables.
pub(crate) fn bench(tables: &[String]) -> Result<()> {
    ensure(true)?;
    let idp = host(true, true)?;
    let mut bench = cargo(&root());
    bench
        .args(["run", "--quiet", "--release", "--package", "idp-bench", "--"])
        .args(tables)
        .env("IDP_BINARY", idp);
    run(&mut bench)
}

/// Writes a file beside its place and renames it, so that nobody reads half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("could not write {}", path.display()))
}
