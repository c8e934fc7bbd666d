//! Images on disk, compared byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use idp_test_support::faults::digest_of;
use idp_test_support::images::TestImage;
use idp_test_support::sandbox::Sandbox;
use serde_json::Value;

/// The kinds of images, by a name that serves as a repository's too.
pub(crate) fn kinds() -> Vec<(&'static str, TestImage)> {
    vec![
        ("one-layer", TestImage::one_layer()),
        ("sixty-layers", TestImage::layers(60)),
        ("three-platforms", TestImage::index()),
        ("foreign-layer", TestImage::foreign_layer()),
        ("empty-layer", TestImage::empty_layer()),
        ("same-layer-twice", TestImage::same_layer_twice()),
        ("config-equals-layer", TestImage::config_equals_layer()),
    ]
    .into_iter()
    .map(|(name, image)| (name, image.expect("an image in memory")))
    .collect()
}

/// Writes the image as `work/DIR`; what to call it on the command line.
pub(crate) fn layout(sandbox: &Sandbox, image: &TestImage, dir: &str) -> String {
    image.write_layout(&sandbox.path(&format!("work/{dir}")), Some("1")).expect("written");
    format!("oci:{dir}:1")
}

/// `index.json` of a layout.
pub(crate) fn index(layout: &Path) -> Value {
    let text = fs::read(layout.join("index.json")).expect("an index");
    serde_json::from_slice(&text).expect("JSON")
}

/// The digests of the layout's entries.
pub(crate) fn roots(layout: &Path) -> Vec<String> {
    let index = index(layout);
    let entries = index["manifests"].as_array().expect("entries");
    entries.iter().map(|entry| entry["digest"].as_str().expect("a digest").to_owned()).collect()
}

/// Every blob and manifest of a layout, by its digest.
pub(crate) fn blobs(layout: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut blobs = BTreeMap::new();
    for entry in fs::read_dir(layout.join("blobs/sha256")).expect("blobs") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("hex");
        blobs.insert(format!("sha256:{name}"), fs::read(entry.path()).expect("read"));
    }
    blobs
}

/// The layout holds this image and nothing else, byte for byte.
#[track_caller]
pub(crate) fn assert_holds(layout: &Path, image: &TestImage) {
    assert_eq!(roots(layout), [image.digest()], "{}", layout.display());
    let blobs = blobs(layout);
    let (found, expected): (BTreeSet<_>, BTreeSet<_>) =
        (blobs.keys().collect(), image.contents.keys().collect());
    assert_eq!(found, expected, "{}", layout.display());
    for (digest, content) in &image.contents {
        assert!(content.bytes().expect("in memory") == blobs[digest], "{digest} has other bytes");
    }
}

/// Everything among the blobs has the digest it is called by; nothing unfinished lies there.
#[track_caller]
pub(crate) fn assert_whole(layout: &Path) {
    for (digest, bytes) in blobs(layout) {
        assert_eq!(digest, digest_of(&bytes), "in {}", layout.display());
    }
}
