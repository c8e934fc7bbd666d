//! Cases 70 to 72: archives that were made to do harm, on their way into a directory; and those of `docker save` that are merely odd.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Shape};
use idp_oci::media;
use idp_oci::sink::{DirectorySink, Limits, Plan, Sink as _};
use idp_oci::source::{DockerSource, Offer, Selection, Source, SourceError, TITLE, UNPACK};
use idp_test_support::faults::{Fault, Registry, Server, on};
use idp_test_support::images::{TarEntry, TestImage, write_tar};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio::sync::{Notify, mpsc};

use crate::client;
use crate::support_b::{Memory, entry, holds, is_tagged, parse, pull_to, push_source};

const GZIP: &str = media::OCI_LAYER_GZIP;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("compressed")
}

fn tar_of(entries: &[TarEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_tar(&mut bytes, entries).expect("written");
    bytes
}

/// A header that no honest writer makes, and its body.
fn raw(name: &[u8], kind: u8, mode: u32, body: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let fields = header.as_ustar_mut().expect("ustar");
    fields.name[..name.len()].copy_from_slice(name);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(mode);
    header.set_size(body.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A PAX record, which counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut bytes = format!("{length} {key}=").into_bytes();
    bytes.extend(value);
    bytes.push(b'\n');
    bytes
}

fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    raw(b"PaxHeaders/x", b'x', 0o644, &record(key, value))
}

fn file(name: &str) -> Vec<u8> {
    raw(name.as_bytes(), b'0', 0o644, b"body")
}

const END: [u8; 1024] = [0; 1024];

/// An artifact of these layers, each to be unpacked into the directory itself.
fn artifact(layers: Vec<(Vec<u8>, &str)>) -> Memory {
    let config = Blob::from_bytes(media::OCI_EMPTY, Bytes::from_static(b"{}"));
    let (mut blobs, mut parts) = (vec![config.clone()], Vec::new());
    for (bytes, media_type) in layers {
        let blob = Blob::from_bytes(media_type, bytes.into());
        let mut part = entry(&blob.descriptor);
        part["annotations"] = json!({ TITLE: if parts.is_empty() { "." } else { "second" }, UNPACK: "true" });
        parts.push(part);
        blobs.push(blob);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": entry(&config.descriptor), "layers": parts,
    });
    Memory { blobs, manifests: vec![parse(&manifest)] }
}

/// Pulls an artifact into `out` of a new directory.
async fn unpack_all(artifact: Memory, limits: Limits) -> (Result<(), String>, TempDir) {
    let server = Server::start(Registry::default()).await;
    holds(&server, &artifact);
    let dir = tempdir().expect("a directory");
    let sink = DirectorySink::with_limits(dir.path().join("out"), limits);
    let pulled = pull_to(&client(&server), Box::new(sink)).await;
    (pulled.map(|_| ()).map_err(|error| error.to_string()), dir)
}

/// A tar, compressed, as the only layer.
async fn unpack(tar: &[u8]) -> (Result<(), String>, TempDir) {
    unpack_all(artifact(vec![(gzip(tar), GZIP)]), Limits::default()).await
}

/// Refused with a text that contains `expect`, and nothing is left, neither in the destination nor beside it.
async fn refused(tar: &[u8], expect: &str) {
    let (result, dir) = unpack(tar).await;
    let told = result.expect_err(expect);
    assert!(told.contains(expect), "{told}, not {expect}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0, "{expect}: something was left");
}

/// Names that lead out of the directory: absolute, with `..` anywhere, or without any name at all.
#[tokio::test]
async fn case_70a_names_that_lead_outside() {
    for name in ["/etc/escape", "//escape", "../escape", "a/../../escape", "./../escape", "a/..", "..", "../"]
    {
        refused(&[file(name), END.to_vec()].concat(), "is refused").await;
    }
    for name in ["", ".", "./"] {
        refused(&[file(name), END.to_vec()].concat(), "").await;
    }
    for name in ["a\\..\\..\\escape", "a\nb", "a\u{1b}[2J"] {
        refused(&[file(name), END.to_vec()].concat(), "is refused").await;
    }
}

/// Links are not made, whatever they point to, so that nothing is written through them, alone or in chains.
#[tokio::test]
async fn case_70b_links_and_chains_of_links() {
    let outside = tempdir().expect("a directory");
    let target = outside.path().display().to_string();
    std::fs::write(outside.path().join("victim"), "mine").expect("written");
    let link = |name: &str, to: &str| TarEntry::Symlink(name.into(), to.into());
    let hard = |name: &str, to: &str| TarEntry::Hardlink(name.into(), to.into());
    let inside = || TarEntry::file("x", *b"x");
    for (entries, expect) in [
        (vec![link("l", &target), TarEntry::file("l/victim", *b"theirs")], "`l` is a symbolic link"),
        (vec![link("l", ".."), TarEntry::file("l/escape", *b"x")], "`l` is a symbolic link"),
        (vec![inside(), link("l", "x")], "`l` is a symbolic link"),
        // A chain whose links are each harmless, joined word by word (CVE-2026-85731).
        (
            vec![
                TarEntry::Directory("d/".into()),
                link("d/up", ".."),
                link("e", "d/up/.."),
                TarEntry::file("e/escape", *b"x"),
            ],
            "`d/up` is a symbolic link",
        ),
        // A hard link that would be looked up from where the process stands (CVE-2026-50163).
        (vec![hard("l", "/etc/passwd")], "`l` is a hard link"),
        (vec![hard("l", "Cargo.toml"), TarEntry::file("l", *b"x")], "`l` is a hard link"),
        (vec![hard("l", &format!("{target}/victim"))], "`l` is a hard link"),
        (vec![inside(), hard("l", "x")], "`l` is a hard link"),
    ] {
        refused(&tar_of(&entries), expect).await;
    }
    assert_eq!(std::fs::read(outside.path().join("victim")).expect("read"), b"mine");
    assert_eq!(std::fs::read_dir(outside.path()).expect("read").count(), 1);
}

/// Symbolic links that were there before: as the destination, and put into the half-made tree by somebody else meanwhile.
#[tokio::test]
async fn case_70c_links_that_were_there_before() {
    let (base, outside) = (tempdir().expect("a directory"), tempdir().expect("a directory"));
    symlink(outside.path(), base.path().join("out")).expect("linked");
    let image = artifact(vec![(gzip(&[file("d/x"), END.to_vec()].concat()), GZIP)]);
    let server = Server::start(Registry::default()).await;
    holds(&server, &image);
    let sink = DirectorySink::new(base.path().join("out"));
    let _ = pull_to(&client(&server), Box::new(sink)).await;
    assert_eq!(
        std::fs::read_dir(outside.path()).expect("read").count(),
        0,
        "written through the destination"
    );

    let base = tempdir().expect("a directory");
    let mut sink = DirectorySink::new(base.path().join("out"));
    let layer = image.blobs[1].clone();
    let plan =
        Plan { manifests: image.manifests.clone(), blobs: vec![layer.descriptor.clone()], reference: None };
    sink.begin(&plan).await.expect("begun");
    let half = std::fs::read_dir(base.path()).expect("read").next().expect("one").expect("an entry").path();
    symlink(outside.path(), half.join("d")).expect("linked");
    let error = sink.blob(&layer.descriptor, layer.read_from(0)).await.expect_err("a link is in the way");
    Box::new(sink).abort().await;
    assert_eq!(std::fs::read_dir(outside.path()).expect("read").count(), 0, "{error}");
    assert_eq!(std::fs::read_dir(base.path()).expect("read").count(), 0, "{error}");
}

/// Devices, pipes and sparse files are refused; of modes only the execute bit is kept.
#[tokio::test]
async fn case_70d_special_files_and_modes() {
    for kind in [b'3', b'4', b'6', b'S', b'D', b'M', b'V', b'Z'] {
        refused(&tar_of(&[TarEntry::Special("s".into(), kind)]), "`s` is neither a file nor a directory")
            .await;
    }
    let sparse = [pax("GNU.sparse.major", b"1"), file("s"), END.to_vec()].concat();
    refused(&sparse, "`s` is neither a file nor a directory").await;

    let tar = [
        raw(b"set", b'0', 0o7755, b"x"),
        raw(b"plain", b'0', 0o6644, b"x"),
        raw(b"d/", b'5', 0o7777, b""),
        END.to_vec(),
    ];
    let (result, dir) = unpack(&tar.concat()).await;
    result.expect("unpacked");
    let mode = |path: &str| {
        std::fs::symlink_metadata(dir.path().join("out").join(path)).expect("there").permissions().mode()
    };
    assert_eq!([mode("set") & 0o7000, mode("plain") & 0o7111, mode("d") & 0o6000], [0, 0, 0]);
    assert_ne!(mode("set") & 0o100, 0);
}

/// Names in PAX and GNU headers are held to the same rules, bounded, and counted as what they are.
#[tokio::test]
async fn case_70e_extended_headers() {
    let long = |name: &[u8]| raw(b"././@LongLink", b'L', 0o644, name);
    let end = || END.to_vec();
    for (parts, expect) in [
        (vec![pax("path", b"../escape"), file("innocent"), end()], "is refused"),
        (vec![pax("path", b"/etc/escape"), file("innocent"), end()], "an absolute path"),
        (vec![long(b"../escape\0"), file("innocent"), end()], "is refused"),
        // One on the other: whichever counts, it is looked at.
        (vec![pax("path", b"fine"), long(b"../escape\0"), file("innocent"), end()], "is refused"),
        (vec![pax("linkpath", b"/etc/passwd"), raw(b"l", b'2', 0o777, b""), end()], "is a symbolic link"),
        // NUL in names.
        (vec![pax("path", b"a\0/../../escape"), file("innocent"), end()], "NUL"),
        (vec![long(b"a\0b\0"), file("innocent"), end()], "NUL"),
        (vec![pax("path", b"\xff\xfe"), file("innocent"), end()], "UTF-8"),
        // Broken and unbounded ones.
        (vec![raw(b"x", b'x', 0o644, b"9999 path=x\n"), file("innocent"), end()], "PAX record is broken"),
        (vec![raw(b"x", b'x', 0o644, b"path=x\n"), file("innocent"), end()], "PAX record is broken"),
        (vec![pax("size", b"-1"), file("innocent"), end()], "PAX record is broken"),
        (vec![pax("size", b"18446744073709551615"), file("innocent"), end()], "more bytes than there can be"),
        (vec![pax("path", &vec![b'a'; 300 * 1024]), file("innocent"), end()], "extended header of"),
        (vec![long(&vec![b'a'; 300 * 1024]), file("innocent"), end()], "extended header of"),
        (vec![pax("path", "a/".repeat(5000).as_bytes()), file("innocent"), end()], ""),
    ] {
        refused(&parts.concat(), expect).await;
    }
    // The size in a PAX header holds, not that of the header behind it: what lies in between is content, and no member.
    let hidden = file("smuggled");
    let mut carrier = raw(b"carrier", b'0', 0o644, b"");
    carrier.extend(&hidden);
    let size = hidden.len().to_string();
    let tar = [pax("size", size.as_bytes()), carrier, end()].concat();
    let (result, dir) = unpack(&tar).await;
    result.expect("unpacked");
    assert!(!dir.path().join("out/smuggled").exists());
    assert_eq!(std::fs::read(dir.path().join("out/carrier")).expect("read"), hidden);
    // Honest ones.
    let name = "n".repeat(200);
    let tar = [
        pax("path", "ü/ö".as_bytes()),
        file("short"),
        long(format!("{name}\0").as_bytes()),
        file("short"),
        end(),
    ];
    let (result, dir) = unpack(&tar.concat()).await;
    result.expect("unpacked");
    assert!(dir.path().join("out/ü/ö").is_file() && dir.path().join("out").join(name).is_file());
}

/// A layer that is damaged on the way and whole at the second try: what the first try wrote is gone.
#[tokio::test]
async fn case_70h_a_second_try_starts_clean() {
    let tar = [raw(b"d/", b'5', 0o755, b""), file("d/x"), file("y"), END.to_vec()].concat();
    let image = artifact(vec![(gzip(&tar), GZIP)]);
    let server = Server::start(Registry::default()).await;
    holds(&server, &image);
    // Damaged in its last byte: that is noticed when everything has been written.
    let digest = image.blobs[1].descriptor.digest.to_string();
    server.rule(on("GET", &digest, Fault::Corrupt));
    let dir = tempdir().expect("a directory");
    let sink = DirectorySink::with_limits(dir.path().join("out"), Limits { entries: 3, ..Limits::default() });
    pull_to(&client(&server), Box::new(sink)).await.expect("the second try is good");
    assert_eq!(std::fs::read(dir.path().join("out/d/x")).expect("read"), b"body");
    assert_eq!(std::fs::read_dir(dir.path().join("out")).expect("read").count(), 2);
    server.verify();
}

/// A name that stands twice is refused, in one layer and across layers; a directory may stand twice.
#[tokio::test]
async fn case_70f_duplicate_names() {
    let directory = |name: &str| raw(name.as_bytes(), b'5', 0o755, b"");
    let end = || END.to_vec();
    for parts in [
        vec![file("x"), file("x"), end()],
        vec![file("x"), file("./x"), end()],
        vec![file("a/x"), file("a//x"), end()],
        vec![file("x"), directory("x/"), end()],
        vec![directory("x/"), file("x"), end()],
        vec![file("x"), file("x/y"), end()],
    ] {
        refused(&parts.concat(), "stands twice").await;
    }
    let (result, dir) = unpack(&[directory("d/"), file("d/x"), directory("d/"), end()].concat()).await;
    result.expect("unpacked");
    assert!(dir.path().join("out/d/x").is_file());
    let one = gzip(&[file("second/x"), end()].concat());
    let two = gzip(&[file("second/x"), end(), end()].concat());
    let (result, _) = unpack_all(artifact(vec![(one, GZIP), (two, GZIP)]), Limits::default()).await;
    assert!(result.expect_err("twice").contains("stands twice"));
}

/// More files and directories than allowed, those included that are only implied by a name.
#[tokio::test]
async fn case_70g_too_many_entries() {
    let limits = Limits { entries: 20, ..Limits::default() };
    let many: Vec<Vec<u8>> = (0..21).map(|number| file(&number.to_string())).chain([END.to_vec()]).collect();
    let deep = [file(&"d/".repeat(25)[..49]), END.to_vec()].concat();
    for tar in [many.concat(), deep] {
        let (result, dir) = unpack_all(artifact(vec![(gzip(&tar), GZIP)]), limits).await;
        let told = result.expect_err("too many");
        assert!(told.contains("more than 20 files and directories"), "{told}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
    }
    let (result, _) = unpack_all(artifact(vec![(gzip(&many[1..].concat()), GZIP)]), limits).await;
    result.expect("twenty are allowed");
}

/// Far more comes out than went in: in a file, in many, after the end of the tar; and the whole is bounded whatever the ratio.
#[tokio::test]
async fn case_71a_ratio_and_size_are_bounded() {
    let zeros = vec![0; 80 << 20];
    let in_a_file = [raw(b"x", b'0', 0o644, &zeros), END.to_vec()].concat();
    let behind = [file("x"), END.to_vec(), zeros].concat();
    let limits = Limits { ratio: 1, ..Limits::default() };
    for tar in [in_a_file, behind] {
        let (result, dir) = unpack_all(artifact(vec![(gzip(&tar), GZIP)]), limits).await;
        let told = result.expect_err("a bomb");
        assert!(told.contains("a decompression bomb"), "{told}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
    }
    // By what a header says, before anything is written; and over all layers.
    let limits = Limits { bytes: 6000, ..Limits::default() };
    let claim = {
        let mut header = tar::Header::new_ustar();
        header.set_path("x").expect("a name");
        header.set_size(1 << 40);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let part = |name: &str| gzip(&[raw(name.as_bytes(), b'0', 0o644, &[7; 4000]), END.to_vec()].concat());
    for layers in [vec![(gzip(&claim), GZIP)], vec![(part("a"), GZIP), (part("second/b"), GZIP)]] {
        let (result, dir) = unpack_all(artifact(layers), limits).await;
        let told = result.expect_err("too large");
        assert!(told.contains("at most 6000 are unpacked"), "{told}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
    }
}

/// gzip of several members is one tar; archives in archives stay files.
#[tokio::test]
async fn case_71b_members_and_nested_archives() {
    let nested = gzip(&[0; 100_000]);
    let tar = [raw(b"inner.tar.gz", b'0', 0o644, &nested), file("x"), END.to_vec()].concat();
    let members: Vec<u8> = tar.chunks(700).flat_map(gzip).collect();
    let (result, dir) = unpack_all(artifact(vec![(members, GZIP)]), Limits::default()).await;
    result.expect("unpacked");
    assert_eq!(std::fs::read(dir.path().join("out/inner.tar.gz")).expect("read"), nested);
    assert_eq!(std::fs::read(dir.path().join("out/x")).expect("read"), b"body");
}

/// What follows the last member, a member that is cut or damaged, and what is no gzip at all: refused.
#[tokio::test]
async fn case_71c_trailing_garbage_and_damage() {
    let whole = gzip(&[file("x"), END.to_vec()].concat());
    let mut damaged = whole.clone();
    let crc = damaged.len() - 8;
    damaged[crc] ^= 1;
    for bytes in [
        [whole.clone(), b"garbage".to_vec()].concat(),
        [whole.clone(), vec![0x1f, 0x8b]].concat(),
        whole[..whole.len() - 3].to_vec(),
        damaged,
        b"no gzip".to_vec(),
        Vec::new(),
    ] {
        let (result, dir) = unpack_all(artifact(vec![(bytes, GZIP)]), Limits::default()).await;
        let told = result.expect_err("refused");
        assert!(told.contains("cannot be unpacked"), "{told}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
    }
}

/// A zstd frame whose window is 2 GiB is given no memory; what is damaged, cut or a bomb is refused as with gzip, and the rest unpacked.
#[tokio::test]
async fn case_71d_zstd() {
    let frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let whole = zstd(&[file("x"), END.to_vec()].concat());
    let bomb = zstd(&[raw(b"x", b'0', 0o644, &vec![0; 80 << 20]), END.to_vec()].concat());
    let limits = Limits { ratio: 1, ..Limits::default() };
    for bytes in [frame, [&*whole, b"garbage"].concat(), whole[..whole.len() - 3].to_vec(), bomb] {
        let (result, dir) = unpack_all(artifact(vec![(bytes, media::OCI_LAYER_ZSTD)]), limits).await;
        let told = result.expect_err("refused");
        assert!(told.contains("cannot be unpacked"), "{told}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
    }
    let (result, dir) = unpack_all(artifact(vec![(whole, media::OCI_LAYER_ZSTD)]), Limits::default()).await;
    result.expect("unpacked");
    assert_eq!(std::fs::read(dir.path().join("out/x")).expect("read"), b"body");
}

/// The next blob that a source offers.
async fn next(receiver: &mut mpsc::Receiver<Offer>) -> Option<Blob> {
    loop {
        if let Offer::Blob(blob) = receiver.recv().await? {
            return Some(*blob);
        }
    }
}

/// Reads a source to its end: the layers, what the source calls the image, and how many blobs it sent.
async fn read(source: Box<dyn Source>) -> Result<(Vec<Descriptor>, Option<String>, Vec<Blob>), SourceError> {
    let (sender, mut receiver) = mpsc::channel(2);
    let collect = async {
        let mut blobs = Vec::new();
        while let Some(blob) = next(&mut receiver).await {
            blobs.push(blob);
        }
        blobs
    };
    let selection = Selection::default();
    let (image, blobs) = tokio::join!(source.read(&selection, sender), collect);
    let image = image?;
    let Shape::Image { layers, .. } = image.manifests.last().expect("never empty").shape().clone() else {
        panic!("an index");
    };
    Ok((layers, image.name, blobs))
}

async fn archive(
    entries: &[TarEntry],
    name: &str,
) -> Result<(Vec<Descriptor>, Option<String>, Vec<Blob>), SourceError> {
    let dir = tempdir().expect("a directory");
    std::fs::write(dir.path().join("x.tar"), tar_of(entries)).expect("written");
    read(idp_oci::source::open(&format!("docker-archive:x.tar{name}"), dir.path())?).await
}

async fn precise(entries: &[TarEntry], name: &str, expect: &str) {
    let told = archive(entries, name).await.expect_err(expect).to_string();
    assert!(told.contains(expect) && told.contains("x.tar"), "{told}, not {expect}");
}

/// A whole archive that is compressed is not unpacked without end.
#[tokio::test]
async fn case_71e_a_compressed_archive_is_bounded() {
    let dir = tempdir().expect("a directory");
    let mut entries =
        TestImage::one_layer().and_then(|image| image.docker_classic_entries(&[])).expect("made");
    entries.insert(0, TarEntry::file("zeros", vec![0; 300 << 20]));
    std::fs::write(dir.path().join("x.tar.gz"), gzip(&tar_of(&entries))).expect("written");
    let source = idp_oci::source::open("x.tar.gz", dir.path()).expect("a source");
    let told = read(source).await.expect_err("a bomb").to_string();
    assert!(told.contains("decompression bomb"), "{told}");
}

/// Layers that are hard or symbolic links to other layers: the same layer, sent once. Links that lead nowhere are missing layers.
#[tokio::test]
async fn case_72a_linked_layers() {
    let image = TestImage::same_layer_twice().expect("made");
    let symbolic = image.docker_classic_entries(&["app:1"]).expect("made");
    assert!(symbolic.iter().any(|entry| matches!(entry, TarEntry::Symlink(..))));
    let relinked = |link: &dyn Fn(&str) -> TarEntry| -> Vec<TarEntry> {
        let entry = |entry: &TarEntry| match entry {
            TarEntry::Symlink(path, _) => link(path),
            other => other.clone(),
        };
        symbolic.iter().map(entry).collect()
    };
    let hard = relinked(&|path| TarEntry::Hardlink(path.into(), "0-0/layer.tar".into()));
    for entries in [&symbolic, &hard] {
        let (layers, name, blobs) = archive(entries, "").await.expect("read");
        assert_eq!((layers.len(), blobs.len(), name.as_deref()), (3, 3, Some("app:1")));
        assert_eq!(layers[0], layers[2]);
    }
    let distinct = TestImage::layers(2).and_then(|image| image.docker_classic_entries(&[])).expect("made");
    for target in ["/etc/passwd", "../../../../etc/passwd", "layer.tar", "absent"] {
        let entry = |entry: &TarEntry| match entry {
            TarEntry::File(path, _) if path == "0-1/layer.tar" => {
                TarEntry::Symlink(path.clone(), target.to_owned())
            }
            other => other.clone(),
        };
        let entries: Vec<TarEntry> = distinct.iter().map(entry).collect();
        precise(&entries, "", "the layer `0-1/layer.tar` is missing").await;
    }
}

/// Docker 25 and later write a layout: the same image as the old form; and without a `manifest.json` it is still one.
#[tokio::test]
async fn case_72b_a_layout_in_a_tar() {
    let image = TestImage::layers(3).expect("made");
    let new = image.docker_25_entries(&["app:1"]).expect("made");
    let old = image.docker_classic_entries(&["app:1"]).expect("made");
    let (from_new, name, _) = archive(&new, "").await.expect("read");
    assert_eq!((&from_new, name.as_deref()), (&archive(&old, "").await.expect("read").0, Some("app:1")));
    assert!(from_new.iter().all(|layer| layer.media_type == GZIP));
    // What containerd's store keeps compressed is left as it is.
    let stored = image.layout_entries(Some("1")).expect("made");
    let (layers, ..) = archive(&stored, "").await.expect("read");
    let stored: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    assert!(stored.iter().all(|digest| image.contents.contains_key(*digest)));
}

/// `manifest.json` for a config and some layers.
fn classic(config: &Value, layers: &[(&str, Vec<u8>)], tags: &Value) -> Vec<TarEntry> {
    let paths: Vec<&str> = layers.iter().map(|(path, _)| *path).collect();
    let mut entries: Vec<TarEntry> =
        layers.iter().map(|(path, bytes)| TarEntry::file(*path, bytes.clone())).collect();
    entries.push(TarEntry::file("c.json", config.to_string()));
    let list = json!([{"Config": "c.json", "RepoTags": tags, "Layers": paths}]);
    entries.push(TarEntry::file("manifest.json", list.to_string()));
    entries
}

fn diff_ids(of: &[&[u8]]) -> Value {
    json!({"rootfs": {"type": "layers", "diff_ids": of.iter().map(|tar| Digest::of(tar)).collect::<Vec<_>>()}})
}

/// Layers that are compressed already, with zstd or gzip, keep their bytes and are called what they are.
#[tokio::test]
async fn case_72c_compressed_layers() {
    let zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50, 0x01, 0x00, 0x00];
    let (tar, gz) = (tar_of(&[TarEntry::file("a", *b"a")]), gzip(b"not looked into"));
    let layers = [("0.tar", tar.clone()), ("1.tar", zstd.clone()), ("2.tar", gz.clone())];
    let (layers, ..) =
        archive(&classic(&diff_ids(&[&tar, b"1", b"2"]), &layers, &json!(["app"])), "").await.expect("read");
    let types: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
    assert_eq!(types, [GZIP, media::OCI_LAYER_ZSTD, GZIP]);
    assert_eq!((&layers[1].digest, &layers[2].digest), (&Digest::of(&zstd), &Digest::of(&gz)));
    // Others are refused by name.
    let bzip = [("0.tar", b"BZh9".to_vec())];
    precise(&classic(&diff_ids(&[b"x"]), &bzip, &Value::Null), "", "compressed with bzip2").await;
}

/// No `manifest.json`; several images and which one is meant; no tags at all.
#[tokio::test]
async fn case_72d_names_and_lists() {
    let classic_of = |image: &TestImage, tags: &[&str]| image.docker_classic_entries(tags).expect("made");
    let one = TestImage::one_layer().expect("made");
    let without: Vec<TarEntry> = classic_of(&one, &[])
        .into_iter()
        .filter(|entry| !matches!(entry, TarEntry::File(path, _) if path == "manifest.json"))
        .collect();
    precise(&without, "", "no manifest.json in it").await;
    precise(&[], "", "no manifest.json in it").await;
    for text in ["{}", "[]", "null", "[null]", "not JSON", "[{}]"] {
        let mut entries = without.clone();
        entries.push(TarEntry::file("manifest.json", text));
        let told = archive(&entries, "").await.expect_err(text).to_string();
        assert!(told.contains("manifest.json") || told.contains("no images"), "{text}: {told}");
    }
    // RepoTags null: no name, and found by the digest of its config.
    let (_, name, blobs) = archive(&classic_of(&one, &[]), "").await.expect("read");
    assert_eq!((name, blobs.len()), (None, 2));
    let several = TestImage::index().expect("made");
    let entries = classic_of(&several, &["a:1", "b:1"]);
    precise(&entries, "", "has 3 images, choose one").await;
    precise(&entries, ":c:1", "no image `c:1`").await;
    let (_, name, _) = archive(&entries, ":b:1").await.expect("read");
    assert_eq!(name.as_deref(), Some("b:1"));
}

/// A config without diffIDs, with others than there are layers, or of another tar; a config or a layer that is missing.
#[tokio::test]
async fn case_72e_what_does_not_fit_together() {
    let tar = tar_of(&[TarEntry::file("a", *b"a")]);
    let layers = [("0.tar", tar.clone())];
    for (config, expect) in [
        (json!({}), "no rootfs.diff_ids for 1 layers"),
        (json!({"rootfs": null}), "no rootfs.diff_ids for 1 layers"),
        (json!({"rootfs": {"diff_ids": null}}), "no rootfs.diff_ids for 1 layers"),
        (json!({"rootfs": {"diff_ids": []}}), "no rootfs.diff_ids for 1 layers"),
        (diff_ids(&[&tar, &tar]), "lists 1 layers and the config `c.json` 2 rootfs.diff_ids"),
        (json!({"rootfs": {"diff_ids": ["md5:00"]}}), "`md5` is not supported"),
        (diff_ids(&[b"another"]), "the layer `0.tar` hashes to"),
        (json!("text"), "the config `c.json` is not valid"),
    ] {
        precise(&classic(&config, &layers, &Value::Null), "", expect).await;
    }
    let whole = classic(&diff_ids(&[&tar]), &layers, &Value::Null);
    precise(&whole[1..], "", "the layer `0.tar` is missing").await;
    precise(&[whole[0].clone(), whole[2].clone()], "", "the config `c.json` is missing").await;
    // Nothing of a damaged one reaches a registry as an image.
    let dir = tempdir().expect("a directory");
    let damaged = classic(&diff_ids(&[b"another"]), &layers, &Value::Null);
    std::fs::write(dir.path().join("x.tar"), tar_of(&damaged)).expect("written");
    let server = Server::start(Registry::default()).await;
    let source = idp_oci::source::open("docker-archive:x.tar", dir.path()).expect("a source");
    push_source(&client(&server), source).await.expect_err("damaged");
    assert!(server.registry(|registry| registry.manifests.is_empty() && registry.sessions.is_empty()));
}

/// A Docker daemon that streams the image in two parts, the second one when it is told to.
fn daemon(directory: &Path, first: Vec<u8>, second: Vec<u8>, go_on: Arc<Notify>) -> String {
    use axum::routing::get;
    const INSPECT: &str = r#"{"Id":"sha256:1","RepoTags":["app:1"],"Os":"linux","Architecture":"amd64"}"#;
    let path = directory.join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("bound");
    let stream = move || {
        let (first, second, go_on) = (first.clone(), second.clone(), Arc::clone(&go_on));
        async move {
            let parts = futures_util::stream::unfold(0, move |part| {
                let (first, second, go_on) = (first.clone(), second.clone(), Arc::clone(&go_on));
                async move {
                    match part {
                        0 => Some((Ok::<_, std::io::Error>(first), 1)),
                        1 => {
                            go_on.notified().await;
                            Some((Ok(second), 2))
                        }
                        _ => None,
                    }
                }
            });
            axum::body::Body::from_stream(parts)
        }
    };
    let router = axum::Router::new()
        .route("/images/app/json", get(|| async { INSPECT }))
        .route("/images/app/get", get(stream));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("unix://{}", path.display())
}

/// From a daemon, which can be read once only: layers leave while the rest has not come yet.
#[tokio::test(flavor = "multi_thread")]
async fn case_72f_one_pass_where_the_order_allows_it() {
    let image = TestImage::same_layer_twice().expect("made");
    let tar = tar_of(&image.docker_classic_entries(&["app:1"]).expect("made"));
    // The layers stand first; what says how they belong together comes last.
    let (first, second) = tar.split_at(tar.len() - 4096);
    let dir = tempdir().expect("a directory");
    let go_on = Arc::new(Notify::new());
    let host = daemon(dir.path(), first.to_vec(), second.to_vec(), Arc::clone(&go_on));
    let source = Box::new(DockerSource::at(&host, "app").expect("an address"));
    let (sender, mut receiver) = mpsc::channel(1);
    let reading = tokio::spawn(async move { source.read(&Selection::default(), sender).await });
    let early = next(&mut receiver).await.expect("a layer, before the end has come");
    assert_eq!(early.descriptor.media_type, GZIP);
    go_on.notify_one();
    let mut blobs = vec![early.descriptor.digest];
    while let Some(blob) = next(&mut receiver).await {
        blobs.push(blob.descriptor.digest);
    }
    let image = reading.await.expect("no panic").expect("read");
    let Shape::Image { config, layers } = image.manifests[0].shape() else { panic!("an image") };
    assert_eq!((layers.len(), blobs.len()), (3, 3));
    assert!(layers.iter().map(|layer| &layer.digest).chain([&config.digest]).all(|of| blobs.contains(of)));
}

/// The same archive from a daemon and from a file is the same image at a registry.
#[tokio::test(flavor = "multi_thread")]
async fn case_72g_daemon_and_file_agree() {
    let image = TestImage::layers(4).expect("made");
    for entries in [image.docker_classic_entries(&["app:1"]), image.docker_25_entries(&["app:1"])] {
        let tar = tar_of(&entries.expect("made"));
        let dir = tempdir().expect("a directory");
        std::fs::write(dir.path().join("x.tar"), &tar).expect("written");
        let go_on = Arc::new(Notify::new());
        go_on.notify_one();
        let host = daemon(dir.path(), tar.clone(), Vec::new(), go_on);
        let server = Server::start(Registry::default()).await;
        let source = Box::new(DockerSource::at(&host, "app").expect("an address"));
        let pushed = push_source(&client(&server), source).await.expect("pushed");
        let before = server.registry(|registry| registry.blobs.len());
        let source = idp_oci::source::open("docker-archive:x.tar", dir.path()).expect("a source");
        let again = push_source(&client(&server), source).await.expect("pushed");
        let after = server.registry(|registry| registry.blobs.len());
        assert_eq!((&pushed.digest, before, after), (&again.digest, 5, 5));
        let manifest = server.registry(|registry| {
            let key = ("team/app".to_owned(), again.digest.to_string());
            registry.manifests[&key].1.clone()
        });
        let manifest = idp_oci::manifest::Manifest::parse(manifest, None).expect("a manifest");
        assert!(is_tagged(&server, &manifest));
    }
}
