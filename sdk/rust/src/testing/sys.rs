//! The imports of the contract over [`Host`].

use super::host::{Host, Kept};
pub(crate) use super::send::{Response, send};
pub(crate) use super::value::Secret;
use super::value::{self, Audience};
use crate::contract::{Error, Pairs, Result, Scope};
use crate::invocation::{Answer, Credential};
use crate::log::Level;
use crate::secret::Segment;
use crate::{Challenge, secret};

pub(crate) fn log(level: Level, message: &str, fields: &Pairs) {
    Host::with(|host| host.log.push(format!("{level:?} {message} {fields:?}")));
}

pub(crate) fn unix_time_ms() -> u64 {
    Host::with(|host| host.now_ms)
}

/// Not random: a test gets the same bytes every time.
pub(crate) fn random(len: u32) -> Vec<u8> {
    (0..len.min(4096)).map(|index| (index % 251) as u8).collect()
}

/// The bytes of segments, and the secrets among them.
pub(crate) fn render<'a>(parts: &'a [Segment<'_>]) -> (Vec<u8>, Vec<&'a Secret>) {
    let (mut bytes, mut secrets) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Segment::Text(text) => bytes.extend_from_slice(text.as_bytes()),
            Segment::Secret(secret::Secret(value)) | Segment::Owned(secret::Secret(value)) => {
                bytes.extend_from_slice(&value.0.bytes);
                secrets.push(value);
            }
        }
    }
    (bytes, secrets)
}

/// A secret made of others: the intersection of their audiences.
fn made(bytes: Vec<u8>, of: &[&Secret]) -> Secret {
    let mut bound = of.iter().filter(|secret| !secret.0.audience.contains(value::ANYWHERE));
    let audience: Audience = match bound.next() {
        Some(first) => {
            let rest: Vec<_> = bound.collect();
            let everywhere = |origin: &&String| rest.iter().all(|secret| secret.0.audience.contains(*origin));
            first.0.audience.iter().filter(everywhere).cloned().collect()
        }
        None => [value::ANYWHERE.to_owned()].into(),
    };
    Secret::new(bytes, audience, of.iter().any(|secret| secret.0.long_lived), false)
}

impl super::manifest::Known {
    /// Registry and realms.
    pub(crate) fn everywhere(self) -> Audience {
        let realms = self.realms.iter().map(|realm| crate::link::origin(realm).to_owned());
        std::iter::once(self.registry.clone()).chain(realms).collect()
    }
}

pub(crate) fn assemble(parts: &[Segment<'_>]) -> Secret {
    let (bytes, secrets) = render(parts);
    made(bytes, &secrets)
}

pub(crate) fn encode(value: &secret::Secret, encoding: &str) -> Result<Secret> {
    Ok(value.0.derive(value::encode(&value.0.0.bytes, encoding)?))
}

pub(crate) fn decode(value: &secret::Secret, encoding: &str) -> Result<Secret> {
    Ok(value.0.unwrap(value::decode(&value.0.0.bytes, encoding)?))
}

pub(crate) fn digest(algorithm: &str, data: &[Segment<'_>]) -> Result<Secret> {
    let (bytes, secrets) = render(data);
    Ok(made(value::digest(algorithm, &bytes)?, &secrets))
}

pub(crate) fn mac(algorithm: &str, key: &secret::Secret, data: &[Segment<'_>]) -> Result<Secret> {
    let (bytes, mut secrets) = render(data);
    secrets.push(&key.0);
    Ok(made(value::mac(algorithm, &key.0.0.bytes, &bytes)?, &secrets))
}

/// The test host has no key material to sign with.
pub(crate) fn sign(algorithm: &str, _key: &secret::Secret, _data: &[Segment<'_>]) -> Result<Secret> {
    Err(Error::unsupported(format!("the test host does not sign ({algorithm})")).code("sign"))
}

pub(crate) fn registry() -> String {
    Host::with(|host| host.registry.clone())
}

pub(crate) fn scheme() -> String {
    Host::with(|host| host.scheme.clone())
}

pub(crate) fn setting(name: &str) -> Option<String> {
    Host::with(|host| host.setting_value(name))
}

pub(crate) fn credential(slot: &str) -> Option<Credential> {
    Host::with(|host| host.credential_set(slot))
}

pub(crate) fn challenges() -> Vec<Challenge> {
    Host::with(|host| host.challenges.clone())
}

pub(crate) fn attempt() -> u32 {
    Host::with(|host| host.attempt)
}

pub(crate) fn subject() -> Option<Answer> {
    Host::with(|host| host.subject.clone())
}

pub(crate) fn operation() -> String {
    Host::with(|host| host.operation.clone())
}

pub(crate) fn granted() -> Vec<Scope> {
    Host::with(|host| host.granted.clone())
}

pub(crate) fn dry_run() -> bool {
    Host::with(|host| host.dry_run)
}

pub(crate) fn remembered(key: &str) -> Option<Secret> {
    Host::with(|host| {
        let now = host.now_ms;
        host.remembered.get(key).filter(|kept| kept.until_ms > now).map(|kept| kept.value.duplicate())
    })
}

pub(crate) fn remember(key: &str, value: secret::Secret, expires_in_s: u32) {
    Host::with(|host| {
        let until_ms = host.now_ms + u64::from(expires_in_s) * 1000;
        host.remembered.insert(key.to_owned(), Kept { value: value.0, until_ms });
    });
}
