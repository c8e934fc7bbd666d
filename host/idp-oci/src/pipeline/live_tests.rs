//! Content that goes by once: streamed, offered again when it did not arrive, kept in a file where streams are not taken, and sent to
//! several registries while it is made once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use idp_test_support::faults::{Fault, Registry, Reply, Server, on};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::tests::{client, image_of, repository, tags};
use super::{Destination, PipelineError, Pushed, push_all};
use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::media;
use crate::source::outlet::{Outlet, Streamed, blocking};
use crate::source::{Image, Offer, Selection, Source, SourceError};

/// Makes a layer as often as it is asked to, and counts.
#[derive(Debug, Clone)]
struct Maker {
    made: Arc<AtomicUsize>,
    layers: usize,
    asks: bool,
}

impl Maker {
    fn new(layers: usize) -> Self {
        Self { made: Arc::default(), layers, asks: false }
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

fn layer(number: usize) -> Bytes {
    (0..2_000_000usize).map(|index| (index * (number + 7) % 251) as u8).collect()
}

impl Maker {
    fn send(&self, outlet: &Outlet) -> Result<Image, SourceError> {
        let mut layers = Vec::new();
        for number in 0..self.layers {
            let (label, bytes) = (format!("layer {number}"), layer(number));
            let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
            layers.push(descriptor.clone());
            if self.asks && outlet.is_there(&label, &descriptor)? {
                continue;
            }
            loop {
                self.made.fetch_add(1, Ordering::Relaxed);
                let streamed = outlet.live(&label, |emit| {
                    for chunk in bytes.chunks(100_000) {
                        emit(Bytes::copy_from_slice(chunk))?;
                    }
                    Ok(descriptor.clone())
                })?;
                let streamed = streamed.map_err(|error| SourceError::Io { what: label.clone(), error })?;
                if let Streamed::Whole(_, arrived) = streamed
                    && arrived.blocking_recv().unwrap_or(false)
                {
                    break;
                }
                if outlet.is_closed() {
                    return Err(SourceError::Closed);
                }
            }
        }
        let config = Blob::from_bytes(media::OCI_CONFIG, Bytes::from_static(b"{}"));
        let manifests = vec![image_of(&config.descriptor, &layers)];
        outlet.send(config)?;
        Ok(Image { manifests, name: None })
    }
}

#[async_trait]
impl Source for Maker {
    fn describe(&self) -> String {
        "maker".to_owned()
    }

    async fn read(self: Box<Self>, _: &Selection, offers: mpsc::Sender<Offer>) -> Result<Image, SourceError> {
        blocking(move || self.send(&Outlet::new(offers))).await
    }
}

async fn push_to(servers: &[&Server], maker: &Maker) -> Vec<Result<Pushed, PipelineError>> {
    let to = |server: &&Server| Destination {
        client: client(server),
        repository: repository(),
        tags: tags(&["1"]),
        mount_from: Vec::new(),
        include_foreign: false,
    };
    let destinations = servers.iter().map(to).collect();
    let (source, cancel) = (Box::new(maker.clone()), CancellationToken::new());
    push_all(destinations, source, &Selection::default(), None, &cancel).await.expect("the source is sound")
}

fn has(server: &Server, number: usize) -> bool {
    let digest = Digest::of(&layer(number)).to_string();
    server.registry(|registry| {
        registry.blobs.contains_key(&("team/app".to_owned(), digest)) && registry.sessions.is_empty()
    })
}

/// One pass, one request of unknown length, nothing kept.
#[tokio::test]
async fn streamed() {
    let (server, maker) = (Server::start(Registry::default()).await, Maker::new(2));
    let pushed = push_to(&[&server], &maker).await.remove(0).expect("pushed");
    assert_eq!((pushed.blobs_sent, maker.made()), (3, 2));
    assert!(has(&server, 0) && has(&server, 1));
    let patches: Vec<_> = server.requests().into_iter().filter(|seen| seen.method == "PATCH").collect();
    assert_eq!(patches.len(), 2);
    assert!(patches.iter().all(|seen| !seen.headers.contains_key("content-length")));
}

/// A cut stream costs its layer, and no other.
#[tokio::test]
async fn offered_again() {
    for fault in [Fault::DropAfterRequest(500_000), Fault::Reply(Reply::status(503)), Fault::Lose] {
        let (server, maker) = (Server::start(Registry::default()).await, Maker::new(2));
        server.rule(on("PATCH", "/uploads/", fault.clone()));
        push_to(&[&server], &maker).await.remove(0).expect("pushed");
        assert_eq!((maker.made(), server.count("PATCH", "")), (3, 3), "{fault:?}");
        assert!(has(&server, 0) && has(&server, 1), "{fault:?} {:#?}", server.log());
    }
    // Not for ever.
    let (server, maker) = (Server::start(Registry::default()).await, Maker::new(2));
    server.rule(on("PATCH", "/uploads/", Fault::Reply(Reply::status(503))).always());
    push_to(&[&server], &maker).await.remove(0).expect_err("it never works");
    assert_eq!(server.count("PATCH", ""), 3);
    assert!(server.registry(|registry| registry.sessions.is_empty()), "{:#?}", server.log());
}

/// Where something refuses requests without a length, or of this length, layers are kept in a file first and go like any other.
#[tokio::test]
async fn kept_in_a_file() {
    for status in [411, 413, 501] {
        let (server, maker) = (Server::start(Registry::default()).await, Maker::new(2));
        server.rule(on("PATCH", "/uploads/", Fault::Reply(Reply::status(status))).always());
        push_to(&[&server], &maker).await.remove(0).expect("pushed");
        assert!(has(&server, 0) && has(&server, 1), "{status}");
        assert_eq!((maker.made(), server.count("PATCH", "")), (3, 1), "{status}");
    }
}

/// Several registries: made once; a layer that did not arrive at one is not sent to the other again; one that fails ends alone.
#[tokio::test]
async fn several_destinations() {
    let (one, two) = (Server::start(Registry::default()).await, Server::start(Registry::default()).await);
    let maker = Maker::new(2);
    let both = push_to(&[&one, &two], &maker).await;
    assert!(both.iter().all(Result::is_ok), "{both:?}");
    assert_eq!(maker.made(), 2);
    assert!([&one, &two].iter().all(|server| has(server, 0) && has(server, 1)));

    let (one, two) = (Server::start(Registry::default()).await, Server::start(Registry::default()).await);
    one.rule(on("PATCH", "/uploads/", Fault::DropAfterRequest(300_000)));
    let maker = Maker::new(2);
    let both = push_to(&[&one, &two], &maker).await;
    assert!(both.iter().all(Result::is_ok), "{both:?}");
    assert_eq!((one.count("PATCH", ""), two.count("PATCH", ""), maker.made()), (3, 2, 3));

    let (one, two) = (Server::start(Registry::default()).await, Server::start(Registry::default()).await);
    one.rule(on("POST", "/uploads/", Fault::Reply(Reply::status(403))).always());
    let maker = Maker::new(2);
    let both = push_to(&[&one, &two], &maker).await;
    assert!(both[0].is_err() && both[1].is_ok(), "{both:?}");
    assert!(has(&two, 0) && has(&two, 1));
    assert_eq!(one.count("PUT", "/manifests/"), 0);
}

/// What is there is not made.
#[tokio::test]
async fn not_made_when_it_is_there() {
    let server = Server::start(Registry::default()).await;
    server.registry(|registry| registry.add_blob("team/app", layer(0)));
    let maker = Maker { asks: true, ..Maker::new(2) };
    let pushed = push_to(&[&server], &maker).await.remove(0).expect("pushed");
    assert_eq!((maker.made(), pushed.blobs_existing, pushed.blobs_sent), (1, 1, 2));
}
