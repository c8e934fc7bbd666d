use std::path::Path;

use bytes::Bytes;

use super::{FindingKind, FsckOptions, FsckReport};
use crate::digest::Digest;
use crate::media;
use crate::name::{Repository, Target};
use crate::store::fs::FsStore;
use crate::store::rows::Tables;
use crate::store::rows::table::key;
use crate::store::{Referral, Store as _, StoredManifest, suite};

const CHECK: FsckOptions = FsckOptions { fast: false, repair: false };
const REPAIR: FsckOptions = FsckOptions { fast: false, repair: true };

fn app() -> Repository {
    "team/app".parse().expect("a repository")
}

fn image(layer: &Digest, subject: Option<&Digest>, padding: usize) -> StoredManifest {
    let subject = subject.map(|it| {
        format!(r#","subject":{{"mediaType":"{}","digest":"{it}","size":1}}"#, media::OCI_MANIFEST)
    });
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"a/b","digest":"{layer}","size":1}},"layers":[],"annotations":{{"x":"{}"}}{}}}"#,
        media::OCI_MANIFEST,
        "x".repeat(padding),
        subject.unwrap_or_default(),
    );
    let digest = Digest::of(text.as_bytes());
    StoredManifest { media_type: media::OCI_MANIFEST.to_owned(), digest, bytes: text.into() }
}

async fn put(store: &FsStore, manifest: &StoredManifest, tag: &str) {
    let parsed = crate::manifest::Manifest::parse(manifest.bytes.clone(), None).expect("a manifest");
    let referral = Referral::of(&parsed).expect("annotations");
    let tags = [tag.parse().expect("a tag")];
    store.put_manifest(&app(), manifest, referral.as_ref(), &tags).await.expect("put");
}

/// A store with two blobs, an image, one that is a referrer of it, and one whose manifest is a file.
async fn filled(root: &Path) -> (FsStore, [Digest; 2], [StoredManifest; 3]) {
    let store = FsStore::open(root).await.expect("opened");
    let one = suite::push_blob(&store, &app(), b"one").await;
    let two = suite::push_blob(&store, &app(), b"two").await;
    let first = image(&one, None, 0);
    let second = image(&two, Some(&first.digest), 0);
    let large = image(&one, None, 100_000);
    put(&store, &first, "first").await;
    put(&store, &second, "second").await;
    put(&store, &large, "large").await;
    (store, [one, two], [first, second, large])
}

fn file_of(root: &Path, digest: &Digest) -> std::path::PathBuf {
    root.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

fn kinds(report: &FsckReport) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[tokio::test]
async fn a_good_store_is_clean_and_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, ..) = filled(directory.path()).await;
    let report = store.fsck(CHECK).await.expect("checked");
    assert_eq!(report.findings, []);
    let counts = (report.repositories, report.manifests, report.tags, report.blobs, report.content);
    assert_eq!(counts, (1, 3, 3, 2, 3));
    assert_eq!((report.unused, report.incomplete.len()), (0, 0));
    assert!(report.hashed_bytes == report.content_bytes && report.content_bytes > 100_000);
    let fast = store.fsck(FsckOptions { fast: true, repair: false }).await.expect("checked");
    assert_eq!((fast.findings.len(), fast.hashed_bytes), (0, 0));
}

#[tokio::test]
async fn damaged_content_is_named_set_aside_and_healed_by_a_push() {
    for damage in [Some(&b"onE"[..]), Some(b"on"), None] {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, [one, _], [first, ..]) = filled(directory.path()).await;
        let path = file_of(directory.path(), &one);
        match damage {
            Some(bytes) => std::fs::write(&path, bytes).expect("damaged"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
        let kind = if damage.is_some() { FindingKind::ContentDamaged } else { FindingKind::ContentMissing };
        let report = store.fsck(CHECK).await.expect("checked");
        assert_eq!(kinds(&report), [kind], "{:?}", report.findings);
        assert!(!report.is_clean());
        assert!(report.findings[0].what.contains("team/app"), "{:?}", report.findings);

        let report = store.fsck(REPAIR).await.expect("repaired");
        assert_eq!(kinds(&report), [kind]);
        assert!(report.is_clean());
        assert_eq!(report.incomplete.len(), 2, "two images name it: {:?}", report.incomplete);
        let aside = directory.path().join("quarantine").join(format!("sha256-{}", one.hex()));
        assert_eq!(std::fs::read(aside).ok().as_deref(), damage);
        assert!(store.blob(&app(), &one).await.expect("asked").is_none());
        assert_eq!(
            store.missing_blobs(&app(), std::slice::from_ref(&one)).await.expect("asked"),
            std::slice::from_ref(&one)
        );
        assert_eq!(store.fsck(CHECK).await.expect("checked").findings, []);

        suite::push_blob(&store, &app(), b"one").await;
        assert_eq!(store.blob_size(&app(), &one).await.expect("asked"), Some(3));
        let report = store.fsck(CHECK).await.expect("checked");
        assert_eq!((report.findings.len(), report.incomplete.len()), (0, 0));
        assert!(store.has_manifest(&app(), &first.digest).await.expect("asked"), "the image was never lost");
    }
}

#[tokio::test]
async fn a_manifest_whose_file_is_damaged_goes_with_its_tags() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _, [_, _, large]) = filled(directory.path()).await;
    let path = file_of(directory.path(), &large.digest);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[90_000] = b'y';
    std::fs::write(&path, bytes).expect("damaged");
    let report = store.fsck(REPAIR).await.expect("repaired");
    assert!(kinds(&report).contains(&FindingKind::ManifestDamaged), "{:?}", report.findings);
    let target = Target::Tag("large".parse().expect("a tag"));
    assert_eq!(store.manifest(&app(), &target).await.expect("asked"), None);
    assert_eq!(store.fsck(CHECK).await.expect("checked").findings, []);
    put(&store, &large, "large").await;
    assert_eq!(store.manifest(&app(), &target).await.expect("asked"), Some(large));
    assert_eq!(store.fsck(CHECK).await.expect("checked").findings, []);
}

async fn spoil(store: &FsStore, how: impl FnOnce(&mut Tables<'_>) + Send + 'static) {
    let spoiled = store.disk().rows.change(move |tables| {
        tables.touch();
        how(tables);
        Ok(())
    });
    spoiled.await.expect("spoiled");
}

#[tokio::test]
async fn rows_that_do_not_fit_are_derived_again() {
    type Spoil = fn(&mut Tables<'_>, &Digest, &StoredManifest, &StoredManifest);
    let ways: [(FindingKind, Spoil); 10] = [
        (FindingKind::Usage, |tables, _, _, _| {
            tables.namespaces.insert("team", (9, 9, 9, 9)).expect("written");
        }),
        (FindingKind::Usage, |tables, _, _, _| {
            tables.repositories.insert("team/app", (1, 1, 1, 1)).expect("written");
        }),
        (FindingKind::Usage, |tables, _, _, _| {
            tables.catalogue.remove("team/app").expect("written");
        }),
        (FindingKind::TagDangling, |tables, blob, _, _| {
            tables.tags.insert(("team/app", "nowhere"), (&*key(blob), 0)).expect("written");
        }),
        (FindingKind::TagIndex, |tables, _, first, _| {
            tables.tagged.remove(("team/app", &*key(&first.digest), "first")).expect("written");
        }),
        (FindingKind::References, |tables, blob, first, _| {
            tables.references.remove(("team/app", &*key(blob), &*key(&first.digest))).expect("written");
        }),
        (FindingKind::Referrers, |tables, _, first, second| {
            let at = (key(&first.digest), key(&second.digest));
            tables.referrers.insert(("team/app", &*at.0, &*at.1), &b"{}"[..]).expect("written");
        }),
        (FindingKind::ContentCount, |tables, blob, _, _| {
            tables.content.insert(&*key(blob), (3, 7, 7)).expect("written");
        }),
        (FindingKind::ContentCount, |tables, blob, _, _| {
            tables.content.remove(&*key(blob)).expect("written");
        }),
        (FindingKind::ManifestDamaged, |tables, _, first, second| {
            let record = tables
                .manifests
                .get(("team/app", &*key(&second.digest)))
                .expect("read")
                .map(|row| row.value().0.to_vec())
                .expect("there");
            let other = Bytes::from(first.bytes.iter().rev().copied().collect::<Vec<_>>());
            tables
                .manifests
                .insert(("team/app", &*key(&second.digest)), (&*record, &*other))
                .expect("written");
        }),
    ];
    use redb::ReadableTable as _;
    for (kind, how) in ways {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, [one, _], [first, second, _]) = filled(directory.path()).await;
        spoil(&store, move |tables| how(tables, &one, &first, &second)).await;
        let found = store.fsck(CHECK).await.expect("checked");
        assert!(kinds(&found).contains(&kind), "{kind:?}: {:?}", found.findings);
        assert!(!found.is_clean());
        assert_eq!(
            store.fsck(CHECK).await.expect("checked").findings,
            found.findings,
            "looking changes nothing"
        );
        let repaired = store.fsck(REPAIR).await.expect("repaired");
        assert!(repaired.is_clean() && kinds(&repaired).contains(&kind), "{kind:?}: {:?}", repaired.findings);
        assert_eq!(store.fsck(CHECK).await.expect("checked").findings, [], "{kind:?}");
    }
}

#[tokio::test]
async fn content_that_nobody_needs_is_collected() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, ..) = filled(directory.path()).await;
    let stray = file_of(directory.path(), &Digest::of(b"left by a crash"));
    std::fs::create_dir_all(stray.parent().expect("a parent")).expect("made");
    std::fs::write(&stray, b"half of").expect("written");
    let strange = directory.path().join("blobs/sha256/zz");
    std::fs::create_dir_all(&strange).expect("made");
    std::fs::write(strange.join("notes.txt"), b"mine").expect("written");
    let report = store.fsck(CHECK).await.expect("checked");
    assert_eq!((report.unused, report.unused_bytes), (1, 7));
    assert_eq!(kinds(&report), [FindingKind::ContentStrange]);
    assert!(stray.exists());
    store.fsck(REPAIR).await.expect("repaired");
    assert!(!stray.exists() && strange.join("notes.txt").exists());
}
