//! What a pull leaves on disk, read without belief: what looks whole must be whole, whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use idp_test_support::faults::digest_of;
use serde_json::Value;

/// A layout: what `index.json` names is there, all of it; and what lies under a digest has it. The digests of the entries.
pub(crate) fn layout(path: &Path) -> Result<Vec<String>> {
    // Before the blobs: another pull may add to both meanwhile, and names what it brought last.
    let index = path.join("index.json");
    let index = if index.exists() { Some(fs::read(index)?) } else { None };
    let blobs = path.join("blobs/sha256");
    let mut contents = BTreeMap::new();
    if blobs.is_dir() {
        for entry in fs::read_dir(&blobs)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let bytes = fs::read(entry.path())?;
            ensure!(
                digest_of(&bytes) == format!("sha256:{name}"),
                "{} has other bytes",
                entry.path().display()
            );
            contents.insert(format!("sha256:{name}"), bytes);
        }
    }
    let Some(index) = index else { return Ok(Vec::new()) };
    complete(&index, &contents).with_context(|| path.display().to_string())
}

/// An archive of a layout.
pub(crate) fn archive(path: &Path) -> Result<Vec<String>> {
    let mut contents = BTreeMap::new();
    let mut index = None;
    for entry in tar::Archive::new(File::open(path)?).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if name == "index.json" {
            index = Some(bytes);
        } else if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
            ensure!(
                digest_of(&bytes) == format!("sha256:{hex}"),
                "{name} in {} has other bytes",
                path.display()
            );
            contents.insert(format!("sha256:{hex}"), bytes);
        }
    }
    complete(&index.context("no index.json")?, &contents).with_context(|| path.display().to_string())
}

fn complete(index: &[u8], contents: &BTreeMap<String, Vec<u8>>) -> Result<Vec<String>> {
    let index: Value = serde_json::from_slice(index).context("index.json is cut off")?;
    let entries = index["manifests"].as_array().context("index.json lists nothing")?;
    let roots: Vec<String> =
        entries.iter().filter_map(|entry| entry["digest"].as_str().map(str::to_owned)).collect();
    let mut waiting = roots.clone();
    while let Some(digest) = waiting.pop() {
        let Some(bytes) = contents.get(&digest) else {
            bail!("it names manifest {digest}, which is not there")
        };
        let document: Value = serde_json::from_slice(bytes)?;
        for child in document["manifests"].as_array().into_iter().flatten() {
            waiting.extend(child["digest"].as_str().map(str::to_owned));
        }
        for blob in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
            let digest = blob["digest"].as_str().unwrap_or_default();
            let Some(bytes) = contents.get(digest) else {
                bail!("it names blob {digest}, which is not there")
            };
            ensure!(Some(bytes.len() as u64) == blob["size"].as_u64(), "{digest} has another size");
        }
    }
    Ok(roots)
}

/// The blobs that a layout has under their digests.
pub(crate) fn blobs(path: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(path.join("blobs/sha256")) else { return BTreeSet::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).map(|name| format!("sha256:{name}")).collect()
}

/// A directory: these files with these bytes, and no others.
pub(crate) fn directory(path: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let mut found = BTreeMap::new();
    walk(path, &mut |file| {
        let name = file.strip_prefix(path).map(Path::to_owned).unwrap_or_default();
        found.insert(name, fs::read(file).unwrap_or_default());
    });
    ensure!(found == *files, "{}: {:?} where {:?} belong", path.display(), found.keys(), files.keys());
    Ok(())
}

/// Every file below a directory.
pub(crate) fn walk(path: &Path, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        } else {
            found(&entry.path());
        }
    }
}
