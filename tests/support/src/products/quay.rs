//! Quay, from its sources of August 2026 (endpoints/v2, endpoints/api): the token endpoint that knows three verbs and makes
//! repositories, lists of a hundred at most, an API for OAuth tokens.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::base::{self, Verb, document, errors};
use crate::faults::{Registry, Reply};
use crate::net::{Request, Site};

/// Habits of a Quay that differ from one to the next.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Writes are refused with 405.
    pub read_only: bool,
    /// Manifests are refused with 403.
    pub over_quota: bool,
    /// Tags that can be neither written nor deleted.
    pub immutable: BTreeSet<String>,
    /// Everything is refused with 429.
    pub throttled: bool,
}

/// A Quay.
#[derive(Debug)]
pub struct Quay {
    /// Its name.
    pub host: String,
    /// User or robot to password.
    pub users: BTreeMap<String, String>,
    /// Who may write where: user to namespaces.
    pub writers: BTreeMap<String, BTreeSet<String>>,
    /// The OAuth token that the API takes.
    pub oauth: String,
    /// What organisations there are.
    pub organisations: BTreeSet<String>,
    /// Repositories with their visibility: true is public.
    pub repositories: BTreeMap<String, bool>,
    /// What they hold.
    pub registry: Registry,
    /// See there.
    pub habits: Habits,
}

impl Quay {
    /// quay.io with the organisation `org`, the robot `org+ci` (`robot-token`) that may write there, the user `someone`
    /// (`password-1`) who may not, and the OAuth token `oauth-token`.
    pub fn new() -> Self {
        let text = |text: &str| text.to_owned();
        Self {
            host: text("quay.io"),
            users: [("org+ci", "robot-token"), ("someone", "password-1"), ("$oauthtoken", "oauth-token")]
                .map(|(user, password)| (text(user), text(password)))
                .into(),
            writers: ["org+ci", "$oauthtoken"]
                .map(|user| (text(user), [text("org"), text("new")].into()))
                .into(),
            oauth: text("oauth-token"),
            organisations: [text("org")].into(),
            repositories: BTreeMap::new(),
            registry: Registry { single_post: true, ..Registry::default() },
            habits: Habits {
                read_only: false,
                over_quota: false,
                immutable: BTreeSet::new(),
                throttled: false,
            },
        }
    }

    fn may(&self, user: &str, repository: &str, verb: &str) -> bool {
        let namespace = repository.split('/').next().unwrap_or_default();
        let writer = self.organisations.contains(namespace)
            && self.writers.get(user).is_some_and(|namespaces| namespaces.contains(namespace));
        writer || (verb == "pull" && self.repositories.get(repository).copied().unwrap_or(false))
    }

    /// `GET /v2/auth`
    fn token(&mut self, request: &Request) -> Reply {
        let user = match request.basic() {
            None => String::new(),
            Some((user, password)) if self.users.get(&user) == Some(&password) => user,
            Some((user, _)) if user.contains('+') => {
                return errors(
                    401,
                    "UNAUTHORIZED",
                    "Could not find robot with specified username",
                    &json!({}),
                );
            }
            Some(_) => return errors(401, "UNAUTHORIZED", "Invalid username or password.", &json!({})),
        };
        let scopes = request.query("scope");
        if scopes.is_empty() && user.is_empty() {
            return errors(401, "UNAUTHORIZED", "", &json!({}));
        }
        let mut granted = Vec::new();
        for scope in &scopes {
            let parsed = scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':'));
            let known =
                |actions: &str| actions.split(',').all(|action| matches!(action, "pull" | "push" | "*"));
            let Some((repository, actions)) = parsed.filter(|(_, actions)| known(actions)) else {
                let message = format!("Unable to decode repository and actions: {scope}");
                return errors(400, "INVALID_REQUEST", &message, &json!({}));
            };
            let mut may = Vec::new();
            for action in actions.split(',') {
                if self.may(&user, repository, action) {
                    may.push(action);
                    if action == "push" {
                        // The side effect that a rehearsal must not have.
                        self.repositories.entry(repository.to_owned()).or_insert(false);
                    }
                }
            }
            granted.push(format!("repository:{repository}:{}", may.join(",")));
        }
        document(200, &json!({"token": base::token(&user, &granted)}))
    }

    fn v2(&mut self, request: &Request) -> Reply {
        let path = request.path().to_owned();
        let Some((repository, verb)) = base::route(&path) else {
            return base::text(404, "404 page not found");
        };
        let needed = match (&verb, request.method.as_str()) {
            (Verb::Base | Verb::Catalog, _) => "",
            (_, "GET" | "HEAD") => "pull",
            // Nobody has a right to delete: writing is enough.
            _ => "push",
        };
        let scope = if repository.is_empty() {
            String::new()
        } else {
            format!(",scope=\"repository:{repository}:{needed}\"")
        };
        let challenge = format!("Bearer realm=\"https://{0}/v2/auth\",service=\"{0}\"{scope}", self.host);
        let refused = || {
            errors(401, "UNAUTHORIZED", "access to the requested resource is not authorized", &json!({}))
                .header("www-authenticate", &challenge)
        };
        let Some((user, scopes)) = request.bearer().and_then(base::granted) else { return refused() };
        if !needed.is_empty() && !base::covers(&scopes, &repository, needed) {
            return refused();
        }
        if needed == "push" && self.habits.read_only {
            return errors(405, "DENIED", "System is in read-only mode", &json!({"is_readonly": true}));
        }
        match (&verb, request.method.as_str()) {
            (Verb::Catalog, _) => return self.catalog(request, &user),
            (Verb::Manifest(tag), "PUT" | "DELETE") if self.habits.immutable.contains(tag) => {
                return errors(409, "TAG_IMMUTABLE", "tag is immutable", &json!({}));
            }
            (Verb::Manifest(_), "PUT") if self.habits.over_quota => {
                return errors(403, "DENIED", "Quota has been exceeded on namespace", &json!({}));
            }
            (Verb::Referrers(digest), _) => {
                let there = self.registry.manifests.contains_key(&(repository.clone(), digest.clone()));
                if !there {
                    return errors(400, "MANIFEST_INVALID", "manifest invalid", &json!({}));
                }
                return document(200, &json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}))
                    .header("content-type", "application/vnd.oci.image.index.v1+json");
            }
            _ => {}
        }
        // Whatever `n` says, a hundred.
        self.registry.page =
            Some(request.query("n").first().and_then(|n| n.parse().ok()).unwrap_or(100).min(100));
        let reply = base::content(&mut self.registry, request);
        let uploading = verb == Verb::Upload && reply.code() == 202;
        if uploading { reply.header("range", "bytes=0--1") } else { reply }
    }

    fn catalog(&self, request: &Request, user: &str) -> Reply {
        let seen: Vec<&String> =
            self.repositories.keys().filter(|name| self.may(user, name, "pull")).collect();
        let size = request.query("n").first().and_then(|n| n.parse().ok()).unwrap_or(100).min(100usize);
        let start: usize = request
            .query("next_page")
            .first()
            .and_then(|page| page.strip_prefix("page-")?.parse().ok())
            .unwrap_or(0);
        let page: Vec<_> = seen.iter().skip(start).take(size).collect();
        let reply = document(200, &json!({"repositories": page}));
        if seen.len() > start + size {
            let next = start + size;
            return reply
                .header("link", &format!("</v2/_catalog?n={size}&next_page=page-{next}>; rel=\"next\""));
        }
        reply
    }

    fn api(&mut self, request: &Request) -> Reply {
        let path = request.path().trim_start_matches("/api/v1/").to_owned();
        // Basic is nothing to it.
        let token = request.bearer() == Some(self.oauth.as_str());
        let unknown = || document(404, &json!({"detail": "Not Found", "status": 404}));
        let private = || document(401, &json!({"error_type": "invalid_token", "status": 401}));
        if let Some(name) = path.strip_prefix("organization/") {
            return match request.method.as_str() {
                "POST" if !token => private(),
                "POST" => {
                    self.organisations.insert(request.json()["name"].as_str().unwrap_or_default().to_owned());
                    document(201, &json!("Created"))
                }
                _ if self.organisations.contains(name) => document(200, &json!({"name": name})),
                _ => unknown(),
            };
        }
        if let Some(name) = path.strip_prefix("users/") {
            return if self.users.contains_key(name) {
                document(200, &json!({"username": name}))
            } else {
                unknown()
            };
        }
        if path == "repository" && request.method == "POST" {
            if !token {
                return private();
            }
            let body = request.json();
            let part = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
            let name = format!("{}/{}", part("namespace"), part("repository"));
            if self.repositories.contains_key(&name) {
                return document(400, &json!({"detail": "Repository already exists"}));
            }
            self.repositories.insert(name.clone(), part("visibility") == "public");
            return document(
                201,
                &json!({"namespace": part("namespace"), "name": part("repository"), "kind": "image"}),
            );
        }
        if path == "repository" {
            let namespace = request.query("namespace").first().cloned().unwrap_or_default();
            let of = self
                .repositories
                .iter()
                .filter(|(name, public)| name.starts_with(&format!("{namespace}/")) && (token || **public));
            let list: Vec<Value> = of.map(|(name, public)| self.listed(name, *public)).collect();
            return document(200, &json!({"repositories": list}));
        }
        if path == "find/repositories" {
            let query = request.query("query").first().cloned().unwrap_or_default();
            let hits = self.repositories.iter().filter(|(name, public)| **public && name.contains(&query));
            let hits: Vec<Value> = hits
                .map(|(name, public)| {
                    let mut hit = self.listed(name, *public);
                    hit["namespace"] = json!({"kind": "organization", "name": hit["namespace"]});
                    hit["kind"] = json!("repository");
                    hit
                })
                .collect();
            return document(200, &json!({"results": hits, "has_additional": false, "page": 1}));
        }
        let Some(rest) = path.strip_prefix("repository/") else { return unknown() };
        let (name, tags) = match rest.split_once("/tag/") {
            Some((name, _)) => (name.to_owned(), true),
            None => (rest.to_owned(), false),
        };
        match self.repositories.get(&name).copied() {
            None if token => return unknown(),
            None | Some(false) if !token => return private(),
            _ => {}
        }
        if tags {
            return self.tags(&name, request);
        }
        if request.method == "DELETE" {
            self.repositories.remove(&name);
            self.registry.tags.retain(|(repository, _), _| *repository != name);
            return Reply::status(204);
        }
        let public = self.repositories.get(&name).copied().unwrap_or(false);
        document(200, &json!({"name": name, "is_public": public, "description": "", "state": "NORMAL"}))
    }

    fn listed(&self, name: &str, public: bool) -> Value {
        let (namespace, name) = name.split_once('/').unwrap_or((name, ""));
        json!({"namespace": namespace, "name": name, "is_public": public, "description": null, "kind": "image", "last_modified": 1_795_251_600})
    }

    fn tags(&self, name: &str, request: &Request) -> Reply {
        let all = self.registry.tags.iter().filter(|((repository, _), _)| repository == name);
        let all: Vec<Value> = all
            .map(|((_, tag), digest)| json!({"name": tag, "manifest_digest": digest, "size": 1, "start_ts": 1_795_251_600}))
            .collect();
        let number =
            |key: &str, default| request.query(key).first().and_then(|n| n.parse().ok()).unwrap_or(default);
        let (limit, page) = (number("limit", 50).min(100), number("page", 1usize).max(1));
        let shown: Vec<_> = all.iter().skip(limit * (page - 1)).take(limit).collect();
        document(200, &json!({"tags": shown, "page": page, "has_additional": all.len() > limit * page}))
    }
}

impl Default for Quay {
    fn default() -> Self {
        Self::new()
    }
}

impl Site for Quay {
    fn answer(&mut self, request: &Request) -> Reply {
        if self.habits.throttled {
            return Reply::status(429).header("retry-after", "1");
        }
        match request.path() {
            "/v2/auth" => self.token(request),
            "/health/instance" => {
                document(200, &json!({"data": {"services": {"auth": true}}, "status_code": 200}))
            }
            path if path.starts_with("/api/v1/") => self.api(request),
            _ => self.v2(request),
        }
    }
}
