//! Names: `GROUP[/SUBGROUP…]/PROJECT[/IMAGE[/MORE]]`, in lower case. Where the project ends only GitLab knows.

use idp_provider_sdk::prelude::*;

/// What may be the project in a repository's path, the most likely first: the setting's, then the longest.
pub(crate) fn projects(repository: &str) -> Vec<&str> {
    let ends = repository.match_indices('/').map(|(at, _)| at).skip(1).chain([repository.len()]);
    let mut found: Vec<&str> = ends.map(|end| &repository[..end]).collect();
    found.reverse();
    if !repository.contains('/') {
        return Vec::new();
    }
    if let Some(project) = own_project()
        && let Some(at) = found.iter().position(|candidate| *candidate == project)
    {
        let first = found.remove(at);
        found.insert(0, first);
    }
    found
}

/// The project that is meant without being named: the setting's. What a CI job says counts for the registry that it names.
pub(crate) fn own_project() -> Option<String> {
    let project = invocation::setting("project")?.trim_matches('/').to_ascii_lowercase();
    let here = invocation::setting("ci-registry").is_none_or(|registry| registry == invocation::registry());
    (here && !project.is_empty()).then_some(project)
}

/// In lower case, with a note where that changes something; a repository lies in a project.
pub(crate) fn normalize(repository: &str) -> Result<WireName> {
    let registry = invocation::registry();
    let wire = repository.to_ascii_lowercase();
    if !wire.contains('/') {
        return Err(Error::invalid(format!(
            "`{repository}` names no project: at {registry} a repository is {registry}/GROUP/PROJECT or {registry}/GROUP/PROJECT/IMAGE, and the \
             project must be there"
        ))
        .code("project-missing"));
    }
    let mut warnings = Vec::new();
    if wire != repository {
        warnings
            .push(format!("{registry} takes names in lower case only: `{repository}` is used as `{wire}`"));
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
