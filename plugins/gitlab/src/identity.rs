//! Is it GitLab's registry, and where is its GitLab: the realm of the challenge says both.

use idp_provider_sdk::prelude::*;

/// The path of the token endpoint, below GitLab's own.
const REALM: &str = "/jwt/auth";

/// The address of GitLab in a challenge of its registry.
pub(crate) fn gitlab(challenge: &Challenge) -> Option<String> {
    if !challenge.is("bearer") || challenge.param("service") != Some("container_registry") {
        return None;
    }
    let realm = challenge.realm_url(&invocation::origin())?;
    Some(realm.split(['?', '#']).next()?.strip_suffix(REALM)?.to_owned())
}

/// No probe: GitLab's version is told to people who are logged in only.
pub(crate) fn identify() -> Result<Identification> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is no answer to identify"))?;
    let Some(gitlab) = subject.challenges().iter().find_map(gitlab) else {
        return Ok(Identification { product: "unknown".to_owned(), ..Identification::default() });
    };
    let version = subject.header("gitlab-container-registry-version").map(str::to_owned);
    Ok(Identification {
        certainty: if version.is_some() { 100 } else { 95 },
        product: "GitLab".to_owned(),
        version,
        settings: pairs([("gitlab", gitlab)]),
        extra: Vec::new(),
    })
}
