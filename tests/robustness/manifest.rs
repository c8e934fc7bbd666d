//! Cases 54 to 59: manifests, and what may stand in them.

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::client::http::HttpOptions;
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::{Client, ClientError, Event, Kind, Outcome, Presence, Scheme};
use idp_oci::digest::{Algorithm, Digest, Hasher};
use idp_oci::manifest::{Descriptor, Manifest, ManifestError};
use idp_oci::media;
use idp_oci::name::{Reference, Target};
use idp_oci::pipeline::{PipelineError, PullOptions, PushOptions, pull, push};
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, digest_of, on};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support_b::{
    Memory, entry, holds, image_of, index_of, is_tagged, layer, parse, pull_all, push_all, with_options,
};
use crate::{client, client_of, client_with, manifest, options, repository, tag, user};

const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";

pub(crate) async fn start() -> Server {
    Server::start(Registry::default()).await
}

/// A manifest of so many bytes at least.
fn wide(size: usize) -> Manifest {
    let mut document: Value = serde_json::from_slice(manifest().bytes()).expect("JSON");
    document["annotations"] = json!({ "padding": "x".repeat(size) });
    parse(&document)
}

async fn put(client: &Client, manifest: &Manifest) -> Result<(), ClientError> {
    client.put_manifest(&repository(), &tag(), manifest).await.map(|_| ())
}

async fn get(client: &Client) -> Result<Manifest, ClientError> {
    client.manifest(&repository(), &tag(), None).await
}

/// Serves this for the tag, unchecked.
pub(crate) fn serve(server: &Server, media_type: &str, body: impl Into<Bytes>) -> String {
    server.registry(|registry| registry.add_manifest("team/app", "1", media_type, body))
}

/// A manifest over 4 MiB is pushed with a warning, one however many tags it gets.
#[tokio::test]
async fn case_54a_a_manifest_that_is_too_large_is_warned_of() {
    let server = start().await;
    server.registry(|registry| registry.add_blob("team/app", "{}"));
    let (client, recorder) = with_options(&server, &[], |_| {});
    put(&client, &manifest()).await.expect("written");
    assert_eq!(recorder.warnings(), [""; 0]);
    let large = wide(4 * 1024 * 1024);
    for _ in 0..2 {
        put(&client, &large).await.expect("written");
    }
    let warnings = recorder.warnings();
    assert!(matches!(&*warnings, [one] if one.contains(large.digest().short()) && one.contains("4194304")));
    assert!(is_tagged(&server, &large));
}

/// How large a manifest may be that is pulled can be set.
#[tokio::test]
async fn case_54b_the_cap_of_a_pull_is_set() {
    for (size, most, fits) in [
        (9 << 20, None, false),
        (9 << 20, Some(10 << 20), true),
        (2000, Some(1000), false),
        (100, Some(1000), true),
    ] {
        let server = start().await;
        let large = wide(size);
        serve(&server, media::OCI_MANIFEST, large.bytes().clone());
        let (client, _) = with_options(&server, &[], |options| {
            options.max_manifest = most.unwrap_or(options.max_manifest);
        });
        match get(&client).await {
            Ok(manifest) => assert!(fits && manifest.digest() == large.digest(), "{size} {most:?}"),
            Err(error) => {
                let told = error.to_string();
                assert!(!fits && told.contains("the most that is read of a manifest"), "{told}");
                assert_eq!((error.kind(), server.requests().len()), (Kind::Other, 1));
            }
        }
    }
}

/// A manifest that is refused with 413: its size is said, and it is not sent again.
#[tokio::test]
async fn case_54c_a_413_for_a_manifest_is_said_clearly() {
    let server = start().await;
    server.rule(on("PUT", "/manifests/", Fault::Reply(Reply::status(413))).always());
    let large = wide(5_000_000);
    let error = put(&client(&server), &large).await.expect_err("too large");
    let told = error.to_string();
    assert!(told.contains(&format!("{} bytes", large.bytes().len())) && told.contains("413"), "{told}");
    assert_eq!((error.kind(), server.count("PUT", "")), (Kind::Other, 1));
}

/// `Content-Type` with parameters, in capitals, wrong in a way that names no manifest, or missing: what the document says holds.
#[tokio::test]
async fn case_55a_the_document_says_what_it_is() {
    let silent: Value = {
        let mut document: Value = serde_json::from_slice(manifest().bytes()).expect("JSON");
        document.as_object_mut().expect("an object").remove("mediaType");
        document
    };
    let docker = media::DOCKER_MANIFEST;
    for (served, document, expect) in [
        ("application/vnd.oci.image.manifest.v1+json; charset=utf-8", None, media::OCI_MANIFEST),
        ("Application/Vnd.OCI.Image.Manifest.V1+JSON", None, media::OCI_MANIFEST),
        ("text/plain", None, media::OCI_MANIFEST),
        ("application/json", None, media::OCI_MANIFEST),
        ("application/octet-stream", None, media::OCI_MANIFEST),
        ("", None, media::OCI_MANIFEST),
        // It says nothing (ECR, containerd): the header counts, and then its shape.
        ("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8", Some(&silent), docker),
        ("application/json", Some(&silent), media::OCI_MANIFEST),
        ("", Some(&silent), media::OCI_MANIFEST),
    ] {
        let server = start().await;
        let bytes =
            document.map_or_else(|| manifest().bytes().clone(), |document| document.to_string().into());
        let mut reply = Reply::status(200).body(bytes.clone());
        if !served.is_empty() {
            reply = reply.header("content-type", served);
        }
        server.rule(on("GET", "/manifests/", Fault::Reply(reply)));
        let got = get(&client(&server)).await.unwrap_or_else(|error| panic!("{served}: {error}"));
        assert_eq!((got.descriptor().media_type.as_str(), got.bytes()), (expect, &bytes), "{served}");
    }
}

/// A document and a header that contradict each other, an index entry of the other shape, fields of both shapes: refused.
#[tokio::test]
async fn case_55b_contradictions_are_refused() {
    let both = |media_type: &str| {
        let config = entry(&Descriptor::of(media::OCI_CONFIG, b"{}"));
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [], "manifests": []})
    };
    let image = || String::from_utf8(manifest().bytes().to_vec()).expect("text");
    for (served, body, expect) in [
        (media::OCI_INDEX, image(), "was served as"),
        (media::DOCKER_MANIFEST, image(), "was served as"),
        (media::OCI_MANIFEST, both(media::OCI_MANIFEST).to_string(), "has `manifests`"),
        (media::OCI_INDEX, both(media::OCI_INDEX).to_string(), "has `layers`"),
    ] {
        let server = start().await;
        serve(&server, served, body);
        let error = get(&client(&server)).await.expect_err(expect);
        assert!(error.to_string().contains(expect) && error.kind() == Kind::Other, "{error}");
        assert_eq!(server.requests().len(), 1);
    }
    let server = start().await;
    let silent = json!({"schemaVersion": 2, "manifests": []});
    let digest: Digest = serve(&server, "application/json", silent.to_string()).parse().expect("a digest");
    let said = Descriptor::new(media::OCI_MANIFEST, digest.clone(), silent.to_string().len() as u64);
    let target = Target::Digest(digest);
    let error = client(&server).manifest(&repository(), &target, Some(&said)).await.expect_err("an index");
    assert!(error.to_string().contains("manifest"), "{error}");
}

/// Schema 1 is refused by name, is not asked for, and is never taken for something else.
#[tokio::test]
async fn case_56_schema_1_is_refused() {
    let unsigned = json!({"schemaVersion": 1, "name": "team/app", "tag": "1", "fsLayers": [], "history": []});
    // Made to look like what it is not.
    let config = entry(&Descriptor::of(media::OCI_CONFIG, b"{}"));
    let disguised =
        json!({"schemaVersion": 1, "mediaType": media::OCI_MANIFEST, "config": config, "layers": []});
    for (served, body) in [
        (SCHEMA1, &unsigned),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", &unsigned),
        ("application/json", &unsigned),
        (media::OCI_MANIFEST, &disguised),
    ] {
        let server = start().await;
        serve(&server, served, body.to_string());
        let (pulled, store) = pull_all(&client(&server)).await;
        let told = pulled.expect_err("schema 1").to_string();
        assert!(told.contains("schema 1"), "{told}");
        assert!(!store.taken().finished && server.count("GET", "/blobs/") == 0);
        let asked = server.requests().iter().any(|seen| {
            seen.headers
                .get_all("accept")
                .iter()
                .any(|value| value.to_str().is_ok_and(|value| value.contains("v1+prettyjws")))
        });
        assert!(!asked);
        let parsed = Manifest::parse(Bytes::from(body.to_string()), Some(served));
        assert!(matches!(parsed, Err(ManifestError::Schema1)));
    }
}

/// An image whose lower layer is foreign and to be had at these addresses.
fn foreign_image(urls: &[String]) -> (Memory, Descriptor) {
    let mut source = Memory::image([Bytes::from_static(b"ours")]);
    let mut foreign = Descriptor::of(FOREIGN, b"foreign");
    foreign.urls = urls.to_vec();
    let mut described = entry(&foreign);
    described["urls"] = json!(urls);
    let mut document: Value = serde_json::from_slice(source.root().bytes()).expect("JSON");
    document["layers"].as_array_mut().expect("layers").insert(0, described);
    source.manifests = vec![parse(&document)];
    (source, foreign)
}

/// Foreign layers are skipped by a push and by a pull, and the manifest that names them stays what it is.
#[tokio::test]
async fn case_57a_foreign_layers_are_skipped() {
    let server = start().await;
    let (source, foreign) = foreign_image(&["https://layers.example/x".to_owned()]);
    let (client, recorder) = with_options(&server, &[], |_| {});
    push_all(&client, source.clone()).await.expect("pushed");
    assert!(is_tagged(&server, source.root()));
    assert_eq!(server.count("*", foreign.digest.as_str()), 0, "{:#?}", server.log());
    let skipped = |event: &&Event| matches!(event, Event::BlobFinished { outcome: Outcome::Skipped, .. });
    assert_eq!(recorder.events().iter().filter(skipped).count(), 1);
    let (pulled, store) = pull_all(&client).await;
    pulled.expect("pulled");
    assert_eq!(store.taken().manifests[0].bytes(), source.root().bytes());
    assert!(!store.taken().blobs.contains_key(&foreign.digest));
}

/// An index that names what is not there is moved as it is, and said to.
#[tokio::test]
async fn case_57b_a_sparse_index_stays_as_it_is() {
    let server = start().await;
    let (present, absent) =
        (Memory::image([Bytes::from_static(b"here")]), image_of(&[&layer("x").descriptor]));
    let root = index_of(&[absent.descriptor(), present.root().descriptor()]);
    holds(&server, &Memory { manifests: vec![present.root().clone(), root.clone()], ..present.clone() });
    let (client, recorder) = with_options(&server, &[], |_| {});
    let (pulled, store) = pull_all(&client).await;
    assert_eq!(pulled.expect("pulled").manifests, 2);
    assert_eq!(store.taken().manifests.last().map(Manifest::bytes), Some(root.bytes()));
    assert!(matches!(&*recorder.warnings(), [one] if one.contains(absent.digest().as_str())));

    let dir = tempfile::tempdir().expect("a directory");
    let sink = idp_oci::sink::open("oci:out:1", dir.path()).expect("a sink");
    crate::support_b::pull_to(&client, sink).await.expect("pulled");
    let target = Server::start(Registry::default()).await;
    // It accepts indexes whose children it does not have.
    let digest = root.digest().to_string();
    let taken = Reply::status(201).header("docker-content-digest", &digest);
    target.rule(on("PUT", "/manifests/1", Fault::Reply(taken)).always());
    let source = idp_oci::source::open("oci:out:1", dir.path()).expect("a source");
    crate::support_b::push_source(&crate::client(&target), source).await.expect("pushed");
    let written = target.requests().into_iter().rfind(|seen| seen.target.ends_with("/manifests/1"));
    assert_eq!(written.expect("written").body, root.bytes());
}

/// Where it is asked for, a foreign layer is fetched from its `urls`: without credentials, from the first that has it, and only when it is
/// what it should be.
#[tokio::test]
async fn case_57c_foreign_layers_are_fetched_when_asked_for() {
    let elsewhere = Server::script(vec![
        on("GET", "/absent", Fault::Reply(Reply::status(404))),
        on("GET", "/wrong", Fault::Reply(Reply::status(200).body("foreigm"))),
        on("GET", "/long", Fault::Reply(Reply::status(200).body("foreign and more"))),
        on("GET", "/right", Fault::Reply(Reply::status(503))),
        on("GET", "/right", Fault::Reply(Reply::status(200).body("foreign"))),
    ])
    .await;
    let server = Server::start(Registry::with_auth(Auth::Basic)).await;
    let url = |path: &str| format!("http://{}/{path}", elsewhere.address());
    let urls = ["absent", "wrong", "long", "right?sig=1"].map(url);
    let (source, foreign) = foreign_image(&urls);
    let (client, _) = client_with(&server, user("right"), options());
    push_all(&client, source).await.expect("pushed");
    // What this address answers passes: the next one is asked, and this one once more only because of the 503.
    let fetched = match client.foreign_layer(&foreign).await {
        Ok(blob) => blob,
        Err(error) => panic!("{error}"),
    };
    elsewhere.verify();
    assert!(elsewhere.requests().iter().all(|seen| seen.authorization().is_none()));
    assert_eq!(fetched.descriptor, foreign);
    let pushed =
        client.push_blob(&repository(), &fetched, Presence::Unknown, &[], &CancellationToken::new()).await;
    assert_eq!(pushed.expect("pushed"), Outcome::Sent);
    let key = ("team/app".to_owned(), foreign.digest.to_string());
    assert_eq!(server.registry(|registry| registry.blobs[&key].clone()), "foreign");
}

/// The same by a push that was asked to: the layer is at the registry, and the manifest is what it was.
#[tokio::test]
async fn case_57e_a_push_that_includes_foreign_layers() {
    let elsewhere =
        Server::script(vec![on("GET", "/layer", Fault::Reply(Reply::status(200).body("foreign")))]).await;
    let (source, foreign) = foreign_image(&[format!("http://{}/layer", elsewhere.address())]);
    let server = start().await;
    let (client, recorder) = with_options(&server, &[], |_| {});
    let options = PushOptions { include_foreign: true, ..PushOptions::default() };
    let tags = ["1".parse().expect("a tag")];
    let (root, cancel) = (source.root().clone(), CancellationToken::new());
    let pushed =
        push(&client, &repository(), &tags, Box::new(source), &options, &cancel).await.expect("pushed");
    elsewhere.verify();
    assert!(is_tagged(&server, &root));
    assert_eq!(pushed.blobs_sent, 3);
    let key = ("team/app".to_owned(), foreign.digest.to_string());
    assert_eq!(server.registry(|registry| registry.blobs[&key].clone()), "foreign");
    let skipped = |event: &Event| matches!(event, Event::BlobFinished { outcome: Outcome::Skipped, .. });
    assert!(!recorder.events().iter().any(skipped));
    // Where it is not to be had, there is no image.
    let (source, _) = foreign_image(&[]);
    let server = start().await;
    let client = crate::client(&server);
    push(&client, &repository(), &tags, Box::new(source), &options, &cancel).await.expect_err("nowhere");
    assert!(server.registry(|registry| registry.tags.is_empty()));
}

/// The addresses of a foreign layer lead nowhere that a redirect would not: other schemes, the inner network.
#[tokio::test]
async fn case_57d_foreign_layers_lead_nowhere_else() {
    let inner = Server::script(vec![]).await;
    // A registry with a name is not in the inner network.
    let (client, _) = client_of(
        "registry.invalid",
        Scheme::Https,
        idp_oci::client::standard::Credential::Anonymous,
        HttpOptions { ..options() },
        RetryPolicy::immediate(4),
    );
    let loopback = inner.address();
    for url in [
        format!("https://{loopback}/x"),
        format!("http://{loopback}/x"),
        "https://169.254.169.254/latest".to_owned(),
        "https://10.0.0.1/x".to_owned(),
        "https://[::1]/x".to_owned(),
        "file:///etc/passwd".to_owned(),
        "ftp://layers.example/x".to_owned(),
    ] {
        let (_, foreign) = foreign_image(std::slice::from_ref(&url));
        let error = client.foreign_layer(&foreign).await.expect_err(&url);
        assert_eq!(error.kind(), Kind::Other, "{url}: {error}");
    }
    assert_eq!(inner.requests().len(), 0);
    let error = client.foreign_layer(&Descriptor::of(FOREIGN, b"x")).await.expect_err("nowhere");
    assert!(error.to_string().contains("does not say where"), "{error}");
}

/// Unknown media types, extra fields, the order of keys, white space: the bytes go through as they are, in both directions.
#[tokio::test]
async fn case_58_bytes_are_never_written_anew() {
    let config = Blob::from_bytes("application/x-config", Bytes::from_static(b"{}"));
    let payload = Blob::from_bytes("application/x-unheard-of; v=\"2\"", Bytes::from_static(b"payload"));
    let text = format!(
        "\n{{ \"zzz\":[1.0, 1e3,\"\\u00e9\"],\t\"layers\":[{{\"size\":7,\"x-more\":{{\"b\":1,\"a\":null}},\
         \"digest\":\"{}\",\"mediaType\":\"application/x-unheard-of; v=\\\"2\\\"\"}}],\
         \"artifactType\":\"application/x-thing\",\"config\":{{\"digest\":\"{}\",\"mediaType\":\"application/x-config\",\
         \"size\":2,\"data\":\"e30=\"}},\"mediaType\":\"{}\",\"schemaVersion\":2,\"annotations\":{{}} }} \n\n",
        payload.descriptor.digest,
        config.descriptor.digest,
        media::OCI_MANIFEST,
    );
    let manifest = Manifest::parse(Bytes::from(text.clone()), None).expect("a manifest");
    assert_eq!(manifest.digest().as_str(), digest_of(text.as_bytes()));
    let root = format!(
        "{{\"manifests\" : [{{\"unknown\":true,\"size\":{},\"mediaType\":\"{}\",\"digest\":\"{}\"}}],\"schemaVersion\":2}}",
        text.len(),
        media::OCI_MANIFEST,
        manifest.digest(),
    );
    let index = Manifest::parse(Bytes::from(root.clone()), Some(media::OCI_INDEX)).expect("an index");
    let source = Memory { blobs: vec![config, payload], manifests: vec![manifest.clone(), index.clone()] };
    let server = start().await;
    push_all(&client(&server), source).await.expect("pushed");
    assert!(is_tagged(&server, &index));
    for (digest, bytes) in [(manifest.digest(), &text), (index.digest(), &root)] {
        let key = ("team/app".to_owned(), digest.to_string());
        let (_, stored) = server.registry(|registry| registry.manifests[&key].clone());
        assert_eq!(stored, bytes.as_bytes());
    }
    let (pulled, store) = pull_all(&client(&server)).await;
    assert_eq!(&pulled.expect("pulled").digest, index.digest());
    let taken = store.taken();
    let bytes: Vec<&[u8]> = taken.manifests.iter().map(|manifest| &manifest.bytes()[..]).collect();
    assert_eq!(bytes, [text.as_bytes(), root.as_bytes()]);
    assert_eq!(taken.blobs.len(), 2);
}

/// `null` where a list belongs, as Go writes it, is an empty list.
#[tokio::test]
async fn case_58b_null_is_an_empty_list() {
    let config = entry(&Descriptor::of(media::OCI_CONFIG, b"{}"));
    let image = json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": null, "manifests": null});
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": null, "layers": null});
    for document in [image, index] {
        let manifest = parse(&document);
        let server = start().await;
        server.registry(|registry| registry.add_blob("team/app", "{}"));
        serve(&server, &manifest.descriptor().media_type, manifest.bytes().clone());
        let (pulled, _) = pull_all(&client(&server)).await;
        assert_eq!(&pulled.expect("pulled").digest, manifest.digest());
    }
}

pub(crate) fn sha512(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(bytes);
    hasher.finish()
}

/// Blobs and children of an index that are named by sha512 are pushed and pulled under these names.
#[tokio::test]
async fn case_59a_sha512_is_moved() {
    let content = Bytes::from_static(b"named by sha512");
    let long = Descriptor::new(media::OCI_LAYER, sha512(&content), content.len() as u64);
    let child = image_of(&[&long]);
    let by_512 = Descriptor::new(media::OCI_MANIFEST, sha512(child.bytes()), child.bytes().len() as u64);
    let root = index_of(&[&by_512]);

    // A layout, as another tool wrote it.
    let dir = tempfile::tempdir().expect("a directory");
    let layout = dir.path().join("in");
    for (digest, bytes) in [
        (&long.digest, &content[..]),
        (&by_512.digest, child.bytes()),
        (&Digest::of(b"{}"), b"{}"),
        (root.digest(), root.bytes()),
    ] {
        let path = layout.join(format!("blobs/{}", digest.as_str().replace(':', "/")));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    let listed = json!({"schemaVersion": 2, "manifests": [entry(root.descriptor())]});
    std::fs::write(layout.join("index.json"), listed.to_string()).expect("written");

    let server = start().await;
    let client = client(&server);
    let source = idp_oci::source::open("oci:in", dir.path()).expect("a source");
    crate::support_b::push_source(&client, source).await.expect("pushed");
    assert!(is_tagged(&server, &root));
    server.registry(|registry| {
        let key = |digest: &Digest| ("team/app".to_owned(), digest.to_string());
        assert!(registry.blobs.contains_key(&key(&long.digest)));
        assert!(registry.manifests.contains_key(&key(&by_512.digest)));
    });

    let (pulled, _) = pull_to_archive(&client, tag(), dir.path()).await;
    assert_eq!(&pulled.expect("pulled").digest, root.digest());
    let back = idp_oci::source::open("oci-archive:out.tar", dir.path()).expect("a source");
    let second = Server::start(Registry::default()).await;
    crate::support_b::push_source(&crate::client(&second), back).await.expect("pushed again");
    assert!(is_tagged(&second, &root));

    // By its sha512, the child is what was asked for; other bytes are not.
    let target = Target::Digest(by_512.digest.clone());
    let got = client.manifest(&repository(), &target, None).await.expect("read");
    assert_eq!((got.digest(), got.bytes()), (&by_512.digest, child.bytes()));
    server.rule(on("GET", "/manifests/sha512:", Fault::Corrupt).always());
    assert!(client.manifest(&repository(), &target, None).await.is_err());
}

async fn pull_to_archive(
    client: &Client,
    target: Target,
    base: &std::path::Path,
) -> (Result<idp_oci::pipeline::Pulled, PipelineError>, ()) {
    let sink = idp_oci::sink::open("oci-archive:out.tar", base).expect("a sink");
    let cancel = CancellationToken::new();
    (pull(client, &repository(), &target, sink, &PullOptions::default(), &cancel).await, ())
}

/// A layout takes what is named by sha512.
#[tokio::test]
async fn case_59b_a_layout_takes_sha512() {
    let child = image_of(&[]);
    let by_512 = Descriptor::new(media::OCI_MANIFEST, sha512(child.bytes()), child.bytes().len() as u64);
    let root = index_of(&[&by_512]);
    let server = start().await;
    serve(&server, media::OCI_INDEX, root.bytes().clone());
    server.registry(|registry| {
        registry.add_blob("team/app", "{}");
        let key = ("team/app".to_owned(), by_512.digest.to_string());
        registry.manifests.insert(key, (media::OCI_MANIFEST.to_owned(), child.bytes().clone()));
    });
    let dir = tempfile::tempdir().expect("a directory");
    let sink = idp_oci::sink::open("oci:out", dir.path()).expect("a sink");
    crate::support_b::pull_to(&client(&server), sink).await.expect("pulled");
    let path = format!("out/blobs/{}", by_512.digest.as_str().replace(':', "/"));
    assert!(std::fs::read(dir.path().join(path)).expect("there") == *child.bytes());
}

/// What cannot be verified is refused before anything is asked for.
#[tokio::test]
async fn case_59c_other_algorithms_are_refused_before_the_network() {
    for digest in [
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        "sha256:e3b0",
        "sha256:../../../../../../../../../../../../../../../../../../../etc/passwd",
    ] {
        assert!(Reference::parse(&format!("r.example/team/app@{digest}"), None).is_err(), "{digest}");
        // Named by a manifest: the manifest is all that is asked for.
        let bad = json!({"mediaType": media::OCI_LAYER, "digest": digest, "size": 1});
        let config = entry(&Descriptor::of(media::OCI_CONFIG, b"{}"));
        for document in [
            json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": [bad]}),
            json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": bad, "layers": []}),
            json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [bad]}),
        ] {
            let server = start().await;
            let media_type = document["mediaType"].as_str().expect("a type").to_owned();
            serve(&server, &media_type, document.to_string());
            let (pulled, _) = pull_all(&client(&server)).await;
            let told = pulled.expect_err(digest).to_string();
            assert!(told.contains("cannot be verified") || told.contains("is not valid"), "{told}");
            assert_eq!(server.requests().len(), 1, "{:#?}", server.log());
        }
    }
}
