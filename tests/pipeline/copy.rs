//! `idp copy` and several destinations: from a real registry to others, whole indexes byte for byte, mounted where it can be, and what
//! `--plan` says is what goes.

use idp_test_support::faults::{Auth, Registry, Server};
use idp_test_support::images::TestImage;
use serde_json::Value;

use super::{digest, image, json, registries, sandbox};

/// An index with all of its images to a registry of another make, and back out of it byte for byte.
#[tokio::test]
async fn whole_indexes_between_registries() {
    let Some(from) = registries::distribution_3(false).await else { return };
    let Some(to) = registries::olareg_open().await else { return };
    let sandbox = sandbox();
    let made = TestImage::index().expect("an image");
    let source = image::layout(&sandbox, &made, "in");
    let _ = sandbox.idp(["push", &source, &from.reference("app:1")]).exits(0);
    let copied = sandbox.idp(["copy", &from.reference("app:1"), &to.reference("mirror/app")]).exits(0);
    assert_eq!(digest(&copied), made.digest());
    let _ = sandbox.idp(["pull", &to.reference("mirror/app:1"), "oci:out:1"]).exits(0);
    image::assert_holds(&sandbox.path("work/out"), &made);
    // One platform of it.
    let arm = ["copy", &from.reference("app:1"), &to.reference("arm:1"), "--platform", "linux/arm64"];
    assert_ne!(digest(&sandbox.idp(arm).exits(0)), made.digest());
}

/// In one registry nothing is sent: the blobs are mounted.
#[tokio::test]
async fn within_a_registry_nothing_is_sent() {
    let Some(registry) = registries::distribution_3(true).await else { return };
    let sandbox = sandbox();
    registry.log_in(&sandbox);
    let made = TestImage::layers(3).expect("an image");
    let source = image::layout(&sandbox, &made, "in");
    let _ = sandbox.idp(["push", &source, &registry.reference("team/app:1")]).exits(0);
    let copied =
        ["copy", &registry.reference("team/app:1"), &registry.reference("prod/app:2"), "--output", "json"];
    let copied = json(&sandbox.idp(copied).exits(0));
    assert_eq!(
        (copied["blobs-sent"].as_u64(), copied["blobs-reused"].as_u64()),
        (Some(0), Some(4)),
        "{copied}"
    );
    let _ = sandbox.idp(["pull", &registry.reference("prod/app:2"), "oci:out:1"]).exits(0);
    image::assert_holds(&sandbox.path("work/out"), &made);
}

/// Two registries and a third that does not answer: two have it, and the command says which has not.
#[tokio::test]
async fn several_destinations() {
    let Some(one) = registries::distribution_3(false).await else { return };
    let Some(two) = registries::olareg_open().await else { return };
    let sandbox = sandbox();
    let made = TestImage::layers(3).expect("an image");
    let source = image::layout(&sandbox, &made, "in");
    let output = sandbox.idp(["push", &source, &one.reference("a:1"), &two.reference("b:2")]).exits(0);
    assert_eq!(output.stdout.lines().count(), 2, "{output}");
    for (number, reference) in [one.reference("a:1"), two.reference("b:2")].iter().enumerate() {
        let _ = sandbox.idp(["pull", reference, &format!("oci:out{number}:1")]).exits(0);
        image::assert_holds(&sandbox.path(&format!("work/out{number}")), &made);
    }
    let output =
        sandbox.idp(["copy", &one.reference("a:1"), &two.reference("c:1"), "127.0.0.1:9/d:1"]).exits(4);
    assert!(output.stderr.contains("127.0.0.1:9"), "{output}");
    let output =
        sandbox.idp(["push", &source, &one.reference("a:1"), &two.reference("b:2"), "-u", "me", "-p", "x"]);
    assert!(output.exits(64).stderr.contains("idp login"));
}

/// C10: tags that are the same cost one request each, and the lists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unchanged_tags_cost_one_request() {
    let (from, to) = (open().await, open().await);
    let sandbox = sandbox();
    let made = TestImage::layers(2).expect("an image");
    let source = image::layout(&sandbox, &made, "in");
    let tag = |number: usize| format!("{}/app:t{number}", from.address());
    for number in 0..20 {
        let _ = sandbox.idp(["push", &source, &tag(number)]).exits(0);
    }
    let (all, there) = (format!("{}/app", from.address()), format!("{}/app", to.address()));
    let copy = || sandbox.idp(["copy", &all, &there, "--all-tags"]).exits(0);
    assert_eq!(copy().stdout.lines().count(), 20);
    let (read, looked) = (from.requests().len(), to.requests().len());
    let again = copy();
    assert_eq!(again.stdout, "", "{again}");
    assert!(again.stderr.contains("20 tags are the same"), "{again}");
    let (read, looked) = (from.requests().len() - read, to.requests().len() - looked);
    assert_eq!((read, looked), (1 + 20, 1), "{:#?}", to.log());
    // One moved at the source, one went at the destination.
    let other = image::layout(&sandbox, &TestImage::layers(3).expect("an image"), "other");
    let _ = sandbox.idp(["push", &other, &tag(3)]).exits(0);
    to.registry(|registry| registry.tags.remove(&("app".to_owned(), "t5".to_owned())));
    assert_eq!(copy().stdout.lines().count(), 2);
    let tags = to.registry(|registry| registry.tags.clone());
    assert_eq!(tags, from.registry(|registry| registry.tags.clone()));
}

async fn open() -> Server {
    Server::start(Registry::with_auth(Auth::Open)).await
}

/// Signatures and the like go along when they are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn referrers() {
    let Some(from) = registries::olareg_open().await else { return };
    let Some(to) = registries::olareg_open().await else { return };
    let sandbox = sandbox();
    let made = TestImage::layers(2).expect("an image");
    let source = image::layout(&sandbox, &made, "in");
    let _ = sandbox.idp(["push", &source, &from.reference("app:1")]).exits(0);
    let subject = made.root.clone();
    let signature = TestImage::referrer(&subject, "application/x-signature").expect("an artifact");
    let signature_layout = image::layout(&sandbox, &signature, "signature");
    let _ = sandbox.idp(["push", &signature_layout, &from.reference("app:signature")]).exits(0);
    let inspect = |reference: &str| {
        json(&sandbox.idp(["inspect", reference, "--referrers", "--output", "json"]).exits(0))
    };
    assert_eq!(inspect(&from.reference("app:1"))["referrers"].as_array().map(Vec::len), Some(1));
    let _ = sandbox.idp(["copy", &from.reference("app:1"), &to.reference("plain:1")]).exits(0);
    assert_eq!(inspect(&to.reference("plain:1"))["referrers"].as_array().map(Vec::len), Some(0));
    let _ =
        sandbox.idp(["copy", &from.reference("app:1"), &to.reference("signed:1"), "--referrers"]).exits(0);
    let found = inspect(&to.reference("signed:1"));
    assert_eq!(found["referrers"][0]["digest"], signature.digest(), "{found}");
}

/// What a plan says is what goes: the same methods and bytes, in a fresh push, and in one of which most is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_are_what_happens() {
    for (single_post, sparse) in [(false, false), (true, false), (false, true)] {
        let server = Server::start(Registry { single_post, sparse, ..Registry::with_auth(Auth::Open) }).await;
        let sandbox = sandbox();
        let reference = format!("{}/app:1", server.address());
        // So that it is known what kind of registry this is.
        let first = image::layout(&sandbox, &TestImage::layers(6).expect("an image"), "first");
        let _ = sandbox.idp(["push", &first, &format!("{}/warm:1", server.address())]).exits(0);
        for layers in [2, 6, 7] {
            let made = TestImage::layers(layers).expect("an image");
            let source = image::layout(&sandbox, &made, &format!("in{layers}"));
            let plan =
                json(&sandbox.idp(["push", &source, &reference, "--plan", "--output", "json"]).exits(0));
            let before = server.requests().len();
            let _ = sandbox.idp(["push", &source, &reference]).exits(0);
            let mut went: Vec<(String, u64)> = server.requests()[before..]
                .iter()
                .map(|seen| (seen.method.clone(), seen.body.len() as u64))
                .collect();
            let mut said: Vec<(String, u64)> = plan["requests"]
                .as_array()
                .expect("requests")
                .iter()
                .map(|one: &Value| {
                    (
                        one["method"].as_str().expect("a method").to_owned(),
                        one["bytes"].as_u64().expect("bytes"),
                    )
                })
                .collect();
            went.sort();
            said.sort();
            assert_eq!(
                said,
                went,
                "{layers} layers, single POST {single_post}, sparse {sparse}: {:#?}",
                server.log()
            );
        }
    }
}
