//! Pulls that are killed, and run again: what has come is not fetched a second time, counted in bytes at the server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use idp_test_support::faults::{Fault, Registry, Reply, on};
use idp_test_support::images::TestImage;
use serde_json::Value;

use super::cache::{cached, holds, pull};
use super::{World, blobs};

const SIZE: u64 = 3_000_000;
/// So much of the layer comes before the server falls silent.
const CAME: usize = 1_234_567;

fn layer(image: &TestImage) -> String {
    let all = blobs(image);
    all.iter().max_by_key(|digest| image.contents[digest.as_str()].size()).expect("a layer").clone()
}

fn part(folder: &Path, digest: &str) -> PathBuf {
    folder.join(format!("blobs/sha256/.idp-part-{}", digest.replacen(':', "-", 1)))
}

/// Pulls until `CAME` bytes of the layer are in these files, then kills it as no program can help.
fn killed(world: &World, image: &TestImage, target: &str, kept: &[&Path]) {
    let layer = layer(image);
    // The connection breaks, and whoever asks for the rest is not answered.
    world.server.rule(on("GET", &layer, Fault::Truncate(CAME)));
    world.server.rule(on("GET", &layer, Fault::Hang));
    let arguments = ["pull", &world.reference(), target, "--provider", "none"];
    let mut child = world.sandbox.command(arguments).spawn().expect("the binary starts");
    let started = Instant::now();
    let others = || blobs(image).len() - 1;
    let arrived = || {
        let whole = kept[0].parent().and_then(|folder| std::fs::read_dir(folder).ok()).map_or(0, |entries| {
            entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
        });
        let came = |path: &&Path| std::fs::metadata(path).is_ok_and(|found| found.len() == CAME as u64);
        kept.iter().all(came) && whole >= others()
    };
    while !(arrived() && world.server.count("GET", &layer) == 2) {
        assert!(started.elapsed() < Duration::from_secs(60), "{:#?}", world.server.log());
        assert!(
            child.try_wait().expect("a child of ours").is_none(),
            "it ended: {}",
            world.sandbox.wait(child)
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    assert_eq!(world.sandbox.wait(child).code, 128 + 9);
}

/// What was asked of the layer since: the first byte of each request, if one was named.
fn asked(world: &World, digest: &str, since: usize) -> Vec<Option<String>> {
    let requests = world.server.requests();
    let of = requests.iter().skip(since).filter(|seen| seen.method == "GET" && seen.target.contains(digest));
    of.map(|seen| seen.headers.get("range").map(|range| range.to_str().expect("text").to_owned())).collect()
}

fn gone_on() -> Vec<Option<String>> {
    vec![Some(format!("bytes={CAME}-"))]
}

fn several() -> TestImage {
    TestImage::big(SIZE).expect("made by rule")
}

#[test]
fn a_killed_pull_to_a_layout_goes_on() {
    let image = several();
    let layer = layer(&image);
    let world = World::new(Registry::default()).holds(&image);
    let out = world.sandbox.path("work/out");
    let kept = part(&out, &layer);
    killed(&world, &image, "oci:out", &[&kept]);
    assert_eq!(std::fs::metadata(&kept).expect("kept").permissions().mode() & 0o777, 0o600);
    let since = world.server.requests().len();
    let output = pull(&world, &world.reference(), "oci:out").exits(0);
    assert_eq!(asked(&world, &layer, since), gone_on(), "{:#?}", world.server.log());
    assert_eq!(asked(&world, "/blobs/", since).len(), 1, "whole blobs are not fetched again");
    let told: Value = serde_json::from_str(&output.stdout).expect("one document");
    let size = image.contents[&layer].size();
    assert_eq!(told["bytes-received"], size - CAME as u64);
    holds(&out, &image);
    assert!(!kept.exists());
    let blob = out.join(format!("blobs/{}", layer.replacen(':', "/", 1)));
    let other = std::fs::metadata(out.join("index.json")).expect("there").permissions().mode();
    assert_eq!(std::fs::metadata(blob).expect("there").permissions().mode(), other, "as other files");
    world.server.verify();
}

/// Of an archive nothing stays; the cache keeps what came.
#[test]
fn a_killed_pull_to_an_archive_goes_on_from_the_cache() {
    let image = several();
    let layer = layer(&image);
    let world = cached(Registry::default()).holds(&image);
    let kept = part(&world.sandbox.path("cache"), &layer);
    killed(&world, &image, "oci-archive:out.tar", &[&kept]);
    let since = world.server.requests().len();
    let _ = pull(&world, &world.reference(), "oci-archive:out.tar").exits(0);
    assert_eq!(asked(&world, &layer, since), gone_on(), "{:#?}", world.server.log());
    assert_eq!(asked(&world, "/blobs/", since).len(), 1, "whole blobs are not fetched again");
    let since = world.server.requests().len();
    let _ = pull(&world, &world.reference(), "oci:out").exits(0);
    assert_eq!(asked(&world, "/blobs/", since).len(), 0, "by now the cache has all of it");
    holds(&world.sandbox.path("work/out"), &image);
}

/// With both, the layout and the cache are whole in the end, whichever of them had more.
#[test]
fn a_layout_and_a_cache() {
    let image = several();
    let layer = layer(&image);
    let world = cached(Registry::default()).holds(&image);
    let out = world.sandbox.path("work/out");
    let cached = part(&world.sandbox.path("cache"), &layer);
    killed(&world, &image, "oci:out", &[&part(&out, &layer), &cached]);
    let file = std::fs::File::options().write(true).open(part(&out, &layer)).expect("kept");
    file.set_len(1000).expect("cut");
    let since = world.server.requests().len();
    let _ = pull(&world, &world.reference(), "oci:out").exits(0);
    assert_eq!(asked(&world, &layer, since), gone_on());
    holds(&out, &image);
    let since = world.server.requests().len();
    let _ = pull(&world, &world.reference(), "oci:again").exits(0);
    assert_eq!(asked(&world, "/blobs/", since).len(), 0);
}

#[test]
fn a_part_that_is_wrong_is_fetched_once_from_the_start() {
    let image = several();
    let layer = layer(&image);
    let world = World::new(Registry::default()).holds(&image);
    let out = world.sandbox.path("work/out");
    let kept = part(&out, &layer);
    killed(&world, &image, "oci:out", &[&kept]);
    let mut bytes = std::fs::read(&kept).expect("kept");
    bytes[77] ^= 1;
    std::fs::write(&kept, bytes).expect("damaged");
    let since = world.server.requests().len();
    let output = pull(&world, &world.reference(), "oci:out").exits(0);
    assert_eq!(asked(&world, &layer, since), [gone_on(), vec![None]].concat(), "{output}");
    holds(&out, &image);
    assert!(!kept.exists());
    assert!(!output.stderr.contains("retrying"), "nothing that the registry did wrong: {output}");
}

/// A registry that knows no ranges, and one that refuses them: everything comes, and what is there already is passed over.
#[test]
fn a_registry_without_ranges() {
    let image = several();
    let layer = layer(&image);
    let whole = Reply::status(200).body(image.contents[&layer].bytes().expect("made by rule"));
    for (faults, requests) in [
        (vec![Fault::Reply(whole.clone())], vec![gone_on()]),
        (vec![Fault::Reply(Reply::status(416))], vec![gone_on(), vec![None]]),
    ] {
        let world = World::new(Registry::default()).holds(&image);
        let out = world.sandbox.path("work/out");
        killed(&world, &image, "oci:out", &[&part(&out, &layer)]);
        let since = world.server.requests().len();
        for fault in faults {
            world.server.rule(on("GET", &layer, fault));
        }
        let output = pull(&world, &world.reference(), "oci:out").exits(0);
        assert_eq!(asked(&world, &layer, since), requests.concat(), "{output}");
        holds(&out, &image);
        world.server.verify();
    }
}

/// What nobody went on with goes after a week; what is younger, and what somebody else calls so, stays.
#[test]
fn old_parts_are_cleared_away() {
    let image = super::image();
    let world = World::new(Registry::default()).holds(&image);
    let _ = pull(&world, &world.reference(), "oci:out").exits(0);
    let folder = world.sandbox.path("work/out/blobs/sha256");
    let day = Duration::from_secs(24 * 3600);
    let names = [("a", 8, false), ("b", 6, true)];
    for (letter, days, _) in names {
        let path = folder.join(format!(".idp-part-sha256-{}", letter.repeat(64)));
        std::fs::write(&path, "the start of something").expect("written");
        let time = SystemTime::now() - day * days;
        std::fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(time))
            .expect("old");
    }
    let _ = pull(&world, &world.reference(), "oci:out").exits(0);
    for (letter, days, stays) in names {
        let path = folder.join(format!(".idp-part-sha256-{}", letter.repeat(64)));
        assert_eq!(path.exists(), stays, "{days} days old");
    }
}

/// While one process is at it, another one that wants the same does not wait, and spoils nothing.
#[test]
fn two_pulls_to_one_layout() {
    let image = several();
    let layer = layer(&image);
    let world = World::new(Registry::default()).holds(&image);
    world.server.rule(on("GET", &layer, Fault::Truncate(CAME)));
    world.server.rule(on("GET", &layer, Fault::Hang));
    let arguments = ["pull", &world.reference(), "oci:out", "--provider", "none"];
    let mut child = world.sandbox.command(arguments).spawn().expect("the binary starts");
    let started = Instant::now();
    while world.server.count("GET", &layer) < 2 {
        assert!(started.elapsed() < Duration::from_secs(60), "{:#?}", world.server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    let out = world.sandbox.path("work/out");
    let _ = pull(&world, &world.reference(), "oci:out").exits(0);
    holds(&out, &image);
    assert_eq!(std::fs::metadata(part(&out, &layer)).expect("theirs").len(), CAME as u64);
    child.kill().expect("killed");
    let _ = world.sandbox.wait(child);
    holds(&out, &image);
}
