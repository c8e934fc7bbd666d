//! Secrets as a guest holds them: bytes that stay here, with the origins they may be sent to. Derivations keep the narrowest audience.
//! Knows no guest and sends nothing; the only exits are [`Held::expose`] for rendering and [`Held::into_secret`] for grants.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use idp_oci::secret::Secret;
use ring::{digest, hmac, rand, rsa, signature};
use zeroize::Zeroizing;

use super::pattern::{Origin, OriginPattern, Symbols};
use super::scrub::percent;

/// Bytes of the largest secret: service-account documents and tokens are far below it.
pub(crate) const SECRET_MAX: usize = 1024 * 1024;

/// Where secrets may go: every list must name the origin. No list: anywhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audience(Vec<Arc<[OriginPattern]>>);

impl Audience {
    fn patterns(&self) -> Vec<Vec<String>> {
        self.0.iter().map(|list| list.iter().map(ToString::to_string).collect()).collect()
    }

    fn parse(lists: &[Vec<String>]) -> Option<Self> {
        let list = |patterns: &Vec<String>| {
            let patterns: Result<Vec<OriginPattern>, _> = patterns.iter().map(|text| text.parse()).collect();
            Some(Arc::from(patterns.ok()?))
        };
        lists.iter().map(list).collect::<Option<Vec<_>>>().map(Self)
    }

    /// These origins and no others.
    pub(crate) fn only(origins: Vec<OriginPattern>) -> Self {
        Self(vec![origins.into()])
    }

    fn intersect(&mut self, other: &Self) {
        for list in &other.0 {
            if !self.0.iter().any(|mine| Arc::ptr_eq(mine, list) || mine == list) {
                self.0.push(Arc::clone(list));
            }
        }
    }

    /// Whether a secret may be sent there.
    pub(crate) fn admits(&self, origin: &Origin, symbols: &Symbols) -> bool {
        self.0.iter().all(|list| list.iter().any(|pattern| pattern.matches(origin, symbols)))
    }
}

/// Why a derivation was refused. The text says nothing about the value beyond its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("`unsupported` algorithm or encoding")]
    Unsupported,
    #[error("the secret is not in that form")]
    Form,
    #[error("what was put together here is not decoded: whether it fits would tell what is in it")]
    Assembled,
    #[error("a secret larger than 1 MiB")]
    TooLarge,
}

struct Inner {
    bytes: Zeroizing<Vec<u8>>,
    audience: Audience,
    long_lived: bool,
    /// A whole document from the host: the only thing whose fields may be asked for.
    document: bool,
    /// Nothing of the guest's is in it: the only thing that may be decoded.
    whole: bool,
}

/// A secret in a guest's table. Cloning shares the bytes; they are wiped with the last one.
#[derive(Clone)]
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Held(Arc<Inner>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held(…)")
    }
}

/// A secret as it is written down, sealed: with its limits.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Written {
    value: String,
    audience: Vec<Vec<String>>,
    document: bool,
    whole: bool,
}

impl Drop for Written {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.value);
    }
}

/// A part of something that is put together.
pub(crate) enum Part {
    Text(String),
    Secret(Held),
}

/// Bytes ready to be sent, and the secrets in them.
#[derive(Default)]
pub(crate) struct Rendered {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) secrets: Vec<Held>,
}

impl Rendered {
    /// Joins parts; each is transformed on its way in.
    pub(crate) fn join(
        parts: &[Part],
        transform: impl Fn(&[u8]) -> Zeroizing<Vec<u8>>,
    ) -> Result<Self, SecretError> {
        let mut rendered = Self::default();
        for part in parts {
            match part {
                Part::Text(text) => rendered.append(&transform(text.as_bytes()))?,
                Part::Secret(held) => {
                    rendered.append(&transform(held.expose()))?;
                    rendered.secrets.push(held.clone());
                }
            }
        }
        Ok(rendered)
    }

    /// Appends bytes. A buffer that grows leaves no copy behind: `Zeroizing` wipes the old one here.
    pub(crate) fn append(&mut self, more: &[u8]) -> Result<(), SecretError> {
        let length = self.bytes.len() + more.len();
        if length > SECRET_MAX {
            return Err(SecretError::TooLarge);
        }
        if length > self.bytes.capacity() {
            let mut grown = Zeroizing::new(Vec::with_capacity((2 * length).min(SECRET_MAX)));
            grown.extend_from_slice(&self.bytes);
            self.bytes = grown;
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    fn derive(&self, bytes: Zeroizing<Vec<u8>>) -> Held {
        let mut audience = Audience::default();
        for held in &self.secrets {
            audience.intersect(&held.0.audience);
        }
        let long_lived = self.secrets.iter().any(Held::long_lived);
        Held(Arc::new(Inner { bytes, audience, long_lived, document: false, whole: false }))
    }
}

/// Nothing is changed on the way in.
pub(crate) fn as_is(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

impl Held {
    /// A credential of the user.
    pub(crate) fn credential(value: &Secret, audience: Audience) -> Self {
        Self::document(value.expose().as_bytes(), audience, true)
    }

    /// Something cut out of an answer; of the known secrets that stand in it, it has the limits too.
    pub(crate) fn captured(value: &[u8], mut audience: Audience, inside: &[Self]) -> Self {
        for held in inside {
            audience.intersect(&held.0.audience);
        }
        Self::document(value, audience, inside.iter().any(Self::long_lived))
    }

    fn document(value: &[u8], audience: Audience, long_lived: bool) -> Self {
        let bytes = Zeroizing::new(value.to_vec());
        Self(Arc::new(Inner { bytes, audience, long_lived, document: true, whole: true }))
    }

    /// For writing down. Not what outlives the command anyway: the user keeps it elsewhere, and no second copy is made.
    pub(crate) fn write(&self) -> Option<Written> {
        if self.0.long_lived {
            return None;
        }
        let Inner { bytes, audience, document, whole, .. } = &*self.0;
        let value = STANDARD.encode(bytes.as_slice());
        Some(Written { value, audience: audience.patterns(), document: *document, whole: *whole })
    }

    /// What was written down.
    pub(crate) fn read(written: &Written) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(&written.value).ok()?);
        let audience = Audience::parse(&written.audience)?;
        let (document, whole) = (written.document, written.whole);
        Some(Self(Arc::new(Inner { bytes, audience, long_lived: false, document, whole })))
    }

    /// The bytes. For rendering and for the echo guard only.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Whether it outlives the command: an answer to a request with it is sealed.
    pub(crate) fn long_lived(&self) -> bool {
        self.0.long_lived
    }

    /// Whether it may be sent there.
    pub(crate) fn admits(&self, origin: &Origin, symbols: &Symbols) -> bool {
        self.0.audience.admits(origin, symbols)
    }

    /// The value for the pipeline's own requests; refused when it is not text that fits a header.
    pub(crate) fn into_secret(self) -> Result<Secret, SecretError> {
        let text = std::str::from_utf8(self.expose()).map_err(|_| SecretError::Form)?;
        if text.chars().any(char::is_control) {
            return Err(SecretError::Form);
        }
        Ok(Secret::new(text))
    }

    /// A string inside a whole JSON document. Nothing on anything assembled: it would answer "is this equal?".
    pub(crate) fn json_field(&self, pointer: &str) -> Option<Self> {
        if !self.0.document {
            return None;
        }
        let document: serde_json::Value = serde_json::from_slice(self.expose()).ok()?;
        let text = document.pointer(pointer)?.as_str()?;
        Some(Self(Arc::new(Inner {
            bytes: Zeroizing::new(text.as_bytes().to_vec()),
            audience: self.0.audience.clone(),
            long_lived: self.0.long_lived,
            document: false,
            whole: true,
        })))
    }
}

/// Puts a secret together.
pub(crate) fn assemble(parts: &[Part]) -> Result<Held, SecretError> {
    let rendered = Rendered::join(parts, as_is)?;
    Ok(rendered.derive(rendered.bytes.clone()))
}

/// The same secret in another form, which is a document or none.
fn one(held: &Held, bytes: Vec<u8>, document: bool) -> Result<Held, SecretError> {
    if bytes.len() > SECRET_MAX {
        return Err(SecretError::TooLarge);
    }
    Ok(Held(Arc::new(Inner {
        bytes: Zeroizing::new(bytes),
        audience: held.0.audience.clone(),
        long_lived: held.long_lived(),
        document,
        whole: held.0.whole,
    })))
}

/// `secrets.encode`
pub(crate) fn encode(held: &Held, encoding: &str) -> Result<Held, SecretError> {
    let bytes = held.expose();
    let text = match encoding {
        "base64" => STANDARD.encode(bytes),
        "base64-nopad" => STANDARD_NO_PAD.encode(bytes),
        "base64url" => URL_SAFE.encode(bytes),
        "base64url-nopad" => URL_SAFE_NO_PAD.encode(bytes),
        "hex" => hex(bytes),
        "percent" => percent(bytes),
        "json-string" => {
            let text = std::str::from_utf8(bytes).map_err(|_| SecretError::Form)?;
            serde_json::to_string(text).map_err(|_| SecretError::Form)?
        }
        _ => return Err(SecretError::Unsupported),
    };
    one(held, text.into_bytes(), false)
}

/// `secrets.decode`. Not of anything assembled: with chosen text around a secret, success or failure is an oracle.
pub(crate) fn decode(held: &Held, encoding: &str) -> Result<Held, SecretError> {
    if !held.0.whole {
        return Err(SecretError::Assembled);
    }
    let bytes = held.expose();
    let decoded = match encoding {
        "base64" => STANDARD.decode(bytes).map_err(|_| SecretError::Form)?,
        "base64-nopad" => STANDARD_NO_PAD.decode(bytes).map_err(|_| SecretError::Form)?,
        "base64url" => URL_SAFE.decode(bytes).map_err(|_| SecretError::Form)?,
        "base64url-nopad" => URL_SAFE_NO_PAD.decode(bytes).map_err(|_| SecretError::Form)?,
        "hex" => unhex(bytes).ok_or(SecretError::Form)?,
        "percent" => percent_encoding::percent_decode(bytes).collect(),
        "json-string" => serde_json::from_slice::<String>(bytes).map_err(|_| SecretError::Form)?.into_bytes(),
        _ => return Err(SecretError::Unsupported),
    };
    // What was a whole document is one without its wrapping (`_json_key_base64`).
    one(held, decoded, held.0.document)
}

/// `secrets.digest`: the raw bytes of the digest.
pub(crate) fn hash(algorithm: &str, data: &[Part]) -> Result<Held, SecretError> {
    let algorithm = match algorithm {
        "sha256" => &digest::SHA256,
        "sha512" => &digest::SHA512,
        _ => return Err(SecretError::Unsupported),
    };
    let rendered = Rendered::join(data, as_is)?;
    let bytes = digest::digest(algorithm, &rendered.bytes).as_ref().to_vec();
    Ok(rendered.derive(Zeroizing::new(bytes)))
}

/// `secrets.mac`: the raw bytes of the tag.
pub(crate) fn mac(algorithm: &str, key: &Held, data: &[Part]) -> Result<Held, SecretError> {
    if algorithm != "hmac-sha256" {
        return Err(SecretError::Unsupported);
    }
    let mut rendered = Rendered::join(data, as_is)?;
    rendered.secrets.push(key.clone());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), &rendered.bytes);
    Ok(rendered.derive(Zeroizing::new(tag.as_ref().to_vec())))
}

/// `secrets.sign`: the raw signature (RFC 7518, 3.3 and 3.4).
pub(crate) fn sign(algorithm: &str, key: &Held, data: &[Part]) -> Result<Held, SecretError> {
    let mut rendered = Rendered::join(data, as_is)?;
    rendered.secrets.push(key.clone());
    let random = rand::SystemRandom::new();
    let bytes = match algorithm {
        "rs256" => {
            let pem = Pem::read(key.expose())?;
            let pair = match pem.label.as_str() {
                "RSA PRIVATE KEY" => rsa::KeyPair::from_der(&pem.der),
                _ => rsa::KeyPair::from_pkcs8(&pem.der),
            }
            .map_err(|_| SecretError::Form)?;
            let mut signed = vec![0; pair.public().modulus_len()];
            pair.sign(&signature::RSA_PKCS1_SHA256, &random, &rendered.bytes, &mut signed)
                .map_err(|_| SecretError::Form)?;
            signed
        }
        "es256" => {
            let pem = Pem::read(key.expose())?;
            let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = signature::EcdsaKeyPair::from_pkcs8(kind, &pem.der, &random)
                .map_err(|_| SecretError::Form)?;
            pair.sign(&random, &rendered.bytes).map_err(|_| SecretError::Form)?.as_ref().to_vec()
        }
        _ => return Err(SecretError::Unsupported),
    };
    Ok(rendered.derive(Zeroizing::new(bytes)))
}

struct Pem {
    label: String,
    der: Zeroizing<Vec<u8>>,
}

impl Pem {
    /// The first private key of a PEM text (RFC 7468).
    fn read(text: &[u8]) -> Result<Self, SecretError> {
        let text = std::str::from_utf8(text).map_err(|_| SecretError::Form)?;
        let mut label: Option<String> = None;
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("-----BEGIN ") {
                let name = rest.trim_end_matches('-').to_owned();
                body.clear();
                label = name.ends_with("PRIVATE KEY").then_some(name);
            } else if line.starts_with("-----END ") {
                if let Some(label) = label.take() {
                    let der = STANDARD.decode(body.as_bytes()).map_err(|_| SecretError::Form)?;
                    return Ok(Self { label, der: Zeroizing::new(der) });
                }
            } else if label.is_some() {
                body.push_str(line);
            }
        }
        Err(SecretError::Form)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
    text.len().is_multiple_of(2).then_some(())?;
    text.chunks_exact(2).map(|pair| Some((digit(pair[0])? << 4) | digit(pair[1])?)).collect()
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
