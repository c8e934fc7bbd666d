//! The content cache, through the binary: what was pulled once is not asked for again, counted at the server; whatever is wrong with
//! the cache, the pull goes well.

use std::path::{Path, PathBuf};

use idp_test_support::faults::{Registry, digest_of};
use idp_test_support::images::TestImage;
use idp_test_support::sandbox::Output;
use serde_json::Value;

use super::{World, blobs, image};

/// With a cache of its own. No provider: its compiled code would be made anew for each cache.
pub(crate) fn cached(registry: Registry) -> World {
    let world = World::new(registry);
    let directory = world.sandbox.path("cache").display().to_string();
    world.env("IDPBUILDER_OCI_CACHE", "true").env("IDPBUILDER_OCI_CACHE_DIR", &directory)
}

pub(crate) fn pull(world: &World, reference: &str, target: &str) -> Output {
    world.sandbox.idp(["pull", reference, target, "--provider", "none", "--output", "json"])
}

fn entry(world: &World, digest: &str) -> PathBuf {
    world.sandbox.path(&format!("cache/blobs/{}", digest.replacen(':', "/", 1)))
}

/// How often blobs and manifests were asked for.
fn asked(world: &World) -> (usize, usize) {
    (world.server.count("GET", "/blobs/"), world.server.count("GET", "/manifests/"))
}

fn said(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).expect("one document")
}

/// Everything of the image is in the layout, byte for byte.
#[track_caller]
pub(crate) fn holds(layout: &Path, image: &TestImage) {
    for digest in image.contents.keys() {
        let path = layout.join("blobs").join(digest.replacen(':', "/", 1));
        assert_eq!(&digest_of(&std::fs::read(path).expect("there")), digest);
    }
    let index = std::fs::read_to_string(layout.join("index.json")).expect("an index");
    assert!(index.contains(image.digest()), "{index}");
}

fn command(world: &World, arguments: &[&str]) -> Value {
    said(&world.sandbox.idp(["cache"].iter().chain(arguments).chain(&["--output", "json"])).exits(0))
}

#[test]
fn what_was_pulled_is_not_asked_for_again() {
    let image = TestImage::index().expect("made by rule");
    let mut registry = Registry::default();
    for (digest, content) in &image.contents {
        let bytes = content.bytes().expect("made by rule");
        let media_type = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|document| document["mediaType"].as_str().map(ToOwned::to_owned));
        match media_type {
            Some(media_type) => {
                let tag = if digest == image.digest() { "1" } else { "" };
                registry.add_manifest("app", tag, &media_type, bytes);
            }
            None => {
                registry.add_blob("app", bytes);
            }
        }
    }
    let world = cached(registry);
    let first = pull(&world, &world.reference(), "oci:one").exits(0);
    let (of_blobs, of_manifests) = asked(&world);
    assert_eq!(
        (of_blobs + of_manifests, of_manifests),
        (image.contents.len(), 4),
        "{:#?}",
        world.server.log()
    );
    assert_eq!(said(&first)["blobs-cached"], 0);

    // A tag may have moved and is asked for; what has a digest is not.
    let again = pull(&world, &world.reference(), "oci:two").exits(0);
    assert_eq!(asked(&world), (of_blobs, of_manifests + 1), "{:#?}", world.server.log());
    let told = said(&again);
    assert_eq!(
        (&told["blobs-cached"], &told["blobs-received"], &told["bytes-received"]),
        (&of_blobs.into(), &0.into(), &0.into())
    );
    holds(&world.sandbox.path("work/two"), &image);

    // By digest nothing at all is asked for, nor of another name of the same content.
    let digest = format!("{}/app@{}", world.server.address(), image.digest());
    let _ = pull(&world, &digest, "oci-archive:three.tar").exits(0);
    let _ = pull(&world, &digest.replace("/app@", "/other@"), "oci:four").exits(0);
    assert_eq!(asked(&world), (of_blobs, of_manifests + 1), "{:#?}", world.server.log());
    holds(&world.sandbox.path("work/four"), &image);
}

#[test]
fn damaged_entries_are_fetched_again_and_mended() {
    let image = image();
    let world = cached(Registry::default()).holds(&image);
    let _ = pull(&world, &world.reference(), "oci:first").exits(0);
    let before = asked(&world).0;
    for (round, target) in ["oci:out", "oci-archive:out.tar"].into_iter().enumerate() {
        for digest in blobs(&image) {
            let good = std::fs::read(entry(&world, &digest)).expect("kept");
            let mut bad = good.clone();
            bad[0] ^= 1;
            for (name, damage) in [("flipped", &bad[..]), ("short", &good[1..]), ("empty", b"")] {
                std::fs::write(entry(&world, &digest), damage).expect("damaged");
                let seen = world.server.count("GET", &digest);
                let _ = std::fs::remove_dir_all(world.sandbox.path("work/out"));
                let output = pull(&world, &world.reference(), target).exits(0);
                assert_eq!(world.server.count("GET", &digest), seen + 1, "{target} {name}: {output}");
                assert!(std::fs::read(entry(&world, &digest)).expect("kept") == good, "{target} {name}");
                assert_eq!(said(&output)["blobs-received"], 1);
            }
        }
        assert_eq!(asked(&world).0, before + (round + 1) * 3 * blobs(&image).len());
    }
    // A manifest is verified like everything else.
    std::fs::write(entry(&world, image.digest()), "{}").expect("damaged");
    let digest = format!("{}/app@{}", world.server.address(), image.digest());
    let manifests = asked(&world).1;
    let _ = pull(&world, &digest, "oci:by-digest").exits(0);
    assert_eq!(asked(&world).1, manifests + 1);
}

/// A directory is filled as the bytes come, and could not give them back: what is kept is verified before.
#[test]
fn a_damaged_entry_on_the_way_to_a_directory() {
    let world = cached(Registry::default());
    world.sandbox.write("work/files/note.txt", "what stands in it");
    let reference = world.reference();
    let pushed = world.sandbox.idp(["push", "files", &reference, "--provider", "none"]).exits(0);
    assert!(pushed.stdout.contains("@sha256:"));
    let _ = pull(&world, &reference, "one").exits(0);
    let before = asked(&world).0;
    assert_eq!(before, 1, "the config becomes no file: {:#?}", world.server.log());
    let _ = pull(&world, &reference, "two").exits(0);
    assert_eq!(asked(&world).0, before);
    let folder = world.sandbox.path("cache/blobs/sha256");
    for file in std::fs::read_dir(folder).expect("a cache") {
        let path = file.expect("an entry").path();
        let mut bytes = std::fs::read(&path).expect("read");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).expect("damaged");
    }
    let _ = pull(&world, &reference, "three").exits(0);
    assert_eq!(asked(&world).0, before + 1);
    let text = std::fs::read_to_string(world.sandbox.path("work/three/note.txt"));
    assert_eq!(text.expect("pulled"), "what stands in it");
}

#[test]
fn where_there_is_no_cache_everything_is_asked_for() {
    let image = image();
    let off = |world: World| {
        for round in 1..=2 {
            let _ = pull(&world, &world.reference(), &format!("oci:{round}")).exits(0);
            assert_eq!(asked(&world), (blobs(&image).len() * round, round), "{:#?}", world.server.log());
        }
        world
    };
    let world = off(cached(Registry::default()).holds(&image).env("IDPBUILDER_OCI_CACHE", "false"));
    assert!(!world.sandbox.path("cache").exists());
    assert_eq!(command(&world, &["status"])["enabled"], false);
    let file = cached(Registry::default()).holds(&image).env("IDPBUILDER_OCI_CACHE", "");
    file.sandbox.write("home/.idpbuilder/registries.yaml", "cache: {enabled: false}\n");
    off(file);
    let small = cached(Registry::default()).holds(&image);
    small.sandbox.write("home/.idpbuilder/registries.yaml", "cache: {blobLimit: 1}\n");
    off(small);
    // A file where the directory should be, and a layout of somebody's own.
    let blocked = cached(Registry::default()).holds(&image);
    blocked.sandbox.write("cache", "a file");
    off(blocked);
    let theirs = cached(Registry::default()).holds(&image);
    image.write_layout(&theirs.sandbox.path("cache"), Some("mine")).expect("written");
    let theirs = off(theirs);
    let before = std::fs::read_dir(theirs.sandbox.path("cache/blobs/sha256")).expect("theirs").count();
    assert_eq!(command(&theirs, &["clear"])["blobs-removed"], 0);
    assert_eq!(before, image.contents.len(), "nothing came, and nothing went");
}

/// The limit is kept without anybody asking; what was used last stays.
#[test]
fn the_limit_is_kept() {
    let image = TestImage::layers(5).expect("made by rule");
    let world = cached(Registry::default()).holds(&image);
    let _ = pull(&world, &world.reference(), "oci:one").exits(0);
    let status = command(&world, &["status"]);
    let bytes = status["bytes"].as_u64().expect("a number");
    assert_eq!(status["blobs"], image.contents.len());
    let limit = bytes / 2;
    world.sandbox.write("home/.idpbuilder/registries.yaml", &format!("cache: {{limit: {limit}}}\n"));
    // Nothing comes, so nothing has to go; the next blob that comes makes room.
    let other = world.sandbox.path("work/other");
    TestImage::big(10).expect("made by rule").write_layout(&other, Some("1")).expect("written");
    let elsewhere = format!("{}/other:1", world.server.address());
    let _ = world.sandbox.idp(["push", "oci:other", &elsewhere, "--provider", "none"]).exits(0);
    let _ = pull(&world, &elsewhere, "oci:other-again").exits(0);
    let status = command(&world, &["status"]);
    assert!(status["bytes"].as_u64().expect("a number") <= limit, "{status}");
    let before = asked(&world).0;
    let _ = pull(&world, &elsewhere, "oci:once-more").exits(0);
    assert_eq!(asked(&world).0, before, "what came last is there");
}

#[test]
fn the_commands() {
    let image = image();
    let world = cached(Registry::default()).holds(&image);
    let empty = command(&world, &["status"]);
    assert_eq!(
        (&empty["blobs"], &empty["limit"], &empty["blob-limit"]),
        (&0.into(), &(2u64 << 30).into(), &(16 << 20).into())
    );
    assert!(!world.sandbox.path("cache").exists(), "looking makes nothing");
    let _ = pull(&world, &world.reference(), "oci:one").exits(0);
    world.sandbox.write("cache/compiled/theirs", "of another part");
    let bytes = command(&world, &["status"])["bytes"].as_u64().expect("a number");
    assert_eq!(command(&world, &["prune"])["blobs-removed"], 0);
    let pruned = command(&world, &["prune", "--limit", "1KiB"]);
    let left = pruned["bytes"].as_u64().expect("a number");
    assert!(left <= 1024 && left + pruned["bytes-removed"].as_u64().expect("a number") == bytes, "{pruned}");
    let text = world.sandbox.idp(["cache", "status"]).exits(0).stdout;
    assert!(text.contains("of 2.0 GiB"), "{text}");
    let _ = pull(&world, &world.reference(), "oci:two").exits(0);
    let cleared = command(&world, &["clear"]);
    assert_eq!((&cleared["bytes-removed"], &cleared["bytes"]), (&bytes.into(), &0.into()));
    assert!(world.sandbox.path("cache/compiled/theirs").exists());
    let _ = world.sandbox.idp(["cache", "prune", "--limit", "much"]).exits(64);
}

/// Two processes, one cache: both get everything, and what is kept is whole.
#[test]
fn two_at_once() {
    let image = TestImage::layers(30).expect("made by rule");
    let world = cached(Registry::default()).holds(&image);
    let spawn = |target: &str| {
        let arguments = ["pull", &world.reference(), target, "--provider", "none"];
        world.sandbox.command(arguments).spawn().expect("the binary starts")
    };
    let children = ["oci:one", "oci:two", "oci:three"].map(spawn);
    for child in children {
        let _ = world.sandbox.wait(child).exits(0);
    }
    for name in ["one", "two", "three"] {
        holds(&world.sandbox.path(&format!("work/{name}")), &image);
    }
    let status = command(&world, &["status"]);
    assert_eq!((&status["blobs"], &status["partial"]), (&image.contents.len().into(), &0.into()), "{status}");
    let before = asked(&world).0;
    let _ = pull(&world, &world.reference(), "oci:four").exits(0);
    assert_eq!(asked(&world).0, before, "all of it was kept");
}
