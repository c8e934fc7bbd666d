//! The table of built-in providers, from the directories of `plugins/`: name, manifest, code. The manifests go in as JSON, because every
//! command reads all of them to find the one it needs, and JSON is read ten times faster than the TOML that people write. A manifest
//! that is wrong fails a test, not the build: the build checks its form only.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let out = env::var("OUT_DIR").expect("cargo says where");
    println!("cargo::rerun-if-changed={}", plugins.display());
    let mut names: Vec<String> = fs::read_dir(&plugins)
        .expect("plugins/ is there")
        .filter_map(|entry| {
            let entry = entry.expect("plugins/ can be read");
            let manifest = entry.path().join("provider.toml").is_file();
            manifest.then(|| entry.file_name().into_string().expect("an ASCII name"))
        })
        .collect();
    names.sort();
    let mut table = String::from("&[");
    for name in &names {
        let manifest = plugins.join(name).join("provider.toml");
        println!("cargo::rerun-if-changed={}", manifest.display());
        let text = fs::read_to_string(&manifest).expect("a manifest can be read");
        let parsed: serde_json::Value = match toml::from_str(&text) {
            Ok(parsed) => parsed,
            Err(error) => panic!("{}: {error}", manifest.display()),
        };
        fs::write(Path::new(&out).join(format!("{name}.json")), parsed.to_string()).expect("written");
        let code = if env::var_os("CARGO_FEATURE_BUNDLED").is_some() {
            format!("Some(include_bytes!(concat!(env!(\"IDP_PROVIDER_DIR\"), \"/{name}.cwasm\")))")
        } else {
            "None".to_owned()
        };
        let _ = write!(
            table,
            "BuiltIn {{ name: {name:?}, manifest: include_str!(concat!(env!(\"OUT_DIR\"), \"/{name}.json\")), code: {code} }},"
        );
    }
    table.push(']');
    fs::write(Path::new(&out).join("builtin.rs"), table).expect("written");
}
