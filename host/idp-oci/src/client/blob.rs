//! Whether a blob is there, and its end. Depends on `call`.

use http::{Method, StatusCode};

use super::auth::Access;
use super::call::Call;
use super::{Client, ClientError};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::name::Repository;

impl Client {
    /// Whether the registry has a blob. What it cannot or will not say counts as no: an upload finds out (cases 30, 33, 34).
    pub async fn has_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        access: Access,
    ) -> Result<bool, ClientError> {
        let url = self.url(repository, &format!("blobs/{}", blob.digest));
        let what = format!("looking for blob {} in {}/{repository}", blob.digest.short(), self.registry());
        let call = Call::new(Method::HEAD, url, access.scopes(repository), what);
        let answered = self.call(&call).await?;
        let response = &answered.response;
        if response.status != StatusCode::OK {
            let passing = super::retry::is_transient(response.status);
            return if passing { Err(self.refusal(&call, answered, None).await) } else { Ok(false) };
        }
        let differs = |name: &str, value: &str| response.header(name).is_some_and(|header| header != value);
        let html = response.header("content-type").is_some_and(|value| value.starts_with("text/html"));
        Ok(!differs("docker-content-digest", blob.digest.as_str())
            && !differs("content-length", &blob.size.to_string())
            && !html)
    }

    /// Deletes a blob.
    pub async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), ClientError> {
        let url = self.url(repository, &format!("blobs/{digest}"));
        let what = format!("deleting blob {} of {}/{repository}", digest.short(), self.registry());
        let call = Call::new(Method::DELETE, url, Access::Delete.scopes(repository), what);
        let answered = self.call(&call).await?;
        if answered.response.status.is_success() {
            return Ok(());
        }
        Err(self.refusal(&call, answered, None).await)
    }
}
