//! The stores on disk and over a bucket do what the store in memory does, whatever is asked of them in whatever order.

use bytes::Bytes;
use proptest::prelude::*;

use crate::digest::Digest;
use crate::name::{Repository, Tag, Target};
use crate::store::fs::FsStore;
use crate::store::fsck::FsckOptions;
use crate::store::memory::MemoryStore;
use crate::store::{Durability, Page, StorageSettings, Store, StoredManifest, suite};

const REPOSITORIES: [&str; 3] = ["a", "a/b", "c"];
const CONTENTS: [&[u8]; 3] = [b"", b"{\"one\":1}", b"{\"two\":2}"];
/// Which content each is a referrer of: the bytes of a manifest say so, hence always the same.
const SUBJECTS: [Option<usize>; 3] = [None, Some(0), Some(1)];
const TAGS: [&str; 2] = ["v1", "latest"];

/// Every index is into one of the tables above.
#[derive(Debug, Clone)]
enum Step {
    PushBlob(usize, usize),
    Mount(usize, usize, Option<usize>),
    DeleteBlob(usize, usize),
    PutManifest { repository: usize, content: usize, tag: Option<usize> },
    DeleteManifest(usize, usize),
    DeleteTag(usize, usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (repository, content, tag) = (0..REPOSITORIES.len(), 0..CONTENTS.len(), 0..TAGS.len());
    let maybe = |range: std::ops::Range<usize>| proptest::option::of(range);
    prop_oneof![
        (repository.clone(), content.clone()).prop_map(|(r, c)| Step::PushBlob(r, c)),
        (repository.clone(), content.clone(), maybe(repository.clone()))
            .prop_map(|(to, c, from)| Step::Mount(to, c, from)),
        (repository.clone(), content.clone()).prop_map(|(r, c)| Step::DeleteBlob(r, c)),
        (repository.clone(), content.clone(), maybe(tag.clone()))
            .prop_map(|(repository, content, tag)| Step::PutManifest { repository, content, tag }),
        (repository.clone(), content).prop_map(|(r, c)| Step::DeleteManifest(r, c)),
        (repository, tag).prop_map(|(r, t)| Step::DeleteTag(r, t)),
        Just(Step::Restart),
    ]
}

fn repository(index: usize) -> Repository {
    REPOSITORIES[index].parse().expect("a repository")
}

fn tag(index: usize) -> Tag {
    TAGS[index].parse().expect("a tag")
}

/// What the step answered, as text.
async fn take(store: &dyn Store, step: &Step) -> String {
    match step {
        Step::PushBlob(to, content) => {
            let digest = Digest::of(CONTENTS[*content]);
            let mut staged = store.stage().await.expect("staged");
            staged.append(vec![Bytes::from_static(CONTENTS[*content])]).await.expect("appended");
            staged.commit(&repository(*to), &digest).await.expect("committed");
            String::new()
        }
        Step::Mount(to, content, from) => {
            let digest = Digest::of(CONTENTS[*content]);
            let from = from.map(repository);
            let mounted = store.mount(&repository(*to), &digest, from.as_ref()).await.expect("answered");
            mounted.to_string()
        }
        Step::DeleteBlob(from, content) => {
            let digest = Digest::of(CONTENTS[*content]);
            store.delete_blob(&repository(*from), &digest).await.expect("answered").to_string()
        }
        Step::PutManifest { repository: to, content, tag: tagged } => {
            let manifest: StoredManifest = suite::manifest(CONTENTS[*content]);
            let referral =
                SUBJECTS[*content].map(|subject| suite::referral(&Digest::of(CONTENTS[subject]), "a/b"));
            let tags: Vec<Tag> = tagged.map(tag).into_iter().collect();
            store.put_manifest(&repository(*to), &manifest, referral.as_ref(), &tags).await.expect("put");
            String::new()
        }
        Step::DeleteManifest(from, content) => {
            let digest = Digest::of(CONTENTS[*content]);
            store.delete_manifest(&repository(*from), &digest).await.expect("answered").to_string()
        }
        Step::DeleteTag(from, name) => {
            store.delete_tag(&repository(*from), &tag(*name)).await.expect("answered").to_string()
        }
        Step::Restart => String::new(),
    }
}

/// Everything that can be seen of a store, as text.
async fn see(store: &dyn Store) -> String {
    let all = Page { after: None, limit: usize::MAX };
    let mut seen = format!("{:?}\n", store.repositories(&all).await.expect("listed"));
    for index in 0..REPOSITORIES.len() {
        let repository = repository(index);
        seen += &format!("{repository}: {:?}\n", store.tags(&repository, &all).await.expect("listed"));
        for tag in (0..TAGS.len()).map(tag) {
            let found = store.manifest(&repository, &Target::Tag(tag)).await.expect("read");
            seen += &format!(" {:?}", found.map(|manifest| manifest.digest));
        }
        for content in CONTENTS {
            let digest = Digest::of(content);
            let size = store.blob_size(&repository, &digest).await.expect("read");
            let manifest = store.manifest(&repository, &Target::Digest(digest.clone())).await.expect("read");
            let referrers = store.referrers(&repository, &digest).await.expect("read");
            seen += &format!("{size:?} {manifest:?} {referrers:?}\n");
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn memory_and_disk_agree(steps in proptest::collection::vec(step(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let memory = MemoryStore::default();
            // Both kinds of durability answer alike.
            let durability = if steps.len() % 2 == 0 { Durability::Strict } else { Durability::Relaxed };
            let settings = StorageSettings { durability, ..StorageSettings::default() };
            let open = async || FsStore::open_with(directory.path(), settings.clone()).await.expect("opened");
            let mut disk = open().await;
            for step in &steps {
                if matches!(step, Step::Restart) {
                    drop(disk);
                    disk = open().await;
                }
                let (expect, answer) = (take(&memory, step).await, take(&disk, step).await);
                prop_assert_eq!(expect, answer, "the answer to {:?}", step);
                prop_assert_eq!(see(&memory).await, see(&disk).await, "after {:?}", step);
            }
            let report = disk.fsck(FsckOptions { fast: false, repair: false }).await.expect("checked");
            prop_assert_eq!(report.findings, vec![]);
            prop_assert_eq!(report.unused, 0);
            Ok(())
        })?;
    }
}

#[cfg(feature = "object-store")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Every step is taken by the one of two replicas and seen by the other.
    #[test]
    fn memory_and_two_replicas_over_a_bucket_agree(steps in proptest::collection::vec(step(), 1..24)) {
        use crate::store::object::BucketStore;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let memory = MemoryStore::default();
            let mut one = BucketStore::in_memory().await.expect("opened");
            let mut other = one.replica().await.expect("a replica");
            for step in &steps {
                if matches!(step, Step::Restart) {
                    one = one.replica().await.expect("a replica");
                }
                let (expect, answer) = (take(&memory, step).await, take(&one, step).await);
                prop_assert_eq!(expect, answer, "the answer to {:?}", step);
                prop_assert_eq!(see(&memory).await, see(&other).await, "after {:?}", step);
                std::mem::swap(&mut one, &mut other);
            }
            Ok(())
        })?;
    }
}
