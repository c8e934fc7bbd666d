//! Google Artifact Registry and gcr.io, as far as a client meets them: the token endpoint, the distribution API with Google's refusals
//! and additions, and the API that makes and lists. Facts: registries dossier 8; REST reference of Artifact Registry, v1; AIP-4111 for
//! tokens that a service account signs; where the dossier says UNCONFIRMED, so does the comment here.

mod api;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Value, json};

use super::base::{self, Verb};
use crate::faults::{Registry, Reply};
use crate::net::{Request, Site};

/// The host of the API.
pub const API: &str = "artifactregistry.googleapis.com";
/// An access token that has not ended.
pub const ACCESS_TOKEN: &str = "access-token-of-google";
/// Who has the key of [`key`].
const ACCOUNT: &str = "ci@proj.iam.gserviceaccount.com";
/// Made for these tests; opens nothing.
const PEM: &str = include_str!("gar/test_key.pem");

/// The key file of a service account.
pub fn key() -> String {
    json!({
        "type": "service_account", "project_id": "proj", "private_key_id": "key-1", "private_key": PEM,
        "client_email": ACCOUNT, "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

/// A repository of Artifact Registry.
#[derive(Debug, Clone, Default)]
pub struct Repository {
    /// `DOCKER` where empty.
    pub format: String,
    /// `STANDARD_REPOSITORY` where empty.
    pub mode: String,
    /// Tags can neither be moved nor deleted.
    pub immutable_tags: bool,
}

/// One registry with its API.
#[derive(Debug, Default)]
pub struct Gar {
    /// The content.
    pub registry: Registry,
    /// By project (`example.com:proj`), location and name.
    pub repositories: BTreeMap<(String, String, String), Repository>,
    /// What accounts may do: `pull`, `push`, `create`, `api`.
    pub rights: BTreeSet<&'static str>,
    /// The repositories are public.
    pub public: bool,
    /// The API is switched off in the project.
    pub switched_off: bool,
    /// `tags/list` has nothing but the tags, as Artifact Registry may answer.
    pub plain_tags: bool,
    /// So many of the next requests are over the quota.
    pub over_quota: usize,
    /// How often an operation is looked at before it is done.
    pub looks: usize,
    /// Entries a page of the API.
    pub page: usize,
    /// Looks that are left.
    left: usize,
    /// What is made when they are.
    making: Option<(String, String, String)>,
}

/// Location, project, repository and image of a name at a host.
fn place(host: &str, name: &str) -> Option<(String, String, String, String)> {
    let fixed = host.ends_with("gcr.io");
    let location = match host {
        "gcr.io" | "us.gcr.io" => "us",
        "eu.gcr.io" => "europe",
        "asia.gcr.io" => "asia",
        host => host.strip_suffix("-docker.pkg.dev")?,
    };
    let mut parts: Vec<&str> = name.split('/').collect();
    let mut project = parts.remove(0).to_owned();
    if project.contains('.') && !parts.is_empty() {
        project = format!("{project}:{}", parts.remove(0));
    }
    let repository =
        if fixed { host.to_owned() } else { (!parts.is_empty()).then(|| parts.remove(0))?.to_owned() };
    Some((location.to_owned(), project, repository, parts.join("/")))
}

fn refuse(status: u16, code: &str, message: &str) -> Reply {
    base::errors(status, code, message, &Value::Null)
}

impl Gar {
    /// A registry whose accounts may do everything and which has no repository yet.
    pub fn new() -> Self {
        Self { rights: ["pull", "push", "create", "api"].into(), page: 1000, ..Self::default() }
    }

    /// Makes a repository.
    #[must_use]
    pub fn with(mut self, project: &str, location: &str, name: &str) -> Self {
        let key = (project.to_owned(), location.to_owned(), name.to_owned());
        self.repositories.insert(key, Repository::default());
        self
    }

    fn may(&self, action: &str) -> bool {
        self.rights.contains(if action == "delete" { "push" } else { action })
    }

    /// `GET /v2/token`
    fn token(&self, request: &Request) -> Reply {
        // There are no refresh tokens; POST was 404 (containerd).
        if request.method != "GET" {
            return base::text(404, "404 page not found");
        }
        let user = match request.basic() {
            None => "anonymous",
            Some((user, password)) => {
                let good = match user.as_str() {
                    "_json_key" => password == key(),
                    "_json_key_base64" => password == STANDARD.encode(key()),
                    _ => password == ACCESS_TOKEN,
                };
                if !good {
                    return refuse(401, "UNAUTHORIZED", "authentication failed");
                }
                "someone"
            }
        };
        let token = base::token(user, &request.query("scope"));
        base::document(200, &json!({"token": token, "expires_in": 3600, "issued_at": ""}))
    }

    fn challenge(request: &Request, name: &str, action: &str) -> Reply {
        let host = &request.host;
        let scope =
            if name.is_empty() { String::new() } else { format!(",scope=\"repository:{name}:{action}\"") };
        refuse(401, "UNAUTHORIZED", "authentication required").header(
            "www-authenticate",
            &format!(r#"Bearer realm="https://{host}/v2/token",service="{host}"{scope}"#),
        )
    }

    /// Who asks, or the refusal.
    fn check(&self, request: &Request, name: &str, action: &str) -> Option<Reply> {
        let wanted = if action == "delete" { "push" } else { action };
        let Some(token) = request.bearer() else { return Some(Self::challenge(request, name, action)) };
        // An access token is taken as it is.
        let user = if token == ACCESS_TOKEN {
            "someone".to_owned()
        } else {
            let Some((user, scopes)) = base::granted(token) else {
                return Some(Self::challenge(request, name, action));
            };
            // Deleting is writing; there is no right of that name (go-containerregistry).
            if !name.is_empty() && !base::covers(&scopes, name, wanted) {
                return Some(Self::challenge(request, name, wanted));
            }
            user
        };
        if name.is_empty() {
            return None;
        }
        let (location, project, repository, _) = place(&request.host, name)?;
        let permission = match action {
            "pull" => "downloadArtifacts",
            "push" => "uploadArtifacts",
            _ => "deleteArtifacts",
        };
        let resource = format!("projects/{project}/locations/{location}/repositories/{repository}");
        let words = format!(
            "ermission \"artifactregistry.repositories.{permission}\" denied on resource \"{resource}\" (or it may not exist)"
        );
        if user == "anonymous" && !(self.public && action == "pull") {
            let text = format!("Unauthenticated request. Unauthenticated requests do not have p{words}");
            return Some(refuse(403, "DENIED", &text));
        }
        if user != "anonymous" && !self.may(action) {
            return Some(refuse(403, "DENIED", &format!("P{words}")));
        }
        None
    }

    fn repository(&self, request: &Request, name: &str) -> Option<&Repository> {
        let (location, project, repository, _) = place(&request.host, name)?;
        self.repositories.get(&(project, location, repository))
    }

    fn tags(&self, name: &str) -> Reply {
        let of = |repository: &String| repository == name;
        let names: Vec<&String> =
            self.registry.tags.keys().filter(|(it, _)| of(it)).map(|(_, tag)| tag).collect();
        if self.plain_tags {
            return base::document(200, &json!({"name": name, "tags": names}));
        }
        let manifests: serde_json::Map<String, Value> = self
            .registry
            .manifests
            .iter()
            .filter(|((it, _), _)| of(it))
            .map(|((_, digest), (media_type, bytes))| {
                let tags: Vec<&String> =
                    self.tags_of(name, digest).into_iter().collect();
                // Numbers are strings.
                let entry = json!({"imageSizeBytes": size(bytes), "layerId": "", "mediaType": media_type, "tag": tags,
                                   "timeCreatedMs": "0", "timeUploadedMs": "1795251600000"});
                (digest.clone(), entry)
            })
            .collect();
        let below = format!("{name}/");
        let children: BTreeSet<&str> = self
            .registry
            .manifests
            .keys()
            .filter_map(|(it, _)| it.strip_prefix(&below)?.split('/').next())
            .collect();
        if manifests.is_empty() && children.is_empty() {
            return refuse(404, "NAME_UNKNOWN", &format!("Failed to find \"{name}\""));
        }
        base::document(200, &json!({"name": name, "tags": names, "manifest": manifests, "child": children}))
    }

    fn tags_of(&self, name: &str, digest: &str) -> Vec<&String> {
        let tags = self.registry.tags.iter();
        tags.filter(|((it, _), tagged)| it == name && *tagged == digest).map(|((_, tag), _)| tag).collect()
    }

    fn registry(&mut self, request: &Request) -> Reply {
        if request.path() == "/v2/token" {
            return self.token(request);
        }
        let Some((name, verb)) = base::route(request.path()) else {
            return base::text(404, "404 page not found");
        };
        if verb == Verb::Catalog {
            return refuse(404, "UNSUPPORTED", "not here");
        }
        let action = base::action(&request.method);
        if let Some(refusal) = self.check(request, &name, action) {
            return refusal;
        }
        if verb == Verb::Base {
            return base::document(200, &json!({}));
        }
        let Some(repository) = self.repository(request, &name).cloned() else {
            let repository = place(&request.host, &name).map(|it| it.2).unwrap_or_default();
            // gcr.io lists what lies below a project without one.
            if verb == Verb::Tags && request.host.ends_with("gcr.io") {
                return self.tags(&name);
            }
            return refuse(404, "NAME_UNKNOWN", &format!("Repository \"{repository}\" not found"));
        };
        // Uploads are monolithic only.
        if request.method == "PATCH" {
            return refuse(404, "UNSUPPORTED", "chunked uploads are not supported");
        }
        match &verb {
            Verb::Tags => return self.tags(&name),
            Verb::Manifest(reference) if repository.immutable_tags && !reference.contains(':') => {
                let there = self.registry.tags.contains_key(&(name.clone(), reference.clone()));
                if there && action != "pull" {
                    let text =
                        format!("cannot change tag {reference}: the repository has enabled tag immutability");
                    return refuse(400, "FAILED_PRECONDITION", &text);
                }
            }
            Verb::Manifest(digest) if request.method == "DELETE" && digest.contains(':') => {
                if let Some(tag) = self.tags_of(&name, digest).first() {
                    let text = format!("Manifest is still referenced by tag: {tag}");
                    return refuse(400, "GOOGLE_MANIFEST_DANGLING_TAG", &text);
                }
                let parent = self.registry.manifests.iter().any(|((it, other), (_, bytes))| {
                    *it == name && other != digest && String::from_utf8_lossy(bytes).contains(digest.as_str())
                });
                if parent {
                    let text = "Manifest is still referenced by one or more parent images";
                    return refuse(400, "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE", text);
                }
            }
            Verb::Manifest(_) if request.method == "GET" && !accepts(&request.headers) => {
                let text = "Manifest has media type \"application/vnd.oci.image.manifest.v1+json\" but client accepts []";
                return refuse(404, "MANIFEST_UNKNOWN", text);
            }
            _ => {}
        }
        base::content(&mut self.registry, request)
    }
}

/// Of the layers.
fn size(manifest: &[u8]) -> String {
    let document: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let layers = document["layers"].as_array().into_iter().flatten();
    layers.filter_map(|layer| layer["size"].as_u64()).sum::<u64>().to_string()
}

fn accepts(headers: &HeaderMap) -> bool {
    let values = headers.get_all("accept").iter().filter_map(|value| value.to_str().ok());
    let all = values.collect::<Vec<_>>().join(",");
    all.contains("application/vnd.oci.image.manifest.v1+json") || all.contains("*/*")
}

impl Site for Gar {
    fn answer(&mut self, request: &Request) -> Reply {
        if self.over_quota > 0 {
            self.over_quota -= 1;
            return refuse(429, "TOOMANYREQUESTS", "Quota exceeded for quota metric")
                .header("retry-after", "0");
        }
        if request.host == API { self.api(request) } else { self.registry(request) }
    }
}
