//! A small, correct registry in memory: what stands behind the rules. Only as large as the client's tests need it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use bytes::Bytes;
use http::HeaderMap;
use sha2::Digest as _;

use super::auth::{Auth, url_pairs};
use super::rule::Reply;

/// `sha256:…` of bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in sha2::Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Content and habits.
#[derive(Debug, Default)]
pub struct Registry {
    /// Who is let in.
    pub auth: Auth,
    /// A POST with `?digest=` and a body is an upload.
    pub single_post: bool,
    /// Mounts are refused with a session, as by registries that do not know them.
    pub no_mount: bool,
    /// Manifests are taken whatever they name.
    pub sparse: bool,
    /// Of what a manifest lacks only the first is named.
    pub names_one: bool,
    /// Bytes of an upload that broke are kept.
    pub resumable: bool,
    /// Tags a page.
    pub page: Option<usize>,
    /// `(repository, digest)` of every blob.
    pub blobs: BTreeMap<(String, String), Bytes>,
    /// `(repository, digest)` to media type and bytes.
    pub manifests: BTreeMap<(String, String), (String, Bytes)>,
    /// `(repository, tag)` to digest.
    pub tags: BTreeMap<(String, String), String>,
    /// Open uploads.
    pub sessions: HashMap<String, Vec<u8>>,
    /// How many were opened.
    pub opened: usize,
}

impl Registry {
    /// With credentials wanted.
    pub fn with_auth(auth: Auth) -> Self {
        Self { auth, ..Self::default() }
    }

    /// Puts a blob there.
    pub fn add_blob(&mut self, repository: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = digest_of(&bytes);
        self.blobs.insert((repository.to_owned(), digest.clone()), bytes);
        digest
    }

    /// Puts a manifest there, unchecked.
    pub fn add_manifest(
        &mut self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> String {
        let bytes = bytes.into();
        let digest = digest_of(&bytes);
        self.manifests.insert((repository.to_owned(), digest.clone()), (media_type.to_owned(), bytes));
        if !tag.is_empty() {
            self.tags.insert((repository.to_owned(), tag.to_owned()), digest.clone());
        }
        digest
    }

    pub(super) fn keep_partial(&mut self, target: &str, body: &[u8]) {
        let name = target.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        if self.resumable
            && let Some(session) = self.sessions.get_mut(name)
        {
            session.extend_from_slice(body);
        }
    }

    /// The answer to a request; `base` is the registry's own origin.
    pub fn serve(
        &mut self,
        base: &str,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Reply {
        if let Some(reply) = self.auth.check(base, method, target, headers) {
            return reply;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: HashMap<String, String> = url_pairs(query).collect();
        if path == "/v2/" {
            return Reply::status(200).body("{}");
        }
        let rest = path.trim_start_matches("/v2/");
        if let Some((name, session)) = rest.split_once("/blobs/uploads/") {
            return self.upload(name, session, method, &query, headers, body);
        }
        if let Some((name, digest)) = rest.split_once("/blobs/") {
            return self.blob(name, digest, method, headers);
        }
        if let Some((name, reference)) = rest.split_once("/manifests/") {
            return self.manifest(name, reference, method, headers, body);
        }
        if rest == "_catalog" {
            return self.catalog();
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return self.list(name, &query);
        }
        Reply::status(404).body("404 page not found")
    }

    fn upload(
        &mut self,
        name: &str,
        session: &str,
        method: &str,
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Reply {
        let key = |digest: &str| (name.to_owned(), digest.to_owned());
        let created = |digest: &str| {
            Reply::status(201)
                .header("location", &format!("/v2/{name}/blobs/{digest}"))
                .header("docker-content-digest", digest)
        };
        let location = |session: &str, length: usize| {
            Reply::status(202)
                .header("location", &format!("/v2/{name}/blobs/uploads/{session}?_state={length}"))
                .header("range", &format!("0-{}", length.saturating_sub(1)))
        };
        if method == "POST" {
            if let (Some(digest), false) = (query.get("mount"), self.no_mount) {
                let from = query.get("from").map(|from| (from.clone(), digest.clone()));
                if let Some(bytes) = from.and_then(|from| self.blobs.get(&from).cloned()) {
                    self.blobs.insert(key(digest), bytes);
                    return created(digest);
                }
            }
            if let (Some(digest), true) = (query.get("digest"), self.single_post) {
                if digest_of(body) != *digest {
                    return Reply::error(400, "DIGEST_INVALID", &serde_json::Value::Null);
                }
                self.blobs.insert(key(digest), body.clone());
                return created(digest);
            }
            self.opened += 1;
            let session = format!("s{}", self.opened);
            self.sessions.insert(session.clone(), Vec::new());
            return location(&session, 0);
        }
        let Some(content) = self.sessions.get_mut(session) else {
            return Reply::error(404, "BLOB_UPLOAD_UNKNOWN", &serde_json::Value::Null);
        };
        match method {
            "GET" => Reply { status: 204, ..location(session, content.len()) },
            "PATCH" => {
                let start: Option<usize> = headers
                    .get("content-range")
                    .and_then(|range| range.to_str().ok()?.split('-').next()?.parse().ok());
                if start.is_some_and(|start| start != content.len()) {
                    return Reply { status: 416, ..location(session, content.len()) };
                }
                content.extend_from_slice(body);
                location(session, content.len())
            }
            "PUT" => {
                content.extend_from_slice(body);
                let Some(digest) = query.get("digest") else { return Reply::status(400) };
                let bytes = Bytes::from(self.sessions.remove(session).unwrap_or_default());
                if digest_of(&bytes) != *digest {
                    return Reply::error(400, "DIGEST_INVALID", &serde_json::Value::Null);
                }
                self.blobs.insert(key(digest), bytes);
                created(digest)
            }
            "DELETE" => {
                self.sessions.remove(session);
                Reply::status(204)
            }
            _ => Reply::status(405),
        }
    }

    fn blob(&mut self, name: &str, digest: &str, method: &str, headers: &HeaderMap) -> Reply {
        let Some(bytes) = self.blobs.get(&(name.to_owned(), digest.to_owned())) else {
            return Reply::error(404, "BLOB_UNKNOWN", &serde_json::Value::Null);
        };
        let reply = Reply::status(200)
            .header("docker-content-digest", digest)
            .header("content-type", "application/octet-stream");
        // `bytes=START-` and `bytes=START-LAST`.
        let range = headers.get("range").and_then(|range| {
            let (start, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
            let end = if last.is_empty() { bytes.len() } else { last.parse::<usize>().ok()? + 1 };
            Some((start.parse::<usize>().ok()?, end.min(bytes.len())))
        });
        match range {
            Some((start, end)) if method == "GET" && start < end => {
                let range = format!("bytes {start}-{}/{}", end - 1, bytes.len());
                let part: Bytes = bytes.slice(start..end);
                Reply { status: 206, ..reply.header("content-range", &range).body(part) }
            }
            _ => reply.body(bytes.clone()),
        }
    }

    fn manifest(
        &mut self,
        name: &str,
        reference: &str,
        method: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Reply {
        if method == "PUT" {
            let mut missing = self.missing(name, body);
            if self.names_one {
                missing = missing.into_iter().take(1).collect();
            }
            if !missing.is_empty() && !self.sparse {
                let errors: Vec<_> = missing
                    .iter()
                    .map(|digest| serde_json::json!({"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry", "detail": {"Digest": digest}}))
                    .collect();
                return Reply::status(404).body(serde_json::json!({ "errors": errors }).to_string());
            }
            let media_type =
                headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let tag = if reference.starts_with("sha256:") { "" } else { reference };
            let digest = self.add_manifest(name, tag, media_type, body.clone());
            return Reply::status(201).header("docker-content-digest", &digest);
        }
        if method == "DELETE" {
            return self.remove(name, reference);
        }
        let tagged = self.tags.get(&(name.to_owned(), reference.to_owned())).cloned();
        let digest = tagged.unwrap_or_else(|| reference.to_owned());
        match self.manifests.get(&(name.to_owned(), digest.clone())) {
            Some((media_type, bytes)) => Reply::status(200)
                .header("content-type", media_type)
                .header("docker-content-digest", &digest)
                .body(bytes.clone()),
            None => Reply::error(404, "MANIFEST_UNKNOWN", &serde_json::Value::Null),
        }
    }

    /// By tag only the tag; by digest the manifest and all of its tags, as CNCF distribution 3 does.
    fn remove(&mut self, name: &str, reference: &str) -> Reply {
        let there = if reference.contains(':') {
            self.tags.retain(|(repository, _), digest| repository != name || digest != reference);
            self.manifests.remove(&(name.to_owned(), reference.to_owned())).is_some()
        } else {
            self.tags.remove(&(name.to_owned(), reference.to_owned())).is_some()
        };
        if there {
            Reply::status(202)
        } else {
            Reply::error(404, "MANIFEST_UNKNOWN", &serde_json::Value::Null)
        }
    }

    fn catalog(&self) -> Reply {
        let names: BTreeSet<&String> = self.manifests.keys().map(|(repository, _)| repository).collect();
        Reply::status(200).body(serde_json::json!({"repositories": names}).to_string())
    }

    /// What a manifest names and the repository lacks, foreign layers aside.
    fn missing(&self, name: &str, manifest: &[u8]) -> BTreeSet<String> {
        let document: serde_json::Value = serde_json::from_slice(manifest).unwrap_or_default();
        let entries = |field: &str| document[field].as_array().cloned().unwrap_or_default();
        let text =
            |entry: &serde_json::Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let layers =
            entries("layers").into_iter().filter(|layer| !text(layer, "mediaType").contains("foreign"));
        let blobs = layers.chain([document["config"].clone()]).map(|entry| text(&entry, "digest"));
        let known = |digest: &String| self.blobs.contains_key(&(name.to_owned(), digest.clone()));
        let children = entries("manifests").into_iter().map(|entry| text(&entry, "digest"));
        let known_child = |digest: &String| self.manifests.contains_key(&(name.to_owned(), digest.clone()));
        blobs
            .filter(|digest| !digest.is_empty() && !known(digest))
            .chain(children.filter(|digest| !known_child(digest)))
            .collect()
    }

    fn list(&self, name: &str, query: &HashMap<String, String>) -> Reply {
        let tags: Vec<&String> =
            self.tags.keys().filter(|(repository, _)| repository == name).map(|(_, tag)| tag).collect();
        let last = query.get("last");
        let rest: Vec<&String> = tags.into_iter().filter(|tag| last.is_none_or(|last| *tag > last)).collect();
        let page = self.page.unwrap_or(usize::MAX).min(rest.len());
        let reply =
            Reply::status(200).body(serde_json::json!({"name": name, "tags": rest[..page]}).to_string());
        match rest.get(page) {
            Some(_) => reply.header(
                "link",
                &format!(r#"</v2/{name}/tags/list?last={}&n={page}>; rel="next""#, rest[page - 1]),
            ),
            None => reply,
        }
    }
}
