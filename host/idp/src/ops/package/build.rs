//! Build: a package's directory to an archive or a layout.

use std::path::{Path, PathBuf};

use idp_oci::digest::Digest;
use idp_oci::pipeline::Gathered;
use idp_oci::sink;
use idp_package::build::{Facts, Package};
use idp_package::describe::Description;
use idp_package::trust::Timestamp;
use serde::Serialize;

use super::super::{Context, Error};
use super::idpbuilder::Named;
use super::images;
use super::subject::{describe_gathered, pipeline, selection};
use crate::config::env;

/// What is built, and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// The package's directory.
    pub directory: PathBuf,
    /// As [`sink::open`] takes it; `oci-archive:NAME-VERSION.tar` unless given.
    pub destination: Option<String>,
    /// What is said about it.
    pub origin: Origin,
    /// What it is called, where no manifest says so.
    pub named: Named,
}

/// Where a package comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Where the source is kept.
    pub source: Option<String>,
    /// Which revision of it this is.
    pub revision: Option<String>,
    /// Ask git for both, and for the time of the last commit.
    pub git: bool,
}

/// What was built.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Built {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its type.
    pub r#type: String,
    /// The manifest's digest: the same for the same directory, everywhere.
    pub digest: Digest,
    /// Bytes of config and layers.
    pub size: u64,
    /// Files of the content.
    pub files: usize,
    /// Bytes of these.
    pub unpacked_size: u64,
    /// Where it is now.
    pub destination: String,
}

/// Builds.
///
/// # Errors
/// The directory is no package, or the destination cannot be written.
pub async fn build(context: &Context, request: Request) -> Result<Built, Error> {
    let package = super::idpbuilder::open(context, &request.directory, &request.named)?;
    let metadata = &package.manifest.metadata;
    let destination = match request.destination {
        Some(text) if sink_of(&text).is_none() => {
            return Err(Error::Usage(format!(
                "`{text}` is not where a package is built to; write FILE.tar, oci:DIR or oci-archive:FILE"
            )));
        }
        Some(text) => sink_of(&text).unwrap_or(text),
        None => format!("oci-archive:{}-{}.tar", metadata.name, metadata.version),
    };
    let name = metadata.version.clone();
    let has_name = destination.split_once(':').is_some_and(|(_, rest)| rest.contains(':'));
    let named = if has_name { destination.clone() } else { format!("{destination}:{name}") };
    let base = std::env::current_dir()
        .map_err(|error| Error::Io { what: "finding the current directory".to_owned(), error })?;
    let facts = facts(context, &package, &request.origin).await?;
    let source = package.into_source(facts)?;
    let gathered = Gathered::of(source, &selection()).await.map_err(pipeline)?;
    let sink = sink::open(&named, &base)?;
    gathered.save(sink).await.map_err(pipeline)?;
    Ok(built(describe_gathered(&gathered).await?, destination))
}

fn built(description: Description, destination: String) -> Built {
    Built {
        name: description.name.unwrap_or_default(),
        version: description.version.unwrap_or_default(),
        r#type: description.r#type.unwrap_or_default(),
        digest: description.digest,
        size: description.size,
        files: description.files.unwrap_or_default(),
        unpacked_size: description.unpacked_size.unwrap_or_default(),
        destination,
    }
}

/// `oci:…` and `oci-archive:…` as they are, a path that ends in `.tar` as an archive.
fn sink_of(text: &str) -> Option<String> {
    if text.starts_with("oci:") || text.starts_with("oci-archive:") {
        return Some(text.to_owned());
    }
    Path::new(text).extension().is_some_and(|ending| ending == "tar").then(|| format!("oci-archive:{text}"))
}

/// What is to be said about a package that does not stand in its directory.
pub(in crate::ops) async fn facts(
    context: &Context,
    package: &Package,
    origin: &Origin,
) -> Result<Facts, Error> {
    let found = images::recorded(images::scan(package)?, super::lock::read(&package.directory)?.as_ref());
    let mut facts = Facts {
        source: origin.source.clone(),
        revision: origin.revision.clone(),
        images: found,
        ..Facts::default()
    };
    if origin.git {
        let git = Git { directory: &package.directory };
        let committed = git.ask(&["log", "-1", "--format=%ct"]).await?;
        facts.created = seconds(&committed).ok_or_else(|| {
            Error::Unfit(format!("git says `{committed}` where the time of the last commit was asked for"))
        })?;
        let revision = git.ask(&["rev-parse", "HEAD"]).await?;
        let dirty = !git.ask(&["status", "--porcelain", "--", "."]).await?.is_empty();
        let revision = if dirty { format!("{revision}-dirty") } else { revision };
        facts.revision.get_or_insert(revision);
        if facts.source.is_none() {
            facts.source =
                git.ask(&["remote", "get-url", "origin"]).await.ok().map(|url| without_login(&url));
        }
    }
    if let Some(epoch) = epoch(context)? {
        facts.created = epoch;
    }
    Ok(facts)
}

/// What SOURCE_DATE_EPOCH says.
pub(super) fn epoch(context: &Context) -> Result<Option<Timestamp>, Error> {
    let Some(text) = context.env.get(env::SOURCE_DATE_EPOCH) else { return Ok(None) };
    let wrong =
        || Error::Usage(format!("`SOURCE_DATE_EPOCH` is `{text}`; it is a number of seconds since 1970"));
    seconds(&text).map(Some).ok_or_else(wrong)
}

fn seconds(text: &str) -> Option<Timestamp> {
    Timestamp::from_unix(text.trim().parse().ok()?).ok()
}

/// A URL of a remote may hold a password.
fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

struct Git<'a> {
    directory: &'a Path,
}

impl Git<'_> {
    async fn ask(&self, arguments: &[&str]) -> Result<String, Error> {
        let what = format!("asking git ({})", arguments.join(" "));
        let output =
            tokio::process::Command::new("git").arg("-C").arg(self.directory).args(arguments).output().await;
        let output = output.map_err(|error| Error::Io { what: what.clone(), error })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("it failed").to_owned();
            return Err(Error::Io { what, error: std::io::Error::other(said) });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{sink_of, without_login};

    #[test]
    fn a_login_does_not_get_into_annotations() {
        assert_eq!(without_login("https://bot:secret@git.example/a/b.git"), "https://git.example/a/b.git");
        assert_eq!(without_login("git@git.example:a/b.git"), "git@git.example:a/b.git");
        assert_eq!(sink_of("a/b.tar").as_deref(), Some("oci-archive:a/b.tar"));
        assert_eq!(sink_of("registry.example/a"), None);
    }
}
