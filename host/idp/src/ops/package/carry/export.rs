//! Export: everything that a package needs, to one layout or archive. Content that is there already is not fetched again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use idp_oci::blob::Blob;
use idp_oci::client::{Access, Client, Event};
use idp_oci::digest::Digest;
use idp_oci::manifest::{Manifest, Platform};
use idp_oci::media;
use idp_oci::name::{Reference, Registry, Repository, Tag, Target};
use idp_oci::pipeline::{self, Gathered, PullOptions};
use idp_oci::sink::LayoutSink;
use idp_oci::source::{Artifact, ReadySource, Tree};
use idp_package::config::Config;
use idp_package::resolve::{Catalogue as _, Location, Lock};
use idp_package::trust::legacy;
use serde::Serialize;

use super::super::super::{Context, Error, cache};
use super::super::catalogue::Registries;
use super::super::subject::{Remote, pipeline as failed, selection};
use super::{Entry, Kind, LIST, LIST_TYPE, List};

/// What is exported, and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// One in a registry.
    pub package: String,
    /// `FILE.tar` or `oci:DIR`; `NAME-VERSION-export.tar` unless given.
    pub destination: Option<String>,
    /// Leave images where they are.
    pub no_images: bool,
    /// Leave signatures and the like where they are.
    pub no_referrers: bool,
    /// Only this platform of images. What it is an index of does not come along, so its digest is another one.
    pub platform: Option<Platform>,
}

/// What was exported.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exported {
    /// Where it is.
    pub destination: String,
    /// Packages, the one that was named and its dependencies.
    pub packages: usize,
    /// Images.
    pub images: usize,
    /// What refers to them.
    pub referrers: usize,
    /// Bytes that registries sent.
    pub bytes_received: u64,
    /// What is inside.
    pub entries: Vec<Entry>,
}

/// Exports.
///
/// # Errors
/// Something of it is not to be had, or cannot be written. An archive is then not there; a layout is whole as far as it goes.
pub async fn export(context: &Context, request: &Request) -> Result<Exported, Error> {
    let root = Remote::of(context, &request.package).await?;
    let config = config_of(&root).await?;
    let name = format!("{}-{}-export.tar", config.package.metadata.name, config.package.metadata.version);
    let destination = request.destination.clone().unwrap_or(name);
    let (layout, archive) = place(&destination)?;
    let registries = Registries::new(context)?;
    let mut export = Export {
        context,
        registries,
        layout: layout.path().to_owned(),
        request,
        list: List { version: 1, root: root.reference.to_string(), entries: Vec::new() },
        seen: BTreeSet::new(),
        bytes: 0,
    };
    export.everything(&root, &config).await?;
    let Export { list, bytes, .. } = export;
    save_list(layout.path(), &list).await?;
    if let Some(archive) = archive {
        let directory = layout.path().to_owned();
        pack(directory, archive).await?;
    }
    drop(layout);
    let count = |kind| list.entries.iter().filter(|entry| entry.kind == kind).count();
    Ok(Exported {
        destination,
        packages: count(Kind::Package),
        images: count(Kind::Image),
        referrers: count(Kind::Referrer),
        bytes_received: bytes,
        entries: list.entries,
    })
}

/// Where the layout is made.
enum Layout {
    /// Where it stays.
    Given(PathBuf),
    /// Beside the archive, until that is written.
    Staged(tempfile::TempDir),
}

impl Layout {
    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Staged(directory) => directory.path(),
        }
    }
}

fn place(destination: &str) -> Result<(Layout, Option<PathBuf>), Error> {
    if let Some(directory) = destination.strip_prefix("oci:") {
        return Ok((Layout::Given(PathBuf::from(directory)), None));
    }
    let path = PathBuf::from(destination.strip_prefix("oci-archive:").unwrap_or(destination));
    if path.extension().is_none_or(|ending| ending != "tar") {
        return Err(Error::Usage(format!(
            "`{destination}` is not where packages are exported to; write FILE.tar or oci:DIR"
        )));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staged = tempfile::Builder::new().prefix(".idp-export-").tempdir_in(parent);
    let staged = staged.map_err(|error| Error::Io { what: parent.display().to_string(), error })?;
    Ok((Layout::Staged(staged), Some(path)))
}

/// The layout as one file, which is there whole or not at all.
async fn pack(directory: PathBuf, archive: PathBuf) -> Result<(), Error> {
    let shown = archive.display().to_string();
    let io = move |error| Error::Io { what: shown.clone(), error };
    let work = move || -> Result<(), Error> {
        let tree = Tree::of_those(&directory, &|name, _| !name.starts_with(".idp-"))?;
        let parent =
            archive.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(&io)?;
        tree.write_to(&mut std::io::BufWriter::with_capacity(1 << 20, file.as_file_mut())).map_err(&io)?;
        file.as_file().sync_all().map_err(&io)?;
        file.persist(&archive).map_err(|error| io(error.error))?;
        Ok(())
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Io {
        what: "writing the archive".to_owned(),
        error: std::io::Error::other(error),
    })?
}

async fn config_of(remote: &Remote) -> Result<Config, Error> {
    remote.describe().await?.config.ok_or_else(|| {
        Error::Unfit(format!(
            "{} was not built by idp, so what it needs is not known; `idp copy` and `idp pull REF oci:DIR` move anything",
            remote.reference
        ))
    })
}

struct Export<'a> {
    context: &'a Context,
    registries: Registries<'a>,
    layout: PathBuf,
    request: &'a Request,
    list: List,
    seen: BTreeSet<String>,
    bytes: u64,
}

impl Export<'_> {
    async fn everything(&mut self, root: &Remote, config: &Config) -> Result<(), Error> {
        let lock: Option<Lock> = match &config.lock {
            Some(lock) => Some(
                serde_json::from_value(lock.clone())
                    .map_err(|error| Error::Unfit(format!("the lock in the package: {error}")))?,
            ),
            None if config.package.spec.dependencies.iter().any(|dependency| !dependency.optional) => {
                return Err(Error::Unfit(format!(
                    "{} has dependencies and no lock in it, so which versions belong to it is open; `idp package lock`, then push it again",
                    root.reference
                )));
            }
            None => None,
        };
        let mut images: Vec<(String, Option<Digest>)> = Vec::new();
        let mut note = |found: &[idp_package::config::Image]| {
            images.extend(found.iter().map(|image| (image.reference.clone(), image.digest.clone())));
        };
        note(&config.images);
        let mut packages = Vec::new();
        if let Some(lock) = &lock {
            let order = lock.order().unwrap_or_default();
            for name in order {
                let Some(package) = lock.package(&name) else { continue };
                let place = package.repository.rewritten(&self.context.registries.rewrites);
                let target = Target::Digest(package.digest.clone());
                let metadata = self.registries.metadata(&place, &target).await;
                let metadata = metadata.map_err(|error| {
                    Error::Unfit(format!("{} {}: {error}", package.name, package.version))
                })?;
                for image in metadata.images {
                    images.push((image.r#ref, image.digest));
                }
                packages.push((
                    package.repository.clone(),
                    package.version.to_string(),
                    package.digest.clone(),
                ));
            }
            images.extend(lock.images.iter().map(|image| (image.r#ref.clone(), image.digest.clone())));
        }
        if !self.request.no_images {
            // One that is known by its digest is that one, whoever else names only its tag.
            images.sort_by_key(|(_, digest)| digest.is_none());
            for (reference, digest) in images {
                let parsed = Reference::parse(&reference, None::<&Registry>)?;
                let location =
                    Location { registry: parsed.registry.clone(), repository: parsed.repository.clone() };
                let target = match (digest, &parsed.digest) {
                    (Some(digest), _) => Target::Digest(digest),
                    (None, Some(digest)) => Target::Digest(digest.clone()),
                    (None, None) => parsed.target(),
                };
                self.one(Kind::Image, &location, &reference, &target).await?;
            }
        }
        for (location, version, digest) in packages {
            let name = format!("{}/{}:{version}", location.registry, location.repository);
            self.one(Kind::Package, &location, &name, &Target::Digest(digest)).await?;
        }
        let location = Location {
            registry: root.reference.registry.clone(),
            repository: root.reference.repository.clone(),
        };
        let digest = Target::Digest(root.manifest.digest().clone());
        self.one(Kind::Package, &location, &root.reference.to_string(), &digest).await
    }

    /// One thing and what refers to it.
    async fn one(
        &mut self,
        kind: Kind,
        location: &Location,
        name: &str,
        target: &Target,
    ) -> Result<(), Error> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let place = location.rewritten(&self.context.registries.rewrites);
        let (session, repository) = self.registries.session(&place).await?;
        let platform = if kind == Kind::Image { self.request.platform.clone() } else { None };
        let pulled = self.pull(&session.client, &repository, target, name, platform).await;
        let digest = pulled.map_err(|error| session.pipeline_failed(error))?;
        self.list.entries.push(Entry { reference: name.to_owned(), digest: digest.clone(), kind });
        if self.request.no_referrers {
            return Ok(());
        }
        let listed = session.client.referrers(&repository, &digest).await;
        let listed = listed.map_err(|error| session.failed(error))?;
        let plain = format!("{}/{}", location.registry, location.repository);
        for descriptor in listed.manifests {
            let found = descriptor.get("digest").and_then(|digest| digest.as_str()?.parse::<Digest>().ok());
            let Some(found) = found else { continue };
            let name = format!("{plain}@{found}");
            if !self.seen.insert(name.clone()) {
                continue;
            }
            let target = Target::Digest(found);
            let pulled = self.pull(&session.client, &repository, &target, &name, None).await;
            let digest = pulled.map_err(|error| session.pipeline_failed(error))?;
            self.list.entries.push(Entry { reference: name, digest, kind: Kind::Referrer });
        }
        if let Some(tag) = legacy::tag(&digest) {
            self.legacy(&session.client, &repository, &plain, &tag)
                .await
                .map_err(|error| session.pipeline_failed(error))?;
        }
        Ok(())
    }

    /// Signatures of cosign 1 and 2, which nothing lists.
    async fn legacy(
        &mut self,
        client: &Client,
        repository: &Repository,
        plain: &str,
        tag: &Tag,
    ) -> Result<(), pipeline::PipelineError> {
        let target = Target::Tag(tag.clone());
        if client.head_manifest(repository, &target, Access::Pull).await?.is_none() {
            return Ok(());
        }
        let name = format!("{plain}:{tag}");
        let digest = self.pull(client, repository, &target, &name, None).await?;
        self.list.entries.push(Entry { reference: name, digest, kind: Kind::Referrer });
        Ok(())
    }

    async fn pull(
        &mut self,
        client: &Client,
        repository: &Repository,
        target: &Target,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Digest, pipeline::PipelineError> {
        let sink = Box::new(LayoutSink::new(&self.layout, Some(name.to_owned())));
        let cache = cache::of(self.context).unwrap_or_default();
        let options = PullOptions { platform, cache, ..PullOptions::default() };
        self.context.progress.event(Event::Note { text: name.to_owned() });
        let pulled = pipeline::pull(client, repository, target, sink, &options, &self.context.cancel).await?;
        self.bytes += pulled.bytes_received;
        Ok(pulled.digest)
    }
}

/// The list as an artifact of the layout.
async fn save_list(layout: &Path, list: &List) -> Result<(), Error> {
    let json = serde_json::to_vec_pretty(list)
        .map_err(|error| Error::Io { what: "the list of what is inside".to_owned(), error: error.into() })?;
    let config = Blob::from_bytes(media::OCI_EMPTY, Bytes::from_static(b"{}"));
    let layer = Blob::from_bytes(LIST_TYPE, json.into());
    let artifact =
        Artifact { artifact_type: Some(LIST_TYPE), ..Artifact::new(&config, vec![layer.descriptor.clone()]) };
    let manifest = Manifest::parse(artifact.to_bytes()?, Some(media::OCI_MANIFEST))
        .map_err(|error| Error::Unfit(format!("the list of what is inside: {error}")))?;
    let source =
        ReadySource { what: "the list of what is inside".to_owned(), manifest, blobs: vec![config, layer] };
    let gathered = Gathered::of(Box::new(source), &selection()).await.map_err(failed)?;
    let sink = Box::new(LayoutSink::new(layout, Some(LIST.to_owned())));
    gathered.save(sink).await.map_err(failed)
}
