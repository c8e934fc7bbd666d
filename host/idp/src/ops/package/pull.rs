//! Pull: the files of a package to a directory.

use std::path::PathBuf;

use idp_package::describe::Description;
use serde::Serialize;

use super::super::{Context, Error};
use super::{Subject, trust};

/// What was pulled.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pulled {
    /// What was asked for.
    pub subject: String,
    /// `registry/repository@digest`, of one in a registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// Where its files are now.
    pub destination: PathBuf,
    /// What it is.
    #[serde(flatten)]
    pub description: Description,
}

/// Pulls to `directory`, or one with the package's name here.
///
/// # Errors
/// It is not there, is no package, or holds what is refused; the directory is then as it was.
pub async fn pull(context: &Context, text: &str, directory: Option<PathBuf>) -> Result<Pulled, Error> {
    let subject = Subject::of(context, text).await?;
    if matches!(subject, Subject::Directory(_)) {
        return Err(Error::Usage(format!("`{text}` is a directory here, and nothing to pull")));
    }
    let mut pinned = None;
    if let Subject::Remote(remote) = &subject {
        let digest = remote.manifest.digest();
        trust::allow(context, &remote.session, &remote.repository, &remote.reference, digest).await?;
        pinned = Some(remote.pinned());
    }
    let description = subject.describe().await?;
    let own = || PathBuf::from(description.name.as_deref().unwrap_or("package"));
    let destination = directory.unwrap_or_else(own);
    subject.unpack(context, &destination).await?;
    Ok(Pulled { subject: text.to_owned(), pinned, destination, description })
}
