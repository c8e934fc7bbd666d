//! Bytes that break off, are wrong, or are missing: what is sent again, and what is left on disk.

use idp_test_support::faults::{Fault, Registry, Reply, digest_of, on};
use idp_test_support::images::TestImage;

use super::{World, blobs, image};

/// A layer large enough to break in the middle.
fn big() -> TestImage {
    TestImage::big(3_000_000).expect("made by rule")
}

fn layer(image: &TestImage) -> String {
    let size = |digest: &&String| image.contents[digest.as_str()].size();
    let all = blobs(image);
    all.iter().max_by_key(size).expect("a layer").clone()
}

fn name(path: &std::path::Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// No image is named by the layout, if there is one.
fn names_nothing(world: &World) -> bool {
    let Ok(index) = std::fs::read(world.sandbox.path("work/out/index.json")) else { return true };
    let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    index["manifests"].as_array().is_some_and(Vec::is_empty)
}

/// Every blob of a layout is what its name says.
fn whole(directory: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory.join("blobs/sha256")) else { return 0 };
    let entries: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    // What is still called so is no blob yet; a later pull clears it away.
    let entries: Vec<_> = entries.into_iter().filter(|path| !name(path).starts_with(".idp-")).collect();
    for path in &entries {
        assert_eq!(digest_of(&std::fs::read(path).expect("read")), format!("sha256:{}", name(path)));
    }
    entries.len()
}

#[test]
fn a_download_goes_on_where_it_broke() {
    let image = big();
    let layer = layer(&image);
    let world =
        World::new(Registry::default()).holds(&image).rule(on("GET", &layer, Fault::Truncate(1_000_000)));
    let output = world.pull("oci:out").exits(0);
    let asked: Vec<_> =
        world.server.requests().into_iter().filter(|seen| seen.target.contains(&layer)).collect();
    assert_eq!(asked.len(), 2, "{:#?}", world.server.log());
    assert!(!asked[0].headers.contains_key("range"));
    assert_eq!(asked[1].headers["range"], "bytes=1000000-", "{output}");
    assert_eq!(whole(&world.sandbox.path("work/out")), 3);
}

#[test]
fn a_download_that_never_gets_on() {
    let image = big();
    let layer = layer(&image);
    let world = World::new(Registry::default())
        .tries(2)
        .holds(&image)
        .rule(on("GET", &layer, Fault::Truncate(0)).always());
    let output = world.pull("oci:out").exits(4);
    assert_eq!(world.server.count("GET", &layer), 2, "{output}");
    assert_eq!(output.stdout, "");
    whole(&world.sandbox.path("work/out"));
    assert!(names_nothing(&world), "nothing that looks finished");
}

/// Bytes that are not what was asked for are asked for once more, and then refused.
#[test]
fn wrong_bytes_are_refused() {
    let image = image();
    for target in ["oci:out", "oci-archive:out.tar"] {
        for digest in blobs(&image) {
            let world = World::new(Registry::default())
                .holds(&image)
                .rule(on("GET", &digest, Fault::Corrupt).always());
            let output = world.pull(target).exits(1);
            assert_eq!(world.server.count("GET", &digest), 2, "{output}");
            assert_eq!(output.stdout, "");
            whole(&world.sandbox.path("work/out"));
            assert!(names_nothing(&world), "{output}");
            assert!(!world.sandbox.path("work/out.tar").exists(), "{output}");
        }
        let world = World::new(Registry::default())
            .holds(&image)
            .rule(on("GET", "/manifests/", Fault::Corrupt).always());
        let output = world.pull(target).exits(1);
        assert!(names_nothing(&world), "{output}");
        assert!(!world.sandbox.path("work/out.tar").exists(), "{output}");
    }
}

/// Wrong once is a bad day of a cache.
#[test]
fn wrong_bytes_once() {
    let image = image();
    let world = World::new(Registry::default()).holds(&image).rule(on("GET", "/blobs/", Fault::Corrupt));
    let _ = world.pull("oci:out").exits(0);
    assert_eq!(whole(&world.sandbox.path("work/out")), 3);
    assert_eq!(world.server.count("GET", "/blobs/"), 3);
}

/// Waiting for the disk changes nothing of what is there.
#[test]
fn a_durable_pull() {
    let image = image();
    let world = World::new(Registry::default()).holds(&image);
    let _ = world.sandbox.idp(["pull", &world.reference(), "oci:out", "--sync"]).exits(0);
    assert_eq!(whole(&world.sandbox.path("work/out")), 3);
    assert!(!names_nothing(&world));
}

/// A connection that is cut costs the blob that was on it, and no other.
#[test]
fn an_upload_that_is_cut() {
    for fault in [Fault::DropAfterRequest(100), Fault::Drop, Fault::Lose] {
        let image = TestImage::layers(4).expect("made by rule");
        let digests = blobs(&image);
        let world = World::new(Registry::default()).rule(on("PUT", "/uploads/", fault.clone()));
        let output = world.push(&image, &[]).exits(0);
        let puts: Vec<_> = world
            .server
            .requests()
            .into_iter()
            .filter(|seen| seen.method == "PUT" && seen.target.contains("/uploads/"))
            .collect();
        let of = |digest: &String| puts.iter().filter(|seen| seen.target.contains(&encoded(digest))).count();
        let mut counts: Vec<usize> = digests.iter().map(of).collect();
        counts.sort_unstable();
        // An answer that was lost is asked after, and need not be sent again.
        let again = if matches!(fault, Fault::Lose) { 1..=2 } else { 2..=2 };
        let most = counts.pop().expect("blobs");
        assert!(again.contains(&most), "{fault:?} {:#?}\n{output}", world.server.log());
        assert!(counts.iter().all(|count| *count == 1), "{fault:?} {:#?}\n{output}", world.server.log());
        // Asked with by digest, and written by tag.
        assert_eq!(world.server.count("PUT", "/manifests/"), 2);
        world.server.verify();
    }
}

fn encoded(digest: &str) -> String {
    digest.split_once(':').map_or(digest, |(_, hex)| hex).to_owned()
}

/// The registry said that it has a blob, and then that it has not: the blob is sent, and the manifest once more.
#[test]
fn a_blob_that_was_collected_is_sent_again() {
    let image = image();
    let digest = blobs(&image).remove(0);
    let there = Reply::status(201).header("docker-content-digest", &digest);
    let world = World::new(Registry::default()).rule(on("POST", &digest, Fault::Reply(there)));
    let output = world.push(&image, &[]).exits(0);
    assert_eq!(world.server.count("PUT", "/manifests/"), 2, "{:#?}\n{output}", world.server.log());
    assert_eq!(world.server.registry(|registry| registry.blobs.len()), 2);
}
