//! Names: `ORGANISATION/REPOSITORY[/MORE]`.

use idp_provider_sdk::prelude::*;

/// The organisation or user, and the repository.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('/').filter(|(namespace, repository)| !namespace.is_empty() && !repository.is_empty())
}

/// What has no namespace would not be found.
pub(crate) fn normalize(repository: &str) -> Result<WireName> {
    let registry = invocation::registry();
    if split(repository).is_none() {
        return Err(Error::invalid(format!(
            "`{repository}` names no organisation: at {registry} it is {registry}/ORGANISATION/{repository}, with a user or an \
             organisation as ORGANISATION"
        ))
        .code("namespace-missing"));
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
