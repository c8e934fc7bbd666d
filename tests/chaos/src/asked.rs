//! The registry asked past the front, by a reader that shares nothing with what is tested: what a tag names, and whether all of it is there,
//! byte for byte.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use idp_test_support::faults::digest_of;
use serde_json::Value;
use tokio::net::TcpStream;

/// A registry, and what of it has been read and found right already.
#[derive(Debug)]
pub(crate) struct Asked {
    address: String,
    authorization: Option<String>,
    right: Mutex<HashSet<(String, String)>>,
}

impl Asked {
    pub(crate) fn new(address: &str, login: Option<&(String, String)>) -> Self {
        let authorization =
            login.map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        Self { address: address.to_owned(), authorization, right: Mutex::default() }
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Bytes)> {
        self.send("GET", path).await
    }

    /// Whether the registry says that it has a blob.
    pub(crate) async fn has(&self, repository: &str, digest: &str) -> Result<bool> {
        Ok(self.send("HEAD", &format!("/v2/{repository}/blobs/{digest}")).await?.0 == StatusCode::OK)
    }

    /// A registry may close a connection on a busy machine; that is not what is looked for here.
    async fn send(&self, method: &str, path: &str) -> Result<(StatusCode, Bytes)> {
        let mut tries = 5;
        loop {
            tries -= 1;
            match self.send_once(method, path).await {
                Err(_) if tries > 0 => tokio::time::sleep(Duration::from_millis(300)).await,
                done => return done,
            }
        }
    }

    async fn send_once(&self, method: &str, path: &str) -> Result<(StatusCode, Bytes)> {
        let stream = TcpStream::connect(&self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::builder().method(method).uri(path).header("host", &self.address).header(
            "accept",
            "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
             application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json",
        );
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// What a tag names, by hashing it; nothing where there is no such tag.
    pub(crate) async fn tag(&self, repository: &str, tag: &str) -> Result<Option<String>> {
        let (status, bytes) = self.get(&format!("/v2/{repository}/manifests/{tag}")).await?;
        match status {
            StatusCode::OK => Ok(Some(digest_of(&bytes))),
            StatusCode::NOT_FOUND => Ok(None),
            other => bail!("{} answers {other} for {repository}:{tag}", self.address),
        }
    }

    /// Everything below a manifest is there and right. The manifests, the root first.
    pub(crate) async fn whole(&self, repository: &str, digest: &str) -> Result<Vec<(String, Bytes)>> {
        let mut manifests = Vec::new();
        let mut waiting = vec![digest.to_owned()];
        while let Some(digest) = waiting.pop() {
            let (status, bytes) = self.get(&format!("/v2/{repository}/manifests/{digest}")).await?;
            ensure!(status == StatusCode::OK, "manifest {digest} of {repository}: {status}");
            ensure!(digest_of(&bytes) == digest, "manifest {digest} of {repository} has other bytes");
            let document: Value = serde_json::from_slice(&bytes)?;
            for child in document["manifests"].as_array().into_iter().flatten() {
                waiting.push(child["digest"].as_str().context("a child without a digest")?.to_owned());
            }
            let blobs = document["layers"].as_array().into_iter().flatten();
            for blob in blobs.chain(document.get("config")) {
                let size = blob["size"].as_u64().context("a blob without a size")?;
                self.blob(repository, blob["digest"].as_str().context("a blob without a digest")?, size)
                    .await?;
            }
            manifests.push((digest, bytes));
        }
        Ok(manifests)
    }

    async fn blob(&self, repository: &str, digest: &str, size: u64) -> Result<()> {
        let key = (repository.to_owned(), digest.to_owned());
        if self.right.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return Ok(());
        }
        let bytes = self.bytes(repository, digest).await?;
        ensure!(
            bytes.len() as u64 == size,
            "blob {digest} of {repository} has {} bytes, not {size}",
            bytes.len()
        );
        self.right.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        Ok(())
    }

    /// A blob, checked.
    pub(crate) async fn bytes(&self, repository: &str, digest: &str) -> Result<Bytes> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let (status, bytes) = self.get(&path).await?;
        ensure!(status == StatusCode::OK, "blob {digest} of {repository}: {status}");
        ensure!(digest_of(&bytes) == digest, "blob {digest} of {repository} has other bytes");
        Ok(bytes)
    }
}
