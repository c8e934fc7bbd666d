use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::{Collected, GcOptions, Limits, look, take};
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::media;
use crate::name::{Repository, Target};
use crate::store::fs::FsStore;
use crate::store::fsck::FsckOptions;
use crate::store::{
    CollectionSettings, Page, QuotaSettings, Referral, RetentionSettings, Store as _, StoreError,
    StoreSettings, StoredManifest, Usage, suite,
};

const NAME: &str = "team/app";

fn app() -> Repository {
    NAME.parse().expect("a repository")
}

fn at_once() -> GcOptions {
    GcOptions { grace: Some(Duration::ZERO), ..GcOptions::default() }
}

fn image(layer: &Digest, more: &str) -> StoredManifest {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"a/b","digest":"{layer}","size":1}},"layers":[]{more}}}"#,
        media::OCI_MANIFEST,
    );
    StoredManifest {
        media_type: media::OCI_MANIFEST.to_owned(),
        digest: Digest::of(text.as_bytes()),
        bytes: text.into(),
    }
}

fn index(child: &Digest) -> StoredManifest {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{child}","size":1}}]}}"#,
        media::OCI_INDEX,
        media::OCI_MANIFEST,
    );
    StoredManifest {
        media_type: media::OCI_INDEX.to_owned(),
        digest: Digest::of(text.as_bytes()),
        bytes: text.into(),
    }
}

async fn put(store: &FsStore, manifest: &StoredManifest, tags: &[&str]) -> Result<(), StoreError> {
    let parsed = Manifest::parse(manifest.bytes.clone(), None).expect("a manifest");
    let referral = Referral::of(&parsed).expect("annotations");
    let tags: Vec<_> = tags.iter().map(|tag| tag.parse().expect("a tag")).collect();
    store.put_manifest(&app(), manifest, referral.as_ref(), &tags).await
}

async fn open(root: &Path, settings: StoreSettings) -> FsStore {
    FsStore::open_with(root, settings).await.expect("opened")
}

/// Makes everything in the repository long ago.
async fn age(store: &FsStore) {
    use redb::ReadableTable as _;
    let aged = store.disk().rows.change(|tables| {
        tables.touch();
        let mut blobs = Vec::new();
        for row in tables.blobs.iter()? {
            let (at, value) = row?;
            blobs.push((at.value().1.to_vec(), value.value().0));
        }
        for (at, size) in blobs {
            tables.blobs.insert((NAME, &*at), (size, 0))?;
        }
        let mut manifests = Vec::new();
        for row in tables.manifests.iter()? {
            let (at, value) = row?;
            manifests.push((at.value().1.to_vec(), value.value().0.to_vec(), value.value().1.to_vec()));
        }
        for (at, record, bytes) in manifests {
            let mut record: crate::store::rows::table::Record =
                serde_json::from_slice(&record).expect("ours");
            record.since = 0;
            tables.write_manifest(NAME, &at, &record, &bytes)?;
        }
        let mut trash = Vec::new();
        for row in tables.trash.iter()? {
            let (at, value) = row?;
            trash.push((at.value().1.to_vec(), value.value().0.to_vec(), value.value().1.to_vec()));
        }
        for (at, discarded, bytes) in trash {
            let mut discarded: crate::store::rows::trash::Discarded =
                serde_json::from_slice(&discarded).expect("ours");
            discarded.since = 0;
            tables.trash.insert((NAME, &*at), (&*crate::store::rows::change::json(&discarded), &*bytes))?;
        }
        let mut tags = Vec::new();
        for row in tables.trash_tags.iter()? {
            let (at, value) = row?;
            tags.push((at.value().1.to_owned(), value.value().0.to_vec()));
        }
        for (tag, named) in tags {
            tables.trash_tags.insert((NAME, &*tag), (&*named, 0))?;
        }
        Ok(())
    });
    aged.await.expect("aged");
}

async fn is_sound(store: &FsStore) {
    let report = store.fsck(FsckOptions::default()).await.expect("checked");
    assert_eq!((report.findings, report.unused), (vec![], 0));
}

async fn has(store: &FsStore, digest: &Digest) -> bool {
    store.blob_size(&app(), digest).await.expect("asked").is_some()
}

#[tokio::test]
async fn blobs_that_nothing_names_go_after_their_grace() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), StoreSettings::default()).await;
    let named = suite::push_blob(&store, &app(), b"named").await;
    let loose = suite::push_blob(&store, &app(), b"loose").await;
    put(&store, &image(&named, ""), &["v1"]).await.expect("put");
    let report = store.collect(GcOptions::default()).await.expect("collected");
    assert_eq!(report.total, Collected::default(), "both are young");

    age(&store).await;
    let busy = GcOptions { busy: HashSet::from([NAME.to_owned()]), ..GcOptions::default() };
    assert_eq!(store.collect(busy).await.expect("collected").total, Collected::default());

    let dry = GcOptions { dry_run: true, ..GcOptions::default() };
    let told = store.collect(dry).await.expect("told");
    assert_eq!((told.total.blobs, told.total.bytes, told.content, told.content_bytes), (1, 5, 1, 5));
    let path = directory.path().join("blobs/sha256").join(&loose.hex()[..2]).join(loose.hex());
    assert!(path.exists());

    let report = store.collect(GcOptions::default()).await.expect("collected");
    assert_eq!((report.total, report.content_bytes), (told.total, 5));
    assert_eq!(report.repositories.keys().collect::<Vec<_>>(), [NAME]);
    assert!(!path.exists() && has(&store, &named).await && !has(&store, &loose).await);
    is_sound(&store).await;
}

#[tokio::test]
async fn a_blob_that_a_client_was_told_of_has_its_time_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), StoreSettings::default()).await;
    let blob = suite::push_blob(&store, &app(), b"content").await;
    for way in 0..3 {
        age(&store).await;
        match way {
            0 => assert!(has(&store, &blob).await),
            1 => assert!(store.blob(&app(), &blob).await.expect("asked").is_some()),
            _ => {
                let missing = store.missing_blobs(&app(), std::slice::from_ref(&blob)).await;
                assert_eq!(missing.expect("asked"), []);
            }
        }
        let report = store.collect(GcOptions::default()).await.expect("collected");
        assert_eq!(report.total.blobs, 0, "{way}");
    }
    age(&store).await;
    assert_eq!(store.collect(GcOptions::default()).await.expect("collected").total.blobs, 1);
}

#[tokio::test]
async fn what_was_taken_up_since_it_was_looked_at_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), StoreSettings::default()).await;
    let [named, pushed, gone] = [
        suite::push_blob(&store, &app(), b"named").await,
        suite::push_blob(&store, &app(), b"pushed again").await,
        suite::push_blob(&store, &app(), b"gone").await,
    ];
    let loose = image(&gone, r#","annotations":{"a":"1"}"#);
    let tagged = image(&named, r#","annotations":{"a":"2"}"#);
    let child = image(&named, r#","annotations":{"a":"3"}"#);
    for manifest in [&loose, &tagged, &child] {
        put(&store, manifest, &[]).await.expect("put");
    }
    age(&store).await;
    let limits = Limits {
        now: crate::store::disk::now(),
        grace: Duration::from_secs(60),
        delete_untagged: Some(Duration::from_secs(60)),
        undo: Duration::ZERO,
        is_busy: false,
    };
    let disk = std::sync::Arc::clone(store.disk());
    let mut found = disk.rows.read(|rows| look(rows, &disk, NAME, &limits)).expect("looked");
    assert_eq!((found.manifests.len(), found.blobs.len()), (3, 1));
    // As if these had been looked at before a manifest named them.
    found.blobs.extend([(named.clone(), 0, 5), (gone.clone(), 0, 4)]);

    put(&store, &tagged, &["v1"]).await.expect("put");
    put(&store, &index(&child.digest), &["v2"]).await.expect("put");
    suite::push_blob(&store, &app(), b"pushed again").await;
    let mut report = super::GcReport::default();
    let collected = tokio::task::spawn_blocking(move || take(&disk, NAME, found, &mut report)).await;
    let collected = collected.expect("no panic").expect("collected");
    assert_eq!((collected.manifests, collected.blobs), (1, 0));
    for manifest in [&tagged, &child] {
        assert!(store.has_manifest(&app(), &manifest.digest).await.expect("asked"));
    }
    // The blob of what went has its time from now on.
    assert!(has(&store, &named).await && has(&store, &pushed).await && has(&store, &gone).await);
    is_sound(&store).await;
}

#[tokio::test]
async fn untagged_manifests_go_unless_something_keeps_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), StoreSettings::default()).await;
    let blob = suite::push_blob(&store, &app(), b"content").await;
    let tagged = image(&blob, "");
    let child = image(&blob, r#","annotations":{"a":"child"}"#);
    let parent = index(&child.digest);
    let subject = |digest: &Digest| {
        format!(r#","subject":{{"mediaType":"{}","digest":"{digest}","size":1}}"#, media::OCI_MANIFEST)
    };
    let signature = image(&blob, &subject(&tagged.digest));
    let of_nothing = image(&blob, &subject(&Digest::of(b"never")));
    let loose = image(&blob, r#","annotations":{"a":"loose"}"#);
    put(&store, &tagged, &["v1"]).await.expect("put");
    put(&store, &parent, &["v2"]).await.expect("put");
    for manifest in [&child, &signature, &of_nothing, &loose] {
        put(&store, manifest, &[]).await.expect("put");
    }
    age(&store).await;
    assert_eq!(
        store.collect(at_once()).await.expect("collected").total.manifests,
        0,
        "only when it is asked for"
    );
    let options = || GcOptions { delete_untagged: Some(Duration::from_secs(60)), ..GcOptions::default() };
    assert_eq!(store.collect(options()).await.expect("collected").total.manifests, 2);
    for (manifest, stays) in [
        (&tagged, true),
        (&parent, true),
        (&child, true),
        (&signature, true),
        (&of_nothing, false),
        (&loose, false),
    ] {
        assert_eq!(store.has_manifest(&app(), &manifest.digest).await.expect("asked"), stays);
    }
    // The image goes, and what referred to it after it; the index goes, and its child after it.
    for tag in ["v1", "v2"] {
        assert!(store.delete_tag(&app(), &tag.parse().expect("a tag")).await.expect("deleted"));
    }
    assert_eq!(store.collect(options()).await.expect("collected").total.manifests, 0, "its time begins now");
    for expect in [2, 2, 0] {
        age(&store).await;
        assert_eq!(store.collect(options()).await.expect("collected").total.manifests, expect);
        is_sound(&store).await;
    }
    age(&store).await;
    store.collect(options()).await.expect("collected");
    assert!(!has(&store, &blob).await);
    is_sound(&store).await;
}

#[tokio::test]
async fn retention_keeps_what_it_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let retention = vec![RetentionSettings {
        repositories: "team/*".to_owned(),
        keep_last: Some(2),
        keep_tags: vec!["main".to_owned()],
        ..RetentionSettings::default()
    }];
    let store = open(directory.path(), StoreSettings { retention, ..StoreSettings::default() }).await;
    let blob = suite::push_blob(&store, &app(), b"content").await;
    for tag in ["main", "v1", "v2", "v3", "v4"] {
        put(&store, &image(&blob, &format!(r#","annotations":{{"a":"{tag}"}}"#)), &[tag]).await.expect("put");
        // The times of tags are kept in milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let report = store.collect(GcOptions::default()).await.expect("collected");
    assert_eq!(report.total.tags, 2);
    let page = Page { after: None, limit: 10 };
    let tags = store.tags(&app(), &page).await.expect("listed").expect("known").entries;
    assert_eq!(tags, ["main", "v3", "v4"]);
    is_sound(&store).await;
}

#[tokio::test]
async fn what_was_deleted_comes_back_until_its_time_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let collection = CollectionSettings { undo_seconds: 60, ..CollectionSettings::default() };
    let store = open(directory.path(), StoreSettings { collection, ..StoreSettings::default() }).await;
    let blob = suite::push_blob(&store, &app(), b"content").await;
    // One whose bytes are a row, one whose bytes are a file.
    for padding in [1, 100_000] {
        let manifest = image(&blob, &format!(r#","annotations":{{"a":"{}"}}"#, "x".repeat(padding)));
        put(&store, &manifest, &["v1", "v2"]).await.expect("put");
        let before = store.usage("", &Page { after: None, limit: 9 }).await.expect("asked").expect("counted");
        let (v1, by_digest) =
            (Target::Tag("v1".parse().expect("a tag")), Target::Digest(manifest.digest.clone()));

        assert!(store.delete_manifest(&app(), &manifest.digest).await.expect("deleted"));
        assert_eq!(store.manifest(&app(), &by_digest).await.expect("asked"), None);
        assert_eq!(store.manifest(&app(), &v1).await.expect("asked"), None);
        store.collect(at_once()).await.expect("collected");
        is_sound(&store).await;
        let restored = store.restore(&app(), &by_digest).await.expect("asked").expect("brought back");
        assert_eq!((restored.manifest, restored.tags.len()), (Some(manifest.digest.clone()), 2));
        assert_eq!(store.manifest(&app(), &v1).await.expect("asked"), Some(manifest.clone()));
        let after = store.usage("", &Page { after: None, limit: 9 }).await.expect("asked").expect("counted");
        assert_eq!(before, after);
        is_sound(&store).await;

        // A tag alone, and with the manifest.
        assert!(store.delete_tag(&app(), &"v1".parse().expect("a tag")).await.expect("deleted"));
        let restored = store.restore(&app(), &v1).await.expect("asked").expect("brought back");
        assert_eq!((restored.manifest, restored.tags), (None, vec!["v1".to_owned()]));
        assert!(store.delete_manifest(&app(), &manifest.digest).await.expect("deleted"));
        let restored = store.restore(&app(), &v1).await.expect("asked").expect("brought back");
        assert_eq!((restored.manifest, restored.tags.len()), (Some(manifest.digest.clone()), 1));
        is_sound(&store).await;

        // Pushed again by itself.
        assert!(store.delete_manifest(&app(), &manifest.digest).await.expect("deleted"));
        put(&store, &manifest, &["v1"]).await.expect("put");
        assert_eq!(store.restore(&app(), &by_digest).await.expect("asked"), None);
        is_sound(&store).await;

        // Its time is over.
        assert!(store.delete_manifest(&app(), &manifest.digest).await.expect("deleted"));
        age(&store).await;
        let report = store.collect(GcOptions::default()).await.expect("collected");
        assert_eq!(report.total.purged, 3, "the manifest, v1, and v2 from before");
        assert_eq!(store.restore(&app(), &by_digest).await.expect("asked"), None);
        assert_eq!(store.restore(&app(), &v1).await.expect("asked"), None);
        assert!(has(&store, &blob).await, "its time begins only now");
        is_sound(&store).await;
    }
    age(&store).await;
    store.collect(GcOptions::default()).await.expect("collected");
    assert!(!has(&store, &blob).await);
    is_sound(&store).await;
    let usage = store.usage("team", &Page { after: None, limit: 9 }).await.expect("asked").expect("counted");
    assert_eq!(usage.total, Usage::default());
}

#[tokio::test]
async fn immutable_tags_and_quotas_refuse_and_change_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let retention = vec![RetentionSettings {
        repositories: "**".to_owned(),
        immutable_tags: vec!["v*".to_owned()],
        ..RetentionSettings::default()
    }];
    let quotas = vec![
        QuotaSettings {
            namespace: Some("team".to_owned()),
            max_bytes: Some(1000),
            ..QuotaSettings::default()
        },
        QuotaSettings { repositories: Some("**".to_owned()), max_tags: Some(2), ..QuotaSettings::default() },
    ];
    let store = open(directory.path(), StoreSettings { retention, quotas, ..StoreSettings::default() }).await;
    let blob = suite::push_blob(&store, &app(), b"content").await;
    let (one, two) = (image(&blob, ""), image(&blob, r#","annotations":{}"#));
    put(&store, &one, &["v1"]).await.expect("put");
    put(&store, &one, &["v1"]).await.expect("the same again");
    let error = put(&store, &two, &["v1"]).await.expect_err("it does not move");
    assert!(matches!(error, StoreError::TagImmutable { .. }), "{error}");
    assert!(!store.has_manifest(&app(), &two.digest).await.expect("asked"));

    put(&store, &two, &["latest"]).await.expect("put");
    let error = put(&store, &two, &["other"]).await.expect_err("a tag too many");
    assert!(matches!(error, StoreError::Quota { of: "tags", used: 2, more: 1, limit: 2, .. }), "{error}");

    let large = Digest::of(&[b'x'; 900]);
    let mut staged = store.stage().await.expect("staged");
    staged.append(vec![bytes::Bytes::from_static(&[b'x'; 900])]).await.expect("appended");
    let other: Repository = "team/other".parse().expect("a repository");
    let error = staged.commit(&other, &large).await.expect_err("too many bytes");
    assert!(matches!(error, StoreError::Quota { of: "bytes", more: 900, limit: 1000, .. }), "{error}");
    assert!(error.to_string().contains("namespace `team`"), "{error}");
    is_sound(&store).await;

    let mut staged = store.stage().await.expect("staged");
    staged.append(vec![bytes::Bytes::from_static(&[b'x'; 900])]).await.expect("appended");
    let free: Repository = "free".parse().expect("a repository");
    staged.commit(&free, &large).await.expect("no quota there");
    let error = store.mount(&other, &large, Some(&free)).await.expect_err("too many bytes");
    assert!(matches!(error, StoreError::Quota { .. }), "{error}");
    assert!(store.mount(&other, &blob, Some(&app())).await.expect("it fits"));

    let page = Page { after: None, limit: 9 };
    let usage = store.usage("team", &page).await.expect("asked").expect("counted");
    let bytes = 7 + (one.bytes.len() + two.bytes.len()) as u64;
    let of_app = Usage { manifests: 2, tags: 2, blobs: 1, bytes };
    let of_other = Usage { blobs: 1, bytes: 7, ..Usage::default() };
    assert_eq!(usage.repositories, [(NAME.to_owned(), of_app), ("team/other".to_owned(), of_other)]);
    assert_eq!(usage.total, Usage { blobs: 2, bytes: bytes + 7, ..of_app });
    let all = store.usage("", &Page { after: None, limit: 1 }).await.expect("asked").expect("counted");
    assert_eq!((all.repositories.len(), all.more, all.total.bytes), (1, true, bytes + 907));
    is_sound(&store).await;
}
