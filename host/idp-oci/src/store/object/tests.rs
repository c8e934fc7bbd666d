//! The store over a bucket in memory: the rules of a store, parts, pages, what is swept and what is not, what requests cost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::bucket::Bucket;
use super::slow::{Shared, Slow};
use super::{BucketStore, ObjectSettings, SweepOptions, Swept};
use crate::digest::Digest;
use crate::name::{Repository, Tag, Target};
use crate::store::{Page, Store as _, StoreError, StoredManifest, suite};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A store over a slow bucket, and the bucket.
pub(super) async fn slow(seed: u64) -> (Bucket, BucketStore) {
    let bucket = Bucket::new("memory://", "some/prefix", Arc::new(Shared(Arc::new(Slow::new(seed)))), None);
    let settings = ObjectSettings { part_bytes: 100, ..ObjectSettings::default() };
    let store = BucketStore::over(bucket.clone(), settings).await.expect("opened");
    (bucket, store)
}

fn repository(name: &str) -> Repository {
    name.parse().expect("a repository")
}

async fn keys(bucket: &Bucket, folder: &str) -> Vec<String> {
    bucket.list(folder, None).map_ok(|entry| entry.key).try_collect().await.expect("listed")
}

async fn read(store: &BucketStore, repository: &Repository, digest: &Digest, start: u64) -> Vec<u8> {
    let blob = store.blob(repository, digest).await.expect("opened").expect("there");
    let chunks: Vec<Bytes> = blob.read_from(start).try_collect().await.expect("read");
    chunks.concat()
}

/// A manifest that names these blobs as layers.
fn image(layers: &[&Digest]) -> StoredManifest {
    let layer = |digest: &&Digest| format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1}}"#);
    let layers: Vec<String> = layers.iter().map(layer).collect();
    let bytes = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        layers.first().map_or("null", String::as_str),
        layers.join(",")
    );
    let media_type = crate::media::OCI_MANIFEST.to_owned();
    StoredManifest { media_type, digest: Digest::of(bytes.as_bytes()), bytes: bytes.into() }
}

#[tokio::test]
async fn keeps_the_rules_of_a_store() {
    suite::run(async || Arc::new(BucketStore::in_memory().await.expect("opened"))).await;
}

/// A connection that breaks tells nothing of the write that was on it; it is looked up, and done once.
#[tokio::test(start_paused = true)]
async fn writes_that_break_off() {
    let service = Arc::new(Slow::new(0));
    let bucket = Bucket::new("memory://", "", Arc::new(Shared(Arc::clone(&service))), None);
    let store = BucketStore::over(bucket, ObjectSettings::default()).await.expect("opened");
    let place = repository("team/app");
    for breaks in 1..=4 {
        let manifest = suite::manifest(format!("{{\"number\":{breaks}}}").leak().as_bytes());
        service.breaking.store(breaks, std::sync::atomic::Ordering::Relaxed);
        let tag: Tag = format!("t{breaks}").parse().expect("a tag");
        store.put_manifest(&place, &manifest, None, std::slice::from_ref(&tag)).await.expect("put");
        assert!(service.breaking.swap(0, std::sync::atomic::Ordering::Relaxed) < breaks, "{breaks}");
        let found = store.manifest(&place, &Target::Tag(tag)).await.expect("read");
        assert_eq!(found, Some(manifest), "{breaks}");
    }
    service.breaking.store(1000, std::sync::atomic::Ordering::Relaxed);
    let manifest = suite::manifest(b"{\"number\":5}");
    let error = store.put_manifest(&place, &manifest, None, &[]).await;
    assert!(matches!(error, Ok(()) | Err(StoreError::Object { .. })), "an end to it");
}

/// Two that delete the same thing both get what they want; what is still there is an error.
#[tokio::test]
async fn deletions_that_another_one_was_faster_than() {
    let service = Arc::new(Slow::new(0));
    let bucket = Bucket::new("memory://", "", Arc::new(Shared(Arc::clone(&service))), None);
    bucket.put("kept", "content").await.expect("put");
    service.jealous.store(true, std::sync::atomic::Ordering::Relaxed);
    bucket.delete("gone").await.expect("it is not there, and that is what was wanted");
    assert!(matches!(bucket.delete("kept").await, Err(StoreError::Object { .. })));
}

#[tokio::test(start_paused = true)]
async fn keeps_the_rules_of_a_store_when_requests_take_their_time() {
    for seed in 1..5 {
        suite::run(async || Arc::new(slow(seed).await.1)).await;
    }
}

#[tokio::test]
async fn large_blobs_come_in_parts_and_no_byte_twice() {
    let (bucket, store) = slow(0).await;
    let content: Vec<u8> = (0..1057_u32).map(|index| (index % 251) as u8).collect();
    let digest = Digest::of(&content);
    let a = repository("a");
    for _ in 0..2 {
        let mut staged = store.stage().await.expect("staged");
        for piece in content.chunks(97) {
            staged.append(vec![Bytes::copy_from_slice(piece)]).await.expect("appended");
        }
        staged.commit(&a, &digest).await.expect("committed");
    }
    assert_eq!(store.blob_size(&a, &digest).await.expect("read"), Some(1057));
    assert!(read(&store, &a, &digest, 0).await == content);
    assert!(read(&store, &a, &digest, 1000).await == content[1000..]);
    assert_eq!(read(&store, &a, &digest, 1057).await, b"");
    // What was sent the second time is forgotten, in the background.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(keys(&bucket, "large").await.len(), 1);
    assert_eq!(keys(&bucket, "uploads").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_large_upload_can_be_read_before_it_is_a_blob_and_given_up() {
    let (bucket, store) = slow(0).await;
    let mut staged = store.stage().await.expect("staged");
    staged.append(vec![Bytes::from(vec![7; 350])]).await.expect("appended");
    assert_eq!(keys(&bucket, "uploads").await.len(), 1);
    let back = staged.read_back().await.expect("opened");
    let chunks: Vec<Bytes> = back.read_from(0).try_collect().await.expect("read");
    assert!(chunks.concat() == [7; 350]);
    drop(staged);
    tokio::time::sleep(Duration::from_millis(50)).await;
    for folder in ["uploads", "large", "blobs"] {
        assert_eq!(keys(&bucket, folder).await, Vec::<String>::new(), "{folder}");
    }
}

#[tokio::test]
async fn a_manifest_that_comes_back_comes_without_its_tags() {
    let (_bucket, store) = slow(0).await;
    let (a, tag): (Repository, Tag) = (repository("a"), "v1".parse().expect("a tag"));
    let manifest = suite::manifest(b"{}");
    store.put_manifest(&a, &manifest, None, std::slice::from_ref(&tag)).await.expect("put");
    assert!(store.delete_manifest(&a, &manifest.digest).await.expect("deleted"));
    store.put_manifest(&a, &manifest, None, &[]).await.expect("put");
    assert_eq!(store.manifest(&a, &Target::Tag(tag)).await.expect("read"), None);
    let pushed_as = StoredManifest { media_type: "application/other".to_owned(), ..manifest.clone() };
    store.put_manifest(&a, &pushed_as, None, &[]).await.expect("put");
    let found = store.manifest(&a, &Target::Digest(manifest.digest)).await.expect("read");
    assert_eq!(found, Some(pushed_as));
}

#[tokio::test]
async fn pages_of_any_beginning() {
    let (_bucket, store) = slow(0).await;
    let manifest = suite::manifest(b"{}");
    let names = ["a", "a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "b"];
    for name in names {
        let tags: Vec<Tag> =
            ["v1", "v1-rc", "v1.0", "v10", "V2"].map(|tag| tag.parse().expect("a tag")).into();
        store.put_manifest(&repository(name), &manifest, None, &tags).await.expect("put");
    }
    let mut sorted = names.map(str::to_owned);
    sorted.sort_unstable();
    let mut tags = ["v1", "v1-rc", "v1.0", "v10", "V2"].map(str::to_owned);
    tags.sort_unstable();
    for after in [
        "", "a", "a-", "a-b", "a/", "a/b", "a/b/", "a//", "A", "é", "v1", "v1-", "v1/", "v1.00", "%", "~",
        "zz", "V",
    ] {
        for limit in [0, 1, 3, 99] {
            let page = Page { after: Some(after.to_owned()), limit };
            let listing = store.repositories(&page).await.expect("listed");
            assert_eq!(listing, page.cut(sorted.clone()), "{page:?}");
            let listing = store.tags(&repository("a/b"), &page).await.expect("listed").expect("known");
            assert_eq!(listing, page.cut(tags.clone()), "{page:?}");
        }
    }
}

#[tokio::test]
async fn what_requests_cost() {
    let slow = Arc::new(Slow::new(0));
    let bucket = Bucket::new("memory://", "", Arc::new(Shared(Arc::clone(&slow))), None);
    let store = BucketStore::over(bucket, ObjectSettings::default()).await.expect("opened");
    let a = repository("a");
    let count = || slow.requests.swap(0, Ordering::Relaxed);
    suite::push_blob(&store, &a, b"first").await;
    count();
    let digest = suite::push_blob(&store, &a, b"content").await;
    assert_eq!(count(), 4, "a small blob: who has it, the bytes, the membership, not condemned");
    suite::push_blob(&store, &repository("a"), b"content").await;
    assert_eq!(count(), 3, "one that is there: no bytes");
    store.blob_size(&a, &digest).await.expect("read");
    assert_eq!(count(), 1, "a blob's size");
    read(&store, &a, &digest, 0).await;
    assert_eq!(count(), 2, "a blob");
    let manifest = suite::manifest(b"{}");
    let tag: Tag = "v1".parse().expect("a tag");
    store.put_manifest(&a, &manifest, None, std::slice::from_ref(&tag)).await.expect("put");
    assert_eq!(
        count(),
        6,
        "a manifest: itself, the catalogue once, the tag with a look before and after, still there"
    );
    store.manifest(&a, &Target::Tag(tag)).await.expect("read");
    assert_eq!(count(), 2, "a manifest by tag");
    store.manifest(&a, &Target::Digest(manifest.digest.clone())).await.expect("read");
    assert_eq!(count(), 1, "a manifest by digest");
    let all = Page { after: None, limit: 100 };
    store.tags(&a, &all).await.expect("listed");
    assert_eq!(count(), 1, "a page of tags");
    for name in ["b", "c", "d"] {
        store.put_manifest(&repository(name), &manifest, None, &[]).await.expect("put");
    }
    count();
    store.repositories(&all).await.expect("listed");
    assert_eq!(count(), 1, "a page of the catalogue");
}

#[tokio::test]
async fn what_nobody_refers_to_goes_in_several_sweeps() {
    let (bucket, store) = slow(0).await;
    let a = repository("a");
    let (kept, left) =
        (suite::push_blob(&store, &a, b"kept").await, suite::push_blob(&store, &a, b"left").await);
    let mut staged = store.stage().await.expect("staged");
    let large = vec![1; 250];
    staged.append(vec![Bytes::from(large.clone())]).await.expect("appended");
    let large = Digest::of(&large);
    staged.commit(&a, &large).await.expect("committed");
    store.put_manifest(&a, &image(&[&kept]), None, &[]).await.expect("put");
    let now = store.clock().await.expect("a time");
    let sweep = async |days: u32, dry_run| {
        store.sweep_at(SweepOptions { dry_run }, now + DAY * days).await.expect("swept")
    };
    assert_eq!(sweep(0, false).await, Swept::default(), "nothing is old");
    let before = keys(&bucket, "blobs").await;
    let marked = Swept { leaving: 2, ..Swept::default() };
    assert_eq!(sweep(2, true).await, marked);
    assert_eq!(keys(&bucket, "blobs").await, before, "a dry run changes nothing");
    assert_eq!(sweep(2, false).await, marked);
    assert!(keys(&bucket, "blobs").await.len() == before.len() + 2);
    // Marks were made now, whatever the sweep thought: a day from now they are a day old.
    assert_eq!(sweep(2, false).await.unlinked, 2);
    assert_eq!(store.blob_size(&a, &left).await.expect("read"), None);
    assert_eq!(sweep(2, false).await.condemned, 2);
    let gone = sweep(2, false).await;
    assert_eq!((gone.contents, gone.bytes), (2, 254));
    assert_eq!(sweep(9, false).await, Swept::default());
    assert_eq!(keys(&bucket, "large").await, Vec::<String>::new());
    assert_eq!(read(&store, &a, &kept, 0).await, b"kept");
    assert_eq!(keys(&bucket, "blobs").await.len(), 2);
}

#[tokio::test]
async fn who_asks_for_a_blob_that_is_leaving_keeps_it() {
    let (_bucket, store) = slow(0).await;
    let a = repository("a");
    let digest = suite::push_blob(&store, &a, b"content").await;
    let now = store.clock().await.expect("a time");
    let sweep = async |at| store.sweep_at(SweepOptions::default(), at).await.expect("swept");
    assert_eq!(sweep(now + DAY * 2).await.leaving, 1);
    assert_eq!(store.blob_size(&a, &digest).await.expect("read"), Some(7));
    // Half a grace later the old membership goes, and the new one stays though no manifest names it yet.
    let swept = sweep(now + DAY + Duration::from_secs(60)).await;
    assert_eq!((swept.leaving, swept.condemned), (1, 0));
    assert_eq!(store.blob_size(&a, &digest).await.expect("read"), Some(7));
    store.put_manifest(&a, &image(&[&digest]), None, &[]).await.expect("put");
    for days in 3..9 {
        sweep(now + DAY * days).await;
    }
    assert_eq!(read(&store, &a, &digest, 0).await, b"content");
}

#[tokio::test]
async fn uploads_that_nobody_finished_are_swept() {
    let (bucket, store) = slow(0).await;
    let mut staged = store.stage().await.expect("staged");
    staged.append(vec![Bytes::from(vec![7; 350])]).await.expect("appended");
    // The replica died.
    std::mem::forget(staged);
    let now = store.clock().await.expect("a time");
    assert_eq!(store.sweep_at(SweepOptions::default(), now + DAY).await.expect("swept").uploads, 0);
    assert_eq!(store.sweep_at(SweepOptions::default(), now + DAY * 8).await.expect("swept").uploads, 1);
    assert_eq!(keys(&bucket, "uploads").await, Vec::<String>::new());
}

#[tokio::test]
async fn what_a_replica_left_half_done_counts_for_nothing_and_is_swept() {
    let (bucket, store) = slow(0).await;
    let a = repository("a");
    let manifest = suite::manifest(b"{\"one\":1}");
    let tag: Tag = "v1".parse().expect("a tag");
    let subject = Digest::of(b"subject");
    let referral = suite::referral(&subject, "a/b");
    store.put_manifest(&a, &manifest, Some(&referral), std::slice::from_ref(&tag)).await.expect("put");
    // A deletion that died after its first step.
    bucket.delete(&super::keys::manifest(&a, &manifest.digest)).await.expect("deleted");
    assert_eq!(store.manifest(&a, &Target::Tag(tag.clone())).await.expect("read"), None);
    assert_eq!(store.referrers(&a, &subject).await.expect("listed"), []);
    assert!(!store.delete_tag(&a, &tag).await.expect("deleted"));
    let swept = store.sweep(SweepOptions::default()).await.expect("swept");
    assert_eq!((swept.stale, swept.entries), (1, 1));
    for folder in ["tags", "referrers"] {
        assert_eq!(keys(&bucket, folder).await, Vec::<String>::new(), "{folder}");
    }
    let all = Page { after: None, limit: 9 };
    assert_eq!(store.repositories(&all).await.expect("listed").entries, Vec::<String>::new());
}

#[tokio::test]
async fn a_bucket_of_a_newer_idp_or_of_nobody_is_refused() {
    for (content, newer) in [("{\"layout\":2}", true), ("hello", false)] {
        let (bucket, _store) = slow(0).await;
        bucket.put(super::keys::LAYOUT, Bytes::from(content)).await.expect("put");
        let error = BucketStore::over(bucket, ObjectSettings::default()).await.expect_err("refused");
        assert_eq!(matches!(error, StoreError::Layout { found: 2, .. }), newer, "{error}");
    }
}

#[tokio::test]
async fn ages_are_told_by_the_clock_of_the_service() {
    let (_bucket, store) = slow(0).await;
    let off = SystemTime::now().duration_since(store.clock().await.expect("a time")).unwrap_or_default();
    assert!(off < Duration::from_secs(60));
}

#[tokio::test]
async fn a_check_finds_what_is_wrong_and_puts_right_what_can_be() {
    use crate::store::fsck::{FindingKind as Kind, FsckOptions};
    let (bucket, store) = slow(0).await;
    let a = repository("a");
    let blobs = [&b"sound"[..], b"damaged", b"missing"];
    let mut digests = Vec::new();
    for blob in blobs {
        digests.push(suite::push_blob(&store, &a, blob).await);
    }
    let manifest = image(&digests.iter().collect::<Vec<_>>());
    let tag: Tag = "v1".parse().expect("a tag");
    store.put_manifest(&a, &manifest, None, std::slice::from_ref(&tag)).await.expect("put");
    let other = suite::manifest(b"{\"one\":1}");
    let subject = Digest::of(b"subject");
    let referral = suite::referral(&subject, "a/b");
    store.put_manifest(&a, &other, Some(&referral), &["gone".parse().expect("a tag")]).await.expect("put");
    let clean = store.fsck(FsckOptions::default()).await.expect("checked");
    assert_eq!((clean.findings.len(), clean.manifests, clean.tags, clean.blobs), (0, 2, 2, 3), "{clean:?}");
    assert_eq!((clean.hashed_bytes, clean.incomplete.len()), (19, 0));

    let content = async |digest: &Digest| {
        keys(&bucket, &format!("{}/content", super::keys::blob(digest))).await.remove(0)
    };
    bucket.put(&content(&digests[1]).await, Bytes::from_static(b"spoiled")).await.expect("put");
    bucket.delete(&content(&digests[2]).await).await.expect("deleted");
    bucket.delete(&keys(&bucket, "referrers").await[0]).await.expect("deleted");
    bucket.put("tags/nonsense", Bytes::new()).await.expect("put");
    let kinds = async |repair| {
        let report = store.fsck(FsckOptions { fast: false, repair }).await.expect("checked");
        let mut kinds: Vec<_> =
            report.findings.iter().map(|finding| (finding.kind, finding.repaired)).collect();
        kinds.sort_unstable();
        (kinds, report.incomplete.len())
    };
    let wrong =
        [Kind::ContentMissing, Kind::ContentMissing, Kind::ContentDamaged, Kind::Referrers, Kind::RowStrange];
    let expect = |repaired| wrong.map(|kind| (kind, repaired && kind != Kind::RowStrange)).to_vec();
    assert_eq!(kinds(false).await.0, expect(false));
    assert_eq!(kinds(true).await, (expect(true), 1));
    assert_eq!(store.blob_size(&a, &digests[1]).await.expect("read"), None);
    assert_eq!(store.referrers(&a, &subject).await.expect("listed").len(), 1);
    // What was condemned is of no interest any more.
    for blob in &blobs[1..] {
        suite::push_blob(&store, &a, blob).await;
    }
    let (kinds, incomplete) = kinds(false).await;
    assert_eq!((kinds, incomplete), (vec![(Kind::RowStrange, false)], 0));
    assert_eq!(read(&store, &a, &digests[1], 0).await, b"damaged");
}
