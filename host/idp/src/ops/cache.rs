//! The content cache: whether there is one, how much is in it, and making room. Pulls use it through [`of`].

use std::path::PathBuf;
use std::sync::Arc;

use idp_oci::cache::{Cache, Limits, Pruned, Status};
use serde::Serialize;

use super::{Context, Error};
use crate::config::env;

/// How the cache is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shown {
    /// Where it is.
    pub directory: PathBuf,
    /// Whether pulls use it.
    pub enabled: bool,
    /// How many bytes it may hold.
    pub limit: u64,
    /// Larger blobs are not kept.
    pub blob_limit: u64,
    /// What is in it.
    #[serde(flatten)]
    pub status: Status,
}

/// What was removed, and what is left.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Removed {
    /// Where.
    pub directory: PathBuf,
    /// How many blobs, manifests and unfinished ones.
    pub blobs_removed: usize,
    /// Their bytes.
    pub bytes_removed: u64,
    /// What is left.
    pub bytes: u64,
}

/// The cache that pulls use; none where it is switched off, and in a process without a home.
pub fn of(context: &Context) -> Result<Option<Arc<Cache>>, Error> {
    Ok(if enabled(context)? { open(context).map(Arc::new) } else { None })
}

/// How much is in it.
pub fn status(context: &Context) -> Result<Shown, Error> {
    let cache = there(context)?;
    let status = cache.status().map_err(failed(&cache, "looking at"))?;
    let Limits { total, blob } = cache.limits();
    let directory = cache.root().to_owned();
    Ok(Shown { directory, enabled: enabled(context)?, limit: total, blob_limit: blob, status })
}

/// Removes what was not used for longest until no more than `limit` bytes are there; the configured limit unless given.
pub fn prune(context: &Context, limit: Option<u64>) -> Result<Removed, Error> {
    let cache = there(context)?;
    let limit = limit.unwrap_or(cache.limits().total);
    let pruned = cache.prune(limit).map_err(failed(&cache, "making room in"))?;
    removed(&cache, pruned)
}

/// Removes everything that is ours and that nobody is writing.
pub fn clear(context: &Context) -> Result<Removed, Error> {
    let cache = there(context)?;
    let pruned = cache.clear().map_err(failed(&cache, "clearing"))?;
    removed(&cache, pruned)
}

fn removed(cache: &Cache, Pruned { blobs, bytes }: Pruned) -> Result<Removed, Error> {
    let left = cache.status().map_err(failed(cache, "looking at"))?;
    Ok(Removed {
        directory: cache.root().to_owned(),
        blobs_removed: blobs,
        bytes_removed: bytes,
        bytes: left.bytes + left.partial_bytes,
    })
}

/// The environment beats the file.
fn enabled(context: &Context) -> Result<bool, Error> {
    Ok(context.env.flag(env::CACHE)?.unwrap_or(context.registries.cache.enabled))
}

fn open(context: &Context) -> Option<Cache> {
    let config = context.registries.cache;
    let limits = Limits { total: config.limit.0, blob: config.blob_limit.0 };
    context.paths.cache().map(|root| Cache::open(root, limits))
}

fn there(context: &Context) -> Result<Cache, Error> {
    open(context).ok_or_else(|| {
        Error::Usage(
            "there is no home directory for a cache; `IDPBUILDER_OCI_CACHE_DIR` names another".to_owned(),
        )
    })
}

fn failed(cache: &Cache, doing: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let what = format!("{doing} the cache in {}", cache.root().display());
    move |error| Error::Io { what, error }
}
