//! Manifests, read and written (distribution-spec, "Pulling manifests", "Pushing manifests"). What comes is checked against the
//! digest that was asked for and the one that the registry names. Depends on `call`.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::auth::Access;
use super::call::{Answered, Call};
use super::error::RegistryError;
use super::http::{Body, HttpError};
use super::progress::Event;
use super::{Client, ClientError, lacking};
use crate::digest::{Digest, DigestError, Hasher};
use crate::manifest::{Descriptor, Manifest};
use crate::media::{self, ACCEPT_MANIFESTS};
use crate::name::{Repository, Target};

/// What the registry said to a manifest that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The registry lists it among its subject's referrers (`OCI-Subject`).
    pub subject_indexed: bool,
}

/// What became of a manifest that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// It is there now.
    Written(Written),
    /// The registry lacks these.
    Lacking(BTreeSet<Digest>),
    /// It was refused, and nothing follows from that.
    Refused,
}

impl Client {
    /// Gets a manifest, verified. `expected` is the descriptor that led here, where there is one: its media type helps where the
    /// answer has none.
    pub async fn manifest(
        &self,
        repository: &Repository,
        target: &Target,
        expected: Option<&Descriptor>,
    ) -> Result<Manifest, ClientError> {
        self.tagged_manifest(repository, target, expected).await.map(|(manifest, _)| manifest)
    }

    /// The same with the answer's `ETag`.
    pub(super) async fn tagged_manifest(
        &self,
        repository: &Repository,
        target: &Target,
        expected: Option<&Descriptor>,
    ) -> Result<(Manifest, Option<String>), ClientError> {
        let call = self.manifest_call(Method::GET, repository, target, Access::Pull, "manifest");
        let most = self.max_manifest();
        let call = call.read(most);
        let content = |problem: String| ClientError::Content { what: call.what.clone(), problem };
        let answered = self.call(&call).await.map_err(|error| match error {
            ClientError::Network { error: HttpError::TooLarge(_), .. } => content(format!(
                "it is too large: more than {most} bytes, the most that is read of a manifest (IDPBUILDER_OCI_MANIFEST_MAX)"
            )),
            error => error,
        })?;
        if answered.response.status != StatusCode::OK {
            return Err(self.refusal(&call, answered, None).await);
        }
        if is_html(&answered) {
            return Err(content(not_a_registry(&answered)));
        }
        let content_type = answered.response.header("content-type").map(str::to_owned);
        let named = answered.response.header("docker-content-digest").map(str::to_owned);
        let etag = answered.response.header("etag").map(str::to_owned);
        let attempts = answered.attempts;
        let bytes = answered.response.bytes(most).await.map_err(|error| {
            let request = format!("GET {}", super::redact::url(&call.url));
            ClientError::Network { what: call.what.clone(), request, attempts, error }
        })?;
        if let Target::Digest(digest) = target {
            let actual = digest_as(&bytes, digest);
            if actual != *digest {
                return Err(content(format!("the registry sent {actual}")));
            }
        }
        // A MUST of the specification, and the only check of what a tag names (case 61).
        if let Some(named) = named.filter(|named| !named.is_empty()) {
            match named.parse::<Digest>() {
                Ok(named) => {
                    let actual = digest_as(&bytes, &named);
                    if actual != named {
                        return Err(content(format!(
                            "the registry calls it {named}, and its bytes are {actual}"
                        )));
                    }
                }
                // Nothing that can be checked, and nothing that was asked for.
                Err(DigestError::UnsupportedAlgorithm(_)) => {}
                Err(error) => return Err(content(format!("the registry names its digest: {error}"))),
            }
        }
        let described = content_type
            .filter(|value| value.trim_start().to_ascii_lowercase().starts_with("application/vnd."))
            .or_else(|| expected.map(|expected| expected.media_type.clone()));
        let manifest =
            Manifest::parse(bytes, described.as_deref()).map_err(|error| content(error.to_string()))?;
        let media_type = &manifest.descriptor().media_type;
        if let Some(expected) = expected
            && media::is_index(media_type) != media::is_index(&expected.media_type)
        {
            return Err(content(format!(
                "it is `{media_type}`, and the index that names it says `{}`",
                expected.media_type
            )));
        }
        Ok(match target {
            Target::Digest(digest) => (manifest.known_as(digest.clone()), etag),
            Target::Tag(_) => (manifest, etag),
        })
    }

    /// Asks for a manifest's descriptor without its bytes; `None` when it is not there. A registry that does not name the digest
    /// is asked for the manifest itself.
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        target: &Target,
        access: Access,
    ) -> Result<Option<Descriptor>, ClientError> {
        let call = self.manifest_call(Method::HEAD, repository, target, access, "manifest");
        let answered = self.call(&call).await?;
        let response = &answered.response;
        match response.status {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => {}
            _ => return Err(self.refusal(&call, answered, None).await),
        }
        let digest = response.header("docker-content-digest").and_then(|digest| digest.parse().ok());
        let size = response.header("content-length").and_then(|size| size.parse().ok());
        let media_type =
            response.header("content-type").map(|value| value.split(';').next().unwrap_or_default());
        if let (Some(digest), Some(size), Some(media_type)) = (digest, size, media_type) {
            return Ok(Some(Descriptor::new(media_type.trim(), digest, size)));
        }
        Ok(Some(self.manifest(repository, target, None).await?.descriptor().clone()))
    }

    /// Writes a manifest under a tag or its digest.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        target: &Target,
        manifest: &Manifest,
    ) -> Result<Written, ClientError> {
        self.put_manifest_if(repository, target, manifest, None).await
    }

    /// The same under a condition (`If-Match`, `If-None-Match`), which registries are free to overlook.
    pub(super) async fn put_manifest_if(
        &self,
        repository: &Repository,
        target: &Target,
        manifest: &Manifest,
        condition: Option<(HeaderName, String)>,
    ) -> Result<Written, ClientError> {
        let descriptor = manifest.descriptor();
        let (size, most) = (descriptor.size, self.hints(repository).await.manifest_max);
        if size > most {
            let digest = descriptor.digest.short();
            self.warn(format!(
                "manifest {digest} has {size} bytes, and {} need not take more than {most}",
                self.registry()
            ));
        }
        let mut call = self
            .manifest_call(Method::PUT, repository, target, Access::Push, "writing manifest")
            .header(CONTENT_TYPE, &descriptor.media_type)
            .body(Body::Bytes(manifest.bytes().clone()));
        if let Some((name, value)) = condition {
            call = call.header(name, &value);
        }
        let answered = self.call(&call).await?;
        let status = answered.response.status;
        if !matches!(status.as_u16(), 200 | 201 | 202 | 204) {
            let note = (status == StatusCode::PAYLOAD_TOO_LARGE)
                .then(|| format!("the manifest has {size} bytes; 4 MiB are what every registry has to take"));
            return Err(self.refusal(&call, answered, note).await);
        }
        let content = |problem: String| ClientError::Content { what: call.what.clone(), problem };
        if is_html(&answered) {
            return Err(content(not_a_registry(&answered)));
        }
        let response = &answered.response;
        if let Some(named) =
            response.header("docker-content-digest").and_then(|named| named.parse::<Digest>().ok())
        {
            let ours = digest_as(manifest.bytes(), &named);
            if named != ours {
                return Err(content(format!("the registry stored it as {named}, and it is {ours}")));
            }
        }
        let subject_indexed = self.subject_indexed(&response.headers);
        let tag = match target {
            Target::Tag(tag) => Some(tag.to_string()),
            Target::Digest(_) => None,
        };
        self.progress().event(Event::ManifestPut { digest: descriptor.digest.clone(), tag });
        Ok(Written { subject_indexed })
    }

    /// Writes a manifest by its digest to see whether the registry has what it names: a registry that checks says in one answer all
    /// that it lacks. A refusal of any other kind is no failure here; the real write will meet it.
    pub async fn offer_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<Offered, ClientError> {
        let target = Target::Digest(manifest.digest().clone());
        let descriptor = manifest.descriptor();
        let call = self
            .manifest_call(Method::PUT, repository, &target, Access::Push, "offering manifest")
            .header(CONTENT_TYPE, &descriptor.media_type)
            .body(Body::Bytes(manifest.bytes().clone()));
        let answered = self.call(&call).await?;
        let named = answered.response.header("docker-content-digest").map(str::to_owned);
        if answered.response.status == StatusCode::CREATED
            && named.is_none_or(|named| named == descriptor.digest.as_str())
        {
            self.progress().event(Event::ManifestPut { digest: descriptor.digest.clone(), tag: None });
            let subject_indexed = self.subject_indexed(&answered.response.headers);
            return Ok(Offered::Written(Written { subject_indexed }));
        }
        let body = String::from_utf8_lossy(&answered.response.error_body().await).into_owned();
        let lacking = lacking::of(&RegistryError::parse(&body));
        Ok(if lacking.is_empty() { Offered::Refused } else { Offered::Lacking(lacking) })
    }

    /// Whether the registry lists a manifest among its subject's referrers: one that does it once does it for all.
    fn subject_indexed(&self, headers: &HeaderMap) -> bool {
        let indexed = headers.contains_key("oci-subject");
        if indexed {
            self.shared.referrers.get_or_init(|| true);
        }
        indexed
    }

    /// Deletes a tag or a manifest with all of its tags.
    pub async fn delete_manifest(&self, repository: &Repository, target: &Target) -> Result<(), ClientError> {
        let call =
            self.manifest_call(Method::DELETE, repository, target, Access::Delete, "deleting manifest");
        let answered = self.call(&call).await?;
        if answered.response.status.is_success() {
            return Ok(());
        }
        Err(self.refusal(&call, answered, None).await)
    }

    fn manifest_call(
        &self,
        method: Method,
        repository: &Repository,
        target: &Target,
        access: Access,
        what: &str,
    ) -> Call {
        let url = self.url(repository, &format!("manifests/{target}"));
        let separator = if matches!(target, Target::Tag(_)) { ":" } else { "@" };
        let what = format!("{what} {}/{repository}{separator}{target}", self.registry());
        let call = Call::new(method.clone(), url, access.scopes(repository), what);
        if matches!(method, Method::GET | Method::HEAD) {
            call.header(ACCEPT, ACCEPT_MANIFESTS)
        } else {
            call
        }
    }
}

fn digest_as(bytes: &Bytes, like: &Digest) -> Digest {
    let mut hasher = Hasher::new(like.algorithm());
    hasher.update(bytes);
    hasher.finish()
}

pub(super) fn is_html(answered: &Answered) -> bool {
    answered.response.header("content-type").is_some_and(|value| value.trim_start().starts_with("text/html"))
}

/// Case 20.
pub(super) fn not_a_registry(answered: &Answered) -> String {
    let host = answered.response.url.host_str().unwrap_or_default();
    format!(
        "{host} answered with a web page: that is not a registry (a login page of the network, or a wrong address)"
    )
}
