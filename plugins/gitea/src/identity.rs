//! Is it Gitea, and which one: the realm says so, the version confirms.

use idp_provider_sdk::prelude::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Version {
    version: String,
}

/// Whether a challenge is Gitea's. GitLab shares the service name and has another realm.
fn is_ours(challenge: &Challenge) -> bool {
    let realm = challenge.realm_url(&invocation::origin()).unwrap_or_default();
    challenge.is("bearer")
        && challenge.param("service") == Some("container_registry")
        && idp_provider_sdk::link::path(&realm).ends_with("/v2/token")
}

/// One probe: the version, which also tells Forgejo apart (`9.0.1+gitea-1.22.0`).
pub(crate) fn identify() -> Result<Identification> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is no answer to identify"))?;
    if !subject.challenges().iter().any(is_ours) {
        return Ok(Identification { product: "unknown".to_owned(), ..Identification::default() });
    }
    let probe = Request::get(Client::url("/api/v1/version")).send()?;
    let version =
        if probe.is_success() { probe.json::<Version>().ok().map(|found| found.version) } else { None };
    // Without a version the challenge alone speaks: servers that require signing in hide the API, and a sub-path moves it.
    let Some(version) = version else { return Ok(found(80, "gitea", None)) };
    let forgejo = version.contains("+gitea-");
    Ok(found(100, if forgejo { "forgejo" } else { "gitea" }, Some(version)))
}

fn found(certainty: u8, product: &str, version: Option<String>) -> Identification {
    let mut settings = pairs([("product", product)]);
    settings.extend(version.iter().map(|version| ("version".to_owned(), version.clone())));
    Identification { certainty, product: product.to_owned(), version, settings, extra: Vec::new() }
}

/// Major and minor of a version: `1.26.4`, `v1.26.0+dev`, `9.0.1+gitea-1.22.0` (the Gitea it stands for).
pub(crate) fn release(version: &str) -> Option<(u32, u32)> {
    let version = version.rsplit_once("+gitea-").map_or(version, |(_, gitea)| gitea);
    let mut parts = version.trim_start_matches('v').split(['.', '+', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
