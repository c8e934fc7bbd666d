//! Users of an htpasswd file (`htpasswd -B`), by Basic authentication.
//!
//! The file is read again when it changes. A password is checked against its hash once in a while and not for every
//! request: of good ones a keyed digest is remembered for some minutes, never the password. Wrong ones are counted for
//! each address, and after some no more are checked for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::secret::Secret;
use crate::server::access::{Access, Caller, Identity, Need, Unidentified, Why};
use crate::server::private::{Stamp, Watched};
use crate::server::throttle::{Rate, Sender, Throttle};

/// What asks for user and password.
pub(crate) const CHALLENGE: &str = "Basic realm=\"idp registry\", charset=\"UTF-8\"";

/// How many passwords are checked at once; each takes a core for tens of milliseconds.
const CHECKS: usize = 4;

/// Good passwords that are remembered.
const REMEMBERED: usize = 1024;

/// For how long.
const REMEMBER: Duration = Duration::from_secs(300);

/// A hash that costs more than this (seconds a check) would be a way to stop the registry.
const MOST_COST: u32 = 15;

/// What a user costs who is not in an empty file.
const LEAST_COST: u32 = 10;

/// How often passwords may be wrong, unless it is said: as often as somebody mistypes.
pub(crate) fn default_failures() -> Option<Rate> {
    Rate::new(10, 10)
}

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
    /// A hash that takes seconds to check.
    #[error("`{}` line {line}: the password of `{user}` has bcrypt cost {cost}; at most {MOST_COST} is checked: write it anew with `htpasswd -B -C 10`", path.display())]
    TooCostly {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Whose password.
        user: String,
        /// The logarithm of its rounds.
        cost: u32,
    },
    /// The random numbers of the system.
    #[error("no random numbers: {0}")]
    Random(String),
}

/// The users of a file, as it is.
pub struct Htpasswd {
    file: Option<Watched>,
    people: RwLock<Arc<People>>,
    key: hmac::Key,
    remembered: Mutex<HashMap<Vec<u8>, Instant>>,
    checks: Semaphore,
    failures: Throttle,
}

/// What a file of users says.
struct People {
    hashes: HashMap<String, String>,
    /// A user that does not exist takes as long to refuse as one that does: this hash is checked instead. No password has it.
    nobody: String,
}

impl std::fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Htpasswd").field("users", &self.people().hashes.len()).finish_non_exhaustive()
    }
}

impl Htpasswd {
    /// Reads a file of users, and again when it changes. Wrong passwords are limited to what somebody mistypes.
    pub fn read(path: &Path) -> Result<Self, HtpasswdError> {
        let stamp = Stamp::of(path).ok();
        let text = fs_err::read_to_string(path).map_err(HtpasswdError::Read)?;
        let users = Self::new(parse(&text, path)?)?;
        Ok(Self { file: Some(Watched::new(path.to_owned(), stamp)), ..users })
    }

    /// Limits wrong passwords of an address to this; `None` for no limit.
    pub fn with_failures(self, rate: Option<Rate>) -> Self {
        Self { failures: Throttle::new(rate), ..self }
    }

    fn new(people: People) -> Result<Self, HtpasswdError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
            .map_err(|error| HtpasswdError::Random(error.to_string()))?;
        Ok(Self {
            file: None,
            people: RwLock::new(Arc::new(people)),
            key,
            remembered: Mutex::default(),
            checks: Semaphore::new(CHECKS),
            failures: Throttle::new(default_failures()),
        })
    }

    /// Whether there is such a user now.
    pub fn contains(&self, user: &str) -> bool {
        self.current().hashes.contains_key(user)
    }

    /// A text that changes with the user's password and tells nothing of it; `None` where there is no such user.
    pub(crate) fn fingerprint(&self, user: &str) -> Option<String> {
        let people = self.current();
        let hash = people.hashes.get(user)?;
        let text = format!("idp registry user\0{user}\0{hash}");
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        Some(URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]))
    }

    /// Whether this is the user's password; an error where the address had too many wrong ones.
    pub(crate) async fn check_password(
        &self,
        user: &str,
        password: Secret,
        address: Option<IpAddr>,
    ) -> Result<bool, Unidentified> {
        let people = self.current();
        let known = people.hashes.get(user);
        let key = self.key(user, known.unwrap_or(&people.nobody), &password);
        if known.is_some() && self.is_remembered(&key) {
            return Ok(true);
        }
        let sender = address.map(Sender::at);
        if let Some(sender) = &sender {
            // Before the wait for a place: those that are to be refused do not take it.
            self.failures.peek(sender).map_err(Unidentified::TooMany)?;
        }
        let Ok(_permit) = self.checks.acquire().await else { return Ok(false) };
        // Another request of the same user may have been first.
        if known.is_some() && self.is_remembered(&key) {
            return Ok(true);
        }
        if let Some(sender) = &sender {
            self.failures.take(sender).map_err(Unidentified::TooMany)?;
        }
        let hash = known.unwrap_or(&people.nobody).clone();
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password.expose(), &hash)).await;
        let good = known.is_some() && matches!(checked, Ok(Ok(true)));
        if good {
            if let Some(sender) = &sender {
                self.failures.give_back(sender);
            }
            self.remember(key);
        }
        Ok(good)
    }

    /// The users as the file has them, read again if it changed. One that cannot be read or used changes nothing.
    fn current(&self) -> Arc<People> {
        if let Some(file) = self.file.as_ref().filter(|file| file.changed()) {
            let read = fs_err::read_to_string(&file.path).map_err(HtpasswdError::Read);
            match read.and_then(|text| parse(&text, &file.path)) {
                Ok(people) => {
                    tracing::info!(target: "idp::registry", users = people.hashes.len(), "the users file was read again");
                    *self.people.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(people);
                }
                Err(error) => {
                    tracing::error!(target: "idp::registry", %error, "the users file changed and cannot be used; the users before it hold on");
                }
            }
        }
        self.people()
    }

    fn people(&self) -> Arc<People> {
        Arc::clone(&self.people.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_remembered(&self, key: &[u8]) -> bool {
        self.remembered().get(key).is_some_and(|until| *until > Instant::now())
    }

    fn remember(&self, key: Vec<u8>) {
        let now = Instant::now();
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, until| *until > now);
        }
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(key, now + REMEMBER);
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Instant>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the hash in it: a password that was changed is not remembered.
    fn key(&self, user: &str, hash: &str, password: &Secret) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        for text in [user, hash, password.expose()] {
            context.update(&(text.len() as u64).to_le_bytes());
            context.update(text.as_bytes());
        }
        context.sign().as_ref().to_vec()
    }
}

/// The lines of a users file: number from 1, user, hash. Comments and empty lines are left out.
pub(crate) fn lines<'a>(
    text: &'a str,
    path: &Path,
) -> impl Iterator<Item = Result<(usize, &'a str, &'a str), HtpasswdError>> {
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let pair = line.split_once(':').filter(|(user, _)| !user.is_empty());
        let error = || HtpasswdError::Line { path: path.to_owned(), line: number };
        Some(pair.map(|(user, hash)| (number, user, hash)).ok_or_else(error))
    })
}

fn parse(text: &str, path: &Path) -> Result<People, HtpasswdError> {
    let mut hashes = HashMap::new();
    let mut dearest = LEAST_COST;
    for line in lines(text, path) {
        let (line, user, hash) = line?;
        let (path, user) = (path.to_owned(), user.to_owned());
        let is_bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|kind| hash.starts_with(kind));
        let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
        let Some(cost) = cost.filter(|_| is_bcrypt && hash.len() == 60) else {
            return Err(HtpasswdError::NotBcrypt { path, line, user });
        };
        if cost > MOST_COST {
            return Err(HtpasswdError::TooCostly { path, line, user, cost });
        }
        dearest = dearest.max(cost);
        hashes.insert(user, hash.to_owned());
    }
    // Well formed, so that it is checked to the end.
    let nobody = format!("$2b${dearest:02}${}", ".".repeat(53));
    Ok(People { hashes, nobody })
}

/// Whoever is in the file may do everything.
#[async_trait]
impl Access for Htpasswd {
    async fn identify(&self, caller: &Caller<'_>) -> Result<Identity, Unidentified> {
        let Some(authorization) = caller.authorization else { return Ok(Identity::default()) };
        let (user, password) = basic(authorization).ok_or(Unidentified::Credential)?;
        if self.check_password(&user, password, caller.address).await? {
            Ok(Identity::user(user))
        } else {
            Err(Unidentified::Credential)
        }
    }

    fn permits(&self, identity: &Identity, _need: Need<'_>) -> bool {
        identity.user.is_some()
    }

    fn challenges(&self, _caller: &Caller<'_>, _needs: &[Need<'_>], _why: Why) -> Vec<String> {
        vec![CHALLENGE.to_owned()]
    }
}

/// User and password of a Basic `Authorization` (RFC 7617).
pub(crate) fn basic(authorization: &str) -> Option<(String, Secret)> {
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
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::{Htpasswd, HtpasswdError, parse};
    use crate::secret::Secret;
    use crate::server::access::{Access as _, Caller, Identity, Unidentified};
    use crate::server::throttle::{Rate, whole_seconds};

    fn file(text: &str) -> Result<Htpasswd, HtpasswdError> {
        Htpasswd::new(parse(text, Path::new("users"))?)
    }

    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).expect("hashed")
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    async fn come(users: &Htpasswd, authorization: &str) -> Result<Identity, Unidentified> {
        users.identify(&Caller { authorization: Some(authorization), ..Caller::default() }).await
    }

    #[tokio::test]
    async fn users_of_the_file_come_in_and_nobody_else() {
        let users = file(&format!("# people\n\nalice:{}\n", hash("pass:word"))).expect("read");
        let good = basic("alice:pass:word");
        for _ in 0..2 {
            assert_eq!(come(&users, &good).await, Ok(Identity::user("alice")));
        }
        assert_eq!(users.remembered().len(), 1);
        for bad in ["alice:", "alice:Pass:word", "bob:pass:word", ":pass:word", "alice"] {
            assert_eq!(come(&users, &basic(bad)).await, Err(Unidentified::Credential), "{bad}");
        }
        for bad in
            [good.replace("Basic", "Bearer"), "Basic %%%".to_owned(), "Basic".to_owned(), String::new()]
        {
            assert_eq!(come(&users, &bad).await, Err(Unidentified::Credential), "{bad}");
        }
        let nobody = users.identify(&Caller::default()).await.expect("nobody in particular");
        assert!(!users.permits(&nobody, crate::server::access::Need::Registry));
        assert!(!format!("{users:?}").contains("alice"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_password_is_remembered_for_a_while_and_never_itself() {
        let users = file(&format!("alice:{}\n", hash("word"))).expect("read");
        let good = basic("alice:word");
        come(&users, &good).await.expect("let in");
        let kept: Vec<Vec<u8>> = users.remembered().keys().cloned().collect();
        assert!(kept.iter().all(|key| key.len() == 32 && !key.windows(4).any(|part| part == b"word")));
        let until = |users: &Htpasswd| users.remembered().values().copied().max();
        let first = until(&users);
        tokio::time::advance(Duration::from_secs(299)).await;
        come(&users, &good).await.expect("let in");
        assert_eq!(until(&users), first, "not checked again");
        tokio::time::advance(Duration::from_secs(2)).await;
        come(&users, &good).await.expect("let in");
        assert_ne!(until(&users), first, "checked again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_again() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("users");
        std::fs::write(&path, format!("alice:{}\n", hash("one"))).expect("written");
        let users = Htpasswd::read(&path).expect("users");
        assert!(come(&users, &basic("alice:one")).await.is_ok());
        let before = users.fingerprint("alice");
        let next = async |text: &str| {
            std::fs::write(&path, text).expect("written");
            tokio::time::advance(Duration::from_secs(2)).await;
        };
        next(&format!("alice:{}\nbob:{}\n", hash("two"), hash("three"))).await;
        assert!(come(&users, &basic("alice:one")).await.is_err(), "the old password, though remembered");
        assert!(come(&users, &basic("alice:two")).await.is_ok());
        assert!(come(&users, &basic("bob:three")).await.is_ok());
        assert_ne!(users.fingerprint("alice"), before);
        // What cannot be used changes nothing.
        next("alice:plain\n").await;
        assert!(come(&users, &basic("bob:three")).await.is_ok());
        std::fs::remove_file(&path).expect("removed");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(users.contains("alice"));
        next("# nobody\n").await;
        assert!(come(&users, &basic("bob:three")).await.is_err());
        assert_eq!(users.fingerprint("alice"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_of_an_address_are_limited_and_right_ones_are_not() {
        let users = file(&format!("alice:{}\n", hash("word"))).expect("read");
        let users = users.with_failures(Rate::new(6, 3));
        let from = async |address: &str, password: &str| {
            let password = Secret::new(password);
            users.check_password("alice", password, Some(address.parse().expect("an address"))).await
        };
        for _ in 0..20 {
            users.remembered().clear();
            assert_eq!(from("192.0.2.1", "word").await, Ok(true));
        }
        for _ in 0..3 {
            assert_eq!(from("192.0.2.1", "wrong").await, Ok(false));
        }
        users.remembered().clear();
        for password in ["wrong", "word"] {
            let Err(Unidentified::TooMany(wait)) = from("192.0.2.1", password).await else {
                panic!("{password} is checked")
            };
            assert_eq!(whole_seconds(wait), 10);
        }
        assert_eq!(from("192.0.2.2", "word").await, Ok(true), "another address");
        assert_eq!(from("192.0.2.1", "word").await, Ok(true), "known by now, so nothing is guessed");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(from("192.0.2.1", "wrong").await, Ok(false));
        assert!(from("192.0.2.1", "wrong").await.is_err());
    }

    #[test]
    fn somebody_unknown_costs_as_much_as_the_dearest_user() {
        for (costs, expect) in [(vec![], "$2b$10$"), (vec![4, 5], "$2b$10$"), (vec![10, 12], "$2b$12$")] {
            let lines: Vec<String> =
                costs.iter().map(|cost| format!("u{cost}:$2y${cost:02}${}", ".".repeat(53))).collect();
            let people = parse(&lines.join("\n"), Path::new("users")).expect("users");
            assert!(people.nobody.starts_with(expect), "{costs:?}");
            // Checked to the end, and nobody's.
            if expect == "$2b$10$" {
                assert_eq!(bcrypt::verify("", &people.nobody).ok(), Some(false));
            }
        }
    }

    #[test]
    fn what_is_no_users_file_is_refused_with_its_line() {
        assert!(matches!(file("alice"), Err(HtpasswdError::Line { line: 1, .. })));
        assert!(matches!(file("\n:x"), Err(HtpasswdError::Line { line: 2, .. })));
        let multibyte = format!("$2y$1é{}", ".".repeat(53));
        for hash in ["plain", "{SHA}x", "$apr1$x$y", "$2y$10$short", &multibyte] {
            assert!(matches!(file(&format!("bob:{hash}")), Err(HtpasswdError::NotBcrypt { .. })), "{hash}");
        }
        let costly = format!("bob:$2y$31${}", ".".repeat(53));
        assert!(matches!(file(&costly), Err(HtpasswdError::TooCostly { cost: 31, .. })));
    }
}
