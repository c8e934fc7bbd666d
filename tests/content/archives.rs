//! What `docker save` writes, old and new, and archives that are damaged or were made to do harm.

use std::io::{Read as _, Write as _};
use std::path::Path;

use idp_oci::manifest::Shape;
use idp_oci::media;
use idp_test_support::images::{Content, TarEntry, TestImage, write_tar};
use proptest::prelude::*;
use tempfile::tempdir;

use crate::drive::{Taken, give_text, take_text};

fn layers(taken: &Taken) -> Vec<idp_oci::manifest::Descriptor> {
    match taken.root().shape() {
        Shape::Image { layers, .. } => layers.clone(),
        Shape::Index { .. } => panic!("an index"),
    }
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).expect("gzip");
    plain
}

fn write(path: &Path, entries: &[TarEntry]) {
    write_tar(std::fs::File::create(path).expect("created"), entries).expect("written");
}

#[tokio::test]
async fn both_forms_of_docker_save_give_the_same_image() {
    for image in [
        TestImage::layers(7),
        TestImage::same_layer_twice(),
        TestImage::empty_layer(),
        TestImage::big(3 << 20),
    ] {
        let image = image.expect("made");
        let dir = tempdir().expect("a directory");
        image.write_docker_classic(&dir.path().join("classic.tar"), &["app:1"]).expect("written");
        image.write_docker_25(&dir.path().join("new.tar"), &["app:1"]).expect("written");
        let plain = std::fs::read(dir.path().join("classic.tar")).expect("read");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&plain).expect("compressed");
        std::fs::write(dir.path().join("classic.tar.gz"), gz.finish().expect("compressed")).expect("written");
        let mut digests = Vec::new();
        for text in
            ["docker-archive:classic.tar", "docker-archive:new.tar:app:1", "new.tar", "classic.tar.gz"]
        {
            let taken = take_text(text, dir.path()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(taken.name.as_deref(), Some("app:1"));
            assert_eq!(taken.root().descriptor().media_type, media::OCI_MANIFEST);
            let contents = taken.contents().await;
            let Shape::Image { config, layers } = taken.root().shape() else { panic!("an image") };
            let config: serde_json::Value = serde_json::from_slice(&contents[&config.digest]).expect("JSON");
            let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("a list");
            assert_eq!(layers.len(), diff_ids.len());
            for (layer, diff_id) in layers.iter().zip(diff_ids) {
                assert_eq!(layer.media_type, media::OCI_LAYER_GZIP);
                let tar = inflate(&contents[&layer.digest]);
                assert_eq!(Some(idp_oci::digest::Digest::of(&tar).as_str()), diff_id.as_str());
            }
            digests.push(taken.root().digest().clone());
        }
        digests.dedup();
        assert_eq!(digests.len(), 1);
    }
}

#[tokio::test]
async fn an_image_may_be_nothing_but_a_config() {
    let dir = tempdir().expect("a directory");
    let image = TestImage::no_layers().expect("made");
    image.write_docker_classic(&dir.path().join("classic.tar"), &["app:1"]).expect("written");
    image.write_docker_25(&dir.path().join("new.tar"), &["app:1"]).expect("written");
    for file in ["classic.tar", "new.tar"] {
        let taken = take_text(file, dir.path()).await.expect("read");
        assert_eq!(
            (taken.contents().await.len(), layers(&taken).len(), taken.name.as_deref()),
            (1, 0, Some("app:1"))
        );
    }
}

#[tokio::test]
async fn compressed_layers_and_stored_manifests_are_left_as_they_are() {
    let dir = tempdir().expect("a directory");
    let image = TestImage::index().expect("made");
    // With containerd's image store the archive is the layout itself, and a manifest.json beside it.
    let mut entries = image.layout_entries(None).expect("made");
    entries.push(TarEntry::file("manifest.json", *b"[]"));
    write(&dir.path().join("stored.tar"), &entries);
    let taken = take_text("docker-archive:stored.tar", dir.path()).await.expect("read");
    assert_eq!(taken.root().digest().as_str(), image.digest());
    assert_eq!(taken.contents().await.len(), 8);

    // Some tools write compressed layers in the old form.
    let layer = flate2_of(b"not looked into");
    let config = format!(r#"{{"rootfs":{{"diff_ids":["sha256:{}"]}}}}"#, "0".repeat(64));
    let manifest = *br#"[{"Config":"c.json","RepoTags":["app"],"Layers":["l.tar.gz"]}]"#;
    let entries = [
        TarEntry::file("l.tar.gz", layer.clone()),
        TarEntry::file("c.json", config),
        TarEntry::file("manifest.json", manifest),
    ];
    write(&dir.path().join("old.tar"), &entries);
    let taken = take_text("docker-archive:old.tar", dir.path()).await.expect("read");
    let list = layers(&taken);
    assert_eq!(list[0].media_type, media::OCI_LAYER_GZIP);
    assert!(taken.contents().await[&list[0].digest] == layer);
}

fn flate2_of(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).and_then(|()| gz.finish()).expect("compressed")
}

#[tokio::test]
async fn several_images_in_one_archive() {
    let dir = tempdir().expect("a directory");
    let image = TestImage::index().expect("made");
    image.write_docker_classic(&dir.path().join("classic.tar"), &["a:1", "b:1"]).expect("written");
    image.write_docker_25(&dir.path().join("new.tar"), &["a:1", "b:1"]).expect("written");
    for file in ["classic.tar", "new.tar"] {
        let text = format!("docker-archive:{file}");
        let a = take_text(&format!("{text}:a:1"), dir.path()).await.expect("read");
        let b = take_text(&format!("{text}:docker.io/library/b:1"), dir.path()).await.expect("read");
        assert_ne!(a.root().digest(), b.root().digest());
        let error = take_text(&text, dir.path()).await.expect_err("several").to_string();
        assert!(error.contains("has 3 images, choose one") && error.contains("a:1, b:1, sha256:"), "{error}");
        let error = take_text(&format!("{text}:c"), dir.path()).await.expect_err("absent").to_string();
        assert!(error.contains("no image `c`"), "{error}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_archive_is_said() {
    let dir = tempdir().expect("a directory");
    let image = TestImage::layers(2).expect("made");
    let classic = image.docker_classic_entries(&["app:1"]).expect("made");
    let without = |name: &str| -> Vec<TarEntry> {
        let kept = |entry: &&TarEntry| !matches!(entry, TarEntry::File(path, _) if path.ends_with(name));
        classic.iter().filter(kept).cloned().collect()
    };
    let mut damaged = without("0-1/layer.tar");
    damaged.push(TarEntry::File("0-1/layer.tar".into(), Content::Tar { seed: 77, size: 3 }));
    let mut looped = without("0-1/layer.tar");
    looped.push(TarEntry::Symlink("0-1/layer.tar".into(), "layer.tar".into()));
    let mut escaping = without("0-1/layer.tar");
    escaping.push(TarEntry::Symlink("0-1/layer.tar".into(), "../../../etc/passwd".into()));
    let mut bzip = without("0-1/layer.tar");
    bzip.push(TarEntry::file("0-1/layer.tar", *b"BZh9xxxx"));
    for (entries, expect) in [
        (vec![], "neither index.json nor manifest.json"),
        (without("manifest.json"), "neither index.json nor manifest.json"),
        (without("0-1/layer.tar"), "the layer `0-1/layer.tar` is missing"),
        (looped, "the layer `0-1/layer.tar` is missing"),
        (escaping, "the layer `0-1/layer.tar` is missing"),
        (damaged, "`0-1/layer.tar` hashes to"),
        (bzip, "is compressed with bzip2"),
    ] {
        write(&dir.path().join("x.tar"), &entries);
        let error = take_text("x.tar", dir.path()).await.expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    }
    write(&dir.path().join("x.tar"), &classic);
    let whole = std::fs::read(dir.path().join("x.tar")).expect("read");
    std::fs::write(dir.path().join("x.tar"), &whole[..whole.len() / 2 + 100]).expect("written");
    let error = take_text("x.tar", dir.path()).await.expect_err("cut").to_string();
    assert!(error.contains("truncated"), "{error}");
    let error = take_text("docker-archive:absent.tar", dir.path()).await.expect_err("absent").to_string();
    assert!(error.contains("there is no file"), "{error}");
    std::fs::write(dir.path().join("x.tar"), [0x28, 0xb5, 0x2f, 0xfd, 0]).expect("written");
    let error = take_text("x.tar", dir.path()).await.expect_err("zstd").to_string();
    assert!(error.contains("compressed with zstd as a whole"), "{error}");
    write(&dir.path().join("x.tar"), &classic);
    let error = take_text("oci-archive:x.tar", dir.path()).await.expect_err("docker").to_string();
    assert!(error.contains("it is no OCI archive"), "{error}");
}

#[tokio::test]
async fn hard_links_stand_for_what_they_mean() {
    let dir = tempdir().expect("a directory");
    let image = TestImage::same_layer_twice().expect("made");
    let mut entries = image.docker_classic_entries(&[]).expect("made");
    for entry in &mut entries {
        if let TarEntry::Symlink(path, _) = entry {
            *entry = TarEntry::Hardlink(path.clone(), "0-0/layer.tar".to_owned());
        }
    }
    write(&dir.path().join("x.tar"), &entries);
    let taken = take_text("docker-archive:x.tar", dir.path()).await.expect("read");
    let list = layers(&taken);
    assert_eq!((list.len(), taken.blobs.len(), taken.name.as_deref()), (3, 3, None));
    assert_eq!(list[0], list[2]);
}

#[tokio::test]
async fn giving_up_ends_the_reading() {
    use idp_oci::source::{Selection, SourceError, open};
    let dir = tempdir().expect("a directory");
    let image = TestImage::layers(20).expect("made");
    image.write_docker_classic(&dir.path().join("x.tar"), &[]).expect("written");
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let source = open("x.tar", dir.path()).expect("opened");
    let reading = tokio::spawn(async move { source.read(&Selection::default(), sender).await });
    assert!(receiver.recv().await.is_some());
    drop(receiver);
    assert!(matches!(reading.await.expect("no panic"), Err(SourceError::Closed)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    /// Whatever an archive's bytes are: an image whose every blob is what it is called, or an error.
    #[test]
    fn no_archive_panics(
        form in 0..3usize,
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let image = TestImage::same_layer_twice().expect("made");
        let entries = match form {
            0 => image.docker_classic_entries(&["app:1"]),
            1 => image.docker_25_entries(&["app:1"]),
            _ => image.layout_entries(None),
        };
        let mut bytes = Vec::new();
        write_tar(&mut bytes, &entries.expect("made")).expect("written");
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let dir = tempdir().expect("a directory");
        std::fs::write(dir.path().join("x.tar"), bytes).expect("written");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            if let Ok(taken) = take_text("x.tar", dir.path()).await {
                let _ = give_text(&taken, "oci:out", dir.path()).await;
            }
        });
    }
}
