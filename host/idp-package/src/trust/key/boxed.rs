//! Private keys under a password, as cosign writes them (`ENCRYPTED SIGSTORE PRIVATE KEY`, and `ENCRYPTED COSIGN PRIVATE KEY` before
//! that): JSON with the parameters of scrypt and a secretbox that holds the PKCS#8 document. Depends on `secretbox`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idp_oci::secret::Secret;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KeyError;
use super::secretbox::{self, KEY, NONCE};

/// What cosign writes.
const COST: u64 = 65_536;
const BLOCK: u32 = 8;
const PARALLEL: u32 = 1;
const SALT: usize = 32;
/// scrypt needs `128 * N * r` bytes and `N * r * p` steps; a file decides about them only so far.
const MOST_MEMORY: u64 = 256 * 1024 * 1024;
const MOST_PARALLEL: u32 = 4;
const LONGEST_SALT: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Document {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    cost: u64,
    #[serde(rename = "r")]
    block: u32,
    #[serde(rename = "p")]
    parallel: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

fn unreadable(problem: impl std::fmt::Display) -> KeyError {
    KeyError::Unreadable(format!("the key under a password is not as cosign writes it: {problem}"))
}

fn derive(password: &Secret, salt: &[u8], params: &Params) -> Result<Zeroizing<[u8; KEY]>, KeyError> {
    let memory = params.cost.saturating_mul(u64::from(params.block)).saturating_mul(128);
    let bounded = memory <= MOST_MEMORY && params.parallel <= MOST_PARALLEL && salt.len() <= LONGEST_SALT;
    if !bounded || !params.cost.is_power_of_two() || params.cost < 2 {
        let Params { cost, block, parallel } = params;
        return Err(unreadable(format_args!(
            "scrypt with N={cost}, r={block}, p={parallel} is more than is taken"
        )));
    }
    let log = u8::try_from(params.cost.ilog2()).map_err(unreadable)?;
    let scrypt = scrypt::Params::new(log, params.block, params.parallel).map_err(unreadable)?;
    let mut key = Zeroizing::new([0; KEY]);
    scrypt::scrypt(password.expose().as_bytes(), salt, &scrypt, key.as_mut_slice()).map_err(unreadable)?;
    Ok(key)
}

/// The PKCS#8 document in the body of such a PEM block.
pub(super) fn open(body: &[u8], password: &Secret) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let document: Document = serde_json::from_slice(body).map_err(unreadable)?;
    if document.kdf.name != "scrypt" || document.cipher.name != "nacl/secretbox" {
        return Err(unreadable("it names other algorithms than scrypt and nacl/secretbox"));
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(unreadable);
    let (salt, boxed) = (decode(&document.kdf.salt)?, decode(&document.ciphertext)?);
    let nonce: [u8; NONCE] =
        decode(&document.cipher.nonce)?.try_into().map_err(|_| unreadable("its nonce has another length"))?;
    let key = derive(password, &salt, &document.kdf.params)?;
    secretbox::open(&key, &nonce, &boxed).ok_or(KeyError::WrongPassword)
}

/// The body of a PEM block that cosign reads.
pub(super) fn seal(pkcs8: &[u8], password: &Secret) -> Result<Vec<u8>, KeyError> {
    let random = SystemRandom::new();
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE]);
    random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| KeyError::NoRandomness)?;
    let params = Params { cost: COST, block: BLOCK, parallel: PARALLEL };
    let key = derive(password, &salt, &params)?;
    let document = Document {
        kdf: Kdf { name: "scrypt".to_owned(), params, salt: STANDARD.encode(salt) },
        cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: STANDARD.encode(nonce) },
        ciphertext: STANDARD.encode(secretbox::seal(&key, &nonce, pkcs8)),
    };
    serde_json::to_vec(&document).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::{KeyError, open, seal};
    use idp_oci::secret::Secret;

    #[test]
    fn a_password_is_needed_again() {
        let sealed = seal(b"a document", &Secret::new("words")).expect("sealed");
        assert_eq!(open(&sealed, &Secret::new("words")).expect("opened").as_slice(), b"a document");
        assert!(matches!(open(&sealed, &Secret::new("word")), Err(KeyError::WrongPassword)));
    }

    /// A file does not decide how much memory we take.
    #[test]
    fn costs_are_bounded() {
        let sealed = String::from_utf8(seal(b"x", &Secret::new("")).expect("sealed")).expect("JSON");
        for (from, to) in [
            (r#""N":65536"#, r#""N":1073741824"#),
            (r#""N":65536"#, r#""N":65535"#),
            (r#""N":65536"#, r#""N":1"#),
            (r#""N":65536"#, r#""N":0"#),
            (r#""r":8"#, r#""r":4294967295"#),
            (r#""r":8"#, r#""r":0"#),
            (r#""p":1"#, r#""p":1000"#),
            (r#""name":"scrypt""#, r#""name":"none""#),
            (r#""nonce":""#, r#""nonce":"AAAA"#),
        ] {
            assert!(sealed.contains(from), "{sealed}");
            let result = open(sealed.replace(from, to).as_bytes(), &Secret::new(""));
            assert!(matches!(result, Err(KeyError::Unreadable(_))), "{to}");
        }
        assert!(matches!(open(b"[]", &Secret::new("")), Err(KeyError::Unreadable(_))));
    }
}
