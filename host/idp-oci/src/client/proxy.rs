//! Which proxy stands before a URL: what the environment and the system say, or rules of the caller. Asks nobody and sends nothing.
//!
//! `NO_PROXY` is read as curl does (names with all below them, addresses, CIDR ranges, `*`), and an entry may name a port. This machine
//! is never asked through a proxy: what is called `localhost` there is another one.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::ClientBuilder;
use url::Url;

use super::http::{HttpOptions, authority};
use super::redirect::Place;

/// Rules in the form of the usual variables.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyRules {
    /// For http: a URL, empty for none.
    pub http: String,
    /// For https.
    pub https: String,
    /// What is reached without: `NO_PROXY`.
    pub except: String,
}

impl fmt::Debug for ProxyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL may hold a password.
        f.write_str("ProxyRules")
    }
}

/// The proxies of one process.
#[derive(Debug)]
pub struct Proxies {
    matcher: Matcher,
    /// Entries of `NO_PROXY` with a port; such a matcher takes everything but its entry.
    ports: Vec<(u16, Matcher)>,
}

impl Proxies {
    /// The proxies that connections with these options go by.
    pub(super) fn wanted(options: &HttpOptions) -> Option<Arc<Self>> {
        match &options.proxy {
            Some(rules) => Some(Arc::new(Self::of(rules))),
            None => options.proxy_from_env.then(|| Arc::new(Self::from_system())),
        }
    }

    /// Has the library ask us, for every request.
    pub(super) fn set(proxies: Option<Arc<Self>>, builder: ClientBuilder) -> ClientBuilder {
        match proxies {
            Some(proxies) => builder.proxy(reqwest::Proxy::custom(move |url| proxies.before(url))),
            None => builder.no_proxy(),
        }
    }

    /// What the environment says (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), and the system where it has settings.
    pub fn from_system() -> Self {
        let except = ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok());
        Self { matcher: Matcher::from_system(), ports: ports(&except.unwrap_or_default()) }
    }

    /// What the caller says.
    pub fn of(rules: &ProxyRules) -> Self {
        let builder = Matcher::builder().http(rules.http.as_str()).https(rules.https.as_str());
        Self { matcher: builder.no(rules.except.as_str()).build(), ports: ports(&rules.except) }
    }

    /// The proxy before a URL, with its user and password.
    pub fn before(&self, url: &Url) -> Option<Url> {
        let uri: http::Uri = url.as_str().parse().ok()?;
        let port = url.port_or_known_default();
        let excepted =
            |(number, entry): &(u16, Matcher)| port == Some(*number) && entry.intercept(&uri).is_none();
        if Place::of(url) == Place::Loopback || self.ports.iter().any(excepted) {
            return None;
        }
        whole(&self.matcher.intercept(&uri)?)
    }

    /// `host[:port]` of the proxy before a URL, for errors.
    pub fn name(&self, url: &Url) -> Option<String> {
        self.before(url).map(|proxy| authority(&proxy))
    }
}

/// `host:port` entries; those without a port are the matcher's own business.
fn ports(except: &str) -> Vec<(u16, Matcher)> {
    let entries = except.split(',').filter_map(|entry| {
        let (host, port) = entry.trim().rsplit_once(':')?;
        // `fd00::1` ends in no port.
        let whole = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let matcher = || Matcher::builder().all("http://proxy.invalid").no(host.to_owned()).build();
        (whole && !host.is_empty()).then(|| Some((port.parse().ok()?, matcher()))).flatten()
    });
    entries.collect()
}

fn whole(intercept: &Intercept) -> Option<Url> {
    let mut url: Url = intercept.uri().to_string().parse().ok()?;
    let basic = intercept.basic_auth().and_then(|value| {
        let encoded = value.to_str().ok()?.strip_prefix("Basic ")?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
        String::from_utf8(decoded).ok()
    });
    let raw = || intercept.raw_auth().map(|(user, password)| format!("{user}:{password}"));
    if let Some(pair) = basic.or_else(raw) {
        let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
        url.set_username(user).ok()?;
        url.set_password(Some(password).filter(|password| !password.is_empty())).ok()?;
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::{Proxies, ProxyRules};

    /// Case 15.
    #[test]
    fn users_and_passwords_survive() {
        let rules = ProxyRules {
            http: "http://us%40er:p%3Aa%2Fss@proxy.example:3128".to_owned(),
            https: "proxy.example".to_owned(),
            ..ProxyRules::default()
        };
        let proxies = Proxies::of(&rules);
        let before = |url: &str| proxies.before(&url.parse().expect("a URL")).map(String::from);
        assert_eq!(
            before("http://r.example/").as_deref(),
            Some("http://us%40er:p%3Aa%2Fss@proxy.example:3128/")
        );
        assert_eq!(before("https://r.example/").as_deref(), Some("http://proxy.example/"));
        assert_eq!(
            proxies.name(&"http://r.example".parse().expect("a URL")).as_deref(),
            Some("proxy.example:3128")
        );
        assert_eq!(format!("{rules:?}"), "ProxyRules");
    }
}
