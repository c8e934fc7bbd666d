//! Names that Harbor takes: `PROJECT/REPOSITORY[/MORE]`.

use idp_provider_sdk::prelude::*;

/// The allowed shape of a project's name, for messages.
pub(crate) const PATTERN: &str = "[a-z0-9]+([._-][a-z0-9]+)*";

/// The project and the repository in it.
pub(crate) fn split(repository: &str) -> Option<(&str, &str)> {
    repository.split_once('/').filter(|(project, rest)| !project.is_empty() && !rest.is_empty())
}

/// The project and the repository in it.
///
/// # Errors
/// `invalid` for a name without a project.
pub(crate) fn parts(repository: &str) -> Result<(&str, &str)> {
    let registry = invocation::registry();
    split(repository).ok_or_else(|| {
        Error::invalid(format!(
            "`{repository}` names no project: at {registry} it is {registry}/PROJECT/{repository}; `library` is a project that \
             Harbor comes with"
        ))
        .code("project-missing")
    })
}

/// Whether a project can have this name: one separator at a time, up to 255 characters.
fn is_project(name: &str) -> bool {
    let mut after_separator = true;
    for byte in name.bytes() {
        match byte {
            b'.' | b'_' | b'-' if !after_separator => after_separator = true,
            b'a'..=b'z' | b'0'..=b'9' => after_separator = false,
            _ => return false,
        }
    }
    !after_separator && name.len() <= 255
}

/// Checks what the registry would refuse.
pub(crate) fn normalize(repository: &str) -> Result<WireName> {
    let registry = invocation::registry();
    let (project, _) = parts(repository)?;
    if !is_project(project) {
        return Err(Error::invalid(format!(
            "{registry} can have no project `{project}`: the name of a project is {PATTERN}, up to 255 characters"
        ))
        .code("NAME_INVALID"));
    }
    Ok(WireName {
        display: format!("{registry}/{repository}"),
        credential_keys: vec![registry.clone()],
        host: registry,
        repository: repository.to_owned(),
        warnings: Vec::new(),
        extra: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_projects() {
        for good in ["library", "a", "0", "a.b-c_d"] {
            assert!(is_project(good), "{good}");
        }
        let long = "a".repeat(256);
        for bad in ["", "A", "a__b", "a--b", "-a", "a-", "a b", long.as_str()] {
            assert!(!is_project(bad), "{bad}");
        }
    }
}
