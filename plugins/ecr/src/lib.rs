//! Amazon ECR: private registries of an account and region, and ECR Public.
//!
//! A registry that lets in with a token of its cloud's API, makes no repository by itself, and lists and deletes by that API. Each file
//! holds one of these; the README lists the peculiarities. May use the SDK only.

use idp_provider_sdk::prelude::*;

mod api;
mod artifacts;
mod date;
mod explain;
mod identity;
mod login;
mod naming;
mod place;
mod repositories;
mod sigv4;

/// The provider.
#[derive(Debug)]
pub struct Ecr;

impl Identity for Ecr {
    fn identify() -> Result<Identification> {
        identity::identify()
    }
}

impl Naming for Ecr {
    fn normalize(repository: String, _: Option<String>) -> Result<WireName> {
        naming::normalize(&repository)
    }
}

impl Auth for Ecr {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        login::authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        login::verify()
    }
}

impl Transport for Ecr {
    fn hints(_: Option<String>) -> Result<Pairs> {
        let public = place::Place::here().is_ok_and(|place| place.is_public());
        Ok(pairs([
            ("upload-mode", "post-put"),
            ("chunk-min", "5242880"),
            ("chunk-default", "10485760"),
            // The answer to a chunk is 201, and its Range stays at the first one although all is stored.
            ("accept-patch-201", "true"),
            ("trust-range", "false"),
            // Where BLOB_MOUNTING is off the answer is an upload as usual, so asking costs nothing.
            ("mount", "yes"),
            ("parallel-uploads", "4"),
            // One more is an error.
            ("page-size", "1000"),
            ("referrers", if public { "unknown" } else { "yes" }),
            ("digest-algorithms", "sha256"),
            ("token-lifetime-s", "43200"),
        ]))
    }
}

impl Repositories for Ecr {
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

impl Artifacts for Ecr {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        artifacts::list_page(&repository, &filter, limit, cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        artifacts::remove(&repository, &target, &options)
    }
}

impl Explanations for Ecr {
    fn explain() -> Result<Explanation> {
        explain::explain()
    }
}

idp_provider_sdk::export!(
    Ecr,
    manifest = "provider.toml",
    interfaces = [identity, naming, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
