//! What the command line means where it names a package: a directory, a file or layout, or a reference.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use idp_oci::blob::Chunks;
use idp_oci::client::Verify;
use idp_oci::manifest::{Descriptor, Manifest};
use idp_oci::name::{Reference, Repository};
use idp_oci::pipeline::{Gathered, PipelineError};
use idp_oci::sink::DirectorySink;
use idp_oci::source::{self, Compression, LayoutSource, Selection};
use idp_package::build::{Facts, Package};
use idp_package::config::MAX_CONFIG;
use idp_package::describe::{self, Description};

use super::super::context::To;
use super::super::session::{self, Session};
use super::super::{Context, Error};
use super::idpbuilder::Named;
use super::images;

/// A package, wherever it is.
#[derive(Debug)]
pub enum Subject {
    /// A directory with a manifest in it.
    Directory(Box<Package>),
    /// A built one, in a file or a layout.
    Built(Box<Gathered>),
    /// One in a registry.
    Remote(Box<Remote>),
}

/// A package in a registry.
#[derive(Debug)]
pub struct Remote {
    /// As it was written.
    pub reference: Reference,
    /// Of its registry.
    pub session: Session,
    /// The repository as it goes on the wire.
    pub repository: Repository,
    /// Its manifest.
    pub manifest: Manifest,
}

/// Where something on the command line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory that is no layout.
    Directory(PathBuf),
    /// What [`source::open`] takes.
    Built(String),
    /// A registry.
    Reference(String),
}

/// What `text` means: a path that is there, `oci:…`, `oci-archive:…`, or else a reference, with or without `oci://`.
///
/// # Errors
/// It is written as a path, and nothing is there.
pub fn place(text: &str) -> Result<Place, Error> {
    if let Some(reference) = text.strip_prefix("oci://") {
        return Ok(Place::Reference(reference.to_owned()));
    }
    if text.starts_with("oci:") || text.starts_with("oci-archive:") {
        return Ok(Place::Built(text.to_owned()));
    }
    let path = Path::new(text);
    let is_written_as_path = text.starts_with(['.', '/']);
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() && LayoutSource::is_layout(path) => Ok(Place::Built(text.to_owned())),
        // Whether it is a package, opening it tells.
        Ok(found) if found.is_dir() => Ok(Place::Directory(path.to_owned())),
        Ok(found) if found.is_file() => Ok(Place::Built(text.to_owned())),
        Err(error) if is_written_as_path => {
            Err(Error::Absent(format!("there is nothing at {}: {error}", path.display())))
        }
        _ => Ok(Place::Reference(text.to_owned())),
    }
}

/// What is packed is packed so that everything reads it.
pub(super) fn selection() -> Selection {
    Selection { compression: Compression::Gzip, ..Selection::default() }
}

impl Subject {
    /// Finds it.
    ///
    /// # Errors
    /// It is not there, or is not what it should be.
    pub async fn of(context: &Context, text: &str) -> Result<Self, Error> {
        match place(text)? {
            Place::Directory(path) => {
                let package = super::idpbuilder::open(context, &path, &Named::default())?;
                Ok(Self::Directory(Box::new(package)))
            }
            Place::Built(text) => {
                let base = std::env::current_dir()
                    .map_err(|error| Error::Io { what: "finding the current directory".to_owned(), error })?;
                let source = source::open(&text, &base)?;
                let gathered = Gathered::of(source, &selection()).await;
                Ok(Self::Built(Box::new(gathered.map_err(pipeline)?)))
            }
            Place::Reference(text) => Ok(Self::Remote(Box::new(Remote::of(context, &text).await?))),
        }
    }

    /// What it is.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn describe(&self) -> Result<Description, Error> {
        match self {
            Self::Directory(package) => {
                let found = images::scan(package)?;
                let images = images::recorded(found, super::lock::read(&package.directory)?.as_ref());
                let source = package.as_ref().clone().into_source(Facts { images, ..Facts::default() })?;
                let gathered = Gathered::of(source, &selection()).await.map_err(pipeline)?;
                describe_gathered(&gathered).await
            }
            Self::Built(gathered) => describe_gathered(gathered).await,
            Self::Remote(remote) => remote.describe().await,
        }
    }

    /// Puts its files into a directory that is new or empty.
    ///
    /// # Errors
    /// It has no files, or some that are refused.
    pub async fn unpack(&self, context: &Context, directory: &Path) -> Result<(), Error> {
        let sink = Box::new(DirectorySink::new(directory));
        match self {
            Self::Directory(_) => Err(Error::Usage("a directory is unpacked already".to_owned())),
            Self::Built(gathered) => gathered.save(sink).await.map_err(pipeline),
            Self::Remote(remote) => {
                let options = idp_oci::pipeline::PullOptions {
                    cache: super::super::cache::of(context)?,
                    ..idp_oci::pipeline::PullOptions::default()
                };
                let target = idp_oci::name::Target::Digest(remote.manifest.digest().clone());
                let client = &remote.session.client;
                let pulled = idp_oci::pipeline::pull(
                    client,
                    &remote.repository,
                    &target,
                    sink,
                    &options,
                    &context.cancel,
                );
                pulled.await.map(|_| ()).map_err(|error| remote.session.pipeline_failed(error))
            }
        }
    }
}

/// What something at hand is.
pub(super) async fn describe_gathered(gathered: &Gathered) -> Result<Description, Error> {
    let root = gathered.root();
    let told = match describe::telling(root) {
        Some(blob) => Some(gathered.bytes(blob, MAX_CONFIG).await.map_err(pipeline)?),
        None => None,
    };
    description(root, told.as_deref())
}

fn description(manifest: &Manifest, told: Option<&[u8]>) -> Result<Description, Error> {
    Description::of(manifest, told).map_err(|why| Error::Unfit(format!("{}: {why}", manifest.digest())))
}

pub(super) fn pipeline(error: PipelineError) -> Error {
    Error::Pipeline(Box::new(error))
}

impl Remote {
    /// Finds it in its registry, or the default one.
    ///
    /// # Errors
    /// The registry does not have it.
    pub async fn of(context: &Context, text: &str) -> Result<Self, Error> {
        let text = text.strip_prefix("oci://").unwrap_or(text);
        context.find_registry(&[text], To::Read).await?;
        let reference = context.reference(text)?;
        let session = session::open(context, session::Subject::from(&reference)).await?;
        let repository = session.on_wire(&reference.repository).clone();
        let manifest = session.client.manifest(&repository, &reference.target(), None).await;
        let manifest = manifest.map_err(|error| session.failed(error))?;
        Ok(Self { reference, session, repository, manifest })
    }

    /// What it is.
    ///
    /// # Errors
    /// The registry does not give its config, or that is too large or broken.
    pub async fn describe(&self) -> Result<Description, Error> {
        let told = match describe::telling(&self.manifest) {
            Some(blob) => Some(self.bytes(blob).await?),
            None => None,
        };
        description(&self.manifest, told.as_deref())
    }

    /// `registry/repository@digest`.
    pub fn pinned(&self) -> String {
        self.reference.pinned(self.manifest.digest())
    }

    /// A config blob, whole and verified.
    async fn bytes(&self, blob: &Descriptor) -> Result<Bytes, Error> {
        if blob.size > MAX_CONFIG {
            let problem = format!("{} has {} bytes; at most {MAX_CONFIG} are read", blob.digest, blob.size);
            return Err(Error::Unfit(problem));
        }
        let failed = |error| self.session.failed(error);
        let chunks =
            self.session.client.fetch_blob(&self.repository, blob, Verify::Here).await.map_err(failed)?;
        let what = || format!("reading {}", blob.digest);
        whole(chunks).await.map_err(|error| Error::Io { what: what(), error })
    }
}

/// All of a small blob, in memory.
pub(super) async fn whole(chunks: Chunks) -> std::io::Result<Bytes> {
    let all = chunks.try_fold(BytesMut::new(), async |mut all, chunk| {
        all.extend_from_slice(&chunk);
        Ok(all)
    });
    all.await.map(BytesMut::freeze)
}

#[cfg(test)]
mod tests {
    use super::{Place, place};

    #[test]
    fn what_an_argument_means() {
        let reference = |text: &str| Place::Reference(text.to_owned());
        assert_eq!(place("oci://r.example/a:1").expect("a reference"), reference("r.example/a:1"));
        assert_eq!(place("r.example/a:1").expect("a reference"), reference("r.example/a:1"));
        assert_eq!(place("oci:dir:1").expect("a layout"), Place::Built("oci:dir:1".to_owned()));
        assert!(
            place("./absent").expect_err("nothing").to_string().starts_with("there is nothing at ./absent")
        );
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(place(here).expect("a directory"), Place::Directory(here.into()));
        assert_eq!(
            place(&format!("{here}/Cargo.toml")).expect("a file"),
            Place::Built(format!("{here}/Cargo.toml"))
        );
    }
}
