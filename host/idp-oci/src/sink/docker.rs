//! `docker-daemon:[NAME]`: loads an image into the Docker daemon over its API socket, streamed, stored nowhere between.
//!
//! The stream is what current `docker save` writes, an OCI layout with a `manifest.json`: daemons with either kind of
//! image store read it. What gives the image its name comes last, so a stream that breaks off names nothing.

use std::io;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Method;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::blob::Chunks;
use crate::daemon::{self, Daemon, DaemonError};
use crate::layout::{self, IMAGE_NAME, INDEX, MARKER, MARKER_CONTENT, canonical_name};
use crate::manifest::{Descriptor, Shape};
use crate::media;
use crate::sink::check::Verifier;
use crate::sink::layout::Entry;
use crate::sink::{Plan, Sink, SinkError};
use crate::tarball;

/// Chunks between the registry and the socket.
const WINDOW: usize = 8;

/// The daemon to load into.
#[derive(Debug)]
pub struct DockerSink {
    daemon: Daemon,
    name: Option<String>,
    load: Option<Load>,
}

/// A load under way.
#[derive(Debug)]
struct Load {
    /// Gone once the stream is spoilt.
    sender: Mutex<Option<Sender>>,
    answer: tokio::sync::Mutex<Option<JoinHandle<Result<(), SinkError>>>>,
    /// What stands at the end of the archive.
    tail: Vec<u8>,
}

type Sender = mpsc::Sender<io::Result<Frame<Bytes>>>;

impl DockerSink {
    /// The daemon that `DOCKER_HOST` names. The image is called `name` there, else as its reference.
    pub fn from_env(name: Option<String>) -> Result<Self, SinkError> {
        Ok(Self { daemon: Daemon::from_env().map_err(sink_error)?, name, load: None })
    }

    /// The daemon at `host`, written as in `DOCKER_HOST`.
    pub fn at(host: &str, name: Option<String>) -> Result<Self, SinkError> {
        Ok(Self { daemon: Daemon::parse(host, false).map_err(sink_error)?, name, load: None })
    }

    /// `repository:tag` as the daemon will show it; none for a pull by digest alone.
    fn tag(&self, plan: &Plan) -> Option<String> {
        let reference = plan.reference.as_ref();
        let of_reference = || {
            let reference =
                reference.filter(|reference| reference.tag.is_some() || reference.digest.is_none())?;
            let tag = reference.tag.as_ref().map_or("latest", crate::name::Tag::as_str);
            Some(format!("{}/{}:{tag}", reference.registry, reference.repository))
        };
        self.name.as_deref().map(with_tag).or_else(of_reference)
    }
}

fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

fn sink_error(error: DaemonError) -> SinkError {
    match error {
        DaemonError::Endpoint(_) | DaemonError::Unreachable { .. } | DaemonError::NotFound(_) => {
            SinkError::NotFound(error.to_string())
        }
        DaemonError::Refused { .. } => SinkError::Unsupported(error.to_string()),
        DaemonError::Broken(error) => {
            SinkError::Io { what: "loading the image into the Docker daemon".to_owned(), error }
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// A line of the daemon's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    error_detail: Option<Detail>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    message: String,
}

#[async_trait]
impl Sink for DockerSink {
    fn describe(&self) -> String {
        format!("the Docker daemon at {}", self.daemon.endpoint())
    }

    fn concurrency(&self) -> usize {
        1
    }

    fn wants_one_platform(&self) -> bool {
        true
    }

    async fn begin(&mut self, plan: &Plan) -> Result<(), SinkError> {
        let tail = self.tail(plan)?;
        let (sender, receiver) = mpsc::channel(WINDOW);
        let daemon = self.daemon.clone();
        let body = futures_util::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<_>| {
            // Without the end that `finish` sends, the stream breaks off and the daemon discards what came.
            let frame: io::Result<Frame<Bytes>> =
                receiver.recv().await.unwrap_or_else(|| Err(io::ErrorKind::ConnectionAborted.into()));
            match frame {
                Ok(frame) if frame.data_ref().is_some_and(Bytes::is_empty) => None,
                frame => Some((frame, receiver)),
            }
        });
        let body = StreamBody::new(body.boxed()).boxed_unsync();
        let answer = tokio::spawn(async move {
            let path = "/images/load?quiet=1";
            let answer = daemon.request(Method::POST, path, Some("application/x-tar"), body).await;
            let answer = daemon::whole(answer.map_err(sink_error)?).await.map_err(sink_error)?;
            verdict(&answer)
        });
        let mut head = tarball::file(MARKER, MARKER_CONTENT.len() as u64, false);
        head.extend(MARKER_CONTENT);
        head.resize(head.len() + tarball::padding(MARKER_CONTENT.len() as u64), 0);
        head.extend(tarball::directory("blobs"));
        head.extend(tarball::directory("blobs/sha256"));
        let sender = Mutex::new(Some(sender));
        let load = Load { sender, answer: tokio::sync::Mutex::new(Some(answer)), tail };
        load.send(&load.take()?, head.into()).await?;
        self.load = Some(load);
        Ok(())
    }

    async fn blob(&self, descriptor: &Descriptor, mut chunks: Chunks) -> Result<(), SinkError> {
        let Some(load) = &self.load else {
            return Err(SinkError::Unsupported("no plan was given".to_owned()));
        };
        // Taken out: if this future ends early, by error or by being dropped, the stream breaks off with it.
        let sender = load.spoil()?;
        let mut verifier = Verifier::new(descriptor);
        let header = tarball::file(&layout::blob_path(&descriptor.digest), descriptor.size, false);
        load.send(&sender, header.into()).await?;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk
                .map_err(|error| SinkError::Io { what: format!("receiving {}", descriptor.digest), error })?;
            verifier.update(&chunk)?;
            load.send(&sender, chunk).await?;
        }
        verifier.finish()?;
        load.send(&sender, vec![0; tarball::padding(descriptor.size)].into()).await?;
        load.restore(sender);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        let Some(mut load) = self.load.take() else { return Ok(()) };
        let sender = load.spoil()?;
        let tail = std::mem::take(&mut load.tail);
        load.send(&sender, tail.into()).await?;
        let _ = sender.send(Ok(Frame::data(Bytes::new()))).await;
        load.answer().await
    }

    async fn abort(mut self: Box<Self>) {
        if let Some(load) = self.load.take() {
            drop(load.spoil());
            // The daemon notices the broken stream; its answer is of no interest any more.
            if let Some(answer) = load.answer.lock().await.take() {
                let _ = tokio::time::timeout(std::time::Duration::from_secs(2), answer).await;
            }
        }
    }
}

impl DockerSink {
    /// Manifest, index and names: what makes an image of the blobs.
    fn tail(&self, plan: &Plan) -> Result<Vec<u8>, SinkError> {
        let refuse =
            |text: &str| Err(SinkError::Unsupported(format!("the Docker daemon cannot load this: {text}")));
        let root = plan.root();
        let Shape::Image { config, layers } = root.shape() else {
            return refuse("it is an index of several images; choose one with --platform");
        };
        if !matches!(&*config.media_type, media::OCI_CONFIG | media::DOCKER_CONFIG) {
            return refuse(&format!(
                "it is no container image but `{}`; give DEST, a new directory or oci:DIR",
                config.media_type
            ));
        }
        if let Some(layer) = layers.iter().find(|layer| media::is_foreign(&layer.media_type)) {
            let digest = &layer.digest;
            return refuse(&format!("its layer {digest} is not distributed with it (a foreign layer)"));
        }
        let named = std::iter::once(&**config).chain(layers).map(|part| &part.digest);
        if let Some(digest) = named.into_iter().find(|digest| digest.algorithm().as_str() != "sha256") {
            return refuse(&format!("{digest} is not named by sha256"));
        }
        let tag = self.tag(plan);
        let mut entry = Entry::new(plan, tag.as_deref().and_then(|tag| tag.rsplit(':').next()));
        if let Some(tag) = &tag {
            entry.annotate(IMAGE_NAME, &canonical_name(tag));
        }
        let saved = [Saved {
            config: layout::blob_path(&config.digest),
            repo_tags: tag.map(|tag| vec![tag]),
            layers: layers.iter().map(|layer| layout::blob_path(&layer.digest)).collect(),
        }];
        let saved = serde_json::to_vec(&saved)
            .map_err(|error| SinkError::Io { what: "manifest.json".to_owned(), error: error.into() })?;
        let mut tail = Vec::new();
        let mut put = |path: &str, bytes: &[u8]| {
            tail.extend(tarball::file(path, bytes.len() as u64, false));
            tail.extend(bytes);
            tail.resize(tail.len() + tarball::padding(bytes.len() as u64), 0);
        };
        put(&layout::blob_path(root.digest()), root.bytes());
        put(INDEX, &entry.alone()?);
        put("manifest.json", &saved);
        tail.extend(tarball::END);
        Ok(tail)
    }
}

impl Load {
    fn take(&self) -> Result<Sender, SinkError> {
        let sender = self.spoil()?;
        self.restore(sender.clone());
        Ok(sender)
    }

    fn spoil(&self) -> Result<Sender, SinkError> {
        let sender = self.sender.lock().ok().and_then(|mut sender| sender.take());
        sender.ok_or_else(|| {
            let error = io::ErrorKind::BrokenPipe.into();
            SinkError::Io { what: "the stream to the Docker daemon was broken off".to_owned(), error }
        })
    }

    fn restore(&self, sender: Sender) {
        if let Ok(mut slot) = self.sender.lock() {
            *slot = Some(sender);
        }
    }

    /// Sends bytes; when the daemon has stopped reading, its answer says why.
    async fn send(&self, sender: &Sender, bytes: Bytes) -> Result<(), SinkError> {
        if bytes.is_empty() || sender.send(Ok(Frame::data(bytes))).await.is_ok() {
            return Ok(());
        }
        self.answer().await?;
        let error = io::ErrorKind::BrokenPipe.into();
        Err(SinkError::Io { what: "the Docker daemon stopped reading the image".to_owned(), error })
    }

    async fn answer(&self) -> Result<(), SinkError> {
        match self.answer.lock().await.take() {
            Some(answer) => match answer.await {
                Ok(result) => result,
                Err(error) => Err(SinkError::Io {
                    what: "waiting for the Docker daemon".to_owned(),
                    error: io::Error::other(error),
                }),
            },
            None => Ok(()),
        }
    }
}

/// The daemon answers 200 before it knows; how it went stands in the lines that follow.
fn verdict(answer: &[u8]) -> Result<(), SinkError> {
    for line in serde_json::Deserializer::from_slice(answer).into_iter::<Line>() {
        let Ok(line) = line else { break };
        if let Some(message) = line.error_detail.map(|detail| detail.message).or(line.error) {
            let message: String = message.chars().filter(|char| !char.is_control()).take(500).collect();
            return Err(SinkError::Unsupported(format!("the Docker daemon refused the image: {message}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{verdict, with_tag};

    #[test]
    fn the_answer_says_how_it_went() {
        assert!(verdict(b"{\"stream\":\"Loaded image: app:1\\n\"}\r\n").is_ok());
        assert!(verdict(b"").is_ok());
        let bad = b"{\"stream\":\"x\"}\n{\"errorDetail\":{\"message\":\"unexpected EOF\"},\"error\":\"unexpected EOF\"}";
        assert!(
            verdict(bad).expect_err("refused").to_string().ends_with("refused the image: unexpected EOF")
        );
    }

    #[test]
    fn names_get_a_tag() {
        assert_eq!(with_tag("host:5000/app"), "host:5000/app:latest");
        assert_eq!(with_tag("app:1"), "app:1");
    }
}
