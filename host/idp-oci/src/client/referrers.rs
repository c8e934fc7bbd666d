//! What refers to a manifest (distribution-spec, "Listing Referrers"): the referrers API, or the index under the fallback tag
//! `sha256-<hex>` where the registry has none. Depends on `call` and `tag`.

use http::header::ACCEPT;
use http::{Method, StatusCode};

use super::auth::Access;
use super::call::Call;
use super::redirect::{self, same_origin};
use super::tag::next_link;
use super::{Client, ClientError, Event};
use crate::digest::Digest;
use crate::media;
use crate::name::{Repository, Tag, Target};

/// Pages of a list.
const MOST_PAGES: usize = 100;

/// What refers to a manifest, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrers {
    /// The descriptors, as they came.
    pub manifests: Vec<serde_json::Value>,
    /// `referrers-api` or `fallback-tag`.
    pub source: &'static str,
}

impl Client {
    /// Asks for the referrers of a manifest.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ClientError> {
        if self.hints(repository).await.referrers != Some(false)
            && let Some(manifests) = self.by_api(repository, subject).await?
        {
            return Ok(Referrers { manifests, source: "referrers-api" });
        }
        let manifests = self.by_tag(repository, subject).await?;
        Ok(Referrers { manifests, source: "fallback-tag" })
    }

    /// `None` when the registry has no such API: it answers 404, or something that is no index.
    pub(super) async fn by_api(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<Vec<serde_json::Value>>, ClientError> {
        let what = format!("referrers of {}/{repository}@{subject}", self.registry());
        let mut next = Some(self.url(repository, &format!("referrers/{subject}")));
        let (mut all, mut pages) = (Vec::new(), Vec::new());
        while let Some(url) = next.take() {
            if pages.contains(&url) || pages.len() == MOST_PAGES {
                let text =
                    format!("{what}: the registry's pages lead in a circle; the list may be incomplete");
                self.progress().event(Event::Warning { text });
                break;
            }
            pages.push(url.clone());
            let call = Call::new(Method::GET, url, Access::Pull.scopes(repository), what.clone());
            let call = call.header(ACCEPT, media::OCI_INDEX).read(self.max_manifest());
            let answered = self.call(&call).await?;
            match answered.response.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::BAD_REQUEST
                | StatusCode::NOT_IMPLEMENTED => {
                    return Ok(None);
                }
                _ => return Err(self.refusal(&call, answered, None).await),
            }
            let (from, attempts) = (answered.response.url.clone(), answered.attempts);
            let link = next_link(&answered.response.headers);
            let network = |error| {
                let request = format!("GET {}", super::redact::url(&call.url));
                ClientError::Network { what: call.what.clone(), request, attempts, error }
            };
            if let Some(link) = link {
                let target = redirect::resolve(&from, self.shared.home, &link, false).map_err(network)?;
                if !same_origin(&self.shared.base, &target) {
                    let problem =
                        format!("the next page is said to be on {}", target.host_str().unwrap_or_default());
                    return Err(ClientError::Content { what, problem });
                }
                next = Some(target);
            }
            let body = answered.response.bytes(self.max_manifest()).await.map_err(network)?;
            let Some(manifests) = entries(&body) else { return Ok(None) };
            all.extend(manifests);
        }
        Ok(Some(all))
    }

    async fn by_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<serde_json::Value>, ClientError> {
        let Ok(tag) = subject.referrers_tag().parse::<Tag>() else { return Ok(Vec::new()) };
        match self.manifest(repository, &Target::Tag(tag), None).await {
            Ok(index) => Ok(entries(index.bytes()).unwrap_or_default()),
            Err(error) if error.status() == Some(404) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn entries(body: &[u8]) -> Option<Vec<serde_json::Value>> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    document.get("manifests")?.as_array().cloned()
}

#[cfg(test)]
mod tests {
    use super::entries;
    use crate::digest::Digest;

    #[test]
    fn tags_of_subjects() {
        let digest = Digest::of(b"");
        assert_eq!(digest.referrers_tag(), format!("sha256-{}", &digest.to_string()[7..]));
        let long: Digest = format!("sha512:{}", "ab".repeat(64)).parse().expect("a digest");
        assert_eq!(long.referrers_tag(), format!("sha512-{}", "ab".repeat(32)));
    }

    #[test]
    fn indexes() {
        assert_eq!(entries(br#"{"manifests":[{"a":1}]}"#).map(|entries| entries.len()), Some(1));
        assert_eq!(entries(b"<html>"), None);
        assert_eq!(entries(b"{}"), None);
    }
}
