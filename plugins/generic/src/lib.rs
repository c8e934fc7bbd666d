//! Any OCI registry that keeps to the distribution specification: Basic, Bearer by GET and POST, anonymous.
//!
//! What is not the specification's own is here because CNCF distribution or zot do it; see the README. May use the SDK only.

use idp_provider_sdk::bearer::Flow;
use idp_provider_sdk::prelude::*;
use idp_provider_sdk::{distribution, refusal, standard};

mod product;

/// The provider.
#[derive(Debug)]
pub struct Generic;

impl Identity for Generic {
    fn identify() -> Result<Identification> {
        product::identify()
    }
}

impl Auth for Generic {
    fn authorize(scopes: Vec<Scope>) -> Result<Grant> {
        Flow::new().authorize(&scopes)
    }

    fn verify() -> Result<Pairs> {
        let (grant, answer) = Client::default().login()?;
        if !answer.is_success() {
            return Err(match (answer.status(), invocation::credential("registry")) {
                (401, Some(credential)) => bearer::bad_credentials(&credential).status(401),
                (401, None) => bearer::not_logged_in().status(401),
                _ => refusal::error(&answer, "log in"),
            });
        }
        if let Some(page) = refusal::web_page(&answer) {
            return Err(page);
        }
        let kind = if matches!(grant.authorization, Authorization::Anonymous) { "anonymous" } else { "user" };
        let mut found = pairs([("kind", kind)]);
        found.extend(grant.extra.into_iter().filter(|(key, _)| key == "account"));
        if kind == "anonymous" && invocation::credential("registry").is_some() {
            found.extend(pairs([(
                "warning",
                "the registry lets everybody in, so the credentials were not checked",
            )]));
        }
        Ok(found)
    }
}

impl Transport for Generic {
    fn hints(_: Option<String>) -> Result<Pairs> {
        Ok(product::hints(invocation::setting("product").as_deref()))
    }
}

impl Repositories for Generic {
    fn ensure(name: String, _: Pairs) -> Result<Repository> {
        Ok(Repository { name, extra: pairs([("state", "implicit")]) })
    }

    fn info(name: String) -> Result<Repository> {
        // An unknown repository is 404 here; one without tags exists.
        distribution::tags_page(&Client::default(), &name, &[], 1, None)?;
        Ok(Repository { name, extra: pairs([("state", "exists")]) })
    }

    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage> {
        // More than 1000 is an error at distribution, not a smaller page.
        distribution::catalog_page(&Client::default(), &filter, limit.min(1000), cursor.as_deref())
    }
}

impl Artifacts for Generic {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        distribution::tags_page(&Client::default(), &repository, &filter, limit.min(1000), cursor.as_deref())
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        distribution::remove(&Client::default(), &repository, &target, &options)
    }
}

impl Explanations for Generic {
    fn explain() -> Result<Explanation> {
        let subject = invocation::subject().ok_or_else(|| Error::invalid("there is nothing to explain"))?;
        standard::explain(&subject).ok_or_else(|| Error::unsupported("the registry's own text says it best"))
    }
}

idp_provider_sdk::export!(
    Generic,
    manifest = "provider.toml",
    interfaces = [identity, auth, transport, repositories, artifacts, explanations],
);

#[cfg(test)]
mod tests;
