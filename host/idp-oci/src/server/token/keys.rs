//! The keys that our own tokens are signed with (Ed25519): made when there are none, kept in a file of mode 0600, replaced
//! from time to time. A key that was replaced is accepted until what it signed has expired.
//!
//! Several registries may share the file: a key that one does not know is looked for in the file once more.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::jws::{KeyKind, PublicKey, now};
use crate::server::private::{self, Stamp, Watched};

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or written.
    #[error("the keys of tokens in `{}`: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        #[source]
        error: std::io::Error,
    },
    /// The file holds something else.
    #[error("the keys of tokens in `{}` cannot be read; take the file away to have new ones made (everybody logs in anew then)", .0.display())]
    Damaged(PathBuf),
    /// The random numbers of the system.
    #[error("no random numbers to make a key of")]
    Random,
}

/// As it is kept. Newest last.
#[derive(Serialize, Deserialize)]
struct File {
    keys: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// Seconds since 1970.
    created: u64,
    /// PKCS#8, base64.
    pkcs8: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.pkcs8.zeroize();
    }
}

/// A key to sign with.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    pub(crate) public: PublicKey,
    created: f64,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    fn generate() -> Result<Self, KeysError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeysError::Random)?;
        Self::read(document.as_ref(), now()).ok_or(KeysError::Random)
    }

    fn read(pkcs8: &[u8], created: f64) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
        let bytes = pair.public_key().as_ref().to_vec();
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let id = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]);
        let public = PublicKey { id: Some(id), algorithm: None, kind: KeyKind::Ed25519(bytes) };
        Some(Self { pair, public, created, pkcs8: Zeroizing::new(pkcs8.to_vec()) })
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.public.id.as_deref()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// All keys that tokens may be signed with.
#[derive(Debug)]
pub(crate) struct Keys {
    file: Watched,
    rotation: Option<Duration>,
    lifetime: Duration,
    /// Newest last, and never empty.
    keys: Mutex<Vec<Arc<SigningKey>>>,
}

impl Keys {
    /// Reads the keys, or makes the first. A new one takes over after `rotation` (never, if `None`); an old one is dropped
    /// when what it signed last has expired, after `lifetime`.
    pub(crate) fn open(
        path: PathBuf,
        rotation: Option<Duration>,
        lifetime: Duration,
    ) -> Result<Self, KeysError> {
        let io = |error| KeysError::File { path: path.clone(), error };
        let keys = if path.exists() {
            read(&path)?
        } else {
            let _lock = private::lock(&path).map_err(io)?;
            // Another registry may have been first.
            if path.exists() {
                read(&path)?
            } else {
                let keys = vec![Arc::new(SigningKey::generate()?)];
                write(&path, &keys).map_err(io)?;
                keys
            }
        };
        let stamp = Stamp::of(&path).ok();
        Ok(Self { file: Watched::new(path, stamp), rotation, lifetime, keys: Mutex::new(keys) })
    }

    /// The key to sign with now.
    pub(crate) fn signer(&self) -> Arc<SigningKey> {
        let newest = self.newest();
        let Some(rotation) = self.rotation else { return newest };
        if now() - newest.created < rotation.as_secs_f64() {
            return newest;
        }
        if let Err(error) = self.rotate(rotation) {
            tracing::error!(target: "idp::registry", %error, "no new key for tokens; the old one goes on");
        }
        self.newest()
    }

    /// The key of this name.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<SigningKey>> {
        let look = || self.lock().iter().find(|key| key.id() == Some(id)).cloned();
        look().or_else(|| {
            if self.file.changed() {
                match read(&self.file.path) {
                    Ok(keys) => *self.lock() = keys,
                    Err(error) => {
                        tracing::error!(target: "idp::registry", %error, "the keys of tokens changed")
                    }
                }
            }
            look()
        })
    }

    fn newest(&self) -> Arc<SigningKey> {
        Arc::clone(self.lock().last().expect("there is always a key"))
    }

    fn rotate(&self, rotation: Duration) -> Result<(), KeysError> {
        let path = &self.file.path;
        let io = |error| KeysError::File { path: path.clone(), error };
        let _lock = private::lock(path).map_err(io)?;
        let mut keys = read(path)?;
        // Another registry, or another request, may have been first.
        if keys.last().is_none_or(|newest| now() - newest.created >= rotation.as_secs_f64()) {
            let next = Arc::new(SigningKey::generate()?);
            // A key is replaced by the one after it.
            let replaced: Vec<f64> =
                keys.iter().skip(1).map(|key| key.created).chain([next.created]).collect();
            let mut replaced = replaced.into_iter();
            keys.retain(|_| {
                let at = replaced.next().unwrap_or_default();
                now() - at <= self.lifetime.as_secs_f64()
            });
            keys.push(next);
            write(path, &keys).map_err(io)?;
            tracing::info!(target: "idp::registry", keys = keys.len(), "tokens are signed with a new key");
        }
        *self.lock() = keys;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<SigningKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &std::path::Path) -> Result<Vec<Arc<SigningKey>>, KeysError> {
    let text = fs_err::read(path).map_err(|error| KeysError::File { path: path.to_owned(), error })?;
    let text = Zeroizing::new(text);
    let damaged = || KeysError::Damaged(path.to_owned());
    let file: File = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let keys = file.keys.iter().map(|kept| {
        let pkcs8 = Zeroizing::new(STANDARD.decode(&kept.pkcs8).ok()?);
        // Seconds of our time are exact in a float.
        #[allow(clippy::cast_precision_loss, reason = "see above")]
        SigningKey::read(&pkcs8, kept.created as f64).map(Arc::new)
    });
    let keys: Vec<_> = keys.collect::<Option<_>>().ok_or_else(damaged)?;
    if keys.is_empty() { Err(damaged()) } else { Ok(keys) }
}

fn write(path: &std::path::Path, keys: &[Arc<SigningKey>]) -> std::io::Result<()> {
    let keys = keys.iter().map(|key| Kept {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time after 1970")]
        created: key.created as u64,
        pkcs8: STANDARD.encode(&*key.pkcs8),
    });
    let text = Zeroizing::new(serde_json::to_vec(&File { keys: keys.collect() })?);
    private::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::{Keys, KeysError};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("auth/keys");
        let keys = Keys::open(path.clone(), Some(HOUR), HOUR).expect("keys");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let id = keys.signer().id().map(str::to_owned);
        let again = Keys::open(path.clone(), Some(HOUR), HOUR).expect("keys");
        assert_eq!(again.signer().id(), id.as_deref());
        let kept = std::fs::read_to_string(&path).expect("there");
        let secret = kept.split('"').find(|part| part.len() > 60).expect("a key");
        assert!(!format!("{keys:?} {:?}", keys.signer()).contains(secret));
        std::fs::write(&path, "{}").expect("written");
        assert!(matches!(Keys::open(path, None, HOUR), Err(KeysError::Damaged(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_replaced_and_good_until_what_it_signed_has_expired() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("keys");
        let first = Keys::open(path.clone(), None, HOUR).expect("keys");
        let old = first.signer().id().expect("an id").to_owned();
        // A registry that replaces keys at once, beside one that does not.
        let second = Keys::open(path.clone(), Some(Duration::ZERO), HOUR).expect("keys");
        let new = second.signer().id().expect("an id").to_owned();
        assert_ne!(new, old);
        assert!(second.find(&old).is_some() && second.find("other").is_none());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(first.find(&new).is_some(), "the file was read again");
        // With no lifetime, what was replaced is dropped with the next.
        let third = Keys::open(path, Some(Duration::ZERO), Duration::ZERO).expect("keys");
        std::thread::sleep(Duration::from_millis(5));
        third.signer();
        assert!(third.find(&old).is_none());
    }
}
