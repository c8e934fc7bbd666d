//! https or http. A registry is spoken to over TLS, except where plain http was allowed (`--insecure`) or the registry is on this
//! machine, and it turns out to speak no TLS. Found out with the first message of a TLS handshake, so that no HTTP is wasted.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connect::trusting_nobody;
use crate::name::Registry;

/// How long a server has to react to a greeting.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Over TLS.
    Https,
    /// In the clear.
    Http,
}

impl Scheme {
    /// As it stands in URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// Decides. Touches the network only where plain http is allowed; where nothing answers, it is https, and the first request
    /// will say what is wrong.
    pub async fn of(registry: &Registry, insecure: bool) -> Self {
        if !insecure && !registry.is_loopback() {
            return Self::Https;
        }
        match tokio::time::timeout(PATIENCE, speaks_tls(registry)).await {
            Ok(Some(false)) => Self::Http,
            _ => Self::Https,
        }
    }
}

/// Sends a ClientHello and looks at the first byte that comes back. `None` when nothing answers at this port.
async fn speaks_tls(registry: &Registry) -> Option<bool> {
    /// Record types of RFC 8446, 5.1.
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    let host = registry.host().trim_start_matches('[').trim_end_matches(']');
    // A server that speaks plain http only on its default port is looked for there.
    let ports = registry.port().map_or_else(|| vec![443, 80], |port| vec![port]);
    for port in ports {
        let Ok(mut stream) = tokio::net::TcpStream::connect((host, port)).await else { continue };
        if port == 80 {
            return Some(false);
        }
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).ok()?;
        let mut tls = rustls::ClientConnection::new(trusting_nobody().ok()?.into(), name).ok()?;
        let mut hello = Vec::new();
        tls.write_tls(&mut hello).ok()?;
        let mut first = [0];
        // A plain-http server answers 400, or closes without a word.
        let answered =
            stream.write_all(&hello).await.is_ok() && matches!(stream.read(&mut first).await, Ok(1));
        return Some(answered && matches!(first[0], ALERT | HANDSHAKE));
    }
    None
}
