//! What the tests of cases 33 to 72 share: a dialect with hints, a source and a sink in memory, manifests of any content.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use idp_oci::blob::{Blob, Chunks};
use idp_oci::client::dialect::{AuthRequest, Dialect, DialectError, Grant, Hints};
use idp_oci::client::http::Http;
use idp_oci::client::retry::RetryPolicy;
use idp_oci::client::{Client, ClientOptions, Event, Progress, Scheme};
use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Manifest};
use idp_oci::media;
use idp_oci::name::{Repository, Tag, Target};
use idp_oci::pipeline::{PipelineError, PullOptions, Pulled, PushOptions, Pushed, pull, push};
use idp_oci::sink::{Plan, Sink, SinkError};
use idp_oci::source::{Image, Offer, Selection, Source, SourceError};
use idp_test_support::faults::{Seen, Server};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Recorder, options, repository};

/// A registry that lets everybody in and has these hints.
#[derive(Debug)]
struct Hinted(Vec<(&'static str, &'static str)>);

#[async_trait]
impl Dialect for Hinted {
    fn name(&self) -> String {
        "hinted".to_owned()
    }

    async fn authorize(&self, _: &AuthRequest) -> Result<Grant, DialectError> {
        unreachable!("these registries are open")
    }

    async fn hints(&self, _: Option<&Repository>) -> Hints {
        Hints::from_pairs(self.0.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }
}

/// A client of an open registry whose provider gives these hints.
pub(crate) fn hinted(server: &Server, hints: &[(&'static str, &'static str)]) -> Client {
    with_options(server, hints, |_| {}).0
}

/// The same with other options.
pub(crate) fn with_options(
    server: &Server,
    hints: &[(&'static str, &'static str)],
    change: impl FnOnce(&mut ClientOptions),
) -> (Client, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let mut client_options = ClientOptions {
        retry: RetryPolicy::immediate(4),
        progress: Arc::clone(&recorder) as Arc<dyn Progress>,
        ..ClientOptions::default()
    };
    change(&mut client_options);
    let registry = server.address().parse().expect("a registry");
    let dialect = Arc::new(Hinted(hints.to_vec()));
    let client = Client::new(registry, Scheme::Http, Http::new(options()), dialect, client_options);
    (client.expect("a client"), recorder)
}

impl Recorder {
    /// What people were warned of.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let text = |event| if let Event::Warning { text } = event { Some(text) } else { None };
        self.events().into_iter().filter_map(text).collect()
    }
}

/// `{mediaType, digest, size}`.
pub(crate) fn entry(of: &Descriptor) -> Value {
    json!({"mediaType": of.media_type, "digest": of.digest, "size": of.size})
}

/// Parses a document that a test wrote.
pub(crate) fn parse(document: &Value) -> Manifest {
    Manifest::parse(Bytes::from(document.to_string()), None).expect("a manifest")
}

/// An image manifest with config `{}`.
pub(crate) fn image_of(layers: &[&Descriptor]) -> Manifest {
    parse(&json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": entry(&Descriptor::of(media::OCI_CONFIG, b"{}")),
        "layers": layers.iter().map(|layer| entry(layer)).collect::<Vec<_>>(),
    }))
}

/// An index of these.
pub(crate) fn index_of(children: &[&Descriptor]) -> Manifest {
    let children: Vec<Value> = children.iter().map(|child| entry(child)).collect();
    parse(&json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children}))
}

/// A layer with these bytes.
pub(crate) fn layer(content: impl Into<Bytes>) -> Blob {
    Blob::from_bytes(media::OCI_LAYER, content.into())
}

/// Content in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    pub(crate) blobs: Vec<Blob>,
    pub(crate) manifests: Vec<Manifest>,
}

impl Memory {
    /// Config `{}` and these layers.
    pub(crate) fn image(layers: impl IntoIterator<Item = Bytes>) -> Self {
        let layers: Vec<Blob> = layers.into_iter().map(layer).collect();
        let config = Blob::from_bytes(media::OCI_CONFIG, Bytes::from_static(b"{}"));
        let described: Vec<&Descriptor> = layers.iter().map(|layer| &layer.descriptor).collect();
        let manifests = vec![image_of(&described)];
        Self { blobs: [vec![config], layers].concat(), manifests }
    }

    pub(crate) fn root(&self) -> &Manifest {
        self.manifests.last().expect("never empty")
    }
}

#[async_trait]
impl Source for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    async fn read(self: Box<Self>, _: &Selection, offers: mpsc::Sender<Offer>) -> Result<Image, SourceError> {
        for blob in self.blobs {
            offers.send(blob.into()).await.map_err(|_| SourceError::Closed)?;
        }
        Ok(Image { manifests: self.manifests, name: None })
    }
}

/// Pushes under tag `1`.
pub(crate) async fn push_all(client: &Client, source: Memory) -> Result<Pushed, PipelineError> {
    push_source(client, Box::new(source)).await
}

/// The same from any source.
pub(crate) async fn push_source(client: &Client, source: Box<dyn Source>) -> Result<Pushed, PipelineError> {
    let tags: [Tag; 1] = ["1".parse().expect("a tag")];
    let cancel = CancellationToken::new();
    push(client, &repository(), &tags, source, &PushOptions::default(), &cancel).await
}

/// What a [`Store`] was given.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) finished: bool,
    pub(crate) aborted: bool,
}

/// A sink in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store(Arc<Mutex<Taken>>);

impl Store {
    pub(crate) fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink for Store {
    fn describe(&self) -> String {
        "store".to_owned()
    }

    async fn begin(&mut self, plan: &Plan) -> Result<(), SinkError> {
        self.taken().manifests.clone_from(&plan.manifests);
        Ok(())
    }

    async fn blob(&self, descriptor: &Descriptor, chunks: Chunks) -> Result<(), SinkError> {
        let all = chunks.map_ok(|chunk| chunk.to_vec()).try_concat().await;
        let all = all.map_err(|error| SinkError::Io { what: "a blob".to_owned(), error })?;
        if Digest::of(&all) != descriptor.digest {
            return Err(SinkError::Corrupt("the bytes are others".to_owned()));
        }
        self.taken().blobs.insert(descriptor.digest.clone(), all);
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

/// Pulls tag `1` into memory.
pub(crate) async fn pull_all(client: &Client) -> (Result<Pulled, PipelineError>, Store) {
    let store = Store::default();
    (pull_to(client, Box::new(store.clone())).await, store)
}

/// Pulls tag `1` to any sink.
pub(crate) async fn pull_to(client: &Client, sink: Box<dyn Sink>) -> Result<Pulled, PipelineError> {
    let target = Target::Tag("1".parse().expect("a tag"));
    let cancel = CancellationToken::new();
    pull(client, &repository(), &target, sink, &PullOptions::default(), &cancel).await
}

/// Puts an image into the registry under tag `1`: every manifest, every blob.
pub(crate) fn holds(server: &Server, image: &Memory) {
    let contents = image.blobs.iter().map(|blob| {
        let all = blob.read_from(0).map_ok(|chunk| chunk.to_vec()).try_concat();
        futures_util::FutureExt::now_or_never(all).expect("in memory").expect("in memory")
    });
    let contents: Vec<Vec<u8>> = contents.collect();
    server.registry(|registry| {
        for content in contents {
            registry.add_blob("team/app", content);
        }
        for manifest in &image.manifests {
            let tag = if manifest.digest() == image.root().digest() { "1" } else { "" };
            let media_type = &manifest.descriptor().media_type;
            registry.add_manifest("team/app", tag, media_type, manifest.bytes().clone());
        }
    });
}

/// Nothing is open at the registry.
pub(crate) fn no_sessions(server: &Server) -> bool {
    server.registry(|registry| registry.sessions.is_empty())
}

/// The registry has this manifest under tag `1`.
pub(crate) fn is_tagged(server: &Server, manifest: &Manifest) -> bool {
    let key = ("team/app".to_owned(), "1".to_owned());
    server.registry(|registry| {
        registry.tags.get(&key).is_some_and(|digest| digest == manifest.digest().as_str())
    })
}

/// Requests that carried bytes of a blob. A POST that was to be the whole upload and was not taken is a question, and no upload.
pub(crate) fn carriers(server: &Server) -> Vec<Seen> {
    let is_question = |seen: &Seen| seen.method == "POST" && seen.status != 201;
    let all = server.requests().into_iter();
    all.filter(|seen| seen.target.contains("/blobs/") && !seen.body.is_empty() && !is_question(seen))
        .collect()
}

/// How many bytes of blobs went over the wire.
pub(crate) fn carried(server: &Server) -> usize {
    carriers(server).iter().map(|seen| seen.body.len()).sum()
}

/// A header of a request as text.
pub(crate) fn header<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.headers.get(name).and_then(|value| value.to_str().ok())
}
