//! What a guest can see is what is in its linear memory. While it waits for an answer, and it has used the credential by then, that
//! memory is searched for the credential's bytes.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use idp_oci::client::dialect::Dialect as _;

use crate::support::{SECRET, Server, Setup, bearer, json};

/// Bytes of a linear memory's reservation: how the engine is set up.
const RESERVED: u64 = 64 * 1024 * 1024;

/// The linear memories of this process: what can be written, and up to the end of the reservation what cannot. The arenas of the C
/// library's allocator look the same, and start at a multiple of their size.
fn linear_memories() -> Vec<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the maps");
    let mut memory = File::open("/proc/self/mem").expect("the memory");
    let regions = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some((number(start)?, number(end)?, rest.get(..4)?.to_owned()))
    });
    let mut found = Vec::new();
    let mut run: Option<(u64, u64)> = None;
    for (start, end, kind) in regions {
        let adjacent = run.filter(|(_, until)| *until == start);
        match (kind.as_str(), adjacent) {
            // An arena starts here, whatever lies before it.
            ("rw-p", _) if start % RESERVED == 0 => run = None,
            ("rw-p", Some((from, _))) => run = Some((from, end)),
            ("rw-p", None) => run = Some((start, end)),
            ("---p", Some((from, until))) => {
                run = None;
                if end - from >= RESERVED {
                    let mut bytes = vec![0; usize::try_from(until - from).expect("a size")];
                    // Other tests map and unmap meanwhile; what is gone is not this guest's, which waits.
                    for (index, page) in bytes.chunks_mut(4096).enumerate() {
                        memory.seek(SeekFrom::Start(from + 4096 * index as u64)).expect("a place");
                        let _ = memory.read(page);
                    }
                    found.push(bytes);
                }
            }
            _ => run = None,
        }
    }
    found
}

fn holds(memory: &[u8], needle: &str) -> bool {
    memory.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_in_a_guests_memory() {
    let scanned = Arc::new(AtomicUsize::new(0));
    let leaked = Arc::new(AtomicUsize::new(0));
    let (count, leaks) = (Arc::clone(&scanned), Arc::clone(&leaked));
    let server = Server::start(move |seen| {
        for memory in linear_memories() {
            // The URL is in the guest's memory, or this is not the guest's.
            if holds(&memory, "memory-marker") {
                count.fetch_add(1, Ordering::SeqCst);
                if holds(&memory, SECRET) {
                    leaks.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        assert!(seen.header("authorization").is_some());
        json(200, r#"{"token":"short-lived-token-2"}"#)
    })
    .await;
    let provider = Setup::new("generic", &server.address).load().await.expect("loaded");
    provider.authorize(&bearer(&server.url("/memory-marker"))).await.expect("a grant");
    assert_eq!(server.seen().len(), 1);
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the maps");
    assert!(scanned.load(Ordering::SeqCst) >= 1, "the guest's memory was not found in {maps}");
    assert_eq!(leaked.load(Ordering::SeqCst), 0);
}
