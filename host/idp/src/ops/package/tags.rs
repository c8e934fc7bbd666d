//! Tags: what each tag of a repository is to those who read versions, and what they would take.

use idp_oci::name::Reference;
use idp_package::version::picks::{Picks, picks};
use idp_package::version::tags::{TagFinding, diagnose};
use serde::Serialize;

use super::super::context::To;
use super::super::session::{self, Subject};
use super::super::{Context, Error};

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tags {
    /// `registry/repository`.
    pub repository: String,
    /// How many tags there are.
    pub tags: usize,
    /// What is to be said of some of them.
    pub findings: Vec<TagFinding>,
    /// What each consumer takes for the constraint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picks: Option<Picks>,
}

/// Looks at all tags of a repository.
///
/// # Errors
/// It is not there, or the registry does not list it.
pub async fn tags(context: &Context, text: &str, constraint: Option<&str>) -> Result<Tags, Error> {
    let text = text.strip_prefix("oci://").unwrap_or(text);
    context.find_registry(&[text], To::Read).await?;
    let reference: Reference = context.reference(text)?;
    let session = session::open(context, Subject::from(&reference)).await?;
    let repository = session.on_wire(&reference.repository).clone();
    let listed = session.client.tags(&repository).await.map_err(|error| session.failed(error))?;
    let all: Vec<String> = listed.into_iter().map(|tag| tag.to_string()).collect();
    Ok(Tags {
        repository: format!("{}/{}", reference.registry, reference.repository),
        tags: all.len(),
        findings: diagnose(&all),
        picks: constraint.map(|constraint| picks(&all, constraint)),
    })
}
