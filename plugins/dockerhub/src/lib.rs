//! Docker Hub.
//!
//! Three hosts for one product: the registry, its token service, and an API with a login of its own that lists and deletes; tokens
//! that live five minutes; refusals that do not say whether something is missing or forbidden; a limit on pulls. Each file
//! holds one of these; the README lists them all. May use the SDK only.

use idp_provider_sdk::prelude::*;

mod explain;
mod hub;
mod limits;
mod login;
mod naming;
mod repositories;
mod tags;

/// The provider.
#[derive(Debug)]
pub struct DockerHub;

impl Naming for DockerHub {
    fn normalize(repository: String, _: Option<String>) -> Result<WireName> {
        naming::normalize(&repository)
    }
}

impl Auth for DockerHub {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        login::authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        login::verify()
    }
}

impl Transport for DockerHub {
    fn hints(_: Option<String>) -> Result<Pairs> {
        Ok(pairs([
            ("upload-mode", "post-put"),
            ("chunk-default", "16777216"),
            ("chunk-max", "67108864"),
            ("parallel-uploads", "3"),
            // From other repositories of the Hub; a `from` of elsewhere is an error here, and the host never sends one.
            ("mount", "yes"),
            ("referrers", "no"),
            ("manifest-max", "4194304"),
            ("page-size", "100"),
            ("digest-algorithms", "sha256"),
        ]))
    }

    fn limits() -> Result<Vec<Pairs>> {
        limits::limits()
    }
}

impl Repositories for DockerHub {
    fn ensure(name: String, options: Pairs) -> Result<Repository> {
        repositories::ensure(&name, &options)
    }

    fn info(name: String) -> Result<Repository> {
        repositories::info(&name)
    }

    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage> {
        repositories::list_page(&filter, limit, cursor.as_deref())
    }
}

impl Artifacts for DockerHub {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        tags::list_page(&repository, &filter, limit, cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        tags::remove(&repository, target, &options)
    }
}

impl Explanations for DockerHub {
    fn explain() -> Result<Explanation> {
        explain::explain()
    }
}

idp_provider_sdk::export!(
    DockerHub,
    manifest = "provider.toml",
    interfaces = [naming, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
