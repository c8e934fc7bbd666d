//! Lists: tags of a repository, repositories of a registry (distribution-spec, "Listing tags"; `_catalog`). Page by page; a
//! registry that pages in circles ends the list instead of us (case 64). Depends on `call`.

use std::collections::HashSet;

use http::{Method, StatusCode};
use url::Url;

use super::auth::Access;
use super::call::Call;
use super::dialect::Scope;
use super::redirect::{self, same_origin};
use super::{Client, ClientError, Event};
use crate::name::{Repository, Tag};

/// Bytes of a page.
const MOST_PAGE: u64 = 16 * 1024 * 1024;
/// Pages of a list.
const MOST_PAGES: usize = 10_000;

impl Client {
    /// All tags of a repository, in the registry's order, each once.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, ClientError> {
        let page = self.hints(repository).await.page_size;
        let mut url = self.url(repository, "tags/list");
        url.set_query(Some(&format!("n={page}")));
        let what = format!("tags of {}/{repository}", self.registry());
        self.list(url, Access::Pull.scopes(repository), what, "tags").await
    }

    /// All repositories, as far as the registry tells.
    pub async fn catalog(&self) -> Result<Vec<Repository>, ClientError> {
        let mut url = self.shared.base.clone();
        url.set_path("/v2/_catalog");
        url.set_query(Some("n=1000"));
        let what = format!("repositories of {}", self.registry());
        self.list(url, vec![Scope::catalog()], what, "repositories").await
    }

    async fn list<T: std::str::FromStr>(
        &self,
        first: Url,
        scopes: Vec<Scope>,
        what: String,
        field: &str,
    ) -> Result<Vec<T>, ClientError> {
        let (mut names, mut all, mut pages) = (HashSet::new(), Vec::new(), HashSet::new());
        let mut next = Some(first);
        while let Some(url) = next.take() {
            if !pages.insert(url.clone()) || pages.len() > MOST_PAGES {
                let text = format!("{what}: the registry's pages lead in a circle; the list may be incomplete");
                self.progress().event(Event::Warning { text });
                break;
            }
            let call = Call::new(Method::GET, url, scopes.clone(), what.clone());
            let answered = self.call(&call).await?;
            if answered.response.status != StatusCode::OK {
                return Err(self.refusal(&call, answered, None).await);
            }
            let (from, attempts) = (answered.response.url.clone(), answered.attempts);
            let link = answered.response.headers.get_all("link").iter().find_map(|link| next_page(link.to_str().ok()?));
            let network = |error| {
                let request = format!("GET {}", super::redact::url(&call.url));
                ClientError::Network { what: what.clone(), request, attempts, error }
            };
            if let Some(link) = &link {
                let target = redirect::resolve(&from, self.shared.home, link, false).map_err(network)?;
                if !same_origin(&self.shared.base, &target) {
                    let problem = format!("the next page is said to be on {}", target.host_str().unwrap_or_default());
                    return Err(ClientError::Content { what, problem });
                }
                next = Some(target);
            }
            let body = answered.response.bytes(MOST_PAGE).await.map_err(network)?;
            let page: serde_json::Value = serde_json::from_slice(&body).map_err(|error| {
                let problem = format!("the answer is no list: {error}");
                ClientError::Content { what: what.clone(), problem }
            })?;
            // `null` is what some say for an empty list.
            let entries = page.get(field).and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for name in entries.iter().filter_map(serde_json::Value::as_str) {
                if names.insert(name.to_owned())
                    && let Ok(name) = name.parse()
                {
                    all.push(name);
                }
            }
        }
        Ok(all)
    }
}

/// The target of `<…>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    link.split(", <").map(|entry| entry.trim_start_matches('<')).find_map(|entry| {
        let (target, params) = entry.split_once('>')?;
        let next = params.split(';').any(|param| {
            let param = param.trim().to_ascii_lowercase();
            matches!(param.as_str(), "rel=next" | r#"rel="next""#)
        });
        next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::next_page;

    /// Case 64.
    #[test]
    fn links() {
        for (link, expect) in [
            (r#"</v2/a/tags/list?n=1&last=b>; rel="next""#, Some("/v2/a/tags/list?n=1&last=b")),
            ("<https://r.example/x>; rel=next", Some("https://r.example/x")),
            (r#"<a>; rel="prev", <b>; rel="next""#, Some("b")),
            (r#"<a>; rel="prev""#, None),
            ("a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_page(link).as_deref(), expect, "{link}");
        }
    }
}
