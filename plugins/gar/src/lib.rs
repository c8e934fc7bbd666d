//! Google Artifact Registry, and gcr.io, which is served by it.
//!
//! Names of three parts, the second of which must have been made; access tokens, keys of service accounts; an API beside the registry that
//! makes and lists; uploads in one piece only; digests that go after their tags. Each file holds one of these; the README lists them all.
//! May use the SDK only.

use idp_provider_sdk::prelude::*;

mod api;
mod artifacts;
mod explain;
mod extras;
mod login;
mod place;
mod remove;
mod repositories;

/// The provider.
#[derive(Debug)]
pub struct Gar;

impl Identity for Gar {
    fn identify() -> Result<Identification> {
        place::identify()
    }
}

impl Naming for Gar {
    fn normalize(repository: String, _: Option<String>) -> Result<WireName> {
        place::normalize(&repository)
    }
}

impl Auth for Gar {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        login::authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        login::verify()
    }
}

impl Transport for Gar {
    fn hints(_: Option<String>) -> Result<Pairs> {
        Ok(pairs([
            // A PATCH is refused: POST, then one PUT with a length.
            ("upload-mode", "monolithic"),
            ("parallel-uploads", "4"),
            ("mount", "yes"),
            ("page-size", "1000"),
            ("token-lifetime-s", "900"),
        ]))
    }
}

impl Repositories for Gar {
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

impl Artifacts for Gar {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        artifacts::list_page(&repository, &filter, limit, cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        remove::remove(&repository, &target, &options)
    }
}

impl Explanations for Gar {
    fn explain() -> Result<Explanation> {
        explain::explain()
    }
}

idp_provider_sdk::export!(
    Gar,
    manifest = "provider.toml",
    interfaces = [identity, naming, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
