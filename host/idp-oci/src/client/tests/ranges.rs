//! Large blobs in pieces: which requests are made, and what they fall back to (cases 65, 66).

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use idp_test_support::faults::{Fault, Registry, Reply, Server, on};

use super::{client, repository};
use crate::blob::Blob;
use crate::client::{Client, RangePolicy, Ranges};

const SIZE: usize = 650_000;

/// Small pieces, and nothing is fast enough to go without.
const ALWAYS: RangePolicy = RangePolicy { least: 0, piece: 100_000, ahead: 2, fast: u64::MAX };

fn content() -> Bytes {
    (0..SIZE).map(|index| (index * 7 % 251) as u8).collect::<Vec<u8>>().into()
}

fn blob() -> Blob {
    Blob::from_bytes("application/octet-stream", content())
}

async fn with_blob() -> Server {
    let server = Server::start(Registry::default()).await;
    server.registry(|registry| registry.add_blob("team/app", content()));
    server
}

async fn download(client: &Client, start: u64, policy: RangePolicy) -> Result<Bytes, String> {
    let ranges = Ranges::new(policy);
    let chunks = client.fetch_ranged(&repository(), &blob().descriptor, start, &ranges).await;
    let pieces: Result<Vec<Bytes>, _> = chunks.map_err(|error| error.to_string())?.try_collect().await;
    pieces.map(|pieces| pieces.concat().into()).map_err(|error| error.to_string())
}

/// The ranges that were asked for, `-` for none, in order of their start.
fn asked(server: &Server) -> Vec<String> {
    let requests = server.requests();
    let ranges = requests.iter().filter(|seen| seen.method == "GET").map(|seen| {
        let range = seen.headers.get("range").and_then(|range| range.to_str().ok()).unwrap_or("-");
        range.trim_start_matches("bytes=").to_owned()
    });
    let mut ranges: Vec<String> = ranges.collect();
    ranges.sort_by_key(|range| range.split('-').next().and_then(|start| start.parse::<u64>().ok()));
    ranges
}

fn pieces() -> Vec<String> {
    (0..7).map(|piece| format!("{}-{}", piece * 100_000, (piece * 100_000 + 99_999).min(SIZE - 1))).collect()
}

#[tokio::test]
async fn slow_ones_come_in_pieces_and_each_is_asked_for_once() {
    let server = with_blob().await;
    assert!(download(&client(&server), 0, ALWAYS).await.expect("whole") == content());
    let mut expect = pieces();
    // The last one is the rest.
    *expect.last_mut().expect("pieces") = "600000-".to_owned();
    assert_eq!(asked(&server), expect);
    assert!(server.requests().iter().all(|seen| seen.status == 206 || seen.status == 0));

    let server = with_blob().await;
    assert!(
        download(&client(&server), 420_000, ALWAYS).await.expect("the rest") == content().slice(420_000..)
    );
    assert_eq!(asked(&server), ["420000-519999", "520000-619999", "620000-"]);
}

#[tokio::test]
async fn fast_and_small_ones_come_as_one() {
    let server = with_blob().await;
    let fast = RangePolicy { fast: 0, ..ALWAYS };
    assert!(download(&client(&server), 0, fast).await.expect("whole") == content());
    assert_eq!(asked(&server), ["0-99999", "100000-"]);

    let server = with_blob().await;
    let small = RangePolicy { least: SIZE as u64 + 1, ..ALWAYS };
    assert!(download(&client(&server), 0, small).await.expect("whole") == content());
    assert_eq!(asked(&server), ["-"]);
}

/// Several large blobs at once are parallel enough.
#[tokio::test]
async fn who_is_not_alone_comes_as_one() {
    let server = with_blob().await;
    let (client, ranges) = (client(&server), Ranges::new(ALWAYS));
    let (place, blob) = (repository(), blob().descriptor);
    let open = || client.fetch_ranged(&place, &blob, 0, &ranges);
    let (one, two) = (open().await.expect("opened"), open().await.expect("opened"));
    let one: Vec<Bytes> = one.try_collect().await.expect("read");
    assert!(one.concat() == content());
    assert_eq!(asked(&server), ["0-99999", "0-99999", "100000-"]);
    let two: Vec<Bytes> = two.try_collect().await.expect("read");
    assert!(two.concat() == content());
    assert_eq!(server.requests().len(), 3 + 6, "alone by now: {:?}", asked(&server));
}

/// A piece whose connection breaks is gone on with; the others are not asked for again.
#[tokio::test]
async fn a_piece_that_breaks() {
    let server = with_blob().await;
    server.rule(on("GET", "/blobs/", Fault::Truncate(30_000)).after(2));
    server.rule(on("GET", "/blobs/", Fault::Reply(Reply::status(503).header("retry-after", "0"))).after(4));
    assert!(download(&client(&server), 0, ALWAYS).await.expect("whole") == content());
    server.verify();
    assert_eq!(server.requests().len(), 7 + 2, "{:?}", asked(&server));
}

/// Case 66: what is not of one whole is not put together.
#[tokio::test]
async fn what_does_not_fit_together_ends_in_a_single_stream() {
    let whole = || Reply::status(200).body(content());
    let other = Reply::status(206).header("content-range", "bytes 7-8/9").body("xx");
    for (name, skip, fault) in [
        ("no ranges from the start", 0, Fault::Reply(whole())),
        ("ranges are ignored later", 2, Fault::Reply(whole())),
        ("another range", 0, Fault::Reply(other.clone())),
        ("another range later", 3, Fault::Reply(other)),
        ("refused from the start", 0, Fault::Reply(Reply::status(416))),
        ("refused later", 1, Fault::Reply(Reply::status(416))),
        ("another ETag", 1, Fault::Header("etag", "\"two\"".to_owned())),
        ("another length", 1, Fault::Header("content-range", "bytes 100000-199999/999999".to_owned())),
        ("forbidden later", 2, Fault::Reply(Reply::status(403))),
    ] {
        let server = with_blob().await;
        server.rule(on("GET", "/blobs/", fault).after(skip));
        let got =
            download(&client(&server), 0, ALWAYS).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(got == content(), "{name}");
        server.verify();
        let asked = asked(&server);
        assert!(asked.len() <= 6, "{name}: {asked:?}");
        let open = asked.iter().any(|range| range.ends_with('-'));
        assert!(open || skip == 0, "{name}: {asked:?}");
    }
}

/// Where the registry sends us is asked directly, until it refuses; then the registry is asked for another place.
#[tokio::test]
async fn a_place_that_expires() {
    let (server, store) = (with_blob().await, with_blob().await);
    let digest = blob().descriptor.digest;
    let place = format!("http://{}/v2/team/app/blobs/{digest}?signature=1", store.address());
    let redirect = || Fault::Reply(Reply::status(307).header("location", &place));
    server.rule(on("GET", "/blobs/", redirect()).always());
    assert!(download(&client(&server), 0, ALWAYS).await.expect("whole") == content());
    assert_eq!((server.requests().len(), store.requests().len()), (1, 7), "{:?}", asked(&store));

    store.rule(on("GET", "/blobs/", Fault::Reply(Reply::status(403))).after(3));
    assert!(download(&client(&server), 0, ALWAYS).await.expect("whole") == content());
    assert_eq!((server.requests().len(), store.requests().len()), (1 + 2, 7 + 8), "{:?}", asked(&store));
    store.verify();
    assert!(store.requests().iter().all(|seen| seen.authorization().is_none()));
}

/// What the registry does not get on with is given up as any other download.
#[tokio::test]
async fn pieces_that_never_come() {
    let server = with_blob().await;
    server.rule(on("GET", "/blobs/", Fault::Drop).after(1).always());
    let error = download(&client(&server), 0, ALWAYS).await.expect_err("given up");
    assert!(error.contains("connection"), "{error}");
}
