//! Layers that are not distributed with their image (image-spec, "Non-distributable layers"; case 57), fetched from where their
//! descriptor says: for who wants them in the registry all the same.
//!
//! The addresses come from whoever made the image. They are treated as a redirect of the registry would be: no credential goes there,
//! nothing of the inner network is asked unless the registry lies there, and what comes counts only when size and digest are right.
//! Depends on `http`. Bytes go to an unnamed temporary file.

use std::sync::Arc;

use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt as _;

use super::http::{HttpError, Request};
use super::{Client, ClientError, redact, redirect, retry};
use crate::blob::Blob;
use crate::digest::Hasher;
use crate::manifest::Descriptor;

/// More addresses of one layer are not tried.
const MOST_URLS: usize = 10;

impl Client {
    /// Fetches a layer from the first of its `urls` that has it.
    pub async fn foreign_layer(&self, layer: &Descriptor) -> Result<Blob, ClientError> {
        let what = format!("foreign layer {}", layer.digest.short());
        let mut failure = ClientError::Content {
            what: what.clone(),
            problem: "its descriptor does not say where it is to be had".to_owned(),
        };
        for url in layer.urls.iter().take(MOST_URLS) {
            let mut waits = self.shared.options.retry.waits();
            loop {
                let (error, passing) = match self.fetch_foreign(layer, url, &what, waits.failures() + 1).await
                {
                    Ok(blob) => return Ok(blob),
                    Err(failed) => failed,
                };
                let wait = if passing { waits.after_failure(None) } else { None };
                let cause = error.cause();
                failure = error;
                match wait {
                    Some(wait) => self.wait(&what, &waits, wait, false, cause).await,
                    None => break,
                }
            }
        }
        Err(failure)
    }

    /// With an error, whether a moment later it may go well.
    async fn fetch_foreign(
        &self,
        layer: &Descriptor,
        url: &str,
        what: &str,
        attempts: usize,
    ) -> Result<Blob, (ClientError, bool)> {
        let content = |problem: String| (ClientError::Content { what: what.to_owned(), problem }, false);
        let options = self.shared.http.options();
        let (base, home) = (&self.shared.base, self.shared.home);
        let failed = |request: String, error: HttpError| {
            // Of a host that cannot be reached, the next address may know nothing.
            let passing = error.is_transient() && !matches!(error, HttpError::Connect { .. });
            (ClientError::Network { what: what.to_owned(), request, attempts, error }, passing)
        };
        let target = redirect::resolve(base, home, url, options.allow_private_redirects)
            .map_err(|error| failed("an address of its descriptor".to_owned(), error))?;
        let shown = format!("GET {}", redact::url(&target));
        let request = Request { home, ..Request::new(Method::GET, target) };
        let network = |error: HttpError| failed(shown.clone(), error);
        let mut response = self.shared.http.execute(request).await.map_err(network)?;
        if response.status != StatusCode::OK {
            let (error, _) = content(format!("{shown} was answered with {}", response.status));
            return Err((error, retry::is_transient(response.status)));
        }
        let io = |error: std::io::Error| content(format!("it cannot be kept in a temporary file: {error}"));
        let mut file = tokio::fs::File::from_std(tempfile::tempfile().map_err(io)?);
        let mut hasher = Hasher::new(layer.digest.algorithm());
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            hasher.update(&chunk);
            if hasher.count() > layer.size {
                return Err(content(format!("{shown} sends more than the {} bytes it has", layer.size)));
            }
            file.write_all(&chunk).await.map_err(io)?;
        }
        file.flush().await.map_err(io)?;
        let (count, found) = (hasher.count(), hasher.finish());
        if count != layer.size || found != layer.digest {
            return Err(content(format!("{shown} sent {count} bytes that are {found}")));
        }
        Ok(Blob::from_file(layer.clone(), Arc::new(file.into_std().await), 0))
    }
}
