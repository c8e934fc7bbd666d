//! Where an answer may send us: `Location` of redirects and of upload sessions, and the realm of a token service.
//! URLs in, a URL or a refusal out; nothing is sent from here.

use std::net::IpAddr;

use url::{Host, Url};

use super::http::HttpError;
use super::redact;

/// Which part of the network an address literal lies in. Names are taken for public: what they resolve to is the resolver's
/// business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A name, or an address everybody can reach.
    Public,
    /// This machine.
    Loopback,
    /// The link: cloud metadata services live there.
    LinkLocal,
    /// RFC 1918 and unique local addresses.
    Private,
}

impl Place {
    /// The place of a URL's host.
    pub fn of(url: &Url) -> Self {
        match url.host() {
            Some(Host::Ipv4(address)) => Self::of_address(address.into()),
            Some(Host::Ipv6(address)) => Self::of_address(address.into()),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                let local = name == "localhost" || name.ends_with(".localhost");
                if local { Self::Loopback } else { Self::Public }
            }
            None => Self::Public,
        }
    }

    /// The place of an address.
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            // All of 0.0.0.0/8 means this machine, where it means anything.
            IpAddr::V4(v4) if v4.is_loopback() || v4.octets()[0] == 0 => Self::Loopback,
            IpAddr::V4(v4) if v4.is_link_local() => Self::LinkLocal,
            IpAddr::V4(v4) if v4.is_private() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64 => {
                Self::Private
            }
            IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() => Self::Loopback,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::LinkLocal,
            IpAddr::V6(v6) if v6.is_unique_local() => Self::Private,
            _ => Self::Public,
        }
    }
}

/// Same scheme, host and port, a default port written or not (case 9).
pub fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Resolves a `Location` against the URL that answered, and refuses what no registry has a reason to ask for: another scheme,
/// https to http, and addresses of the inner network unless `home`, where the registry itself is, lies there as well.
pub fn resolve(from: &Url, home: Place, location: &str, allow_private: bool) -> Result<Url, HttpError> {
    let refuse = |why: &str| {
        let shown = from.join(location).map_or_else(|_| "…".to_owned(), |url| redact::url(&url));
        HttpError::Redirect(format!("{} sends us to {shown}: {why}", redact::url(from)))
    };
    // Old servers leave the scheme out: `host:5000/v2/…` would parse as a scheme `host`.
    let authority = &from[url::Position::BeforeHost..url::Position::AfterPort];
    let target = match location.strip_prefix(authority) {
        Some(rest) if rest.starts_with('/') => from.join(&format!("//{location}")),
        _ => from.join(location),
    }
    .map_err(|_| refuse("that is not a URL"))?;
    match (from.scheme(), target.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => {
            return Err(refuse(
                "that would go on without TLS. The registry does not know that it is reached by https; \
                 its proxy has to set X-Forwarded-Proto",
            ));
        }
        _ => return Err(refuse("only http and https are followed")),
    }
    let place = Place::of(&target);
    if place != Place::Public && place != home && !allow_private {
        return Err(refuse(
            "that is an address of the inner network, and the registry is not there \
             (allow it with --allow-private-redirects)",
        ));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{Place, resolve, same_origin};

    fn url(text: &str) -> Url {
        text.parse().expect(text)
    }

    /// Cases 1, 2, 5, 6.
    #[test]
    fn locations() {
        let from = url("https://r.example:5000/v2/a/blobs/uploads/");
        for (location, expect) in [
            ("/v2/a/u/1?_state=a%2Fb%3D", "https://r.example:5000/v2/a/u/1?_state=a%2Fb%3D"),
            ("1?x=y", "https://r.example:5000/v2/a/blobs/uploads/1?x=y"),
            ("../u/1", "https://r.example:5000/v2/a/blobs/u/1"),
            ("//cdn.example/u", "https://cdn.example/u"),
            ("r.example:5000/v2/u", "https://r.example:5000/v2/u"),
            (
                "https://s3.example/b?X-Amz-Signature=a%20b%2B",
                "https://s3.example/b?X-Amz-Signature=a%20b%2B",
            ),
        ] {
            let target = resolve(&from, Place::of(&from), location, false).expect(location);
            assert_eq!(target.as_str(), expect);
        }
        for refused in [
            "http://r.example:5000/v2/",
            "file:///etc/passwd",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest",
            "https://10.1.2.3/",
            "https://localhost/",
            "https://0x7f000001/",
            "https://100.64.0.1/",
        ] {
            assert!(resolve(&from, Place::of(&from), refused, false).is_err(), "{refused}");
        }
        assert!(resolve(&from, Place::of(&from), "https://10.1.2.3/", true).is_ok());
        let local = url("http://127.0.0.1:5000/v2/");
        assert!(resolve(&local, Place::of(&local), "http://127.0.0.1:9000/x", false).is_ok());
        assert!(resolve(&local, Place::of(&local), "http://169.254.169.254/x", false).is_err());
    }

    /// Case 9.
    #[test]
    fn default_ports_are_the_same_origin() {
        assert!(same_origin(&url("https://a.example/x"), &url("https://a.example:443/y")));
        assert!(same_origin(&url("http://A.example:80"), &url("http://a.example")));
        assert!(!same_origin(&url("https://a.example"), &url("http://a.example")));
        assert!(!same_origin(&url("https://a.example"), &url("https://a.example:444")));
    }
}
