//! OCI layouts in directories and archives, as source and as sink.

use idp_oci::blob::{Blob, Chunks};
use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Manifest, Platform};
use idp_oci::media;
use idp_oci::sink::{Have, LayoutSink, Plan, Sink as _, SinkError};
use idp_oci::source::{LayoutSource, Selection};
use idp_test_support::images::TestImage;
use idp_test_support::peers;
use tempfile::tempdir;

use crate::drive::{files, give_text, take, take_text};

fn samples() -> Vec<(&'static str, TestImage)> {
    let made = [
        ("one layer", TestImage::one_layer()),
        ("60 layers", TestImage::layers(60)),
        ("index", TestImage::index()),
        ("foreign layer", TestImage::foreign_layer()),
        ("empty layer", TestImage::empty_layer()),
        ("twice the same", TestImage::same_layer_twice()),
        ("config equals layer", TestImage::config_equals_layer()),
        ("no layers", TestImage::no_layers()),
        ("big", TestImage::big(5 << 20)),
        ("eight deep", TestImage::one_layer().and_then(|image| image.nested(7))),
    ];
    made.map(|(name, image)| (name, image.expect(name))).into()
}

fn platform(os: &str, architecture: &str) -> Platform {
    let value = serde_json::json!({ "os": os, "architecture": architecture });
    serde_json::from_value(value).expect("a platform")
}

#[tokio::test]
async fn every_image_survives_every_form() {
    for (name, image) in samples() {
        let dir = tempdir().expect("a directory");
        let base = dir.path();
        image.write_layout(&base.join("in"), Some("1")).expect("written");
        image.write_oci_archive(&base.join("in.tar"), Some("1")).expect("written");
        for (from, to, back) in [
            ("oci:in:1", "oci:out:2", "oci:out:2"),
            ("oci:in", "oci-archive:out.tar", "oci-archive:out.tar:1"),
            ("in.tar", "oci:from-archive", "from-archive"),
            ("oci-archive:in.tar:1", "oci-archive:again.tar:x", "again.tar"),
        ] {
            let taken = take_text(from, base).await.unwrap_or_else(|error| panic!("{name}: {from}: {error}"));
            assert_eq!(taken.root().digest().as_str(), image.digest(), "{name}");
            let contents = taken.contents().await;
            assert_eq!(contents.len() + taken.manifests.len(), image.contents.len(), "{name}");
            for (digest, bytes) in &contents {
                let expected = image.contents[digest.as_str()].bytes().expect("made");
                assert!(*bytes == expected, "{name}: {digest}");
            }
            give_text(&taken, to, base).await.unwrap_or_else(|error| panic!("{name}: {to}: {error}"));
            let again = take_text(back, base).await.unwrap_or_else(|error| panic!("{name}: {back}: {error}"));
            assert_eq!(again.root().bytes(), taken.root().bytes(), "{name}");
            assert!(again.contents().await == contents, "{name}");
        }
        assert!(files(base).iter().all(|file| !file.contains(".idp-")), "{:?}", files(base));
    }
}

#[tokio::test]
async fn archives_are_the_same_bytes_every_time() {
    let dir = tempdir().expect("a directory");
    TestImage::index().and_then(|image| image.write_layout(&dir.path().join("in"), None)).expect("written");
    let taken = take_text("in", dir.path()).await.expect("read");
    for name in ["a.tar", "b.tar"] {
        give_text(&taken, &format!("oci-archive:{name}"), dir.path()).await.expect("written");
    }
    let read = |name: &str| std::fs::read(dir.path().join(name)).expect("read");
    assert!(read("a.tar") == read("b.tar"));
}

#[tokio::test]
async fn a_platform_becomes_the_root() {
    let dir = tempdir().expect("a directory");
    let image = TestImage::index().and_then(|image| image.nested(2)).expect("made");
    image.write_layout(dir.path(), None).expect("written");
    let open = || Box::new(LayoutSource::new(dir.path(), None));
    let select = |platform| Selection { platform: Some(platform), ..Selection::default() };
    let taken = take(open(), &select(platform("linux", "arm64"))).await.expect("read");
    assert_eq!((taken.manifests.len(), taken.blobs.len()), (1, 3));
    let config =
        taken.contents().await.into_values().find(|bytes| bytes.starts_with(b"{")).expect("a config");
    assert!(String::from_utf8_lossy(&config).contains("arm64"));

    let error =
        take(open(), &select(platform("windows", "amd64"))).await.expect_err("no such one").to_string();
    assert!(
        error.contains("no image for windows/amd64; it has linux/amd64, linux/arm64/v8, linux/arm/v7"),
        "{error}"
    );

    let single = tempdir().expect("a directory");
    TestImage::one_layer().and_then(|image| image.write_layout(single.path(), None)).expect("written");
    let open = || Box::new(LayoutSource::new(single.path(), None));
    assert!(take(open(), &select(platform("linux", "amd64"))).await.is_ok());
    assert!(take(open(), &select(platform("linux", "s390x"))).await.is_err());
}

#[tokio::test]
async fn a_sparse_index_is_moved_as_it_is() {
    let dir = tempdir().expect("a directory");
    let mut image = TestImage::index().expect("made");
    let digest = image.contents.keys().find(|digest| {
        let bytes = image.contents[*digest].bytes().expect("made");
        bytes.starts_with(b"{") && String::from_utf8_lossy(&bytes).contains("layers\":[{")
    });
    let digest = digest.expect("a manifest").clone();
    image.contents.remove(&digest);
    image.write_layout(dir.path(), None).expect("written");
    let taken = take_text(".", dir.path()).await.expect("read");
    assert_eq!((taken.manifests.len(), taken.root().digest().as_str()), (3, image.digest()));
}

#[tokio::test]
async fn what_is_wrong_with_a_layout_is_said() {
    let image = TestImage::one_layer().expect("made");
    let layer =
        image.contents.iter().find(|(_, content)| content.bytes().is_ok_and(|bytes| bytes[0] == 0x1f));
    let layer = format!("blobs/{}", layer.expect("a layer").0.replacen(':', "/", 1));
    let manifest = format!("blobs/{}", image.digest().replacen(':', "/", 1));
    let deep = TestImage::one_layer().and_then(|image| image.nested(8)).expect("made");
    type Break<'a> = &'a dyn Fn(&std::path::Path);
    let cases: [(&TestImage, Break<'_>, &str); 7] = [
        (&image, &|dir| std::fs::remove_file(dir.join("index.json")).expect("removed"), "is no OCI layout"),
        (&image, &|dir| std::fs::write(dir.join("index.json"), "{").expect("written"), "not valid"),
        (&image, &|dir| std::fs::remove_file(dir.join(&layer)).expect("removed"), "is missing"),
        (
            &image,
            &|dir| std::fs::write(dir.join(&layer), "x").expect("written"),
            "has 1 bytes, and its descriptor says",
        ),
        (&image, &|dir| std::fs::remove_file(dir.join(&manifest)).expect("removed"), "is missing"),
        (
            &image,
            &|dir| {
                let path = dir.join(&manifest);
                let text = std::fs::read_to_string(&path).expect("read").replace("layers", "lasers");
                std::fs::write(path, text).expect("written");
            },
            "is damaged: its bytes hash to",
        ),
        (&deep, &|_| {}, "nested more than 8 deep"),
    ];
    for (image, damage, expect) in cases {
        let dir = tempdir().expect("a directory");
        image.write_layout(dir.path(), None).expect("written");
        damage(dir.path());
        let error = take_text(&format!("oci:{}", dir.path().display()), dir.path())
            .await
            .expect_err(expect)
            .to_string();
        assert!(error.contains(expect), "{error}");
    }
}

#[tokio::test]
async fn several_images_are_chosen_by_name() {
    let dir = tempdir().expect("a directory");
    for (count, tag) in [(1, "one"), (2, "two")] {
        let other = tempdir().expect("a directory");
        TestImage::layers(count).and_then(|image| image.write_layout(other.path(), None)).expect("written");
        let taken = take_text(".", other.path()).await.expect("read");
        give_text(&taken, &format!("oci:out:{tag}"), dir.path()).await.expect("written");
    }
    let two = take_text("oci:out:two", dir.path()).await.expect("read");
    assert_eq!((two.blobs.len(), two.name.as_deref()), (3, None));
    let by_digest = take_text(&format!("oci:out@{}", two.root().digest()), dir.path()).await.expect("read");
    assert_eq!(by_digest.root().digest(), two.root().digest());
    let error = take_text("oci:out", dir.path()).await.expect_err("two").to_string();
    assert!(error.contains("several images, choose one; it holds: one, two"), "{error}");
    let error = take_text("oci:out:three", dir.path()).await.expect_err("absent").to_string();
    assert!(error.contains("no image `three`; it holds: one, two"), "{error}");

    // The same name again takes the name away from the first.
    give_text(&two, "oci:out:one", dir.path()).await.expect("written");
    let one = take_text("oci:out:one", dir.path()).await.expect("read");
    assert_eq!(one.root().digest(), two.root().digest());
}

#[tokio::test]
async fn entries_that_others_wrote_are_kept() {
    let dir = tempdir().expect("a directory");
    let image = TestImage::one_layer().expect("made");
    image.write_layout(&dir.path().join("in"), Some("theirs")).expect("written");
    let path = dir.path().join("in/index.json");
    let text = std::fs::read_to_string(&path).expect("read").replacen('{', r#"{"x-extra":{"b":1,"a":2},"#, 1);
    std::fs::write(&path, text).expect("written");
    let taken = take_text("in", dir.path()).await.expect("read");
    give_text(&taken, "oci:in:ours", dir.path()).await.expect("written");
    let after: serde_json::Value = serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON");
    assert_eq!(after["x-extra"]["b"], 1);
    assert_eq!(after["manifests"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_damaged_blob_is_written_again_and_damaged_content_is_refused() {
    let dir = tempdir().expect("a directory");
    TestImage::one_layer()
        .and_then(|image| image.write_layout(&dir.path().join("in"), None))
        .expect("written");
    let taken = take_text("in", dir.path()).await.expect("read");
    give_text(&taken, "oci:out", dir.path()).await.expect("written");
    let digest = &taken.blobs[1].descriptor.digest;
    let path = dir.path().join(format!("out/blobs/sha256/{}", digest.hex()));
    let good = std::fs::read(&path).expect("read");
    let mut bad = good.clone();
    bad[20] ^= 1;
    std::fs::write(&path, &bad).expect("written");
    give_text(&taken, "oci:out", dir.path()).await.expect("repaired");
    assert!(std::fs::read(&path).expect("read") == good);

    // The other way round: what comes is damaged. Nothing of it stays, and the layout stays as it was.
    let file = std::fs::File::open(dir.path().join("bad")).or_else(|_| {
        std::fs::write(dir.path().join("bad"), &bad)?;
        std::fs::File::open(dir.path().join("bad"))
    });
    let mut damaged = take_text("in", dir.path()).await.expect("read");
    let descriptor = damaged.blobs[1].descriptor.clone();
    damaged.blobs[1] = Blob::from_file(descriptor, file.expect("a file").into(), 0);
    for destination in ["oci:fresh", "oci-archive:fresh.tar"] {
        let error = give_text(&damaged, destination, dir.path()).await.expect_err("damaged").to_string();
        assert!(error.contains("is damaged: what came hashes to"), "{error}");
    }
    assert!(!dir.path().join("fresh.tar").exists());
    assert_eq!(files(&dir.path().join("fresh")).iter().filter(|file| file.contains(digest.hex())).count(), 0);
    let error = take_text("oci:fresh", dir.path()).await.expect_err("empty").to_string();
    assert!(error.contains("has no images"), "{error}");
}

#[tokio::test]
async fn many_write_to_one_layout() {
    let dir = tempdir().expect("a directory");
    let mut writers = Vec::new();
    for count in 1..9 {
        let input = tempdir().expect("a directory");
        TestImage::layers(count).and_then(|image| image.write_layout(input.path(), None)).expect("written");
        let taken = take_text(".", input.path()).await.expect("read");
        let base = dir.path().to_owned();
        let destination = format!("oci:out:{count}");
        writers.push(async move { give_text(&taken, &destination, &base).await });
    }
    for result in futures_util::future::join_all(writers).await {
        result.expect("written");
    }
    for count in 1..9 {
        let taken = take_text(&format!("oci:out:{count}"), dir.path()).await.expect("read");
        assert_eq!(taken.blobs.len(), count + 1);
    }
}

#[tokio::test]
async fn what_is_no_layout_is_not_written_into() {
    let dir = tempdir().expect("a directory");
    std::fs::write(dir.path().join("precious"), "x").expect("written");
    let input = tempdir().expect("a directory");
    TestImage::one_layer().and_then(|image| image.write_layout(input.path(), None)).expect("written");
    let taken = take_text(".", input.path()).await.expect("read");
    let error = give_text(&taken, "oci:.", dir.path()).await.expect_err("not empty").to_string();
    assert!(error.contains("is not empty and no OCI layout"), "{error}");
    assert_eq!(files(dir.path()), ["precious"]);
    for (to, expect) in
        [("oci-archive:.", "is a directory"), ("oci-archive:absent/x.tar", "there is no directory")]
    {
        let error = give_text(&taken, to, dir.path()).await.expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    }
}

#[tokio::test]
async fn a_sink_that_missed_a_blob_does_not_finish() {
    let dir = tempdir().expect("a directory");
    let input = tempdir().expect("a directory");
    TestImage::one_layer().and_then(|image| image.write_layout(input.path(), None)).expect("written");
    let taken = take_text(".", input.path()).await.expect("read");
    let mut sink = Box::new(LayoutSink::new(dir.path().join("out"), None));
    sink.begin(&taken.plan(None)).await.expect("begun");
    assert!(sink.finish().await.expect_err("missing").to_string().contains("never received"));
    assert!(take_text("oci:out", dir.path()).await.expect_err("empty").to_string().contains("has no images"));
}

/// A manifest may claim that something has no bytes. What is there of it, which is nothing, does not hash to its name.
#[tokio::test]
async fn nothing_is_not_taken_for_a_blob_of_no_bytes() {
    let dir = tempdir().expect("a directory");
    let mut sink = Box::new(LayoutSink::new(dir.path().join("out"), None));
    let (config, layer) = (Blob::from_bytes(media::OCI_CONFIG, "{}".into()), Digest::of(b"some bytes"));
    let claimed = Descriptor::new(media::OCI_LAYER, layer.clone(), 0);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": { "mediaType": media::OCI_CONFIG, "digest": config.descriptor.digest, "size": 2 },
        "layers": [{ "mediaType": media::OCI_LAYER, "digest": layer, "size": 0 }],
    });
    let manifest = Manifest::parse(manifest.to_string().into(), None).expect("a manifest");
    let plan =
        Plan { blobs: vec![config.descriptor, claimed.clone()], manifests: vec![manifest], reference: None };
    sink.begin(&plan).await.expect("begun");
    assert!(!matches!(sink.have(&claimed).await, Have::All));
    let none: Chunks = Box::pin(futures_util::stream::empty());
    assert!(matches!(sink.blob(&claimed, none).await, Err(SinkError::Corrupt(_))));
}

/// A second opinion: skopeo checks every digest of what it copies, and writes archives of its own.
#[tokio::test]
async fn skopeo_reads_what_is_written_and_writes_what_is_read() {
    let skopeo = |base: &std::path::Path, from: &str, to: &str| {
        let command = std::process::Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--all", from, to])
            .current_dir(base)
            .output();
        match command {
            Ok(output) => {
                assert!(output.status.success(), "{from}: {}", String::from_utf8_lossy(&output.stderr));
                true
            }
            Err(_) => {
                let absent = peers::Unavailable::NotInstalled { program: "skopeo", package: "skopeo" };
                peers::require(Err::<(), _>(absent), "skopeo").is_some()
            }
        }
    };
    for image in [TestImage::layers(3), TestImage::index(), TestImage::same_layer_twice()] {
        let image = image.expect("made");
        let dir = tempdir().expect("a directory");
        image.write_layout(&dir.path().join("in"), None).expect("written");
        let taken = take_text("in", dir.path()).await.expect("read");
        give_text(&taken, "oci:out:1", dir.path()).await.expect("written");
        give_text(&taken, "oci-archive:out.tar:1", dir.path()).await.expect("written");
        for (from, to) in
            [("oci:out:1", "oci:theirs:1"), ("oci-archive:out.tar:1", "oci-archive:theirs.tar:1")]
        {
            if !skopeo(dir.path(), from, to) {
                return;
            }
            let back = take_text(to, dir.path()).await.expect("read");
            assert_eq!(back.root().digest(), taken.root().digest());
        }
        if taken.manifests.len() == 1 {
            skopeo(dir.path(), "oci:out:1", "docker-archive:docker.tar:app:1");
            let back = take_text("docker-archive:docker.tar:app:1", dir.path()).await.expect("read");
            assert_eq!(back.name.as_deref(), Some("app:1"));
            back.contents().await;
        }
    }
}
