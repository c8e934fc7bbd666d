//! The search of a guest's memory finds something when there is something: a registry that is in league with its provider tells it the
//! credential that it was sent, in a form that no echo guard knows. And in the usual flow over real HTTP there is nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use idp_oci::client::dialect::Dialect as _;

use crate::scan::{Needle, holds, linear_memories};
use crate::support::{SECRET, Server, Setup, bearer, guest, json};

/// How often a memory with the marker was seen, and how often with the secret.
#[derive(Default)]
struct Seen {
    marked: AtomicUsize,
    leaked: AtomicUsize,
}

impl Seen {
    fn look(&self, marker: &str) {
        let needle = Needle::new("the password", SECRET);
        // The URL is in the guest's memory, or this is not the guest's.
        for memory in linear_memories().iter().filter(|memory| holds(memory, marker)) {
            self.marked.fetch_add(1, Ordering::SeqCst);
            if needle.found_in(memory).is_some() {
                self.leaked.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.marked.load(Ordering::SeqCst), self.leaked.load(Ordering::SeqCst))
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_in_a_guests_memory() {
    let seen = Arc::new(Seen::default());
    let looking = Arc::clone(&seen);
    let server = Server::start(move |request| {
        looking.look("memory-marker");
        assert!(request.header("authorization").is_some());
        json(200, r#"{"token":"short-lived-token-2"}"#)
    })
    .await;
    let provider = Setup::new("generic", &server.address).load().await.expect("loaded");
    provider.authorize(&bearer(&server.url("/memory-marker"))).await.expect("a grant");
    assert_eq!(server.seen().len(), 1);
    let (marked, leaked) = seen.counts();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the maps");
    assert!(marked >= 1, "the guest's memory was not found in {maps}");
    assert_eq!(leaked, 0);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_keeps_a_credential_is_caught() {
    let seen = Arc::new(Seen::default());
    let looking = Arc::clone(&seen);
    let server = Server::start(move |request| {
        if request.uri.path() == "/chaos/kept-marker" {
            looking.look("/chaos/kept-marker");
            return json(200, "{}");
        }
        // "Bearer " was before it.
        let given = request.header("authorization").unwrap_or_default();
        let backwards: String = given.trim_start_matches("Bearer ").chars().rev().collect();
        json(200, &format!(r#"{{"backwards":"{backwards}"}}"#))
    })
    .await;
    let mut setup = Setup::new(guest("chaos.wasm"), &server.address);
    setup.settings.push(("chaos".to_owned(), "keep".to_owned()));
    let provider = setup.load().await.expect("loaded");
    let error = provider.authorize(&bearer(&server.url("/token"))).await.expect_err("it says what it did");
    assert!(error.message.contains("kept"), "{error}");
    let (marked, leaked) = seen.counts();
    assert_eq!((marked >= 1, leaked >= 1), (true, true), "{marked} {leaked}");
}
