//! Gitea and Forgejo.
//!
//! One token for everything the account may do, valid for a day and not saying so; refusals that are 401 with plain text;
//! tags without case; owners that must exist. Each file holds one of these; the README lists them all. May use the
//! SDK only.

use idp_provider_sdk::prelude::*;

mod explain;
mod identity;
mod login;
mod naming;
mod packages;
mod removal;
mod repositories;

/// The provider.
#[derive(Debug)]
pub struct Gitea;

impl Identity for Gitea {
    fn identify() -> Result<Identification> {
        identity::identify()
    }
}

impl Naming for Gitea {
    fn normalize(repository: String, tag: Option<String>) -> Result<WireName> {
        naming::normalize(&repository, tag.as_deref())
    }
}

impl Auth for Gitea {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        login::authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        login::verify()
    }
}

impl Transport for Gitea {
    fn hints(_: Option<String>) -> Result<Pairs> {
        Ok(pairs([
            ("upload-mode", "post-put"),
            // Manifests of one image are written one after the other, behind a lock.
            ("parallel-uploads", "3"),
            ("mount", "anonymous"),
            // At no bytes old servers say what they say after one.
            ("trust-range", "false"),
            ("manifest-max", "10485760"),
            ("page-size", "100"),
            ("tag-case", "lower"),
            ("nested-index", "false"),
            ("referrers", "no"),
            ("digest-algorithms", "sha256"),
            ("validates-manifest", "yes"),
            ("token-lifetime-s", "86400"),
        ]))
    }
}

impl Repositories for Gitea {
    fn ensure(name: String, options: Pairs) -> Result<Repository> {
        repositories::ensure(&name, &options)
    }

    fn info(name: String) -> Result<Repository> {
        repositories::info(&name)
    }

    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage> {
        packages::list_page(&filter, limit, cursor.as_deref())
    }
}

impl Artifacts for Gitea {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        packages::tags_page(&repository, &filter, limit, cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        removal::remove(&repository, target, &options)
    }
}

impl Explanations for Gitea {
    fn explain() -> Result<Explanation> {
        explain::explain()
    }
}

idp_provider_sdk::export!(
    Gitea,
    manifest = "provider.toml",
    interfaces = [identity, naming, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
