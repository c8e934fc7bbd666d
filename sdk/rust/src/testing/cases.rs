//! Recorded conversations against a provider, natively: `cases::run::<Example>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))`. What a file
//! looks like is in [`super::case`].

use std::collections::BTreeMap;
use std::path::Path;

use super::case::{Case, Setup, files};
use super::{Answers, Arguments, Exchange, Host, ask};
use crate::invocation::Answer;

/// Runs every case of a directory against a provider: `run::<Example>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))`.
///
/// # Panics
/// With every difference, by file; and when there is no case.
pub fn run<P: Answers>(directory: impl AsRef<Path>) {
    let files = files(directory.as_ref()).unwrap_or_else(|error| panic!("{error}"));
    let failed = files.iter().filter_map(|(path, text)| {
        one::<P>(text).err().map(|difference| format!("{}: {difference}", path.display()))
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Runs one case.
///
/// # Errors
/// What was different, in words.
pub fn one<P: Answers>(text: &str) -> Result<(), String> {
    let case = Case::parse(text)?;
    let host = host(&case.host, &case.exchange)?.manifest(P::MANIFEST);
    let arguments = Arguments(case.arguments.clone());
    let answer = host.try_run(|| P::answer(&case.question, &arguments));
    let answer = answer?.ok_or_else(|| format!("the provider does not export `{}`", case.question))?;
    let answer = answer.map_err(|error| ask::error(&error));
    case.compare(answer.as_ref())
}

fn host(setup: &Setup, exchanges: &[Exchange]) -> Result<Host, String> {
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
    host = host.now_ms(setup.now_ms()?);
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
    Ok(exchanges.iter().cloned().fold(host, Host::exchange))
}
