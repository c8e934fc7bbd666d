//! Push: a package to a registry, by the rules of its version. A version once pushed stays what it is; other tags are asked for.

use idp_oci::client::{Access, ClientError};
use idp_oci::digest::Digest;
use idp_oci::name::{Reference, Tag, Target};
use idp_oci::pipeline::{self, Destination, Gathered};
use idp_package::describe::{Description, Kind as PackageKind};
use serde::Serialize;

use super::super::context::To;
use super::super::push::Pushed;
use super::super::room;
use super::super::session::{self, Session};
use super::super::{Context, Error};
use super::build::{Origin, facts};
use super::idpbuilder::Named;
use super::subject::{Place, describe_gathered, pipeline as failed, place, selection};

/// What is pushed, and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// A package's directory, or a built one.
    pub source: String,
    /// A repository, with the version as its tag or none; one that ends in `/` gets the package's name. The name alone in the default
    /// registry unless given.
    pub destination: Option<String>,
    /// Tags that move: `latest`, `1`, `1.2`, or any.
    pub also: Vec<Tag>,
    /// `1` and `1.2` of a version, and `latest`, where it is no prerelease.
    pub floating: bool,
    /// Put another package in the place of a version that is there.
    pub force: bool,
    /// What is said about it.
    pub origin: Origin,
    /// What it is called, where no manifest says so.
    pub named: Named,
}

/// What was pushed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PushedPackage {
    /// What arrived.
    #[serde(flatten)]
    pub pushed: Pushed,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Tags besides the version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The version was there already, and the same.
    pub unchanged: bool,
}

/// Pushes.
///
/// # Errors
/// It is no package; its version is there and another package; the registry does not take it.
pub async fn push(context: &Context, request: Request) -> Result<PushedPackage, Error> {
    if !context.registries.oci_push.enabled {
        let file = context.registries.file().map(std::path::Path::to_owned).unwrap_or_default();
        return Err(Error::PushDisabled(file));
    }
    let gathered = gather(context, &request).await?;
    let (description, name, version) = described(&gathered).await?;
    let text = destination(&request, &name, &version)?;
    context.find_registry(&[&text], To::Write).await?;
    let mut reference = context.reference(&text)?;
    check_name(&reference, &description)?;
    let tag = version_tag(&mut reference, &version)?;
    let session = session::open(context, session::Subject::from(&reference)).await?;
    let repository = session.on_wire(&reference.repository).clone();
    let digest = gathered.root().digest().clone();
    let unchanged = is_there(&session, &reference, &tag, &digest, request.force).await?;
    let also = floating(&request, &version, &tag);
    room::check(context, &session, &reference).await?;
    let tags = std::iter::once(tag).chain(also.iter().cloned()).collect();
    let to = Destination {
        client: session.client.clone(),
        repository: repository.clone(),
        tags,
        mount_from: Vec::new(),
        include_foreign: false,
    };
    let what = gathered.source.clone();
    let source = Box::new(gathered);
    let all = pipeline::push_all(vec![to], source, &selection(), None, &context.cancel).await;
    let pushed = all.and_then(|mut all| all.pop().unwrap_or(Err(ClientError::Interrupted.into())));
    let pushed = pushed.map_err(|error| session.pipeline_failed(error))?;
    let pushed = super::super::push::as_pushed(&what, &reference, &session, pushed);
    let also = also.iter().map(ToString::to_string).collect();
    Ok(PushedPackage { pushed, name, version, also, unchanged })
}

async fn gather(context: &Context, request: &Request) -> Result<Gathered, Error> {
    let source = match place(&request.source)? {
        Place::Directory(directory) => {
            let package = super::idpbuilder::open(context, &directory, &request.named)?;
            let facts = facts(context, &package, &request.origin).await?;
            package.into_source(facts)?
        }
        Place::Built(text) => {
            let base = std::env::current_dir()
                .map_err(|error| Error::Io { what: "finding the current directory".to_owned(), error })?;
            idp_oci::source::open(&text, &base)?
        }
        Place::Reference(text) => {
            return Err(Error::Absent(format!(
                "there is no package at `{text}`: neither a directory with an idp-package.yaml nor a built package"
            )));
        }
    };
    Gathered::of(source, &selection()).await.map_err(failed)
}

/// What it is, with a name and a version.
async fn described(gathered: &Gathered) -> Result<(Description, String, String), Error> {
    let description = describe_gathered(gathered).await?;
    match (description.name.clone(), description.version.clone()) {
        (Some(name), Some(version)) => Ok((description, name, version)),
        _ => Err(Error::Unfit(format!(
            "{} is no package: it says neither name nor version; `idp push` pushes anything",
            gathered.source
        ))),
    }
}

/// What DEST means for this package.
fn destination(request: &Request, name: &str, version: &str) -> Result<String, Error> {
    let text = request.destination.as_deref().unwrap_or(name);
    let text = text.strip_prefix("oci://").unwrap_or(text);
    if text.is_empty() {
        return Err(Error::Usage("the destination is empty".to_owned()));
    }
    let text = if text.ends_with('/') { format!("{text}{name}") } else { text.to_owned() };
    Ok(with_version(&text, version))
}

/// A reference with the version as its tag, where it has neither tag nor digest.
pub(in crate::ops) fn with_version(text: &str, version: &str) -> String {
    let last = text.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { text.to_owned() } else { format!("{text}:{version}") }
}

/// Whether a version is there already and the same.
///
/// # Errors
/// It is there and another package, and is not to be replaced.
pub(in crate::ops) async fn is_there(
    session: &Session,
    reference: &Reference,
    tag: &Tag,
    digest: &Digest,
    force: bool,
) -> Result<bool, Error> {
    let repository = session.on_wire(&reference.repository);
    let found = session.client.head_manifest(repository, &Target::Tag(tag.clone()), Access::Push).await;
    match found.map_err(|error| session.failed(error))?.map(|found| found.digest) {
        Some(there) if there == *digest => Ok(true),
        Some(there) if !force => Err(Error::Conflict(format!(
            "{reference} is {there} there, and this package is {digest}; a version stays what it is once it is pushed"
        ))),
        _ => Ok(false),
    }
}

/// Dependencies by `./name` and Helm find a package by the last part of its repository.
fn check_name(reference: &Reference, description: &Description) -> Result<(), Error> {
    let last = reference.repository.as_str().rsplit('/').next().unwrap_or_default();
    let name = description.name.as_deref().unwrap_or_default();
    if last == name {
        return Ok(());
    }
    let who = match description.kind {
        PackageKind::HelmChart => "Helm takes a chart only from",
        _ if description.r#type.as_deref() == Some("helm") => "Helm takes a chart only from",
        _ => "dependencies find a package in",
    };
    Err(Error::Usage(format!(
        "{who} a repository that ends in its name: write {}/{name}, or end it with `/`",
        reference.repository.as_str().rsplit_once('/').map_or("…", |(parent, _)| parent)
    )))
}

/// The tag of a version, which is the one that was written, if any was.
fn version_tag(reference: &mut Reference, version: &str) -> Result<Tag, Error> {
    // Helm's way to write build metadata where a tag cannot.
    let tag: Tag = version.replace('+', "_").parse()?;
    match &reference.tag {
        Some(written) if *written != tag => Err(Error::Usage(format!(
            "the package is version {version}, and the destination says `{written}`; other tags are given with --also"
        ))),
        _ => {
            reference.tag = Some(tag.clone());
            Ok(tag)
        }
    }
}

fn floating(request: &Request, version: &str, tag: &Tag) -> Vec<Tag> {
    let mut also = request.also.clone();
    if request.floating && !version.contains('-') {
        let parts: Vec<&str> = version.split('.').collect();
        let texts = [
            parts.first().map(|major| (*major).to_owned()),
            parts.get(..2).map(|two| two.join(".")),
            Some("latest".to_owned()),
        ];
        also.extend(texts.into_iter().flatten().filter_map(|text| text.parse().ok()));
    }
    also.retain(|other| other != tag);
    let mut seen = std::collections::BTreeSet::new();
    also.retain(|other| seen.insert(other.to_string()));
    also
}
