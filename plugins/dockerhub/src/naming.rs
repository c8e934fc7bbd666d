//! Names on Docker Hub: `NAMESPACE/REPOSITORY`, one word alone is an official image in `library`, and four host names are the
//! same registry.

use idp_provider_sdk::prelude::*;

/// Where the registry's API is spoken, whatever the user wrote.
pub(crate) const WIRE_HOST: &str = "registry-1.docker.io";

/// How the registry is called in messages.
pub(crate) const SHOWN_HOST: &str = "docker.io";

/// The namespace of official images.
pub(crate) const OFFICIAL: &str = "library";

/// Docker's key in credential files; the host names are what people write by hand.
const CREDENTIAL_KEYS: [&str; 4] =
    ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"];

/// The allowed shape of a part of a name, for messages.
const PATTERN: &str = "[a-z0-9]+([._-][a-z0-9]+)*";

/// Longer names are refused.
const LONGEST: usize = 255;

/// Namespace and repository of a name on the wire; `None` unless it has exactly these two parts, which is all that the Hub's API
/// knows.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    let (namespace, repository) = name.split_once('/')?;
    (!namespace.is_empty() && !repository.is_empty() && !repository.contains('/'))
        .then_some((namespace, repository))
}

/// What lies before the first `/`.
pub(crate) fn namespace(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

/// As people write it: `docker.io/nginx`, `docker.io/me/app`.
pub(crate) fn shown(name: &str) -> String {
    let short = name.strip_prefix("library/").unwrap_or(name);
    format!("{SHOWN_HOST}/{short}")
}

/// Whether a part matches [`PATTERN`]. `__` and runs of `-` are the specification's, so they are left to the registry.
fn is_component(part: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = part.as_bytes();
    alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        })
}

/// From what was written to the wire. A push to one word is refused here: it can only be a slip.
pub(crate) fn normalize(repository: &str) -> Result<WireName> {
    let invalid = |message: String| Error::invalid(message).code("NAME_INVALID");
    if let Some(part) = repository.split('/').find(|part| !is_component(part)) {
        return Err(invalid(format!(
            "Docker Hub refuses `{part}` in `{repository}`: every part of a name is {PATTERN}"
        )));
    }
    let official = !repository.contains('/');
    if official && invocation::operation() == "push" {
        return Err(official_push(repository));
    }
    let wire = if official { format!("{OFFICIAL}/{repository}") } else { repository.to_owned() };
    if wire.len() > LONGEST {
        return Err(invalid(format!("`{wire}` is longer than the {LONGEST} bytes that a name may have")));
    }
    let mut warnings = Vec::new();
    if wire.split('/').count() > 2 {
        warnings.push(format!(
            "Docker Hub has repositories of two parts, NAMESPACE/REPOSITORY; `{wire}` has more, and is likely to be refused"
        ));
    }
    Ok(WireName {
        host: WIRE_HOST.to_owned(),
        display: shown(&wire),
        repository: wire,
        credential_keys: CREDENTIAL_KEYS.iter().map(|key| (*key).to_owned()).collect(),
        warnings,
        extra: Vec::new(),
    })
}

fn official_push(repository: &str) -> Error {
    let whose = match invocation::credential("registry") {
        Some(credential) if !credential.username().is_empty() => credential.username().to_owned(),
        _ => "NAMESPACE".to_owned(),
    };
    Error::denied(format!(
        "{SHOWN_HOST}/{repository} means {SHOWN_HOST}/{OFFICIAL}/{repository}, and only Docker publishes official images; push to \
         {SHOWN_HOST}/{whose}/{repository}"
    ))
    .code("official-image")
    .extra("name", OFFICIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_name() {
        for good in ["app", "a.b", "a-b_c.d", "0", "a__b", "a--b"] {
            assert!(is_component(good), "{good}");
        }
        for bad in ["", "App", "-a", "a-", "a.", "ä", "a b"] {
            assert!(!is_component(bad), "{bad}");
        }
    }

    #[test]
    fn two_parts_or_nothing() {
        assert_eq!(split("me/app"), Some(("me", "app")));
        for other in ["app", "a/b/c", "/app", "me/"] {
            assert_eq!(split(other), None, "{other}");
        }
        assert_eq!((namespace("a/b/c"), shown("library/nginx")), ("a", "docker.io/nginx".to_owned()));
    }
}
