//! A plain directory, pushed as an artifact that `oras pull` unpacks: one gzipped tar and an empty config.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::blob::Blob;
use crate::media;
use crate::source::artifact::{Artifact, Made, TreeSource};
use crate::source::tree::Tree;
use crate::source::{Image, Offer, Selection, Source, SourceError};

/// `artifactType` of a directory.
pub const DIRECTORY_TYPE: &str = "application/vnd.idp.directory.v1";

/// A directory.
#[derive(Debug, Clone)]
pub struct DirectorySource {
    path: PathBuf,
}

impl DirectorySource {
    /// The tree at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl Source for DirectorySource {
    fn describe(&self) -> String {
        format!("directory {}", self.path.display())
    }

    async fn read(
        self: Box<Self>,
        selection: &Selection,
        offers: mpsc::Sender<Offer>,
    ) -> Result<Image, SourceError> {
        let tree = Tree::of(&self.path)?;
        let source = TreeSource::new(self.describe(), tree, |layer| {
            let config = Blob::from_bytes(media::OCI_EMPTY, Bytes::from_static(b"{}"));
            let layer = layer.as_directory();
            let artifact = Artifact {
                artifact_type: Some(DIRECTORY_TYPE),
                ..Artifact::new(&config, vec![layer.clone()])
            };
            Ok(Made { manifest: artifact.to_bytes()?, layer, blobs: vec![config] })
        });
        Box::new(source).read(selection, offers).await
    }
}
