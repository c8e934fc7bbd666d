//! Names: `OWNER/IMAGE[/MORE]`. GitHub's names have no case, and people write them with capitals; the registry takes lower case only.

use idp_provider_sdk::prelude::*;

/// The owner and the name of the package, which may hold `/`.
pub(crate) fn split(repository: &str) -> Option<(&str, &str)> {
    repository.split_once('/').filter(|(owner, image)| !owner.is_empty() && !image.is_empty())
}

/// The owner and the package, or what is missing.
pub(crate) fn parts(repository: &str) -> Result<(&str, &str)> {
    split(repository).ok_or_else(|| {
        let registry = invocation::registry();
        Error::invalid(format!(
            "`{repository}` names no owner: at {registry} it is {registry}/OWNER/{repository}, with a user or an organisation as OWNER"
        ))
        .code("owner-missing")
    })
}

/// Everything in lower case, with a note where that changes something.
pub(crate) fn normalize(repository: &str) -> Result<WireName> {
    parts(repository)?;
    let registry = invocation::registry();
    let wire = repository.to_ascii_lowercase();
    let mut warnings = Vec::new();
    if wire != repository {
        warnings.push(format!(
            "{registry} takes names in lower case only: `{repository}` is used as `{wire}`, which is the same owner to GitHub"
        ));
    }
    Ok(WireName {
        display: format!("{registry}/{wire}"),
        credential_keys: vec![registry.clone()],
        host: registry,
        repository: wire,
        warnings,
        extra: Vec::new(),
    })
}
