//! Validate: the rules, over a package wherever it is.

use std::path::{Path, PathBuf};

use idp_package::kube::Files;
use idp_package::manifest::Manifest;
use idp_package::validate::{Level, Report, Settings, validate as run};

use super::super::{Context, Error};
use super::subject::{Place, Subject, place};

/// What is looked at, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// A directory, a built package, or one in a registry.
    pub subject: String,
    /// The user's word on rules, by id.
    pub levels: Vec<(String, Level)>,
    /// Directories or files with more schemas.
    pub schemas: Vec<PathBuf>,
}

/// Runs the rules.
///
/// # Errors
/// It is not there or cannot be read; a rule that is named does not exist.
pub async fn validate(context: &Context, request: &Request) -> Result<Report, Error> {
    let mut settings = Settings::new();
    let levels = context.registries.package_rules.iter().map(|(id, level)| (id.as_str(), *level));
    for (id, level) in levels.chain(request.levels.iter().map(|(id, level)| (id.as_str(), *level))) {
        settings.set(id, level).map_err(|error| Error::Usage(error.to_string()))?;
    }
    for path in &request.schemas {
        let added = settings.schemas.add_directory(path);
        added.map_err(|error| Error::Unfit(format!("{}: {error}", path.display())))?;
    }
    // Any directory may be looked at, also one that is no package yet.
    if Path::new(&request.subject).is_dir() && !request.subject.contains(':') {
        let directory = Path::new(&request.subject);
        let io = |error| Error::Io { what: request.subject.clone(), error };
        let files = Files::from_directory(directory).map_err(io)?;
        return Ok(run(&files, None, &settings));
    }
    let (files, manifest, _kept) = unpacked(context, &request.subject).await?;
    Ok(run(&files, manifest.as_ref(), &settings))
}

/// The files of a package and its manifest. What is not a directory is unpacked to one that goes with what is returned.
pub(super) async fn unpacked(
    context: &Context,
    text: &str,
) -> Result<(Files, Option<Manifest>, Option<tempfile::TempDir>), Error> {
    let io = |error| Error::Io { what: text.to_owned(), error };
    if let Place::Directory(directory) = place(text)? {
        let named = super::idpbuilder::Named::default();
        let package = super::idpbuilder::open(context, &directory, &named)?;
        return Ok((super::images::files_of(&package.tree), Some(package.manifest), None));
    }
    let subject = Subject::of(context, text).await?;
    let kept = tempfile::tempdir().map_err(io)?;
    let directory = kept.path().join("content");
    subject.unpack(context, &directory).await?;
    let description = subject.describe().await?;
    let files = Files::from_directory(&directory).map_err(io)?;
    Ok((files, description.config.map(|config| config.package), Some(kept)))
}
