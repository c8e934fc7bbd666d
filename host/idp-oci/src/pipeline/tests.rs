//! Push and pull over the fault server, with a source and a sink in memory: cases 43 to 51, 57 to 60, 65, and exact counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use idp_test_support::faults::{Auth, Fault, Registry, Reply, Server, on};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{PipelineError, PullOptions, Pulled, PushOptions, Pushed, pull, push};
use crate::blob::{Blob, Chunks};
use crate::client::dialect::{
    Answer, AuthRequest, Dialect, DialectError, EnsureState, Ensured, Explanation, Grant,
};
use crate::client::http::{Http, HttpOptions};
use crate::client::learned::Trait;
use crate::client::retry::RetryPolicy;
use crate::client::standard::{Credential, Standard};
use crate::client::{Client, ClientOptions, Event, Kind, Outcome, Progress, Scheme, base_url};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::media;
use crate::name::{Repository, Tag, Target};
use crate::secret::Secret;
use crate::sink::{Plan, Sink, SinkError};
use crate::source::{Image, Offer, Selection, Source, SourceError};

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Progress for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Content in memory.
#[derive(Debug, Clone, Default)]
struct Memory {
    blobs: Vec<Blob>,
    manifests: Vec<Manifest>,
    /// Fails after the blobs.
    broken: bool,
    /// Says its manifests first.
    announced: bool,
}

#[async_trait]
impl Source for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    async fn read(self: Box<Self>, _: &Selection, offers: mpsc::Sender<Offer>) -> Result<Image, SourceError> {
        if self.announced {
            let manifests = Offer::Manifests(self.manifests.clone());
            offers.send(manifests).await.map_err(|_| SourceError::Closed)?;
        }
        for blob in self.blobs {
            offers.send(blob.into()).await.map_err(|_| SourceError::Closed)?;
        }
        if self.broken {
            return Err(SourceError::Invalid("broken on command".to_owned()));
        }
        Ok(Image { manifests: self.manifests, name: None })
    }
}

fn blob(text: impl Into<Bytes>) -> Blob {
    Blob::from_bytes(media::OCI_LAYER, text.into())
}

fn describe(blob: &Descriptor) -> serde_json::Value {
    serde_json::json!({"mediaType": blob.media_type, "digest": blob.digest.as_str(), "size": blob.size})
}

fn parse(document: &serde_json::Value) -> Manifest {
    Manifest::parse(Bytes::from(document.to_string()), None).expect("a manifest")
}

pub(super) fn image_of(config: &Descriptor, layers: &[Descriptor]) -> Manifest {
    parse(&serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": describe(config),
        "layers": layers.iter().map(describe).collect::<Vec<_>>(),
    }))
}

fn index_of(children: &[(&Manifest, Option<&str>)]) -> Manifest {
    let children: Vec<_> = children
        .iter()
        .map(|(child, architecture)| {
            let mut entry = describe(child.descriptor());
            if let Some(architecture) = architecture {
                entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
            }
            entry
        })
        .collect();
    parse(&serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children}))
}

/// Config `{}` and these layers.
fn image(layers: &[&'static str]) -> Memory {
    let layers: Vec<Blob> = layers.iter().map(|layer| blob(*layer)).collect();
    let config = Blob::from_bytes(media::OCI_CONFIG, Bytes::from_static(b"{}"));
    let described: Vec<Descriptor> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    let manifests = vec![image_of(&config.descriptor, &described)];
    Memory { blobs: [vec![config], layers].concat(), manifests, ..Memory::default() }
}

/// An index of two platforms.
fn index() -> Memory {
    let (one, two) = (image(&["amd64 layer", "shared"]), image(&["arm64 layer", "shared"]));
    let root = index_of(&[(&one.manifests[0], Some("amd64")), (&two.manifests[0], Some("arm64"))]);
    Memory {
        blobs: [one.blobs, two.blobs].concat(),
        manifests: [one.manifests, two.manifests, vec![root]].concat(),
        ..Memory::default()
    }
}

pub(super) fn repository() -> Repository {
    "team/app".parse().expect("a repository")
}

pub(super) fn tags(tags: &[&str]) -> Vec<Tag> {
    tags.iter().map(|tag| tag.parse().expect("a tag")).collect()
}

fn client_of(
    server: &Server,
    dialect: impl FnOnce(url::Url, Http) -> Arc<dyn Dialect>,
) -> (Client, Arc<Recorder>) {
    let registry = server.address().parse().expect("a registry");
    let http = Http::new(HttpOptions { proxy_from_env: false, ..HttpOptions::default() });
    let recorder = Arc::new(Recorder::default());
    let options = ClientOptions {
        retry: RetryPolicy::immediate(3),
        operation: "push".to_owned(),
        progress: Arc::clone(&recorder) as Arc<dyn Progress>,
        ..ClientOptions::default()
    };
    let dialect = dialect(base_url(&registry, Scheme::Http).expect("a URL"), http.clone());
    (Client::new(registry, Scheme::Http, http, dialect, options).expect("a client"), recorder)
}

pub(super) fn client(server: &Server) -> Client {
    let credential = Credential::Basic { username: "user".to_owned(), password: Secret::new("right") };
    client_of(server, |base, http| Arc::new(Standard::new(base, credential, http))).0
}

async fn send(client: &Client, source: Memory, names: &[&str]) -> Result<Pushed, PipelineError> {
    let cancel = CancellationToken::new();
    push(client, &repository(), &tags(names), Box::new(source), &PushOptions::default(), &cancel).await
}

fn no_sessions(server: &Server) -> bool {
    server.registry(|registry| registry.sessions.is_empty())
}

/// C1, C2 of performance.md.
#[tokio::test]
async fn as_few_requests_as_can_be() {
    let server = Server::start(Registry::default()).await;
    let first = client(&server);
    let pushed = send(&first, image(&["layer"]), &["1"]).await.expect("pushed");
    assert_eq!(methods(&server, 0), "PUT 201, PUT 201, POST 202, POST 202, PUT 201", "sorted but the last");
    assert_eq!((pushed.blobs_sent, pushed.bytes_sent, pushed.manifests), (2, 7, 1));
    assert_eq!(&pushed.digest, image(&["layer"]).manifests[0].digest());
    let again = send(&first, image(&["layer"]), &["1", "2"]).await.expect("pushed");
    assert_eq!((again.blobs_existing, again.blobs_sent), (2, 0));
    assert_eq!(server.requests().len(), 5 + 2 + 2);
    let last = server.requests().last().map(|seen| seen.target.clone());
    assert_eq!(last.as_deref(), Some("/v2/team/app/manifests/2"));
    // Where a POST takes the bytes.
    let server = Server::start(Registry { single_post: true, ..Registry::default() }).await;
    send(&client(&server), image(&["layer"]), &["1"]).await.expect("pushed");
    assert_eq!(methods(&server, 0), "POST 201, POST 201, PUT 201");
}

/// Methods and statuses from a request on; all but the last one sorted, since they went at once.
fn methods(server: &Server, from: usize) -> String {
    let mut seen: Vec<String> =
        server.requests()[from..].iter().map(|seen| format!("{} {}", seen.method, seen.status)).collect();
    let last = seen.pop();
    seen.sort_by_key(|line| std::cmp::Reverse(line.clone()));
    seen.extend(last);
    seen.join(", ")
}

/// Announces its manifests, as layouts do.
#[derive(Debug)]
struct Announced(Memory);

#[async_trait]
impl Source for Announced {
    fn describe(&self) -> String {
        self.0.describe()
    }

    async fn read(
        self: Box<Self>,
        selection: &Selection,
        offers: mpsc::Sender<Offer>,
    ) -> Result<Image, SourceError> {
        let manifests = Offer::Manifests(self.0.manifests.clone());
        offers.send(manifests).await.map_err(|_| SourceError::Closed)?;
        Box::new(self.0).read(selection, offers).await
    }
}

async fn announce(client: &Client, source: Memory, names: &[&str]) -> Result<Pushed, PipelineError> {
    let cancel = CancellationToken::new();
    let options = PushOptions::default();
    push(client, &repository(), &tags(names), Box::new(Announced(source)), &options, &cancel).await
}

fn sixty() -> Memory {
    let layers: Vec<Blob> = (0..60).map(|number| blob(format!("layer {number}").repeat(9000))).collect();
    let config = Blob::from_bytes(media::OCI_CONFIG, Bytes::from_static(b"{}"));
    let described: Vec<Descriptor> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    let manifests = vec![image_of(&config.descriptor, &described)];
    Memory { blobs: [vec![config], layers].concat(), manifests, ..Memory::default() }
}

/// Manifest first: nothing is asked for one by one; what is all there costs two requests, and one where it is known from before (C2).
#[tokio::test]
async fn a_manifest_asks_for_all_of_its_blobs() {
    let server = Server::start(Registry::default()).await;
    let client = client(&server);
    let pushed = announce(&client, sixty(), &["1"]).await.expect("pushed");
    assert_eq!(pushed.blobs_sent, 61);
    assert_eq!(client.learned().holds(Trait::ValidatesManifests), Some(true));
    // To find out whether the registry checks, it is asked once whether the manifest was there before.
    assert_eq!(server.count("HEAD", ""), 1);
    assert_eq!(server.requests().len(), 2 + 61 * 2 + 1, "{:#?}", server.log());
    let before = server.requests().len();
    let again = announce(&client, sixty(), &["2"]).await.expect("pushed");
    assert_eq!((again.blobs_existing, again.blobs_sent), (61, 0));
    assert_eq!(methods(&server, before), "HEAD 200, PUT 201");
    let (before, stranger) = (server.requests().len(), self::client(&server));
    stranger.learned().learn(Trait::ValidatesManifests, true);
    let again = announce(&stranger, sixty(), &["2"]).await.expect("pushed");
    assert_eq!((again.blobs_existing, again.blobs_sent), (61, 0));
    assert_eq!(methods(&server, before), "PUT 201, HEAD 200, PUT 201");
    // What was seen may have been collected as garbage meanwhile.
    server.registry(|registry| registry.blobs.clear());
    let again = announce(&client, sixty(), &["3"]).await.expect("pushed");
    assert_eq!((again.blobs_sent, server.registry(|registry| registry.blobs.len())), (61, 61));
    // One layer of many is new.
    let mut changed = sixty();
    changed.blobs[7] = blob("changed");
    let layers: Vec<Descriptor> = changed.blobs[1..].iter().map(|blob| blob.descriptor.clone()).collect();
    changed.manifests = vec![image_of(&changed.blobs[0].descriptor, &layers)];
    let before = server.requests().len();
    announce(&client, changed, &["4"]).await.expect("pushed");
    assert_eq!(methods(&server, before), "PUT 404, PUT 201, POST 202, PUT 201");
}

/// Children of an index are written once: what was asked with is there already.
#[tokio::test]
async fn children_of_an_index_are_not_written_twice() {
    let server = Server::start(Registry::default()).await;
    let client = client(&server);
    let many = |name: &'static str| {
        let layers: Vec<Blob> = (0..4).map(|number| blob(format!("{name} {number}"))).collect();
        let config = Blob::from_bytes(media::OCI_CONFIG, Bytes::from_static(b"{}"));
        let described: Vec<Descriptor> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let manifests = vec![image_of(&config.descriptor, &described)];
        Memory { blobs: [vec![config], layers].concat(), manifests, ..Memory::default() }
    };
    let (one, two) = (many("one"), many("two"));
    let root = index_of(&[(&one.manifests[0], Some("amd64")), (&two.manifests[0], Some("arm64"))]);
    let source = Memory {
        blobs: [one.blobs, two.blobs].concat(),
        manifests: [one.manifests, two.manifests, vec![root]].concat(),
        ..Memory::default()
    };
    announce(&client, source.clone(), &["1"]).await.expect("pushed");
    let before = server.requests().len();
    let again = announce(&client, source, &["2"]).await.expect("pushed");
    assert_eq!((again.manifests, again.blobs_existing), (3, 9));
    assert_eq!(methods(&server, before), "PUT 201, PUT 201, HEAD 200, PUT 201");
}

/// A registry that takes manifests without their blobs is learned to be one: the image is completed, and it is not tried again.
#[tokio::test]
async fn a_registry_that_checks_nothing() {
    let server = Server::start(Registry { sparse: true, ..Registry::default() }).await;
    let client = client(&server);
    let pushed = announce(&client, sixty(), &["1"]).await.expect("pushed");
    assert_eq!(pushed.blobs_sent, 61);
    assert_eq!(client.learned().holds(Trait::ValidatesManifests), Some(false));
    assert_eq!(server.registry(|registry| registry.blobs.len()), 61);
    assert_eq!(server.count("PUT", "/manifests/sha256:"), 1);
    announce(&client, sixty(), &["2"]).await.expect("pushed");
    assert_eq!(server.count("PUT", "/manifests/sha256:"), 1);
    // When the push fails, the incomplete manifest goes.
    let server = Server::start(Registry { sparse: true, ..Registry::default() }).await;
    server.rule(on("POST", "/uploads/", Fault::Reply(Reply::status(403))).always());
    let fresh = self::client(&server);
    announce(&fresh, sixty(), &["1"]).await.expect_err("denied");
    assert_eq!(server.count("DELETE", "/manifests/sha256:"), 1, "{:#?}", server.log());
    assert!(server.registry(|registry| registry.manifests.is_empty()));
    // One that was there before is not ours to take away.
    let server = Server::start(Registry { sparse: true, ..Registry::default() }).await;
    announce(&self::client(&server), sixty(), &["1"]).await.expect("pushed");
    server.registry(|registry| registry.blobs.clear());
    server.rule(on("POST", "/uploads/", Fault::Reply(Reply::status(403))).always());
    announce(&self::client(&server), sixty(), &["2"]).await.expect_err("denied");
    assert_eq!(server.count("DELETE", ""), 0, "{:#?}", server.log());
}

/// A registry that checked manifests when it was last seen, and checks no more: what it takes is not believed without a look.
#[tokio::test]
async fn a_registry_that_checks_no_more() {
    for seen in [true, false] {
        let server = Server::start(Registry::default()).await;
        let (client, stranger) = (client(&server), client(&server));
        announce(&client, sixty(), &["1"]).await.expect("pushed");
        stranger.learned().learn(Trait::ValidatesManifests, true);
        server.registry(|registry| {
            registry.sparse = true;
            registry.blobs.clear();
        });
        let pushing = if seen { &client } else { &stranger };
        announce(pushing, sixty(), &["2"]).await.expect("pushed");
        assert_eq!(server.registry(|registry| registry.blobs.len()), 61, "{seen}: {:#?}", server.log());
        assert_eq!(pushing.learned().holds(Trait::ValidatesManifests), Some(false));
    }
}

/// A registry that names one missing blob at a time costs a few requests, not a failure.
#[tokio::test]
async fn a_registry_that_tells_one_at_a_time() {
    let server = Server::start(Registry { names_one: true, ..Registry::default() }).await;
    let client = client(&server);
    announce(&client, sixty(), &["1"]).await.expect("pushed");
    assert_eq!(server.registry(|registry| registry.blobs.len()), 61);
    assert_eq!(client.learned().holds(Trait::ValidatesManifests), Some(false));
}

/// Case 49: empty blobs, layers that stand twice, a config with the bytes of a layer.
#[tokio::test]
async fn the_same_bytes_go_once() {
    let server = Server::start(Registry::default()).await;
    let pushed = send(&client(&server), image(&["", "twice", "twice", "{}"]), &["1"]).await.expect("pushed");
    assert_eq!((pushed.blobs_sent, server.count("PUT", "/blobs/")), (3, 3));
}

/// Children first, tags last.
#[tokio::test]
async fn manifests_follow_blobs_and_the_tag_is_last() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    let source = index();
    let root = source.manifests[2].digest().clone();
    let pushed = send(&client(&server), source, &["1"]).await.expect("pushed");
    assert_eq!((pushed.digest, pushed.manifests, pushed.blobs_sent), (root.clone(), 3, 4));
    let written: Vec<String> = server
        .requests()
        .iter()
        .filter(|seen| seen.target.contains("/manifests/"))
        .map(|seen| seen.target.clone())
        .collect();
    assert_eq!(written.len(), 3);
    assert!(written[0].contains("sha256:") && written[1].contains("sha256:") && written[2].ends_with("/1"));
    let server = Server::start(Registry::default()).await;
    send(&client(&server), image(&[]), &[]).await.expect("pushed by digest");
    assert!(server.requests().last().is_some_and(|seen| seen.target.contains("manifests/sha256:")));
}

/// Case 57: foreign layers stay where they are.
#[tokio::test]
async fn foreign_layers_are_skipped() {
    let server = Server::start(Registry::default()).await;
    let foreign = Descriptor::of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"foreign");
    let mut source = image(&["layer"]);
    let layers = [source.blobs[1].descriptor.clone(), foreign.clone()];
    source.manifests = vec![image_of(&source.blobs[0].descriptor, &layers)];
    let (client, recorder) =
        client_of(&server, |base, http| Arc::new(Standard::new(base, Credential::Anonymous, http)));
    send(&client, source, &["1"]).await.expect("pushed");
    let (pulled, taken) = fetch(&client, "1", &PullOptions::default()).await;
    assert_eq!(pulled.expect("pulled").blobs_received, 2);
    assert!(!taken.blobs().contains_key(&foreign.digest));
    let events = recorder.0.lock().unwrap_or_else(PoisonError::into_inner);
    let skipped = |event: &&Event| matches!(event, Event::BlobFinished { outcome: Outcome::Skipped, .. });
    assert_eq!(events.iter().filter(skipped).count(), 1);
}

/// Case 51: exactly what the registry lacks is sent, once.
#[tokio::test]
async fn what_the_registry_lacks_is_sent_again() {
    let server = Server::start(Registry::default()).await;
    // It says that it has the layer, and does not.
    let layer = blob("layer").descriptor.digest.to_string();
    server.rule(on("POST", &layer, Fault::Reply(Reply::status(201))));
    let pushed = send(&client(&server), image(&["layer"]), &["1"]).await.expect("pushed");
    assert_eq!((server.count("PUT", "/manifests/"), server.count("PUT", "/blobs/")), (2, 2));
    assert_eq!((pushed.blobs_sent, pushed.blobs_existing), (3, 0));
    // A registry that says so for ever is not asked for ever.
    let lacking = Reply::error(404, "MANIFEST_BLOB_UNKNOWN", &serde_json::json!(layer));
    server.rule(on("PUT", "/manifests/", Fault::Reply(lacking)).always());
    assert!(send(&client(&server), image(&["layer"]), &["1"]).await.is_err());
    assert_eq!(server.count("PUT", "/manifests/"), 4);
}

/// Case 51 at a registry that does not say what it lacks (Gitea): blobs that were there when this machine last looked, and are not any
/// more because their tag has moved on, are asked for one by one.
#[tokio::test]
async fn what_a_registry_lacks_without_saying_what_is_looked_for() {
    let server = Server::start(Registry::default()).await;
    let client = client(&server);
    client.learned().learn(Trait::ValidatesManifests, true);
    let source = || Memory { announced: true, ..image(&["one", "two", "three"]) };
    send(&client, source(), &["1"]).await.expect("pushed");
    server.registry(|registry| registry.blobs.clear());
    let untold = Reply::error(404, "BLOB_UNKNOWN", &serde_json::Value::Null);
    server.rule(on("PUT", "/manifests/1", Fault::Reply(untold)));
    send(&client, source(), &["1"]).await.expect("pushed again");
    assert_eq!(server.registry(|registry| registry.blobs.len()), 4, "{:#?}", server.log());
}

/// An error ends the push: sessions are deleted, and no manifest is written.
#[tokio::test]
async fn failed_pushes_leave_nothing() {
    for fault in [
        on("PUT", "/blobs/", Fault::Reply(Reply::status(403))),
        on("PUT", "/blobs/", Fault::Drop).always(),
        on("POST", "/blobs/", Fault::Reply(Reply::status(403))),
    ] {
        let server = Server::start(Registry::default()).await;
        server.rule(fault);
        let error =
            send(&client(&server), image(&["one", "two", "three"]), &["1"]).await.expect_err("it fails");
        assert!(matches!(error.kind(), Kind::Auth | Kind::Transient), "{error}");
        assert!(no_sessions(&server), "{:#?}", server.log());
        assert_eq!(server.count("PUT", "/manifests/"), 0);
    }
    let server = Server::start(Registry::default()).await;
    let broken = Memory { broken: true, ..image(&["one"]) };
    let error = send(&client(&server), broken, &["1"]).await.expect_err("it fails");
    assert_eq!(error.to_string(), "memory: broken on command");
    assert_eq!((no_sessions(&server), server.count("PUT", "/manifests/")), (true, 0));
}

/// Case 48.
#[tokio::test]
async fn a_cancelled_push_leaves_nothing() {
    let server = Server::start(Registry::default()).await;
    server.rule(on("PUT", "/blobs/", Fault::Hang).always());
    let (client, cancel) = (client(&server), CancellationToken::new());
    let task = tokio::spawn({
        let cancel = cancel.clone();
        let source = Box::new(image(&["one", "two"]));
        async move { push(&client, &repository(), &tags(&["1"]), source, &PushOptions::default(), &cancel).await }
    });
    while server.count("PUT", "") < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel();
    let error = task.await.expect("it ends").expect_err("cancelled");
    assert_eq!(error.kind(), Kind::Interrupted);
    assert!(no_sessions(&server), "{:#?}", server.log());
    assert_eq!((server.count("DELETE", ""), server.count("PUT", "/manifests/")), (3, 0));
}

/// Case 31: many workers, one attempt with the wrong password.
#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let server = Server::start(Registry::with_auth(Auth::Basic)).await;
    let credential = Credential::Basic { username: "user".to_owned(), password: Secret::new("wrong") };
    let (client, _) = client_of(&server, |base, http| Arc::new(Standard::new(base, credential, http)));
    let error = send(&client, image(&["one", "two", "three", "four"]), &["1"]).await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Auth);
    assert_eq!(server.requests().iter().filter(|seen| seen.authorization().is_some()).count(), 1);
}

/// Makes a project when it is told that there is none.
#[derive(Debug, Default)]
struct Projects(Mutex<Vec<Option<String>>>);

#[async_trait]
impl Dialect for Projects {
    fn name(&self) -> String {
        "projects".to_owned()
    }

    async fn authorize(&self, _: &AuthRequest) -> Result<Grant, DialectError> {
        unreachable!("the registry is open")
    }

    async fn explain(&self, answer: &Answer, _: &str) -> Option<Explanation> {
        let missing = answer.status == 404 && answer.body.contains("NAME_UNKNOWN");
        missing.then(|| Explanation {
            class: "missing-parent".to_owned(),
            title: "the project does not exist".to_owned(),
            fixes: vec!["make it".to_owned()],
            ..Explanation::default()
        })
    }

    async fn ensure(&self, _: &Repository, after: Option<&str>) -> Result<Option<Ensured>, DialectError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(after.map(str::to_owned));
        Ok(after.map(|_| Ensured::new(EnsureState::Created)))
    }
}

/// The provider makes what is missing, once, and the push goes on.
#[tokio::test]
async fn a_missing_project_is_made() {
    let server = Server::start(Registry::default()).await;
    let missing = Reply::error(404, "NAME_UNKNOWN", &serde_json::Value::Null);
    server.rule(on("POST", "/blobs/", Fault::Reply(missing.clone())).times(2));
    let dialect = Arc::new(Projects::default());
    let (client, _) = client_of(&server, |_, _| Arc::clone(&dialect) as Arc<dyn Dialect>);
    send(&client, image(&["layer"]), &["1"]).await.expect("pushed");
    let asked = dialect.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(asked, [None, Some("missing-parent".to_owned())]);
    server.rule(on("POST", "/blobs/", Fault::Reply(missing)).always());
    let error = send(&client, image(&["other"]), &["1"]).await.expect_err("it does not help");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error.to_string().contains("the project does not exist") && error.to_string().contains("make it")
    );
}

#[derive(Debug, Default)]
struct Taken {
    plan: Option<Plan>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    order: Vec<Digest>,
    finished: bool,
    aborted: bool,
}

/// Takes content into memory.
#[derive(Debug, Clone)]
struct Store {
    taken: Arc<Mutex<Taken>>,
    concurrency: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self { taken: Arc::default(), concurrency: 8 }
    }
}

impl Store {
    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blobs(&self) -> BTreeMap<Digest, Vec<u8>> {
        self.taken().blobs.clone()
    }
}

#[async_trait]
impl Sink for Store {
    fn describe(&self) -> String {
        "store".to_owned()
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    async fn begin(&mut self, plan: &Plan) -> Result<(), SinkError> {
        self.taken().plan = Some(plan.clone());
        Ok(())
    }

    async fn has(&self, descriptor: &Descriptor) -> bool {
        self.taken().blobs.contains_key(&descriptor.digest)
    }

    fn takes_again(&self) -> bool {
        true
    }

    async fn blob(&self, descriptor: &Descriptor, chunks: Chunks) -> Result<(), SinkError> {
        let all = chunks.try_fold(Vec::new(), async |mut all, chunk| {
            all.extend_from_slice(&chunk);
            Ok(all)
        });
        let all = all.await.map_err(|error| SinkError::Io { what: "a blob".to_owned(), error })?;
        if Digest::of(&all) != descriptor.digest {
            return Err(SinkError::Corrupt("the bytes are others".to_owned()));
        }
        let mut taken = self.taken();
        taken.order.push(descriptor.digest.clone());
        taken.blobs.insert(descriptor.digest.clone(), all);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), SinkError> {
        self.taken().finished = true;
        Ok(())
    }

    async fn abort(self: Box<Self>) {
        self.taken().aborted = true;
    }
}

async fn fetch(client: &Client, tag: &str, options: &PullOptions) -> (Result<Pulled, PipelineError>, Store) {
    let store = Store::default();
    let target = Target::Tag(tag.parse().expect("a tag"));
    let cancel = CancellationToken::new();
    let pulled = pull(client, &repository(), &target, Box::new(store.clone()), options, &cancel).await;
    (pulled, store)
}

#[tokio::test]
async fn pulled_as_it_was_pushed() {
    let server = Server::start(Registry::with_auth(Auth::Bearer)).await;
    let source = index();
    send(&client(&server), source.clone(), &["1"]).await.expect("pushed");
    let before = server.requests().len();
    let (pulled, store) = fetch(&client(&server), "1", &PullOptions::default()).await;
    let pulled = pulled.expect("pulled");
    assert_eq!(
        (pulled.manifests, pulled.blobs_received, &pulled.digest),
        (3, 4, source.manifests[2].digest())
    );
    // One refusal, one token, three manifests, four blobs.
    assert_eq!(server.requests().len() - before, 2 + 3 + 4, "{:#?}", server.log());
    let taken = store.taken();
    let plan = taken.plan.as_ref().expect("begun");
    let bytes: Vec<&Bytes> = plan.manifests.iter().map(Manifest::bytes).collect();
    assert_eq!(bytes, source.manifests.iter().map(Manifest::bytes).collect::<Vec<_>>());
    assert!(taken.finished && !taken.aborted);
    assert!(plan.reference.as_ref().is_some_and(|reference| reference.to_string().ends_with("team/app:1")));
}

#[tokio::test]
async fn one_platform_of_an_index() {
    let server = Server::start(Registry::default()).await;
    let source = index();
    send(&client(&server), source.clone(), &["1"]).await.expect("pushed");
    let platform = |architecture: &str| {
        serde_json::from_value(serde_json::json!({"os": "linux", "architecture": architecture})).ok()
    };
    let options = PullOptions { platform: platform("arm64"), ..PullOptions::default() };
    let (pulled, store) = fetch(&client(&server), "1", &options).await;
    assert_eq!(&pulled.expect("pulled").digest, source.manifests[1].digest());
    assert_eq!(store.blobs().len(), 3);
    let (refused, store) =
        fetch(&client(&server), "1", &PullOptions { platform: platform("s390x"), ..PullOptions::default() })
            .await;
    let error = refused.expect_err("there is none");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().ends_with("for linux/s390x; it has linux/amd64, linux/arm64"), "{error}");
    assert!(store.taken().aborted);
}

/// Sinks that take one blob at a time get them in the order of the plan.
#[tokio::test]
async fn one_at_a_time_is_in_order() {
    let server = Server::start(Registry::default()).await;
    let source = image(&["a", "b", "c", "d", "e"]);
    send(&client(&server), source.clone(), &["1"]).await.expect("pushed");
    let store = Store { concurrency: 1, ..Store::default() };
    let target = Target::Tag("1".parse().expect("a tag"));
    let (client, cancel) = (client(&server), CancellationToken::new());
    pull(&client, &repository(), &target, Box::new(store.clone()), &PullOptions::default(), &cancel)
        .await
        .expect("pulled");
    let order: Vec<Digest> = source.blobs.iter().map(|blob| blob.descriptor.digest.clone()).collect();
    assert_eq!(store.taken().order, order);
    // What the sink has is not asked for again.
    let before = server.requests().len();
    let again =
        pull(&client, &repository(), &target, Box::new(store), &PullOptions::default(), &cancel).await;
    assert_eq!((again.expect("pulled").blobs_existing, server.requests().len() - before), (6, 1));
}

/// Spoiled bytes are asked for once more; a blob that stays spoiled, or is not there, ends the pull.
#[tokio::test]
async fn spoiled_blobs() {
    let server = Server::start(Registry::default()).await;
    send(&client(&server), image(&["layer"]), &["1"]).await.expect("pushed");
    let layer = blob("layer").descriptor.digest.to_string();
    server.rule(on("GET", &layer, Fault::Corrupt));
    let (pulled, _) = fetch(&client(&server), "1", &PullOptions::default()).await;
    assert_eq!(pulled.expect("pulled").blobs_received, 2);
    server.rule(on("GET", &layer, Fault::Corrupt).times(2));
    let (refused, store) = fetch(&client(&server), "1", &PullOptions::default()).await;
    assert!(refused.expect_err("spoiled").to_string().contains("the bytes are others"));
    assert!(store.taken().aborted && !store.taken().finished);
    server.rule(on("GET", &layer, Fault::Truncate(0)).always());
    let (refused, _) = fetch(&client(&server), "1", &PullOptions::default()).await;
    assert_eq!(refused.expect_err("always broken").kind(), Kind::Transient);
}

#[tokio::test]
async fn a_cancelled_pull_gives_up() {
    let server = Server::start(Registry::default()).await;
    send(&client(&server), image(&["layer"]), &["1"]).await.expect("pushed");
    server.rule(on("GET", "/blobs/", Fault::Hang).always());
    let (store, cancel) = (Store::default(), CancellationToken::new());
    let task = tokio::spawn({
        let (client, store, cancel) = (client(&server), Box::new(store.clone()), cancel.clone());
        let target = Target::Tag("1".parse().expect("a tag"));
        async move { pull(&client, &repository(), &target, store, &PullOptions::default(), &cancel).await }
    });
    while server.count("GET", "/blobs/") < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel();
    assert_eq!(task.await.expect("it ends").expect_err("cancelled").kind(), Kind::Interrupted);
    assert!(store.taken().aborted);
}

/// Case 60: depth is bounded; what stands in many places is asked for once; a sparse index is pulled as far as it goes.
#[tokio::test]
async fn indexes_in_indexes() {
    let nested = |depth: usize| {
        let server_side = |registry: &mut Registry| {
            registry.add_blob("team/app", "{}");
            let mut manifest = image(&[]).manifests[0].clone();
            for _ in 0..depth {
                let media_type = manifest.descriptor().media_type.clone();
                registry.add_manifest("team/app", "", &media_type, manifest.bytes().clone());
                manifest = index_of(&[(&manifest, None), (&manifest, None)]);
            }
            registry.add_manifest("team/app", "1", media::OCI_INDEX, manifest.bytes().clone());
        };
        let mut registry = Registry::default();
        server_side(&mut registry);
        registry
    };
    let server = Server::start(nested(8)).await;
    let (pulled, _) = fetch(&client(&server), "1", &PullOptions::default()).await;
    assert_eq!(pulled.expect("pulled").manifests, 9);
    assert_eq!(server.requests().len(), 9 + 1);
    let server = Server::start(nested(9)).await;
    let (refused, _) = fetch(&client(&server), "1", &PullOptions::default()).await;
    assert!(refused.expect_err("too deep").to_string().contains("nested more than 8"));
    let mut registry = Registry::default();
    let (present, absent) = (image(&[]), image(&["absent"]));
    registry.add_blob("team/app", "{}");
    registry.add_manifest("team/app", "", media::OCI_MANIFEST, present.manifests[0].bytes().clone());
    let root = index_of(&[(&present.manifests[0], None), (&absent.manifests[0], None)]);
    registry.add_manifest("team/app", "1", media::OCI_INDEX, root.bytes().clone());
    let server = Server::start(registry).await;
    let (pulled, _) = fetch(&client(&server), "1", &PullOptions::default()).await;
    assert_eq!(pulled.expect("pulled").manifests, 2);
}
