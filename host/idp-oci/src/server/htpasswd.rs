//! Users of an htpasswd file (`htpasswd -B`), by Basic authentication: whoever is in it may do everything.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::secret::Secret;
use crate::server::access::{Access, Need, Refusal};

const CHALLENGE: &str = "Basic realm=\"idp registry\", charset=\"UTF-8\"";

/// A user that does not exist takes as long to refuse as one that does: this hash is checked instead.
const NOBODY_COST: u32 = 10;

/// How many passwords are checked at once; each takes a core for tens of milliseconds.
const CHECKS: usize = 4;

/// Good passwords that are remembered (as hashes with a salt of this process), so that bcrypt runs once a user.
const REMEMBERED: usize = 1024;

/// Why a file of users cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// It cannot be read.
    #[error("cannot read the users file: {0}")]
    Read(#[source] std::io::Error),
    /// A line that is not `user:hash`.
    #[error("`{}` line {line}: a line is user:hash; `htpasswd -B` writes such", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A hash of another kind.
    #[error("`{}` line {line}: the password of `{user}` is not hashed with bcrypt; write it anew with `htpasswd -B`", path.display())]
    NotBcrypt {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Whose password.
        user: String,
    },
    /// The random numbers of the system.
    #[error("no random numbers: {0}")]
    Random(String),
}

/// The users of a file, as it was when it was read.
pub struct Htpasswd {
    users: HashMap<String, String>,
    nobody: String,
    salt: [u8; 32],
    remembered: Mutex<HashSet<[u8; 32]>>,
    checks: Arc<Semaphore>,
}

impl std::fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Htpasswd").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl Htpasswd {
    /// Reads a file of users.
    pub fn read(path: &Path) -> Result<Self, HtpasswdError> {
        let text = fs_err::read_to_string(path).map_err(HtpasswdError::Read)?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, HtpasswdError> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let (path, number) = (path.to_owned(), index + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((user, hash)) = line.split_once(':').filter(|(user, _)| !user.is_empty()) else {
                return Err(HtpasswdError::Line { path, line: number });
            };
            if !["$2a$", "$2b$", "$2y$"].iter().any(|kind| hash.starts_with(kind)) || hash.len() != 60 {
                return Err(HtpasswdError::NotBcrypt { path, line: number, user: user.to_owned() });
            }
            users.insert(user.to_owned(), hash.to_owned());
        }
        let mut salt = [0; 32];
        rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| HtpasswdError::Random(error.to_string()))?;
        let nobody =
            bcrypt::hash(salt, NOBODY_COST).map_err(|error| HtpasswdError::Random(error.to_string()))?;
        Ok(Self {
            users,
            nobody,
            salt,
            remembered: Mutex::default(),
            checks: Arc::new(Semaphore::new(CHECKS)),
        })
    }

    async fn is_good(&self, user: &str, password: Secret) -> bool {
        let key = self.key(user, &password);
        let known = self.users.get(user);
        if known.is_some() && self.remembered().contains(&key) {
            return true;
        }
        let hash = known.unwrap_or(&self.nobody).clone();
        let Ok(_permit) = self.checks.acquire().await else { return false };
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password.expose(), &hash)).await;
        let good = known.is_some() && matches!(checked, Ok(Ok(true)));
        if good {
            let mut remembered = self.remembered();
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
            remembered.insert(key);
        }
        good
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, user: &str, password: &Secret) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.salt);
        hasher.update((user.len() as u64).to_le_bytes());
        hasher.update(user);
        hasher.update(password.expose());
        hasher.finalize().into()
    }
}

#[async_trait]
impl Access for Htpasswd {
    async fn check(&self, authorization: Option<&str>, _need: Need<'_>) -> Result<Option<String>, Refusal> {
        if let Some((user, password)) = authorization.and_then(basic)
            && self.is_good(&user, password).await
        {
            return Ok(Some(user));
        }
        Err(Refusal::Unauthenticated { challenge: CHALLENGE.to_owned() })
    }
}

/// User and password of a Basic `Authorization` (RFC 7617).
fn basic(authorization: &str) -> Option<(String, Secret)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = zeroize::Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::{Htpasswd, HtpasswdError};
    use crate::server::access::{Access as _, Need};

    fn file(text: &str) -> Result<Htpasswd, HtpasswdError> {
        Htpasswd::parse(text, Path::new("users"))
    }

    #[tokio::test]
    async fn users_of_the_file_come_in_and_nobody_else() {
        let hash = bcrypt::hash("pass:word", 4).expect("hashed");
        let users = file(&format!("# people\n\nalice:{hash}\n")).expect("read");
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let good = basic("alice:pass:word");
        for _ in 0..2 {
            assert_eq!(users.check(Some(&good), Need::Registry).await, Ok(Some("alice".to_owned())));
        }
        assert_eq!(users.remembered().len(), 1);
        for bad in ["alice:", "alice:Pass:word", "bob:pass:word", ":pass:word", "alice"] {
            assert!(users.check(Some(&basic(bad)), Need::Registry).await.is_err(), "{bad}");
        }
        for bad in
            [good.replace("Basic", "Bearer"), "Basic %%%".to_owned(), "Basic".to_owned(), String::new()]
        {
            assert!(users.check(Some(&bad), Need::Registry).await.is_err(), "{bad}");
        }
        assert!(users.check(None, Need::Registry).await.is_err());
        assert!(!format!("{users:?}").contains("alice"));
    }

    #[test]
    fn what_is_no_users_file_is_refused_with_its_line() {
        assert!(matches!(file("alice"), Err(HtpasswdError::Line { line: 1, .. })));
        assert!(matches!(file("\n:x"), Err(HtpasswdError::Line { line: 2, .. })));
        for hash in ["plain", "{SHA}x", "$apr1$x$y", "$2y$10$short"] {
            assert!(matches!(file(&format!("bob:{hash}")), Err(HtpasswdError::NotBcrypt { .. })), "{hash}");
        }
    }
}
