//! The imports of a component.

use crate::__bindings::host::idp::registry_provider as wit;
pub(crate) use crate::__bindings::host::idp::registry_provider::http::Response;
pub(crate) use crate::__bindings::host::idp::registry_provider::secrets::Secret;
use crate::contract::{Pairs, Result, Scope};
use crate::http::{Body, Request};
use crate::invocation::{Answer, Credential};
use crate::log::Level;
use crate::secret::Segment;
use crate::{Challenge, secret};

pub(crate) fn log(level: Level, message: &str, fields: &Pairs) {
    wit::log::emit(level, message, fields);
}

pub(crate) fn unix_time_ms() -> u64 {
    wit::ambient::unix_time_ms()
}

pub(crate) fn random(len: u32) -> Vec<u8> {
    wit::ambient::random(len)
}

fn lower<'a>(parts: &'a [Segment<'_>]) -> Vec<wit::secrets::Segment<'a>> {
    parts
        .iter()
        .map(|part| match part {
            Segment::Text(text) => wit::secrets::Segment::Text(text.clone().into_owned()),
            Segment::Secret(secret) => wit::secrets::Segment::Secret(&secret.0),
            Segment::Owned(secret) => wit::secrets::Segment::Secret(&secret.0),
        })
        .collect()
}

pub(crate) fn assemble(parts: &[Segment<'_>]) -> Secret {
    wit::secrets::assemble(&lower(parts))
}

pub(crate) fn encode(value: &secret::Secret, encoding: &str) -> Result<Secret> {
    wit::secrets::encode(&value.0, encoding)
}

pub(crate) fn decode(value: &secret::Secret, encoding: &str) -> Result<Secret> {
    wit::secrets::decode(&value.0, encoding)
}

pub(crate) fn digest(algorithm: &str, data: &[Segment<'_>]) -> Result<Secret> {
    wit::secrets::digest(algorithm, &lower(data))
}

pub(crate) fn mac(algorithm: &str, key: &secret::Secret, data: &[Segment<'_>]) -> Result<Secret> {
    wit::secrets::mac(algorithm, &key.0, &lower(data))
}

pub(crate) fn sign(algorithm: &str, key: &secret::Secret, data: &[Segment<'_>]) -> Result<Secret> {
    wit::secrets::sign(algorithm, &key.0, &lower(data))
}

pub(crate) fn send(request: &Request<'_>) -> Result<Response> {
    let body = match &request.body {
        Body::Empty => wit::http::Body::Empty,
        Body::Bytes(bytes) => wit::http::Body::Bytes(bytes.clone()),
        Body::Text(parts) => wit::http::Body::Text(lower(parts)),
        Body::Form(fields) => {
            wit::http::Body::Form(fields.iter().map(|(name, value)| (name.clone(), lower(value))).collect())
        }
    };
    let headers = request.headers.iter();
    wit::http::send(&wit::http::Request {
        method: request.method.clone(),
        url: request.url.clone(),
        headers: headers
            .map(|(name, value)| wit::http::Header { name: name.clone(), value: lower(value) })
            .collect(),
        body,
        captures: request
            .captures
            .iter()
            .map(|capture| wit::http::Capture {
                name: capture.name.clone(),
                source: capture.source.to_owned(),
                selector: capture.selector.clone(),
            })
            .collect(),
        max_redirects: request.max_redirects,
        timeout_ms: request.timeout_ms,
        extra: Vec::new(),
    })
}

pub(crate) fn registry() -> String {
    wit::invocation::registry()
}

pub(crate) fn scheme() -> String {
    wit::invocation::scheme()
}

pub(crate) fn setting(name: &str) -> Option<String> {
    wit::invocation::setting(name)
}

pub(crate) fn credential(slot: &str) -> Option<Credential> {
    wit::invocation::credential(slot).map(|set| Credential {
        kind: set.kind,
        public: set.public,
        secrets: set.secret.into_iter().map(|(name, value)| (name, secret::Secret(value))).collect(),
    })
}

pub(crate) fn challenges() -> Vec<Challenge> {
    let list = wit::invocation::challenges().into_iter();
    list.map(|one| Challenge { scheme: one.scheme, params: one.params }).collect()
}

pub(crate) fn attempt() -> u32 {
    wit::invocation::attempt()
}

pub(crate) fn subject() -> Option<Answer> {
    wit::invocation::subject().map(|answer| Answer {
        method: answer.method,
        url: answer.url,
        status: answer.status,
        headers: answer.headers,
        body: answer.body_prefix,
        extra: answer.extra,
    })
}

pub(crate) fn operation() -> String {
    wit::invocation::operation()
}

pub(crate) fn granted() -> Vec<Scope> {
    wit::invocation::granted()
}

pub(crate) fn dry_run() -> bool {
    wit::invocation::dry_run()
}

pub(crate) fn remembered(key: &str) -> Option<Secret> {
    wit::invocation::remembered(key)
}

pub(crate) fn remember(key: &str, value: secret::Secret, expires_in_s: u32) {
    wit::invocation::remember(key, value.0, expires_in_s);
}
