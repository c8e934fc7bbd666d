//! GitHub's registry and the part of its REST API that is about packages (registries dossier, chapter 6). Requests and switches in,
//! replies out; content lies in the small registry of [`crate::faults`].
//!
//! What is known word for word stands in the dossier with its sources; statuses that it marks UNCONFIRMED are marked here as well.

mod rest;

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
    /// One of another name, with its API.
    #[must_use]
    pub fn at(registry: &'static str, api: &'static str) -> Self {
        Self { registry, api, ..Self::default() }
    }

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
