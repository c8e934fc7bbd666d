//! GitHub Container Registry: ghcr.io, and the same of GitHub Enterprise.
//!
//! Two planes: the registry pulls and pushes with a token for scopes; GitHub's REST API lists and deletes with the personal access
//! token itself. Each file holds one of these; the README lists the quirks. May use the SDK only.

use idp_provider_sdk::prelude::*;

mod api;
mod explain;
mod identity;
mod login;
mod naming;
mod packages;
mod versions;

/// The provider.
#[derive(Debug)]
pub struct Ghcr;

impl Identity for Ghcr {
    fn identify() -> Result<Identification> {
        identity::identify()
    }
}

impl Naming for Ghcr {
    fn normalize(repository: String, _: Option<String>) -> Result<WireName> {
        naming::normalize(&repository)
    }
}

impl Auth for Ghcr {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        login::authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        login::verify()
    }
}

impl Transport for Ghcr {
    fn hints(_: Option<String>) -> Result<Pairs> {
        Ok(pairs([
            // One PUT takes layers of any size; a PATCH body of more than 4 MiB is refused.
            ("upload-mode", "monolithic"),
            ("chunk-max", "4194304"),
            ("chunk-default", "4194304"),
            ("parallel-uploads", "3"),
            ("mount", "yes"),
            // The API was absent when last looked at; what it answers decides.
            ("referrers", "unknown"),
            ("page-size", "100"),
            ("token-lifetime-s", "60"),
        ]))
    }

    fn limits() -> Result<Vec<Pairs>> {
        api::limits()
    }
}

impl Repositories for Ghcr {
    fn ensure(name: String, options: Pairs) -> Result<Repository> {
        packages::ensure(&name, &options)
    }

    fn info(name: String) -> Result<Repository> {
        packages::info(&name)
    }

    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage> {
        packages::list_page(&filter, limit, cursor.as_deref())
    }
}

impl Artifacts for Ghcr {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        versions::tags_page(&repository, &filter, limit, cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        versions::remove(&repository, &target, &options)
    }
}

impl Explanations for Ghcr {
    fn explain() -> Result<Explanation> {
        explain::explain()
    }
}

idp_provider_sdk::export!(
    Ghcr,
    manifest = "provider.toml",
    interfaces = [identity, naming, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
