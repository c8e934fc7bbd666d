//! What the solver asks of registries: tags, and what versions say about themselves. A session for each repository, and config blobs from
//! the content cache: a digest never means anything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use idp_oci::cache::Cache;
use idp_oci::client::{ClientError, Kind, Verify};
use idp_oci::manifest::Descriptor;
use idp_oci::name::{Repository, Target};
use idp_package::build;
use idp_package::config::MAX_CONFIG;
use idp_package::describe::{self, Description};
use idp_package::resolve::{Catalogue, CatalogueError, Image, Location, Metadata};
use tokio::sync::Mutex;

use super::super::session::{self, Session};
use super::super::{Context, Error};
use super::subject::whole;

/// Registries, as they are set up here.
#[derive(Debug)]
pub struct Registries<'a> {
    context: &'a Context,
    cache: Option<Arc<Cache>>,
    sessions: Mutex<BTreeMap<Location, Arc<Session>>>,
}

impl<'a> Registries<'a> {
    /// None asked yet.
    ///
    /// # Errors
    /// The settings of the cache are wrong.
    pub fn new(context: &'a Context) -> Result<Self, Error> {
        Ok(Self { context, cache: super::super::cache::of(context)?, sessions: Mutex::default() })
    }

    /// The session for a repository, opened once.
    pub(super) async fn session(&self, location: &Location) -> Result<(Arc<Session>, Repository), Error> {
        let mut sessions = self.sessions.lock().await;
        let session = match sessions.get(location) {
            Some(session) => Arc::clone(session),
            None => {
                let subject = session::Subject {
                    registry: &location.registry,
                    repository: Some(&location.repository),
                    tag: None,
                };
                let session = Arc::new(session::open(self.context, subject).await?);
                sessions.insert(location.clone(), Arc::clone(&session));
                session
            }
        };
        let repository = session.on_wire(&location.repository).clone();
        Ok((session, repository))
    }

    async fn config(
        &self,
        session: &Session,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<Bytes, CatalogueError> {
        if blob.size > MAX_CONFIG {
            return Err(CatalogueError::Unusable(format!("its config has {} bytes", blob.size)));
        }
        if let Some(cache) = &self.cache {
            let (cache, wanted) = (Arc::clone(cache), blob.clone());
            let kept =
                tokio::task::spawn_blocking(move || cache.get_verified(&wanted)).await.unwrap_or_default();
            if let Some(kept) = kept
                && let Ok(bytes) = whole(kept.read_from(0)).await
            {
                return Ok(bytes);
            }
        }
        let chunks = session.client.fetch_blob(repository, blob, Verify::Here).await.map_err(of_client)?;
        let writer = self.cache.as_ref().and_then(|cache| cache.writer(blob)).map(|mut writer| {
            writer.restart();
            writer
        });
        let (chunks, filling) = match writer {
            Some(writer) => {
                let (chunks, filling) = writer.tee(chunks);
                (chunks, Some(filling))
            }
            None => (chunks, None),
        };
        let bytes = whole(chunks).await.map_err(|error| CatalogueError::Failed(error.to_string()))?;
        if let (Some(cache), Some(filling)) = (&self.cache, filling) {
            filling.commit(cache).await;
        }
        Ok(bytes)
    }
}

fn of_client(error: ClientError) -> CatalogueError {
    match error.kind() {
        Kind::NotFound => CatalogueError::NotFound(error.cause()),
        _ => CatalogueError::Failed(error.to_string()),
    }
}

fn of_error(error: &Error) -> CatalogueError {
    CatalogueError::Failed(error.to_string())
}

#[async_trait]
impl Catalogue for Registries<'_> {
    async fn tags(&self, location: &Location) -> Result<Vec<String>, CatalogueError> {
        let (session, repository) = self.session(location).await.map_err(|error| of_error(&error))?;
        let tags = session.client.tags(&repository).await.map_err(of_client)?;
        Ok(tags.into_iter().map(|tag| tag.to_string()).collect())
    }

    async fn metadata(&self, location: &Location, target: &Target) -> Result<Metadata, CatalogueError> {
        let (session, repository) = self.session(location).await.map_err(|error| of_error(&error))?;
        let manifest = session.client.manifest(&repository, target, None).await.map_err(of_client)?;
        let blob = describe::telling(&manifest);
        let told = match blob {
            Some(blob) => Some(self.config(&session, &repository, blob).await?),
            None => None,
        };
        let description = Description::of(&manifest, told.as_deref()).map_err(CatalogueError::Unusable)?;
        if let Some(config) = &description.config {
            let images = config.images.iter().map(|image| Image {
                r#ref: image.reference.clone(),
                digest: image.digest.clone(),
                platforms: image.platforms.clone(),
            });
            let mut metadata = Metadata::of(&config.package, description.digest.clone());
            metadata.config_digest = blob.map(|blob| blob.digest.clone());
            metadata.images = images.collect();
            return Ok(metadata);
        }
        // A chart that others pushed, a directory: a package without dependencies of ours.
        let name = description.name.or_else(|| description.annotations.get(build::NAME).cloned());
        let name = name.unwrap_or_else(|| {
            location.repository.as_str().rsplit('/').next().unwrap_or_default().to_owned()
        });
        let version = description.version.unwrap_or_else(|| target.to_string());
        Ok(Metadata {
            name,
            version,
            digest: description.digest,
            config_digest: None,
            dependencies: Vec::new(),
            conflicts: Vec::new(),
            replaces: Vec::new(),
            requires: Default::default(),
            provides: Default::default(),
            images: Vec::new(),
        })
    }
}
