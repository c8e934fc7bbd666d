//! Unpacking into a directory: whatever the archive says, nothing appears outside of it, and nothing in it leads out.

use std::os::unix::fs::symlink;
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;

use super::{archives, recipe};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, Shape};
use crate::media;
use crate::sink::{DirectorySink, Limits, Plan, Sink, SinkError};
use crate::source::{TITLE, UNPACK, UNPACK_DIGEST};

const LIMITS: Limits = Limits { entries: 100, bytes: 4 << 20, ratio: 100 };

/// A title in the first line, flags in the first byte, and an archive.
pub(super) fn directory(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let title = String::from_utf8_lossy(&rest[..end]).into_owned();
    let tar = recipe::tar(rest.get(end + 1..).unwrap_or_default());
    let is_gzip = flags & 1 == 0;
    let layer = if is_gzip { recipe::gzip(&tar) } else { tar.clone() };
    let mut annotations = serde_json::Map::new();
    annotations.insert(TITLE.to_owned(), title.into());
    if flags & 2 == 0 {
        annotations.insert(UNPACK.to_owned(), "true".into());
    }
    if flags & 4 != 0 {
        annotations.insert(UNPACK_DIGEST.to_owned(), Digest::of(&tar).to_string().into());
    }
    let media_type = if is_gzip { media::OCI_LAYER_GZIP } else { media::OCI_LAYER };
    let document = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2 },
        "layers": [{ "mediaType": media_type, "digest": Digest::of(&layer), "size": layer.len(), "annotations": annotations }],
    });
    let manifest = Manifest::parse(document.to_string().into(), None).expect("a manifest");
    let around = tempfile::tempdir().expect("a directory");
    let outside = around.path().join("outside");
    std::fs::create_dir(&outside)
        .and_then(|()| std::fs::write(outside.join("kept"), "kept"))
        .expect("written");
    let out = around.path().join("out");
    if flags & 8 != 0 {
        // Somebody else was there first.
        symlink(&outside, &out).expect("a link");
    }
    let result = archives::run(fill(&out, manifest, layer));
    if result.is_ok() {
        let (mut entries, mut bytes) = (0, 0);
        inspect(&out, &mut entries, &mut bytes);
        assert!(entries <= LIMITS.entries && bytes <= LIMITS.bytes, "{entries} entries, {bytes} bytes");
    } else if flags & 8 == 0 {
        assert!(!out.exists(), "nothing stays of what failed: {result:?}");
    }
    let list = |path: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(path).expect("a directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    let beside: Vec<_> = list(around.path()).into_iter().filter(|name| *name != "out").collect();
    assert_eq!(beside, ["outside"], "nothing appears beside it");
    assert_eq!(list(&outside), ["kept"], "nothing appears outside of it");
    assert_eq!(std::fs::read(outside.join("kept")).expect("it is there"), b"kept");
}

async fn fill(out: &Path, manifest: Manifest, layer: Vec<u8>) -> Result<(), SinkError> {
    let Shape::Image { layers, .. } = manifest.shape() else { return Ok(()) };
    let blobs: Vec<Descriptor> = layers.clone();
    let mut sink: Box<dyn Sink> = Box::new(DirectorySink::with_limits(out, LIMITS));
    sink.begin(&Plan { manifests: vec![manifest], blobs: blobs.clone(), reference: None }).await?;
    let layer = Bytes::from(layer);
    for blob in &blobs {
        let pieces: Vec<_> = (0..layer.len())
            .step_by(1000)
            .map(|at| Ok(layer.slice(at..layer.len().min(at + 1000))))
            .collect();
        if let Err(error) = sink.blob(blob, futures_util::stream::iter(pieces).boxed()).await {
            sink.abort().await;
            return Err(error);
        }
    }
    sink.finish().await
}

fn inspect(path: &Path, entries: &mut u64, bytes: &mut u64) {
    for entry in std::fs::read_dir(path).expect("a directory") {
        let entry = entry.expect("an entry");
        let metadata = entry.path().symlink_metadata().expect("an entry");
        assert!(
            metadata.is_dir() || metadata.is_file(),
            "files and directories, nothing else: {}",
            entry.path().display()
        );
        *entries += 1;
        if metadata.is_dir() {
            inspect(&entry.path(), entries, bytes);
        } else {
            *bytes += metadata.len();
        }
    }
}
