//! The providers' requests over the pipeline's HTTP: same certificates, same proxies, same redaction in the debug log. A connection goes
//! to the addresses that the egress check has looked at and to no others, or to the proxy.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use idp_oci::client::http::{Body, Http, HttpError, HttpOptions, Request, Resolve};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::provider::{Exchange, RawAnswer, Transport, TransportError};

/// Sends what a provider asks for.
pub struct Pipeline {
    http: Http,
    pins: Arc<Pins>,
    proxied: Http,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL may hold a password.
        f.write_str("Pipeline")
    }
}

/// Names with the addresses that were checked for them.
#[derive(Debug, Default)]
struct Pins(Mutex<HashMap<String, Vec<IpAddr>>>);

#[async_trait]
impl Resolve for Pins {
    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = pins.get(host).ok_or_else(|| io::Error::other("this name was not checked"))?;
        Ok(addresses.iter().map(|address| SocketAddr::new(*address, 0)).collect())
    }
}

impl Pipeline {
    /// With the options of the pipeline's own connections.
    pub fn new(options: &HttpOptions) -> Self {
        let pins = Arc::new(Pins::default());
        let resolver: Arc<dyn Resolve> = pins.clone();
        let http = Http::new(HttpOptions {
            resolver: Some(resolver),
            proxy_from_env: false,
            proxy: None,
            ..options.clone()
        });
        Self { http, pins, proxied: Http::new(options.clone()) }
    }
}

#[async_trait]
impl Transport for Pipeline {
    fn behind_proxy(&self, url: &Url) -> bool {
        self.proxied.is_proxied(url)
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }

    async fn exchange(&self, exchange: Exchange) -> Result<RawAnswer, TransportError> {
        let proxied = self.behind_proxy(&exchange.url);
        if !proxied && let Some(host) = exchange.url.host_str() {
            let mut pins = self.pins.0.lock().unwrap_or_else(PoisonError::into_inner);
            pins.insert(host.to_owned(), exchange.addresses);
        }
        let method = Method::from_bytes(exchange.method.as_bytes())
            .map_err(|_| TransportError::Invalid("not a method".to_owned()))?;
        let mut request = Request::new(method, exchange.url);
        request.credentials = headers(&exchange.headers)?;
        if !exchange.body.is_empty() {
            request.body = Body::Bytes(exchange.body.to_vec().into());
        }
        let http = if proxied { &self.proxied } else { &self.http };
        let cap = u64::try_from(exchange.body_max).unwrap_or(u64::MAX);
        let answer = tokio::time::timeout(exchange.timeout, http.send_once(&request, cap))
            .await
            .map_err(|_| TransportError::Timeout(exchange.timeout))?
            .map_err(|error| match error {
                HttpError::Connect { why, .. } => TransportError::Connect(why),
                HttpError::Tls(why) => TransportError::Untrusted(why),
                HttpError::TooLarge(_) => TransportError::TooLarge(exchange.body_max),
                HttpError::Setup(text) => TransportError::Invalid(text),
                other => TransportError::Broken(other.to_string()),
            })?;
        Ok(RawAnswer {
            status: answer.status.as_u16(),
            headers: answer
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
            body: zeroize::Zeroizing::new(answer.body.to_vec()),
        })
    }
}

/// Every value may hold a secret: all of them are marked, so that nothing prints them.
fn headers(pairs: &[(String, zeroize::Zeroizing<Vec<u8>>)]) -> Result<HeaderMap, TransportError> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let unsendable = || TransportError::Invalid(format!("header `{name}` cannot be sent"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable())?;
        let mut value = HeaderValue::from_bytes(value).map_err(|_| unsendable())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::{Exchange, HttpOptions, Pipeline, Transport as _, TransportError};

    #[tokio::test]
    async fn a_server_that_cannot_be_trusted_is_not_one_that_is_away() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let _ = stream.read(&mut [0; 512])?;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        });
        let exchange = Exchange {
            method: "GET".to_owned(),
            url: format!("https://{address}/v2/").parse().expect("a URL"),
            headers: Vec::new(),
            body: Vec::new().into(),
            addresses: vec![address.ip()],
            timeout: Duration::from_secs(10),
            body_max: 1024,
        };
        let answer = Pipeline::new(&HttpOptions::default()).exchange(exchange).await;
        assert!(matches!(answer, Err(TransportError::Untrusted(_))), "{answer:?}");
    }
}
