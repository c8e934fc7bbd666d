//! GitHub's registry and the part of its REST API that is about packages (registries dossier, chapter 6). Requests and switches in,
//! replies out; content lies in the small registry of [`crate::faults`].
//!
//! What is known word for word stands in the dossier with its sources; statuses that it marks UNCONFIRMED are marked here as well.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::base::{self, Verb};
use crate::faults::{Registry, Reply};
use crate::net::{Request, Site};

/// Bytes that a PATCH may carry.
const PATCH_MAX: usize = 4 * 1024 * 1024;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A personal access token (classic).
    Classic,
    /// A fine-grained one: the registry does not know it.
    FineGrained,
    /// The `GITHUB_TOKEN` of a workflow.
    Workflow,
}

/// A token that somebody has.
#[derive(Debug, Clone)]
pub struct Token {
    /// Whose.
    pub user: &'static str,
    /// What.
    pub kind: Kind,
    /// `read:packages`, …
    pub scopes: Vec<&'static str>,
    /// Authorised for single sign-on.
    pub sso: bool,
}

/// A package besides its content.
#[derive(Debug, Clone, Default)]
pub struct Package {
    /// Everybody may pull.
    pub public: bool,
    /// Workflows may write: "Manage Actions access", or a workflow made it.
    pub workflows: bool,
    /// Of every version.
    pub downloads: u32,
}

/// GitHub.
#[derive(Debug)]
pub struct Ghcr {
    /// What was pushed.
    pub content: Registry,
    /// By the secret.
    pub tokens: BTreeMap<&'static str, Token>,
    /// Organisations with their numbers, which links to next pages have.
    pub organisations: BTreeMap<&'static str, u64>,
    /// Users.
    pub users: BTreeSet<&'static str>,
    /// By `owner/name`.
    pub packages: BTreeMap<String, Package>,
    /// Organisations that let workflows make no packages.
    pub no_creation: BTreeSet<&'static str>,
    /// Organisations with single sign-on.
    pub sso: BTreeSet<&'static str>,
    /// Uploads end too early, as after 10 minutes.
    pub slow: bool,
    /// The API's limit is reached.
    pub rate_limited: bool,
    /// Entries a page of the API, at most.
    pub page: usize,
    /// Somebody asked for the placeholder scope of the challenge.
    pub placeholder_asked: bool,
    /// The name of the registry, `ghcr.io` unless it is an Enterprise Server.
    pub registry: &'static str,
    /// The base URL of the API.
    pub api: &'static str,
    numbers: BTreeMap<(String, String), u64>,
}

impl Default for Ghcr {
    fn default() -> Self {
        let classic = |scopes: &[&'static str]| Token {
            user: "alice",
            kind: Kind::Classic,
            scopes: scopes.to_vec(),
            sso: false,
        };
        let tokens = [
            ("ghp_all", classic(&["read:packages", "write:packages", "delete:packages"])),
            ("ghp_write", classic(&["write:packages"])),
            ("ghp_read", classic(&["read:packages"])),
            ("ghp_none", classic(&["repo"])),
            ("github_pat_fine", Token { kind: Kind::FineGrained, ..classic(&[]) }),
            (
                "ghs_workflow",
                Token { user: "acme-bot", kind: Kind::Workflow, ..classic(&["write:packages"]) },
            ),
        ];
        Self {
            content: Registry::default(),
            tokens: tokens.into(),
            organisations: [("acme", 9919)].into(),
            users: ["alice", "bob"].into(),
            packages: BTreeMap::new(),
            no_creation: BTreeSet::new(),
            sso: BTreeSet::new(),
            slow: false,
            rate_limited: false,
            page: 100,
            placeholder_asked: false,
            registry: "ghcr.io",
            api: "https://api.github.com",
            numbers: BTreeMap::new(),
        }
    }
}

fn denied(message: &str) -> Reply {
    base::errors(403, "DENIED", message, &Value::Null)
}

fn message(status: u16, text: &str) -> Reply {
    base::document(
        status,
        &json!({"message": text, "documentation_url": "https://docs.github.com/rest", "status": status.to_string()}),
    )
}

impl Ghcr {
    /// Puts an image there, as if it had been pushed.
    pub fn image(&mut self, repository: &str, tag: &str, content: &str) -> String {
        self.packages.entry(repository.to_owned()).or_default();
        let digest = base::image(&mut self.content, repository, tag, content);
        self.number(repository, &digest);
        digest
    }

    /// The number of a version; later ones are larger.
    fn number(&mut self, repository: &str, digest: &str) -> u64 {
        let next = 1001 + self.numbers.len() as u64;
        *self.numbers.entry((repository.to_owned(), digest.to_owned())).or_insert(next)
    }

    fn unauthorized(&self) -> Reply {
        // The scope is the same whatever was asked.
        let challenge = format!(
            r#"Bearer realm="https://{0}/token",service="{0}",scope="repository:user/image:pull""#,
            self.registry
        );
        base::errors(401, "UNAUTHORIZED", "authentication required", &Value::Null)
            .header("www-authenticate", &challenge)
    }

    /// The token service: `{"token"}` and nothing else; whatever it does not like is `denied`.
    fn token(&mut self, request: &Request) -> Reply {
        if request.method != "GET" {
            return Reply::status(405);
        }
        let scopes = request.query("scope");
        self.placeholder_asked |= scopes.iter().any(|scope| scope.starts_with("repository:user/image:"));
        let secret = match request.basic() {
            None if scopes.iter().any(|scope| scope.contains("push")) => return self.unauthorized(),
            None => String::new(),
            Some((user, secret)) => match self.tokens.get(secret.as_str()) {
                Some(token) if !user.is_empty() && token.kind != Kind::FineGrained => secret,
                _ => return denied("denied"),
            },
        };
        base::document(200, &json!({"token": base::token(&secret, &scopes)}))
    }

    fn data(&mut self, request: &Request) -> Reply {
        let path = request.path().to_owned();
        let Some((name, verb)) = base::route(&path) else { return base::text(404, "404 page not found\n") };
        let bearer = request.bearer().and_then(base::granted);
        let Some((secret, scopes)) = bearer else { return self.unauthorized() };
        match verb {
            Verb::Base => return Reply::status(200).body("{}"),
            Verb::Catalog | Verb::Referrers(_) => return base::text(404, "404 page not found\n"),
            _ => {}
        }
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return base::errors(400, "NAME_INVALID", "invalid repository name", &Value::Null);
        }
        if request.method == "DELETE" && !matches!(verb, Verb::Upload) {
            return base::errors(405, "UNSUPPORTED", "The operation is unsupported.", &Value::Null);
        }
        let action = base::action(&request.method);
        if !base::covers(&scopes, &name, if action == "delete" { "push" } else { action }) {
            return self.unauthorized();
        }
        let refused =
            if action == "pull" { self.may_read(&secret, &name) } else { self.may_write(&secret, &name) };
        if let Some(refused) = refused {
            return refused;
        }
        if request.method == "PATCH" && request.body.len() > PATCH_MAX {
            let text = "the request body is too large and exceeds the maximum permissible limit of 4.00MiB";
            return base::errors(416, "REQUESTED_RANGE_NOT_SATISFIABLE", text, &Value::Null);
        }
        if self.slow && verb == Verb::Upload && request.method == "PUT" {
            return Reply::status(504);
        }
        if action == "pull" && !self.packages.contains_key(&name) {
            return base::errors(404, "NAME_UNKNOWN", "repository name not known to registry", &Value::Null);
        }
        let reply = base::content(&mut self.content, request);
        if let (Verb::Manifest(_), "PUT", 201) = (&verb, request.method.as_str(), reply.code()) {
            let workflow = self.tokens.get(secret.as_str()).is_some_and(|token| token.kind == Kind::Workflow);
            let package = self.packages.entry(name.clone()).or_default();
            package.workflows |= workflow;
            let digest = crate::faults::digest_of(&request.body);
            self.number(&name, &digest);
        }
        reply
    }

    /// Why somebody may not read; private and absent look alike to who is not let in.
    fn may_read(&self, secret: &str, name: &str) -> Option<Reply> {
        let owner = name.split('/').next().unwrap_or_default();
        if self.packages.get(name).is_some_and(|package| package.public) {
            return None;
        }
        let Some(token) = self.tokens.get(secret) else { return Some(self.unauthorized()) };
        if self.sso.contains(owner) && !token.sso {
            return Some(message(
                403,
                "Resource protected by organization SAML enforcement. You must grant your personal token access.",
            ));
        }
        if !token.scopes.iter().any(|scope| scope.ends_with(":packages")) {
            return Some(denied("permission_denied: The token provided does not match expected scopes."));
        }
        (owner == "bob").then(|| denied("permission_denied: read_package"))
    }

    fn may_write(&self, secret: &str, name: &str) -> Option<Reply> {
        let owner = name.split('/').next().unwrap_or_default();
        let Some(token) = self.tokens.get(secret) else { return Some(self.unauthorized()) };
        if self.sso.contains(owner) && !token.sso {
            return Some(message(
                403,
                "Resource protected by organization SAML enforcement. You must grant your personal token access.",
            ));
        }
        if !token.scopes.contains(&"write:packages") {
            return Some(denied("permission_denied: The token provided does not match expected scopes."));
        }
        if owner == "bob" {
            return Some(denied("permission_denied: write_package"));
        }
        match (token.kind, self.packages.get(name)) {
            (Kind::Workflow, None) if self.no_creation.contains(owner) => {
                Some(denied("installation not allowed to Create organization package"))
            }
            // A person pushed it first.
            (Kind::Workflow, Some(package)) if !package.workflows => {
                Some(denied("permission_denied: write_package"))
            }
            _ => None,
        }
    }

    fn rest(&mut self, request: &Request) -> Reply {
        let prefix = self.api.splitn(4, '/').nth(3).map_or_else(String::new, |path| format!("/{path}"));
        let path = request.path().to_owned();
        let Some(path) = path.strip_prefix(prefix.as_str()).map(str::to_owned) else {
            return message(404, "Not Found");
        };
        if request.header("user-agent").is_none() {
            return base::text(403, "Request forbidden by administrative rules.");
        }
        if path == "/rate_limit" {
            return base::document(
                200,
                &json!({"resources": {"core": {"limit": 5000, "remaining": 4990, "reset": 4_000_000_000_u64}}}),
            );
        }
        let Some(token) = request.bearer().and_then(|secret| self.tokens.get(secret)).cloned() else {
            return message(
                401,
                if request.bearer().is_some() { "Bad credentials" } else { "Requires authentication" },
            );
        };
        if self.rate_limited {
            return message(403, "API rate limit exceeded for user ID 1.")
                .header("x-ratelimit-remaining", "0")
                .header("x-ratelimit-reset", "1");
        }
        let reply = self.packages_api(request, &path, &token);
        if token.kind == Kind::Classic {
            reply.header("x-oauth-scopes", &token.scopes.join(", "))
        } else {
            reply
        }
    }

    fn packages_api(&mut self, request: &Request, path: &str, token: &Token) -> Reply {
        let parts: Vec<String> =
            path.trim_start_matches('/').split('/').map(|part| part.replace("%2F", "/")).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let foreign = token.kind != Kind::Classic;
        let (owner, rest) = match parts.as_slice() {
            ["user"] if foreign => return message(403, "Resource not accessible by integration"),
            ["user"] => return base::document(200, &json!({"login": token.user, "id": 1})),
            ["user", ..] if foreign => return message(403, "Resource not accessible by integration"),
            ["user", rest @ ..] => (token.user.to_owned(), rest),
            ["orgs", owner, rest @ ..] if self.organisations.contains_key(owner) => {
                ((*owner).to_owned(), rest)
            }
            ["users", owner, rest @ ..] if self.users.contains(owner) => ((*owner).to_owned(), rest),
            ["organizations", number, rest @ ..] => {
                let found = self.organisations.iter().find(|(_, id)| id.to_string() == *number);
                match found {
                    Some((owner, _)) => ((*owner).to_owned(), rest),
                    None => return message(404, "Not Found"),
                }
            }
            _ => return message(404, "Not Found"),
        };
        if self.sso.contains(owner.as_str()) && !token.sso {
            return message(403, "Resource protected by organization SAML enforcement.")
                .header("x-github-sso", "required; url=https://github.com/orgs/acme/sso");
        }
        if !token.scopes.iter().any(|scope| scope.ends_with(":packages")) {
            return message(403, "You need at least read:packages scope to list packages.");
        }
        if request.method == "DELETE" && !token.scopes.contains(&"delete:packages") {
            return message(
                403,
                "You need at least read:packages and delete:packages scope to delete a package version.",
            );
        }
        match (request.method.as_str(), rest) {
            ("GET", ["packages"]) => self.list(request, &owner),
            (method, ["packages", "container", name, rest @ ..]) => {
                let repository = format!("{owner}/{name}");
                if !self.packages.contains_key(&repository) {
                    return message(404, "Package not found.");
                }
                match (method, rest) {
                    ("GET", []) => base::document(200, &self.package(&repository)),
                    ("DELETE", []) => {
                        self.packages.remove(&repository);
                        self.content.manifests.retain(|(name, _), _| *name != repository);
                        self.content.tags.retain(|(name, _), _| *name != repository);
                        Reply::status(204)
                    }
                    ("GET", ["versions"]) => self.versions(request, &owner, &repository),
                    ("DELETE", ["versions", number]) => self.delete_version(&repository, number),
                    _ => message(404, "Not Found"),
                }
            }
            _ => message(404, "Not Found"),
        }
    }

    fn package(&self, repository: &str) -> Value {
        let (owner, name) = repository.split_once('/').unwrap_or_default();
        let public = self.packages.get(repository).is_some_and(|package| package.public);
        json!({
            "id": 1, "name": name, "package_type": "container", "owner": {"login": owner},
            "visibility": if public { "public" } else { "private" },
            "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-02-02T03:04:05Z",
            "html_url": format!("https://github.com/{owner}/packages/container/package/{name}"),
        })
    }

    fn list(&self, request: &Request, owner: &str) -> Reply {
        if request.query("package_type") != ["container"] {
            return message(400, "Invalid argument: package_type");
        }
        let names = self.packages.keys().filter(|name| name.starts_with(&format!("{owner}/")));
        let all: Vec<Value> = names.map(|name| self.package(name)).collect();
        self.paged(request, owner, "packages?package_type=container", &all)
    }

    fn versions(&mut self, request: &Request, owner: &str, repository: &str) -> Reply {
        let digests: Vec<String> = self
            .content
            .manifests
            .keys()
            .filter(|(name, _)| name == repository)
            .map(|(_, digest)| digest.clone())
            .collect();
        let mut found: Vec<(u64, String)> =
            digests.into_iter().map(|digest| (self.number(repository, &digest), digest)).collect();
        // The newest first.
        found.sort_by(|one, other| other.0.cmp(&one.0));
        let version = |(id, digest): &(u64, String)| {
            json!({
                "id": id, "name": digest, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-03T00:00:00Z",
                "metadata": {"package_type": "container", "container": {"tags": self.tags(repository, digest)}},
            })
        };
        let all: Vec<Value> = found.iter().map(version).collect();
        let name = repository.split_once('/').map_or("", |(_, name)| name).replace('/', "%2F");
        self.paged(request, owner, &format!("packages/container/{name}/versions?state=active"), &all)
    }

    fn tags(&self, repository: &str, digest: &str) -> Vec<&str> {
        let tags = self.content.tags.iter();
        tags.filter(|((name, _), of)| name == repository && *of == digest)
            .map(|((_, tag), _)| tag.as_str())
            .collect()
    }

    /// Pages by number, with a link that names an organisation by its number.
    fn paged(&self, request: &Request, owner: &str, rest: &str, all: &[Value]) -> Reply {
        let number = |name: &str| request.query(name).first().and_then(|value| value.parse::<usize>().ok());
        let size = number("per_page").unwrap_or(30).min(self.page).max(1);
        let page = number("page").unwrap_or(1);
        let start = (page - 1) * size;
        let items: Vec<&Value> = all.iter().skip(start).take(size).collect();
        let reply = base::document(200, &json!(items));
        if start + size >= all.len() {
            return reply;
        }
        let place = match self.organisations.get(owner) {
            Some(number) => format!("organizations/{number}"),
            None if request.path().ends_with("/user/packages") => "user".to_owned(),
            None => format!("users/{owner}"),
        };
        let next = format!("{}/{place}/{rest}&per_page={size}&page={}", self.api, page + 1);
        reply.header("link", &format!(r#"<{next}>; rel="next", <{next}>; rel="last""#))
    }

    fn delete_version(&mut self, repository: &str, number: &str) -> Reply {
        let found =
            self.numbers.iter().find(|((name, _), id)| name == repository && id.to_string() == number);
        let Some(((_, digest), _)) = found else { return message(404, "Package version not found.") };
        let digest = digest.clone();
        let tagged: BTreeSet<&String> = self
            .content
            .tags
            .iter()
            .filter(|((name, _), _)| name == repository)
            .map(|(_, digest)| digest)
            .collect();
        if tagged.contains(&digest) && tagged.len() == 1 {
            return message(
                400,
                "You cannot delete the last tagged version of a package. You must delete the package instead.",
            );
        }
        let package = self.packages.get(repository).cloned().unwrap_or_default();
        if package.public && package.downloads > 5000 {
            return message(
                400,
                "Publicly visible package versions with more than 5000 downloads cannot be deleted. Contact GitHub support for further assistance.",
            );
        }
        self.content.manifests.remove(&(repository.to_owned(), digest.clone()));
        self.content.tags.retain(|(name, _), of| name != repository || *of != digest);
        Reply::status(204)
    }
}

impl Site for Ghcr {
    fn answer(&mut self, request: &Request) -> Reply {
        let reply = if request.host == self.registry {
            if request.path() == "/token" { self.token(request) } else { self.data(request) }
        } else {
            self.rest(request)
        };
        reply.header("x-github-request-id", "A1B2:1")
    }
}
