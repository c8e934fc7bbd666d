//! What is kept, what goes, and what is left alone.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Cache, Limits, Pruned};
use crate::blob::{Blob, Chunks};
use crate::digest::Digest;
use crate::manifest::Descriptor;

const LIMITS: Limits = Limits { total: 1000, blob: 300 };

fn cache(root: &Path) -> Arc<Cache> {
    Arc::new(Cache::open(root.join("cache"), LIMITS))
}

fn chunks(bytes: &[u8]) -> Chunks {
    let pieces: Vec<_> = bytes.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces).boxed()
}

async fn read(chunks: Chunks) -> Vec<u8> {
    let pieces: Vec<Bytes> = chunks.try_collect().await.expect("read");
    pieces.concat()
}

async fn bytes(blob: &Blob) -> Vec<u8> {
    read(blob.read_from(0)).await
}

/// Puts content in, as a pull does.
async fn put(cache: &Arc<Cache>, content: &[u8]) -> Descriptor {
    let blob = Descriptor::of("a/b", content);
    let writer = cache.writer(&blob).expect("room for it");
    let (passed, filling) = writer.tee(chunks(content));
    assert_eq!(read(passed).await, content, "what is kept goes on to the one who asked");
    filling.commit(cache).await;
    blob
}

fn path(cache: &Cache, blob: &Descriptor) -> PathBuf {
    cache.root().join("blobs/sha256").join(blob.digest.hex())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

/// Used so many hours ago.
fn age(path: &Path, hours: u64) {
    let time = SystemTime::now() - Duration::from_secs(hours * 3600);
    File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("made old");
}

#[tokio::test]
async fn what_came_is_there_private_and_in_a_layout() {
    let folder = tempfile::tempdir().expect("a directory");
    let cache = cache(folder.path());
    assert!(cache.get(&Descriptor::of("a/b", b"content")).is_none());
    assert!(!cache.root().exists(), "looking makes nothing");
    let blob = put(&cache, b"content").await;
    let found = cache.get(&blob).expect("there");
    assert_eq!(bytes(&found).await, b"content");
    assert_eq!(read(found.read_from(3)).await, b"tent");
    assert_eq!(
        std::fs::read(cache.root().join("oci-layout")).expect("read"),
        br#"{"imageLayoutVersion":"1.0.0"}"#
    );
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(cache.root().join("index.json")).expect("read")).expect("JSON");
    assert_eq!((&index["schemaVersion"], &index["manifests"]), (&2.into(), &serde_json::json!([])));
    for (name, expect) in
        [("", 0o700), ("blobs", 0o700), ("blobs/sha256", 0o700), (".idp-cache", 0o600), ("index.json", 0o600)]
    {
        assert_eq!(mode(&cache.root().join(name)), expect, "{name}");
    }
    assert_eq!(mode(&path(&cache, &blob)), 0o600);
    let large = Descriptor::of("a/b", &[0; 301]);
    assert!(cache.writer(&large).is_none(), "larger than what is kept");
}

#[tokio::test]
async fn what_is_damaged_is_removed() {
    let folder = tempfile::tempdir().expect("a directory");
    let cache = cache(folder.path());
    let blob = put(&cache, b"content").await;
    let damage = |bytes: &[u8]| std::fs::write(path(&cache, &blob), bytes).expect("damaged");
    damage(b"short");
    assert!(cache.get(&blob).is_none() && !path(&cache, &blob).exists());
    put(&cache, b"content").await;
    damage(b"c0ntent");
    assert!(cache.get(&blob).is_some(), "who reads it finds out");
    assert!(cache.get_verified(&blob).is_none() && !path(&cache, &blob).exists());
    put(&cache, b"content").await;
    cache.forget(&blob);
    assert!(cache.get(&blob).is_none());
    assert!(put(&cache, b"content").await == blob && cache.get_verified(&blob).is_some());
}

#[tokio::test]
async fn manifests_are_verified_when_they_are_read() {
    let folder = tempfile::tempdir().expect("a directory");
    let cache = cache(folder.path());
    let text = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let text = Bytes::from_static(text.as_bytes());
    let digest = Digest::of(&text);
    cache.put_manifest(&digest, &text);
    let found = cache.manifest(&digest, None).expect("there");
    assert_eq!((found.bytes(), found.digest()), (&text, &digest));
    let other = Descriptor::new("application/vnd.oci.image.index.v1+json", digest.clone(), 5);
    assert!(cache.manifest(&digest, Some(&other)).is_none(), "of another size");
    let path = path(&cache, found.descriptor());
    std::fs::write(&path, text.to_vec().to_ascii_uppercase()).expect("damaged");
    assert!(cache.manifest(&digest, None).is_none() && !path.exists());
}

#[tokio::test]
async fn what_broke_off_is_gone_on_with() {
    let folder = tempfile::tempdir().expect("a directory");
    let cache = cache(folder.path());
    let content = b"0123456789 and more";
    let blob = Descriptor::of("a/b", content);
    let broken = chunks(&content[..8]).chain(stream::iter([Err(std::io::Error::other("reset"))])).boxed();
    let (mut passed, filling) = cache.writer(&blob).expect("room for it").tee(broken);
    while passed.next().await.is_some() {}
    // Given up: what was written stays.
    drop((passed, filling));
    while cache.writer(&blob).is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(cache.get(&blob).is_none());
    let writer = cache.writer(&blob).expect("nobody has it");
    assert_eq!(writer.position(), 8);
    assert_eq!(read(writer.kept(2)).await, &content[2..8]);
    assert!(cache.writer(&blob).is_none(), "one at a time");
    let (passed, filling) = writer.tee(chunks(&content[8..]));
    read(passed).await;
    filling.commit(&cache).await;
    assert_eq!(bytes(&cache.get_verified(&blob).expect("whole")).await, content);

    // Bytes that turn out to be wrong are not kept, and not gone on with.
    let other = Descriptor::of("a/b", b"other");
    let (passed, filling) = cache.writer(&other).expect("room for it").tee(chunks(b"0ther"));
    read(passed).await;
    filling.discard(&cache).await;
    assert_eq!(cache.writer(&other).expect("nobody has it").position(), 0);
}

#[tokio::test]
async fn what_was_not_used_for_longest_goes_first() {
    let folder = tempfile::tempdir().expect("a directory");
    let cache = cache(folder.path());
    let mut blobs = Vec::new();
    for letter in b'a'..=b'd' {
        blobs.push(put(&cache, &[letter; 240]).await);
    }
    for (blob, hours) in blobs.iter().zip([3, 9, 5, 1]) {
        age(&path(&cache, blob), hours);
    }
    cache.settle();
    assert_eq!(cache.status().expect("read").bytes, 960, "there is room");
    // Used last, though it came first.
    assert!(cache.get(&blobs[0]).is_some());
    blobs.push(put(&cache, &[b'e'; 240]).await);
    cache.settle();
    let left: Vec<bool> = blobs.iter().map(|blob| path(&cache, blob).exists()).collect();
    // 1200 bytes are more than 1000; down to 875 two have to go: those of nine and of five hours ago.
    assert_eq!(left, [true, false, false, true, true]);
    assert_eq!(cache.prune(500).expect("pruned"), Pruned { blobs: 1, bytes: 240 });
    assert!(!path(&cache, &blobs[3]).exists());
    assert_eq!(cache.prune(500).expect("pruned"), Pruned::default());
}

/// The sum is kept between commands, and the directory is not looked at for it.
#[tokio::test]
async fn the_ledger_is_believed_and_made_anew() {
    let folder = tempfile::tempdir().expect("a directory");
    let ledger = || {
        let text = std::fs::read(folder.path().join("cache/.idp-cache")).expect("read");
        serde_json::from_slice::<serde_json::Value>(&text).expect("JSON")
    };
    put(&cache(folder.path()), b"not settled: the process was killed").await;
    let second = cache(folder.path());
    put(&second, b"content").await;
    second.settle();
    assert_eq!(ledger()["bytes"], 35 + 7, "nothing was known, so it was counted");
    let third = cache(folder.path());
    let blob = put(&third, b"more content").await;
    std::fs::write(folder.path().join("cache/blobs/sha256").join("0".repeat(64)), [0; 50]).expect("written");
    third.settle();
    assert_eq!(ledger()["bytes"], 35 + 7 + 12, "the sum was believed");
    third.forget(&blob);
    std::fs::write(folder.path().join("cache/.idp-cache"), r#"{"bytes":54,"counted":1}"#).expect("made old");
    third.settle();
    assert_eq!(ledger()["bytes"], 35 + 7 + 50, "it was too old to be believed");
}

#[tokio::test]
async fn clear_takes_what_is_ours_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a directory");
    let cache = cache(folder.path());
    put(&cache, b"content").await;
    let others = ["compiled/code", "blobs/sha256/notes", "blobs/md5/00", "readme"];
    for other in others {
        let other = cache.root().join(other);
        std::fs::create_dir_all(other.parent().expect("below")).expect("made");
        std::fs::write(other, "theirs").expect("written");
    }
    let unfinished = Descriptor::of("a/b", b"unfinished");
    let (passed, filling) = cache.writer(&unfinished).expect("room").tee(chunks(b"unfin"));
    read(passed).await;
    let status = cache.status().expect("read");
    assert_eq!((status.blobs, status.bytes, status.partial), (1, 7, 1));
    assert_eq!(cache.clear().expect("cleared"), Pruned { blobs: 1, bytes: 7 }, "one is being written");
    drop(filling);
    while cache.writer(&unfinished).is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(cache.clear().expect("cleared"), Pruned { blobs: 1, bytes: 5 });
    assert!(others.iter().all(|other| cache.root().join(other).exists()));
    assert!(cache.root().join("oci-layout").exists());
    assert_eq!(cache.clear().expect("cleared"), Pruned::default());
}

/// A layout of somebody's own, even where the cache is told to be.
#[tokio::test]
async fn a_directory_that_was_something_else_is_left_alone() {
    for theirs in ["oci-layout", "index.json", "blobs/sha256/x"] {
        let folder = tempfile::tempdir().expect("a directory");
        let cache = cache(folder.path());
        let path = cache.root().join(theirs);
        std::fs::create_dir_all(path.parent().expect("below")).expect("made");
        std::fs::write(&path, "theirs").expect("written");
        let blob = Descriptor::of("a/b", b"content");
        assert!(cache.writer(&blob).is_none() && cache.get(&blob).is_none());
        cache.count(5);
        cache.settle();
        assert_eq!(cache.clear().expect("nothing"), Pruned::default());
        assert_eq!(std::fs::read(&path).expect("there"), b"theirs");
        assert!(!cache.root().join(".idp-cache").exists());
    }
}

#[tokio::test]
async fn where_nothing_can_be_written_what_is_there_is_read() {
    let folder = tempfile::tempdir().expect("a directory");
    let cache = cache(folder.path());
    let blob = put(&cache, b"content").await;
    let folders = ["", "blobs", "blobs/sha256"].map(|name| cache.root().join(name));
    let set = |bits| {
        for folder in &folders {
            std::fs::set_permissions(folder, Permissions::from_mode(bits)).expect("permissions");
        }
    };
    set(0o500);
    let writable = File::create(cache.root().join("probe")).is_ok();
    let (found, writer) = (cache.get(&blob), cache.writer(&Descriptor::of("a/b", b"other")));
    cache.settle();
    set(0o700);
    assert_eq!(bytes(&found.expect("there")).await, b"content");
    // Whoever may do everything may write here, too.
    assert!(writable || writer.is_none());
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("written");
    let none = Cache::open(file.join("cache"), LIMITS);
    assert!(none.writer(&blob).is_none() && none.get(&blob).is_none());
}

/// Others may read what lies in a directory that is not private, and put there what they like.
#[tokio::test]
async fn a_cache_that_others_can_write_to_is_not_read() {
    let folder = tempfile::tempdir().expect("a directory");
    let cache = cache(folder.path());
    let blob = put(&cache, b"content").await;
    let blobs = cache.root().join("blobs");
    std::fs::set_permissions(&blobs, Permissions::from_mode(0o777)).expect("permissions");
    assert!(cache.get(&blob).is_none());
    put(&cache, b"more").await;
    assert_eq!(mode(&blobs), 0o700);
    let aside = folder.path().join("aside");
    std::fs::rename(path(&cache, &blob), &aside).expect("moved");
    std::os::unix::fs::symlink(&aside, path(&cache, &blob)).expect("linked");
    assert!(cache.get(&blob).is_none(), "a link");
}

/// Many at once, through handles that know nothing of each other, as processes have them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8_usize {
        let cache = cache(folder.path());
        tasks.spawn(async move {
            for round in 0..40_usize {
                let content = vec![u8::try_from((worker + round) % 5).expect("small"); 150];
                let blob = Descriptor::of("a/b", &content);
                if let Some(found) = cache.get_verified(&blob) {
                    assert_eq!(bytes(&found).await, content);
                } else if let Some(writer) = cache.writer(&blob) {
                    // Another one may have got there first.
                    let kept = writer.position();
                    let rest = &content[usize::try_from(kept).expect("small")..];
                    let (passed, filling) = writer.tee(chunks(rest));
                    read(passed).await;
                    filling.commit(&cache).await;
                }
                if round % 7 == worker % 7 {
                    cache.settle();
                    cache.prune(300).ok();
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no worker fails");
    }
    let cache = cache(folder.path());
    let status = cache.status().expect("read");
    assert_eq!(status.partial, 0);
    for value in 0..5 {
        let blob = Descriptor::of("a/b", &[value; 150]);
        assert_eq!(cache.get(&blob).is_some(), cache.get_verified(&blob).is_some(), "none is damaged");
    }
}
