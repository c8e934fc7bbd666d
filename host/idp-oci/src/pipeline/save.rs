//! What a source has, at hand: to be looked into, or brought to a sink without a registry between. For sources whose content can be
//! read again: files, layouts, archives, trees.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;

use super::PipelineError;
use crate::blob::Blob;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, Shape};
use crate::sink::{Have, Plan, Sink, SinkError};
use crate::source::{Image, Offer, Selection, Source, SourceError};

/// What a source has. Blobs are not held: they are where the source has them.
#[derive(Debug)]
pub struct Gathered {
    /// What the source calls itself.
    pub source: String,
    /// The name that the source has for it.
    pub name: Option<String>,
    /// Children first, the root last; never empty.
    pub manifests: Vec<Manifest>,
    blobs: HashMap<Digest, Blob>,
}

impl Gathered {
    /// All of a source.
    ///
    /// # Errors
    /// It cannot be read, or its content goes by only once.
    pub async fn of(source: Box<dyn Source>, selection: &Selection) -> Result<Self, PipelineError> {
        let what = source.describe();
        let (sender, mut offers) = mpsc::channel(16);
        let gathering = async {
            let (mut blobs, mut goes_by) = (HashMap::new(), false);
            while let Some(offer) = offers.recv().await {
                match offer {
                    Offer::Manifests(_) => {}
                    Offer::Blob(blob) => {
                        blobs.insert(blob.descriptor.digest.clone(), *blob);
                    }
                    Offer::Live(_) | Offer::Question(_) => goes_by = true,
                }
            }
            (blobs, goes_by)
        };
        let (read, (blobs, goes_by)) = tokio::join!(source.read(selection, sender), gathering);
        let failed = |error| PipelineError::Source { source_name: what.clone(), error };
        let image = read.map_err(failed)?;
        if goes_by {
            let why = "its content can be read only once; save it to a file first".to_owned();
            return Err(failed(SourceError::Invalid(why)));
        }
        Ok(Self { source: what, name: image.name, manifests: image.manifests, blobs })
    }

    /// What gets the name.
    pub fn root(&self) -> &Manifest {
        self.manifests.last().expect("a source has a manifest")
    }

    /// A small blob, whole.
    ///
    /// # Errors
    /// It is not there, longer than `most`, or cannot be read.
    pub async fn bytes(&self, blob: &Descriptor, most: u64) -> Result<Bytes, PipelineError> {
        let failed = |error| PipelineError::Source { source_name: self.source.clone(), error };
        let invalid = |why: String| failed(SourceError::Invalid(why));
        let found =
            self.blobs.get(&blob.digest).ok_or_else(|| invalid(format!("it lacks {}", blob.digest)))?;
        if blob.size > most {
            return Err(invalid(format!("{} has {} bytes; at most {most} are read", blob.digest, blob.size)));
        }
        let read = found.read_from(0).try_fold(BytesMut::new(), async |mut all, chunk| {
            all.extend_from_slice(&chunk);
            Ok(all)
        });
        let bytes =
            read.await.map_err(|error| failed(SourceError::Io { what: blob.digest.to_string(), error }))?;
        if Digest::of(&bytes) != blob.digest {
            return Err(invalid(format!("{} is not what its digest says", blob.digest)));
        }
        Ok(bytes.freeze())
    }

    /// Brings all of it to `sink`.
    ///
    /// # Errors
    /// The sink cannot take it; nothing of it stays then.
    pub async fn save(&self, mut sink: Box<dyn Sink>) -> Result<(), PipelineError> {
        let sink_name = sink.describe();
        let outcome = self.fill(&mut sink).await;
        let outcome = match outcome {
            Ok(()) => sink.finish().await,
            Err(error) => {
                sink.abort().await;
                Err(error)
            }
        };
        outcome.map_err(|error| PipelineError::Sink { sink_name, error })
    }

    async fn fill(&self, sink: &mut Box<dyn Sink>) -> Result<(), SinkError> {
        let plan = Plan { manifests: self.manifests.clone(), blobs: self.named(), reference: None };
        sink.begin(&plan).await?;
        for descriptor in &plan.blobs {
            if matches!(sink.have(descriptor).await, Have::All) {
                continue;
            }
            let blob = self.blobs.get(&descriptor.digest);
            let blob = blob
                .ok_or_else(|| SinkError::Corrupt(format!("{} lacks {}", self.source, descriptor.digest)))?;
            sink.blob(descriptor, blob.read_from(0)).await?;
        }
        Ok(())
    }

    /// Configs and layers, each once.
    fn named(&self) -> Vec<Descriptor> {
        let mut seen = HashSet::new();
        let images = self.manifests.iter().filter_map(|manifest| match manifest.shape() {
            Shape::Image { config, layers } => Some(std::iter::once(&**config).chain(layers)),
            Shape::Index { .. } => None,
        });
        images.flatten().filter(|blob| seen.insert(blob.digest.clone())).cloned().collect()
    }
}

#[async_trait]
impl Source for Gathered {
    fn describe(&self) -> String {
        self.source.clone()
    }

    async fn read(
        self: Box<Self>,
        _selection: &Selection,
        offers: mpsc::Sender<Offer>,
    ) -> Result<Image, SourceError> {
        let named = self.named();
        let Self { source, name, manifests, mut blobs } = *self;
        let send = async |offer| offers.send(offer).await.map_err(|_| SourceError::Closed);
        send(Offer::Manifests(manifests.clone())).await?;
        for descriptor in named {
            let Some(blob) = blobs.remove(&descriptor.digest) else {
                return Err(SourceError::Invalid(format!("{source} lacks {}", descriptor.digest)));
            };
            send(blob.into()).await?;
        }
        Ok(Image { manifests, name })
    }
}
