//! Paths, processes and words.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Talks to the person at the terminal.
#[allow(clippy::print_stderr, reason = "this is the terminal's program")]
pub(crate) fn say(text: &str) {
    eprintln!("{}", text.trim_end());
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the root").to_path_buf()
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// The directory of finished providers; the host's build reads it as `IDP_PROVIDER_DIR`.
pub(crate) fn provider_dir() -> PathBuf {
    root().join("target/providers")
}

/// A cargo command in a directory, with the directory of the providers in its environment.
pub(crate) fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(directory).env("IDP_PROVIDER_DIR", provider_dir());
    // Those of xtask's own package would make the builds of others look different each time.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || matches!(&*text, "CARGO_MANIFEST_DIR" | "CARGO_MANIFEST_PATH") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let words = words(command);
    let status = command.status().with_context(|| format!("could not start `{words}`"))?;
    if !status.success() {
        bail!("`{words}` failed ({status})");
    }
    Ok(())
}

/// A command as it would be typed.
pub(crate) fn words(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default();
    let all = std::iter::once(name).chain(command.get_args());
    all.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Makes sure that a compilation target is installed; rustup is asked only when it is not.
pub(crate) fn wasm_target(name: &str) -> Result<()> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()).output();
    let sysroot = output.context("could not run rustc")?.stdout;
    let sysroot = String::from_utf8(sysroot).context("the path of the toolchain is not UTF-8")?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(name).is_dir() {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", name]).current_dir(root()))
        .with_context(|| format!("providers are built for {name}, and the target could not be installed"))
}

/// A number that changes when any of these files does; a file that is missing counts as empty.
pub(crate) fn stamp(parts: &[&[u8]]) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    for part in parts {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    format!("{:016x}", hasher.finish())
}

/// Whether a file was made with this stamp.
pub(crate) fn is_fresh(file: &Path, stamp: &str) -> bool {
    file.is_file() && fs::read_to_string(stamp_file(file)).is_ok_and(|text| text == stamp)
}

/// Writes down with which stamp a file was made.
pub(crate) fn mark_fresh(file: &Path, stamp: &str) -> Result<()> {
    fs::write(stamp_file(file), stamp).with_context(|| format!("could not write beside {}", file.display()))
}

fn stamp_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".stamp");
    name.into()
}
