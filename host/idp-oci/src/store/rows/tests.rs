use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Durability, Keeping, Rows};
use crate::digest::Digest;
use crate::store::Page;
use crate::store::rows::table::key;

const KEEPING: Keeping = Keeping { durability: Durability::Strict, cache_bytes: 4 * 1024 * 1024 };

fn open(directory: &tempfile::TempDir, keeping: Keeping) -> Arc<Rows> {
    Arc::new(Rows::open(&directory.path().join("metadata.redb"), keeping).expect("opened"))
}

async fn tag(rows: &Rows, repository: &str, tag: &str) -> Result<(), crate::store::StoreError> {
    let (repository, tag) = (repository.to_owned(), tag.to_owned());
    rows.change(move |tables| tables.put_tag(&repository, &tag, &key(&Digest::of(b"")), 0)).await
}

fn has_tag(rows: &Rows, repository: &str, tag: &str) -> bool {
    rows.read(|rows| rows.tagged(repository, tag)).expect("read").is_some()
}

#[tokio::test]
async fn what_waits_shares_one_transaction() {
    let directory = tempfile::tempdir().expect("a directory");
    let rows = open(&directory, KEEPING);
    // The committer is held up in the first transaction, until the others wait.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (begun, is_begun) = tokio::sync::oneshot::channel();
    let first = {
        let rows = Arc::clone(&rows);
        tokio::spawn(async move {
            let work = move |tables: &mut super::Tables<'_>| {
                let _ = begun.send(());
                let _ = held.recv();
                tables.know("first")
            };
            rows.change(work).await
        })
    };
    is_begun.await.expect("begun");
    let syncs = rows.traffic().syncs.load(Ordering::Relaxed);
    let others: Vec<_> = (0..100)
        .map(|index| {
            let rows = Arc::clone(&rows);
            tokio::spawn(async move { tag(&rows, "a", &format!("v{index}")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    release.send(()).expect("released");
    first.await.expect("no panic").expect("committed");
    for other in others {
        other.await.expect("no panic").expect("committed");
    }
    let (groups, works) = rows.groups();
    assert_eq!(works, 101);
    assert!(groups <= 3, "{groups} transactions for what waited together");
    let syncs = rows.traffic().syncs.load(Ordering::Relaxed) - syncs;
    assert!(syncs <= 2 * groups, "{syncs} forced writes for {groups} transactions");
}

#[tokio::test]
async fn a_failing_disk_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory");
    let rows = open(&directory, KEEPING);
    tag(&rows, "a", "before").await.expect("committed");
    // Wherever in the commit the disk fails.
    for writes in 0..12 {
        rows.traffic().writes_left.store(writes, Ordering::SeqCst);
        let name = format!("v{writes}");
        let outcome = tag(&rows, "a", &name).await;
        rows.traffic().writes_left.store(-1, Ordering::SeqCst);
        if let Err(error) = &outcome {
            assert!(error.to_string().contains("metadata.redb"), "{error}");
        }
        tag(&rows, "a", &format!("after-{writes}")).await.expect("it goes on");
        assert!(has_tag(&rows, "a", "before"));
        assert!(outcome.is_err() || has_tag(&rows, "a", &name));
    }
    // One that fails at once, for as long as it takes.
    rows.traffic().writes_left.store(0, Ordering::SeqCst);
    for _ in 0..3 {
        tag(&rows, "a", "never").await.expect_err("the disk is full");
    }
    rows.traffic().writes_left.store(-1, Ordering::SeqCst);
    tag(&rows, "a", "room").await.expect("it goes on");
    drop(rows);
    let rows = open(&directory, KEEPING);
    assert!(has_tag(&rows, "a", "before") && has_tag(&rows, "a", "room"));
    for writes in 0..12 {
        assert!(has_tag(&rows, "a", &format!("after-{writes}")));
    }
}

#[tokio::test]
async fn a_panic_in_one_piece_of_work_is_an_error_and_no_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let rows = open(&directory, KEEPING);
    let work = |_: &mut super::Tables<'_>| -> Result<(), super::Fault> { panic!("on purpose") };
    let error = rows.change(work).await.expect_err("it panicked").to_string();
    assert!(error.contains("on purpose"), "{error}");
    tag(&rows, "a", "v1").await.expect("it goes on");
}

#[tokio::test]
async fn relaxed_changes_are_there_after_closing() {
    let directory = tempfile::tempdir().expect("a directory");
    let rows = open(&directory, Keeping { durability: Durability::Relaxed, ..KEEPING });
    let syncs = rows.traffic().syncs.load(Ordering::Relaxed);
    for index in 0..10 {
        tag(&rows, "a", &format!("v{index}")).await.expect("committed");
    }
    let syncs = rows.traffic().syncs.load(Ordering::Relaxed) - syncs;
    assert!(syncs <= 4, "{syncs} forced writes for ten changes in no time");
    drop(rows);
    let rows = open(&directory, KEEPING);
    assert!(has_tag(&rows, "a", "v0") && has_tag(&rows, "a", "v9"));
}

#[test]
fn a_damaged_database_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("metadata.redb");
    drop(open(&directory, KEEPING));
    let good = std::fs::read(&path).expect("read");
    for (at, byte) in [(0, b'x'), (9, 0xff), (70, 0xff), (140, 0xff), (4100, 0xff)] {
        let mut bad = good.clone();
        bad[at] = byte;
        std::fs::write(&path, bad).expect("damaged");
        // Some of it is repaired from the other copy that redb keeps; none of it ends the process.
        if let Ok(rows) = Rows::open(&path, KEEPING) {
            let _ = rows.read(|rows| rows.repositories(&Page { after: None, limit: 10 }));
        }
    }
    std::fs::write(&path, b"half").expect("damaged");
    let error = Rows::open(&path, KEEPING).expect_err("no database").to_string();
    assert!(error.contains("metadata.redb"), "{error}");
}

/// Pages of long lists cost what the page has, and not what the list has: counted in pages that are read from the disk.
#[tokio::test]
async fn a_page_costs_no_more_in_a_long_list() {
    let directory = tempfile::tempdir().expect("a directory");
    let relaxed = Keeping { durability: Durability::Relaxed, ..KEEPING };
    let rows = open(&directory, relaxed);
    let digest = key(&Digest::of(b""));
    for thousand in 0..100 {
        let digest = digest.clone();
        let put = rows.change(move |tables| {
            for index in 0..1000 {
                tables.put_tag("many/tags", &format!("v{:06}", thousand * 1000 + index), &digest, 0)?;
            }
            for index in 0..100 {
                let name = format!("team-{thousand:03}/app-{index:03}");
                tables.catalogue.insert(&*name, ())?;
            }
            Ok(())
        });
        put.await.expect("put");
    }
    drop(rows);
    for limit in [10, 1000] {
        let rows = open(&directory, KEEPING);
        let reads = || rows.traffic().reads.load(Ordering::Relaxed);
        let before = reads();
        let page = Page { after: Some("v050000".to_owned()), limit };
        let listing = rows.read(|rows| rows.tags("many/tags", &page)).expect("read").expect("known");
        assert_eq!((listing.entries.len(), listing.more), (limit, true));
        assert_eq!(listing.entries[0], "v050001");
        let page = Page { after: Some("team-050/app-000".to_owned()), limit };
        let listing = rows.read(|rows| rows.repositories(&page)).expect("read");
        assert_eq!((listing.entries.len(), listing.more), (limit, true));
        assert_eq!(listing.entries[0], "team-050/app-001");
        let read = reads() - before;
        assert!(read <= 20 + 2 * limit as u64 / 20, "{read} pages read for a page of {limit}");
    }
}
