//! Cases 63 and 64: what refers to a manifest, and lists in pages.

use std::time::Duration;

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::client::{Client, ClientError, Kind, Listed};
use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Manifest};
use idp_oci::media;
use idp_oci::name::Target;
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, digest_of, on};
use serde_json::{Value, json};

use crate::manifest::start;
use crate::support_b::{Memory, entry, index_of, parse, push_all, with_options};
use crate::{client, client_with, hold, manifest, options, repository, user};

/// A manifest that refers to [`manifest`].
fn referrer(number: usize) -> Manifest {
    let subject = entry(manifest().descriptor());
    let config = entry(&Descriptor::of(media::OCI_EMPTY, b"{}"));
    parse(&json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": "application/x-signature",
        "config": config, "layers": [], "subject": subject, "annotations": {"number": number.to_string()},
    }))
}

/// Writes a manifest by its digest, and sees to it that it is listed.
async fn refer(client: &Client, of: &Manifest) -> Result<Listed, ClientError> {
    let target = Target::Digest(of.digest().clone());
    client.put_manifest(&repository(), &target, of).await?;
    client.list_referrer(&repository(), of).await
}

fn fallback_tag() -> String {
    manifest().digest().as_str().replace(':', "-")
}

/// The entries under the fallback tag.
fn listed(server: &Server) -> Vec<Value> {
    server.registry(|registry| {
        let digest = registry.tags.get(&("team/app".to_owned(), fallback_tag()));
        let index = digest.map(|digest| &registry.manifests[&("team/app".to_owned(), digest.clone())].1);
        let document: Value = index.map_or(Value::Null, |index| serde_json::from_slice(index).expect("JSON"));
        document["manifests"].as_array().cloned().unwrap_or_default()
    })
}

async fn holding(habits: Registry) -> Server {
    let server = Server::start(habits).await;
    hold(&server);
    server
}

/// `OCI-Subject` in the answer: nothing more is asked or written.
#[tokio::test]
async fn case_63a_a_registry_that_lists_referrers_needs_no_tag() {
    let server = holding(Registry { referrers: true, ..Registry::default() }).await;
    let client = client(&server);
    assert_eq!(refer(&client, &referrer(1)).await.expect("listed"), Listed::ByRegistry);
    assert_eq!(server.requests().len(), 1, "{:#?}", server.log());
    let nothing = client.list_referrer(&repository(), &manifest()).await;
    assert_eq!(nothing.expect("nothing to do"), Listed::NoSubject);
    // The API is there, and only the header is missing: no tag is made.
    let server = holding(Registry { referrers: true, ..Registry::default() }).await;
    server.rule(on("PUT", "/manifests/", Fault::Reply(Reply::status(201))));
    assert_eq!(refer(&crate::client(&server), &referrer(2)).await.expect("listed"), Listed::ByRegistry);
    assert_eq!((server.count("GET", "/referrers/"), server.count("PUT", &fallback_tag())), (1, 0));
}

/// No referrers API (404): the index under the fallback tag gets the entry, with its type and annotations; the same one once.
#[tokio::test]
async fn case_63b_without_referrers_the_tag_is_kept() {
    let server = holding(Registry::default()).await;
    let client = client(&server);
    for number in [1, 2, 1] {
        let listed = refer(&client, &referrer(number)).await.expect("listed");
        assert!(matches!(listed, Listed::UnderTag(tag) if tag.as_str() == fallback_tag()));
    }
    let entries = listed(&server);
    assert_eq!(entries.len(), 2);
    let first = &entries[0];
    assert_eq!(first["digest"], *referrer(1).digest().as_str());
    assert_eq!(
        (&first["artifactType"], &first["annotations"]["number"]),
        (&json!("application/x-signature"), &json!("1"))
    );
    // That it has none is asked once.
    assert_eq!(server.count("GET", "/referrers/"), 1, "{:#?}", server.log());
    let found = client.referrers(&repository(), manifest().digest()).await.expect("asked");
    assert_eq!((found.manifests.len(), found.source), (2, "fallback-tag"));
}

/// What others wrote into the index stays, byte for byte; what is no index is left alone.
#[tokio::test]
async fn case_63c_what_others_wrote_stays() {
    let server = holding(Registry::default()).await;
    let other = r#"{"zz": 1.50, "digest":"sha512:00","mediaType":"x/y","size":3}"#;
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","annotations":{{"k":"v"}},"manifests":[{{"mediaType":"x/y","size":3,"digest":"{}","zz": 1.50}}]}}"#,
        media::OCI_INDEX,
        digest_of(other.as_bytes())
    );
    server.registry(|registry| {
        registry.add_manifest("team/app", "", "x/y", other);
        registry.add_manifest("team/app", &fallback_tag(), media::OCI_INDEX, index.clone())
    });
    refer(&client(&server), &referrer(1)).await.expect("listed");
    let put = server
        .requests()
        .into_iter()
        .find(|seen| seen.method == "PUT" && seen.target.ends_with(&fallback_tag()));
    let body = String::from_utf8(put.expect("written").body.to_vec()).expect("text");
    assert!(body.contains(r#""zz": 1.50"#) && body.contains(r#""annotations":{"k":"v"}"#), "{body}");
    assert_eq!(listed(&server).len(), 2);

    let server = holding(Registry::default()).await;
    server.registry(|registry| {
        registry.add_manifest("team/app", &fallback_tag(), media::OCI_MANIFEST, manifest().bytes().clone())
    });
    let error = refer(&client(&server), &referrer(1)).await.expect_err("no index");
    assert!(error.to_string().contains("is no index"), "{error}");
    assert_eq!(server.count("PUT", &fallback_tag()), 0);
}

/// Another one writes between our reading and our writing. Where `If-Match` is heeded our write is refused and done again; where it is
/// not, what the other took away is added once more. Nobody's entry is lost.
#[tokio::test]
async fn case_63d_concurrent_writers_lose_nothing() {
    // Within a process, with and without conditions.
    for etags in [false, true] {
        let server = holding(Registry { etags, ..Registry::default() }).await;
        server.rule(on("PUT", &fallback_tag(), Fault::Delay(Duration::from_millis(20))).always());
        let client = client(&server);
        let all = futures_util::future::join_all((0..5).map(|number| {
            let client = client.clone();
            async move { refer(&client, &referrer(number)).await }
        }));
        for listed in all.await {
            listed.expect("listed");
        }
        assert_eq!(listed(&server).len(), 5, "etags: {etags}");
    }
    // Two processes, at a registry that heeds conditions: both read nothing, and both write.
    let server = holding(Registry { etags: true, ..Registry::default() }).await;
    server.rule(on("GET", &fallback_tag(), Fault::Delay(Duration::from_millis(50))).times(2));
    let (one, two) = (client(&server), client(&server));
    let (first, second) = (referrer(1), referrer(2));
    let (one, two) = tokio::join!(refer(&one, &first), refer(&two, &second));
    one.and(two).expect("listed");
    assert_eq!(listed(&server).len(), 2, "{:#?}", server.log());
    assert!(server.requests().iter().any(|seen| seen.status == 412), "{:#?}", server.log());

    // One that heeds none: a writer who had read before us writes after us.
    let server = holding(Registry::default()).await;
    let client = client(&server);
    let theirs = referrer(2);
    let overwriting = async {
        while server.count("PUT", &fallback_tag()) == 0 || listed(&server).is_empty() {
            tokio::task::yield_now().await;
        }
        let index = index_of(&[theirs.descriptor()]);
        server.registry(|registry| {
            registry.add_manifest("team/app", "", media::OCI_MANIFEST, theirs.bytes().clone());
            registry.add_manifest("team/app", &fallback_tag(), media::OCI_INDEX, index.bytes().clone())
        });
    };
    let (ours, ()) = tokio::join!(refer(&client, &first), overwriting);
    ours.expect("listed");
    let digests: Vec<Value> = listed(&server).into_iter().map(|entry| entry["digest"].clone()).collect();
    assert_eq!(digests, [json!(theirs.digest()), json!(first.digest())], "{:#?}", server.log());
}

/// A registry that cannot judge conditions is written to without; one where others write for ever ends in an error.
#[tokio::test]
async fn case_63e_conditions_that_never_hold_and_others_that_never_stop() {
    let server = holding(Registry::default()).await;
    server.rule(on("PUT", &fallback_tag(), Fault::Reply(Reply::status(412))));
    refer(&client(&server), &referrer(1)).await.expect("listed");
    let conditional = |seen: &idp_test_support::faults::Seen| {
        seen.headers.contains_key("if-match") || seen.headers.contains_key("if-none-match")
    };
    let puts = server
        .requests()
        .into_iter()
        .filter(|seen| seen.method == "PUT" && seen.target.ends_with(&fallback_tag()));
    assert_eq!(puts.map(|seen| conditional(&seen)).collect::<Vec<_>>(), [true, false]);

    let server = holding(Registry::default()).await;
    let taken = Reply::status(201);
    server.rule(on("PUT", &fallback_tag(), Fault::Reply(taken)).always());
    let error = refer(&client(&server), &referrer(1)).await.expect_err("never there");
    assert!(error.to_string().contains("at the same time"), "{error}");
    assert_eq!(server.count("PUT", &fallback_tag()), 10);
}

/// A page of tags, with where the next one is.
fn page(tags: &Value, link: &str) -> Fault {
    let reply = Reply::status(200).body(json!({"name": "team/app", "tags": tags}).to_string());
    Fault::Reply(if link.is_empty() { reply } else { reply.header("link", link) })
}

async fn tags(server: &Server) -> Result<Vec<String>, ClientError> {
    let tags = client(server).tags(&repository()).await?;
    Ok(tags.iter().map(|tag| tag.as_str().to_owned()).collect())
}

/// `Link` relative to the path or to the host, or absolute: followed, and its query kept as it is.
#[tokio::test]
async fn case_64a_links_in_every_form() {
    for form in [
        "</v2/team/app/tags/list?last=b%2Fc&n=2>; rel=\"next\"",
        "<list?last=b%2Fc&n=2>; rel=\"next\"",
        "<?last=b%2Fc&n=2>; rel=next",
        "<http://HOST/v2/team/app/tags/list?last=b%2Fc&n=2>; rel=\"next\"",
        "<//HOST/v2/team/app/tags/list?last=b%2Fc&n=2>;rel=\"NEXT\"; title=\"a, <b>; rel=prev\"",
        "</v2/team/app/tags/list?last=x>; rel=\"prev\", </v2/team/app/tags/list?last=b%2Fc&n=2>; rel=\"next\"",
    ] {
        let server = Server::script(vec![]).await;
        let link = form.replace("HOST", &server.address());
        server.rule(on("GET", "last=b%2Fc&n=2", page(&json!(["c"]), "")));
        server.rule(on("GET", "/v2/team/app/tags/list", page(&json!(["a", "b"]), &link)));
        assert_eq!(tags(&server).await.expect(form), ["a", "b", "c"], "{form}");
        server.verify();
    }
}

/// A next page on another host is not asked for, and the list not taken for whole.
#[tokio::test]
async fn case_64b_links_to_other_hosts() {
    let other = Server::script(vec![]).await;
    for link in [
        format!("<http://{}/v2/team/app/tags/list?last=a>; rel=\"next\"", other.address()),
        "<ftp://x/>; rel=\"next\"".to_owned(),
    ] {
        let server = Server::start(Registry::with_auth(Auth::Basic)).await;
        server.rule(on("GET", "/tags/", page(&json!(["a"]), &link)).always());
        let (client, _) = client_with(&server, user("right"), options());
        let error = client.tags(&repository()).await.expect_err(&link);
        assert_eq!(error.kind(), Kind::Other, "{error}");
    }
    assert_eq!(other.requests().len(), 0);
}

/// Pages that lead in a circle, or begin with the last entry again, or go on for ever without anything new: each name once, and an end.
#[tokio::test]
async fn case_64c_circles_and_repetitions_end() {
    let here = |last: &str| format!("</v2/team/app/tags/list?last={last}>; rel=\"next\"");
    // In a circle of two.
    let server = Server::script(vec![
        on("GET", "last=b", page(&json!(["c"]), &here("a"))).always(),
        on("GET", "/tags/", page(&json!(["a", "b"]), &here("b"))).always(),
    ])
    .await;
    assert_eq!(tags(&server).await.expect("a list"), ["a", "b", "c"]);
    assert!(server.requests().len() <= 4, "{:#?}", server.log());
    // The last entry of a page is the first of the next one.
    let server = Server::script(vec![
        on("GET", "last=b", page(&json!(["b", "c"]), &here("c"))),
        on("GET", "last=c", page(&json!(["c"]), "")),
        on("GET", "/tags/", page(&json!(["a", "b"]), &here("b"))),
    ])
    .await;
    assert_eq!(tags(&server).await.expect("a list"), ["a", "b", "c"]);
    // Ever new pages with nothing new on them.
    let server = start().await;
    for number in 0..500 {
        let next = here(&format!("nonce{number}"));
        server.rule(on("GET", "/tags/", page(&json!(["a"]), &next)));
    }
    let (client, recorder) = with_options(&server, &[], |_| {});
    assert_eq!(client.tags(&repository()).await.expect("a list").len(), 1);
    assert!(server.requests().len() <= 110, "{}", server.requests().len());
    assert!(recorder.warnings().iter().any(|text| text.contains("incomplete")), "{:?}", recorder.warnings());
}

/// Unsorted tags, `n` that is ignored, empty pages between others, `null` for no tags, entries that are no tags.
#[tokio::test]
async fn case_64d_odd_pages() {
    let here = |last: &str| format!("</v2/team/app/tags/list?last={last}>; rel=\"next\"");
    let many: Vec<String> = (0..3000).map(|number| format!("t{}", (number * 7919) % 3000)).collect();
    let server = Server::script(vec![on("GET", "/tags/", page(&json!(many), ""))]).await;
    assert_eq!(tags(&server).await.expect("a list"), many, "in the registry's order");

    let server = Server::script(vec![
        on("GET", "last=1", page(&json!([]), &here("2"))),
        on("GET", "last=2", page(&Value::Null, &here("3"))),
        on("GET", "last=3", page(&json!(["z", 7, "not a tag!", "", "a"]), "")),
        on("GET", "/tags/", page(&json!(["m"]), &here("1"))),
    ])
    .await;
    assert_eq!(tags(&server).await.expect("a list"), ["m", "z", "a"]);
    server.verify();

    let server = Server::script(vec![on("GET", "/tags/", page(&Value::Null, ""))]).await;
    assert_eq!(tags(&server).await.expect("a list"), [""; 0]);
    let server =
        Server::script(vec![on("GET", "/tags/", Fault::Reply(Reply::status(200).body("<html>")))]).await;
    assert_eq!(tags(&server).await.expect_err("no list").kind(), Kind::Other);
}

/// Referrers come in pages by the same rules.
#[tokio::test]
async fn case_64e_pages_of_referrers() {
    let page = |digests: &[&str], link: &str| {
        let manifests: Vec<Value> = digests.iter().map(|digest| json!({ "digest": digest })).collect();
        let body =
            json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests}).to_string();
        let reply = Reply::status(200).header("content-type", media::OCI_INDEX).body(body);
        Fault::Reply(if link.is_empty() { reply } else { reply.header("link", link) })
    };
    let subject = Digest::of(b"subject");
    let next = format!("</v2/team/app/referrers/{subject}?page=2>; rel=\"next\"");
    let server = Server::script(vec![
        on("GET", "page=2", page(&["c"], "")),
        on("GET", "/referrers/", page(&["a", "b"], &next)),
    ])
    .await;
    let found = client(&server).referrers(&repository(), &subject).await.expect("asked");
    assert_eq!((found.manifests.len(), found.source), (3, "referrers-api"));
    // A circle ends, and is said to; a page on another host is not asked for, and the list not taken for whole.
    let server = Server::script(vec![on("GET", "/referrers/", page(&["a"], &next)).always()]).await;
    let (client, recorder) = with_options(&server, &[], |_| {});
    client.referrers(&repository(), &subject).await.expect("asked");
    assert_eq!((server.requests().len(), recorder.warnings().len()), (2, 1));
    let elsewhere = "<http://127.0.0.1:1/v2/>; rel=\"next\"";
    let server = Server::script(vec![on("GET", "/referrers/", page(&["a"], elsewhere)).always()]).await;
    assert!(crate::client(&server).referrers(&repository(), &subject).await.is_err());
    assert_eq!(server.requests().len(), 1);
}

/// A push of what has a subject, to a registry without referrers: it is found under the tag.
#[tokio::test]
async fn case_63f_a_push_lists_what_has_a_subject() {
    let server = holding(Registry::default()).await;
    let client = client(&server);
    let config = Blob::from_bytes(media::OCI_EMPTY, Bytes::from_static(b"{}"));
    for number in [1, 2] {
        let source = Memory { blobs: vec![config.clone()], manifests: vec![referrer(number)] };
        push_all(&client, source).await.expect("pushed");
    }
    assert_eq!(listed(&server).len(), 2, "{:#?}", server.log());
    // Where the registry lists them, nothing more is written.
    let server = holding(Registry { referrers: true, ..Registry::default() }).await;
    let source = Memory { blobs: vec![config], manifests: vec![referrer(1)] };
    push_all(&crate::client(&server), source).await.expect("pushed");
    assert_eq!(server.count("*", &fallback_tag()), 0, "{:#?}", server.log());
}
