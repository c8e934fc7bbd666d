//! The users file, edited: add, change, remove, list. For `idp registry user`, beside a registry that is running or not.
//!
//! Comments, order and the lines of others stay as they are. The file is replaced as a whole, mode 0600, under a lock.

use std::path::{Path, PathBuf};

use crate::secret::Secret;
use crate::server::htpasswd::{HtpasswdError, lines};
use crate::server::private;
use crate::server::rules::{ANONYMOUS, AUTHENTICATED};
use crate::server::token::REFRESH_USER;

/// The bcrypt cost of new passwords: about a tenth of a second a check.
const COST: u32 = 11;

/// What bcrypt reads of a password, in bytes; more would be ignored without a word.
const LONGEST_PASSWORD: usize = 72;

/// Why a user cannot be added, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A name that no users file can hold, or that means something else.
    #[error("`{name}` cannot be the name of a user: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A password that cannot be kept.
    #[error("this password cannot be used: {0}")]
    Password(&'static str),
    /// There is no such user.
    #[error("`{}` has no user `{name}`", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The file holds something else; it is not touched.
    #[error(transparent)]
    File(#[from] HtpasswdError),
    /// The file cannot be written.
    #[error("cannot write the users file: {0}")]
    Write(#[source] std::io::Error),
}

/// What became of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There is a new one.
    Added,
    /// There was one, with another password now.
    Changed,
}

/// Adds a user, or gives one another password. Makes the file if there is none. Takes a tenth of a second: not for a thread
/// that serves.
pub fn set(path: &Path, name: &str, password: &Secret) -> Result<Change, UserError> {
    check_name(name)?;
    check_password(password)?;
    let hash =
        bcrypt::hash(password.expose(), COST).map_err(|error| HtpasswdError::Random(error.to_string()))?;
    let line = format!("{name}:{hash}");
    let _lock = private::lock(path).map_err(UserError::Write)?;
    let text = match fs_err::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.map_err(HtpasswdError::Read)?,
    };
    let places = places(&text, path, name)?;
    let mut result = without(&text, places.get(1..).unwrap_or_default());
    match places.first() {
        Some(first) => result[first - 1] = &line,
        None => result.push(&line),
    }
    write(path, &result)?;
    Ok(if places.is_empty() { Change::Added } else { Change::Changed })
}

/// Removes a user.
pub fn remove(path: &Path, name: &str) -> Result<(), UserError> {
    let _lock = private::lock(path).map_err(UserError::Write)?;
    let text = fs_err::read_to_string(path).map_err(HtpasswdError::Read)?;
    let places = places(&text, path, name)?;
    if places.is_empty() {
        return Err(UserError::Unknown { path: path.to_owned(), name: name.to_owned() });
    }
    write(path, &without(&text, &places))
}

/// The names of all users, in the order of the file.
pub fn list(path: &Path) -> Result<Vec<String>, UserError> {
    let text = fs_err::read_to_string(path).map_err(HtpasswdError::Read)?;
    let mut names: Vec<String> = Vec::new();
    for line in lines(&text, path) {
        let (_, name, _) = line?;
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The numbers of the lines that name this user, from 1.
fn places(text: &str, path: &Path, name: &str) -> Result<Vec<usize>, UserError> {
    let mut places = Vec::new();
    for line in lines(text, path) {
        let (number, user, _) = line?;
        if user == name {
            places.push(number);
        }
    }
    Ok(places)
}

fn without<'a>(text: &'a str, places: &[usize]) -> Vec<&'a str> {
    text.lines().zip(1..).filter(|(_, number)| !places.contains(number)).map(|(line, _)| line).collect()
}

fn write(path: &Path, lines: &[&str]) -> Result<(), UserError> {
    let mut text = lines.join("\n");
    text.push('\n');
    private::replace(path, text.as_bytes()).map_err(UserError::Write)
}

fn check_name(name: &str) -> Result<(), UserError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > 255 {
        "it has more than 255 bytes"
    } else if name.contains(':') {
        "a colon ends the name in users files and logins"
    } else if name.starts_with('#') {
        "a line that begins with # is a comment"
    } else if name.chars().any(|character| character.is_control() || character.is_whitespace()) {
        "it has white space or control characters"
    } else if [ANONYMOUS, AUTHENTICATED, REFRESH_USER].contains(&name) {
        "the name means something else in rules or logins"
    } else {
        return Ok(());
    };
    Err(UserError::Name { name: name.chars().take(300).collect(), why })
}

fn check_password(password: &Secret) -> Result<(), UserError> {
    let text = password.expose();
    let why = if text.is_empty() {
        "it is empty"
    } else if text.len() > LONGEST_PASSWORD {
        "it has more than 72 bytes, and bcrypt reads no more"
    } else if text.contains(['\0', '\r', '\n']) {
        "it has a line break or a NUL in it"
    } else {
        return Ok(());
    };
    Err(UserError::Password(why))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Change, UserError, list, remove, set};
    use crate::secret::Secret;
    use crate::server::htpasswd::Htpasswd;

    #[tokio::test]
    async fn users_come_change_and_go() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("auth/users");
        let one = Secret::new("one");
        assert_eq!(set(&path, "alice", &one).expect("added"), Change::Added);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("there");
        std::fs::write(&path, format!("# people\n\n{text}")).expect("written");
        assert_eq!(set(&path, "bob", &one).expect("added"), Change::Added);
        assert_eq!(set(&path, "alice", &Secret::new("two")).expect("changed"), Change::Changed);
        let text = std::fs::read_to_string(&path).expect("there");
        assert!(text.starts_with("# people\n\nalice:$2b$11$") && text.lines().count() == 4, "{text}");
        assert_eq!(list(&path).expect("listed"), ["alice", "bob"]);
        let users = Htpasswd::read(&path).expect("users");
        for (name, password, expect) in
            [("alice", "one", false), ("alice", "two", true), ("bob", "one", true)]
        {
            assert_eq!(users.check_password(name, Secret::new(password), None).await, Ok(expect), "{name}");
        }
        remove(&path, "alice").expect("removed");
        assert!(matches!(remove(&path, "alice"), Err(UserError::Unknown { .. })));
        assert_eq!(list(&path).expect("listed"), ["bob"]);
        assert!(std::fs::read_to_string(&path).expect("there").starts_with("# people\n"));
    }

    #[test]
    fn edits_at_once_lose_nobody() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("users");
        std::thread::scope(|scope| {
            for index in 0..6 {
                let path = &path;
                scope.spawn(move || set(path, &format!("user{index}"), &Secret::new("x")).expect("added"));
            }
        });
        assert_eq!(list(&path).expect("listed").len(), 6);
    }

    #[test]
    fn what_cannot_be_a_user() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("users");
        let long = "x".repeat(256);
        for name in ["", "a:b", "#a", "a b", "a\n", "a\0", "anonymous", "authenticated", "<token>", &long] {
            let error = set(&path, name, &Secret::new("x")).expect_err(name);
            assert!(matches!(error, UserError::Name { .. }), "{name}");
        }
        for password in ["", "a\0b", &"x".repeat(73)] {
            let error = set(&path, "alice", &Secret::new(password)).expect_err("refused");
            assert!(matches!(error, UserError::Password(_)), "{error}");
            assert!(password.is_empty() || !format!("{error} {error:?}").contains(password));
        }
        assert!(!path.exists());
        // A file that is something else is not touched.
        std::fs::write(&path, "something else\n").expect("written");
        assert!(matches!(set(&path, "alice", &Secret::new("x")), Err(UserError::File(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "something else\n");
    }
}
