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
/// Pages in a row with nothing new on them. Some are empty because the registry filters what it may not show; no more than this.
const MOST_VAIN: usize = 100;
/// Entries of a page of `_catalog`: distribution refuses more instead of sending fewer.
const LONGEST_PAGE: u32 = 1000;

/// A list of names in the making: a page is fetched when it is asked for.
#[derive(Debug)]
pub struct Names {
    client: Client,
    next: Option<Url>,
    scopes: Vec<Scope>,
    what: String,
    field: &'static str,
    pages: HashSet<Url>,
    seen: HashSet<String>,
    /// Pages in a row on which nothing was new.
    vain: usize,
}

impl Client {
    /// All tags of a repository, in the registry's order, each once.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, ClientError> {
        self.tag_pages(repository, None).await.all().await
    }

    /// All repositories, as far as the registry tells.
    pub async fn catalog(&self) -> Result<Vec<Repository>, ClientError> {
        self.catalog_pages(None).all().await
    }

    /// The tags of a repository, page by page; nothing is sent yet. `most`: no page needs to be longer.
    pub async fn tag_pages(&self, repository: &Repository, most: Option<u32>) -> Names {
        let page = self.hints(repository).await.page_size;
        let mut url = self.url(repository, "tags/list");
        url.set_query(Some(&format!("n={}", most.unwrap_or(page).clamp(1, page))));
        let what = format!("tags of {}/{repository}", self.registry());
        self.names(url, Access::Pull.scopes(repository), what, "tags")
    }

    /// The repositories of the registry, page by page; nothing is sent yet. `most`: no page needs to be longer.
    pub fn catalog_pages(&self, most: Option<u32>) -> Names {
        let mut url = self.shared.base.clone();
        url.set_path("/v2/_catalog");
        url.set_query(Some(&format!("n={}", most.unwrap_or(LONGEST_PAGE).clamp(1, LONGEST_PAGE))));
        let what = format!("repositories of {}", self.registry());
        self.names(url, vec![Scope::catalog()], what, "repositories")
    }

    fn names(&self, first: Url, scopes: Vec<Scope>, what: String, field: &'static str) -> Names {
        Names {
            client: self.clone(),
            next: Some(first),
            scopes,
            what,
            field,
            pages: HashSet::new(),
            seen: HashSet::new(),
            vain: 0,
        }
    }
}

impl Names {
    /// Whether the registry said that there is more.
    pub fn has_more(&self) -> bool {
        self.next.is_some()
    }

    /// The names of the next page that were not on an earlier one; `None` at the end.
    pub async fn next_page(&mut self) -> Result<Option<Vec<String>>, ClientError> {
        let Some(url) = self.next.take() else { return Ok(None) };
        if !self.pages.insert(url.clone()) || self.pages.len() > MOST_PAGES || self.vain >= MOST_VAIN {
            let text =
                format!("{}: the registry's pages lead in a circle; the list may be incomplete", self.what);
            self.client.progress().event(Event::Warning { text });
            return Ok(None);
        }
        let call = Call::new(Method::GET, url, self.scopes.clone(), self.what.clone());
        let call = call.read(MOST_PAGE);
        let answered = self.client.call(&call).await?;
        if answered.response.status != StatusCode::OK {
            return Err(self.client.refusal(&call, answered, None).await);
        }
        let (from, attempts) = (answered.response.url.clone(), answered.attempts);
        let link = next_link(&answered.response.headers);
        let network = |error| {
            let request = format!("GET {}", super::redact::url(&call.url));
            ClientError::Network { what: call.what.clone(), request, attempts, error }
        };
        if let Some(link) = &link {
            let shared = &self.client.shared;
            let target = redirect::resolve(&from, shared.home, link, false).map_err(network)?;
            if !same_origin(&shared.base, &target) {
                let problem =
                    format!("the next page is said to be on {}", target.host_str().unwrap_or_default());
                return Err(ClientError::Content { what: call.what, problem });
            }
            self.next = Some(target);
        }
        let body = answered.response.bytes(MOST_PAGE).await.map_err(network)?;
        let page: serde_json::Value = serde_json::from_slice(&body).map_err(|error| {
            let problem = format!("the answer is no list: {error}");
            ClientError::Content { what: call.what.clone(), problem }
        })?;
        // `null` is what some say for an empty list.
        let entries =
            page.get(self.field).and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let names = entries.iter().filter_map(serde_json::Value::as_str).map(str::to_owned);
        let new: Vec<String> = names.filter(|name| self.seen.insert(name.clone())).collect();
        self.vain = if new.is_empty() { self.vain + 1 } else { 0 };
        Ok(Some(new))
    }

    async fn all<T: std::str::FromStr>(mut self) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        while let Some(names) = self.next_page().await? {
            all.extend(names.iter().filter_map(|name| name.parse().ok()));
        }
        Ok(all)
    }
}

/// Where the next page is, by an answer's `Link` headers.
pub(crate) fn next_link(headers: &http::HeaderMap) -> Option<String> {
    headers.get_all("link").iter().find_map(|link| next_page(link.to_str().ok()?))
}

/// The target of `<…>; rel="next"` (RFC 8288). Commas and semicolons in a target or in quotes are part of them.
fn next_page(mut link: &str) -> Option<String> {
    loop {
        let (target, params) =
            link.trim_start_matches([',', ' ', '\t']).strip_prefix('<')?.split_once('>')?;
        let mut quoted = false;
        let end = params
            .find(|character| {
                quoted ^= character == '"';
                character == ',' && !quoted
            })
            .unwrap_or(params.len());
        let (params, rest) = params.split_at(end);
        let is_next = params.split(';').filter_map(|param| param.split_once('=')).any(|(name, value)| {
            let relations = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel")
                && relations.into_iter().any(|relation| relation.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target.to_owned());
        }
        link = rest;
    }
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
            (r#"<a,b;c>; title="x, <y>; rel=prev"; REL="prev NEXT""#, Some("a,b;c")),
            (r#"<a>;rel=next,<b>;rel=prev"#, Some("a")),
            (r#"<a>; rel="prev""#, None),
            (r#"<a>; rel="nextish""#, None),
            ("<a", None),
            ("a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_page(link).as_deref(), expect, "{link}");
        }
    }
}
