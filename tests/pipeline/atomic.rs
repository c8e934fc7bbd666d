//! All or nothing: on full and read-only disks, and when somebody interrupts.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use idp_test_support::faults::{Auth, Fault, Registry, Server, on};
use idp_test_support::images::TestImage;

use super::{image, registries, sandbox};

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

/// Waits until the server has seen so many requests.
async fn seen(server: &Server, method: &str, part: &str, times: usize) {
    let started = Instant::now();
    while server.count(method, part) < times {
        assert!(started.elapsed() < Duration::from_secs(60), "not asked: {:#?}", server.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A file system of its own, gone with it.
struct Mount(std::path::PathBuf);

impl Mount {
    /// `None` where this user must not mount.
    fn new(path: std::path::PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).expect("made");
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).output().ok()?;
        if !output.status.success() {
            eprintln_skipped(&String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Self(path))
    }
}

fn eprintln_skipped(why: &str) {
    use std::io::Write as _;
    // Past the harness, which captures `eprintln!`.
    let _ = writeln!(std::io::stderr(), "SKIPPED: a test needs to mount a tmpfs: {}", why.trim());
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A pull to a disk that is full or read-only: exit 1, says why, leaves nothing that looks like the image.
fn pulled_to(options: &str, told: &str) {
    let home = sandbox();
    let registry = registries::own(&home, true, false);
    let made = TestImage::big(3 << 20).expect("an image");
    let source = image::layout(&home, &made, "in");
    let reference = registry.reference("app:1");
    let _ = home.idp(["push", &source, &reference]).exits(0);
    let Some(disk) = Mount::new(home.path("work/disk"), options) else { return };
    let listed = || -> Vec<_> {
        std::fs::read_dir(&disk.0).expect("read").map(|entry| entry.expect("an entry").path()).collect()
    };
    for dest in ["oci-archive:disk/out.tar:1", "oci:disk/out:1"] {
        let output = home.idp(["pull", &reference, dest]).exits(1);
        assert!(output.stderr.contains(told), "{dest}: {output}");
        assert_eq!(output.stdout, "");
        // A layout is begun, for the next pull to go on with; it names no image, and has no half blob.
        let out = disk.0.join("out");
        assert!(listed().iter().all(|left| *left == out), "{dest} left {:?}", listed());
        if out.exists() {
            assert_eq!(image::roots(&out), [""; 0]);
            image::assert_whole(&out);
        }
    }
}

#[test]
fn a_full_disk() {
    pulled_to("size=1m", "No space left on device");
}

#[test]
fn a_read_only_disk() {
    pulled_to("size=1m,ro", "Read-only file system");
}

async fn interrupted_push(name: &str, code: i32) {
    let server = Server::start(Registry::with_auth(Auth::Open)).await;
    server.rule(on("PUT", "/blobs/uploads/", Fault::Hang).after(1).always());
    let sandbox = sandbox();
    let made = TestImage::layers(5).expect("an image");
    let source = image::layout(&sandbox, &made, "in");
    let reference = format!("{}/app:1", server.address());
    let child = sandbox.command(["push", &source, &reference]).spawn().expect("starts");
    seen(&server, "PUT", "/blobs/uploads/", 2).await;
    signal(&child, name);
    let output = sandbox.wait(child).exits(code);
    assert_eq!(output.stdout, "");
    // It may have been asked with a manifest what there is; none was taken.
    assert!(server.registry(|registry| registry.manifests.is_empty()), "{:#?}", server.log());
    let left = server.registry(|registry| registry.sessions.len());
    assert_eq!(left, 0, "sessions are left: {:#?}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_push_leaves_no_session() {
    interrupted_push("-INT", 130).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_push_leaves_no_session() {
    interrupted_push("-TERM", 143).await;
}

/// What was in the layout before is there after, what was half pulled is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_pull_leaves_the_layout_as_it_was() {
    let server = Server::start(Registry::with_auth(Auth::Open)).await;
    let sandbox = sandbox();
    let (old, new) = (TestImage::one_layer().expect("an image"), TestImage::layers(9).expect("an image"));
    let mut references = Vec::new();
    for (name, made) in [("old", &old), ("new", &new)] {
        let source = image::layout(&sandbox, made, name);
        let reference = format!("{}/{name}:1", server.address());
        let _ = sandbox.idp(["push", &source, &reference]).exits(0);
        references.push(reference);
    }
    let _ = sandbox.idp(["pull", &references[0], "oci:out:1"]).exits(0);
    server.rule(on("GET", "/blobs/", Fault::Hang).after(3).always());
    let before = server.count("GET", "/blobs/");
    let child = sandbox.command(["pull", &references[1], "oci:out:1"]).spawn().expect("starts");
    seen(&server, "GET", "/blobs/", before + 4).await;
    signal(&child, "-INT");
    let output = sandbox.wait(child).exits(130);
    assert_eq!(output.stdout, "");
    let out = sandbox.path("work/out");
    assert_eq!(image::roots(&out), [old.digest()]);
    image::assert_whole(&out);
    // It is a layout still: what it names can be pushed.
    let again = format!("{}/again:1", server.address());
    let pushed = sandbox.idp(["push", "oci:out:1", &again]).exits(0);
    assert_eq!(super::digest(&pushed), old.digest());
}
