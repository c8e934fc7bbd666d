//! Where a request comes from and where it was sent: the client's address and the registry's origin, also behind proxies.
//!
//! A connection says its address; what `X-Forwarded-For` and `X-Forwarded-Proto` say is believed only of proxies that are
//! configured as trusted, because anybody can write them. In: a request's head. Out: an address and `https://host:port`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::header::{HOST, HeaderName};
use http::request::Parts;

use crate::name::Registry;
use crate::server::Peer;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Addresses that share a prefix: `10.0.0.0/8`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network: write an address or address/bits, as in 10.0.0.0/8")]
pub struct NetworkError(String);

impl Network {
    /// Whether the address is one of them. IPv4 in IPv6 is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(own) & mask == u32::from(other) & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(own) & mask == u128::from(other) & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let refuse = || NetworkError(text.chars().take(100).collect());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(refuse)?
            }
            Some(_) => return Err(refuse()),
            None => most,
        };
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Where a request comes from, and where it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    /// The client's address.
    pub(crate) address: Option<IpAddr>,
    /// `scheme://host[:port]` of this registry, as the client has it; empty where it names no host.
    pub(crate) registry: String,
}

impl Origin {
    /// What a request's connection and head say.
    /// `tls`: whether the connection is encrypted.
    pub(crate) fn of(parts: &Parts, trusted: &[Network], mut tls: bool) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let address = parts.extensions.get::<Peer>().map(|peer| peer.0.ip().to_canonical());
        let mut client = address;
        if address.is_some_and(is_trusted) {
            // The nearest that is no proxy of ours; what stands before it the client may have written itself.
            for hop in hops(parts) {
                let Ok(hop) = hop.parse::<IpAddr>() else { break };
                client = Some(hop.to_canonical());
                if !is_trusted(hop) {
                    break;
                }
            }
            match parts.headers.get(FORWARDED_PROTO).map(|value| value.as_bytes()) {
                Some(b"https") => tls = true,
                Some(b"http") => tls = false,
                _ => {}
            }
        }
        // Of HTTP/2 the authority is in the URI.
        let host = parts.uri.authority().map(|authority| authority.as_str());
        let host = host.or_else(|| parts.headers.get(HOST).and_then(|value| value.to_str().ok()));
        let host = host.and_then(|host| host.parse::<Registry>().ok());
        let scheme = if tls { "https" } else { "http" };
        let registry = host.map(|host| format!("{scheme}://{host}")).unwrap_or_default();
        Self { address: client, registry }
    }
}

/// The addresses of `X-Forwarded-For`, the nearest first.
fn hops(parts: &Parts) -> Vec<&str> {
    let values = parts.headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let mut hops: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    hops.reverse();
    hops
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{Network, Origin};
    use crate::server::Peer;

    fn origin(peer: &str, tls: bool, headers: &[(&str, &str)]) -> (String, String) {
        let mut request = Request::get("/v2/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let address = format!("{peer}:1").parse().expect("an address");
        let request = request.extension(Peer(address)).body(()).expect("a request");
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "::1"].iter().map(|text| text.parse().expect("a network")).collect();
        let origin = Origin::of(&request.into_parts().0, &trusted, tls);
        (origin.address.map(|address| address.to_string()).unwrap_or_default(), origin.registry)
    }

    #[test]
    fn only_our_own_proxies_are_believed() {
        let host = ("host", "r.example:5000");
        let forwarded = ("x-forwarded-for", "192.0.2.66, 198.51.100.7, 10.0.0.2");
        let proto = ("x-forwarded-proto", "https");
        for (peer, headers, address, registry) in [
            ("192.0.2.1", vec![host], "192.0.2.1", "http://r.example:5000"),
            ("192.0.2.1", vec![host, forwarded, proto], "192.0.2.1", "http://r.example:5000"),
            ("10.1.2.3", vec![host, forwarded, proto], "198.51.100.7", "https://r.example:5000"),
            ("[::ffff:10.1.2.3]", vec![host, forwarded], "198.51.100.7", "http://r.example:5000"),
            ("[::1]", vec![host, ("x-forwarded-for", "junk")], "::1", "http://r.example:5000"),
            ("10.1.2.3", vec![host, ("x-forwarded-for", "10.0.0.9")], "10.0.0.9", "http://r.example:5000"),
            ("10.1.2.3", vec![("host", "a b")], "10.1.2.3", ""),
            ("10.1.2.3", vec![], "10.1.2.3", ""),
        ] {
            assert_eq!(origin(peer, false, &headers), (address.into(), registry.into()), "{headers:?}");
        }
        assert_eq!(origin("192.0.2.1", true, &[host]).1, "https://r.example:5000");
        let behind = [host, ("x-forwarded-proto", "http")];
        assert_eq!(origin("192.0.2.1", true, &behind).1, "https://r.example:5000");
    }

    #[test]
    fn networks() {
        for (network, address, expect) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "2001:db8:1::1", true),
        ] {
            let network: Network = network.parse().expect("a network");
            assert_eq!(network.contains(address.parse().expect("an address")), expect, "{network} {address}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "example", "10.0.0/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
