//! Webhooks: others are told what was pushed, pulled and deleted.
//!
//! May use the client's HTTP, which has the proxies, the redirect rules and the redaction. In: requests that were answered.
//! Out: a `POST` a target and event, in order, one at a time. A request never waits for a target: each has a queue, and
//! what finds it full is dropped and counted. What is in a queue is tried until it is taken, or so often failed that
//! nobody will; what is left when the process ends is lost. Targets are the operator's choice, on private addresses too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::response::Response;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::client::http::{Body, Http, HttpOptions, Request};
use crate::client::redact;
use crate::client::retry::{RetryPolicy, is_transient, retry_after};
use crate::name::{Repository, Target};
use crate::server::blob::CONTENT_DIGEST;
use crate::server::manifest::TAG;
use crate::server::metrics::Metrics;
use crate::server::route::Route;

mod payload;
#[cfg(test)]
mod tests;

pub use payload::WebhookEvent;

use payload::Happened;

const DEFAULT_ATTEMPTS: u32 = 10;
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;
const DEFAULT_QUEUE: usize = 1000;

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A header's value that is longer is none of ours.
const MOST_AUTHORIZATION: usize = 8 * 1024;

/// Who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookSettings {
    /// Each is told for itself.
    pub targets: Vec<WebhookTarget>,
}

/// Somebody who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookTarget {
    /// What it is called in the log and the metrics; `webhook-1` and so on unless given.
    pub name: Option<String>,
    /// Where to: http or https. Of Argo CD, `https://…/api/webhook`.
    pub url: String,
    /// A file with the value of `Authorization`, the whole of it; Argo CD compares it with its `webhook.harbor.secret`. None is sent unless given.
    pub authorization_file: Option<PathBuf>,
    /// Of what it is told: `push`, `pull`, `delete`; push and delete unless given.
    pub events: Option<Vec<WebhookEvent>>,
    /// Of which repositories: names, or beginnings of names with a `*` behind; all unless given.
    pub repositories: Vec<String>,
    /// What it knows the registry as, `host[:port]`; what the request called it unless given.
    pub host: Option<String>,
    /// A file with certificates (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How many seconds it may take to answer (10).
    pub timeout_seconds: Option<u64>,
    /// How often an event is tried (10), with growing waits of up to a minute.
    pub attempts: Option<u32>,
    /// How many events wait at most (1000); others are dropped.
    pub queue: Option<usize>,
}

/// Why targets cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Not a URL for this.
    #[error("webhook `{name}`: `url` must be an http or https URL: {why}")]
    Url {
        /// Which target.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A file that the settings name.
    #[error("webhook `{name}`: cannot read `{}`: {error}", path.display())]
    File {
        /// Which target.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// What is in the file cannot be sent.
    #[error("webhook `{name}`: `{}` must hold one line of printable characters", path.display())]
    Authorization {
        /// Which target.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A host that is none.
    #[error("webhook `{name}`: `host` is host[:port], and not `{host}`")]
    Host {
        /// Which target.
        name: String,
        /// What was given.
        host: String,
    },
}

/// The targets, each with its queue.
#[derive(Debug, Default)]
pub(crate) struct Webhooks {
    queues: Vec<Queue>,
    tracker: TaskTracker,
    /// Nothing more will be told.
    closing: CancellationToken,
    /// Nothing more will be delivered.
    cut_off: CancellationToken,
}

#[derive(Debug)]
struct Queue {
    name: String,
    events: Vec<WebhookEvent>,
    repositories: Vec<String>,
    sender: mpsc::Sender<Arc<Happened>>,
}

impl Queue {
    fn wants(&self, event: WebhookEvent, repository: &Repository) -> bool {
        let name = repository.as_str();
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        };
        self.events.contains(&event)
            && (self.repositories.is_empty() || self.repositories.iter().any(matches))
    }
}

/// A target with what it takes to reach it.
#[derive(Debug, Clone)]
struct Delivery {
    name: String,
    url: Url,
    authorization: Option<HeaderValue>,
    host: Option<String>,
    http: Http,
    timeout: Duration,
    policy: RetryPolicy,
}

/// Targets whose settings and files were found good.
#[derive(Debug, Clone, Default)]
pub struct WebhookTargets(Vec<(Delivery, WebhookTarget)>);

impl WebhookTargets {
    /// Reads what the settings name. Blocks for small files.
    pub fn open(settings: &WebhookSettings) -> Result<Self, WebhookError> {
        let opened = settings.targets.iter().enumerate().map(|(index, target)| {
            let name = target.name.clone().unwrap_or_else(|| format!("webhook-{}", index + 1));
            Ok((Delivery::open(name, target)?, target.clone()))
        });
        opened.collect::<Result<_, _>>().map(Self)
    }
}

impl Delivery {
    fn open(name: String, target: &WebhookTarget) -> Result<Self, WebhookError> {
        let url = Url::parse(&target.url).map_err(|error| error.to_string()).and_then(|url| {
            let usable = ["http", "https"].contains(&url.scheme()) && url.has_host();
            if usable { Ok(url) } else { Err("it has another scheme".to_owned()) }
        });
        let url = url.map_err(|why| WebhookError::Url { name: name.clone(), why })?;
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| WebhookError::File {
                name: name.clone(),
                path: path.clone(),
                error,
            })
        };
        let authorization = target.authorization_file.as_ref().map(|path| {
            let text = zeroize::Zeroizing::new(read(path)?);
            let value = Some(text.trim_ascii()).filter(|text| (1..=MOST_AUTHORIZATION).contains(&text.len()));
            let mut value = value
                .and_then(|text| HeaderValue::from_bytes(text).ok())
                .ok_or_else(|| WebhookError::Authorization { name: name.clone(), path: path.clone() })?;
            value.set_sensitive(true);
            Ok(value)
        });
        if let Some(host) = &target.host
            && !is_authority(host)
        {
            return Err(WebhookError::Host { name, host: host.clone() });
        }
        let timeout = Duration::from_secs(target.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS).max(1));
        let attempts = target.attempts.unwrap_or(DEFAULT_ATTEMPTS).max(1);
        let http = Http::new(HttpOptions {
            extra_roots: target.ca_file.as_ref().map(read).transpose()?.into_iter().collect(),
            connect_timeout: timeout,
            idle_timeout: timeout,
            ..HttpOptions::default()
        });
        Ok(Self {
            authorization: authorization.transpose()?,
            host: target.host.clone(),
            policy: RetryPolicy {
                attempts: usize::try_from(attempts).unwrap_or(usize::MAX),
                cap: LONGEST_WAIT,
                ..RetryPolicy::default()
            },
            name,
            url,
            http,
            timeout,
        })
    }

    /// Tries until it is taken, or there is no use in it.
    async fn deliver(&self, happened: &Happened) -> Result<(), String> {
        let mut request = Request::new(Method::POST, self.url.clone());
        request.body = Body::Bytes(happened.json(self.host.as_deref()));
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            request.credentials.insert(AUTHORIZATION, authorization.clone());
        }
        let mut waits = self.policy.waits();
        loop {
            let answer = tokio::time::timeout(self.timeout, self.http.execute(request.clone())).await;
            let (why, asked) = match answer {
                Ok(Ok(answer)) if answer.status.is_success() => return Ok(()),
                Ok(Ok(answer)) => {
                    let why = format!("it answered {}", answer.status);
                    // Who says that the request is wrong will say so again; 404 and 401 are mended on the other side.
                    let passes = is_transient(answer.status)
                        || answer.status.is_server_error()
                        || [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND]
                            .contains(&answer.status);
                    if !passes {
                        return Err(why);
                    }
                    (why, retry_after(&answer.headers))
                }
                Ok(Err(error)) => (error.to_string(), None),
                Err(_) => (format!("no answer in {} s", self.timeout.as_secs()), None),
            };
            let Some(wait) = waits.after_failure(asked) else {
                return Err(format!("{why}, and was tried {} times", waits.failures()));
            };
            tracing::debug!(target: "idp::registry", webhook = %self.name, why, ?wait, "told again later");
            tokio::time::sleep(wait).await;
        }
    }

    async fn run(
        self,
        mut queue: mpsc::Receiver<Arc<Happened>>,
        metrics: Arc<Metrics>,
        closing: CancellationToken,
    ) {
        loop {
            let next = tokio::select! {
                next = queue.recv() => next,
                () = closing.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            };
            let Some(happened) = next else { break };
            match self.deliver(&happened).await {
                Ok(()) => metrics.notified("Successes", &self.name),
                Err(why) => {
                    metrics.notified("Failures", &self.name);
                    let url = redact::url(&self.url);
                    let (event, repository) = (happened.event, &happened.repository);
                    tracing::warn!(
                        target: "idp::registry", webhook = %self.name, url, ?event, %repository, why,
                        "a webhook was given up",
                    );
                }
            }
            metrics.notifications_pending().dec();
        }
    }
}

impl Webhooks {
    /// Begins to deliver what will be told.
    pub(crate) fn start(targets: WebhookTargets, metrics: &Arc<Metrics>) -> Self {
        let tracker = TaskTracker::new();
        let (closing, cut_off) = (CancellationToken::new(), CancellationToken::new());
        let queues = targets.0.into_iter().map(|(delivery, target)| {
            let (sender, receiver) = mpsc::channel(target.queue.unwrap_or(DEFAULT_QUEUE).max(1));
            let name = delivery.name.clone();
            let run = delivery.run(receiver, Arc::clone(metrics), closing.clone());
            tracker.spawn(cut_off.clone().run_until_cancelled_owned(run));
            let events = target.events.unwrap_or_else(|| vec![WebhookEvent::Push, WebhookEvent::Delete]);
            Queue { name, events, repositories: target.repositories, sender }
        });
        Self { queues: queues.collect(), tracker, closing, cut_off }
    }

    /// What a request that was answered did, if anybody wants to know.
    pub(crate) fn tell(
        &self,
        metrics: &Metrics,
        route: &Route,
        parts: &Parts,
        response: &Response,
        user: Option<&str>,
    ) {
        if self.queues.is_empty() || !response.status().is_success() {
            return;
        }
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let (event, repository, target) = match route {
            Route::PutManifest { repository, target } => (WebhookEvent::Push, repository, target),
            Route::ReadManifest { repository, target } if parts.method == Method::GET => {
                (WebhookEvent::Pull, repository, target)
            }
            Route::DeleteManifest { repository, target } => (WebhookEvent::Delete, repository, target),
            _ => return,
        };
        if !self.queues.iter().any(|queue| queue.wants(event, repository)) {
            return;
        }
        let digest = match target {
            Target::Digest(digest) => Some(digest.to_string()),
            Target::Tag(_) => header(CONTENT_DIGEST).map(str::to_owned),
        };
        let mut tags: Vec<Option<String>> = match target {
            Target::Tag(tag) => vec![Some(tag.to_string())],
            Target::Digest(_) => {
                let tags = response.headers().get_all(TAG).iter().filter_map(|value| value.to_str().ok());
                tags.map(|tag| Some(tag.to_owned())).collect()
            }
        };
        if tags.is_empty() {
            tags.push(None);
        }
        let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
        let host = host.filter(|host| is_authority(host)).unwrap_or("localhost");
        for tag in tags {
            let happened = Arc::new(Happened {
                event,
                repository: repository.clone(),
                digest: digest.clone(),
                tag,
                user: user.map(str::to_owned),
                at: SystemTime::now(),
                host: host.to_owned(),
            });
            for queue in self.queues.iter().filter(|queue| queue.wants(event, repository)) {
                // Counted before it can be taken out again.
                metrics.notifications_pending().inc();
                match queue.sender.try_send(Arc::clone(&happened)) {
                    Ok(()) => metrics.notified("Events", &queue.name),
                    Err(_) => {
                        metrics.notifications_pending().dec();
                        metrics.notified("Dropped", &queue.name);
                        tracing::warn!(
                            target: "idp::registry", webhook = %queue.name, %repository,
                            "too many events wait for this webhook; one is dropped",
                        );
                    }
                }
            }
        }
    }

    /// Nothing more is told. What waits is still delivered, for so long; what is left then is lost.
    pub(crate) async fn finish(&self, grace: Duration) {
        self.closing.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            tracing::warn!(target: "idp::registry", "webhooks were not all delivered before the end");
            self.cut_off.cancel();
        }
    }
}

/// `host[:port]`, in which nothing can be hidden.
fn is_authority(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(plain)
}
