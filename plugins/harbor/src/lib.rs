//! Harbor 2.
//!
//! Two levels, of which the upper one, the project, must exist; a token service that answers 200 to a wrong password;
//! refusals that are always 401; an API of its own for everything but content. Each file holds one of these; the README
//! lists them all. May use the SDK only.

use idp_provider_sdk::prelude::*;

mod api;
mod artifacts;
mod explain;
mod identity;
mod listing;
mod login;
mod naming;
mod projects;
mod removal;

/// The provider.
#[derive(Debug)]
pub struct Harbor;

impl Identity for Harbor {
    fn identify() -> Result<Identification> {
        identity::identify()
    }
}

impl Naming for Harbor {
    fn normalize(repository: String, _: Option<String>) -> Result<WireName> {
        naming::normalize(&repository)
    }
}

impl Auth for Harbor {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        login::authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        login::verify()
    }
}

impl Transport for Harbor {
    fn hints(_: Option<String>) -> Result<Pairs> {
        Ok(pairs([
            ("upload-mode", "post-put"),
            // The size of a blob is taken from the last PUT when that has a body, else from the PATCHes: a mix of both
            // makes quota and page wrong.
            ("final-put-empty", "true"),
            ("mount", "yes"),
            ("parallel-uploads", "4"),
            ("manifest-max", "4194304"),
            ("page-size", "100"),
            ("referrers", "yes"),
            // The storage behind it is distribution, which cannot read back what it stored under sha512.
            ("digest-algorithms", "sha256"),
            ("token-lifetime-s", "1800"),
        ]))
    }
}

impl Repositories for Harbor {
    fn ensure(name: String, options: Pairs) -> Result<Repository> {
        projects::ensure(&name, &options)
    }

    fn info(name: String) -> Result<Repository> {
        projects::info(&name)
    }

    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage> {
        listing::page(&filter, limit, cursor.as_deref())
    }
}

impl Artifacts for Harbor {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        artifacts::page(&repository, &filter, limit, cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        removal::remove(&repository, &target, &options)
    }
}

impl Explanations for Harbor {
    fn explain() -> Result<Explanation> {
        explain::explain()
    }
}

idp_provider_sdk::export!(
    Harbor,
    manifest = "provider.toml",
    interfaces = [identity, naming, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
