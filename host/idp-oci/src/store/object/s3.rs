//! The store over a real S3 service, with two replicas: the rules of a store, and pushes, pulls and deletions at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use idp_test_support::peers::{self, VersityGw};

use super::{BucketStore, ObjectSettings, OpenError, SweepOptions};
use crate::digest::Digest;
use crate::name::{Repository, Tag, Target};
use crate::store::{Page, Store as _, StoredManifest, suite};

fn settings(service: &VersityGw, prefix: &str) -> ObjectSettings {
    ObjectSettings {
        url: format!("s3://registry/{prefix}"),
        endpoint: Some(service.endpoint()),
        retry_seconds: 5,
        part_bytes: 5 * 1024 * 1024,
        ..ObjectSettings::default()
    }
}

async fn open(service: &VersityGw, prefix: &str) -> BucketStore {
    BucketStore::open(&settings(service, prefix), service.variables()).await.expect("opened")
}

async fn started() -> Option<VersityGw> {
    peers::require(VersityGw::start(&["registry"]).await, "versitygw")
}

fn repository(name: &str) -> Repository {
    name.parse().expect("a repository")
}

fn tag(name: &str) -> Tag {
    name.parse().expect("a tag")
}

fn numbered(number: usize) -> StoredManifest {
    let bytes = format!("{{\"number\":{number}}}");
    let media_type = crate::media::OCI_MANIFEST.to_owned();
    StoredManifest { media_type, digest: Digest::of(bytes.as_bytes()), bytes: bytes.into() }
}

#[tokio::test]
async fn keeps_the_rules_of_a_store() {
    let Some(service) = started().await else { return };
    let next = std::sync::atomic::AtomicUsize::new(0);
    let fresh = async || {
        let next = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(open(&service, &format!("suite/{next}")).await)
    };
    suite::run(fresh).await;
}

/// Each replica pushes tags of its own and moves shared ones, deletes some, and reads what the other was told is done.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_lose_no_tag() {
    let Some(service) = started().await else { return };
    let replicas = [open(&service, "two").await, open(&service, "two").await];
    let a = repository("team/app");
    let work = replicas.iter().enumerate().map(|(which, store)| {
        let (store, other, a) = (store.clone(), replicas[1 - which].clone(), a.clone());
        tokio::spawn(async move {
            for number in 0..20 {
                let manifest = numbered(number * 2 + which);
                let doomed = number % 5 == 4;
                // `shared` names no manifest that is going to be deleted.
                let moved = if doomed { "doomed" } else { "shared" };
                let tags = [format!("own-{which}-{number}"), moved.to_owned(), format!("pair-{number}")]
                    .map(|name| tag(&name));
                store.put_manifest(&a, &manifest, None, &tags).await.expect("put");
                let found = other.manifest(&a, &Target::Tag(tags[0].clone())).await.expect("read");
                assert_eq!(
                    found.map(|found| found.digest).as_ref(),
                    Some(&manifest.digest),
                    "seen by the other"
                );
                let shared = other.manifest(&a, &Target::Tag(tag("shared"))).await.expect("read");
                assert!(shared.is_some(), "a tag that is only moved is always there");
                if doomed {
                    // Takes `own` with it, and `doomed` and `pair` if they still name it.
                    assert!(other.delete_manifest(&a, &manifest.digest).await.expect("deleted"));
                    assert!(!store.has_manifest(&a, &manifest.digest).await.expect("read"));
                }
            }
        })
    });
    replicas[0].put_manifest(&a, &numbered(1000), None, &[tag("shared")]).await.expect("put");
    let mut failed = 0;
    for task in work.collect::<Vec<_>>() {
        failed += usize::from(task.await.is_err());
    }
    assert_eq!(failed, 0);
    let all = Page { after: None, limit: 1000 };
    let lists = [
        replicas[0].tags(&a, &all).await.expect("listed").expect("known").entries,
        replicas[1].tags(&a, &all).await.expect("listed").expect("known").entries,
    ];
    assert_eq!(lists[0], lists[1]);
    let listed: BTreeSet<&str> = lists[0].iter().map(String::as_str).collect();
    for (which, number) in (0..2).flat_map(|which| (0..20).map(move |number| (which, number))) {
        let name = format!("own-{which}-{number}");
        assert_eq!(listed.contains(&*name), number % 5 != 4, "{name}");
    }
    for name in &listed {
        let found = replicas[1].manifest(&a, &Target::Tag(tag(name))).await.expect("read");
        assert!(found.is_some(), "{name} is listed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_blobs_in_parts_from_two_replicas_and_at_an_address_of_the_service() {
    let Some(service) = started().await else { return };
    let redirecting = ObjectSettings { redirect: true, ..settings(&service, "large") };
    let store = BucketStore::open(&redirecting, service.variables()).await.expect("opened");
    let other = open(&service, "large").await;
    let content: Bytes = (0..12 * 1024 * 1024_u32).map(|index| (index % 253) as u8).collect();
    let digest = Digest::of(&content);
    let a = repository("a");
    let push = async |store: &BucketStore| {
        let mut staged = store.stage().await.expect("staged");
        for piece in 0..12 {
            let piece = content.slice(piece * 1024 * 1024..(piece + 1) * 1024 * 1024);
            staged.append(vec![piece]).await.expect("appended");
        }
        staged.commit(&a, &digest).await.expect("committed");
    };
    tokio::join!(push(&store), push(&other));
    for store in [&store, &other] {
        let blob = store.blob(&a, &digest).await.expect("opened").expect("there");
        for start in [0, 1, 5 * 1024 * 1024 - 1, 12 * 1024 * 1024 - 1] {
            let chunks: Vec<Bytes> = blob.read_from(start as u64).try_collect().await.expect("read");
            assert!(chunks.concat() == content[start..], "{start}");
        }
    }
    assert!(other.blob_url(&a, &digest).await.expect("no address").is_none(), "only where it is asked for");
    let url = store.blob_url(&a, &digest).await.expect("signed").expect("an address");
    let answer = reqwest::get(url).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.expect("a body") == content);
    let now = store.clock().await.expect("a time");
    let days = std::time::Duration::from_secs(9 * 24 * 60 * 60);
    let swept = store.sweep_at(SweepOptions::default(), now + days).await.expect("swept");
    assert!(swept.leaving >= 1, "{swept:?}");
}

#[tokio::test]
async fn a_service_that_does_not_let_us_in_is_named_and_the_secret_is_not() {
    let Some(service) = started().await else { return };
    let mut wrong = service.variables();
    wrong[1].1 = "not the one".to_owned();
    let error = BucketStore::open(&settings(&service, "x"), wrong).await.expect_err("refused").to_string();
    assert!(error.contains("s3://registry/x") && error.contains("credentialsFile"), "{error}");
    assert!(!error.contains("not the one"), "{error}");
    let missing = ObjectSettings { url: "s3://missing/x".to_owned(), ..settings(&service, "") };
    let error = BucketStore::open(&missing, service.variables()).await.expect_err("refused");
    assert!(matches!(error, OpenError::Store(_)), "{error}");
    assert!(error.to_string().contains("bucket"), "{error}");
}

/// A page of a list is asked for from where it begins.
#[tokio::test]
async fn a_page_costs_about_a_page() {
    let Some(service) = started().await else { return };
    let store = open(&service, "pages").await;
    let a = repository("a");
    let tags: Vec<Tag> = (0..100).map(|number| tag(&format!("v{number:03}"))).collect();
    store.put_manifest(&a, &numbered(0), None, &tags).await.expect("put");
    let before = service.requests().len();
    let page = Page { after: Some("v049".to_owned()), limit: 10 };
    let listing = store.tags(&a, &page).await.expect("listed").expect("known");
    assert_eq!((listing.entries[0].as_str(), listing.entries.len(), listing.more), ("v050", 10, true));
    let requests = service.requests().split_off(before);
    assert_eq!(requests.len(), 1, "{requests:?}");
}

/// The registry itself over the service: a push to one replica, a pull from the other, and the way to the service's own address.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_one_registry_is_pulled_from_another() {
    use crate::server::{ServeOptions, serve};
    let Some(service) = started().await else { return };
    let redirecting = ObjectSettings { redirect: true, ..settings(&service, "served") };
    let stop = tokio_util::sync::CancellationToken::new();
    let mut bases = Vec::new();
    for settings in [settings(&service, "served"), redirecting] {
        let store = BucketStore::open(&settings, service.variables()).await.expect("opened");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        bases.push(format!("http://{}/v2/a", listener.local_addr().expect("an address")));
        tokio::spawn(serve(ServeOptions::new(listener, Arc::new(store)), stop.clone()));
    }
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let content = vec![5_u8; 6 * 1024 * 1024];
    let digest = Digest::of(&content);
    let upload = format!("{}/blobs/uploads/?digest={digest}", bases[0]);
    let answer = client.post(upload).body(content.clone()).send().await.expect("an answer");
    assert_eq!(answer.status(), 201);
    // A session is the replica's that opened it: another one has never heard of it, and the client begins anew.
    let begun = client.post(format!("{}/blobs/uploads/", bases[0])).send().await.expect("an answer");
    let location = begun.headers()["location"].to_str().expect("text").to_owned();
    let elsewhere = format!("{}{location}", bases[1].trim_end_matches("/v2/a"));
    let answer = client.patch(elsewhere).body("abc").send().await.expect("an answer");
    assert_eq!(answer.status(), 404);
    assert!(answer.text().await.expect("a body").contains("BLOB_UPLOAD_UNKNOWN"));
    let answer = client.get(format!("{}/blobs/{digest}", bases[0])).header("range", "bytes=6-9").send().await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.bytes().await.expect("a body").len()), (206, 4));
    let answer = client.get(format!("{}/blobs/{digest}", bases[1])).send().await.expect("an answer");
    assert_eq!(answer.status(), 307);
    let address = answer.headers()["location"].to_str().expect("text").to_owned();
    assert!(address.starts_with(&service.endpoint()), "{address}");
    let answer = client.get(address).send().await.expect("an answer");
    assert!(answer.bytes().await.expect("a body") == content);
    stop.cancel();
}
