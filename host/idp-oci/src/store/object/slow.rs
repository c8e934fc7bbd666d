//! A bucket in memory in which every request takes its own time, before and after it has its effect, by a seed: what replicas do at
//! once comes in another order with every seed. Time is tokio's, which tests let run by itself. Counts requests too.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

#[derive(Debug)]
pub(super) struct Slow {
    inner: Arc<InMemory>,
    random: AtomicU64,
    pub(super) requests: AtomicU64,
    /// So many of the next conditional writes break off: every other one after it came about.
    pub(super) breaking: AtomicU64,
    /// Deletions fail where another one was faster, as at some services.
    pub(super) jealous: std::sync::atomic::AtomicBool,
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slow")
    }
}

impl Slow {
    /// A seed of 0 is no seed: nothing takes time.
    pub(super) fn new(seed: u64) -> Self {
        let random = AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            inner: Arc::new(InMemory::new()),
            random,
            requests: AtomicU64::new(0),
            breaking: AtomicU64::new(0),
            jealous: std::sync::atomic::AtomicBool::new(false),
        }
    }

    async fn dawdle(&self) {
        let mut next = self.random.load(Ordering::Relaxed);
        if next == 0 {
            return;
        }
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.random.store(next, Ordering::Relaxed);
        // Mostly quick, at times very slow.
        let most = if next.is_multiple_of(7) { 500 } else { 20 };
        tokio::time::sleep(Duration::from_millis((next >> 16) % most)).await;
    }

    async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.dawdle().await;
        let done = work.await;
        self.dawdle().await;
        done
    }
}

/// The same store, where a stream outlives the call.
#[derive(Debug, Clone)]
pub(super) struct Shared(pub(super) Arc<Slow>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Shared {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let breaking = &self.0.breaking;
        let left = breaking.load(Ordering::Relaxed);
        if left > 0 && options.mode != PutMode::Overwrite {
            breaking.store(left - 1, Ordering::Relaxed);
            if left.is_multiple_of(2) {
                self.0.around(self.0.inner.put_opts(location, payload, options)).await?;
            }
            let source = std::io::Error::from(std::io::ErrorKind::ConnectionReset).into();
            return Err(object_store::Error::Generic { store: "slow", source });
        }
        self.0.around(self.0.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.around(self.0.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = async move {
            if this.0.jealous.load(Ordering::Relaxed) {
                let paths: Vec<Path> = locations.try_collect().await.unwrap_or_default();
                let refused = paths.into_iter().map(|_| {
                    let source = "The specified key does not exist. (code: NoSuchKey)".into();
                    Err(object_store::Error::Generic { store: "slow", source })
                });
                return futures_util::stream::iter(refused.collect::<Vec<_>>());
            }
            let deleted = this.0.inner.delete_stream(locations).collect::<Vec<_>>();
            futures_util::stream::iter(this.0.around(deleted).await)
        };
        futures_util::stream::once(deleted).flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let listed =
                this.0.around(async { this.0.inner.list(prefix.as_ref()).collect::<Vec<_>>().await });
            futures_util::stream::iter(listed.await)
        };
        futures_util::stream::once(listed).flatten().boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        self.list(prefix).try_filter(move |meta| std::future::ready(meta.location > offset)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.around(self.0.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.around(self.0.inner.copy_opts(from, to, options)).await
    }
}

#[async_trait]
impl MultipartStore for Shared {
    async fn create_multipart(&self, path: &Path) -> Result<String> {
        self.0.around(self.0.inner.create_multipart(path)).await
    }

    async fn put_part(&self, path: &Path, id: &String, index: usize, data: PutPayload) -> Result<PartId> {
        self.0.around(self.0.inner.put_part(path, id, index, data)).await
    }

    async fn complete_multipart(&self, path: &Path, id: &String, parts: Vec<PartId>) -> Result<PutResult> {
        self.0.around(self.0.inner.complete_multipart(path, id, parts)).await
    }

    async fn abort_multipart(&self, path: &Path, id: &String) -> Result<()> {
        self.0.around(self.0.inner.abort_multipart(path, id)).await
    }
}
