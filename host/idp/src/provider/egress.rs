//! The one way out of the sandbox. For every hop: origin, method and path against the grants; the audience of every secret in it; the resolved
//! addresses; then the exchange. Redirects are followed here. What comes back is cut, sealed and blanked in [`super::answer`].
//! Data in, [`Answered`] or a refusal out; knows no guest.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use super::address::Class;
use super::answer::{Answered, Capture, Seal, render};
use super::challenge;
use super::error::{Limit, LimitHit};
use super::grants::{Allowed, Grants};
use super::manifest::{Manifest, PublicPointers};
use super::pattern::{Captures, Origin, OriginPattern, Symbols, path_matches};
use super::scrub::Scrubber;
use super::secrets::{Held, Rendered};
use super::transport::{Exchange, RawAnswer, Transport, TransportError};

/// Bytes of the largest answer.
pub(crate) const ANSWER_MAX: usize = 4 * 1024 * 1024;
/// Bytes of all answers of a call: parsed, they take many times that.
const RECEIVED_MAX: usize = 32 * 1024 * 1024;
/// Redirects in a row, whatever the guest asks for.
const REDIRECTS_MAX: u8 = 10;
/// Realms in one call.
const REALMS_MAX: usize = 8;
/// For one exchange, unless the guest asks for less.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The host does not let it out.
    #[error("{message}")]
    Denied { code: &'static str, message: String },
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The call ends here.
    #[error(transparent)]
    Limit(#[from] LimitHit),
    /// It went out, or tried to.
    #[error("{origin}: {error}")]
    Transport { origin: String, error: TransportError },
}

fn denied(code: &'static str, message: impl Into<String>) -> Refused {
    Refused::Denied { code, message: message.into() }
}

/// A request of a guest, rendered.
pub(crate) struct Outgoing {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, Rendered)>,
    pub(crate) body: Rendered,
    pub(crate) captures: Vec<Capture>,
    pub(crate) max_redirects: u8,
    pub(crate) timeout: Option<Duration>,
}

/// What a provider may do for one registry; the same for every call.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) grants: Grants,
    token_endpoints: Vec<(OriginPattern, String)>,
    public: Vec<PublicPointers>,
}

impl Policy {
    /// Fills the manifest's templates with the captured parts of the registry's name.
    pub(crate) fn new(manifest: &Manifest, grants: Grants, captures: &Captures) -> Self {
        let token_endpoints = manifest
            .token_endpoint
            .iter()
            .filter_map(|endpoint| Some((endpoint.origin.fill(captures).ok()?, endpoint.path.clone())))
            .collect();
        Self { grants, token_endpoints, public: manifest.public.clone() }
    }

    /// Whether tokens come from there. A realm is a token endpoint whatever the manifest says.
    fn is_token_endpoint(&self, origin: &Origin, path: &str, symbols: &Symbols) -> bool {
        self.token_endpoints.iter().any(|(pattern, prefix)| {
            let there = match pattern {
                OriginPattern::Realm => false,
                pattern => pattern.matches(origin, symbols),
            };
            there && path_matches(prefix, path)
        }) || symbols.is_realm(origin, path)
    }

    /// What of a sealed answer may be read. `*` opens no token endpoint: what is read there is named, and no token is.
    fn pointers(&self, path: &str, token_endpoint: bool) -> Vec<String> {
        let rules = self.public.iter().filter(|rule| path_matches(&rule.path, path));
        rules
            .flat_map(|rule| rule.pointers.iter())
            .filter(|pointer| !token_endpoint || (*pointer != "*" && !is_token(pointer)))
            .cloned()
            .collect()
    }

    /// Headers of a sealed answer that may be read besides the harmless ones; of a token endpoint none.
    fn headers(&self, path: &str, token_endpoint: bool) -> Vec<String> {
        let rules = self.public.iter().filter(|rule| !token_endpoint && path_matches(&rule.path, path));
        rules.flat_map(|rule| rule.headers.iter()).cloned().collect()
    }
}

/// Where token endpoints put what this is all about (RFC 6749, 5.1; OpenID Connect; Docker's token specification).
fn is_token(pointer: &str) -> bool {
    let first = pointer.split('/').nth(1).unwrap_or_default();
    matches!(first, "token" | "access_token" | "refresh_token" | "id_token")
}

/// The check and its state in one call.
#[derive(Debug)]
pub(crate) struct Gate {
    policy: Arc<Policy>,
    symbols: Symbols,
    transport: Arc<dyn Transport>,
    left: u32,
    /// Bytes of bodies so far.
    received: usize,
    home: Option<Vec<Class>>,
}

impl Gate {
    /// For one call that may send so many requests.
    pub(crate) fn new(
        policy: Arc<Policy>,
        symbols: Symbols,
        transport: Arc<dyn Transport>,
        requests: u32,
    ) -> Self {
        Self { policy, symbols, transport, left: requests, received: 0, home: None }
    }

    /// What the symbols stand for in this call.
    pub(crate) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Sends a request and follows what may be followed.
    pub(crate) async fn send(&mut self, mut out: Outgoing, scrub: &Scrubber) -> Result<Answered, Refused> {
        check_request(&out)?;
        let mut url = parse(&out.url)?;
        let secrets: Vec<Held> = out
            .headers
            .iter()
            .flat_map(|(_, value)| &value.secrets)
            .chain(&out.body.secrets)
            .cloned()
            .collect();
        for held in &secrets {
            scrub.learn(held)?;
        }
        let mut sealed = secrets.iter().any(Held::long_lived);
        let mut token_endpoint = false;
        let mut followed = 0;
        loop {
            let origin =
                Origin::of(&url).ok_or_else(|| Refused::Invalid("only http and https".to_owned()))?;
            let allowed = self
                .policy
                .grants
                .check(&out.method, &url, &self.symbols)
                .map_err(|denial| denied("origin", denial.to_string()))?;
            let carried = out.headers.iter().flat_map(|(_, value)| &value.secrets).chain(&out.body.secrets);
            for held in carried {
                if !held.admits(&origin, &self.symbols) {
                    return Err(denied(
                        "audience",
                        format!("a secret of this request may not be sent to {origin}"),
                    ));
                }
            }
            let named = matches!(allowed, Allowed::Granted | Allowed::Written);
            if !named && !origin.tls && self.symbols.registry.tls {
                return Err(denied(
                    "origin",
                    format!("{origin}: the realm of an https registry must be https"),
                ));
            }
            let addresses = self.addresses(&origin, &url, allowed).await?;
            self.left = self
                .left
                .checked_sub(1)
                .ok_or_else(|| denied("requests", "this call may send no further request"))?;
            token_endpoint |= self.policy.is_token_endpoint(&origin, url.path(), &self.symbols);
            sealed |= token_endpoint || !named;
            let answer = self.exchange(&out, &url, &origin, addresses).await?;
            self.received += answer.body.len();
            if self.received > RECEIVED_MAX {
                return Err(LimitHit(Limit::Answer).into());
            }
            if origin == self.symbols.registry {
                self.learn_realms(&answer);
            }
            let location = answer.headers.iter().find(|(name, _)| name == "location");
            if let (301..=303 | 307 | 308, Some((_, location))) = (answer.status, location)
                && followed < out.max_redirects.min(REDIRECTS_MAX)
            {
                followed += 1;
                let location = String::from_utf8_lossy(location).into_owned();
                let next = url.join(&location).ok().and_then(|next| parse(next.as_str()).ok());
                let next =
                    next.ok_or_else(|| denied("redirect", format!("{origin} redirects to nowhere")))?;
                redirect(&mut out, &origin, &next, answer.status)?;
                url = next;
                continue;
            }
            if sealed && followed > 0 {
                // As in `location`: what a server puts there is not for the guest.
                url.set_query(None);
            }
            let closed = token_endpoint || allowed == Allowed::Challenge;
            let seal = Seal {
                sealed,
                pointers: self.policy.pointers(url.path(), closed),
                headers: self.policy.headers(url.path(), closed),
                origin,
                url,
            };
            return Ok(render(answer, seal, &out.captures, scrub)?);
        }
    }

    /// A challenge that the registry gives in this call names a realm for the rest of it.
    fn learn_realms(&mut self, answer: &RawAnswer) {
        let values = answer.headers.iter().filter(|(name, _)| name == "www-authenticate");
        let values: Vec<_> = values.map(|(_, value)| String::from_utf8_lossy(value)).collect();
        let challenges = challenge::parse(values.iter().map(AsRef::as_ref));
        for realm in challenge::realms(&challenges, &self.symbols.registry) {
            if self.symbols.realms.len() < REALMS_MAX && !self.symbols.realms.contains(&realm) {
                self.symbols.realms.push(realm);
            }
        }
    }

    /// The addresses of an origin, all of which must be allowed. A name that goes to a proxy has none here: the proxy looks it up, and
    /// where that leads is its network's affair. An address is one there too.
    async fn addresses(
        &mut self,
        origin: &Origin,
        url: &Url,
        allowed: Allowed,
    ) -> Result<Vec<IpAddr>, Refused> {
        if literal(origin).is_none() && self.transport.behind_proxy(url) {
            return Ok(Vec::new());
        }
        let addresses = self.resolve(origin).await?;
        if *origin == self.symbols.registry {
            return Ok(addresses);
        }
        let refuse = |class: Class| {
            denied(
                "address",
                format!("{origin} resolves to a {} address, where the registry is not", class.name()),
            )
        };
        let mut classes = addresses.iter().map(|address| Class::of(*address));
        if allowed == Allowed::Written {
            // A stand-in on this machine, a private endpoint: wherever the registry is. What no API is at stays closed.
            let closed = |class: &Class| matches!(class, Class::Metadata | Class::LinkLocal | Class::Special);
            return classes.find(closed).map_or(Ok(addresses.clone()), |class| Err(refuse(class)));
        }
        let home = match self.home.take() {
            Some(home) => home,
            None => {
                let registry = self.symbols.registry.clone();
                let proxied = literal(&registry).is_none()
                    && registry.to_string().parse().is_ok_and(|url| self.transport.behind_proxy(&url));
                if proxied {
                    Vec::new()
                } else {
                    self.resolve(&registry).await?.into_iter().map(Class::of).collect()
                }
            }
        };
        let refused = classes.find(|class| match allowed {
            Allowed::Granted | Allowed::Written => !class.allowed_beside(&home),
            // Behind a proxy nothing is known of the registry, and the internet is where a realm may be.
            Allowed::Challenge | Allowed::RealmHost => {
                !(home.contains(class) || home.is_empty()) || !class.allowed_beside(&home)
            }
        });
        self.home = Some(home);
        match refused {
            None => Ok(addresses),
            Some(class) => Err(refuse(class)),
        }
    }

    async fn resolve(&self, origin: &Origin) -> Result<Vec<IpAddr>, Refused> {
        if let Some(address) = literal(origin) {
            return Ok(vec![address]);
        }
        let host = origin.host.as_str();
        let failed = |why: String| Refused::Transport {
            origin: origin.to_string(),
            error: TransportError::Connect(why),
        };
        let addresses = self
            .transport
            .resolve(host)
            .await
            .map_err(|error| failed(format!("the name does not resolve: {error}")))?;
        if addresses.is_empty() { Err(failed("the name has no address".to_owned())) } else { Ok(addresses) }
    }

    async fn exchange(
        &self,
        out: &Outgoing,
        url: &Url,
        origin: &Origin,
        addresses: Vec<IpAddr>,
    ) -> Result<RawAnswer, Refused> {
        let headers = out.headers.iter().map(|(name, value)| (name.clone(), value.bytes.clone())).collect();
        let exchange = Exchange {
            method: out.method.clone(),
            url: url.clone(),
            headers,
            body: Zeroizing::new(out.body.bytes.to_vec()),
            addresses,
            timeout: out.timeout.unwrap_or(TIMEOUT).min(TIMEOUT),
            body_max: ANSWER_MAX,
        };
        let answer = self
            .transport
            .exchange(exchange)
            .await
            .map_err(|error| Refused::Transport { origin: origin.to_string(), error })?;
        // What is compressed cannot be searched, and nobody asked for it.
        let coded = answer
            .headers
            .iter()
            .any(|(name, value)| name == "content-encoding" && !value.eq_ignore_ascii_case(b"identity"));
        if coded {
            return Err(Refused::Invalid(format!(
                "{origin} sent a compressed answer that was not asked for"
            )));
        }
        Ok(answer)
    }
}

/// The address that an origin is written as.
fn literal(origin: &Origin) -> Option<IpAddr> {
    origin.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// A URL without credentials in it; its fragment is dropped.
fn parse(text: &str) -> Result<Url, Refused> {
    let mut url = Url::parse(text).map_err(|error| Refused::Invalid(format!("not a URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refused::Invalid("a URL must not hold credentials".to_owned()));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(denied("origin", "only http and https URLs with a host"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// Changes a request into the one that follows a redirect (RFC 9110, 15.4).
fn redirect(out: &mut Outgoing, from: &Origin, next: &Url, status: u16) -> Result<(), Refused> {
    let to = Origin::of(next).ok_or_else(|| denied("redirect", "a redirect to no origin"))?;
    if from.tls && !to.tls {
        return Err(denied("redirect", format!("{from} redirects to {to}: https never falls to http")));
    }
    let becomes_get = status == 303 || (status < 303 && out.method == "POST");
    if becomes_get && out.method != "HEAD" {
        "GET".clone_into(&mut out.method);
        out.body = Rendered::default();
        out.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
    }
    if *from != to {
        out.headers.retain(|(_, value)| value.secrets.is_empty());
        if !out.body.secrets.is_empty() {
            return Err(denied(
                "redirect",
                format!("{from} redirects a request with a secret in its body to {to}"),
            ));
        }
    }
    Ok(())
}

/// Whether servers take another method, path or host from a header of this lower-case name than the one that was granted.
pub(crate) fn changes_request(name: &str) -> bool {
    (name.starts_with("x-") && name.contains("method"))
        || matches!(name, "x-original-url" | "x-rewrite-url" | "forwarded")
        || name.starts_with("x-forwarded-")
}

/// What no guest may set: what the host decides, what hides the method that was granted, what makes answers unreadable.
fn check_request(out: &Outgoing) -> Result<(), Refused> {
    const REFUSED: [&str; 11] = [
        "host",
        "cookie",
        "content-length",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "accept-encoding",
    ];
    if out.method.is_empty()
        || !out.method.bytes().all(|byte| byte.is_ascii_uppercase())
        || matches!(out.method.as_str(), "CONNECT" | "TRACE")
    {
        return Err(Refused::Invalid("not a method that a provider may use".to_owned()));
    }
    if out.headers.len() > 64 {
        return Err(Refused::Invalid("more than 64 headers".to_owned()));
    }
    for (name, value) in &out.headers {
        let lower = name.to_ascii_lowercase();
        if REFUSED.contains(&lower.as_str()) || lower.starts_with("proxy-") || changes_request(&lower) {
            return Err(denied("header", format!("a provider does not set `{lower}`")));
        }
        if lower == "authorization" && value.secrets.is_empty() {
            return Err(denied("header", "`authorization` needs a secret segment"));
        }
        let token = !lower.is_empty()
            && lower.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        let text = value.bytes.iter().all(|byte| (*byte >= 0x20 && *byte != 0x7f) || *byte == b'\t');
        if !token || !text {
            return Err(Refused::Invalid(format!("header `{}` cannot be sent", lower.escape_debug())));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
