//! Secrets of the tests: bytes with an audience.

use std::collections::BTreeSet;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};

use crate::contract::{Error, Result};

/// Where a secret may be sent, as origins.
pub(crate) type Audience = BTreeSet<String>;

/// The audience of what has no secret in it: it may go anywhere, and narrows nothing that it is put together with.
pub(crate) const ANYWHERE: &str = "*";

/// The bytes of a secret.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) bytes: Vec<u8>,
    pub(crate) audience: Audience,
    /// A credential, or made of one: an answer to it is sealed.
    pub(crate) long_lived: bool,
    /// Came whole from the host; JSON fields may be taken out.
    pub(crate) document: bool,
}

/// The handle behind [`Secret`](crate::Secret).
pub(crate) struct Secret(pub(crate) Rc<Value>);

impl Secret {
    pub(crate) fn new(bytes: Vec<u8>, audience: Audience, long_lived: bool, document: bool) -> Self {
        Self(Rc::new(Value { bytes, audience, long_lived, document }))
    }

    pub(crate) fn duplicate(&self) -> Self {
        Self(Rc::clone(&self.0))
    }

    pub(crate) fn json_field(&self, pointer: &str) -> Option<Self> {
        if !self.0.document {
            return None;
        }
        let document: serde_json::Value = serde_json::from_slice(&self.0.bytes).ok()?;
        let text = document.pointer(pointer)?.as_str()?;
        Some(Self::new(text.as_bytes().to_vec(), self.0.audience.clone(), self.0.long_lived, true))
    }

    /// The same secret, for these origins too.
    pub(crate) fn also_for(&self, origins: &Audience) -> Self {
        let audience = self.0.audience.union(origins).cloned().collect();
        Self::new(self.0.bytes.clone(), audience, self.0.long_lived, self.0.document)
    }

    /// The same secret, decoded: what was a whole document still is one.
    pub(crate) fn unwrap(&self, bytes: Vec<u8>) -> Self {
        Self::new(bytes, self.0.audience.clone(), self.0.long_lived, self.0.document)
    }

    /// The same secret in another form.
    pub(crate) fn derive(&self, bytes: Vec<u8>) -> Self {
        Self::new(bytes, self.0.audience.clone(), self.0.long_lived, false)
    }
}

fn unknown(what: &str, name: &str) -> Error {
    Error::unsupported(format!("the host has no {what} `{name}`")).code(what)
}

pub(crate) fn encode(bytes: &[u8], encoding: &str) -> Result<Vec<u8>> {
    Ok(match encoding {
        "base64" => STANDARD.encode(bytes).into_bytes(),
        "base64-nopad" => STANDARD_NO_PAD.encode(bytes).into_bytes(),
        "base64url" => URL_SAFE.encode(bytes).into_bytes(),
        "base64url-nopad" => URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
        "hex" => hex(bytes).into_bytes(),
        "percent" => crate::link::percent(&String::from_utf8_lossy(bytes)).into_bytes(),
        "json-string" => serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string().into_bytes(),
        _ => return Err(unknown("encoding", encoding)),
    })
}

pub(crate) fn decode(bytes: &[u8], encoding: &str) -> Result<Vec<u8>> {
    let malformed = || Error::invalid(format!("the secret is not {encoding}")).code("encoding");
    let engine = match encoding {
        "base64" => STANDARD,
        "base64-nopad" => STANDARD_NO_PAD,
        "base64url" => URL_SAFE,
        "base64url-nopad" => URL_SAFE_NO_PAD,
        _ => return Err(unknown("encoding", encoding)),
    };
    engine.decode(bytes).map_err(|_| malformed())
}

pub(crate) fn digest(algorithm: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    match algorithm {
        "sha256" => Ok(Sha256::digest(bytes).to_vec()),
        "sha512" => Ok(Sha512::digest(bytes).to_vec()),
        _ => Err(unknown("digest", algorithm)),
    }
}

pub(crate) fn mac(algorithm: &str, key: &[u8], bytes: &[u8]) -> Result<Vec<u8>> {
    if algorithm != "hmac-sha256" {
        return Err(unknown("mac", algorithm));
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(bytes);
    Ok(mac.finalize().into_bytes().to_vec())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every form in which a secret could come back.
pub(crate) fn forms(bytes: &[u8]) -> Vec<String> {
    let plain = String::from_utf8_lossy(bytes).into_owned();
    let mut forms =
        vec![crate::link::percent(&plain), STANDARD.encode(bytes), STANDARD_NO_PAD.encode(bytes), hex(bytes)];
    forms.push(plain);
    forms.retain(|form| form.len() >= 4);
    forms
}
