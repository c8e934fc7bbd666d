//! `n`, `last` and `Link` (distribution-spec, "Listing Tags"), and query parameters as a whole.

use http::header::{HeaderValue, LINK};
use http::request::Parts;
use url::form_urlencoded;

use axum::response::{IntoResponse as _, Response};

use crate::server::error::Error;
use crate::server::limits::Limits;
use crate::store::{Listing, Page};

/// The decoded query of a request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(parts: &Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of this name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The page that is asked for, within what a page may have.
    pub(crate) fn page(&self, limits: &Limits) -> Result<Page, Error> {
        let most = limits.page_entries;
        let limit = match self.get("n") {
            None => most,
            // A number too large for us is more than a page has.
            Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map_or(most, |n: usize| n.min(most))
            }
            Some(text) => {
                let message = format!("`n` is the number of entries wanted, and not `{text}`");
                return Err(Error::bad_request("PAGINATION_NUMBER_INVALID", message));
            }
        };
        Ok(Page { after: self.get("last").filter(|last| !last.is_empty()).map(str::to_owned), limit })
    }
}

/// A page as JSON, with the way to the next one.
pub(crate) fn answer(
    path: &str,
    page: &Page,
    listing: &Listing<String>,
    body: &impl serde::Serialize,
) -> Response {
    let mut response = json(body, "application/json");
    if let Some(last) = listing.entries.last().filter(|_| listing.more) {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("last", last)
            .append_pair("n", &page.limit.to_string())
            .finish();
        if let Ok(link) = HeaderValue::try_from(format!("<{path}?{query}>; rel=\"next\"")) {
            response.headers_mut().insert(LINK, link);
        }
    }
    response
}

/// A JSON answer with its length, which HEAD needs too.
pub(crate) fn json(body: &impl serde::Serialize, content_type: &'static str) -> Response {
    let body = serde_json::to_vec(body).expect("plain structs can be written as JSON");
    let headers = [
        (http::header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (http::header::CONTENT_LENGTH, HeaderValue::from(body.len())),
    ];
    (headers, body).into_response()
}
