//! From an answer as it came to what a guest may see of it: captures cut out, sealed where it must be, known secrets blanked.

use std::collections::HashMap;

use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::error::LimitHit;
use super::pattern::{Origin, OriginPattern};
use super::scrub::{BLANK, Scrubber};
use super::secrets::{Audience, Held};
use super::transport::RawAnswer;

/// Something to cut out of an answer.
pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) source: Source,
}

/// Where it stands.
pub(crate) enum Source {
    Pointer(String),
    Header(String),
    Body,
}

/// How an answer is to be treated.
pub(crate) struct Seal {
    pub(crate) sealed: bool,
    pub(crate) pointers: Vec<String>,
    /// Besides the harmless ones.
    pub(crate) headers: Vec<String>,
    pub(crate) origin: Origin,
    pub(crate) url: Url,
}

/// An answer as a guest holds it.
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Answered {
    status: u16,
    headers: Vec<(String, String)>,
    body: Zeroizing<Vec<u8>>,
    json: Option<Value>,
    sealed: bool,
    pointers: Vec<String>,
    captured: HashMap<String, Held>,
    url: String,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answered({} from {})", self.status, self.url)
    }
}

/// Cuts, seals and blanks.
pub(crate) fn render(
    mut answer: RawAnswer,
    seal: Seal,
    captures: &[Capture],
    scrub: &Scrubber,
) -> Result<Answered, LimitHit> {
    let audience = Audience::only(vec![OriginPattern::exactly(&seal.origin), OriginPattern::Registry]);
    let mut json: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let mut captured = HashMap::new();
    let mut cut_json = false;
    for capture in captures {
        let value: Option<Zeroizing<Vec<u8>>> = match &capture.source {
            Source::Body => Some(answer.body.clone()),
            Source::Header(name) => answer
                .headers
                .iter()
                .find(|(header, _)| header.eq_ignore_ascii_case(name))
                .map(|(_, value)| Zeroizing::new(value.clone())),
            Source::Pointer(pointer) => json
                .as_ref()
                .and_then(|json| json.pointer(pointer))
                .and_then(Value::as_str)
                .map(|text| Zeroizing::new(text.as_bytes().to_vec())),
        };
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            // A server that gives back what it was sent makes no other secret of it.
            let held = Held::captured(&value, audience.clone(), &scrub.inside(&value));
            scrub.learn(&held)?;
            captured.insert(capture.name.clone(), held);
        }
    }
    for capture in captures {
        match &capture.source {
            Source::Body => {
                answer.body = Zeroizing::default();
                json = None;
            }
            Source::Header(name) => answer.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name)),
            Source::Pointer(pointer) => {
                if let Some(slot) = json.as_mut().and_then(|json| json.pointer_mut(pointer)) {
                    *slot = Value::String(BLANK.to_owned());
                    cut_json = true;
                }
            }
        }
    }
    // However the server wrote it (escaped, say), a value that was cut is gone from the text too.
    if cut_json && let Some(json) = &json {
        answer.body = Zeroizing::new(json.to_string().into_bytes());
    }
    scrub.bytes(&mut answer.body);
    let mut headers = Vec::with_capacity(answer.headers.len());
    for (name, value) in answer.headers {
        let open = !seal.sealed || is_harmless(&name) || seal.headers.contains(&name);
        if name == "set-cookie" || name == "set-cookie2" || !open {
            continue;
        }
        let mut value = String::from_utf8_lossy(&value).into_owned();
        if name == "location" && seal.sealed {
            value.truncate(value.find(['?', '#']).unwrap_or(value.len()));
        }
        scrub.text(&mut value);
        headers.push((name, value));
    }
    let mut url = seal.url.to_string();
    scrub.text(&mut url);
    if seal.sealed && !seal.pointers.iter().any(|pointer| pointer == "*") {
        answer.body = Zeroizing::default();
    }
    Ok(Answered {
        status: answer.status,
        headers,
        body: answer.body,
        json,
        sealed: seal.sealed,
        pointers: seal.pointers,
        captured,
        url,
    })
}

/// `wit/README.md`, "Secrets": the headers of a sealed answer.
fn is_harmless(name: &str) -> bool {
    matches!(
        name,
        "content-type"
            | "www-authenticate"
            | "retry-after"
            | "link"
            | "date"
            | "content-length"
            | "location"
            | "x-total-count"
    ) || ["ratelimit-", "x-ratelimit-", "docker-"].iter().any(|prefix| name.starts_with(prefix))
}

impl Answered {
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        let matching = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.clone()).collect()
    }

    /// The body; `None` when it is sealed and not public as a whole.
    pub(crate) fn body(&self) -> Option<Vec<u8>> {
        let open = !self.sealed || self.pointers.iter().any(|pointer| pointer == "*");
        open.then(|| self.body.to_vec())
    }

    /// A scalar; of a sealed answer only what is public.
    pub(crate) fn json_scalar(&self, pointer: &str, scrub: &Scrubber) -> Option<String> {
        let open = !self.sealed || self.pointers.iter().any(|public| public == "*" || public == pointer);
        let value = open.then_some(self.json.as_ref()?.pointer(pointer)?)?;
        let mut text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        scrub.text(&mut text);
        Some(text)
    }

    pub(crate) fn captured(&self, name: &str) -> Option<Held> {
        self.captured.get(name).cloned()
    }

    pub(crate) fn sealed(&self) -> bool {
        self.sealed
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }
}
