//! Recorded conversations: a directory of `*.toml`, each one question with the host's state, the exchanges and the answer.
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
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Answers, Arguments, Exchange, Host, ask};
use crate::invocation::Answer;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    question: String,
    #[serde(default)]
    arguments: Map<String, Value>,
    host: Setup,
    #[serde(default)]
    exchange: Vec<Exchange>,
    answer: Option<Value>,
    error: Option<Value>,
    #[serde(default)]
    absent: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Setup {
    registry: String,
    scheme: Option<String>,
    operation: Option<String>,
    attempt: Option<u32>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    challenges: Vec<String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    credential: BTreeMap<String, Credential>,
    subject: Option<Subject>,
    /// RFC 3339; 2026-11-21 09:00 UTC unless given.
    now: Option<String>,
    /// What an earlier call remembered.
    #[serde(default)]
    remembered: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    kind: String,
    #[serde(default)]
    public: BTreeMap<String, String>,
    #[serde(default)]
    secret: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    request: String,
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
}

/// Runs every case of a directory against a provider: `run::<Example>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))`.
///
/// # Panics
/// With every difference, by file; and when there is no case.
pub fn run<P: Answers>(directory: impl AsRef<Path>) {
    let directory = directory.as_ref();
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty(), "{} has no cases", directory.display());
    let failed = files.iter().filter_map(|path| {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        one::<P>(&text).err().map(|difference| format!("{}: {difference}", path.display()))
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Runs one case.
///
/// # Errors
/// What was different, in words.
pub fn one<P: Answers>(text: &str) -> Result<(), String> {
    let case: Case = toml::from_str(text).map_err(|error| error.to_string())?;
    let host = host(&case.host, &case.exchange).manifest(P::MANIFEST);
    let arguments = Arguments(case.arguments);
    let answer = host.try_run(|| P::answer(&case.question, &arguments));
    let answer = answer?.ok_or_else(|| format!("the provider does not export `{}`", case.question))?;
    match (answer, case.answer, case.error) {
        (Ok(given), Some(expected), None) => difference("answer", &expected, &given).or_else(|| {
            let there =
                case.absent.iter().find(|key| given.get(key.as_str()).is_some_and(|value| !value.is_null()));
            there.map(|key| format!("answer.{key}: expected nothing, and it was {}", given[key.as_str()]))
        }),
        (Err(given), None, Some(expected)) => difference("error", &expected, &ask::error(&given)),
        (Ok(given), None, Some(_)) => Some(format!("an error was expected, and it answered {given}")),
        (Err(given), Some(_), None) => {
            Some(format!("an answer was expected, and it failed: {}", ask::error(&given)))
        }
        _ => Some("a case has either [answer] or [error]".to_owned()),
    }
    .map_or(Ok(()), Err)
}

fn host(setup: &Setup, exchanges: &[Exchange]) -> Host {
    let mut host = Host::new(&setup.registry)
        .scheme(setup.scheme.as_deref().unwrap_or("https"))
        .operation(setup.operation.as_deref().unwrap_or("push"))
        .attempt(setup.attempt.unwrap_or(1))
        .dry_run(setup.dry_run);
    for challenge in &setup.challenges {
        host = host.challenge(challenge);
    }
    for (name, value) in &setup.settings {
        host = host.setting(name, value);
    }
    if let Some(now) = &setup.now {
        let seconds = crate::time::rfc3339(now).unwrap_or_else(|| panic!("`now` is not RFC 3339: {now}"));
        host = host.now_ms(u64::try_from(seconds).unwrap_or_default() * 1000);
    }
    for (key, value) in &setup.remembered {
        host = host.remembered(key, value);
    }
    for (slot, credential) in &setup.credential {
        let borrow = |map: &BTreeMap<String, String>| -> Vec<(String, String)> {
            map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let (public, secret) = (borrow(&credential.public), borrow(&credential.secret));
        let public: Vec<_> = public.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let secret: Vec<_> = secret.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        host = host.credential(slot, &credential.kind, &public, &secret);
    }
    if let Some(subject) = &setup.subject {
        let (method, url) = subject.request.split_once(' ').unwrap_or(("GET", &subject.request));
        host = host.subject(Answer {
            method: method.to_owned(),
            url: url.to_owned(),
            status: subject.status,
            headers: subject.headers.clone(),
            body: subject.body.clone(),
            extra: Vec::new(),
        });
    }
    exchanges.iter().cloned().fold(host, Host::exchange)
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
