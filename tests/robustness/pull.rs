//! Cases 65 to 69: blobs on their way down, and what is left on disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use idp_oci::client::{Client, Kind, Verify};
use idp_oci::manifest::Descriptor;
use idp_oci::name::{Repository, Target};
use idp_oci::pipeline::{PullOptions, pull};
use idp_test_support::faults::{Fault, Registry, Reply, Server, digest_of, on};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::support_b::{Memory, header, holds, pull_all, pull_to};
use crate::{bytes, client, repository, tag};

const BLOB: usize = 300_000;
/// How the names of blobs begin that a later pull goes on with.
const PART: &str = ".idp-part-";

/// A registry with an image of one layer of [`BLOB`] bytes, and the layer's digest.
async fn start() -> (Server, Memory, String) {
    let server = Server::start(Registry::default()).await;
    let image = Memory::image([bytes(BLOB)]);
    holds(&server, &image);
    (server, image, digest_of(&bytes(BLOB)))
}

/// What the layer was asked for by: the `Range` of each request, empty for the whole.
fn asked(server: &Server, digest: &str) -> Vec<String> {
    let all = server.requests().into_iter().filter(|seen| seen.target.contains(digest));
    all.map(|seen| header(&seen, "range").unwrap_or_default().to_owned()).collect()
}

async fn pulls(server: &Server, digest: &str, shown: &str) {
    let (pulled, store) = pull_all(&client(server)).await;
    pulled.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let taken = store.taken();
    let layer = taken.blobs.get(&digest.parse().expect("a digest"));
    assert!(layer.is_some_and(|layer| layer[..] == bytes(BLOB)[..]), "{shown}");
}

async fn refuses(server: &Server, expect: &str) {
    let (pulled, store) = pull_all(&client(server)).await;
    let told = pulled.expect_err(expect).to_string();
    assert!(told.contains(expect), "{told}, not {expect}");
    assert!(store.taken().aborted && !store.taken().finished);
}

/// A body that breaks off: the rest is asked for by its range, as often as it takes.
#[tokio::test]
async fn case_65a_a_truncated_answer_is_continued() {
    let (server, _, digest) = start().await;
    server.rule(on("GET", &digest, Fault::Truncate(100_000)));
    server.rule(on("GET", &digest, Fault::Truncate(50_000)));
    pulls(&server, &digest, "continued").await;
    server.verify();
    assert_eq!(asked(&server, &digest), ["", "bytes=100000-", "bytes=150000-"]);
}

/// A part that is not the one that was asked for: refused.
#[tokio::test]
async fn case_65b_a_wrong_part_is_refused() {
    for range in [
        "bytes 0-299999/300000",
        "bytes 99999-299998/300000",
        "bytes 100000-299999/400000",
        "bytes 100000-299998/300000",
        "items 100000-299999/300000",
        "nonsense",
        "",
    ] {
        let (server, _, digest) = start().await;
        let mut reply = Reply::status(206).body(bytes(BLOB).slice(100_000..));
        if !range.is_empty() {
            reply = reply.header("content-range", range);
        }
        server.rule(on("GET", &digest, Fault::Truncate(100_000)));
        server.rule(on("GET", &digest, Fault::Reply(reply)).always());
        refuses(&server, "download of blob").await;
    }
}

/// A registry that ignores the range and sends everything: nothing is doubled.
#[tokio::test]
async fn case_65c_a_range_that_is_ignored() {
    let (server, _, digest) = start().await;
    server.rule(on("GET", &digest, Fault::Truncate(100_000)));
    server.rule(on("GET", &digest, Fault::Reply(Reply::status(200).body(bytes(BLOB)))));
    pulls(&server, &digest, "skipped").await;
    server.verify();
}

/// Everything has come: however the connection ends, it is complete. A 416 before that is none.
#[tokio::test]
async fn case_65d_the_end() {
    // All bytes are there when the connection breaks.
    let (server, _, digest) = start().await;
    server.registry(|registry| registry.strict_ranges = true);
    server.rule(on("GET", &digest, Fault::Truncate(BLOB)));
    pulls(&server, &digest, "complete").await;
    // The registry has less than the manifest says: the rest is behind its end.
    let (server, _, digest) = start().await;
    server.registry(|registry| {
        registry.strict_ranges = true;
        registry.blobs.insert(("team/app".to_owned(), digest.clone()), bytes(BLOB - 1));
    });
    refuses(&server, "download of blob").await;
}

/// What never gets on is given up.
#[tokio::test]
async fn case_65e_no_progress_ends() {
    let (server, _, digest) = start().await;
    server.rule(on("GET", &digest, Fault::Truncate(0)).always());
    let (pulled, _) = pull_all(&client(&server)).await;
    assert_eq!(pulled.expect_err("no progress").kind(), Kind::Transient);
    assert_eq!(asked(&server, &digest).len(), 4);
}

/// A registry that sends downloads to a store, with signed addresses.
async fn with_store() -> (Server, Server, String) {
    let (server, _, digest) = start().await;
    let store = Server::start(Registry::default()).await;
    store.registry(|registry| registry.add_blob("team/app", bytes(BLOB)));
    (server, store, digest)
}

fn sends_to(store: &Server, digest: &str, signature: usize) -> Fault {
    let location = format!("http://{}/v2/team/app/blobs/{digest}?sig={signature}", store.address());
    Fault::Reply(Reply::status(307).header("location", &location))
}

/// The signed address expires in the middle: the registry is asked for a new one, and the rest comes from there.
#[tokio::test]
async fn case_66a_an_address_that_expires_in_the_middle() {
    let (server, store, digest) = with_store().await;
    server.rule(on("GET", &digest, sends_to(&store, &digest, 1)));
    server.rule(on("GET", &digest, sends_to(&store, &digest, 2)).always());
    store.rule(on("GET", "sig=1", Fault::Truncate(100_000)));
    store.rule(on("GET", "sig=1", Fault::Reply(Reply::status(403))).always());
    pulls(&server, &digest, "a new address").await;
    let seen: Vec<(String, String)> = store
        .requests()
        .iter()
        .map(|seen| {
            let (_, signature) = seen.target.split_once("sig=").expect("signed");
            (signature.to_owned(), header(seen, "range").unwrap_or_default().to_owned())
        })
        .collect();
    let expect = [("1", ""), ("2", "bytes=100000-")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(seen, expect);
}

/// The registry gives the expired address once more: it is asked again, and not for ever.
#[tokio::test]
async fn case_66b_an_address_that_has_expired() {
    let (server, store, digest) = with_store().await;
    server.rule(on("GET", &digest, sends_to(&store, &digest, 1)).times(2));
    server.rule(on("GET", &digest, sends_to(&store, &digest, 2)).always());
    store.rule(on("GET", "sig=1", Fault::Truncate(100_000)));
    store.rule(on("GET", "sig=1", Fault::Reply(Reply::status(403))).always());
    pulls(&server, &digest, "a new address").await;

    let (server, store, digest) = with_store().await;
    server.rule(on("GET", &digest, sends_to(&store, &digest, 1)).always());
    store.rule(on("GET", "sig=1", Fault::Reply(Reply::status(403))).always());
    let (pulled, _) = pull_all(&client(&server)).await;
    pulled.expect_err("never let in");
    assert!(asked(&server, &digest).len() <= 4, "{:#?}", server.log());
}

/// Parts that are not of the same thing, by their `ETag` or their length: what is stored is right all the same, or nothing.
#[tokio::test]
async fn case_66c_parts_of_different_things() {
    let size = 34 << 20;
    let image = Memory::image([bytes(size)]);
    let digest = digest_of(&bytes(size));
    for fault in [
        Fault::Header("etag", "\"another\"".to_owned()),
        Fault::Header("content-range", format!("bytes 0-1/{}", size + 1)),
    ] {
        let server = Server::start(Registry::default()).await;
        holds(&server, &image);
        server.rule(on("GET", &digest, fault).after(1));
        let (pulled, store) = pull_all(&client(&server)).await;
        pulled.expect("pulled");
        assert!(store.taken().blobs[&digest.parse().expect("a digest")] == bytes(size));
    }
}

/// Blobs are asked for as they are.
#[tokio::test]
async fn case_67a_blobs_are_asked_for_as_they_are() {
    let (server, _, digest) = start().await;
    server.rule(on("GET", &digest, Fault::Truncate(100_000)));
    pulls(&server, &digest, "identity").await;
    let encodings: BTreeSet<Option<String>> = server
        .requests()
        .iter()
        .filter(|seen| seen.target.contains("/blobs/"))
        .map(|seen| header(seen, "accept-encoding").map(str::to_owned))
        .collect();
    assert_eq!(encodings, [Some("identity".to_owned())].into());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// `Content-Encoding: gzip` on bytes that are what was asked for (an object store that took the name of a layer for its encoding): taken
/// as they are.
#[tokio::test]
async fn case_67b_an_encoding_that_is_only_said() {
    let server = Server::start(Registry::default()).await;
    let layer = Bytes::from(gzip(&bytes(5000)));
    holds(&server, &Memory::image([layer.clone()]));
    server.rule(on("GET", &digest_of(&layer), Fault::Header("content-encoding", "gzip".to_owned())).always());
    let (pulled, store) = pull_all(&client(&server)).await;
    pulled.expect("pulled");
    assert!(store.taken().blobs[&digest_of(&layer).parse().expect("a digest")] == layer);
}

/// A body that something on the way compressed: what it decodes to counts, when it is what was asked for.
#[tokio::test]
async fn case_67c_a_body_that_was_compressed_on_the_way() {
    let (server, _, digest) = start().await;
    let reply = Reply::status(200).header("content-encoding", "gzip").body(gzip(&bytes(BLOB)));
    server.rule(on("GET", &digest, Fault::Reply(reply)).always());
    pulls(&server, &digest, "decoded").await;
}

/// Neither the bytes nor what they decode to is what was asked for: refused.
#[tokio::test]
async fn case_67d_an_encoding_of_something_else() {
    let (server, _, digest) = start().await;
    for body in [gzip(&bytes(BLOB - 1)), gzip(&[7; BLOB]), vec![7; BLOB], gzip(b"")] {
        let reply = Reply::status(200).header("content-encoding", "gzip").body(body);
        server.rule(on("GET", &digest, Fault::Reply(reply)).always());
        let (pulled, store) = pull_all(&client(&server)).await;
        pulled.expect_err("something else");
        assert!(!store.taken().finished);
    }
}

/// A registry that sends without end, and does not say how much: it is left when one byte too many has come.
#[tokio::test]
async fn case_68a_data_beyond_the_size() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("written");
        // Ends when the client is gone.
        while stream.write_all(b"a\r\n0123456789\r\n").await.is_ok() {}
    });
    let (client, _) = crate::client_of(
        &address.to_string(),
        idp_oci::client::Scheme::Http,
        idp_oci::client::standard::Credential::Anonymous,
        crate::options(),
        idp_oci::client::retry::RetryPolicy::immediate(4),
    );
    let descriptor = Descriptor::of("a/b", &[0; 25]);
    let chunks = client.fetch_blob(&repository(), &descriptor, Verify::Here).await.expect("it begins well");
    let got: Result<Vec<Bytes>, _> = chunks.try_collect().await;
    let told = got.expect_err("too much").to_string();
    assert!(told.contains("25 bytes"), "{told}");
    tokio::time::timeout(Duration::from_secs(60), server).await.expect("it was left").expect("no panic");
}

/// The same with a length that says so beforehand, into every kind of destination: nothing of it is left.
#[tokio::test]
async fn case_68b_more_than_the_manifest_says_leaves_nothing() {
    for to in ["oci:out", "oci-archive:out.tar"] {
        let (server, _, digest) = start().await;
        let longer = bytes(BLOB + 1);
        server.registry(|registry| registry.blobs.insert(("team/app".to_owned(), digest.clone()), longer));
        let dir = tempdir().expect("a directory");
        let sink = idp_oci::sink::open(to, dir.path()).expect("a sink");
        let error = pull_to(&client(&server), sink).await.expect_err("too much");
        assert_eq!(error.kind(), Kind::Other, "{error}");
        settle(dir.path());
        whole(dir.path());
        assert!(!has_part(dir.path(), &digest), "what is wrong is not gone on with");
    }
}

/// Something is kept of this blob.
fn has_part(directory: &Path, digest: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name.starts_with(PART) && name.contains(&digest[7..])) || has_part(&entry.path(), digest)
    })
}

/// Waits until nobody writes a part any more: the thread of a pull that was given up lets go of it a moment later.
fn let_go(directory: &Path) {
    fn is_held(directory: &Path) -> bool {
        let Ok(entries) = std::fs::read_dir(directory) else { return false };
        entries.flatten().any(|entry| {
            let is_part = entry.file_name().to_string_lossy().starts_with(PART);
            let held = || std::fs::File::open(entry.path()).is_ok_and(|file| file.try_lock_shared().is_err());
            (is_part && held()) || is_held(&entry.path())
        })
    }
    for _ in 0..1000 {
        if !is_held(directory) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("a part is still held in {}", directory.display());
}

/// Waits until no unfinished file is left: a thread that was writing when a pull failed removes its own a moment later.
fn settle(directory: &Path) {
    fn unfinished(directory: &Path) -> bool {
        let Ok(entries) = std::fs::read_dir(directory) else { return false };
        entries.flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_temporary = name.starts_with(".idp-") && !name.starts_with(PART);
            is_temporary || unfinished(&entry.path())
        })
    }
    for _ in 0..1000 {
        if !unfinished(directory) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("unfinished files are left in {}", directory.display());
}

/// Every file below is a finished one: a blob that is what its name says, a layout's marker, an index that names nothing. What a later
/// pull goes on with is none, and says so by its name.
fn whole(directory: &Path) -> usize {
    let mut blobs = 0;
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            blobs += whole(&path);
        } else if name == "index.json" {
            let index: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
            assert!(index["manifests"].as_array().is_some_and(Vec::is_empty), "{index}");
        } else if name != "oci-layout" && !name.starts_with(PART) {
            let content = std::fs::read(&path).expect("read");
            assert_eq!(digest_of(&content), format!("sha256:{name}"), "{}", path.display());
            blobs += 1;
        }
    }
    blobs
}

/// Runs [`case_68_in_a_small_place`] where the disk is full, or cannot be written to. `None` where that cannot be arranged.
fn in_a_small_place(server: &Server, prepare: &str) -> Option<Vec<String>> {
    let dir = tempdir().expect("a directory");
    let (place, result) = (dir.path().join("place"), dir.path().join("result"));
    std::fs::create_dir(&place).expect("made");
    std::fs::write(&result, "").expect("written");
    let script = format!(
        "mount -t tmpfs -o size=160k none \"$1\" && {prepare} && touch \"$2\" && exec \"$3\" --ignored --exact pull::case_68_in_a_small_place"
    );
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
        .args([&place, &result])
        .arg(std::env::current_exe().expect("this program"))
        .env("CASE_68_PLACE", &place)
        .env("CASE_68_RESULT", &result)
        .env("CASE_68_SERVER", server.address())
        .output();
    let lines = std::fs::read_to_string(&result).expect("a result");
    if lines.is_empty() {
        let mut line = format!("SKIPPED: no small place can be made here: {ran:?}\n").into_bytes();
        let _ = std::io::Write::write_all(&mut std::io::stderr(), &std::mem::take(&mut line));
        return None;
    }
    Some(lines.lines().map(str::to_owned).collect())
}

/// Not a case: what `case_68c` runs in a place of its own.
#[tokio::test]
#[ignore = "run by case_68c and case_68d, in a place of its own"]
async fn case_68_in_a_small_place() {
    let Some(place) = std::env::var_os("CASE_68_PLACE") else { return };
    let place = Path::new(&place);
    let address = std::env::var("CASE_68_SERVER").expect("an address");
    let mut result = String::new();
    for to in ["oci:out", "oci-archive:out.tar"] {
        let (client, _) = crate::client_of(
            &address,
            idp_oci::client::Scheme::Http,
            idp_oci::client::standard::Credential::Anonymous,
            crate::options(),
            idp_oci::client::retry::RetryPolicy::immediate(4),
        );
        let sink = idp_oci::sink::open(to, place).expect("a sink");
        let error = pull_to(&client, sink).await.expect_err("no place for it");
        settle(place);
        let left = whole(place);
        assert!(!has_part(place, &digest_of(&bytes(BLOB))), "a full disk is not kept full");
        result.push_str(&format!("{:?} {left} {error}\n", error.kind()).replace('\n', " "));
        result.push('\n');
    }
    std::fs::write(std::env::var_os("CASE_68_RESULT").expect("a file"), result).expect("written");
}

/// A full disk: temporary files are gone, and the error says what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn case_68c_a_full_disk() {
    let (server, _, digest) = start().await;
    let Some(told) = in_a_small_place(&server, "true") else { return };
    assert_eq!(told.len(), 2);
    for line in told {
        // At most the config is there, and the layer is asked for once: another try would not help.
        assert!(line.starts_with("Other ") && line.contains("the disk is full"), "{line}");
    }
    assert!(asked(&server, &digest).len() <= 2, "{:#?}", server.log());
}

/// A file system that is read-only.
#[tokio::test(flavor = "multi_thread")]
async fn case_68d_a_read_only_file_system() {
    let (server, ..) = start().await;
    let Some(told) = in_a_small_place(&server, "mount -o remount,ro \"$1\"") else { return };
    assert_eq!(told.len(), 2);
    for line in told {
        assert!(line.starts_with("Other 0 ") && line.contains("the file system is read-only"), "{line}");
    }
}

/// A pull that is cut off leaves a layout that is valid and names nothing; the next one asks for what is lacking only.
#[tokio::test]
async fn case_69a_a_pull_that_was_cut_off() {
    let (server, image, digest) = start().await;
    server.rule(on("GET", &digest, Fault::Truncate(0)).times(4));
    let dir = tempdir().expect("a directory");
    let open = || idp_oci::sink::open("oci:out", dir.path()).expect("a sink");
    pull_to(&client(&server), open()).await.expect_err("cut off");
    settle(dir.path());
    let kept = whole(&dir.path().join("out"));
    let before = server.count("GET", "/blobs/");
    let pulled = pull_to(&client(&server), open()).await.expect("pulled");
    assert_eq!(&pulled.digest, image.root().digest());
    assert_eq!(server.count("GET", "/blobs/") - before, 2 - kept);
    let again = idp_oci::source::open("oci:out", dir.path()).expect("a source");
    let second = Server::start(Registry::default()).await;
    crate::support_b::push_source(&client(&second), again).await.expect("valid");
}

/// In the middle of a blob: the next pull goes on there.
#[tokio::test]
async fn case_69b_a_blob_that_was_cut_off() {
    let (server, _, digest) = start().await;
    server.rule(on("GET", &digest, Fault::Truncate(200_000)));
    server.rule(on("GET", &digest, Fault::Hang));
    let dir = tempdir().expect("a directory");
    // Given up when the rest has been asked for.
    give_up(&client(&server), &server, &digest, 2, "oci:out", dir.path()).await;
    let_go(dir.path());
    let sink = idp_oci::sink::open("oci:out", dir.path()).expect("a sink");
    pull_to(&client(&server), sink).await.expect("pulled");
    let last = asked(&server, &digest).pop().expect("asked");
    assert!(last.starts_with("bytes=") && last != "bytes=0-", "{last}");
}

/// A blob that is there with the right size and other bytes is repaired.
#[tokio::test]
async fn case_69c_a_damaged_blob_is_repaired() {
    let (server, _, digest) = start().await;
    let dir = tempdir().expect("a directory");
    let open = || idp_oci::sink::open("oci:out", dir.path()).expect("a sink");
    pull_to(&client(&server), open()).await.expect("pulled");
    let path = dir.path().join(format!("out/blobs/{}", digest.replace(':', "/")));
    let mut content = std::fs::read(&path).expect("read");
    content[BLOB / 2] ^= 1;
    std::fs::write(&path, &content).expect("written");
    let before = server.count("GET", "/blobs/");
    pull_to(&client(&server), open()).await.expect("repaired");
    assert!(std::fs::read(&path).expect("read") == bytes(BLOB));
    assert_eq!(server.count("GET", "/blobs/") - before, 1, "{:#?}", server.log());
}

/// Pulls until the layer is asked for so many times, and gives up.
async fn give_up(client: &Client, server: &Server, digest: &str, times: usize, to: &str, base: &Path) {
    let cancel = CancellationToken::new();
    let task = tokio::spawn({
        let (client, cancel) = (client.clone(), cancel.clone());
        let sink = idp_oci::sink::open(to, base).expect("a sink");
        let (name, target): (Repository, Target) = (repository(), tag());
        async move { pull(&client, &name, &target, sink, &PullOptions::default(), &cancel).await }
    });
    while server.count("GET", digest) < times {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel();
    assert_eq!(task.await.expect("no panic").expect_err("given up").kind(), Kind::Interrupted);
}

/// Nothing of the result is seen before it is whole, and what was there stays until then; whoever gives up leaves nothing.
#[tokio::test]
async fn case_69d_the_result_appears_as_a_whole() {
    let (server, _, digest) = start().await;
    server.rule(on("GET", &digest, Fault::Hang));
    let dir = tempdir().expect("a directory");
    give_up(&client(&server), &server, &digest, 1, "oci-archive:out.tar", dir.path()).await;
    settle(dir.path());
    assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);

    let (server, ..) = start().await;
    std::fs::write(dir.path().join("out.tar"), "what was there before").expect("written");
    server.rule(on("GET", &digest, Fault::Hang));
    give_up(&client(&server), &server, &digest, 1, "oci-archive:out.tar", dir.path()).await;
    settle(dir.path());
    assert_eq!(std::fs::read(dir.path().join("out.tar")).expect("read"), b"what was there before");
    assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 1);
    let sink = idp_oci::sink::open("oci-archive:out.tar", dir.path()).expect("a sink");
    pull_to(&client(&server), sink).await.expect("pulled");
    assert!(std::fs::metadata(dir.path().join("out.tar")).expect("there").len() > BLOB as u64);

    // A layout that holds another image keeps it, and gets the new one as its last step.
    let (server, ..) = start().await;
    let dir = tempdir().expect("a directory");
    let sink = idp_oci::sink::open("oci:out:first", dir.path()).expect("a sink");
    pull_to(&client(&server), sink).await.expect("pulled");
    let index = || std::fs::read_to_string(dir.path().join("out/index.json")).expect("read");
    let before = index();
    let other = bytes(BLOB + 1);
    holds(&server, &Memory::image([other.clone()]));
    server.rule(on("GET", &digest_of(&other), Fault::Hang));
    give_up(&client(&server), &server, &digest_of(&other), 1, "oci:out:second", dir.path()).await;
    assert_eq!(index(), before);
    let sink = idp_oci::sink::open("oci:out:second", dir.path()).expect("a sink");
    pull_to(&client(&server), sink).await.expect("pulled");
    assert!(index().contains("first") && index().contains("second"));
}
