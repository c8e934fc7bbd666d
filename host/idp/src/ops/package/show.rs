//! Show: what a package is, without its content.

use idp_package::describe::Description;
use serde::Serialize;

use super::super::{Context, Error};
use super::Subject;

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shown {
    /// What was asked for.
    pub subject: String,
    /// `registry/repository@digest`, of one in a registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub description: Description,
}

/// Looks.
///
/// # Errors
/// It is not there, or is not what it should be.
pub async fn show(context: &Context, text: &str) -> Result<Shown, Error> {
    let subject = Subject::of(context, text).await?;
    let pinned = match &subject {
        Subject::Remote(remote) => Some(remote.pinned()),
        _ => None,
    };
    let description = subject.describe().await?;
    Ok(Shown { subject: text.to_owned(), pinned, description })
}
