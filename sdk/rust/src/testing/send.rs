//! `http.send` of the tests: the checks of the real one that depend on the manifest, then the script.

use std::collections::BTreeMap;

use super::host::Host;
use super::sys::render;
use super::value::{self, Audience, Secret};
use crate::contract::{Error, ErrorKind, Result};
use crate::http::{Body, Capture, Request};
use crate::{Challenge, link};

/// Headers that only the host sets.
const RESERVED: [&str; 9] = [
    "host",
    "cookie",
    "content-length",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that stay readable on a sealed answer; `ratelimit-`, `x-ratelimit-` and `docker-` are prefixes.
const HARMLESS: [&str; 8] = [
    "content-type",
    "www-authenticate",
    "retry-after",
    "link",
    "date",
    "content-length",
    "location",
    "x-total-count",
];

/// An answer of the script.
pub(crate) struct Response {
    status: u16,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    captured: BTreeMap<String, Secret>,
    sealed: bool,
    /// Sealed, and the manifest opens the whole body.
    open: bool,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Response({} {}, sealed: {})", self.status, self.url, self.sealed)
    }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        let lower = name.to_ascii_lowercase();
        let harmless = HARMLESS.contains(&lower.as_str())
            || ["ratelimit-", "x-ratelimit-", "docker-"].iter().any(|prefix| lower.starts_with(prefix))
            || Host::with(|host| {
                let known = host.known();
                host.manifest
                    .as_ref()
                    .is_some_and(|manifest| manifest.public_header(&known, &self.url, &lower))
            });
        if lower == "set-cookie" || (self.sealed && !harmless) {
            return Vec::new();
        }
        let values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let sealed = self.sealed && lower == "location";
        values
            .map(
                |(_, value)| {
                    if sealed {
                        value.split('?').next().unwrap_or_default().to_owned()
                    } else {
                        value.clone()
                    }
                },
            )
            .collect()
    }

    pub(crate) fn body(&self) -> Result<Vec<u8>> {
        if self.sealed && !self.open {
            return Err(Error::denied(format!("the answer of {} is sealed", self.url)).code("sealed"));
        }
        Ok(self.body.clone())
    }

    pub(crate) fn json_scalar(&self, pointer: &str) -> Option<String> {
        let public = Host::with(|host| {
            let known = host.known();
            host.manifest.as_ref().is_some_and(|manifest| manifest.public(&known, &self.url, pointer))
        });
        if self.sealed && !public {
            return None;
        }
        let document: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        match document.pointer(pointer)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            serde_json::Value::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }

    pub(crate) fn captured(&self, name: &str) -> Option<Secret> {
        self.captured.get(name).map(Secret::duplicate)
    }

    pub(crate) fn sealed(&self) -> bool {
        self.sealed
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }
}

fn refused(code: &str, message: String) -> Error {
    Error::new(ErrorKind::EgressDenied, message).code(code)
}

pub(crate) fn send(request: &Request<'_>) -> Result<Response> {
    let origin = link::origin(&request.url).to_owned();
    Host::with(|host| {
        let known = host.known();
        if host
            .manifest
            .as_ref()
            .is_some_and(|manifest| !manifest.grants(&known, &request.method, &request.url))
        {
            return Err(refused("origin", format!("{} {} is not granted", request.method, request.url)));
        }
        let mut rendered: Vec<&Secret> = Vec::new();
        let mut headers = Vec::new();
        for (name, value) in &request.headers {
            let lower = name.to_ascii_lowercase();
            if RESERVED.contains(&lower.as_str()) || lower.starts_with("proxy-") {
                return Err(refused("header", format!("a provider may not set the header `{name}`")));
            }
            let (bytes, secrets) = render(value);
            if lower == "authorization" && secrets.is_empty() {
                return Err(refused("header", "`Authorization` needs a secret segment".to_owned()));
            }
            headers.push((lower, String::from_utf8_lossy(&bytes).into_owned()));
            rendered.extend(secrets);
        }
        let body = match &request.body {
            Body::Empty => String::new(),
            Body::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Body::Text(parts) => {
                let (bytes, secrets) = render(parts);
                rendered.extend(secrets);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Body::Form(fields) => {
                let mut encoded = Vec::new();
                for (name, value) in fields {
                    let (bytes, secrets) = render(value);
                    rendered.extend(secrets);
                    encoded.push(format!(
                        "{}={}",
                        link::percent(name),
                        link::percent(&String::from_utf8_lossy(&bytes))
                    ));
                }
                encoded.join("&")
            }
        };
        // A template of the manifest admits what it may stand for.
        let admits = |secret: &&Secret| {
            let audience = &secret.0.audience;
            audience.iter().any(|pattern| pattern == value::ANYWHERE || known.covers(pattern, &origin))
        };
        if let Some(stray) = rendered.iter().find(|secret| !admits(secret)) {
            return Err(refused(
                "audience",
                format!("a secret for {:?} may not be sent to {origin}", stray.0.audience),
            ));
        }
        let line = format!("{} {}", request.method, request.url);
        let Some(exchange) = host.exchanges.get(host.sent).cloned() else {
            host.failures.push(format!("`{line}` was not expected"));
            return Err(Error::unavailable(format!("nothing is scripted for `{line}`")).code("unscripted"));
        };
        host.sent += 1;
        if let Some(mismatch) = exchange.mismatch(&line, &headers, &body) {
            host.failures.push(mismatch.clone());
            return Err(Error::unavailable(mismatch).code("unscripted"));
        }
        if exchange.status == 0 {
            return Err(Error::unavailable(format!("{origin} does not answer")).code("connect"));
        }
        let sealed = rendered.iter().any(|secret| secret.0.long_lived)
            || host.manifest.as_ref().is_some_and(|manifest| manifest.token_endpoint(&known, &request.url));
        if origin == known.registry {
            let values = exchange
                .reply_headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
            let challenges =
                values.flat_map(|(_, value)| Challenge::parse(value)).filter(|one| one.is("bearer"));
            host.learned.extend(challenges.filter_map(|challenge| challenge.realm_url(&known.registry)));
        }
        let audience: Audience = [origin, known.registry.clone()].into_iter().collect();
        let captured = capture(&request.captures, &exchange, &audience);
        let blank = |text: &str| {
            let secrets = rendered.iter().copied().chain(captured.values());
            secrets
                .flat_map(|secret| value::forms(&secret.0.bytes))
                .fold(text.to_owned(), |text, form| text.replace(&form, "***"))
        };
        let open = host.manifest.as_ref().is_some_and(|manifest| manifest.public(&known, &request.url, "*"));
        Ok(Response {
            status: exchange.status,
            url: request.url.clone(),
            headers: exchange
                .reply_headers
                .iter()
                .map(|(name, value)| (name.clone(), blank(value)))
                .collect(),
            body: blank(&exchange.reply).into_bytes(),
            captured,
            sealed,
            open,
        })
    })
}

/// The captured values; an empty one counts as absent.
fn capture(wanted: &[Capture], exchange: &super::Exchange, audience: &Audience) -> BTreeMap<String, Secret> {
    let found = wanted.iter().filter_map(|capture| {
        let text = match capture.source {
            "json-pointer" => {
                let document: serde_json::Value = serde_json::from_str(&exchange.reply).ok()?;
                document.pointer(&capture.selector)?.as_str()?.to_owned()
            }
            "header" => {
                let mut headers = exchange.reply_headers.iter();
                headers.find(|(name, _)| name.eq_ignore_ascii_case(&capture.selector))?.1.clone()
            }
            _ => exchange.reply.clone(),
        };
        let secret = Secret::new(text.clone().into_bytes(), audience.clone(), false, true);
        (!text.is_empty()).then_some((capture.name.clone(), secret))
    });
    found.collect()
}
