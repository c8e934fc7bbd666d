//! GitLab's container registry: registry.gitlab.com and one's own.
//!
//! The registry is one host and GitLab another: the challenge says where. Tokens come from GitLab and live five minutes; projects are
//! GitLab's, and so is listing. Each file holds one of these; the README lists the quirks. May use the SDK only.

use idp_provider_sdk::prelude::*;

mod api;
mod explain;
mod identity;
mod list;
mod login;
mod naming;
mod remove;
mod repositories;
mod tags;

/// The provider.
#[derive(Debug)]
pub struct Gitlab;

impl Identity for Gitlab {
    fn identify() -> Result<Identification> {
        identity::identify()
    }
}

impl Naming for Gitlab {
    fn normalize(repository: String, _: Option<String>) -> Result<WireName> {
        naming::normalize(&repository)
    }
}

impl Auth for Gitlab {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        login::authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        login::verify()
    }
}

impl Transport for Gitlab {
    fn hints(_: Option<String>) -> Result<Pairs> {
        Ok(pairs([
            ("upload-mode", "post-put"),
            ("parallel-uploads", "3"),
            ("mount", "yes"),
            ("referrers", "unknown"),
            ("page-size", "100"),
            ("token-lifetime-s", "270"),
        ]))
    }
}

impl Repositories for Gitlab {
    fn ensure(name: String, options: Pairs) -> Result<Repository> {
        repositories::ensure(&name, &options)
    }

    fn info(name: String) -> Result<Repository> {
        repositories::info(&name)
    }

    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage> {
        list::list_page(&filter, limit, cursor.as_deref())
    }
}

impl Artifacts for Gitlab {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        tags::tags_page(&repository, &filter, limit, cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        remove::remove(&repository, &target, &options)
    }
}

impl Explanations for Gitlab {
    fn explain() -> Result<Explanation> {
        explain::explain()
    }
}

idp_provider_sdk::export!(
    Gitlab,
    manifest = "provider.toml",
    interfaces = [identity, naming, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
