//! Names that Gitea takes: `OWNER/IMAGE[/MORE]`, stricter than the specification, owners and tags without case.

use idp_provider_sdk::prelude::*;

/// The allowed shape of a part of an image's path, for messages.
pub(crate) const PATTERN: &str = "[a-z0-9]+([._-][a-z0-9]+)*";

/// The owner, in lower case as Gitea stores it, and the image.
pub(crate) fn split(repository: &str) -> Option<(String, &str)> {
    let (owner, image) = repository.split_once('/')?;
    (!owner.is_empty() && !image.is_empty()).then(|| (owner.to_ascii_lowercase(), image))
}

/// Whether a part of the path matches [`PATTERN`].
fn is_component(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut after_separator = true;
    for byte in part.bytes() {
        match byte {
            b'.' | b'_' | b'-' if !after_separator => after_separator = true,
            byte if alphanumeric(byte) => after_separator = false,
            _ => return false,
        }
    }
    !after_separator
}

/// Checks what the registry would refuse, and says what it will change.
pub(crate) fn normalize(repository: &str, tag: Option<&str>) -> Result<WireName> {
    let registry = invocation::registry();
    let Some((owner, image)) = split(repository) else {
        return Err(Error::invalid(format!(
            "`{repository}` names no owner: at {registry} it is {registry}/OWNER/{repository}, with a user or an organisation as OWNER"
        ))
        .code("owner-missing"));
    };
    if let Some(part) = image.split('/').find(|part| !is_component(part)) {
        let message = format!(
            "{registry} refuses `{part}` in `{repository}`: every part of an image's path is {PATTERN}"
        );
        return Err(Error::invalid(message).code("NAME_INVALID"));
    }
    let mut warnings = Vec::new();
    if let Some(tag) = tag.filter(|tag| tag.bytes().any(|byte| byte.is_ascii_uppercase())) {
        let lower = tag.to_ascii_lowercase();
        warnings.push(format!(
            "{registry} keeps tags in lower case: `{tag}` is stored, and listed, as `{lower}`"
        ));
    }
    let wire = format!("{owner}/{image}");
    Ok(WireName {
        display: format!("{registry}/{wire}"),
        credential_keys: vec![registry.clone()],
        host: registry,
        repository: wire,
        warnings,
        extra: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path() {
        for good in ["app", "a.b", "a-b_c.d", "0"] {
            assert!(is_component(good), "{good}");
        }
        for bad in ["", "App", "a__b", "a--b", "a.-b", "-a", "a-", "ä", "a b"] {
            assert!(!is_component(bad), "{bad}");
        }
    }
}
