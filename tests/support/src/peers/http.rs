//! The few plain HTTP/1.1 requests needed to see that a peer is up and to prepare it.
//!
//! One connection a request, to loopback or a Unix socket; answers are small. Depends on hyper only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::access::OWN_USER_AGENT;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// One request: method and path, and optionally Basic credentials and a JSON body.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) basic: Option<(&'a str, &'a str)>,
    pub(super) json: Option<&'a serde_json::Value>,
}

impl<'a> Call<'a> {
    /// A bare GET.
    pub(super) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, basic: None, json: None }
    }

    /// Sends it to a TCP address; the answer whole.
    pub(super) async fn send_to(self, address: &str) -> Result<(StatusCode, Bytes), Error> {
        let stream = TcpStream::connect(address).await?;
        self.send_over(stream, address).await
    }

    /// Sends it over a connected stream; the answer whole.
    pub(super) async fn send_over<S>(self, stream: S, host: &str) -> Result<(StatusCode, Bytes), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, OWN_USER_AGENT)
            .header(header::CONNECTION, "close");
        if let Some((user, password)) = self.basic {
            let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = self.json.map(ToString::to_string);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        driver.abort();
        Ok((status, body))
    }
}
