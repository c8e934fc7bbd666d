//! Manifests, read and written (distribution-spec, "Pulling manifests", "Pushing manifests"). What comes is checked against the
//! digest that was asked for and the one that the registry names. Depends on `call`.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};

use super::auth::Access;
use super::call::{Answered, Call};
use super::error::RegistryError;
use super::http::Body;
use super::progress::Event;
use super::{Client, ClientError, lacking};
use crate::digest::{Digest, Hasher};
use crate::manifest::{Descriptor, MAX_MANIFEST, Manifest};
use crate::media::ACCEPT_MANIFESTS;
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
        let call = self.manifest_call(Method::GET, repository, target, Access::Pull, "manifest");
        let answered = self.call(&call).await?;
        let content = |problem: String| ClientError::Content { what: call.what.clone(), problem };
        if answered.response.status != StatusCode::OK {
            return Err(self.refusal(&call, answered, None).await);
        }
        if is_html(&answered) {
            return Err(content(not_a_registry(&answered)));
        }
        let content_type = answered.response.header("content-type").map(str::to_owned);
        let named = answered.response.header("docker-content-digest").map(str::to_owned);
        let attempts = answered.attempts;
        let bytes = answered.response.bytes(MAX_MANIFEST).await.map_err(|error| {
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
        if let Some(named) = named.and_then(|named| named.parse::<Digest>().ok()) {
            let actual = digest_as(&bytes, &named);
            if actual != named {
                return Err(content(format!("the registry calls it {named}, and its bytes are {actual}")));
            }
        }
        let described = content_type
            .filter(|value| value.trim_start().starts_with("application/vnd."))
            .or_else(|| expected.map(|expected| expected.media_type.clone()));
        Manifest::parse(bytes, described.as_deref()).map_err(|error| content(error.to_string()))
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
        let descriptor = manifest.descriptor();
        let call = self
            .manifest_call(Method::PUT, repository, target, Access::Push, "writing manifest")
            .header(CONTENT_TYPE, &descriptor.media_type)
            .body(Body::Bytes(manifest.bytes().clone()));
        let answered = self.call(&call).await?;
        if !matches!(answered.response.status.as_u16(), 200 | 201 | 202 | 204) {
            return Err(self.refusal(&call, answered, None).await);
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
        let subject_indexed = response.headers.contains_key("oci-subject");
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
            return Ok(Offered::Written(Written {
                subject_indexed: answered.response.headers.contains_key("oci-subject"),
            }));
        }
        let body = String::from_utf8_lossy(&answered.response.error_body().await).into_owned();
        let lacking = lacking::of(&RegistryError::parse(&body));
        Ok(if lacking.is_empty() { Offered::Refused } else { Offered::Lacking(lacking) })
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

fn is_html(answered: &Answered) -> bool {
    answered.response.header("content-type").is_some_and(|value| value.trim_start().starts_with("text/html"))
}

/// Case 20.
fn not_a_registry(answered: &Answered) -> String {
    let host = answered.response.url.host_str().unwrap_or_default();
    format!(
        "{host} answered with a web page: that is not a registry (a login page of the network, or a wrong address)"
    )
}
