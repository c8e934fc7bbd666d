//! GitLab: its registry, its token service, and the part of its REST API that is about registries (registries dossier, chapter 10).
//! Requests and switches in, replies out; content lies in the small registry of [`crate::faults`].
//!
//! Texts that the dossier marks UNCONFIRMED are marked here as well.

mod rest;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::base::{self, Verb};
use crate::faults::{Registry, Reply};
use crate::net::{Request, Site};

/// What a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A personal, group or project access token.
    Access,
    /// A deploy token: the API does not know it.
    Deploy,
    /// The token of a job of this project.
    Job(&'static str),
    /// A password: good for the registry, nothing to the API.
    Password,
}

/// A credential that somebody has.
#[derive(Debug, Clone)]
pub struct Token {
    /// Whose.
    pub user: &'static str,
    /// What.
    pub kind: Kind,
    /// `read_registry`, …
    pub scopes: Vec<&'static str>,
}

/// A project.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Everybody may pull.
    pub public: bool,
    /// Its container registry is off.
    pub disabled: bool,
    /// Tags that nobody may delete.
    pub protected: BTreeSet<&'static str>,
}

/// GitLab and its registry.
#[derive(Debug)]
pub struct Gitlab {
    /// What was pushed.
    pub content: Registry,
    /// By the secret.
    pub tokens: BTreeMap<&'static str, Token>,
    /// By path.
    pub projects: BTreeMap<&'static str, Project>,
    /// The registry has a database, and its own API at `/gitlab/v1`.
    pub database: bool,
    /// The whole registry is switched off.
    pub off: bool,
    /// Neither pushes nor deletions are taken.
    pub read_only: bool,
    /// The token service leaves `delete` out of every token.
    pub no_delete: bool,
    /// Tokens are refused after so many requests of one upload, as when they end.
    pub token_uses: Option<usize>,
    /// Entries a page of the API, at most.
    pub page: usize,
    /// The name of the registry.
    pub registry: &'static str,
    /// GitLab's own, with the path that it may live under.
    pub gitlab: &'static str,
    /// Repositories that are marked for deletion.
    pub scheduled: BTreeSet<String>,
    /// Scopes that were asked for.
    pub asked: Vec<String>,
    numbers: BTreeMap<String, u64>,
    uses: BTreeMap<String, usize>,
    issued: usize,
}

impl Default for Gitlab {
    fn default() -> Self {
        let access =
            |scopes: &[&'static str]| Token { user: "alice", kind: Kind::Access, scopes: scopes.to_vec() };
        let tokens = [
            ("glpat-all", access(&["api", "read_registry", "write_registry"])),
            ("glpat-push", access(&["read_registry", "write_registry"])),
            ("glpat-read", access(&["read_registry", "read_api"])),
            ("glpat-none", access(&["read_user"])),
            (
                "gldt-1",
                Token {
                    user: "gitlab+deploy-token-7",
                    kind: Kind::Deploy,
                    ..access(&["read_registry", "write_registry"])
                },
            ),
            (
                "job-1",
                Token {
                    user: "gitlab-ci-token",
                    kind: Kind::Job("g/p"),
                    ..access(&["read_registry", "write_registry"])
                },
            ),
            (
                "hunter2hunter2",
                Token { kind: Kind::Password, ..access(&["read_registry", "write_registry"]) },
            ),
        ];
        let projects =
            [("g/p", Project::default()), ("g/s/deep", Project::default()), ("g/other", Project::default())];
        Self {
            content: Registry::default(),
            tokens: tokens.into(),
            projects: projects.into(),
            database: true,
            off: false,
            read_only: false,
            no_delete: false,
            token_uses: None,
            page: 100,
            registry: "registry.gitlab.com",
            gitlab: "https://gitlab.com",
            scheduled: BTreeSet::new(),
            asked: Vec::new(),
            numbers: BTreeMap::new(),
            uses: BTreeMap::new(),
            issued: 0,
        }
    }
}

fn message(status: u16, text: &str) -> Reply {
    base::document(status, &json!({ "message": text }))
}

impl Gitlab {
    /// One of another name, with its GitLab.
    #[must_use]
    pub fn at(registry: &'static str, gitlab: &'static str) -> Self {
        Self { registry, gitlab, ..Self::default() }
    }

    /// Puts an image there, as if it had been pushed.
    pub fn image(&mut self, repository: &str, tag: &str, content: &str) -> String {
        let digest = base::image(&mut self.content, repository, tag, content);
        self.number(repository);
        digest
    }

    fn number(&mut self, repository: &str) -> u64 {
        let next = 71 + self.numbers.len() as u64;
        *self.numbers.entry(repository.to_owned()).or_insert(next)
    }

    /// The project at the start of a path.
    fn project(&self, repository: &str) -> Option<(&'static str, &Project)> {
        self.projects.iter().map(|(path, project)| (*path, project)).find(|(path, _)| {
            repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn unauthorized(&self, repository: &str, action: &str, held: bool) -> Reply {
        let scope = if repository.is_empty() {
            String::new()
        } else {
            format!(r#",scope="repository:{repository}:{action}""#)
        };
        let error = if held { r#",error="insufficient_scope""# } else { "" };
        let challenge =
            format!(r#"Bearer realm="{}/jwt/auth",service="container_registry"{scope}{error}"#, self.gitlab);
        base::errors(401, "UNAUTHORIZED", "authentication required", &Value::Null)
            .header("www-authenticate", &challenge)
    }

    /// What of an action a credential may do.
    fn may(&self, token: Option<&Token>, repository: &str, action: &str) -> bool {
        let Some((path, project)) = self.project(repository) else { return false };
        if project.disabled {
            return false;
        }
        let Some(token) = token else { return project.public && action == "pull" };
        let has = |scope: &str| token.scopes.contains(&scope);
        match (action, token.kind) {
            ("pull", _) => project.public || has("read_registry"),
            ("delete", Kind::Deploy) => false,
            (_, Kind::Job(own)) => own == path && has("write_registry"),
            _ => has("write_registry") && !(action == "delete" && self.no_delete),
        }
    }

    /// The token service: what may not be done is left out, and the answer is 200 all the same.
    fn token(&mut self, request: &Request) -> Reply {
        if self.off {
            return base::errors(404, "UNAVAILABLE", "registry not enabled", &Value::Null);
        }
        let scopes = request.query("scope");
        self.asked.extend(scopes.iter().cloned());
        let secret = match request.basic() {
            None => String::new(),
            Some((user, secret)) => match self.tokens.get(secret.as_str()) {
                Some(token) if token.kind == Kind::Access || token.user == user => secret,
                _ => {
                    let text = "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect.";
                    return base::errors(401, "UNAUTHORIZED", text, &Value::Null);
                }
            },
        };
        let token = self.tokens.get(secret.as_str()).cloned();
        let useless =
            token.as_ref().is_none_or(|token| !token.scopes.iter().any(|scope| scope.contains("registry")));
        if scopes.is_empty() && useless {
            return base::errors(403, "DENIED", "access forbidden", &Value::Null);
        }
        let granted: Vec<String> = scopes
            .iter()
            .filter_map(|scope| {
                let (resource, actions) = scope.rsplit_once(':')?;
                let repository = resource.strip_prefix("repository:")?;
                let actions: Vec<&str> = actions
                    .split(',')
                    .filter(|action| self.may(token.as_ref(), repository, action))
                    .collect();
                (!actions.is_empty()).then(|| format!("{resource}:{}", actions.join(",")))
            })
            .collect();
        self.issued += 1;
        base::document(200, &json!({"token": base::token(&format!("{secret}#{}", self.issued), &granted)}))
    }

    fn data(&mut self, request: &Request) -> Reply {
        let path = request.path().to_owned();
        if path.starts_with("/gitlab/v1/") {
            return self.own_api(request, &path);
        }
        let Some((name, verb)) = base::route(&path) else { return base::text(404, "404 page not found\n") };
        let action = base::action(&request.method);
        let Some((holder, scopes)) = request.bearer().and_then(base::granted) else {
            return self.unauthorized(&name, action, false);
        };
        match verb {
            Verb::Base => return Reply::status(200).body("{}"),
            Verb::Catalog => return self.unauthorized("", "", true),
            _ => {}
        }
        if !base::covers(&scopes, &name, action) {
            return self.unauthorized(&name, action, true);
        }
        if self.read_only && action != "pull" {
            return base::errors(405, "UNSUPPORTED", "The operation is unsupported.", &Value::Null);
        }
        // A token ends while it is used.
        let uses = self.uses.entry(holder).or_default();
        *uses += 1;
        if self.token_uses.is_some_and(|most| *uses > most) {
            return self.unauthorized(&name, action, true);
        }
        let protected = |tag: &String| {
            self.project(&name).is_some_and(|(_, project)| project.protected.contains(tag.as_str()))
        };
        if let (Verb::Manifest(tag), "DELETE") = (&verb, request.method.as_str())
            && protected(tag)
        {
            return base::errors(403, "DENIED", "requested access to the resource is denied", &Value::Null);
        }
        let reply = base::content(&mut self.content, request);
        if let (Verb::Manifest(_), "PUT", 201) = (&verb, request.method.as_str(), reply.code()) {
            self.number(&name);
        }
        reply.header("gitlab-container-registry-version", "4.5.0-gitlab")
    }

    /// `/gitlab/v1` of a registry with a database.
    fn own_api(&self, request: &Request, path: &str) -> Reply {
        let rest = path.trim_start_matches("/gitlab/v1/repositories/");
        let (name, list) = match rest.strip_suffix("/tags/list/") {
            Some(name) => (name, true),
            None => (rest.trim_end_matches('/'), false),
        };
        let Some((_, scopes)) = request.bearer().and_then(base::granted) else {
            return self.unauthorized(name, "pull", false);
        };
        if !base::covers(&scopes, name, "pull") {
            return self.unauthorized(name, "pull", true);
        }
        if !self.database || !self.numbers.contains_key(name) {
            return base::text(404, "404 page not found\n");
        }
        if !list {
            let size: usize = self
                .content
                .blobs
                .iter()
                .filter(|((of, _), _)| of == name)
                .map(|(_, bytes)| bytes.len())
                .sum();
            return base::document(
                200,
                &json!({"name": name, "path": name, "size_bytes": size, "created_at": "2026-01-02T03:04:05.000Z"}),
            );
        }
        let number =
            request.query("n").first().and_then(|n| n.parse::<usize>().ok()).unwrap_or(100).min(self.page);
        let last = request.query("last").into_iter().next().unwrap_or_default();
        let tags: Vec<_> = self
            .content
            .tags
            .iter()
            .filter(|((of, tag), _)| of == name && *tag > last)
            .map(|((_, tag), digest)| (tag, digest))
            .collect();
        let page: Vec<Value> = tags
            .iter()
            .take(number)
            .map(|(tag, digest)| {
                json!({"name": tag, "digest": digest, "media_type": "application/vnd.oci.image.manifest.v1+json", "size_bytes": 286,
                    "created_at": "2026-01-02T03:04:05.000Z", "published_at": "2026-01-02T03:04:05.000Z"})
            })
            .collect();
        let reply = base::document(200, &json!(page));
        match tags.get(number.wrapping_sub(1)).filter(|_| tags.len() > number) {
            Some((tag, _)) => {
                let next = format!("https://{}{path}?n={number}&last={tag}", self.registry);
                reply.header("link", &format!(r#"<{next}>; rel="next""#))
            }
            None => reply,
        }
    }
}

impl Site for Gitlab {
    fn answer(&mut self, request: &Request) -> Reply {
        if request.host == self.registry {
            return self.data(request);
        }
        let under = self.gitlab.splitn(4, '/').nth(3).map_or_else(String::new, |path| format!("/{path}"));
        let path = request.path().strip_prefix(under.as_str()).unwrap_or_default().to_owned();
        match path.strip_prefix("/api/v4") {
            Some(rest) => self.rest(request, rest),
            None if path == "/jwt/auth" && request.method == "GET" => self.token(request),
            None => message(404, "404 Not Found"),
        }
    }
}
