//! A new key pair, as files that cosign reads too.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use idp_oci::secret::Secret;
use pem::{EncodeConfig, LineEnding, Pem};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use serde::Serialize;

use super::private::SIGSTORE;
use super::{KeyError, KeyId, PrivateKey, PublicKey, boxed};

/// A key pair that is in no file yet.
#[derive(Debug)]
pub struct GeneratedKey {
    /// PEM of the private half.
    pub private: Secret,
    /// The public half.
    pub public: PublicKey,
}

/// Where a key pair was written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WrittenKey {
    /// The private half; only its owner may read it.
    pub private_key: PathBuf,
    /// The public half.
    pub public_key: PathBuf,
    /// The name of the pair.
    pub id: KeyId,
}

/// Makes an ECDSA P-256 key pair. With a password, an empty one too, the private half is as cosign keeps it; without, it is plain
/// PKCS#8.
///
/// # Errors
/// When the system has no random bytes.
pub fn generate(password: Option<&Secret>) -> Result<GeneratedKey, KeyError> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .map_err(|_| KeyError::NoRandomness)?;
    let key = PrivateKey::from_pkcs8(document.as_ref())?;
    let block = match password {
        Some(password) => Pem::new(SIGSTORE, boxed::seal(document.as_ref(), password)?),
        None => Pem::new("PRIVATE KEY", document.as_ref()),
    };
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let private = Secret::new(pem::encode_config(&block, config));
    drop(zeroize::Zeroizing::new(block.into_contents()));
    Ok(GeneratedKey { private, public: key.public().clone() })
}

impl GeneratedKey {
    /// Writes `PREFIX.key`, which only its owner may read, and `PREFIX.pub`. Neither may be there yet: a key that is gone cannot be
    /// had again.
    ///
    /// # Errors
    /// When one of them is there, or cannot be written.
    pub fn write(&self, prefix: &Path) -> Result<WrittenKey, KeyError> {
        let named = |suffix: &str| {
            let mut name = prefix.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let (private_key, public_key) = (named(".key"), named(".pub"));
        create(&private_key, 0o600, self.private.expose())?;
        if let Err(error) = create(&public_key, 0o644, &self.public.to_pem()) {
            // Made a moment ago, by us, and nobody has its public half.
            fs_err::remove_file(&private_key)?;
            return Err(error);
        }
        Ok(WrittenKey { private_key, public_key, id: self.public.id().clone() })
    }
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let refused = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "; keys are never overwritten, choose another name",
            _ => "",
        };
        std::io::Error::new(error.kind(), format!("writing {}: {error}{hint}", path.display()))
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(refused)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(refused)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use idp_oci::secret::Secret;

    use super::{KeyError, PrivateKey, PublicKey, generate};

    #[test]
    fn a_pair_is_written_and_read() {
        for password in [None, Some(Secret::new("")), Some(Secret::new("a password"))] {
            let directory = tempfile::tempdir().expect("a directory");
            let generated = generate(password.as_ref()).expect("generated");
            let written = generated.write(&directory.path().join("ours.v1")).expect("written");
            assert_eq!(written.private_key, directory.path().join("ours.v1.key"));
            let mode = std::fs::metadata(&written.private_key).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);

            let public = PublicKey::read(&written.public_key).expect("read");
            let private = PrivateKey::read(&written.private_key, password.as_ref()).expect("read");
            assert_eq!((private.public(), written.id), (&public, public.id().clone()));
            let signature = private.sign(b"a message").expect("signed");
            assert!(public.verify(b"a message", &signature));
            assert!(!public.verify(b"a massage", &signature));

            let error = generated.write(&directory.path().join("ours.v1")).expect_err("there").to_string();
            assert!(error.contains("never overwritten"), "{error}");
            std::fs::remove_file(&written.private_key).expect("removed");
            generated.write(&directory.path().join("ours.v1")).expect_err("the public half is there");
            assert!(!written.private_key.exists(), "half a pair is left");
        }
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let generated = generate(Some(&Secret::new("hunter2"))).expect("generated");
        let key = PrivateKey::parse(generated.private.expose().as_bytes(), Some(&Secret::new("hunter2")));
        let shown = format!("{generated:?} {key:?}");
        assert!(!shown.contains("PRIVATE") && !shown.contains("hunter2"), "{shown}");
        let wrong = PrivateKey::parse(generated.private.expose().as_bytes(), Some(&Secret::new("hunter3")));
        let error = wrong.expect_err("another password");
        assert!(matches!(error, KeyError::WrongPassword));
        assert!(!format!("{error} {error:?}").contains("hunter"));
    }
}
