//! Cases 20, 55, 61, 64: manifests and lists.

use bytes::Bytes;
use idp_test_support::faults::{Fault, Registry, Reply, Server, digest_of, on};

use super::{client, repository};
use crate::client::{Access, Kind};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::media;
use crate::name::Target;

/// An image manifest with config `{}` and these layers.
pub(crate) fn image(layers: &[Descriptor]) -> Manifest {
    let describe = |blob: &Descriptor| {
        serde_json::json!({"mediaType": blob.media_type, "digest": blob.digest.as_str(), "size": blob.size})
    };
    let document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": describe(&Descriptor::of(media::OCI_CONFIG, b"{}")),
        "layers": layers.iter().map(describe).collect::<Vec<_>>(),
    });
    Manifest::parse(Bytes::from(document.to_string()), None).expect("an image")
}

fn tag() -> Target {
    Target::Tag("1".parse().expect("a tag"))
}

async fn server() -> (Server, Manifest) {
    let server = Server::start(Registry::default()).await;
    let image = image(&[]);
    server.registry(|registry| {
        registry.add_blob("team/app", "{}");
        registry.add_manifest("team/app", "1", media::OCI_MANIFEST, image.bytes().clone())
    });
    (server, image)
}

#[tokio::test]
async fn written_and_read() {
    let (server, image) = server().await;
    let client = client(&server);
    let written = client.put_manifest(&repository(), &tag(), &image).await.expect("written");
    assert!(!written.subject_indexed);
    for target in [tag(), Target::Digest(image.digest().clone())] {
        let read = client.manifest(&repository(), &target, None).await.expect("read");
        assert_eq!(read.bytes(), image.bytes());
        let head = client.head_manifest(&repository(), &target, Access::Pull).await.expect("asked");
        assert_eq!(head.as_ref(), Some(image.descriptor()));
    }
    let absent = Target::Tag("absent".parse().expect("a tag"));
    assert_eq!(client.head_manifest(&repository(), &absent, Access::Pull).await.expect("asked"), None);
    let error = client.manifest(&repository(), &absent, None).await.expect_err("not there");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("team/app:absent") && error.to_string().contains("MANIFEST_UNKNOWN"), "{error}");
}

/// Case 61: what is not what it says is refused, and not tried again.
#[tokio::test]
async fn spoiled_manifests_are_refused() {
    let other = digest_of(b"other");
    for fault in [
        Fault::Header("docker-content-digest", other.clone()),
        Fault::Corrupt,
        Fault::Header("content-type", "text/html; charset=utf-8".to_owned()),
        Fault::Header("content-type", media::OCI_INDEX.to_owned()),
        Fault::Reply(Reply::status(200).header("content-type", media::OCI_MANIFEST).body("not JSON")),
        Fault::Reply(Reply::status(200).body(r#"{"schemaVersion":1}"#)),
    ] {
        let (server, image) = server().await;
        server.rule(on("GET", "/manifests/", fault.clone()).always());
        let client = client(&server);
        let target = Target::Digest(image.digest().clone());
        let error = client.manifest(&repository(), &target, None).await.expect_err("refused");
        assert_eq!((error.kind(), server.requests().len()), (Kind::Other, 1), "{fault:?}: {error}");
    }
    // A registry that serves other bytes under a digest, and names them rightly.
    let (server, _) = server().await;
    let lie = image(&[Descriptor::of("a/b", b"x")]);
    server.rule(on("GET", "/manifests/", Fault::Reply(Reply::status(200).body(lie.bytes().clone()))));
    let target = Target::Digest(Digest::of(b"asked"));
    let error = client(&server).manifest(&repository(), &target, None).await.expect_err("refused");
    assert!(error.to_string().contains("the registry sent"), "{error}");
}

/// Case 20: a page that says yes to everything is not a registry.
#[tokio::test]
async fn a_captive_portal_is_no_registry() {
    let page = Reply::status(200).header("content-type", "text/html").body("<html>log in</html>");
    let server = Server::script(vec![on("*", "/", Fault::Reply(page)).always()]).await;
    let client = client(&server);
    for error in [
        client.put_manifest(&repository(), &tag(), &image(&[])).await.map(|_| ()).expect_err("refused"),
        client.manifest(&repository(), &tag(), None).await.map(|_| ()).expect_err("refused"),
    ] {
        assert!(error.to_string().contains("not a registry"), "{error}");
    }
    assert!(!client.has_blob(&repository(), &Descriptor::of("a/b", b"x"), Access::Pull).await.expect("asked"));
}

/// The registry stored something else than was sent.
#[tokio::test]
async fn a_wrong_digest_after_a_put_is_an_error() {
    let (server, image) = server().await;
    server.rule(on("PUT", "/manifests/", Fault::Header("docker-content-digest", digest_of(b"other"))));
    let error = client(&server).put_manifest(&repository(), &tag(), &image).await.expect_err("refused");
    assert!(error.to_string().contains("stored it as"), "{error}");
}

/// Case 64.
#[tokio::test]
async fn tags_come_in_pages() {
    let server = Server::start(Registry { page: Some(2), ..Registry::default() }).await;
    server.registry(|registry| {
        for tag in ["a", "b", "c", "d", "e"] {
            registry.add_manifest("team/app", tag, media::OCI_MANIFEST, tag);
        }
    });
    let tags = client(&server).tags(&repository()).await.expect("tags");
    assert_eq!(tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    assert_eq!(server.requests().len(), 3);
}

/// Case 64: circles end, other hosts are not followed, `null` is an empty list.
#[tokio::test]
async fn strange_lists() {
    let page = |tags: &str, link: &str| {
        let body = format!(r#"{{"name":"team/app","tags":{tags}}}"#);
        let reply = Reply::status(200).body(body);
        Fault::Reply(if link.is_empty() { reply } else { reply.header("link", link) })
    };
    let circle = r#"</v2/team/app/tags/list?n=100>; rel="next""#;
    let server = Server::script(vec![on("GET", "/tags/", page(r#"["a","a","no tag!"]"#, circle)).always()]).await;
    assert_eq!(client(&server).tags(&repository()).await.expect("tags").len(), 1);
    assert_eq!(server.requests().len(), 1);
    let elsewhere = r#"<http://127.0.0.1:1/v2/>; rel="next""#;
    let server = Server::script(vec![
        on("GET", "/tags/", page("null", "")),
        on("GET", "/tags/", page("[]", elsewhere)),
        on("GET", "/tags/", Fault::Reply(Reply::status(200).body("<html>"))),
    ])
    .await;
    assert_eq!(client(&server).tags(&repository()).await.expect("tags").len(), 0);
    assert!(client(&server).tags(&repository()).await.is_err());
    assert!(client(&server).tags(&repository()).await.is_err());
    server.verify();
}

#[tokio::test]
async fn deleted() {
    let server = Server::script(vec![
        on("DELETE", "/manifests/1", Fault::Reply(Reply::status(202))),
        on("DELETE", "/manifests/1", Fault::Reply(Reply::error(405, "UNSUPPORTED", &serde_json::Value::Null))),
    ])
    .await;
    let client = client(&server);
    client.delete_manifest(&repository(), &tag()).await.expect("deleted");
    let error = client.delete_manifest(&repository(), &tag()).await.expect_err("refused");
    assert!(error.to_string().contains("UNSUPPORTED"), "{error}");
    server.verify();
}
