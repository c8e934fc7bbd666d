//! Cases 60 to 62: what an index leads to, and what a tag does.

use std::time::Duration;

use bytes::Bytes;
use idp_oci::client::{Access, Kind};
use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Manifest};
use idp_oci::media;
use idp_oci::pipeline::{PullOptions, pull};
use idp_test_support::faults::{Fault, Registry, Reply, Server, digest_of, on};
use tokio_util::sync::CancellationToken;

use crate::manifest::{serve, sha512, start};
use crate::support_b::{Memory, Store, holds, index_of, pull_all};
use crate::{client, hold, manifest, repository, tag};

/// `depth` indexes around an image, each naming the next one twice.
fn nested(registry: &mut Registry, depth: usize) {
    registry.add_blob("team/app", "{}");
    let mut inner = manifest();
    for _ in 0..depth {
        let media_type = inner.descriptor().media_type.clone();
        registry.add_manifest("team/app", "", &media_type, inner.bytes().clone());
        inner = index_of(&[inner.descriptor(), inner.descriptor()]);
    }
    registry.add_manifest("team/app", "1", media::OCI_INDEX, inner.bytes().clone());
}

/// Indexes in indexes: eight deep and no deeper, and what stands in many places is asked for once.
#[tokio::test]
async fn case_60a_depth_is_bounded_and_nothing_is_asked_for_twice() {
    let mut registry = Registry::default();
    nested(&mut registry, 8);
    let server = Server::start(registry).await;
    let (pulled, _) = pull_all(&client(&server)).await;
    assert_eq!(pulled.expect("pulled").manifests, 9);
    assert_eq!(server.count("GET", "/manifests/"), 9);

    let mut registry = Registry::default();
    nested(&mut registry, 9);
    let server = Server::start(registry).await;
    let (refused, store) = pull_all(&client(&server)).await;
    assert!(refused.expect_err("too deep").to_string().contains("nested more than 8"));
    assert!(server.count("GET", "/manifests/") <= 9 && server.count("GET", "/blobs/") == 0);
    assert!(!store.taken().finished);
}

/// A registry that answers with the parent again: what is not what it is called is refused, and no circle is walked.
#[tokio::test]
async fn case_60b_circles_end() {
    let server = start().await;
    let root = index_of(&[manifest().descriptor()]);
    let looped = Reply::status(200).header("content-type", media::OCI_INDEX).body(root.bytes().clone());
    server.rule(on("GET", "/manifests/", Fault::Reply(looped)).always());
    let (refused, _) = pull_all(&client(&server)).await;
    refused.expect_err("a circle");
    assert_eq!(server.requests().len(), 2, "{:#?}", server.log());
}

/// An index of so many entries.
fn crowd(count: usize, distinct: bool) -> Manifest {
    let entries: Vec<Descriptor> = (0..count)
        .map(|number| {
            let content = if distinct { number.to_string() } else { String::new() };
            Descriptor::new(media::OCI_MANIFEST, Digest::of(content.as_bytes()), 500)
        })
        .collect();
    index_of(&entries.iter().collect::<Vec<_>>())
}

/// Ten thousand entries: more are refused before any of them is asked for, as are too many bytes; the same one again costs nothing.
#[tokio::test]
async fn case_60c_entries_are_bounded() {
    let huge = Descriptor::new(media::OCI_MANIFEST, Digest::of(b"huge"), 1 << 40);
    for (root, asked) in [(crowd(10_001, true), 1), (index_of(&[&huge]), 1), (crowd(10_000, false), 2)] {
        let server = start().await;
        serve(&server, media::OCI_INDEX, root.bytes().clone());
        let (pulled, _) = pull_all(&client(&server)).await;
        match pulled {
            Ok(_) => assert_eq!(asked, 2),
            Err(error) => {
                assert!(asked == 1 && error.to_string().contains("more than 10000 manifests"), "{error}");
            }
        }
        assert_eq!(server.requests().len(), asked);
    }
}

/// However many there are, only so many are asked for at once.
#[tokio::test]
async fn case_60d_manifests_are_asked_for_a_few_at_once() {
    let server = start().await;
    serve(&server, media::OCI_INDEX, crowd(60, true).bytes().clone());
    server.rule(on("GET", "/manifests/sha256:", Fault::Hang).always());
    let (client, cancel) = (client(&server), CancellationToken::new());
    let task = tokio::spawn({
        let cancel = cancel.clone();
        async move {
            let options = PullOptions { jobs: Some(3), ..PullOptions::default() };
            pull(&client, &repository(), &tag(), Box::new(Store::default()), &options, &cancel).await
        }
    });
    while server.count("GET", "/manifests/sha256:") < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.count("GET", "/manifests/sha256:"), 3);
    cancel.cancel();
    assert_eq!(task.await.expect("it ends").expect_err("given up").kind(), Kind::Interrupted);
}

/// The digest of what a tag names is computed here; a header that says another is an error, and one that is missing is not.
#[tokio::test]
async fn case_61_the_digest_of_a_tag_is_checked() {
    for (fault, good) in [
        (None, true),
        (Some(Fault::Header("docker-content-digest", digest_of(b"other"))), false),
        (Some(Fault::Header("docker-content-digest", sha512(b"other").to_string())), false),
        (Some(Fault::Header("docker-content-digest", "sha256:nonsense".to_owned())), false),
        (Some(Fault::Header("docker-content-digest", sha512(manifest().bytes()).to_string())), true),
        (Some(Fault::Header("docker-content-digest", String::new())), true),
        (Some(Fault::Reply(Reply::status(200).body(manifest().bytes().clone()))), true),
        (Some(Fault::Corrupt), false),
    ] {
        let server = start().await;
        hold(&server);
        let shown = format!("{fault:?}");
        if let Some(fault) = fault {
            server.rule(on("GET", "/manifests/", fault).always());
        }
        let (pulled, store) = pull_all(&client(&server)).await;
        match pulled {
            Ok(pulled) => assert!(good && &pulled.digest == manifest().digest(), "{shown}"),
            Err(error) => assert!(!good && error.kind() == Kind::Other, "{shown}: {error}"),
        }
        assert_eq!((store.taken().finished, server.count("GET", "/manifests/")), (good, 1), "{shown}");
    }
}

/// A tag that moves while it is pulled: one answer decides, and everything comes from it.
#[tokio::test]
async fn case_62_a_tag_that_moves() {
    let server = start().await;
    let (old, new) =
        (Memory::image([Bytes::from_static(b"old")]), Memory::image([Bytes::from_static(b"new")]));
    holds(&server, &new);
    holds(&server, &old);
    server.rule(on("GET", "/blobs/", Fault::Delay(Duration::from_millis(100))).always());
    let client = client(&server);
    let before = client.head_manifest(&repository(), &tag(), Access::Pull).await.expect("asked");
    assert_eq!(before.map(|of| of.digest).as_ref(), Some(old.root().digest()));
    let moving = async {
        // The tag moves once more as soon as its manifest has been given away.
        while server.count("GET", "/manifests/1") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        holds(&server, &old);
    };
    holds(&server, &new);
    let ((pulled, store), ()) = tokio::join!(pull_all(&client), moving);
    let pulled = pulled.expect("pulled");
    let taken = store.taken();
    assert_eq!((&pulled.digest, taken.manifests[0].bytes()), (new.root().digest(), new.root().bytes()));
    assert!(taken.blobs.contains_key(&Digest::of(b"new")) && !taken.blobs.contains_key(&Digest::of(b"old")));
    assert_eq!(server.count("GET", "/manifests/"), 1);
}
