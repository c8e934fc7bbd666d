//! A small, correct registry in memory: what stands behind the rules. Only as large as the client's tests need it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use bytes::Bytes;
use http::HeaderMap;
use sha2::Digest as _;
use sha2::Sha512;

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

/// The digest of bytes by the algorithm that another digest has.
fn digest_like(bytes: &[u8], like: &str) -> String {
    if !like.starts_with("sha512:") {
        return digest_of(bytes);
    }
    let mut text = "sha512:".to_owned();
    for byte in Sha512::digest(bytes) {
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
    /// What PATCH is answered with, when it went well, instead of 202.
    pub patch_status: Option<u16>,
    /// PATCH always answers `Range: 0-0`, whatever came (ECR).
    pub stale_range: bool,
    /// The first PATCH keeps only so many bytes of what came.
    pub keeps_only: Option<usize>,
    /// Bodies of uploads with more bytes are refused, with this status.
    pub largest: Option<(usize, u16)>,
    /// The least size of chunks that is asked for.
    pub least_chunk: Option<u64>,
    /// A range behind the end is answered with 416, not with the whole blob.
    pub strict_ranges: bool,
    /// Referrers are listed, and manifests with a subject answered with `OCI-Subject`.
    pub referrers: bool,
    /// Manifests have an `ETag`, and `If-Match` and `If-None-Match` hold for PUT.
    pub etags: bool,
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
        if let Some((name, subject)) = rest.split_once("/referrers/")
            && self.referrers
        {
            return self.referring(name, subject);
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
        let least = self.least_chunk;
        let location = |session: &str, length: usize| {
            let reply = Reply::status(202)
                .header("location", &format!("/v2/{name}/blobs/uploads/{session}?_state={length}"))
                .header("range", &format!("0-{}", length.saturating_sub(1)));
            least.map_or(reply.clone(), |least| reply.header("oci-chunk-min-length", &least.to_string()))
        };
        if let Some((largest, status)) = self.largest
            && body.len() > largest
        {
            return Reply::status(status);
        }
        if method == "POST" {
            if let (Some(digest), false) = (query.get("mount"), self.no_mount) {
                let from = query.get("from").map(|from| (from.clone(), digest.clone()));
                if let Some(bytes) = from.and_then(|from| self.blobs.get(&from).cloned()) {
                    self.blobs.insert(key(digest), bytes);
                    return created(digest);
                }
            }
            if let (Some(digest), true) = (query.get("digest"), self.single_post) {
                if digest_like(body, digest) != *digest {
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
                if let Some(kept) = self.keeps_only.take() {
                    content.truncate(kept);
                }
                let reply = location(session, if self.stale_range { 0 } else { content.len() });
                Reply { status: self.patch_status.unwrap_or(reply.status), ..reply }
            }
            "PUT" => {
                content.extend_from_slice(body);
                let Some(digest) = query.get("digest") else { return Reply::status(400) };
                let bytes = Bytes::from(self.sessions.remove(session).unwrap_or_default());
                if digest_like(&bytes, digest) != *digest {
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
        let range = headers.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
        let range = range.and_then(|range| {
            let (start, end) = range.split_once('-')?;
            let last = bytes.len().saturating_sub(1);
            Some((start.parse::<usize>().ok()?, end.parse::<usize>().unwrap_or(last).min(last)))
        });
        match range.filter(|_| method == "GET") {
            Some((start, end)) if start <= end && start < bytes.len() => {
                let range = format!("bytes {start}-{end}/{}", bytes.len());
                let part: Bytes = bytes.slice(start..=end);
                Reply { status: 206, ..reply.header("content-range", &range).body(part) }
            }
            Some((start, _)) if start >= bytes.len() && self.strict_ranges => {
                Reply::status(416).header("content-range", &format!("bytes */{}", bytes.len()))
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
        let current = self.tags.get(&(name.to_owned(), reference.to_owned())).cloned();
        if method == "PUT" {
            let etag = current.as_ref().map(|digest| format!("\"{digest}\""));
            let holds = |header: &str, absent: bool| {
                headers.get(header).is_none_or(|wanted| match (&etag, wanted.to_str()) {
                    (Some(etag), Ok(wanted)) => (wanted == "*" || wanted == etag) != absent,
                    (None, _) => absent,
                    (Some(_), Err(_)) => false,
                })
            };
            if self.etags && !(holds("if-match", false) && holds("if-none-match", true)) {
                return Reply::status(412);
            }
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
            let tag = if reference.contains(':') { "" } else { reference };
            let mut digest = self.add_manifest(name, tag, media_type, body.clone());
            if reference.starts_with("sha512:") {
                digest = digest_like(body, reference);
                let stored = (media_type.to_owned(), body.clone());
                self.manifests.insert((name.to_owned(), digest.clone()), stored);
            }
            let reply = Reply::status(201).header("docker-content-digest", &digest);
            let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            return match document["subject"]["digest"].as_str() {
                Some(subject) if self.referrers => reply.header("oci-subject", subject),
                _ => reply,
            };
        }
        if method == "DELETE" {
            return self.remove(name, reference);
        }
        let digest = current.unwrap_or_else(|| reference.to_owned());
        match self.manifests.get(&(name.to_owned(), digest.clone())) {
            Some((media_type, bytes)) => {
                let reply = Reply::status(200)
                    .header("content-type", media_type)
                    .header("docker-content-digest", &digest)
                    .body(bytes.clone());
                if self.etags { reply.header("etag", &format!("\"{digest}\"")) } else { reply }
            }
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

    /// The descriptors of what has this subject.
    fn referring(&self, name: &str, subject: &str) -> Reply {
        let of = |((repository, digest), (media_type, bytes)): (&(String, String), &(String, Bytes))| {
            let document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            let refers = repository == name && document["subject"]["digest"] == *subject;
            refers
                .then(|| serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
        };
        let manifests: Vec<_> = self.manifests.iter().filter_map(of).collect();
        let index = "application/vnd.oci.image.index.v1+json";
        let document = serde_json::json!({"schemaVersion": 2, "mediaType": index, "manifests": manifests});
        Reply::status(200).header("content-type", index).body(document.to_string())
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
        let layers = entries("layers").into_iter().filter(|layer| {
            let media_type = text(layer, "mediaType");
            !media_type.contains("foreign") && !media_type.contains("nondistributable")
        });
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
