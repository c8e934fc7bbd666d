//! A recorded conversation: one question with the host's state, the exchanges and the answer, as a file has it; and what is different about
//! an answer. Asks nobody: [`super::cases`] runs them natively, and the tests of the host against the component.
//!
//! ```toml
//! question = "auth.authorize"
//! arguments = { scopes = ["repository:alice/app:pull,push"] }
//!
//! [host]
//! registry = "git.example"
//! challenges = ['Bearer realm="https://git.example/v2/token"']
//! credential = { registry = { kind = "basic", public = { username = "alice" }, secret = { password = "s3cret" } } }
//!
//! [[exchange]]
//! request = "GET https://git.example/v2/token?client_id=idp"
//! headers = [["authorization", "Basic YWxpY2U6czNjcmV0"]]
//! status = 200
//! reply = '{"token":"T"}'
//!
//! [answer]                      # or [error]
//! authorization = { bearer = "T" }
//! ```
//!
//! Tables of the expectation may leave keys out, and `absent = ["next"]` names keys that the answer must not have; lists and values
//! must be equal; `…` in a string stands for any text.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Exchange;

/// When a case does not say: 2026-11-21 09:00 UTC.
pub const NOW_MS: u64 = 1_795_251_600_000;

/// One file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is asked, as in the contract.
    pub question: String,
    /// By their names in the contract.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// What the host knows.
    pub host: Setup,
    /// The requests, in order.
    #[serde(default)]
    pub exchange: Vec<Exchange>,
    /// The answer, when it is one.
    pub answer: Option<Value>,
    /// The error, when it is one.
    pub error: Option<Value>,
    /// Keys that the answer must not have.
    #[serde(default)]
    pub absent: Vec<String>,
}

/// What the host knows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Setup {
    /// `host[:port]`
    pub registry: String,
    /// `https` unless given.
    pub scheme: Option<String>,
    /// `push` unless given.
    pub operation: Option<String>,
    /// 1 unless given.
    pub attempt: Option<u32>,
    /// Nothing may be changed.
    #[serde(default)]
    pub dry_run: bool,
    /// Values of `WWW-Authenticate` that led here.
    #[serde(default)]
    pub challenges: Vec<String>,
    /// The registry's configuration.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// By slot.
    #[serde(default)]
    pub credential: BTreeMap<String, Credential>,
    /// The answer to be identified or explained.
    pub subject: Option<Subject>,
    /// RFC 3339; 2026-11-21 09:00 UTC unless given.
    pub now: Option<String>,
    /// What an earlier call remembered.
    #[serde(default)]
    pub remembered: BTreeMap<String, String>,
}

/// A credential in the clear.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// `basic`, …
    pub kind: String,
    /// What may be seen.
    #[serde(default)]
    pub public: BTreeMap<String, String>,
    /// What may not.
    #[serde(default)]
    pub secret: BTreeMap<String, String>,
}

/// An answer to a request of the host's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Method and URL of the request that was answered.
    pub request: String,
    /// Status code.
    pub status: u16,
    /// Its headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The start of its body.
    #[serde(default)]
    pub body: String,
}

impl Setup {
    /// Milliseconds after 1970.
    ///
    /// # Errors
    /// When `now` is not RFC 3339.
    pub fn now_ms(&self) -> Result<u64, String> {
        let Some(now) = &self.now else { return Ok(NOW_MS) };
        let seconds = crate::time::rfc3339(now).and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map(|seconds| seconds * 1000).ok_or_else(|| format!("`now` is not RFC 3339: {now}"))
    }
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// Where it is misspelt.
    pub fn parse(text: &str) -> Result<Self, String> {
        let case: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        match (&case.answer, &case.error) {
            (Some(_), None) | (None, Some(_)) => Ok(case),
            _ => Err("a case has either [answer] or [error]".to_owned()),
        }
    }

    /// What is different about what came of it, in words.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, outcome: Result<&Value, &Value>) -> Result<(), String> {
        let different = match (outcome, &self.answer, &self.error) {
            (Ok(given), Some(expected), _) => difference("answer", expected, given).or_else(|| {
                let there = self
                    .absent
                    .iter()
                    .find(|key| given.get(key.as_str()).is_some_and(|value| !value.is_null()));
                there.map(|key| format!("answer.{key}: expected nothing, and it was {}", given[key.as_str()]))
            }),
            (Err(given), _, Some(expected)) => difference("error", expected, given),
            (Ok(given), ..) => Some(format!("an error was expected, and it answered {given}")),
            (Err(given), ..) => Some(format!("an answer was expected, and it failed: {given}")),
        };
        different.map_or(Ok(()), Err)
    }
}

/// The cases of a directory, in the order of their names; never none.
///
/// # Errors
/// When there is no case, or the directory cannot be read.
pub fn files(directory: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let unreadable = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, error))?;
    let mut files: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    if files.is_empty() {
        return Err(format!("{} has no cases", directory.display()));
    }
    let read = |path: PathBuf| match fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(unreadable(&path, error)),
    };
    files.into_iter().map(read).collect()
}

/// The first difference, with the path to it.
fn difference(path: &str, expected: &Value, given: &Value) -> Option<String> {
    match (expected, given) {
        (Value::Object(expected), Value::Object(given)) => expected.iter().find_map(|(key, expected)| {
            difference(&format!("{path}.{key}"), expected, given.get(key).unwrap_or(&Value::Null))
        }),
        (Value::Array(expected), Value::Array(given)) if expected.len() == given.len() => {
            let mut both = expected.iter().zip(given).enumerate();
            both.find_map(|(index, (expected, given))| {
                difference(&format!("{path}[{index}]"), expected, given)
            })
        }
        (Value::String(expected), Value::String(given)) if contains(expected, given) => None,
        (expected, given) if expected == given => None,
        (expected, given) => Some(format!("{path}: expected {expected}, and it was {given}")),
    }
}

/// `…` stands for any text.
fn contains(expected: &str, given: &str) -> bool {
    let pieces: Vec<&str> = expected.split('…').collect();
    let [first, middle @ .., last] = pieces.as_slice() else { return expected == given };
    let Some(mut rest) = given.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    middle.iter().all(|piece| match rest.split_once(piece) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expectations_may_leave_keys_out_but_not_list_items() {
        let given = json!({ "a": [1, { "b": "the cause is x" }], "c": null });
        assert_eq!(difference("", &json!({ "a": [1, { "b": "…cause…" }] }), &given), None);
        assert_eq!(difference("", &json!({ "c": null, "d": null }), &given), None);
        assert!(difference("", &json!({ "a": [1] }), &given).is_some());
        assert!(difference("", &json!({ "a": [1, { "b": "cause" }] }), &given).is_some());
        assert!(difference("", &json!({ "c": "x" }), &given).is_some());
    }

    #[test]
    fn an_ellipsis_stands_for_any_text() {
        for (expected, given, same) in [
            ("…b…", "abc", true),
            ("a…", "abc", true),
            ("…c", "abcc", true),
            ("a…c", "abc", true),
            ("…a…c…", "xaxcx", true),
            ("…c…a…", "abc", false),
            ("b…", "abc", false),
            ("…b", "abc", false),
            ("abc", "abcd", false),
        ] {
            assert_eq!(contains(expected, given), same, "{expected} {given}");
        }
    }
}
