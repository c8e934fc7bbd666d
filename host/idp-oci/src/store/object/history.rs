//! What several replicas do to a tag at once is as if it had been done one after the other.
//!
//! Random operations from several replicas over a bucket whose requests take random times; then every history is searched for
//! an order of its operations that agrees with when each began and ended, and with what each reader saw. A store that loses a
//! tag, brings one back, or shows an older one after a newer one has no such order. Left out are readers at the time of a push of a
//! manifest that is being deleted: they may see the tag come and go (see `tag.rs`). What they leave behind is not left out.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::BucketStore;
use super::tests::slow;
use crate::digest::Digest;
use crate::name::{Repository, Tag, Target};
use crate::store::{Page, Store as _, StoredManifest, suite};

const CONTENTS: [&[u8]; 3] = [b"{\"a\":1}", b"{\"b\":2}", b"{\"c\":3}"];

/// Indexes are into [`CONTENTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Put(usize),
    DeleteTag,
    DeleteManifest(usize),
    Read(Option<usize>),
}

#[derive(Debug, Clone, Copy)]
struct Done {
    what: What,
    began: Instant,
    ended: Instant,
}

fn content(index: usize) -> StoredManifest {
    suite::manifest(CONTENTS[index])
}

/// Whether there is an order; `done` is a set of bits, `tag` what the tag names after them.
fn has_order(
    history: &[Done],
    done: u32,
    tag: Option<usize>,
    tried: &mut HashSet<(u32, Option<usize>)>,
) -> bool {
    if done == (1 << history.len()) - 1 {
        return true;
    }
    if !tried.insert((done, tag)) {
        return false;
    }
    let left = || (0..history.len()).filter(|index| done & (1 << index) == 0);
    // Who began after another one had ended comes after it.
    let first_end = left().map(|index| history[index].ended).min();
    left().any(|index| {
        let one = history[index];
        if first_end.is_some_and(|end| one.began > end) {
            return false;
        }
        let after = match one.what {
            What::Put(content) => Some(content),
            What::DeleteTag => None,
            What::DeleteManifest(content) => tag.filter(|tag| *tag != content),
            What::Read(seen) if seen == tag => tag,
            What::Read(_) => return false,
        };
        has_order(history, done | (1 << index), after, tried)
    })
}

/// Without the readers of whom nothing is promised.
fn promised(history: &[Done]) -> Vec<Done> {
    let overlap = |a: &Done, b: &Done| a.began <= b.ended && b.began <= a.ended;
    let racing = |put: &&Done| {
        let What::Put(content) = put.what else { return false };
        let deletes = |other: &Done| other.what == What::DeleteManifest(content) && overlap(other, put);
        history.iter().any(deletes)
    };
    let racing: Vec<&Done> = history.iter().filter(racing).collect();
    let read = |one: &Done| matches!(one.what, What::Read(_));
    history.iter().filter(|one| !read(one) || !racing.iter().any(|put| overlap(one, put))).copied().collect()
}

async fn act(store: &BucketStore, repository: &Repository, tag: &Tag, what: What) -> What {
    match what {
        What::Put(index) => {
            store
                .put_manifest(repository, &content(index), None, std::slice::from_ref(tag))
                .await
                .expect("put");
        }
        What::DeleteTag => drop(store.delete_tag(repository, tag).await.expect("deleted")),
        What::DeleteManifest(index) => {
            store.delete_manifest(repository, &content(index).digest).await.expect("deleted");
        }
        What::Read(_) => {
            let found = store.manifest(repository, &Target::Tag(tag.clone())).await.expect("read");
            let index = |found: StoredManifest| CONTENTS.iter().position(|content| *content == found.bytes);
            return What::Read(found.and_then(index));
        }
    }
    what
}

async fn one_history(seed: u64) {
    let (bucket, first) = slow(seed).await;
    let (repository, tag): (Repository, Tag) = ("a".parse().expect("good"), "v1".parse().expect("good"));
    let history = Arc::new(Mutex::new(Vec::new()));
    let mut random = seed;
    let mut tasks = Vec::new();
    // Twice all are still, and somebody looks.
    let still = Arc::new(tokio::sync::Barrier::new(4));
    for which in 0..4 {
        let store = first.replica().await.expect("a replica");
        let mut plan = Vec::new();
        for _ in 0..5 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = usize::try_from((random >> 40) % 3).expect("small");
            plan.push(match (random >> 33) % 10 {
                0..4 => What::Put(index),
                4 => What::DeleteTag,
                5..7 => What::DeleteManifest(index),
                _ => What::Read(None),
            });
        }
        let (history, repository, tag) = (Arc::clone(&history), repository.clone(), tag.clone());
        let still = Arc::clone(&still);
        tasks.push(tokio::spawn(async move {
            for (round, what) in plan.into_iter().enumerate() {
                if round == 2 || round == 4 {
                    still.wait().await;
                    if which == 0 {
                        let began = Instant::now();
                        let what = act(&store, &repository, &tag, What::Read(None)).await;
                        let done = Done { what, began, ended: Instant::now() };
                        history.lock().expect("no panic").push(done);
                    }
                    still.wait().await;
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                let began = Instant::now();
                let what = act(&store, &repository, &tag, what).await;
                let done = Done { what, began, ended: Instant::now() };
                history.lock().expect("no panic").push(done);
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let mut history = history.lock().expect("no panic").clone();
    let began = Instant::now();
    let what = act(&first, &repository, &tag, What::Read(None)).await;
    let What::Read(last) = what else { unreachable!("it was a read") };
    history.push(Done { what, began, ended: Instant::now() });
    let promised = promised(&history);
    assert!(has_order(&promised, 0, None, &mut HashSet::new()), "seed {seed}: no order for {history:#?}");

    // When all is quiet, lists agree with what is there, and nothing is left over.
    let all = Page { after: None, limit: 9 };
    let tags = first.tags(&repository, &all).await.expect("listed").map(|listing| listing.entries);
    assert_eq!(tags.unwrap_or_default().len(), usize::from(last.is_some()), "seed {seed}");
    let entries: Vec<_> = bucket.list("tags", None).try_collect().await.expect("listed");
    assert_eq!(entries.len(), usize::from(last.is_some()), "seed {seed}: {entries:?}");
    let manifests: Vec<_> = bucket.list("manifests", None).try_collect().await.expect("listed");
    let listed = first.repositories(&all).await.expect("listed").entries;
    assert_eq!(listed.is_empty(), manifests.is_empty(), "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn tags_of_replicas_are_as_if_moved_one_after_the_other() {
    for seed in 1..=400 {
        one_history(seed).await;
    }
}

/// The checker itself: it must be able to find fault.
#[tokio::test(start_paused = true)]
async fn a_lost_tag_has_no_order() {
    let start = Instant::now();
    let at = |what, began, ended| Done {
        what,
        began: start + std::time::Duration::from_millis(began),
        ended: start + std::time::Duration::from_millis(ended),
    };
    let ordered = |history: &[Done]| has_order(history, 0, None, &mut HashSet::new());
    let put = at(What::Put(0), 0, 1);
    assert!(ordered(&[put, at(What::Read(Some(0)), 2, 3)]));
    assert!(!ordered(&[put, at(What::Read(None), 2, 3)]), "lost");
    assert!(ordered(&[put, at(What::DeleteTag, 0, 5), at(What::Read(None), 2, 3)]), "at the same time");
    let deleted = at(What::DeleteManifest(0), 2, 3);
    assert!(!ordered(&[put, deleted, at(What::Read(Some(0)), 4, 5)]), "back again");
    let reads = [at(What::Read(Some(1)), 4, 5), at(What::Read(Some(0)), 6, 7)];
    assert!(!ordered(&[put, at(What::Put(1), 2, 3), reads[0], reads[1]]), "the older after the newer");
}

async fn pushed(store: &BucketStore, repository: &Repository) -> bool {
    let mut staged = store.stage().await.expect("staged");
    staged.append(vec![Bytes::from_static(b"shared")]).await.expect("appended");
    staged.commit(repository, &Digest::of(b"shared")).await.is_ok()
}

/// Blobs: what was acknowledged is there, while sweepers that think much time has passed run all the while.
#[tokio::test(start_paused = true)]
async fn sweepers_take_nothing_that_a_push_was_told_is_there() {
    const DAYS: u64 = 24 * 60 * 60;
    for seed in 1..=150 {
        let (_bucket, first) = slow(seed).await;
        let repository: Repository = "a".parse().expect("good");
        // Old content that nobody has: the next run condemns it, and the one after takes it away.
        let digest = suite::push_blob(&first, &repository, b"shared").await;
        assert!(first.delete_blob(&repository, &digest).await.expect("deleted"));
        let sweeper = first.replica().await.expect("a replica");
        let sweeping = tokio::spawn(async move {
            for run in 1..=4 {
                let now = std::time::SystemTime::now() + std::time::Duration::from_secs(run * 2 * DAYS);
                sweeper.sweep_at(super::SweepOptions::default(), now).await.expect("swept");
            }
        });
        let pushing: Vec<_> = (0..3)
            .map(|index| {
                let first = first.clone();
                tokio::spawn(async move {
                    let store = first.replica().await.expect("a replica");
                    let repository: Repository = format!("r{index}").parse().expect("good");
                    tokio::time::sleep(std::time::Duration::from_millis(index * 170)).await;
                    // A manifest that needs the blob is what keeps it; the sweepers' clock is far ahead of its age.
                    let manifest = format!(
                        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{digest}","size":6}},"layers":[]}}"#,
                        digest = Digest::of(b"shared")
                    );
                    let stored = StoredManifest {
                        media_type: crate::media::OCI_MANIFEST.to_owned(),
                        digest: Digest::of(manifest.as_bytes()),
                        bytes: Bytes::from(manifest),
                    };
                    store.put_manifest(&repository, &stored, None, &[]).await.expect("put");
                    let digest = Digest::of(b"shared");
                    if !store.mount(&repository, &digest, None).await.expect("mounted") {
                        // To these sweepers what was just written is old: they may be quicker than the push, and say so.
                        while !pushed(&store, &repository).await {}
                    }
                    (store, repository)
                })
            })
            .collect();
        let mut pushed = Vec::new();
        for task in pushing {
            pushed.push(task.await.expect("no panic"));
        }
        sweeping.await.expect("no panic");
        for (store, repository) in pushed {
            let blob = store.blob(&repository, &digest).await.expect("opened");
            let Some(blob) = blob else { panic!("seed {seed}: {repository} lost its blob") };
            let bytes: Vec<Bytes> = blob.read_from(0).try_collect().await.expect("read");
            assert_eq!(bytes.concat(), b"shared", "seed {seed}");
        }
    }
}
