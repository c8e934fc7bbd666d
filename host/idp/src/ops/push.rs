//! Push: a source of the command line to a repository of a registry.

use std::path::Path;
use std::sync::Arc;

use idp_oci::client::dialect::Created;
use idp_oci::digest::Digest;
use idp_oci::manifest::Platform;
use idp_oci::name::{Reference, Repository, Tag};
use idp_oci::pipeline::{self, Destination, Gathered, Planned, Survey};
use idp_oci::source::{self, Compression, Memo, Selection, Source};
use idp_package::build::Package;
use idp_package::manifest;
use serde::Serialize;

use super::context::To;
use super::package::build::Origin;
use super::package::push::{is_there, with_version};
use super::room::{self, Room};
use super::session::{self, Session, Subject};
use super::{Context, Error};

/// What is pushed and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// As [`source::open`] takes it.
    pub source: String,
    /// References, `repository[:tag]` in the default registry; the source's own name where there is none.
    pub destinations: Vec<String>,
    /// Only say which requests would go.
    pub plan: bool,
    /// Layers that are not to be distributed are got from where they are, and pushed.
    pub include_foreign: bool,
    /// Only this platform.
    pub platform: Option<Platform>,
    /// What becomes of layers that are plain tars.
    pub compression: Compression,
    /// Repositories of the same registry that may have some of the blobs.
    pub mount_from: Vec<Repository>,
}

/// What was pushed, or would be.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pushed {
    /// What it was.
    pub source: String,
    /// Where it is, with its tag.
    pub reference: String,
    /// `registry/repository@digest`.
    pub pinned: String,
    /// The digest of the root manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Manifests, the root included.
    pub manifests: usize,
    /// Blobs of all manifests, each once.
    pub blobs: usize,
    /// Those whose bytes were sent.
    pub blobs_sent: usize,
    /// How many bytes these have.
    pub bytes_sent: u64,
    /// Those that the registry had, or took from another repository.
    pub blobs_reused: usize,
    /// The provider's name and version.
    pub provider: String,
    /// What was made at the registry for it, or would be.
    pub created: Vec<Created>,
    /// Nothing was written.
    pub dry_run: bool,
    /// The requests that would go, of a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<Vec<Planned>>,
}

/// What became of a push to several destinations.
#[derive(Debug)]
pub struct Outcome {
    /// What arrived, in the order of the destinations.
    pub pushed: Vec<Pushed>,
    /// Where it did not, and why.
    pub failed: Vec<(String, Error)>,
}

/// Pushes. With `dry_run` the source is read, the registry is asked what it would have to make, and nothing is written.
pub async fn push(context: &Context, request: Request) -> Result<Outcome, Error> {
    if !context.registries.oci_push.enabled {
        return Err(Error::PushDisabled(context.registries.file().map(Path::to_owned).unwrap_or_default()));
    }
    let base = std::env::current_dir()
        .map_err(|error| Error::Io { what: "finding the current directory".to_owned(), error })?;
    let package = package(&base.join(&request.source))?;
    let mut request = request;
    if let Some(package) = &package {
        as_package(&mut request, package);
    }
    let own = if request.destinations.is_empty() { own_name(&request.source) } else { None };
    let (source, package): (Box<dyn Source>, _) = match package {
        // The same artifact as `idp package push` makes of it, and the same rule for its version.
        Some(package) => {
            let facts = super::package::build::facts(context, &package, &Origin::default()).await?;
            let selection = Selection { compression: Compression::Gzip, ..Selection::default() };
            let gathered = Gathered::of(package.into_source(facts)?, &selection).await;
            let gathered = gathered.map_err(|error| Error::Pipeline(Box::new(error)))?;
            let digest = gathered.root().digest().clone();
            (Box::new(gathered), Some(digest))
        }
        None => (source::open(&request.source, &base)?, None),
    };
    let names: Vec<&str> = request.destinations.iter().chain(&own).map(String::as_str).collect();
    if !names.is_empty() {
        context.find_registry(&names, To::Write).await?;
    }
    let destinations = destinations(context, &request)?;
    let name = source.describe();
    let selection = Selection {
        name: None,
        platform: request.platform.clone(),
        compression: request.compression,
        memo: context.paths.layers().map(|file| Arc::new(Memo::load(file))),
    };
    let mut outcome = Outcome { pushed: Vec::new(), failed: Vec::new() };
    if context.options.dry_run {
        let survey =
            Survey::of(source, &selection).await.map_err(|error| Error::Pipeline(Box::new(error)))?;
        for destination in &destinations {
            check(destination, survey.root().digest())?;
            let room = room::rehearse(context, destination).await?;
            outcome.pushed.push(rehearsed(&survey, destination, room));
        }
        return Ok(outcome);
    }
    let mut sessions = Vec::new();
    for destination in &destinations {
        let session = session::open(context, Subject::from(destination)).await?;
        room::check(context, &session, destination).await?;
        if let (Some(digest), Some(tag)) = (&package, &destination.tag) {
            is_there(&session, destination, tag, digest, false).await?;
        }
        sessions.push(session);
    }
    if request.plan {
        let survey =
            Survey::of(source, &selection).await.map_err(|error| Error::Pipeline(Box::new(error)))?;
        for (destination, session) in destinations.iter().zip(&sessions) {
            outcome.pushed.push(planned(&survey, destination, session, &request.mount_from).await?);
        }
        return Ok(outcome);
    }
    let to = destinations.iter().zip(&sessions).map(|(destination, session)| Destination {
        client: session.client.clone(),
        repository: session.on_wire(&destination.repository).clone(),
        tags: tags(destination),
        mount_from: request.mount_from.clone(),
        include_foreign: request.include_foreign,
    });
    let all = pipeline::push_all(to.collect(), source, &selection, None, &context.cancel).await;
    let all = all.map_err(|error| match (error, sessions.first()) {
        (error, Some(session)) => session.pipeline_failed(error),
        (error, None) => Error::Pipeline(Box::new(error)),
    })?;
    for ((destination, session), pushed) in destinations.iter().zip(&sessions).zip(all) {
        let pushed = pushed
            .map_err(|error| session.pipeline_failed(error))
            .and_then(|pushed| check(destination, &pushed.digest).map(|()| pushed));
        match pushed {
            Ok(pushed) => outcome.pushed.push(as_pushed(&name, destination, session, pushed)),
            Err(error) => outcome.failed.push((shown(destination), error)),
        }
    }
    Ok(outcome)
}

/// The package in a directory, where there is one.
fn package(directory: &Path) -> Result<Option<Package>, Error> {
    if !directory.join(manifest::FILE).is_file() {
        return Ok(None);
    }
    Ok(Some(Package::open(directory)?))
}

/// Its own name and version, where the command line says none.
fn as_package(request: &mut Request, package: &Package) {
    if request.destinations.is_empty() {
        request.destinations.push(package.reference());
        return;
    }
    for destination in &mut request.destinations {
        *destination = with_version(destination, &package.manifest.metadata.version);
    }
}

/// What arrived, with the names that people wrote.
pub(super) fn as_pushed(
    source: &str,
    destination: &Reference,
    session: &Session,
    pushed: pipeline::Pushed,
) -> Pushed {
    let blobs_reused = pushed.blobs_mounted + pushed.blobs_existing;
    Pushed {
        source: source.to_owned(),
        reference: shown(destination),
        pinned: destination.pinned(&pushed.digest),
        digest: pushed.digest,
        media_type: pushed.media_type,
        manifests: pushed.manifests,
        blobs: pushed.blobs_sent + blobs_reused,
        blobs_sent: pushed.blobs_sent,
        bytes_sent: pushed.bytes_sent,
        blobs_reused,
        created: session.client.created(),
        provider: session.provider.clone(),
        dry_run: false,
        requests: None,
    }
}

/// What would arrive, and by which requests.
pub(super) async fn planned(
    survey: &Survey,
    destination: &Reference,
    session: &Session,
    mount_from: &[Repository],
) -> Result<Pushed, Error> {
    check(destination, survey.root().digest())?;
    let repository = session.on_wire(&destination.repository);
    let plan = survey.plan(&session.client, repository, &tags(destination), mount_from).await;
    let plan = plan.map_err(|error| session.pipeline_failed(error))?;
    let room = Room { provider: session.provider.clone(), created: Vec::new() };
    let bodies = plan.requests.iter().filter(|request| request.target.starts_with("blob "));
    Ok(Pushed {
        blobs_sent: survey.blobs.len() - plan.there,
        bytes_sent: bodies.map(|request| request.bytes).sum(),
        blobs_reused: plan.there,
        requests: Some(plan.requests),
        ..rehearsed(survey, destination, room)
    })
}

/// What would arrive where nothing is.
fn rehearsed(survey: &Survey, destination: &Reference, room: Room) -> Pushed {
    let root = survey.root().descriptor();
    Pushed {
        source: survey.source.clone(),
        reference: shown(destination),
        pinned: destination.pinned(&root.digest),
        digest: root.digest.clone(),
        media_type: root.media_type.clone(),
        manifests: survey.manifests.len(),
        blobs: survey.blobs.len(),
        blobs_sent: survey.blobs.len(),
        bytes_sent: survey.blobs.values().map(|blob| blob.size).sum(),
        blobs_reused: 0,
        provider: room.provider,
        created: room.created,
        dry_run: true,
        requests: None,
    }
}

/// `latest`, unless a tag or a digest is written.
pub(super) fn tags(destination: &Reference) -> Vec<Tag> {
    match (&destination.tag, &destination.digest) {
        (Some(tag), _) => vec![tag.clone()],
        (None, Some(_)) => Vec::new(),
        (None, None) => vec![Tag::latest()],
    }
}

pub(super) fn shown(destination: &Reference) -> String {
    let mut shown = destination.clone();
    if shown.tag.is_none() && shown.digest.is_none() {
        shown.tag = Some(Tag::latest());
    }
    shown.to_string()
}

/// A digest in DEST is a promise about what is pushed.
pub(super) fn check(destination: &Reference, digest: &Digest) -> Result<(), Error> {
    match &destination.digest {
        Some(expected) if expected != digest => {
            Err(Error::Usage(format!("the destination names {expected}, and what was pushed is {digest}")))
        }
        _ => Ok(()),
    }
}

fn destinations(context: &Context, request: &Request) -> Result<Vec<Reference>, Error> {
    if request.destinations.is_empty() {
        return Ok(vec![own_destination(context, &request.source)?]);
    }
    let all: Vec<Reference> =
        request.destinations.iter().map(|text| context.reference(text)).collect::<Result<_, _>>()?;
    if let Some(twice) = all.iter().enumerate().find(|(index, one)| all[..*index].contains(one)) {
        return Err(Error::Usage(format!("`{}` is named twice", twice.1)));
    }
    Ok(all)
}

/// Where a source goes that is given no place.
fn own_destination(context: &Context, source: &str) -> Result<Reference, Error> {
    let name = own_name(source).ok_or_else(|| {
        Error::Usage(format!("`{source}` has no name of its own; give a DEST, for example team/app:1.0"))
    })?;
    let mut reference = context.reference(&name).map_err(|error| match error {
        Error::Name(error) => {
            Error::Usage(format!("the source has no usable name of its own ({error}); give a DEST"))
        }
        other => other,
    })?;
    // The name of an image says where it came from; a flag says where it goes to.
    if context.options.registry.is_some()
        && let Some((address, _)) = context.default_registry()?
    {
        reference.registry = address.registry;
    }
    Ok(reference)
}

/// The name of a source by what is written: the image's name, else the file's or directory's.
fn own_name(source: &str) -> Option<String> {
    let named = |rest: &str| {
        // `DIR:TAG`: the directory's name with that tag; `FILE:NAME` and a tag that is a name itself stand for themselves.
        let (path, name) = match rest.rsplit_once('/') {
            Some((_, last)) => last.split_once(':').map_or((last, None), |(path, name)| (path, Some(name))),
            None => rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name))),
        };
        let path = path.strip_suffix(".tar.gz").or_else(|| path.strip_suffix(".tar")).unwrap_or(path);
        let plain = path.to_ascii_lowercase();
        match name {
            None => Some(plain).filter(|plain| !plain.is_empty() && plain != "." && plain != ".."),
            Some(name) if name.contains(['/', ':']) => Some(name.to_owned()),
            Some(name) => Some(format!("{plain}:{name}")),
        }
    };
    match source.split_once(':') {
        Some(("oci" | "oci-archive", rest)) => named(rest),
        Some(("docker-archive", rest)) => {
            let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            name.map(str::to_owned).or_else(|| named(path))
        }
        Some(("docker" | "docker-daemon", rest)) => Some(rest.to_owned()),
        _ if Path::new(source).exists() => {
            // `.` and `..` have a name where they really are.
            let path = fs_err::canonicalize(source).ok()?;
            named(path.file_name()?.to_str()?)
        }
        _ => Some(source.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::own_name;

    #[test]
    fn names_of_sources() {
        for (source, expect) in [
            ("app:1.0", "app:1.0"),
            ("docker-daemon:team/app:1.0", "team/app:1.0"),
            ("oci:./Layout", "layout"),
            ("oci:./layout:1.0", "layout:1.0"),
            ("oci-archive:dir/app.tar", "app"),
            ("oci-archive:dir/app.tar:2", "app:2"),
            ("docker-archive:app.tar:team/app:1.0", "team/app:1.0"),
            ("docker-archive:app.tar.gz", "app"),
        ] {
            assert_eq!(own_name(source).as_deref(), Some(expect), "{source}");
        }
        assert_eq!(own_name("oci:"), None);
        assert!(own_name(env!("CARGO_MANIFEST_DIR")).is_some_and(|name| name == "idp"));
    }
}
