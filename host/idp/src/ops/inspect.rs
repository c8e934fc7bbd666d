//! What lies behind a reference: its manifest in the terms of the specification, the configuration of an image, and what refers to it.
//! Nothing is fetched but manifests and the small configuration blob.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use idp_oci::client::{ClientError, RateLimit, Referrers, Verify};
use idp_oci::digest::Digest;
use idp_oci::manifest::{Descriptor, Manifest, Shape};
use idp_oci::media;
use idp_oci::name::{Reference, Repository};
use serde::{Deserialize, Serialize};

use super::context::To;
use super::session::{self, Session, Subject};
use super::{Context, Error};

/// A configuration larger than this is not looked into.
const MOST_CONFIG: u64 = 4 * 1024 * 1024;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Request {
    /// A reference, in the default registry where it names none.
    pub reference: String,
    /// Ask what refers to it, too.
    pub referrers: bool,
}

/// Content that a manifest names.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Part {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    /// `os/architecture[/variant]` of a child of an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// As the manifest has them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The configuration of an image (image-spec, config.md), as far as people ask for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Configuration {
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `linux`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// `amd64`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// `v8`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What a container of it is started with.
    #[serde(default, skip_serializing)]
    config: Option<Runtime>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", skip_deserializing)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Runtime {
    #[serde(rename = "Labels", default)]
    labels: Option<BTreeMap<String, String>>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inspected {
    /// What was asked for.
    pub reference: String,
    /// `registry/repository@digest`.
    pub pinned: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its own bytes.
    pub size: u64,
    /// What kind of artifact it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What it refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The children of an index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Part>,
    /// The config of an image manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Part>,
    /// Its layers, bottom first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Part>,
    /// Bytes of config and layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_size: Option<u64>,
    /// What an image's config says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
    /// What refers to it, where that was asked for; descriptors as they came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referrers: Option<Vec<serde_json::Value>>,
    /// `referrers-api` or `fallback-tag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referrers_source: Option<&'static str>,
    /// What the registry says about how often it may be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// The provider's name and version.
    pub provider: String,
}

/// Looks.
pub async fn inspect(context: &Context, request: Request) -> Result<Inspected, Error> {
    context.find_registry(&[&request.reference], To::Read).await?;
    let reference = context.reference(&request.reference)?;
    let session = session::open(context, Subject::from(&reference)).await?;
    let repository = session.on_wire(&reference.repository).clone();
    let manifest = manifest_of(&session, &repository, &reference).await?;
    let (mut manifests, mut config, mut layers) = (Vec::new(), None, Vec::new());
    match manifest.shape() {
        Shape::Index { manifests: children } => manifests = children.iter().map(part).collect(),
        Shape::Image { config: blob, layers: blobs } => {
            config = Some(part(blob));
            layers = blobs.iter().map(part).collect();
        }
    }
    let configuration = match manifest.shape() {
        Shape::Image { config, .. } if media::is_config(&config.media_type) && config.size <= MOST_CONFIG => {
            configuration(&blob(&session, &repository, config).await?)
        }
        _ => None,
    };
    let content_size = config
        .as_ref()
        .map(|config| layers.iter().fold(config.size, |sum, layer| sum.saturating_add(layer.size)));
    let (referrers, referrers_source) = if request.referrers {
        let found = session.client.referrers(&repository, manifest.digest()).await;
        let Referrers { manifests, source } = found.map_err(|error| session.failed(error))?;
        (Some(manifests), Some(source))
    } else {
        (None, None)
    };
    Ok(Inspected {
        reference: reference.to_string(),
        pinned: reference.pinned(manifest.digest()),
        digest: manifest.digest().clone(),
        media_type: manifest.descriptor().media_type.clone(),
        size: manifest.descriptor().size,
        artifact_type: manifest.artifact_type().map(str::to_owned),
        subject: manifest.subject().map(|subject| subject.digest.clone()),
        annotations: annotations(manifest.bytes()),
        manifests,
        config,
        layers,
        content_size,
        configuration,
        referrers,
        referrers_source,
        rate_limit: session.rate_limit(),
        provider: session.provider,
    })
}

/// The manifest's exact bytes.
pub async fn raw(context: &Context, reference: &str) -> Result<Bytes, Error> {
    let reference = context.reference(reference)?;
    let session = session::open(context, Subject::from(&reference)).await?;
    let repository = session.on_wire(&reference.repository).clone();
    Ok(manifest_of(&session, &repository, &reference).await?.bytes().clone())
}

async fn manifest_of(
    session: &Session,
    repository: &Repository,
    reference: &Reference,
) -> Result<Manifest, Error> {
    let manifest = session.client.manifest(repository, &reference.target(), None).await;
    manifest.map_err(|error| session.failed(error))
}

/// A small blob, whole and verified.
async fn blob(session: &Session, repository: &Repository, blob: &Descriptor) -> Result<Bytes, Error> {
    let failed = |error: ClientError| session.failed(error);
    let chunks = session.client.fetch_blob(repository, blob, Verify::Here).await.map_err(failed)?;
    let whole = chunks.try_fold(BytesMut::new(), async |mut whole, chunk| {
        whole.extend_from_slice(&chunk);
        Ok(whole)
    });
    let what = format!("reading the configuration {}", blob.digest);
    Ok(whole.await.map_err(|error| Error::Io { what, error })?.freeze())
}

/// What an image's config says; nothing where it is none.
fn configuration(bytes: &[u8]) -> Option<Configuration> {
    let mut configuration: Configuration = serde_json::from_slice(bytes).ok()?;
    configuration.labels = configuration.config.take().and_then(|runtime| runtime.labels).unwrap_or_default();
    (configuration != Configuration::default()).then_some(configuration)
}

fn part(descriptor: &Descriptor) -> Part {
    Part {
        digest: descriptor.digest.clone(),
        media_type: descriptor.media_type.clone(),
        size: descriptor.size,
        platform: descriptor.platform.as_ref().map(|platform| {
            let mut text = format!("{}/{}", platform.os(), platform.architecture());
            if let Some(variant) = platform.variant() {
                text.push('/');
                text.push_str(variant);
            }
            text
        }),
        annotations: descriptor.annotations.clone(),
    }
}

fn annotations(manifest: &[u8]) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    serde_json::from_slice::<Annotated>(manifest).ok().and_then(|it| it.annotations).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{annotations, configuration};

    #[test]
    fn configurations() {
        let found = configuration(
            br#"{"created":"2026-01-01T00:00:00Z","os":"linux","architecture":"amd64","config":{"Labels":{"a":"b"}}}"#,
        );
        let found = found.expect("an image");
        assert_eq!((found.os.as_deref(), found.labels["a"].as_str()), (Some("linux"), "b"));
        assert!(configuration(b"{}").is_none());
        assert!(configuration(b"not json").is_none());
        assert!(configuration(br#"{"config":{"Labels":null},"os":"linux"}"#).is_some());
    }

    #[test]
    fn annotations_of_any_manifest() {
        assert_eq!(annotations(br#"{"annotations":{"k":"v"}}"#)["k"], "v");
        assert!(annotations(br#"{"annotations":null}"#).is_empty());
        assert!(annotations(b"x").is_empty());
    }
}
