//! Signed tokens: JSON Web Signatures in compact form (RFC 7515), with the claims of the distribution token specification.
//!
//! A key says which algorithm it is good for, and a token is checked with that one only: what its header claims can choose
//! among keys and never among ways to check. There are no shared secrets and there is no `none`. In: text and keys. Out:
//! claims that somebody we know has signed; what they mean is for others.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::server::scope::Scope;

/// Clocks of others may differ by this much.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);

/// Longer ones are no tokens of ours or of anybody we know.
const LONGEST: usize = 32 * 1024;

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("it is not a signed token")]
    Form,
    #[error("it is signed in a way ({0}) that no key of this registry's trusted ones is for")]
    Algorithm(String),
    #[error("nobody this registry trusts has signed it")]
    Signature,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("it was made by `{0}`, which is not the issuer here")]
    Issuer(String),
    #[error("it was made for something else")]
    Audience,
    #[error("it is not for requests of this kind")]
    Kind,
    #[error("its user is not here (any more)")]
    User,
}

/// The protected header.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) typ: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
    /// Extensions that must be understood; we understand none.
    #[serde(default, skip_serializing)]
    pub(crate) crit: Option<serde_json::Value>,
}

/// What a token says. Times are seconds since 1970; some issuers write them with a fraction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claims {
    #[serde(default)]
    pub(crate) iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sub: String,
    #[serde(deserialize_with = "one_or_more", default)]
    pub(crate) aud: Vec<String>,
    #[serde(serialize_with = "seconds")]
    pub(crate) exp: f64,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "maybe_seconds")]
    pub(crate) nbf: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "maybe_seconds")]
    pub(crate) iat: Option<f64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) jti: String,
    #[serde(deserialize_with = "or_none", default)]
    pub(crate) access: Vec<Scope>,
    /// Of refresh tokens: what changes with the user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pwd: Option<String>,
}

/// Whole seconds: not everybody reads fractions.
#[allow(
    clippy::cast_possible_truncation,
    clippy::trivially_copy_pass_by_ref,
    reason = "a time of ours; serde's shape"
)]
fn seconds<S: Serializer>(time: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(time.ceil() as i64)
}

#[allow(clippy::ref_option, reason = "serde's shape")]
fn maybe_seconds<S: Serializer>(time: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => seconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Scope>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Claims {
    /// Whether the times are right, and issuer and audience the expected ones.
    pub(crate) fn check(&self, issuer: &str, audience: &str) -> Result<(), TokenError> {
        let (now, leeway) = (now(), LEEWAY.as_secs_f64());
        if self.exp + leeway <= now {
            return Err(TokenError::Expired);
        }
        if self.nbf.is_some_and(|from| from - leeway > now) {
            return Err(TokenError::Early);
        }
        if self.iss != issuer {
            return Err(TokenError::Issuer(self.iss.chars().take(100).collect()));
        }
        if !self.aud.iter().any(|own| own == audience) {
            return Err(TokenError::Audience);
        }
        Ok(())
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A token, taken apart and not yet believed.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    pub(crate) header: Header,
    payload: &'a str,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Form);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Form)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Form);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Form)?;
        if header.crit.is_some() {
            return Err(TokenError::Form);
        }
        Ok(Self { header, payload, signed, signature: decode(signature)? })
    }

    /// The claims, if one of these keys has signed them.
    pub(crate) fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Result<Claims, TokenError> {
        let mut fits = false;
        for key in keys.into_iter().filter(|key| key.is_for(&self.header.alg)) {
            fits = true;
            if key.verify(&self.header.alg, self.signed.as_bytes(), &self.signature) {
                let payload = URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| TokenError::Form)?;
                return serde_json::from_slice(&payload).map_err(|_| TokenError::Form);
            }
        }
        let algorithm = || self.header.alg.chars().take(20).collect();
        Err(if fits { TokenError::Signature } else { TokenError::Algorithm(algorithm()) })
    }
}

/// Signs claims. `sign` gets what is to be signed.
pub(crate) fn sign(header: &Header, claims: &Claims, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let json = "texts and numbers can be written as JSON";
    let mut token = encode(&serde_json::to_vec(header).expect(json));
    token.push('.');
    token.push_str(&encode(&serde_json::to_vec(claims).expect(json)));
    let signature = sign(token.as_bytes());
    token.push('.');
    token.push_str(&encode(&signature));
    token
}

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    /// Its name, where it has one.
    pub(crate) id: Option<String>,
    /// The one algorithm that its owner uses it for, where that is said.
    pub(crate) algorithm: Option<String>,
    pub(crate) kind: KeyKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// `RSAPublicKey` in DER (RFC 8017).
    Rsa(Vec<u8>),
    /// Modulus and exponent, big-endian.
    RsaParts { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    /// 32 bytes.
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// Whether signatures of this algorithm (RFC 7518, RFC 8037) are checked with it.
    fn is_for(&self, algorithm: &str) -> bool {
        let fits = match self.kind {
            KeyKind::Rsa(_) | KeyKind::RsaParts { .. } => matches!(algorithm, "RS256" | "RS384" | "RS512"),
            KeyKind::P256(_) => algorithm == "ES256",
            KeyKind::P384(_) => algorithm == "ES384",
            KeyKind::Ed25519(_) => matches!(algorithm, "EdDSA" | "Ed25519"),
        };
        fits && self.algorithm.as_deref().is_none_or(|own| own == algorithm)
    }

    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        // Of RSA no keys below 2048 bits.
        let rsa = match algorithm {
            "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
            "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
            _ => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        let verified =
            match &self.kind {
                KeyKind::Rsa(der) => UnparsedPublicKey::new(rsa, der).verify(message, signature),
                KeyKind::RsaParts { n, e } => RsaPublicKeyComponents { n, e }.verify(rsa, message, signature),
                KeyKind::P256(point) => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature),
                KeyKind::P384(point) => UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(message, signature),
                KeyKind::Ed25519(key) => {
                    UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
                }
            };
        verified.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::{Claims, Header, KeyKind, PublicKey, TokenError, Unverified, now, sign};

    fn claims() -> Claims {
        Claims { iss: "issuer".into(), aud: vec!["service".into()], exp: now() + 100.0, ..Claims::default() }
    }

    fn pair() -> (Ed25519KeyPair, PublicKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let kind = KeyKind::Ed25519(pair.public_key().as_ref().to_vec());
        (pair, PublicKey { id: None, algorithm: None, kind })
    }

    fn header(alg: &str) -> Header {
        Header { alg: alg.to_owned(), ..Header::default() }
    }

    #[test]
    fn what_is_signed_is_believed_and_nothing_else() {
        let (pair, key) = pair();
        let token = sign(&header("EdDSA"), &claims(), |bytes| pair.sign(bytes).as_ref().to_vec());
        let verify = |token: &str| Unverified::parse(token).and_then(|token| token.verify([&key]));
        let read = verify(&token).expect("believed");
        assert_eq!(read.check("issuer", "service"), Ok(()));
        assert_eq!(read.check("other", "service"), Err(TokenError::Issuer("issuer".into())));
        assert_eq!(read.check("issuer", "other"), Err(TokenError::Audience));

        let parts: Vec<&str> = token.split('.').collect();
        let other = URL_SAFE_NO_PAD
            .encode(serde_json::to_vec(&Claims { sub: "root".into(), ..claims() }).expect("JSON"));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let shared = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let critical = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#);
        // A signature made with the public key as a shared secret, which a confused verifier would take.
        let KeyKind::Ed25519(public) = &key.kind else { unreachable!("it is one") };
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public);
        let confused = format!("{shared}.{}", parts[1]);
        let tag = ring::hmac::sign(&secret, confused.as_bytes());
        for (bad, expect) in [
            (format!("{}.{other}.{}", parts[0], parts[2]), TokenError::Signature),
            (format!("{}.{}.", parts[0], parts[1]), TokenError::Signature),
            (format!("{none}.{}.", parts[1]), TokenError::Algorithm("none".into())),
            (format!("{none}.{}.{}", parts[1], parts[2]), TokenError::Algorithm("none".into())),
            (format!("{confused}.{}", URL_SAFE_NO_PAD.encode(tag)), TokenError::Algorithm("HS256".into())),
            (format!("{critical}.{}.{}", parts[1], parts[2]), TokenError::Form),
            (format!("{}.{}", parts[0], parts[1]), TokenError::Form),
            (format!("{token}="), TokenError::Form),
            ("x".repeat(40_000), TokenError::Form),
            (String::new(), TokenError::Form),
        ] {
            assert_eq!(verify(&bad), Err(expect), "{bad}");
        }
    }

    #[test]
    fn times() {
        let from = |exp: f64, nbf: Option<f64>| {
            Claims { exp: now() + exp, nbf: nbf.map(|nbf| now() + nbf), ..claims() }
                .check("issuer", "service")
        };
        assert_eq!(from(10.0, None), Ok(()));
        assert_eq!(from(-50.0, None), Ok(()), "within the leeway");
        assert_eq!(from(-61.0, None), Err(TokenError::Expired));
        assert_eq!(from(10.0, Some(50.0)), Ok(()));
        assert_eq!(from(10.0, Some(70.0)), Err(TokenError::Early));
    }

    #[test]
    fn claims_as_others_write_them() {
        let read = |text: &str| serde_json::from_str::<Claims>(text);
        let claims = read(r#"{"aud":["a","b"],"exp":1.5,"access":null,"other":{}}"#).expect("claims");
        assert_eq!((claims.aud.len(), claims.access.len()), (2, 0));
        let class = r#"{"aud":"a","exp":1,"access":[{"type":"repository","class":"","name":"a","actions":["pull"]}]}"#;
        assert_eq!(read(class).expect("claims").access[0].to_string(), "repository:a:pull");
        assert!(read(r#"{"aud":"a"}"#).is_err(), "one that never ends is none");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            let _ = Unverified::parse(&text).map(|token| token.verify([&pair().1]));
        }

        #[test]
        fn never_panics_on_near_misses(header in "\\PC{0,60}", payload in "\\PC{0,60}", signature in prop::collection::vec(any::<u8>(), 0..80)) {
            let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let token = format!("{}.{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()), encode(&signature));
            let _ = Unverified::parse(&token).map(|token| token.verify([&pair().1]));
        }
    }
}
