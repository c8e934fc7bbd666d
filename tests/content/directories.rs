//! Plain directories, packed and unpacked, and artifacts that were made to do harm.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::digest::Digest;
use idp_oci::manifest::Manifest;
use idp_oci::media;
use idp_oci::sink::{DirectorySink, Limits};
use idp_oci::source::{DIRECTORY_TYPE, TITLE, UNPACK, UNPACK_DIGEST};
use idp_test_support::images::{Content, TarEntry, TestImage, write_tar};
use tempfile::tempdir;

use crate::drive::{Taken, files, give, give_text, take_text};

fn tree(root: &Path) {
    std::fs::create_dir_all(root.join("b/empty")).expect("made");
    std::fs::create_dir_all(root.join("a")).expect("made");
    std::fs::write(root.join("a/run.sh"), "#!/bin/sh\n").expect("written");
    std::fs::set_permissions(root.join("a/run.sh"), PermissionsExt::from_mode(0o700)).expect("set");
    std::fs::write(root.join("b/ümlaut.txt"), "ä").expect("written");
    std::fs::write(root.join("a-b"), "").expect("written");
    std::fs::write(root.join("z"), vec![7; 70_000]).expect("written");
    symlink("../z", root.join("a/link")).expect("linked");
    symlink("b", root.join("c")).expect("linked");
}

#[tokio::test]
async fn a_tree_comes_back_and_has_one_digest() {
    let dir = tempdir().expect("a directory");
    for name in ["one", "two"] {
        tree(&dir.path().join(name));
    }
    let taken = take_text("./one", dir.path()).await.expect("packed");
    let other = take_text("./two", dir.path()).await.expect("packed");
    assert_eq!(taken.root().bytes(), other.root().bytes());
    assert_eq!(taken.root().artifact_type(), Some(DIRECTORY_TYPE));
    // Golden: a change of this digest is a change of the format, or of the pinned compressor.
    insta::assert_snapshot!(String::from_utf8_lossy(taken.root().bytes()), @r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.idp.directory.v1","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:370ea9b97c575e9dc5aaded1e69294d7b9beb9e469f95ccba9c0c1cc8d94fb71","size":540,"annotations":{"io.deis.oras.content.digest":"sha256:30fe3189440509491740e729fb774a3d699a948c4e96d903a02db27f7b6d7a29","io.deis.oras.content.unpack":"true","org.opencontainers.image.title":"."}}]}"#);
    taken.contents().await;

    give_text(&taken, "out", dir.path()).await.expect("unpacked");
    let out = dir.path().join("out");
    assert_eq!(files(&out), ["a-b", "a/link", "a/run.sh", "b/ümlaut.txt", "c/ümlaut.txt", "z"]);
    assert!(out.join("b/empty").is_dir() && out.join("c/empty").is_dir());
    assert_eq!(std::fs::read(out.join("a/link")).expect("read"), vec![7; 70_000]);
    let mode = |path: &str| std::fs::metadata(out.join(path)).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode("a/run.sh") & 0o111 != 0, mode("z") & 0o111, mode("") & 0o700), (true, 0, 0o700));
    // Packed again it is the same: links have become files and nothing else has changed.
    let again = take_text("./out", dir.path()).await.expect("packed");
    assert_eq!(again.root().bytes(), taken.root().bytes());
    assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 3, "something was left behind");
}

#[tokio::test]
async fn what_would_not_unpack_everywhere_is_refused() {
    type Make<'a> = &'a dyn Fn(&Path);
    let cases: [(Make<'_>, &str); 9] = [
        (&|dir| symlink("/etc/passwd", dir.join("x")).expect("linked"), "absolute target"),
        (&|dir| symlink("../..", dir.join("x")).expect("linked"), "leads out of the directory"),
        (&|dir| symlink("absent", dir.join("x")).expect("linked"), "leads nowhere"),
        (&|dir| symlink(".", dir.join("x")).expect("linked"), "a directory above it"),
        (&|dir| std::fs::write(dir.join("a\\b"), "").expect("written"), "backslash"),
        (&|dir| std::fs::write(dir.join("a.."), "").expect("written"), "ends in `..`"),
        (&|dir| std::fs::write(dir.join("a\nb"), "").expect("written"), "control character"),
        (
            &|dir| {
                std::fs::write(dir.join("Readme"), "").expect("written");
                std::fs::write(dir.join("README"), "").expect("written");
            },
            "differ only by case",
        ),
        (
            &|dir| drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).expect("bound")),
            "neither a file nor a directory",
        ),
    ];
    for (make, expect) in cases {
        let dir = tempdir().expect("a directory");
        make(dir.path());
        let error = take_text(".", dir.path()).await.expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    }
}

/// Bytes, media type, annotations.
type Layer<'a> = (Vec<u8>, &'a str, &'a [(&'a str, &'a str)]);

fn artifact(layers: &[Layer<'_>]) -> Taken {
    let config = Blob::from_bytes(media::OCI_EMPTY, Bytes::from_static(b"{}"));
    let mut blobs = vec![config];
    let mut parts = Vec::new();
    for (bytes, media_type, annotations) in layers {
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        parts.push(serde_json::json!({
            "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len(), "annotations": annotations,
        }));
        blobs.push(Blob::from_bytes(*media_type, bytes.clone().into()));
    }
    let config = serde_json::json!({ "mediaType": media::OCI_EMPTY, "digest": Digest::of(b"{}"), "size": 2 });
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": parts });
    let manifest = Manifest::parse(manifest.to_string().into(), None).expect("a manifest");
    Taken { manifests: vec![manifest], blobs, name: None }
}

fn packed(entries: &[TarEntry]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write_tar(&mut gz, entries).expect("written");
    gz.finish().expect("compressed")
}

const UNPACKED: &[(&str, &str)] = &[(TITLE, "."), (UNPACK, "true")];

#[tokio::test]
async fn files_with_titles_as_oras_makes_them() {
    let dir = tempdir().expect("a directory");
    let tar = packed(&[TarEntry::Directory("d/".into()), TarEntry::file("d/x", *b"in d")]);
    let taken = artifact(&[
        (b"one".to_vec(), "text/plain", &[(TITLE, "a.txt")]),
        (b"one".to_vec(), "text/plain", &[(TITLE, "sub/b.txt")]),
        (tar, media::OCI_LAYER_GZIP, &[(TITLE, "d"), (UNPACK, "true")]),
        (b"no title".to_vec(), "text/plain", &[]),
    ]);
    give_text(&taken, "out", dir.path()).await.expect("unpacked");
    assert_eq!(files(&dir.path().join("out")), ["a.txt", "d/x", "sub/b.txt"]);
    assert_eq!(std::fs::read(dir.path().join("out/sub/b.txt")).expect("read"), b"one");
}

#[tokio::test]
async fn hostile_artifacts_leave_nothing() {
    let file = |path: &str| packed(&[TarEntry::file(path, *b"x")]);
    let annotated = |bytes: Vec<u8>| artifact(&[(bytes, media::OCI_LAYER_GZIP, UNPACKED)]);
    let bomb = {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        write_tar(&mut gz, &[]).expect("written");
        for _ in 0..80 {
            gz.write_all(&zeros).expect("written");
        }
        gz.finish().expect("compressed")
    };
    let mut trailing = file("x");
    trailing.extend(b"garbage");
    let many: Vec<_> = (0..30).map(|number| TarEntry::file(format!("{number}"), *b"")).collect();
    let wide = packed(&[TarEntry::File("wide".into(), Content::Bytes(vec![1; 5000]))]);
    let cases: Vec<(Taken, &str)> = vec![
        (annotated(file("../escape")), "`../escape` is refused"),
        (annotated(file("/etc/escape")), "an absolute path"),
        (annotated(file("a/../../escape")), "is refused"),
        (annotated(packed(&[TarEntry::Symlink("l".into(), "/tmp".into())])), "`l` is a symbolic link"),
        (annotated(packed(&[TarEntry::Hardlink("l".into(), "/etc/passwd".into())])), "`l` is a hard link"),
        (annotated(packed(&[TarEntry::Special("d".into(), b'4')])), "`d` is neither a file nor a directory"),
        (annotated(packed(&[TarEntry::Special("f".into(), b'6')])), "`f` is neither a file nor a directory"),
        (annotated(packed(&[TarEntry::file("x", *b"1"), TarEntry::file("x", *b"2")])), "`x` stands twice"),
        (annotated(packed(&[TarEntry::file("x", *b"1"), TarEntry::file("x/y", *b"2")])), "`x` stands twice"),
        (annotated(packed(&many)), "more than 20 files and directories"),
        (annotated(wide), "at most 4000 are unpacked"),
        (annotated(bomb), "a decompression bomb"),
        (annotated(trailing), "cannot be unpacked"),
        (annotated(b"no gzip".to_vec()), "cannot be unpacked"),
        (artifact(&[(b"x".to_vec(), "a/b", &[(TITLE, "../x")])]), "`../x` is refused"),
        (
            artifact(&[(b"x".to_vec(), "a/b", &[(TITLE, "x")]), (b"y".to_vec(), "a/b", &[(TITLE, "./x")])]),
            "two layers",
        ),
        (
            artifact(&[(file("other"), media::OCI_LAYER_GZIP, &[(TITLE, "d"), (UNPACK, "true")])]),
            "lies outside of `d`",
        ),
        (
            artifact(&[(
                file("x"),
                media::OCI_LAYER_GZIP,
                &[
                    (TITLE, "."),
                    (UNPACK, "true"),
                    (
                        UNPACK_DIGEST,
                        "sha256:0000000000000000000000000000000000000000000000000000000000000000",
                    ),
                ],
            )]),
            "is announced as sha256:0000",
        ),
        (artifact(&[(b"x".to_vec(), "a/b", &[])]), "whose layers have no file names"),
    ];
    for (taken, expect) in cases {
        let dir = tempdir().expect("a directory");
        let limits = Limits { entries: 20, bytes: 4000, ratio: 1 };
        let sink = DirectorySink::with_limits(dir.path().join("out"), limits);
        let error = give(&taken, Box::new(sink), None).await.expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}, not {expect}");
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("read").count(),
            0,
            "{expect}: something was left behind"
        );
    }
}

#[tokio::test]
async fn images_and_full_directories_are_refused() {
    let dir = tempdir().expect("a directory");
    let base = dir.path();
    TestImage::one_layer().and_then(|image| image.write_layout(&base.join("image"), None)).expect("written");
    TestImage::index().and_then(|image| image.write_layout(&base.join("index"), None)).expect("written");
    std::fs::create_dir(base.join("full")).expect("made");
    std::fs::write(base.join("full/x"), "mine").expect("written");
    std::fs::create_dir(base.join("empty")).expect("made");
    let text = artifact(&[(b"x".to_vec(), "a/b", &[(TITLE, "x")])]);
    for (taken, to, expect) in [
        (&take_text("image", base).await.expect("read"), "out", "this is a container image, not a directory"),
        (&take_text("index", base).await.expect("read"), "out", "an index of several images"),
        (&text, "full", "is not empty"),
        (&text, "absent/out", "there is no directory"),
    ] {
        let error = give_text(taken, to, base).await.expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    }
    assert_eq!(files(&base.join("full")), ["x"]);
    give_text(&text, "empty", base).await.expect("an empty one is filled");
    assert_eq!(files(&base.join("empty")), ["x"]);
}
