//! A layer of a gigabyte, there and back, in bounded memory.

use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use idp_test_support::faults::digest_of;
use idp_test_support::sandbox::Sandbox;
use serde_json::json;

use super::{digest, image, registries, sandbox};

const SIZE: u64 = 1 << 30;

/// The digest of so many zeros: an empty tar with a long end. If it were wrong, nobody would take the layer.
const LAYER: &str = "sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14";

/// The most memory of the process, its code included: a few buffers a connection and the provider's sandbox, many times smaller
/// than the layer.
const MOST_KIB: u64 = 64 * 1024;

/// Writes a layout whose only layer is a hole in a file.
fn layout(root: &Path) -> String {
    let blobs = root.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("made");
    let file = |digest: &str| blobs.join(digest.trim_start_matches("sha256:"));
    let put = |document: &serde_json::Value| {
        let bytes = document.to_string().into_bytes();
        let digest = digest_of(&bytes);
        std::fs::write(file(&digest), &bytes).expect("written");
        (digest, bytes.len())
    };
    File::create(file(LAYER)).and_then(|file| file.set_len(SIZE)).expect("a sparse file");
    let (config, size) = put(&json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [LAYER]},
    }));
    let (manifest, length) = put(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": LAYER, "size": SIZE}],
    }));
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": length,
        "annotations": {"org.opencontainers.image.ref.name": "1"},
    }]});
    std::fs::write(root.join("index.json"), index.to_string()).expect("written");
    std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    manifest
}

/// `VmHWM`, in KiB: the peak so far; `None` when the process is gone.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Runs to the end; the output's digest, and the peak of memory in KiB.
fn measured(sandbox: &Sandbox, arguments: &[&str]) -> (String, u64) {
    let child: Child = sandbox.command(arguments).spawn().expect("the binary starts");
    let pid = child.id();
    let (stop, stopped) = mpsc::channel::<()>();
    let sampler = thread::spawn(move || {
        let mut most = 0;
        while stopped.recv_timeout(Duration::from_millis(20)) == Err(mpsc::RecvTimeoutError::Timeout) {
            most = most.max(peak(pid).unwrap_or_default());
        }
        most
    });
    let output = sandbox.wait(child).exits(0);
    drop(stop);
    (digest(&output).to_owned(), sampler.join().expect("it samples"))
}

#[tokio::test]
async fn a_layer_of_a_gigabyte() {
    let Some(registry) = registries::distribution_3(false).await else { return };
    let sandbox = sandbox();
    let manifest = layout(&sandbox.path("work/in"));
    let reference = registry.reference("big:1");
    for arguments in [["push", "oci:in:1", &reference], ["pull", &reference, "oci:out:1"]] {
        let (digest, peak) = measured(&sandbox, &arguments);
        assert_eq!(digest, manifest, "{arguments:?}");
        assert!(peak > 0 && peak < MOST_KIB, "{}: {peak} KiB at the peak", arguments[0]);
    }
    let out = sandbox.path("work/out");
    assert_eq!(image::roots(&out), [manifest]);
    let layer = out.join("blobs/sha256").join(LAYER.trim_start_matches("sha256:"));
    // Its bytes were compared with the digest while they came.
    assert_eq!(std::fs::metadata(layer).expect("there").len(), SIZE);
}
