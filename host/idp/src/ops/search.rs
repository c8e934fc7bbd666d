//! Search over several registries at once. Hits are handed out as they come; a registry that fails does not stop the others.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use idp_oci::client::Event;
use idp_oci::name::Registry;
use serde::Serialize;

use super::entry::Entry;
use super::pages::{Filter, Pages};
use super::session::{self, Subject};
use super::{Context, Error};
use crate::config::docker::{self, DockerConfig};
use crate::config::registries::RegistryKey;

/// What is searched, and where.
#[derive(Debug, Clone)]
pub struct Request {
    /// Names with this in them.
    pub term: String,
    /// Only these; all that are known unless given.
    pub registries: Vec<Registry>,
    /// No more than so many of each registry.
    pub limit: usize,
}

/// A repository that was found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hit {
    /// Where.
    pub registry: String,
    /// The repository.
    #[serde(flatten)]
    pub entry: Entry,
}

/// A registry that could not be searched.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Which.
    pub registry: String,
    /// Why.
    pub error: String,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Found {
    /// Of all registries, in the order in which they came.
    pub hits: Vec<Hit>,
    /// Registries that have more hits than were asked for.
    pub more: Vec<String>,
    /// Registries that were searched, whether or not anything was there.
    pub searched: Vec<String>,
    /// Registries that could not be.
    pub failed: Vec<Failure>,
}

/// Searches. `found` is called with hits as they come, and says whether to go on. Fails only when no registry could be searched.
pub async fn search(
    context: &Context,
    request: Request,
    mut found: impl FnMut(&[Hit]) -> bool,
) -> Result<Found, Error> {
    let registries =
        if request.registries.is_empty() { known(context).await? } else { request.registries.clone() };
    if registries.is_empty() {
        return Err(Error::NoRegistry);
    }
    let mut result = Found { hits: Vec::new(), more: Vec::new(), searched: Vec::new(), failed: Vec::new() };
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Hit>(64);
    let mut searches: FuturesUnordered<_> = registries
        .iter()
        .map(|registry| {
            let (sender, request) = (sender.clone(), &request);
            async move { (registry, one(context, registry, request, sender).await) }
        })
        .collect();
    drop(sender);
    let (mut errors, mut open) = (Vec::new(), true);
    loop {
        tokio::select! {
            biased;
            hit = receiver.recv(), if open => match hit {
                Some(hit) => {
                    if !found(std::slice::from_ref(&hit)) {
                        break;
                    }
                    result.hits.push(hit);
                }
                None => open = false,
            },
            Some((registry, outcome)) = searches.next() => match outcome {
                Ok(more) => {
                    result.searched.push(registry.to_string());
                    result.more.extend(more.then(|| registry.to_string()));
                }
                Err(error) => {
                    let text = error.to_string();
                    let text = format!("{registry} was not searched: {}", text.lines().next().unwrap_or_default());
                    context.progress.event(Event::Warning { text });
                    result.failed.push(Failure { registry: registry.to_string(), error: error.to_string() });
                    errors.push(error);
                }
            },
            else => break,
        }
    }
    match errors.pop() {
        Some(error) if result.searched.is_empty() => Err(if errors.is_empty() {
            error
        } else {
            Error::Several { errors: errors.len() + 1, last: Box::new(error) }
        }),
        _ => Ok(result),
    }
}

/// Searches one registry; true when there is more.
async fn one(
    context: &Context,
    registry: &Registry,
    request: &Request,
    sender: tokio::sync::mpsc::Sender<Hit>,
) -> Result<bool, Error> {
    let session = session::open(context, Subject { registry, repository: None, tag: None }).await?;
    let filter = Filter { namespace: None, query: Some(request.term.clone()) };
    let mut pages = Pages::new(&session, None, filter, request.limit);
    let mut count = 0;
    while let Some(page) = pages.next().await? {
        for entry in page.entries {
            if count == request.limit {
                return Ok(true);
            }
            count += 1;
            // Nobody listens any more: whoever read the result has read enough.
            if sender.send(Hit { registry: registry.to_string(), entry }).await.is_err() {
                return Ok(true);
            }
        }
        if count == request.limit {
            return Ok(pages.has_more());
        }
    }
    Ok(false)
}

/// The registries that somebody has told us of: the default one, `registries.yaml`, and those with stored credentials.
async fn known(context: &Context) -> Result<Vec<Registry>, Error> {
    let mut all: BTreeSet<String> = BTreeSet::new();
    all.extend(context.default_registry()?.map(|(address, _)| address.registry.to_string()));
    all.extend(context.registries.registries.keys().map(|RegistryKey(registry)| registry.to_string()));
    for file in docker::files(&context.env) {
        let names = match DockerConfig::load(&file) {
            Ok(Some(config)) => config.registries(&context.env).await,
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match names {
            Ok(names) => all.extend(names.iter().map(ToString::to_string)),
            Err(error) => {
                let text = format!("stored credentials say of no registries: {error}");
                context.progress.event(Event::Warning { text });
            }
        }
    }
    Ok(all.iter().filter_map(|name| name.parse().ok()).collect())
}
