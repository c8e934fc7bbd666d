//! `plugins/NAME` from `sdk/template`: the same files, as a member of the workspace, which has all of `plugins/`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::tools::{root, say};

/// Makes the directory.
pub(crate) fn create(name: &str) -> Result<()> {
    let valid = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !valid || name.is_empty() || name.len() > 63 {
        bail!("`{name}` is not a provider's name: lower-case letters, digits and '-', at most 63 of them");
    }
    let directory = root().join("plugins").join(name);
    if directory.exists() {
        bail!("{} exists", directory.display());
    }
    copy(&root().join("sdk/template"), &directory, name)?;
    write(&directory.join("Cargo.toml"), &manifest(name))?;
    say(&format!(
        "plugins/{name} is there. Edit provider.toml and src/lib.rs, record cases, then:\n  cargo test -p idp-provider-{name}"
    ));
    Ok(())
}

fn manifest(name: &str) -> String {
    format!(
        "[package]\nname = \"idp-provider-{name}\"\nversion.workspace = true\nedition.workspace = true\n\
         rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\n\
         [lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n\n[dependencies]\nidp-provider-sdk.workspace = true\n\n\
         [lints]\nworkspace = true\n"
    )
}

/// Copies the text files, with the template's name replaced.
fn copy(from: &Path, to: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("could not make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("could not read {}", from.display()))? {
        let entry = entry?;
        let file = entry.file_name();
        // What makes the template a workspace of its own stays behind.
        if ["target", "Cargo.lock", "Cargo.toml", "rust-toolchain.toml"]
            .iter()
            .any(|skipped| file == *skipped)
        {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(file), name)?;
        } else {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("could not read {}", entry.path().display()))?;
            write(&to.join(file), &text.replace("name = \"odd\"", &format!("name = \"{name}\"")))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}
