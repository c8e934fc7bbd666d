//! Pull: the files of a package to a directory.

use std::path::PathBuf;

use idp_oci::client::Event;
use idp_package::describe::Description;
use idp_package::trust::policy::Decision;
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
    if let Subject::Remote(remote) = &subject {
        allowed(context, &trust::by_policy(context, remote).await?)?;
    }
    let (name, pinned) = match &subject {
        Subject::Remote(remote) => {
            let name = remote.reference.repository.as_str().rsplit('/').next().unwrap_or("package");
            (name.to_owned(), Some(remote.reference.pinned(remote.manifest.digest())))
        }
        _ => ("package".to_owned(), None),
    };
    let destination = directory.unwrap_or_else(|| PathBuf::from(name));
    subject.unpack(context, &destination).await?;
    let (description, _) = subject.describe().await?;
    Ok(Pulled { subject: text.to_owned(), pinned, destination, description })
}

/// Ends what is not to be used; says what is used nevertheless.
pub(super) fn allowed(context: &Context, verified: &trust::Verified) -> Result<(), Error> {
    let pinned = &verified.pinned;
    match &verified.decision {
        Decision::Refused { reason } => Err(Error::Refused(format!(
            "{pinned} is not to be used (`verification` in registries.yaml): {reason}"
        ))),
        Decision::Warned { reason } => {
            context.progress.event(Event::Warning { text: format!("{pinned}: {reason}") });
            Ok(())
        }
        Decision::Verified { .. } | Decision::NotAsked => Ok(()),
    }
}
