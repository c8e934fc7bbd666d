//! What the fakes share: content behind a token service, and the words of the distribution specification.

use http::HeaderMap;
use serde_json::{Value, json};

use crate::faults::{Registry, Reply};
use crate::net::Request;

/// `{"errors":[{"code","message","detail"}]}`
pub fn errors(status: u16, code: &str, message: &str, detail: &Value) -> Reply {
    let document = json!({"errors": [{"code": code, "message": message, "detail": detail}]});
    Reply::status(status).header("content-type", "application/json").body(document.to_string())
}

/// A JSON document.
pub fn document(status: u16, value: &Value) -> Reply {
    Reply::status(status).header("content-type", "application/json").body(value.to_string())
}

/// Plain text.
pub fn text(status: u16, body: &str) -> Reply {
    Reply::status(status).header("content-type", "text/plain; charset=utf-8").body(body.to_owned())
}

/// What a request of the distribution API is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// `GET /v2/`
    Base,
    /// `GET /v2/_catalog`
    Catalog,
    /// `tags/list`
    Tags,
    /// `manifests/REFERENCE`
    Manifest(String),
    /// `blobs/DIGEST`
    Blob(String),
    /// `blobs/uploads/…`
    Upload,
    /// `referrers/DIGEST`
    Referrers(String),
}

/// The repository (empty for base and catalogue) and the verb of a path below `/v2/`.
pub fn route(path: &str) -> Option<(String, Verb)> {
    let rest = path.strip_prefix("/v2/")?;
    if rest.is_empty() {
        return Some((String::new(), Verb::Base));
    }
    if rest == "_catalog" {
        return Some((String::new(), Verb::Catalog));
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some((name.to_owned(), Verb::Tags));
    }
    // Manifests first: a reference holds no `/`, a repository may be called anything.
    for (part, verb) in
        [("/manifests/", Verb::Manifest as fn(String) -> Verb), ("/referrers/", Verb::Referrers)]
    {
        if let Some((name, reference)) = rest.rsplit_once(part) {
            return Some((name.to_owned(), verb(reference.to_owned())));
        }
    }
    if let Some((name, _)) = rest.split_once("/blobs/uploads") {
        return Some((name.to_owned(), Verb::Upload));
    }
    let (name, digest) = rest.rsplit_once("/blobs/")?;
    Some((name.to_owned(), Verb::Blob(digest.to_owned())))
}

/// `pull`, `push` or `delete`: what a method needs (distribution, "appendAccessRecords").
pub fn action(method: &str) -> &'static str {
    match method {
        "GET" | "HEAD" => "pull",
        "DELETE" => "delete",
        _ => "push",
    }
}

/// A token that says what it grants, `USER|SCOPE+SCOPE`: it can be checked without being kept.
pub fn token(user: &str, scopes: &[String]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{user}|{}", scopes.join("+")))
}

/// The user and the scopes of a [`token`].
pub fn granted(token: &str) -> Option<(String, Vec<String>)> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (user, scopes) = text.split_once('|')?;
    Some((user.to_owned(), scopes.split('+').filter(|scope| !scope.is_empty()).map(str::to_owned).collect()))
}

/// Whether scopes (`repository:NAME:pull,push`) cover an action.
pub fn covers(scopes: &[String], repository: &str, action: &str) -> bool {
    scopes.iter().any(|scope| {
        scope.rsplit_once(':').is_some_and(|(resource, actions)| {
            resource == format!("repository:{repository}")
                && actions.split(',').any(|one| one == action || one == "*")
        })
    })
}

/// Content for tests: an image manifest with a config and a layer under a tag; its digest.
pub fn image(registry: &mut Registry, repository: &str, tag: &str, content: &str) -> String {
    let config = registry.add_blob(repository, format!(r#"{{"content":"{content}"}}"#));
    let layer = registry.add_blob(repository, content.to_owned().into_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": content.len() + 14},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": content.len()}],
    });
    registry.add_manifest(
        repository,
        tag,
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().into_bytes(),
    )
}

/// Serves a request from the content, whatever it carries for credentials; `base` is `https://host`.
pub fn content(registry: &mut Registry, request: &Request) -> Reply {
    let base = format!("https://{}", request.host);
    registry.serve(
        &base,
        &request.method,
        &request.target,
        &HeaderMap::clone(&request.headers),
        &request.body,
    )
}
