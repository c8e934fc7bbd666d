//! The page: what is in the registry, for people. HTML made here, readable without scripts; nothing comes from elsewhere.
//!
//! May use the store through the registry, and `maud`, which escapes what it prints. In: requests for `/`, `/-/…` and two
//! files. Out: HTML with a policy under which nothing runs that is not ours. Everything that is shown was pushed by
//! somebody: names, annotations and configurations are text, and a link only where it is http or https.
//!
//! | path | shows |
//! |---|---|
//! | `/` | the repositories that one may pull from |
//! | `/-/NAME` | a repository's tags |
//! | `/-/NAME:TAG`, `/-/NAME@DIGEST` | a manifest; `POST` deletes it |
//! | `/-login` | asks for user and password, then `/` |
//! | `/-page.css`, `/-page.js` | the looks, and the copy buttons |

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
    HeaderValue, LOCATION, ORIGIN, REFERRER_POLICY, WWW_AUTHENTICATE, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{Method, StatusCode};
use maud::Markup;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use url::form_urlencoded;

use crate::digest::Digest;
use crate::name::{Repository, Tag, Target};
use crate::server::Registry;
use crate::server::access::{Action, Caller, Need, Why};
use crate::server::body::Incoming;
use crate::server::error::Error;
use crate::server::gate::Requester;
use crate::server::page::Query;
use crate::server::route::Route;
use crate::server::seen::Noted;

mod artifact;
mod describe;
mod format;
mod frame;
mod readme;
mod repositories;
mod tags;
#[cfg(test)]
mod tests;

const CSS: &str = include_str!("page.css");
const JS: &str = include_str!("page.js");

/// Nothing but our own style sheet and script; forms go nowhere else; nobody puts us in a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A form of ours has less.
const MOST_FORM: u64 = 4 * 1024;

/// How the page is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebSettings {
    /// There is no page; false unless given.
    pub disabled: bool,
    /// Nothing can be deleted on the page, whoever asks; false unless given.
    pub read_only: bool,
}

/// What is looked at.
#[derive(Debug, PartialEq, Eq)]
enum View {
    Repositories,
    Repository(Repository),
    Artifact(Repository, Target),
    Login,
    Css,
    Js,
    Nothing,
}

/// Whether the path is one of the page's.
pub(crate) fn is_ours(path: &str) -> bool {
    path == "/" || path.starts_with("/-")
}

fn view(path: &str) -> View {
    match path {
        "/" => return View::Repositories,
        "/-login" => return View::Login,
        "/-page.css" => return View::Css,
        "/-page.js" => return View::Js,
        _ => {}
    }
    let Ok(decoded) = percent_decode_str(path).decode_utf8() else { return View::Nothing };
    let Some(rest) = decoded.strip_prefix("/-/") else { return View::Nothing };
    let found = if let Some((name, digest)) = rest.split_once('@') {
        let digest = digest.parse::<Digest>().map(Target::Digest);
        name.parse().ok().zip(digest.ok()).map(|(name, digest)| View::Artifact(name, digest))
    } else if let Some((name, tag)) = rest.split_once(':') {
        let tag = tag.parse::<Tag>().map(Target::Tag);
        name.parse().ok().zip(tag.ok()).map(|(name, tag)| View::Artifact(name, tag))
    } else {
        rest.parse().ok().map(View::Repository)
    };
    found.unwrap_or(View::Nothing)
}

/// Answers everything under [`is_ours`]. Refusals are pages as well.
pub(crate) async fn answer(
    registry: &Registry,
    parts: &Parts,
    incoming: &mut Incoming,
    noted: &mut Noted,
) -> Response {
    let visit = Visit { registry, parts, host: host(parts) };
    match visit.answer(incoming, noted).await {
        Ok(response) => response,
        Err(error) => visit.refusal(&error, noted.user.as_deref()),
    }
}

/// One look at the page.
struct Visit<'a> {
    registry: &'a Registry,
    parts: &'a Parts,
    /// What the registry is called by who looks.
    host: &'a str,
}

impl Visit<'_> {
    async fn answer(&self, incoming: &mut Incoming, noted: &mut Noted) -> Result<Response, Error> {
        let view = view(self.parts.uri.path());
        let reads = [Method::GET, Method::HEAD].contains(&self.parts.method);
        if let View::Artifact(repository, target) = &view
            && self.parts.method == Method::POST
        {
            return self.delete(incoming, repository, target, noted).await;
        }
        if !reads {
            let allowed = if matches!(view, View::Artifact(..)) { "GET, HEAD, POST" } else { "GET, HEAD" };
            return Err(Error::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "this page is only to be read",
            )
            .with(ALLOW, allowed));
        }
        match view {
            View::Css => Ok(file(CSS, "text/css; charset=utf-8")),
            View::Js => Ok(file(JS, "text/javascript; charset=utf-8")),
            View::Login => self.login(noted).await,
            View::Repositories => {
                let requester = self.admit(Need::Catalogue, noted).await?;
                repositories::show(self, &requester).await
            }
            View::Repository(repository) => {
                self.admit(Need::Repository(&repository, Action::Pull), noted).await?;
                tags::show(self, &repository, noted.user.as_deref()).await
            }
            View::Artifact(repository, target) => {
                let requester = self.admit(Need::Repository(&repository, Action::Pull), noted).await?;
                artifact::show(self, &repository, &target, &requester).await
            }
            View::Nothing => {
                self.admit(Need::Registry, noted).await?;
                Err(Error::not_found("UNSUPPORTED", "There is no such page."))
            }
        }
    }

    async fn admit(&self, need: Need<'_>, noted: &mut Noted) -> Result<Requester, Error> {
        let requester = self.registry.admit(self.parts, &[need]).await?;
        noted.user.clone_from(&requester.identity.user);
        Ok(requester)
    }

    /// Whether to offer it: who may is only known for who looks now.
    fn offers_delete(&self, requester: &Requester, repository: &Repository) -> bool {
        let need = Need::Repository(repository, Action::Delete);
        !self.registry.beside.web.read_only && self.registry.may(requester, need)
    }

    /// Browsers can give a name and a password, and no tokens of others.
    fn who<'a>(&self, user: Option<&'a str>) -> frame::Who<'a> {
        let access = &self.registry.access;
        let challenges = || access.challenges(&Caller::default(), &[Need::Registry], Why::Anonymous);
        match user {
            Some(user) => frame::Who::User(user),
            None if access.token_issuer().is_some() => frame::Who::Stranger,
            None if challenges().iter().any(|challenge| challenge.starts_with("Basic ")) => {
                frame::Who::Stranger
            }
            None => frame::Who::Anybody,
        }
    }

    fn query(&self) -> Query {
        Query::of(self.parts)
    }

    /// Browsers send what they were asked for to every path from then on.
    async fn login(&self, noted: &mut Noted) -> Result<Response, Error> {
        self.admit(Need::Registry, noted).await?;
        if noted.user.is_none() {
            return Err(Error::new(
                StatusCode::UNAUTHORIZED,
                "UNAUTHORIZED",
                "Log in with user and password.",
            ));
        }
        Ok(see_other("/"))
    }

    /// A form of this page, sent by this page: browsers send the password along whoever made the form.
    async fn delete(
        &self,
        incoming: &mut Incoming,
        repository: &Repository,
        target: &Target,
        noted: &mut Noted,
    ) -> Result<Response, Error> {
        if !self.is_same_origin() {
            let message =
                "This form was sent from another site, or by a browser that does not say from where.";
            return Err(Error::new(StatusCode::FORBIDDEN, "DENIED", message));
        }
        let form = incoming.whole(MOST_FORM).await?.unwrap_or_default();
        let asked = form_urlencoded::parse(&form).any(|(name, value)| name == "action" && value == "delete");
        if !asked {
            return Err(Error::bad_request("UNSUPPORTED", "The form does not say what to do."));
        }
        if self.registry.beside.web.read_only {
            return Err(Error::new(StatusCode::FORBIDDEN, "DENIED", "Nothing can be deleted on this page."));
        }
        let route = Route::DeleteManifest { repository: repository.clone(), target: target.clone() };
        self.registry.carry_out(self.parts, incoming, &route, noted).await?;
        Ok(see_other(&format!("/-/{repository}")))
    }

    /// By what browsers say of themselves and no page can forge (Fetch Metadata; RFC 6454 section 7).
    fn is_same_origin(&self) -> bool {
        let header = |name| self.parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if let Some(site) = header(FETCH_SITE) {
            return site == "same-origin";
        }
        header(ORIGIN).is_some_and(|origin| {
            let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(self.host))
        })
    }

    /// An error as a page. Browsers only know how to ask for a password the basic way.
    fn refusal(&self, error: &Error, user: Option<&str>) -> Response {
        let status = error.status();
        let mut response = html(frame::refusal(status, &error.message(), self.who(user)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = "Basic realm=\"idp registry\", charset=\"UTF-8\"";
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        for name in [ALLOW, http::header::RETRY_AFTER] {
            if let Some(value) = error.header(&name) {
                headers.insert(name, value.clone());
            }
        }
        response
    }
}

/// `Host`, if it is nothing but one.
fn host(parts: &Parts) -> &str {
    let plain = |host: &&str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        (1..=255).contains(&host.len()) && host.bytes().all(good)
    };
    parts.headers.get(HOST).and_then(|host| host.to_str().ok()).filter(plain).unwrap_or("localhost")
}

fn html(markup: Markup) -> Response {
    let text = markup.into_string();
    let length = text.len();
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // What one user may see is not for the next one at this browser.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn file(text: &'static str, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

fn see_other(path: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(location) = HeaderValue::try_from(path) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A path with its query, as it may stand in a link. Empty values are left out.
fn link(path: &str, query: &[(&str, &str)]) -> String {
    const KEPT: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'?').add(b'#').add(b'%');
    let mut link = utf8_percent_encode(path, KEPT).to_string();
    let given = query.iter().filter(|(_, value)| !value.is_empty());
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
    if !query.is_empty() {
        link.push('?');
        link.push_str(&query);
    }
    link
}
