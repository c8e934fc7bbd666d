//! Quay: quay.io and one's own.
//!
//! A token endpoint that knows `pull`, `push` and `*` only, and that makes the repository while it gives the token; an API that takes
//! OAuth tokens and nothing else; pages of a hundred, whatever is asked for. Each file holds one of these; the README lists them all.
//! May use the SDK only.

use idp_provider_sdk::prelude::*;

mod api;
mod explain;
mod identity;
mod list;
mod login;
mod naming;
mod remove;
mod repositories;

/// The provider.
#[derive(Debug)]
pub struct Quay;

impl Identity for Quay {
    fn identify() -> Result<Identification> {
        identity::identify()
    }
}

impl Naming for Quay {
    fn normalize(repository: String, _: Option<String>) -> Result<WireName> {
        naming::normalize(&repository)
    }
}

impl Auth for Quay {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        login::authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        login::verify()
    }
}

impl Transport for Quay {
    fn hints(_: Option<String>) -> Result<Pairs> {
        Ok(pairs([
            ("upload-mode", "post-put"),
            ("parallel-uploads", "3"),
            ("mount", "yes"),
            // `bytes=0--1` at nothing.
            ("trust-range", "false"),
            ("page-size", "100"),
            ("referrers", "yes"),
            ("token-lifetime-s", "3600"),
        ]))
    }
}

impl Repositories for Quay {
    fn ensure(name: String, options: Pairs) -> Result<Repository> {
        repositories::ensure(&name, &options)
    }

    fn info(name: String) -> Result<Repository> {
        repositories::info(&name)
    }

    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage> {
        list::repositories(&filter, limit, cursor.as_deref())
    }
}

impl Artifacts for Quay {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        list::tags(&repository, &filter, limit, cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        remove::remove(&repository, &target, &options)
    }
}

impl Explanations for Quay {
    fn explain() -> Result<Explanation> {
        explain::explain()
    }
}

idp_provider_sdk::export!(
    Quay,
    manifest = "provider.toml",
    interfaces = [identity, naming, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
