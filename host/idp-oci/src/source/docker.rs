//! `docker-daemon:NAME`: an image of the Docker daemon, streamed once over its API socket and never stored as a whole.

use std::io::{self, Read};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::daemon::{self, Daemon, DaemonError};
use crate::layout::{canonical_name, platform_fits, platform_of_config, platform_text};
use crate::source::outlet::{Outlet, blocking};
use crate::source::stream::{Expect, Stream};
use crate::source::{Image, Offer, Selection, Source, SourceError};

/// Chunks between the socket and the thread that compresses.
const WINDOW: usize = 16;

/// An image of the daemon.
#[derive(Debug, Clone)]
pub struct DockerSource {
    daemon: Daemon,
    name: String,
    /// What to add when there is no such image.
    note: &'static str,
}

/// What `GET /images/{name}/json` says of interest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    /// Only daemons that keep images in containerd's store have it: then images are kept as registries have them.
    #[serde(default)]
    descriptor: Option<serde::de::IgnoredAny>,
}

impl DockerSource {
    /// The image `name` (or an image's ID) of the daemon that `DOCKER_HOST` names.
    pub fn from_env(name: impl Into<String>) -> Result<Self, SourceError> {
        let daemon = Daemon::from_env().map_err(|error| SourceError::NotFound(error.to_string()))?;
        Ok(Self { daemon, name: name.into(), note: "" })
    }

    /// The image `name` of the daemon at `host`, written as in `DOCKER_HOST`.
    pub fn at(host: &str, name: impl Into<String>) -> Result<Self, SourceError> {
        let daemon = Daemon::parse(host, false).map_err(|error| SourceError::NotFound(error.to_string()))?;
        Ok(Self { daemon, name: name.into(), note: "" })
    }

    /// Says in its errors that the name was looked for as a path first.
    #[must_use]
    pub(crate) fn after_looking(mut self) -> Self {
        self.note = "; and there is no file or directory of this name";
        self
    }

    fn error(&self, error: DaemonError) -> SourceError {
        match error {
            DaemonError::NotFound(message) => SourceError::NotFound(format!(
                "there is no image `{}` in the Docker daemon at {}: {message}{}",
                self.name,
                self.daemon.endpoint(),
                self.note
            )),
            DaemonError::Endpoint(_) | DaemonError::Unreachable { .. } => {
                SourceError::NotFound(format!("{error}{}", self.note))
            }
            DaemonError::Refused { .. } => SourceError::Invalid(format!("{}: {error}", self.describe())),
            DaemonError::Broken(error) => SourceError::Io { what: self.describe(), error },
        }
    }

    async fn get(&self, what: &str) -> Result<http::Response<Incoming>, SourceError> {
        let name = daemon::path_of_name(&self.name).map_err(|error| self.error(error))?;
        let path = format!("/images/{name}/{what}");
        self.daemon
            .request(Method::GET, &path, None, daemon::empty())
            .await
            .map_err(|error| self.error(error))
    }
}

#[async_trait]
impl Source for DockerSource {
    fn describe(&self) -> String {
        format!("image {} of the Docker daemon at {}", self.name, self.daemon.endpoint())
    }

    async fn read(
        self: Box<Self>,
        selection: &Selection,
        offers: mpsc::Sender<Offer>,
    ) -> Result<Image, SourceError> {
        let what = self.describe();
        let answer = daemon::whole(self.get("json").await?).await.map_err(|error| self.error(error))?;
        let inspect: Inspect = serde_json::from_slice(&answer).map_err(|error| {
            SourceError::Invalid(format!("{what}: the daemon's description is not valid: {error}"))
        })?;
        let as_stored = inspect.descriptor.is_some();
        if !as_stored
            && let Some(wanted) = &selection.platform
            && let Some(found) = platform_of_inspect(&answer)
            && !platform_fits(wanted, &found)
        {
            return Err(SourceError::NotFound(format!(
                "{what} is for {}, not for {}",
                platform_text(&found),
                platform_text(wanted)
            )));
        }
        // The archive holds one image only: which one needs no saying.
        let selection = Selection { name: None, ..selection.clone() };
        let mut stream = Stream::new(Expect { as_stored }, &selection, &what, Outlet::new(offers))?;
        let mut is_complete = false;
        while !is_complete {
            let answer = self.get("get").await?;
            let (sender, receiver) = mpsc::channel(WINDOW);
            let work = blocking(move || {
                let is_complete = stream.pass(ChannelReader { receiver, chunk: Bytes::new() })?;
                Ok((stream, is_complete))
            });
            tokio::pin!(work);
            // When the reading thread has ended, whatever else the daemon might send is of no interest.
            (stream, is_complete) = tokio::select! {
                biased;
                done = &mut work => done,
                () = pump(answer.into_body(), sender) => work.await,
            }?;
        }
        let mut image = blocking(move || stream.finish()).await?;
        let tags = inspect.repo_tags.unwrap_or_default();
        let wanted = canonical_name(&self.name);
        let named = tags.iter().find(|tag| canonical_name(tag) == wanted).or(tags.first()).cloned();
        image.name = named.or(image.name);
        Ok(image)
    }
}

/// The daemon writes `Os`, `Architecture`, `Variant` where a config has them in lower case.
fn platform_of_inspect(answer: &[u8]) -> Option<crate::manifest::Platform> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Fields {
        os: String,
        architecture: String,
        #[serde(default)]
        variant: Option<String>,
    }
    let fields: Fields = serde_json::from_slice(answer).ok()?;
    let mut value = serde_json::json!({ "os": fields.os, "architecture": fields.architecture });
    if let Some(variant) = fields.variant.filter(|variant| !variant.is_empty()) {
        value["variant"] = variant.into();
    }
    platform_of_config(&serde_json::to_vec(&value).ok()?)
}

/// Moves the body to the reading thread. Ends early when that thread has ended.
async fn pump(mut body: Incoming, sender: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let chunk = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_trailers) => continue,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        let failed = chunk.is_err();
        if sender.send(chunk).await.is_err() || failed {
            return;
        }
    }
    // An end that says so. Without it the push was given up, and what came is not the whole.
    let _ = sender.send(Ok(Bytes::new())).await;
}

/// The body as a blocking reader. An empty chunk is its end.
struct ChannelReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
            if self.chunk.is_empty() {
                self.receiver.close();
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
