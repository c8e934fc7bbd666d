//! A bucket, or a part of one: objects by key, conditional writes, sorted lists, parts and signed addresses.
//!
//! The only file that speaks to the crate's stores. The crate tries again what can be tried again (timeouts, 429, 5xx,
//! `SlowDown`); what it gives up becomes a [`StoreError::Object`] that names bucket and key and no credential.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, UpdateVersion,
};
use url::Url;

use crate::store::StoreError;

/// Small objects are read whole up to this size; the largest is a manifest with its head.
const MOST: u64 = 128 * 1024 * 1024;

/// How often a conditional write may break off, and how long is waited before it is looked up.
const BREAKS: u32 = 5;
const BREAK: Duration = Duration::from_millis(50);

/// Where objects are.
#[derive(Clone)]
pub(super) struct Bucket {
    /// `s3://bucket/prefix`, for people.
    name: Arc<str>,
    /// Before every key; empty or with a slash at its end.
    prefix: Arc<str>,
    objects: Arc<dyn ObjectStore>,
    parts: Arc<dyn MultipartStore>,
    signer: Option<Arc<dyn Signer>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The crate's own output has settings in it.
        f.debug_tuple("Bucket").field(&self.name).finish()
    }
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) size: u64,
    /// By the service's clock.
    pub(super) modified: SystemTime,
}

/// An object that was read whole.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    version: UpdateVersion,
}

fn is_same(found: &Bytes, payload: &PutPayload) -> bool {
    let mut rest = &found[..];
    for part in payload {
        let Some(after) = rest.strip_prefix(&part[..]) else { return false };
        rest = after;
    }
    rest.is_empty()
}

impl Bucket {
    pub(super) fn new<T: ObjectStore + MultipartStore>(
        name: &str,
        prefix: &str,
        store: Arc<T>,
        signer: Option<Arc<dyn Signer>>,
    ) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let (objects, parts) = (Arc::clone(&store) as Arc<dyn ObjectStore>, store as Arc<dyn MultipartStore>);
        Self { name: name.into(), prefix: prefix.into(), objects, parts, signer }
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        Path::parse(format!("{}{key}", self.prefix)).map_err(|error| self.failed(key, error.into()))
    }

    fn failed(&self, key: &str, error: Error) -> StoreError {
        StoreError::Object { object: format!("{}/{key}", self.name), why: explain(error) }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let failed = |error| self.failed(key, error);
        let found = match self.objects.get(&self.path(key)?).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if found.meta.size > MOST {
            let what = format!("`{}/{key}` has {} bytes and should be small", self.name, found.meta.size);
            return Err(StoreError::Damaged { what });
        }
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        Ok(Some(Object { bytes: found.bytes().await.map_err(failed)?, version }))
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        match self.objects.head(&self.path(key)?).await {
            Ok(meta) => Ok(Some(self.entry(meta))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(key, error)),
        }
    }

    pub(super) async fn put(&self, key: &str, payload: impl Into<PutPayload>) -> Result<(), StoreError> {
        let put = self.objects.put(&self.path(key)?, payload.into()).await;
        put.map(drop).map_err(|error| self.failed(key, error))
    }

    /// Writes what is not there yet; false where it is.
    pub(super) async fn create(&self, key: &str, payload: impl Into<PutPayload>) -> Result<bool, StoreError> {
        self.put_if(key, payload.into(), PutMode::Create).await
    }

    /// Writes in the place of what was read; false where that is no longer there.
    pub(super) async fn replace(&self, key: &str, payload: Bytes, read: Object) -> Result<bool, StoreError> {
        self.put_if(key, payload.into(), PutMode::Update(read.version)).await
    }

    /// The crate does not try again what has a condition: when a connection breaks, nobody knows whether the write came about. It is
    /// looked up then: what is there shows it.
    async fn put_if(&self, key: &str, payload: PutPayload, mode: PutMode) -> Result<bool, StoreError> {
        let update = matches!(mode, PutMode::Update(_));
        let mut attempt = 1;
        loop {
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            let error = match self.objects.put_opts(&self.path(key)?, payload.clone(), options).await {
                Ok(_) => return Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => return Ok(false),
                Err(Error::NotFound { .. }) if update => return Ok(false),
                Err(error @ Error::Generic { .. }) if attempt < BREAKS => error,
                Err(error) => return Err(self.failed(key, error)),
            };
            tracing::debug!(target: "idp::registry", key, %error, attempt, "a write broke off; looking whether it came about");
            tokio::time::sleep(BREAK * attempt).await;
            attempt += 1;
            match (self.get(key).await?, &mode) {
                (Some(found), _) if is_same(&found.bytes, &payload) => return Ok(true),
                // What it was to replace is there still.
                (Some(found), PutMode::Update(read)) if found.version == *read => {}
                (None, PutMode::Create) => {}
                _ => return Ok(false),
            }
        }
    }

    /// That it is not there any more; that it was not there is as good.
    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(key)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            // Some services fail a request that another one was faster than.
            Err(error @ Error::Generic { .. }) => match self.head(key).await {
                Ok(None) => Ok(()),
                _ => Err(self.failed(key, error)),
            },
            Err(error) => Err(self.failed(key, error)),
        }
    }

    /// What is under a folder, after `after` if that is given; sorted by key, asked for a page at a time.
    pub(super) fn list(
        &self,
        folder: &str,
        after: Option<&str>,
    ) -> BoxStream<'static, Result<Entry, StoreError>> {
        let (path, offset) = match (self.path(folder), after.map(|after| self.path(after)).transpose()) {
            (Ok(path), Ok(offset)) => (path, offset),
            (Err(error), _) | (_, Err(error)) => {
                return futures_util::stream::once(std::future::ready(Err(error))).boxed();
            }
        };
        let listed = match offset {
            Some(offset) => self.objects.list_with_offset(Some(&path), &offset),
            None => self.objects.list(Some(&path)),
        };
        let (this, folder) = (self.clone(), folder.to_owned());
        let mut last = None;
        listed
            .map(move |meta| {
                let entry = this.entry(meta.map_err(|error| this.failed(&folder, error))?);
                // The pages of lists rest on it. S3, GCS and Azure promise it; not every imitation keeps it.
                if last.as_ref().is_some_and(|last| *last >= entry.key) {
                    let object = format!("{}/{folder}", this.name);
                    let why = "the service does not list its objects sorted, which the registry needs; \
                               use another service or kind of bucket";
                    return Err(StoreError::Object { object, why: why.to_owned() });
                }
                last = Some(entry.key.clone());
                Ok(entry)
            })
            .boxed()
    }

    fn entry(&self, meta: ObjectMeta) -> Entry {
        let key = meta.location.as_ref();
        let key = key.strip_prefix(&*self.prefix).unwrap_or(key).to_owned();
        Entry { key, size: meta.size, modified: meta.last_modified.into() }
    }

    /// The bytes of an object from `start` to before `end`, streamed.
    pub(super) fn read(&self, key: String, start: u64, end: u64) -> BoxStream<'static, io::Result<Bytes>> {
        if start >= end {
            return futures_util::stream::empty().boxed();
        }
        let this = self.clone();
        let opened = async move {
            let range = Some(GetRange::Bounded(start..end));
            let options = GetOptions { range, ..GetOptions::default() };
            let path = this.path(&key).map_err(io::Error::other)?;
            let found = this.objects.get_opts(&path, options).await;
            let found = found.map_err(|error| io::Error::other(this.failed(&key, error)))?;
            Ok::<_, io::Error>(
                found.into_stream().map_err(move |error| io::Error::other(this.failed(&key, error))),
            )
        };
        futures_util::stream::once(opened).try_flatten().boxed()
    }

    /// An address under which anybody can read the object for a time; `None` where the service cannot sign.
    pub(super) async fn signed(&self, key: &str, valid: Duration) -> Result<Option<Url>, StoreError> {
        let Some(signer) = &self.signer else { return Ok(None) };
        match signer.signed_url(http::Method::GET, &self.path(key)?, valid).await {
            Ok(url) => Ok(Some(url)),
            Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => Ok(None),
            Err(error) => Err(self.failed(key, error)),
        }
    }

    pub(super) async fn begin_parts(&self, key: &str) -> Result<String, StoreError> {
        self.parts.create_multipart(&self.path(key)?).await.map_err(|error| self.failed(key, error))
    }

    pub(super) async fn put_part(
        &self,
        key: &str,
        id: &String,
        index: usize,
        payload: PutPayload,
    ) -> Result<PartId, StoreError> {
        let put = self.parts.put_part(&self.path(key)?, id, index, payload).await;
        put.map_err(|error| self.failed(key, error))
    }

    pub(super) async fn complete_parts(
        &self,
        key: &str,
        id: &String,
        parts: Vec<PartId>,
    ) -> Result<(), StoreError> {
        let completed = self.parts.complete_multipart(&self.path(key)?, id, parts).await;
        completed.map(drop).map_err(|error| self.failed(key, error))
    }

    /// Forgets parts; that they are forgotten already is as good.
    pub(super) async fn abort_parts(&self, key: &str, id: &String) -> Result<(), StoreError> {
        match self.parts.abort_multipart(&self.path(key)?, id).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(key, error)),
        }
    }
}

/// Cause and advice, in one line, without what may be secret.
fn explain(error: Error) -> String {
    let text = chain(&error);
    let advice = match &error {
        // S3 says 403 to both; its answer says which.
        _ if ["SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken"]
            .iter()
            .any(|code| text.contains(code)) =>
        {
            UNAUTHENTICATED
        }
        Error::PermissionDenied { .. } => "; let the registry's user read, write, list and delete there",
        Error::Unauthenticated { .. } => UNAUTHENTICATED,
        Error::NotFound { .. } => "; the bucket, or an object that was there before, is gone",
        _ => "",
    };
    format!("{}{advice}", redact(&text))
}

const UNAUTHENTICATED: &str = "; check the credentials in the environment or in `credentialsFile`";

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// An address with its query may carry a signature; and answers of services can be pages long.
fn redact(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut shown = String::new();
    // What was signed is of no use to people and may name more than it should.
    let text = text.split("<StringToSign>").next().unwrap_or_default();
    for word in text.split_whitespace() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        match word.split_once('?') {
            Some((address, _)) if word.contains("://") => {
                shown.push_str(address);
                shown.push_str("?…");
            }
            _ => shown.push_str(word),
        }
        if shown.len() > LONGEST {
            shown.truncate(shown.floor_char_boundary(LONGEST));
            shown.push('…');
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{explain, redact};

    #[test]
    fn signatures_are_not_shown_and_answers_are_cut() {
        let text = "GET https://a.example/c/k?sig=s3cr3t&se=1 failed:\n  <Error>…</Error>";
        assert_eq!(redact(text), "GET https://a.example/c/k?… failed: <Error>…</Error>");
        assert!(redact(&"é ".repeat(2000)).len() < 700);
        assert!(redact(&"é".repeat(2000)).len() < 700);
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = object_store::Error::Unauthenticated { path: "k".into(), source: "403".into() };
        assert!(explain(error).contains("credentialsFile"));
    }
}
