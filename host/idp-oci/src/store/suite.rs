//! The rules of a store as functions that every backend passes: each takes a fresh store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::digest::Digest;
use crate::media;
use crate::name::{Repository, Tag, Target};
use crate::store::{Page, Referral, Store, StoredManifest};

pub(crate) async fn run<S: Store>(fresh: impl AsyncFn() -> Arc<S>) {
    blobs_are_whole_and_per_repository(&*fresh().await).await;
    mounting(&*fresh().await).await;
    staged_content_is_invisible(&*fresh().await).await;
    manifests_and_tags(&*fresh().await).await;
    listing(&*fresh().await).await;
    referrers(&*fresh().await).await;
    deleting(&*fresh().await).await;
    many_at_once(fresh().await).await;
}

pub(crate) fn manifest(bytes: &'static [u8]) -> StoredManifest {
    StoredManifest {
        media_type: media::OCI_MANIFEST.to_owned(),
        digest: Digest::of(bytes),
        bytes: Bytes::from_static(bytes),
    }
}

pub(crate) fn referral(subject: &Digest, artifact_type: &str) -> Referral {
    Referral {
        subject: subject.clone(),
        artifact_type: Some(artifact_type.to_owned()),
        annotations: BTreeMap::from([("key".to_owned(), "value".to_owned())]),
    }
}

pub(crate) async fn push_blob(store: &dyn Store, repository: &Repository, bytes: &'static [u8]) -> Digest {
    let digest = Digest::of(bytes);
    let mut staged = store.stage().await.expect("staged");
    for piece in bytes.chunks(3) {
        staged.append(vec![Bytes::from_static(piece)]).await.expect("appended");
    }
    staged.commit(repository, &digest).await.expect("committed");
    digest
}

async fn read(store: &dyn Store, repository: &Repository, digest: &Digest) -> Option<Vec<u8>> {
    let blob = store.blob(repository, digest).await.expect("opened")?;
    let chunks: Vec<Bytes> = blob.read_from(0).try_collect().await.expect("read");
    Some(chunks.concat())
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a good name")
}

fn all() -> Page {
    Page { after: None, limit: usize::MAX }
}

async fn blobs_are_whole_and_per_repository(store: &dyn Store) {
    let (a, b): (Repository, Repository) = (name("a"), name("a/b"));
    for content in [&b""[..], b"0123456789"] {
        let digest = push_blob(store, &a, content).await;
        assert_eq!(store.blob_size(&a, &digest).await.expect("read"), Some(content.len() as u64));
        assert_eq!(read(store, &a, &digest).await.as_deref(), Some(content));
        assert_eq!(store.blob_size(&b, &digest).await.expect("read"), None);
        assert!(store.blob(&b, &digest).await.expect("opened").is_none());
    }
    assert_eq!(store.tags(&a, &all()).await.expect("listed").expect("known").entries, Vec::<String>::new());
    assert!(store.tags(&b, &all()).await.expect("listed").is_none());
}

async fn mounting(store: &dyn Store) {
    let (a, b, c): (Repository, Repository, Repository) = (name("a"), name("b"), name("c"));
    let digest = push_blob(store, &a, b"content").await;
    assert!(!store.mount(&c, &digest, Some(&b)).await.expect("mounted"));
    assert!(store.blob(&c, &digest).await.expect("opened").is_none());
    assert!(store.mount(&b, &digest, Some(&a)).await.expect("mounted"));
    assert!(store.mount(&c, &digest, None).await.expect("mounted"));
    assert!(store.delete_blob(&a, &digest).await.expect("deleted"));
    assert!(!store.delete_blob(&a, &digest).await.expect("deleted"));
    assert_eq!(read(store, &a, &digest).await, None);
    assert_eq!(read(store, &b, &digest).await.as_deref(), Some(&b"content"[..]));
    for repository in [&b, &c] {
        assert!(store.delete_blob(repository, &digest).await.expect("deleted"));
    }
    assert!(!store.mount(&a, &digest, None).await.expect("mounted"), "nobody has it any more");
    // Content that was only ever a manifest is no blob.
    let stored = manifest(b"{}");
    store.put_manifest(&a, &stored, None, &[]).await.expect("put");
    assert!(!store.mount(&b, &stored.digest, None).await.expect("mounted"));
}

async fn staged_content_is_invisible(store: &dyn Store) {
    let a: Repository = name("a");
    let mut staged = store.stage().await.expect("staged");
    staged.append(vec![Bytes::from_static(b"con"), Bytes::from_static(b"tent")]).await.expect("appended");
    let back: Vec<Bytes> =
        staged.read_back().await.expect("opened").read_from(0).try_collect().await.expect("read");
    assert_eq!(back.concat(), b"content");
    assert!(store.blob(&a, &Digest::of(b"content")).await.expect("opened").is_none());
    drop(staged);
    assert!(!store.mount(&a, &Digest::of(b"content"), None).await.expect("mounted"));
}

async fn manifests_and_tags(store: &dyn Store) {
    let (a, b): (Repository, Repository) = (name("a"), name("b"));
    let (one, two) = (manifest(b"{\"one\":1}"), manifest(b"{\"two\":2}"));
    let tag: Tag = name("v1");
    store.put_manifest(&a, &one, None, &[tag.clone(), name("latest")]).await.expect("put");
    store.put_manifest(&a, &two, None, &[]).await.expect("put");
    let by_tag = Target::Tag(tag.clone());
    assert_eq!(store.manifest(&a, &by_tag).await.expect("read"), Some(one.clone()));
    store.put_manifest(&a, &two, None, std::slice::from_ref(&tag)).await.expect("moved");
    assert_eq!(store.manifest(&a, &by_tag).await.expect("read"), Some(two.clone()));
    let by_digest = Target::Digest(one.digest.clone());
    assert_eq!(store.manifest(&a, &by_digest).await.expect("read"), Some(one.clone()));
    assert!(store.has_manifest(&a, &one.digest).await.expect("read"));
    assert!(!store.has_manifest(&b, &one.digest).await.expect("read"));
    assert_eq!(store.manifest(&b, &by_digest).await.expect("read"), None);
    assert_eq!(store.manifest(&a, &Target::Tag(name("v9"))).await.expect("read"), None);
    assert!(store.blob(&a, &one.digest).await.expect("opened").is_none(), "a manifest is no blob");
}

async fn listing(store: &dyn Store) {
    let stored = manifest(b"{}");
    for repository in ["b/a", "b", "b-c", "b/a/c"] {
        store.put_manifest(&name(repository), &stored, None, &[]).await.expect("put");
    }
    push_blob(store, &name("only/blobs"), b"x").await;
    let listing = store.repositories(&all()).await.expect("listed");
    assert_eq!((listing.entries.join(" ").as_str(), listing.more), ("b b-c b/a b/a/c", false));
    let page = Page { after: Some("b".to_owned()), limit: 2 };
    let listing = store.repositories(&page).await.expect("listed");
    assert_eq!((listing.entries.join(" ").as_str(), listing.more), ("b-c b/a", true));

    let repository: Repository = name("b");
    let tags: Vec<Tag> = ["v1", "V2", "_x", "v10"].map(name).into();
    store.put_manifest(&repository, &stored, None, &tags).await.expect("put");
    let page = Page { after: Some("V2".to_owned()), limit: 2 };
    let listing = store.tags(&repository, &page).await.expect("listed").expect("known");
    assert_eq!((listing.entries.join(" ").as_str(), listing.more), ("_x v1", true));
}

async fn referrers(store: &dyn Store) {
    let (a, b): (Repository, Repository) = (name("a"), name("b"));
    let subject = Digest::of(b"a subject that does not exist");
    let (one, two) = (manifest(b"{\"one\":1}"), manifest(b"{\"two\":2}"));
    store.put_manifest(&a, &one, Some(&referral(&subject, "x/one")), &[]).await.expect("put");
    store.put_manifest(&a, &two, Some(&referral(&subject, "x/two")), &[]).await.expect("put");
    store.put_manifest(&a, &two, Some(&referral(&subject, "x/two")), &[]).await.expect("put again");
    let mut types: Vec<_> = store.referrers(&a, &subject).await.expect("listed").into_iter().collect();
    assert!(types.is_sorted_by_key(|referrer| referrer.digest.clone()));
    types.sort_by_key(|referrer| referrer.artifact_type.clone());
    let [first, second] = &types[..] else { panic!("two referrers, and not {types:?}") };
    assert_eq!((&first.digest, first.size), (&one.digest, 9));
    assert_eq!(first.annotations.get("key").map(String::as_str), Some("value"));
    assert_eq!(second.artifact_type.as_deref(), Some("x/two"));
    assert_eq!(store.referrers(&b, &subject).await.expect("listed"), []);
    assert!(store.delete_manifest(&a, &one.digest).await.expect("deleted"));
    assert_eq!(store.referrers(&a, &subject).await.expect("listed"), std::slice::from_ref(second));
}

async fn deleting(store: &dyn Store) {
    let a: Repository = name("a");
    let (one, two) = (manifest(b"{\"one\":1}"), manifest(b"{\"two\":2}"));
    store.put_manifest(&a, &one, None, &[name("x"), name("y"), name("z")]).await.expect("put");
    store.put_manifest(&a, &two, None, &[name("other")]).await.expect("put");
    assert!(store.delete_tag(&a, &name("x")).await.expect("deleted"));
    assert!(!store.delete_tag(&a, &name("x")).await.expect("deleted"));
    assert!(store.has_manifest(&a, &one.digest).await.expect("read"), "only the tag went");
    assert!(store.delete_manifest(&a, &one.digest).await.expect("deleted"));
    assert!(!store.delete_manifest(&a, &one.digest).await.expect("deleted"));
    assert!(!store.delete_manifest(&name("b"), &two.digest).await.expect("deleted"));
    let tags = store.tags(&a, &all()).await.expect("listed").expect("known").entries;
    assert_eq!(tags, ["other"]);
    assert!(store.delete_manifest(&a, &two.digest).await.expect("deleted"));
    assert_eq!(store.repositories(&all()).await.expect("listed").entries, Vec::<String>::new());
    assert!(store.tags(&a, &all()).await.expect("listed").is_some(), "the repository is still known");
}

async fn many_at_once<S: Store>(store: Arc<S>) {
    let tasks: Vec<_> = (0..16)
        .map(|index| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let a: Repository = name("a");
                let stored = manifest(if index % 2 == 0 { b"{\"even\":0}" } else { b"{\"odd\":1}" });
                push_blob(&*store, &a, b"the same content for all").await;
                let tags = [name("shared"), name(&format!("own-{index}"))];
                store.put_manifest(&a, &stored, None, &tags).await.expect("put");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let a: Repository = name("a");
    let tags = store.tags(&a, &all()).await.expect("listed").expect("known").entries;
    assert_eq!(tags.len(), 17, "no tag is lost: {tags:?}");
    assert!(store.manifest(&a, &Target::Tag(name("shared"))).await.expect("read").is_some());
    let digest = Digest::of(b"the same content for all");
    assert_eq!(read(&*store, &a, &digest).await.as_deref(), Some(&b"the same content for all"[..]));
}
