//! Azure Container Registry.
//!
//! One token service for passwords, refresh tokens and tokens of Entra ID; an API of its own beside the distribution API, which
//! knows times and sizes and can untag; items that are locked; networks that are closed. Each file holds one of these; the README
//! lists them all. May use the SDK only.

use idp_provider_sdk::prelude::*;

mod api;
mod artifacts;
mod explain;
mod identity;
mod login;
mod naming;
mod repositories;

/// The provider.
#[derive(Debug)]
pub struct Acr;

impl Identity for Acr {
    fn identify() -> Result<Identification> {
        identity::identify()
    }
}

impl Naming for Acr {
    fn normalize(repository: String, _: Option<String>) -> Result<WireName> {
        naming::normalize(&repository)
    }
}

impl Auth for Acr {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        login::authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        login::verify()
    }
}

impl Transport for Acr {
    fn hints(_: Option<String>) -> Result<Pairs> {
        Ok(pairs([
            ("upload-mode", "post-put"),
            ("chunk-default", "16777216"),
            ("parallel-uploads", "4"),
            ("mount", "yes"),
            ("referrers", "yes"),
            ("manifest-max", "4194304"),
            ("page-size", "100"),
            ("token-lifetime-s", "3600"),
        ]))
    }

    fn limits() -> Result<Vec<Pairs>> {
        api::limits()
    }
}

impl Repositories for Acr {
    /// A repository comes with the first push to it.
    fn ensure(name: String, _: Pairs) -> Result<Repository> {
        Ok(Repository { name, extra: pairs([("state", "implicit")]) })
    }

    fn info(name: String) -> Result<Repository> {
        repositories::info(&name)
    }

    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage> {
        repositories::list_page(&filter, limit, cursor.as_deref())
    }
}

impl Artifacts for Acr {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        artifacts::list_page(&repository, &filter, limit, cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        artifacts::remove(&repository, &target, &options)
    }
}

impl Explanations for Acr {
    fn explain() -> Result<Explanation> {
        explain::explain()
    }
}

idp_provider_sdk::export!(
    Acr,
    manifest = "provider.toml",
    interfaces = [identity, naming, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
