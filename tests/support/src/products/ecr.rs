//! The data plane of Amazon ECR, private and public (registries dossier, 4.2 to 4.10): what moto does not have. Requests and switches in,
//! replies out; content lies in the small registry of [`crate::faults`]. The API of ECR Public is in [`super::ecr_public`].
//!
//! Texts of the registry are general knowledge, UNCONFIRMED word for word (dossier 4.10).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::base::{self, Verb};
use super::forward::Forward;
use crate::faults::{Registry, Reply};
use crate::net::{Request, Site};

/// A registry of the account 123456789012.
pub const PRIVATE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
/// Where its blobs lie.
pub const STORE: &str = "prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com";
/// The most that a list gives at a time.
const PAGE_MAX: u64 = 1000;

/// A repository besides its content.
#[derive(Debug, Clone, Copy, Default)]
pub struct Repository {
    /// Tags cannot be overwritten.
    pub immutable: bool,
}

/// A registry of ECR.
#[derive(Debug)]
pub struct Ecr {
    /// What was pushed.
    pub content: Registry,
    /// By name.
    pub repositories: BTreeMap<String, Repository>,
    /// The password of the user `AWS`: what a token decodes to.
    pub password: String,
    /// The token's 12 hours are over.
    pub expired: bool,
    /// The action that IAM does not allow, and is asked for by the first write.
    pub denied: Option<&'static str>,
    /// A creation template makes repositories (`CREATE_ON_PUSH`).
    pub create_on_push: bool,
    /// `BLOB_MOUNTING` is on.
    pub mounting: bool,
    /// Everything is too much.
    pub throttled: bool,
    /// Somebody brought the registry's credentials to the store.
    pub leaked: bool,
}

impl Default for Ecr {
    fn default() -> Self {
        Self {
            content: Registry::default(),
            repositories: BTreeMap::new(),
            password: "registry-password".to_owned(),
            expired: false,
            denied: None,
            create_on_push: false,
            mounting: false,
            throttled: false,
            leaked: false,
        }
    }
}

fn refused(status: u16, code: &str, message: &str) -> Reply {
    base::errors(status, code, message, &Value::Null)
}

fn unknown(name: &str) -> Reply {
    let message =
        format!("The repository with name '{name}' does not exist in the registry with id '123456789012'");
    refused(404, "NAME_UNKNOWN", &message)
}

impl Ecr {
    /// With a repository.
    #[must_use]
    pub fn with(mut self, repository: &str) -> Self {
        self.repositories.insert(repository.to_owned(), Repository::default());
        self
    }

    /// The store: a signed URL lets in, and credentials besides are refused (S3: "Only one auth mechanism allowed").
    fn store(&mut self, request: &Request) -> Reply {
        if request.header("authorization").is_some() {
            self.leaked = true;
            return base::text(400, "Only one auth mechanism allowed");
        }
        let target = request.path().trim_start_matches('/');
        let Some((name, digest)) = target.rsplit_once('/') else { return Reply::status(404) };
        match self.content.blobs.get(&(name.to_owned(), digest.to_owned())) {
            Some(bytes) => Reply::status(200).body(bytes.clone()),
            None => Reply::status(404),
        }
    }

    /// What is the same whoever is let in: names, quirks and content. `None`: the request may go on to the content.
    pub(super) fn quirks(&mut self, request: &Request, name: &str, verb: &Verb) -> Option<Reply> {
        if self.throttled {
            return Some(refused(429, "TOOMANYREQUESTS", "Rate exceeded"));
        }
        if matches!(verb, Verb::Base) {
            return Some(Reply::status(200).body("{}"));
        }
        let writes = !matches!(request.method.as_str(), "GET" | "HEAD");
        if let Some(action) = self.denied.filter(|_| writes) {
            let message = format!(
                "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: {action} on resource: \
                 arn:aws:ecr:eu-west-1:123456789012:repository/{name} because no identity-based policy allows the {action} action"
            );
            return Some(refused(403, "DENIED", &message));
        }
        if writes && self.create_on_push {
            self.repositories.entry(name.to_owned()).or_default();
        }
        let Some(repository) = self.repositories.get(name).copied() else {
            let message = format!(
                "The repository with name '{name}' does not exist in the registry with id '123456789012'"
            );
            return Some(refused(404, "NAME_UNKNOWN", &message));
        };
        let number = request.query("n").first().and_then(|number| number.parse::<u64>().ok());
        if number.is_some_and(|number| number > PAGE_MAX) {
            return Some(refused(
                400,
                "UNSUPPORTED",
                "Invalid parameter at 'maxResults': must be at most 1000",
            ));
        }
        match verb {
            Verb::Manifest(_) | Verb::Blob(_) if request.method == "DELETE" => {
                Some(refused(405, "UNSUPPORTED", "The operation is unsupported."))
            }
            Verb::Manifest(reference) if request.method == "PUT" => {
                self.put(request, name, reference, repository)
            }
            _ => None,
        }
    }

    fn put(&self, request: &Request, name: &str, reference: &str, repository: Repository) -> Option<Reply> {
        if request.json()["mediaType"].as_str().is_none() {
            return Some(refused(400, "UNSUPPORTED", "Invalid JSON syntax"));
        }
        let digest = crate::faults::digest_of(&request.body);
        let there = self.content.tags.get(&(name.to_owned(), reference.to_owned()));
        (repository.immutable && there.is_some_and(|there| *there != digest)).then(|| {
            let message = format!(
                "The image tag '{reference}' already exists in the '{name}' repository and cannot be overwritten because the repository \
                 is immutable."
            );
            refused(400, "TAG_INVALID", &message)
        })
    }

    /// The content, with what is odd about its answers.
    pub(super) fn serve(&mut self, request: &Request, name: &str, verb: &Verb) -> Reply {
        self.content.no_mount = !self.mounting;
        let reply = base::content(&mut self.content, request);
        match (request.method.as_str(), verb) {
            // Blobs lie in S3.
            ("GET", Verb::Blob(digest)) if reply.code() == 200 => Reply::status(307)
                .header("location", &format!("https://{STORE}/{name}/{digest}?X-Amz-Signature=s")),
            ("GET", Verb::Manifest(reference)) if reply.code() == 200 => convert(request, reference, &reply),
            // Stored, and the range is that of the first chunk for ever (containers-roadmap 2831).
            ("PATCH", Verb::Upload) if reply.code() == 202 => {
                let (_, headers, body) = reply.into_parts();
                let location =
                    headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
                Reply::status(201).header("location", location).header("range", "0-10485759").body(body)
            }
            _ => reply,
        }
    }
}

/// A manifest without its digest in a header; by tag it is another one when the type that is stored is not accepted.
fn convert(request: &Request, reference: &str, reply: &Reply) -> Reply {
    let (_, headers, body) = reply.clone().into_parts();
    let media_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepted = request.headers.get_all("accept").iter().filter_map(|value| value.to_str().ok());
    let known = accepted.flat_map(|value| value.split(',')).any(|one| one.trim() == media_type);
    if known || reference.starts_with("sha256:") {
        return Reply::status(200).header("content-type", media_type).body(body);
    }
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let mut document: Value = serde_json::from_slice(&body).unwrap_or_default();
    document["mediaType"] = json!(docker);
    Reply::status(200).header("content-type", docker).body(document.to_string())
}

/// A real registry with ECR's habit of making no repositories: those that moto was told to make are there.
#[derive(Debug)]
pub struct Bridge {
    /// CNCF distribution.
    pub registry: Forward,
    /// The API.
    pub moto: Forward,
}

impl Bridge {
    fn has(&self, name: &str) -> bool {
        let data = self.moto.get("/moto-api/data.json").unwrap_or_default();
        let repositories = data["ecr"]["Repository"].as_array().cloned().unwrap_or_default();
        repositories.iter().any(|repository| repository["name"] == name)
    }
}

impl Site for Bridge {
    fn answer(&mut self, request: &Request) -> Reply {
        let name = base::route(request.path()).map(|(name, _)| name).filter(|name| !name.is_empty());
        match name {
            Some(name) if request.basic().is_some() && !self.has(&name) => unknown(&name),
            _ => self.registry.answer(request),
        }
    }
}

impl Site for Ecr {
    fn answer(&mut self, request: &Request) -> Reply {
        if request.host == STORE {
            return self.store(request);
        }
        let Some((name, verb)) = base::route(request.path()) else {
            return base::text(404, "404 page not found\n");
        };
        if request.basic() != Some(("AWS".to_owned(), self.password.clone())) {
            let challenge = format!(r#"Basic realm="https://{PRIVATE}/",service="ecr.amazonaws.com""#);
            return base::text(401, "Not Authorized\n").header("www-authenticate", &challenge);
        }
        if self.expired {
            return refused(
                403,
                "DENIED",
                "Your authorization token has expired. Reauthenticate and try again.",
            );
        }
        match self.quirks(request, &name, &verb) {
            Some(reply) => reply,
            None => self.serve(request, &name, &verb),
        }
    }
}
