//! Docker Hub, from Docker's documentation of its registry, its API and its limits (2025-11) and what others met there: a registry
//! with tokens that live five minutes, a token service that gives everybody something, two kinds of 429, and deletion that is divided
//! between the registry and the API (`api.rs`).

mod api;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::base::{self, Verb, errors, text};
use crate::faults::{Registry, Reply};
use crate::net::{Request, Site};

/// What is sent when the limit on pulls is reached (docker-hub/usage/pulls.md).
const PULL_LIMIT: &str = "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: \
     https://www.docker.com/increase-rate-limits\n";

/// What becomes of a `DELETE` of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// 202 for what nothing refers to, else 403 (registry/latest.yaml).
    Unreferenced,
    /// 202 with its tags, as Docker's own sample script expects.
    Tagged,
    /// 405, as until 2023 (hub-feedback#2360).
    Off,
}

/// Habits that differ by account, by time, or by report.
#[derive(Debug, Clone)]
pub struct Habits {
    /// `expires_in` of a token; absent when `None`.
    pub expires_in: Option<u64>,
    /// A token of the registry is good for so many requests, then it has ended.
    pub token_requests: Option<usize>,
    /// The same of the API's.
    pub api_requests: Option<usize>,
    /// Limit on pulls and what is left of it.
    pub pulls: Option<(u64, u64)>,
    /// The refusal over the limit is JSON (a report).
    pub json_limit: bool,
    /// The refusal over the limit has its headers.
    pub headers_on_limit: bool,
    /// The limit against abuse is reached.
    pub abuse: bool,
    /// The API's limit is reached; its reset is this point in time.
    pub api_limit: Option<u64>,
    /// Passwords need a second step at the API; access tokens do not.
    pub second_factor: bool,
    /// See there.
    pub deletion: Deletion,
    /// A repository that a push makes is private.
    pub private_by_default: bool,
    /// How many private repositories an account may have.
    pub private_limit: usize,
    /// A token that is too small is refused in words of its own.
    pub says_scopes: bool,
    /// Tags that may not be moved.
    pub immutable: BTreeSet<String>,
    /// The API knows nothing of tags.
    pub api_without_tags: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            expires_in: Some(300),
            token_requests: None,
            api_requests: None,
            pulls: Some((100, 100)),
            json_limit: false,
            headers_on_limit: true,
            abuse: false,
            api_limit: None,
            second_factor: false,
            deletion: Deletion::Unreferenced,
            private_by_default: false,
            private_limit: 1,
            says_scopes: false,
            immutable: BTreeSet::new(),
            api_without_tags: false,
        }
    }
}

/// An account's access.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Password, or access token.
    pub secret: String,
    /// Where it may write.
    pub namespaces: BTreeSet<String>,
    /// Its token reads only.
    pub read_only: bool,
    /// Its token deletes.
    pub deletes: bool,
}

/// A Docker Hub.
#[derive(Debug)]
pub struct DockerHub {
    /// By name.
    pub accounts: BTreeMap<String, Account>,
    /// Whether a repository is private.
    pub repositories: BTreeMap<String, bool>,
    /// What they hold.
    pub registry: Registry,
    /// See there.
    pub habits: Habits,
    /// How often each token was used, by its number.
    used: Vec<usize>,
}

impl Default for DockerHub {
    fn default() -> Self {
        Self::new()
    }
}

impl DockerHub {
    /// The names it answers to.
    pub const HOSTS: [&'static str; 4] =
        ["registry-1.docker.io", "auth.docker.io", "hub.docker.com", "index.docker.io"];

    /// With the users `me` (`dckr_pat_write`), `reader` (`dckr_pat_read`, whose token reads only), the organisation `acme`
    /// (`dckr_oat_acme`), and nginx.
    pub fn new() -> Self {
        let account = |secret: &str, namespace: &str, deletes| Account {
            secret: secret.to_owned(),
            namespaces: [namespace.to_owned()].into(),
            deletes,
            read_only: false,
        };
        let mut hub = Self {
            accounts: [
                ("me".to_owned(), account("dckr_pat_write", "me", true)),
                (
                    "reader".to_owned(),
                    Account { read_only: true, ..account("dckr_pat_read", "reader", false) },
                ),
                ("acme".to_owned(), account("dckr_oat_acme", "acme", false)),
            ]
            .into(),
            repositories: BTreeMap::new(),
            registry: Registry::default(),
            habits: Habits::default(),
            used: Vec::new(),
        };
        hub.image("library/nginx", "1.27", "nginx");
        hub.image("ratelimitpreview/test", "latest", "probe");
        hub
    }

    /// Puts a public image there; its digest.
    pub fn image(&mut self, repository: &str, tag: &str, content: &str) -> String {
        self.repositories.entry(repository.to_owned()).or_insert(false);
        base::image(&mut self.registry, repository, tag, content)
    }

    fn may(&self, user: &str, repository: &str, action: &str) -> bool {
        let namespace = repository.split('/').next().unwrap_or_default();
        let account = self.accounts.get(user).filter(|account| account.namespaces.contains(namespace));
        let readable = self.repositories.get(repository) == Some(&false);
        match action {
            "pull" => readable || account.is_some(),
            // Two parts only.
            "push" => {
                account.is_some_and(|account| !account.read_only) && repository.matches('/').count() == 1
            }
            "delete" => account.is_some_and(|account| account.deletes),
            _ => false,
        }
    }

    /// A number for a token, under which its uses are counted.
    fn number(&mut self) -> usize {
        self.used.push(0);
        self.used.len() - 1
    }

    /// Counts a use; whether the token was still good.
    fn spend(&mut self, number: usize, allowed: Option<usize>) -> bool {
        let Some(used) = self.used.get_mut(number) else { return false };
        *used += 1;
        allowed.is_none_or(|allowed| *used <= allowed)
    }

    /// `GET https://auth.docker.io/token`: 401 for wrong credentials, else a token with what of the scopes may be had.
    fn token(&mut self, request: &Request) -> Reply {
        if self.habits.abuse {
            return too_many();
        }
        let user = match request.basic() {
            None => String::new(),
            Some((user, secret)) if self.accounts.get(&user).is_some_and(|it| it.secret == secret) => user,
            Some(_) => return base::document(401, &json!({"details": "incorrect username or password"})),
        };
        if request.query("service") != ["registry.docker.io"] {
            return base::document(400, &json!({"details": "unknown service"}));
        }
        let mut granted = Vec::new();
        for scope in request.query("scope") {
            let Some((resource, actions)) = scope.rsplit_once(':') else { continue };
            let name = resource.trim_start_matches("repository:").to_owned();
            let actions: Vec<&str> =
                actions.split(',').filter(|action| self.may(&user, &name, action)).collect();
            if !actions.is_empty() {
                granted.push(format!("{resource}:{}", actions.join(",")));
            }
        }
        let number = self.number();
        let token = base::token(&format!("{user}#{number}"), &granted);
        let mut answer = json!({"token": token, "access_token": token});
        if let Some(seconds) = self.habits.expires_in {
            answer["expires_in"] = seconds.into();
        }
        base::document(200, &answer)
    }

    /// The registry itself.
    fn registry(&mut self, request: &Request) -> Reply {
        if self.habits.abuse {
            return too_many();
        }
        let Some((name, verb)) = base::route(request.path()) else {
            return text(404, "404 page not found\n");
        };
        let action = base::action(&request.method);
        if let Some(refusal) = self.refusal(request, &name, &verb, action) {
            return refusal;
        }
        match (request.method.as_str(), &verb) {
            (_, Verb::Base) => return base::document(200, &json!({})),
            (_, Verb::Referrers(_)) => return text(404, "404 page not found\n"),
            ("DELETE", Verb::Manifest(reference)) => return self.delete(request, &name, reference),
            ("GET" | "HEAD", Verb::Manifest(_)) => return self.pull(request),
            ("PUT", Verb::Manifest(reference)) => {
                if let Some(refusal) = self.unwanted(request, reference) {
                    return refusal;
                }
            }
            ("POST", Verb::Upload) => {
                let from = request.query("from");
                // A source that is not here is an error, not a plain upload (go-containerregistry#1741).
                if from.iter().any(|from| !self.repositories.contains_key(from)) {
                    return errors(400, "NAME_INVALID", "invalid repository name", &Value::Null);
                }
            }
            _ => {}
        }
        let reply = base::content(&mut self.registry, request);
        if matches!((request.method.as_str(), &verb), ("PUT", Verb::Manifest(_))) && reply.code() == 201 {
            self.repositories.entry(name).or_insert(self.habits.private_by_default);
        }
        reply
    }

    /// 401 with a challenge, when there is no token, or it has ended, or it holds too little.
    fn refusal(&mut self, request: &Request, name: &str, verb: &Verb, action: &str) -> Option<Reply> {
        let wanted = if action == "push" { "pull,push" } else { action };
        let challenge = |error: &str| {
            let scope = match verb {
                Verb::Base => String::new(),
                Verb::Catalog => r#",scope="registry:catalog:*""#.to_owned(),
                _ => format!(r#",scope="repository:{name}:{wanted}""#),
            };
            let header = format!(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io"{scope}{error}"#
            );
            let detail = json!([{"Type": "repository", "Class": "", "Name": name, "Action": action}]);
            errors(401, "UNAUTHORIZED", "authentication required", &detail)
                .header("www-authenticate", &header)
                .header("docker-distribution-api-version", "registry/2.0")
        };
        let Some((user, scopes)) = request.bearer().and_then(base::granted) else {
            return Some(challenge(""));
        };
        let number = user.rsplit_once('#').and_then(|(_, number)| number.parse().ok())?;
        if !self.spend(number, self.habits.token_requests) {
            return Some(challenge(r#",error="invalid_token""#));
        }
        let from = request.query("from");
        let enough = match verb {
            Verb::Base => true,
            Verb::Catalog => false,
            _ => {
                base::covers(&scopes, name, action)
                    && from.iter().all(|from| {
                        !self.repositories.contains_key(from) || base::covers(&scopes, from, "pull")
                    })
            }
        };
        if enough {
            return None;
        }
        if self.habits.says_scopes {
            return Some(text(401, "unauthorized: access token has insufficient scopes")
                .header("www-authenticate", r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",error="insufficient_scope""#));
        }
        Some(challenge(r#",error="insufficient_scope""#))
    }

    /// A manifest with the headers of the limit. `HEAD` is free, `GET` counts.
    fn pull(&mut self, request: &Request) -> Reply {
        let reply = base::content(&mut self.registry, request);
        let Some((limit, left)) = self.habits.pulls else { return reply };
        let over = left == 0 && request.method == "GET" && reply.code() == 200;
        if request.method == "GET" && reply.code() == 200 {
            self.habits.pulls = Some((limit, left.saturating_sub(1)));
        }
        let numbered = |reply: Reply| {
            reply
                .header("ratelimit-limit", &format!("{limit};w=21600"))
                .header("ratelimit-remaining", &format!("{left};w=21600"))
                .header("docker-ratelimit-source", "192.0.2.1")
        };
        match (over, self.habits.json_limit) {
            (false, _) => numbered(reply),
            (true, json) => {
                let message = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit";
                let reply = if json {
                    errors(429, "TOOMANYREQUESTS", message, &Value::Null)
                } else {
                    text(429, PULL_LIMIT)
                };
                if self.habits.headers_on_limit { numbered(reply) } else { reply }
            }
        }
    }

    /// Manifests that are not taken.
    fn unwanted(&self, request: &Request, reference: &str) -> Option<Reply> {
        let media_type = request.header("content-type").unwrap_or_default();
        if media_type == "application/vnd.oci.artifact.manifest.v1+json" {
            return Some(errors(400, "MANIFEST_INVALID", "manifest invalid", &Value::Null));
        }
        let immutable = self.habits.immutable.contains(reference);
        immutable.then(|| errors(400, "DENIED", &format!("tag {reference} is immutable"), &Value::Null))
    }

    /// `DELETE manifests/…`
    fn delete(&mut self, request: &Request, name: &str, reference: &str) -> Reply {
        if !reference.contains(':') {
            return text(405, "Only digest-based deletion is allowed");
        }
        let tagged = self
            .registry
            .tags
            .iter()
            .any(|((repository, _), digest)| repository == name && digest == reference);
        let child = self.registry.manifests.iter().any(|((repository, digest), (_, bytes))| {
            repository == name && digest != reference && String::from_utf8_lossy(bytes).contains(reference)
        });
        match self.habits.deletion {
            Deletion::Off => errors(405, "UNSUPPORTED", "The operation is unsupported.", &Value::Null),
            Deletion::Unreferenced if tagged || child => {
                errors(403, "DENIED", "manifest is tagged or referenced", &Value::Null)
            }
            Deletion::Unreferenced | Deletion::Tagged => base::content(&mut self.registry, request),
        }
    }
}

/// The limit against abuse: three words.
fn too_many() -> Reply {
    text(429, "Too Many Requests")
}

impl Site for DockerHub {
    fn answer(&mut self, request: &Request) -> Reply {
        match (request.host.as_str(), request.path()) {
            ("registry-1.docker.io", _) => self.registry(request),
            ("auth.docker.io", "/token") if request.method == "GET" => self.token(request),
            ("hub.docker.com", _) => self.api(request),
            ("index.docker.io", "/v1/search") => self.search(request),
            _ => Reply::status(404),
        }
    }
}
