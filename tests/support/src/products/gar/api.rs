//! The API of Artifact Registry beside the registry: repositories and what is in them, operations, and who may ask.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rsa;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Value, json};

use super::{ACCESS_TOKEN, ACCOUNT, API, Gar, PEM, Repository, size};
use crate::faults::Reply;
use crate::net::Request;
use crate::products::base;

/// An error of Google's APIs.
fn error(status: u16, code: &str, message: &str, reason: &str) -> Reply {
    let details =
        if reason.is_empty() { json!([]) } else { json!([{"reason": reason, "domain": "googleapis.com"}]) };
    base::document(
        status,
        &json!({"error": {"code": status, "message": message, "status": code, "details": details}}),
    )
}

/// Whether a token was signed with [`PEM`] for the API, and names its key.
fn is_signed(token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { return false };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap_or_default();
    let der: String = PEM.lines().filter(|line| !line.starts_with('-')).collect();
    let pair = rsa::KeyPair::from_pkcs8(&STANDARD.decode(der).expect("base64")).expect("a key");
    let public: RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
    let signed = format!("{header}.{claims}");
    let good = public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &decode(signature)).is_ok();
    let (header, claims) = (json(header), json(claims));
    let lives =
        claims["exp"].as_u64().zip(claims["iat"].as_u64()).is_some_and(|(exp, iat)| exp == iat + 3600);
    good && header["alg"] == "RS256"
        && header["kid"] == "key-1"
        && claims["iss"] == ACCOUNT
        && claims["sub"] == ACCOUNT
        && claims["aud"] == format!("https://{API}/")
        && lives
}

impl Gar {
    /// `https://artifactregistry.googleapis.com/v1/…`
    pub(super) fn api(&mut self, request: &Request) -> Reply {
        let token = request.bearer().unwrap_or_default();
        if token != ACCESS_TOKEN && !is_signed(token) {
            return error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", "");
        }
        if self.switched_off {
            let text = "Artifact Registry API has not been used in project 1 before or it is disabled.";
            return error(403, "PERMISSION_DENIED", text, "SERVICE_DISABLED");
        }
        if !self.rights.contains("api") {
            return error(
                403,
                "PERMISSION_DENIED",
                "Permission denied on resource (or it may not exist).",
                "",
            );
        }
        let parts: Vec<String> = request.path().trim_start_matches("/v1/").split('/').map(unescape).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["projects", _, "locations", _, "operations", _]) => self.operation(request.path()),
            ("POST", ["projects", project, "locations", location, "repositories"]) => {
                self.create(request, project, location)
            }
            ("GET", ["projects", project, "locations", location, "repositories"]) => {
                let all = self.repositories.iter().filter(|((p, l, _), _)| p == project && l == location);
                let all: Vec<Value> =
                    all.map(|((_, _, name), it)| describe(project, location, name, it)).collect();
                self.list(request, "repositories", &all)
            }
            (method, ["projects", project, "locations", location, "repositories", name, rest @ ..]) => {
                let key = ((*project).to_owned(), (*location).to_owned(), (*name).to_owned());
                let Some(found) = self.repositories.get(&key).cloned() else {
                    return error(404, "NOT_FOUND", "Requested entity was not found.", "");
                };
                match (method, rest) {
                    ("GET", []) => base::document(200, &describe(project, location, name, &found)),
                    (_, [kind, rest @ ..]) => self.inside(request, &key, kind, rest.first().copied()),
                    _ => Reply::status(405),
                }
            }
            _ => error(404, "NOT_FOUND", "Requested entity was not found.", ""),
        }
    }

    fn operation(&mut self, path: &str) -> Reply {
        let name = path.trim_start_matches("/v1/");
        if self.left > 0 {
            self.left -= 1;
            return base::document(200, &json!({"name": name}));
        }
        if let Some(key) = self.making.take() {
            self.repositories.insert(key, Repository::default());
        }
        base::document(200, &json!({"name": name, "done": true, "response": {}}))
    }

    fn create(&mut self, request: &Request, project: &str, location: &str) -> Reply {
        if !self.rights.contains("create") {
            let text = "Permission 'artifactregistry.repositories.create' denied on resource";
            return error(403, "PERMISSION_DENIED", text, "");
        }
        let name = request.query("repositoryId").pop().unwrap_or_default();
        let key = (project.to_owned(), location.to_owned(), name);
        if request.json()["format"] != "DOCKER" || key.2.is_empty() {
            return error(400, "INVALID_ARGUMENT", "format or repositoryId", "");
        }
        if self.repositories.contains_key(&key) {
            return error(409, "ALREADY_EXISTS", "the repository already exists", "");
        }
        self.making = Some(key);
        self.left = self.looks;
        base::document(
            200,
            &json!({"name": format!("projects/{project}/locations/{location}/operations/o-1")}),
        )
    }

    /// What stands before the images of a repository: the host's name and `project/repository`.
    fn prefix((project, location, name): &(String, String, String)) -> (String, String) {
        let project = project.replace(':', "/");
        if name.ends_with("gcr.io") {
            (name.clone(), project)
        } else {
            (format!("{location}-docker.pkg.dev"), format!("{project}/{name}"))
        }
    }

    fn inside(
        &mut self,
        request: &Request,
        key: &(String, String, String),
        kind: &str,
        one: Option<&str>,
    ) -> Reply {
        let (project, location, name) = key;
        let resource = format!("projects/{project}/locations/{location}/repositories/{name}");
        let (host, prefix) = Self::prefix(key);
        let below = format!("{prefix}/");
        let images: BTreeSet<String> = self
            .registry
            .manifests
            .keys()
            .filter_map(|(it, _)| it.strip_prefix(&below).map(str::to_owned))
            .collect();
        let package = |image: &String| {
            json!({"name": format!("{resource}/packages/{}", image.replace('/', "%2F")),
                   "createTime": "2026-01-01T00:00:00Z", "updateTime": "2026-02-01T00:00:00Z"})
        };
        match (request.method.as_str(), kind, one) {
            ("GET", "packages", None) => {
                let all: Vec<Value> = images.iter().map(package).collect();
                self.list(request, "packages", &all)
            }
            (_, "packages", Some(image)) if !images.contains(image) => {
                error(404, "NOT_FOUND", "Requested entity was not found.", "")
            }
            ("GET", "packages", Some(image)) => base::document(200, &package(&image.to_owned())),
            ("DELETE", "packages", Some(image)) => {
                let full = format!("{below}{image}");
                self.registry.tags.retain(|(it, _), _| *it != full);
                self.registry.manifests.retain(|(it, _), _| *it != full);
                base::document(
                    200,
                    &json!({"name": format!("projects/{project}/locations/{location}/operations/o-2")}),
                )
            }
            ("GET", "dockerImages", None) => {
                let found = self.registry.manifests.iter().filter(|((it, _), _)| it.starts_with(&below));
                let all: Vec<Value> = found
                    .map(|((it, digest), (media_type, bytes))| {
                        json!({"name": format!("{resource}/dockerImages/{}@{digest}", it[below.len()..].replace('/', "%2F")),
                               "uri": format!("{host}/{it}@{digest}"), "tags": self.tags_of(it, digest),
                               "imageSizeBytes": size(bytes), "uploadTime": "2026-02-01T00:00:00.5Z", "mediaType": media_type})
                    })
                    .collect();
                self.list(request, "dockerImages", &all)
            }
            _ => Reply::status(405),
        }
    }

    fn list(&self, request: &Request, key: &str, all: &[Value]) -> Reply {
        let first: usize = request.query("pageToken").pop().and_then(|token| token.parse().ok()).unwrap_or(0);
        let asked: usize = request.query("pageSize").pop().and_then(|size| size.parse().ok()).unwrap_or(100);
        let last = (first + asked.min(self.page)).min(all.len());
        let mut body = json!({ key: &all[first.min(last)..last] });
        if last < all.len() {
            body["nextPageToken"] = last.to_string().into();
        }
        base::document(200, &body)
    }
}

fn describe(project: &str, location: &str, name: &str, it: &Repository) -> Value {
    let or = |text: &String, default: &str| if text.is_empty() { default.to_owned() } else { text.clone() };
    json!({
        "name": format!("projects/{project}/locations/{location}/repositories/{name}"),
        "format": or(&it.format, "DOCKER"), "mode": or(&it.mode, "STANDARD_REPOSITORY"),
        "description": "Images of the team", "dockerConfig": {"immutableTags": it.immutable_tags},
    })
}

fn unescape(part: &str) -> String {
    part.replace("%2F", "/").replace("%3A", ":")
}
