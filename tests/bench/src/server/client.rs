//! The least client that pushes and pulls: one kept connection, no checks but of the status, no body twice.

use std::ops::Range;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::{Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// An index that names nothing needs no blobs.
pub(crate) fn index(note: &str) -> Bytes {
    let media = "application/vnd.oci.image.index.v1+json";
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media}","manifests":[],"annotations":{{"note":"{note}"}}}}"#
    );
    text.into()
}

/// `sha256:…`.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Layer, config, manifest; nobody has them yet.
pub(crate) fn small_image(seed: &str) -> (Bytes, Bytes, Bytes) {
    let mut layer = Vec::new();
    let mut block = Sha256::digest(seed.as_bytes());
    while layer.len() < 4096 {
        layer.extend(block);
        block = Sha256::digest(block);
    }
    let config = format!(r#"{{"architecture":"amd64","os":"linux","note":"{seed}"}}"#);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
        digest(config.as_bytes()),
        config.len(),
        digest(&layer),
        layer.len()
    );
    (layer.into(), config.into(), manifest.into())
}

/// A connection.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    host: String,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_owned() })
    }

    async fn send(
        &mut self,
        method: Method,
        target: &str,
        media_type: &str,
        length: u64,
        body: Body,
    ) -> Result<http::Response<Incoming>> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, media_type)
            .header(CONTENT_LENGTH, length)
            .body(body)?;
        Ok(self.sender.send_request(request).await?)
    }

    async fn expect(
        &mut self,
        method: Method,
        target: &str,
        media_type: &str,
        body: &Bytes,
        status: StatusCode,
    ) -> Result<http::HeaderMap> {
        let body_length = body.len() as u64;
        let body = Full::new(body.clone()).boxed_unsync();
        let response = self.send(method, target, media_type, body_length, body).await?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        ensure!(parts.status == status, "{target}: {} {}", parts.status, String::from_utf8_lossy(&bytes));
        Ok(parts.headers)
    }

    async fn session(&mut self, repository: &str) -> Result<String> {
        let target = format!("/v2/{repository}/blobs/uploads/");
        let headers = self.expect(Method::POST, &target, OCTETS, &Bytes::new(), StatusCode::ACCEPTED).await?;
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let path = location.strip_prefix(&format!("http://{}", self.host)).unwrap_or(location);
        Ok(if path.contains('?') { format!("{path}&") } else { format!("{path}?") })
    }

    /// POST, then PUT.
    pub(crate) async fn blob(&mut self, repository: &str, bytes: &Bytes) -> Result<()> {
        let target = format!("{}digest={}", self.session(repository).await?, digest(bytes));
        self.expect(Method::PUT, &target, OCTETS, bytes, StatusCode::CREATED).await.map(drop)
    }

    /// A blob that is this piece, so many times.
    pub(crate) async fn repeated(&mut self, repository: &str, piece: &Bytes, times: u64) -> Result<()> {
        let mut hash = Sha256::new();
        (0..times).for_each(|_| hash.update(piece));
        let digest =
            hash.finalize().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        let target = format!("{}digest={digest}", self.session(repository).await?);
        let small: Vec<Bytes> = (0..piece.len())
            .step_by(64 * 1024)
            .map(|at| piece.slice(at..(at + 64 * 1024).min(piece.len())))
            .collect();
        let frames = (0..times).flat_map(move |_| small.clone()).map(|bytes| Ok(Frame::data(bytes)));
        let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
        let response = self.send(Method::PUT, &target, OCTETS, piece.len() as u64 * times, body).await?;
        ensure!(response.status() == StatusCode::CREATED, "{target}: {}", response.status());
        Ok(())
    }

    /// By its tag.
    pub(crate) async fn manifest(&mut self, repository: &str, tag: &str, bytes: &Bytes) -> Result<()> {
        let target = format!("/v2/{repository}/manifests/{tag}");
        self.expect(Method::PUT, &target, media(bytes), bytes, StatusCode::CREATED).await.map(drop)
    }

    /// By its digest, with many tags.
    pub(crate) async fn tags(&mut self, repository: &str, bytes: &Bytes, tags: Range<usize>) -> Result<()> {
        let tags: Vec<String> = tags.map(|number| format!("tag=t{number:06}")).collect();
        let target = format!("/v2/{repository}/manifests/{}?{}", digest(bytes), tags.join("&"));
        self.expect(Method::PUT, &target, media(bytes), bytes, StatusCode::CREATED).await.map(drop)
    }

    /// Reads an answer to its end, and says how long it was.
    pub(crate) async fn swallow(&mut self, target: &str) -> Result<u64> {
        let body = Full::new(Bytes::new()).boxed_unsync();
        let response = self.send(Method::GET, target, OCTETS, 0, body).await?;
        ensure!(response.status() == StatusCode::OK, "{target}: {}", response.status());
        let (mut body, mut count) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            count += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(count)
    }
}

const OCTETS: &str = "application/octet-stream";

fn media(manifest: &Bytes) -> &'static str {
    let is_index = manifest.windows(10).any(|part| part == b"\"manifests");
    if is_index {
        "application/vnd.oci.image.index.v1+json"
    } else {
        "application/vnd.oci.image.manifest.v1+json"
    }
}
