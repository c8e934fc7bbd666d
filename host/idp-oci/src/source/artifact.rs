//! An artifact whose one layer is a tree: what its config and manifest say is decided when the layer has been made.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::media;
use crate::source::archive::given_up_or;
use crate::source::outlet::{Outlet, blocking};
use crate::source::pack;
use crate::source::tree::{PackedFile, Tree};
use crate::source::{Image, Offer, Selection, Source, SourceError};

/// Annotation: the file or directory that a layer becomes.
pub const TITLE: &str = "org.opencontainers.image.title";
/// Annotation: `true` where a layer is a tar to be unpacked (oras).
pub const UNPACK: &str = "io.deis.oras.content.unpack";
/// Annotation: the digest of the tar inside (oras).
pub const UNPACK_DIGEST: &str = "io.deis.oras.content.digest";

/// A tree that became a layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The layer, without annotations.
    pub descriptor: Descriptor,
    /// The digest of the tar in it.
    pub diff_id: Digest,
    /// Bytes of that tar.
    pub unpacked: u64,
    /// The files in it, sorted by path, where they were to be listed.
    pub files: Vec<PackedFile>,
}

impl Layer {
    /// Its descriptor with the annotations by which `oras pull` unpacks it where it is asked to put it.
    pub fn as_directory(&self) -> Descriptor {
        let mut layer = self.descriptor.clone();
        layer.annotations = [
            (TITLE.to_owned(), ".".to_owned()),
            (UNPACK.to_owned(), "true".to_owned()),
            (UNPACK_DIGEST.to_owned(), self.diff_id.to_string()),
        ]
        .into();
        layer
    }
}

/// What stands in an image manifest.
#[derive(Debug, Clone)]
pub struct Artifact<'a> {
    /// `artifactType`.
    pub artifact_type: Option<&'a str>,
    /// The config.
    pub config: Descriptor,
    /// The layers.
    pub layers: Vec<Descriptor>,
    /// The manifest that it says something about.
    pub subject: Option<Descriptor>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

impl Artifact<'_> {
    /// A config and layers and nothing more.
    pub fn new(config: &Blob, layers: Vec<Descriptor>) -> Self {
        let config = config.descriptor.clone();
        Self { artifact_type: None, config, layers, subject: None, annotations: BTreeMap::new() }
    }

    /// The manifest's bytes; equal artifacts have equal ones.
    ///
    /// # Errors
    /// None that could happen.
    pub fn to_bytes(&self) -> Result<Bytes, SourceError> {
        let document = Document {
            schema_version: 2,
            media_type: media::OCI_MANIFEST,
            artifact_type: self.artifact_type,
            config: (&self.config).into(),
            layers: self.layers.iter().map(Part::from).collect(),
            subject: self.subject.as_ref().map(Part::from),
            annotations: &self.annotations,
        };
        let bytes = serde_json::to_vec(&document)
            .map_err(|error| SourceError::Io { what: "the manifest".to_owned(), error: error.into() })?;
        Ok(bytes.into())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u8,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    config: Part<'a>,
    layers: Vec<Part<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Part<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Descriptor> for Part<'a> {
    fn from(of: &'a Descriptor) -> Self {
        Self { media_type: &of.media_type, digest: &of.digest, size: of.size, annotations: &of.annotations }
    }
}

/// An artifact, made for a layer.
#[derive(Debug)]
pub struct Made {
    /// The layer as the manifest names it.
    pub layer: Descriptor,
    /// What else it names: the config, small layers.
    pub blobs: Vec<Blob>,
    /// The manifest.
    pub manifest: Bytes,
}

type Make = Box<dyn FnOnce(&Layer) -> Result<Made, SourceError> + Send>;

/// A tree, and what is to be said about it.
pub struct TreeSource {
    what: String,
    tree: Tree,
    lists: bool,
    make: Make,
}

impl fmt::Debug for TreeSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TreeSource").field("what", &self.what).finish_non_exhaustive()
    }
}

impl TreeSource {
    /// The layer of `tree`, with the config and manifest that `make` makes for it. `what` it is called in messages.
    pub fn new(
        what: impl Into<String>,
        tree: Tree,
        make: impl FnOnce(&Layer) -> Result<Made, SourceError> + Send + 'static,
    ) -> Self {
        Self { what: what.into(), tree, lists: false, make: Box::new(make) }
    }

    /// The same, with the files of the layer and their digests told to `make`.
    #[must_use]
    pub fn listing_files(mut self) -> Self {
        self.lists = true;
        self
    }

    fn send(self, selection: &Selection, outlet: &Outlet) -> Result<Image, SourceError> {
        if selection.platform.is_some() {
            return Err(SourceError::Invalid(format!("{} has no platforms to choose from", self.what)));
        }
        let mut input = self.tree.into_reader(self.lists);
        let (packed, file) = pack::to_file(selection.compression, &mut input, &|| outlet.is_closed())
            .map_err(|error| given_up_or(error, &self.what))?;
        let layer = Layer {
            descriptor: packed.descriptor,
            diff_id: packed.diff_id,
            unpacked: packed.read,
            files: input.into_packed(),
        };
        let made = (self.make)(&layer)?;
        let manifest = Manifest::parse(made.manifest, Some(media::OCI_MANIFEST)).map_err(|error| {
            SourceError::Manifest { what: format!("the manifest made for {}", self.what), error }
        })?;
        let manifests = vec![manifest];
        outlet.announce(&manifests)?;
        outlet.send(Blob::from_file(made.layer, Arc::new(file), 0))?;
        made.blobs.into_iter().try_for_each(|blob| outlet.send(blob))?;
        Ok(Image { manifests, name: None })
    }
}

#[async_trait]
impl Source for TreeSource {
    fn describe(&self) -> String {
        self.what.clone()
    }

    async fn read(
        self: Box<Self>,
        selection: &Selection,
        offers: mpsc::Sender<Offer>,
    ) -> Result<Image, SourceError> {
        let selection = selection.clone();
        blocking(move || self.send(&selection, &Outlet::new(offers))).await
    }
}

/// An artifact that is small and all here: a signature, a list of what is in something.
#[derive(Debug)]
pub struct ReadySource {
    /// What it is called in messages.
    pub what: String,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its config and layers.
    pub blobs: Vec<Blob>,
}

#[async_trait]
impl Source for ReadySource {
    fn describe(&self) -> String {
        self.what.clone()
    }

    async fn read(
        self: Box<Self>,
        _selection: &Selection,
        offers: mpsc::Sender<Offer>,
    ) -> Result<Image, SourceError> {
        blocking(move || {
            let outlet = Outlet::new(offers);
            let manifests = vec![self.manifest];
            outlet.announce(&manifests)?;
            self.blobs.into_iter().try_for_each(|blob| outlet.send(blob))?;
            Ok(Image { manifests, name: None })
        })
        .await
    }
}
