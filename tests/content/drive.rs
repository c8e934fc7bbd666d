//! Joins a source to a sink, as the pipeline does with a registry between them.

use std::collections::HashMap;
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use idp_oci::blob::{Blob, Part};
use idp_oci::digest::Digest;
use idp_oci::manifest::{Manifest, Shape};
use idp_oci::media;
use idp_oci::name::Reference;
use idp_oci::sink::{Plan, Sink, SinkError};
use idp_oci::source::{Live, Offer, Selection, Source, SourceError};
use tokio::sync::mpsc;

/// Everything a source had to give.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) blobs: Vec<Blob>,
    pub(crate) name: Option<String>,
}

impl Taken {
    pub(crate) fn root(&self) -> &Manifest {
        self.manifests.last().expect("never empty")
    }

    /// Every blob's bytes, checked against its descriptor.
    pub(crate) async fn contents(&self) -> HashMap<Digest, Vec<u8>> {
        let mut all = HashMap::new();
        for blob in &self.blobs {
            let bytes = bytes_of(blob).await;
            assert_eq!(blob.descriptor.size, bytes.len() as u64);
            assert_eq!(blob.descriptor.digest, Digest::of(&bytes));
            assert!(all.insert(blob.descriptor.digest.clone(), bytes).is_none(), "sent twice");
        }
        all
    }

    pub(crate) fn plan(&self, reference: Option<&str>) -> Plan {
        let mut blobs = Vec::new();
        for manifest in &self.manifests {
            if let Shape::Image { config, layers } = manifest.shape() {
                for part in std::iter::once(&**config).chain(layers) {
                    if !media::is_foreign(&part.media_type) && blobs.iter().all(|other| other != part) {
                        blobs.push(part.clone());
                    }
                }
            }
        }
        blobs.sort_by_key(|blob| blob.digest.clone());
        blobs.dedup_by_key(|blob| blob.digest.clone());
        let reference = reference.map(|text| Reference::parse(text, None).expect("a reference"));
        Plan { manifests: self.manifests.clone(), blobs, reference }
    }
}

pub(crate) async fn bytes_of(blob: &Blob) -> Vec<u8> {
    blob.read_from(0).map_ok(|chunk| chunk.to_vec()).try_concat().await.expect("readable")
}

/// Live content as a whole; none when the source gave up.
async fn live_blob(mut live: Live) -> Option<Blob> {
    let mut all = Vec::new();
    while let Some(part) = live.parts.recv().await {
        match part {
            Part::Bytes(bytes) => all.extend_from_slice(&bytes),
            Part::End(descriptor) => {
                let _ = live.taken.send(true);
                return Some(Blob::from_known(*descriptor, all.into()));
            }
        }
    }
    None
}

/// Reads a source to its end.
pub(crate) async fn take(source: Box<dyn Source>, selection: &Selection) -> Result<Taken, SourceError> {
    let (sender, mut receiver) = mpsc::channel(2);
    let collect = async {
        let mut blobs = Vec::new();
        while let Some(offer) = receiver.recv().await {
            match offer {
                Offer::Manifests(_) => {}
                Offer::Blob(blob) => blobs.push(*blob),
                Offer::Live(live) => blobs.extend(live_blob(live).await),
                Offer::Question(question) => drop(question),
            }
        }
        blobs
    };
    let (image, blobs) = tokio::join!(source.read(selection, sender), collect);
    let image = image?;
    Ok(Taken { manifests: image.manifests, blobs, name: image.name })
}

/// Opens a source by its text and reads it to its end.
pub(crate) async fn take_text(text: &str, base: &Path) -> Result<Taken, SourceError> {
    take(idp_oci::source::open(text, base)?, &Selection::default()).await
}

/// Fills a sink. After an error it is aborted, as the pipeline does.
pub(crate) async fn give(
    taken: &Taken,
    mut sink: Box<dyn Sink>,
    reference: Option<&str>,
) -> Result<(), SinkError> {
    let plan = taken.plan(reference);
    sink.begin(&plan).await?;
    let by_digest: HashMap<_, _> = taken.blobs.iter().map(|blob| (&blob.descriptor.digest, blob)).collect();
    let results: Vec<_> = stream::iter(&plan.blobs)
        .map(|descriptor| {
            let (sink, blob) = (&sink, by_digest.get(&descriptor.digest).copied());
            async move {
                match blob {
                    Some(blob) if !sink.has(descriptor).await => {
                        sink.blob(descriptor, blob.read_from(0)).await
                    }
                    _ => Ok(()),
                }
            }
        })
        .buffer_unordered(sink.concurrency().min(8))
        .collect()
        .await;
    match results.into_iter().find_map(Result::err) {
        None => sink.finish().await,
        Some(error) => {
            sink.abort().await;
            Err(error)
        }
    }
}

/// Opens a sink by its text and fills it.
pub(crate) async fn give_text(taken: &Taken, text: &str, base: &Path) -> Result<(), SinkError> {
    give(taken, idp_oci::sink::open(text, base)?, Some("r.example/team/app:1")).await
}

/// The names of all files below a directory, sorted.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    fn walk(root: &Path, at: &Path, all: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(root, &path, all);
            } else {
                all.push(path.strip_prefix(root).expect("below").display().to_string());
            }
        }
    }
    let mut all = Vec::new();
    walk(directory, directory, &mut all);
    all.sort();
    all
}
